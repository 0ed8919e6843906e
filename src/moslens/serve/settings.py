"""The limits of the service."""

from dataclasses import dataclass

MEGABYTE = 2**20


@dataclass(frozen=True)
class Settings:
    """The limits of one request, and of all requests together.

    One request:

    - ``max_body``: bytes of its body.
    - ``max_files``: pictures in it.
    - ``max_pixels``: pixels of one picture, by its header.
    - ``timeout``: seconds to receive it, and again seconds to answer it.

    All requests together:

    - ``workers``: pictures that are scored at once; None is one a core.
    - ``queue``: pictures that wait. More are refused at once.
    - ``max_wait``: seconds that a picture may have to wait, estimated from how long recent pictures took. A request
      that would wait longer is refused at once.
    - ``max_buffered``: bytes of uploads in memory.

    ``cors_origins``: the origins (``https://example.org``, ``*`` for any) whose pages may call the API from a browser.
    """

    max_body: int = 32 * MEGABYTE
    max_files: int = 100
    max_pixels: int = 200_000_000
    timeout: float = 30.0
    workers: int | None = None
    queue: int = 64
    max_wait: float = 5.0
    max_buffered: int = 256 * MEGABYTE
    cors_origins: tuple[str, ...] = ()
