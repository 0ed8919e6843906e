"""A folder of pictures that also holds Python files runs none of them, whatever command is started in it."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from helpers.map_model import make_map_model
from helpers.tiny_model import make_photo
from moslens.system.children import import_path, without_current_folder

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from moslens.train.distill.chunks import build_parts

def job(indices):
    return {"n": np.array(indices)}

if __name__ == "__main__":
    build_parts(Path(sys.argv[1]), 130, job, 2)
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, and a file for every module of the standard library and of every installed package."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in {*sys.stdlib_module_names, *packages_distributions(), "moslens"}:
        if name.isidentifier():
            (folder / f"{name}.py").write_text(f"open({str(folder / 'RAN')!r}, 'a').write({name!r} + ' ')\n")
    for name in ("a.png", "b.png"):
        make_photo(260, 240, seed=1).save(folder / name)
    return folder


def run_in(folder: Path, *words: str) -> str:
    """Run a command in the folder, which must succeed; the modules of the folder that were imported."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return (folder / "RAN").read_text() if (folder / "RAN").exists() else ""


@pytest.mark.parametrize(
    "words",
    [
        ["models"],
        ["score", "a.png", "b.png"],
        ["explain", "a.png", "--output", "{}/maps"],
        ["degrade", "a.png", "b.png", "--workers", "2", "--output", "{}/degraded"],
        pytest.param(["score", "a.png", "--engine", "ray", "--output", "{}/parts"], marks=pytest.mark.slow),
    ],
    ids=["models", "score", "explain", "degrade", "ray"],
)
def test_commands_run_no_file_of_their_folder(hostile: Path, tmp_path: Path, words: list[str]) -> None:
    command = Path(sys.executable).with_name("moslens")
    model = ["--model", str(make_map_model(tmp_path / "model"))] if words[0] in ("score", "explain") else []
    assert run_in(hostile, str(command), *(word.format(tmp_path) for word in words), *model) == ""


def test_building_a_bank_runs_no_file_of_the_folder(hostile: Path, tmp_path: Path) -> None:
    script = tmp_path / "build.py"
    script.write_text(SCRIPT, encoding="utf-8")
    assert run_in(hostile, sys.executable, str(script), str(tmp_path / "bank")) == ""
    assert len(list((tmp_path / "bank").glob("*.npz"))) == 3


def test_the_path_of_a_child_has_moslens_and_no_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "/elsewhere"])
    path = import_path()
    assert path[0] == "/elsewhere"
    assert (Path(path[-1]) / "moslens" / "__init__.py").is_file()
    assert not {"", str(tmp_path)} & set(path)


def test_the_environment_is_as_before_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "1"):
        if before is None:
            monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
        else:
            monkeypatch.setenv("PYTHONSAFEPATH", before)
        with without_current_folder():
            assert os.environ["PYTHONSAFEPATH"] == "1"
        assert os.environ.get("PYTHONSAFEPATH") == before
