"""Every benchmark and tool starts: its imports are whole and it explains its options."""

import importlib
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
)
# Libraries of a command, which read no command line, and generators that have no options.
WITHOUT_OPTIONS = {
    "benchmarks.common",
    "benchmarks.pictures",
    "benchmarks.process",
    "benchmarks.quality.foreign",
    "benchmarks.quality.planting",
    "tools.docs.cost_tables",
    "tools.docs.imports",
    "tools.docs.make_tables",
    "tools.docs.recipe_tables",
    "tools.docs.site_hooks",
}


@pytest.mark.parametrize("name", MODULES)
def test_it_starts(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    if name in WITHOUT_OPTIONS:
        return
    monkeypatch.setattr(sys, "argv", [f"{ROOT / name.replace('.', '/')}.py", "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as left:
        module.main()
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {Path(sys.argv[0]).name}")


def test_no_benchmark_looks_beside_the_repository() -> None:
    for path in (ROOT / "benchmarks").rglob("*.py"):
        assert "ROOT.parent" not in path.read_text("utf-8"), path
