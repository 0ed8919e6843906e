"""A folder of photos with links out of it, and tools over it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from helpers.map_model import BLUE, RED, plain
from helpers.tiny_model import make_photo
from moslens import Scorer
from moslens.mcp_server.roots import Roots
from moslens.mcp_server.tools import Tools

SECRET = "who-reads-this-left-the-roots"


def make_linked_photos(tmp_path: Path) -> Path:
    """Photos, one broken file, and links that lead out of the folder."""
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    Image.fromarray(plain(300, 200)).save(folder / "good.png")
    Image.fromarray(plain(300, 200, BLUE)).save(folder / "trip" / "noisy.png")
    Image.fromarray(plain(300, 200, RED)).save(folder / "trip" / "blocky.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    outside = tmp_path / SECRET
    outside.mkdir()
    make_photo(64, 64, seed=1).save(outside / "private.png")
    (folder / "link.png").symlink_to(outside / "private.png")
    (folder / "linked").symlink_to(outside)
    return folder


def tools_over(model: Path, root: Path, **limits: int) -> Tools:
    """The tools over one root with small limits."""
    limits = {"max_pictures": 20, "max_bytes": 1 << 20, **limits}
    return Tools(Scorer(model), Roots([root], **limits))
