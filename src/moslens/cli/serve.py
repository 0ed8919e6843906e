"""``moslens serve``: parse, listen, serve until told to stop."""

import asyncio
import re
import signal
import socket
import sys
from types import FrameType
from typing import Annotated

import typer

from moslens.cli.options import MaxPixels, Model, Workers
from moslens.errors import ConfigError
from moslens.picture.limits import MAX_PIXELS

BACKLOG = 2048
ORIGIN = re.compile(r"https?://[^/?#\s]+|\*")


def run(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all of this machine's.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    model: Model = None,
    workers: Workers = None,
    max_body: Annotated[int, typer.Option(min=1, help="Megabytes of one request.")] = 32,
    max_pixels: MaxPixels = MAX_PIXELS,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait; more are answered by 503 at once.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to receive a request, and to answer it.")] = 30.0,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="An origin, such as https://example.org, whose pages may call the API from a browser; * for any."
            " Repeatable.",
            show_default="none",
        ),
    ] = None,
) -> None:
    """Serve scores over HTTP: the page at /, the API under /v1, what it takes and gives at /docs and /openapi.json.

    Listens on this machine alone unless --host says otherwise. SIGTERM or Ctrl-C: no new connections, what was
    accepted is finished, exit.
    """
    # Here, so that --help needs no extra.
    import fastapi  # noqa: F401 (named first, so that a missing extra is one line)
    import uvicorn

    from moslens.scoring.scorer import Scorer
    from moslens.serve import logs
    from moslens.serve.app import create_app
    from moslens.serve.header_timeout import h11_with_header_timeout
    from moslens.serve.settings import MEGABYTE, Settings
    from moslens.system.malloc import give_back_large_blocks

    for origin in cors_origin or ():
        if not ORIGIN.fullmatch(origin):
            raise ConfigError(f"--cors-origin wants an origin such as https://example.org, or *, not {origin!r}")
    give_back_large_blocks()
    signal.signal(signal.SIGTERM, _leave)  # uvicorn takes it over, and hands it back when everything is finished
    settings = Settings(
        max_body=max_body * MEGABYTE,
        max_pixels=max_pixels,
        queue=queue,
        max_buffered=max(Settings.max_buffered, 2 * max_body * MEGABYTE),
        timeout=timeout,
        workers=workers,
        cors_origins=tuple(cors_origin or ()),
    )
    app = create_app(Scorer(model, threads=1), settings)
    listener = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    logs.set_up()
    service = app.state.service
    logs.event("listening", url=url, model=service.scorer.model_id, workers=service.workers.count)
    if sys.stderr.isatty():
        typer.echo(f"moslens: open {url} in a browser; Ctrl-C ends", err=True)
    config = uvicorn.Config(
        app,
        http=h11_with_header_timeout(timeout),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(2 * timeout) + 5,
    )
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
    finally:
        logs.event("stopped")


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
