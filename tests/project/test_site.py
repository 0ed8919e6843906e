"""The documentation site builds, strictly, with every page in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the [docs] extra")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    built = {path.stem for path in (tmp_path / "site").glob("*.html")}
    assert pages <= built
    for path in (tmp_path / "site").glob("*.html"):
        assert "fonts.googleapis.com" not in path.read_text("utf-8"), "pages load nothing from elsewhere"
