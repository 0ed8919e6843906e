"""``moslens mcp``: the tools of a Model Context Protocol server, on standard input and output."""

from pathlib import Path
from typing import Annotated

import typer

from moslens.cli.options import MaxPixels, Model
from moslens.picture.limits import MAX_PIXELS

MEGABYTE = 2**20


def run(
    *,
    root: Annotated[list[Path], typer.Option(metavar="DIR", help="A folder whose photos may be read. Repeatable.")],
    model: Model = None,
    max_pictures: Annotated[int, typer.Option(min=1, help="Photos that one call may name.")] = 200,
    max_file: Annotated[int, typer.Option(min=1, help="Megabytes of one photo.")] = 200,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Serve score_photos, explain_photo, compare_photos, pick_photos and list_models to a program that speaks MCP.

    The program starts this command and talks to it on standard input and output. Photos are read in the folders given
    by --root and below them, nowhere else, whatever links say. Nothing is written.
    """
    import mcp  # noqa: F401 (named first, so that a missing extra is one line)

    from moslens.mcp_server.roots import Roots
    from moslens.mcp_server.server import create_server
    from moslens.mcp_server.tools import Tools
    from moslens.scoring.scorer import Scorer
    from moslens.system.malloc import give_back_large_blocks

    give_back_large_blocks()
    roots = Roots(root, max_pictures=max_pictures, max_bytes=max_file * MEGABYTE)
    create_server(Tools(Scorer(model), roots, max_pixels=max_pixels)).run("stdio")
