"""The documentation site builds strictly, with every page in it. A broken link or an orphan page ends the build."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT

pytest.importorskip("mkdocstrings", reason="needs the [docs] extra")

PARTS = ("blocks", "distortions", "losses", "metrics", "model", "interop", "errors")
PUBLIC = ("moslens", *(f"moslens.{name}" for name in PARTS))


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What CI runs. Not with --quiet: that also keeps warnings from being counted by --strict."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_built_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site) for path in site.rglob("*.html")}
    assert pages <= built
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        assert "fonts.googleapis.com" not in text
        assert re.findall(r"<(?:script|img)[^>]* src=\"(?:https?:)?//[^\"]*", text) == []
        assert re.findall(r"<link[^>]* rel=\"stylesheet\"[^>]* href=\"(?:https?:)?//[^\"]*", text) == []


@pytest.mark.slow
@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(site: Path, module: str) -> None:
    page = (site / "reference" / f"{module.rpartition('.')[2]}.html").read_text("utf-8")
    errors = (site / "reference" / "errors.html").read_text("utf-8")
    names = [name for name in getattr(importlib.import_module(module), "__all__", ()) if name != "__version__"]
    for name in names:
        assert f'id="{module}.{name}"' in page or f'id="moslens.errors.{name}"' in errors, name
    assert re.search(r":(meth|class|func|attr):", page) is None


@pytest.mark.slow
def test_a_broken_link_a_broken_anchor_and_an_orphan_page_each_count(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "docs", project / "docs")
    shutil.copyfile(ROOT / "mkdocs.yml", project / "mkdocs.yml")
    for name in (path.name for path in ROOT.iterdir()):  # what links from pages into the repository lead to
        if name != "site" and not (project / name).exists():
            (project / name).symlink_to(ROOT / name)
    planted = {
        "the target is not found": "[x](missing.md)",
        "'../missing.py'": "[x](../missing.py)",
        "does not contain an anchor '#missing'": "[x](limits.md#missing)",
    }
    index = project / "docs" / "index.md"
    index.write_text("\n\n".join([index.read_text("utf-8"), *planted.values()]), encoding="utf-8")
    (project / "docs" / "orphan.md").write_text("# Orphan\n", encoding="utf-8")
    done = build(project, tmp_path / "site")
    assert done.returncode != 0
    for words in (*planted, "orphan.md"):
        assert words in done.stderr
    assert f"Aborted with {len(planted) + 1} warnings in strict mode" in done.stdout + done.stderr
