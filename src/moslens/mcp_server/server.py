"""The tools as a server of the Model Context Protocol."""

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from moslens import __version__
from moslens.errors import NoMapsError
from moslens.mcp_server.roots import Forbidden
from moslens.mcp_server.tools import Tools, find_pick
from moslens.system.text import readable

READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
INSTRUCTIONS = """Image quality of local photos: how good a photo is, where it is bad and what is wrong there.
Scores run from 0 to 100, higher is better. They say how people would rate the technical quality of a photo, not whether
it is a good picture. A difference within the intervals (low to high) says little. Nothing is written."""

Paths = Annotated[
    list[str],
    Field(min_length=1, description="Photos, and folders with all below them, in the folders that may be read."),
]
Photo = Annotated[str, Field(description="One photo in the folders that may be read.")]

Result = TypeVar("Result")


def create_server(tools: Tools) -> MCPServer[Any]:
    """The server. ``pick_photos`` is there where ``moslens pick`` is installed."""
    server: MCPServer[Any] = MCPServer("moslens", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING")

    def score_photos(paths: Paths) -> dict[str, Any]:
        """Score photos. One row for each, in order: score, interval, named faults with severity (1 to 5) and share of
        the area, the worst block, notes; or the error of a photo that cannot be read."""
        return _call(lambda: tools.score(paths))

    def explain_photo(path: Photo) -> list[str | Image]:
        """Show where one photo is bad and what is wrong there: its row, and its quality map drawn over it."""
        row, overlay = _call(lambda: tools.explain(path))
        return [json.dumps(row), Image(data=overlay, format="jpeg")]

    def compare_photos(paths: Paths) -> dict[str, Any]:
        """Compare photos: their rows, best first, each with its points below the best and whether its interval
        overlaps that of the best, in which case the order is not sure."""
        return _call(lambda: tools.compare(paths))

    def pick_photos(
        paths: Paths, keep: Annotated[int, Field(ge=1, description="Kept of each group.")] = 1
    ) -> dict[str, Any]:
        """Group near-duplicates and bursts, and say which to keep. Rows of a group stand together, best first; photos
        that are like no other come last, and are kept. Nothing is moved or deleted."""
        return _call(lambda: tools.pick(paths, keep))

    def list_models() -> dict[str, Any]:
        """The model in use and the other models of this installation: licence, training data, limits, figures."""
        return _call(tools.models)

    offered: list[Callable[..., Any]] = [score_photos, explain_photo, compare_photos, list_models]
    if find_pick():
        offered.append(pick_photos)
    for tool in offered:
        server.add_tool(tool, annotations=READ_ONLY)
    return server


def _call(work: Callable[[], Result]) -> Result:
    """What ``work`` returns. What it refuses becomes an error of the tool; other errors show the client no text."""
    try:
        return work()
    except (Forbidden, NoMapsError) as error:
        raise ToolError(readable(str(error))) from None
