"""The limits of the service."""

from dataclasses import dataclass

MEGABYTE = 2**20


@dataclass(frozen=True)
class Settings:
    """What one request, and all of them together, may cost.

    max_body: bytes of one request. max_pixels: of one picture, by its header. max_files: pictures in one request.
    queue: pictures that wait for a worker, over all requests; more are refused at once. patience: seconds that a
    picture may have to wait, by the pace of late; refused at once where it would be longer. buffered: bytes of uploads
    held in memory, over all requests. timeout: seconds a client has to send its request, and again seconds the
    service has to answer it. workers: pictures in work at once (None: one a core).
    """

    max_body: int = 32 * MEGABYTE
    max_pixels: int = 200_000_000
    max_files: int = 100
    queue: int = 64
    patience: float = 5.0
    buffered: int = 256 * MEGABYTE
    timeout: float = 30.0
    workers: int | None = None
