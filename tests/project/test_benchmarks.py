"""Every benchmark and tool starts: its imports are whole and it explains its options."""

import importlib
import subprocess
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
    "benchmarks.faults.mixed_album",
    "benchmarks.pictures",
    "benchmarks.process",
    "benchmarks.programs",
    "benchmarks.quality.classical_metrics",
    "benchmarks.quality.desk_faults",
    "benchmarks.quality.desk_figures",
    "benchmarks.quality.desk_plan",
    "benchmarks.quality.foreign",
    "benchmarks.quality.planting",
    "tools.docs.aims_table",
    "tools.docs.cost_tables",
    "tools.docs.desk_table",
    "tools.docs.front_tables",
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


def test_the_load_benchmark_ends_with_the_message_of_a_service_that_does_not_start(tmp_path: Path) -> None:
    from benchmarks.speed.serve_load import listening_port

    log = tmp_path / "log"
    for line, port in (("moslens: no model 'x'", None), ('{"event": "listening", "url": "http://127.0.0.1:80"}', 80)):
        with log.open("wb") as stream:
            code = f"import sys; print({line!r}, file=sys.stderr); sys.exit(2)"
            server = subprocess.Popen([sys.executable, "-c", code], stderr=stream)
        if port is None:
            with pytest.raises(SystemExit, match="ended with code 2: moslens: no model 'x'"):
                listening_port(server, log)
        else:
            assert listening_port(server, log) == port
        server.wait(60)
