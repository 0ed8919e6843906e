"""A decoder that dies, hangs or eats the memory costs the picture in its hands one row, and nobody else anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import needs_proc, wait_for
from helpers.tiny_model import make_photo
from moslens.bulk.watched import WatchedScorer
from moslens.errors import ModelError
from moslens.scoring.scorer import Scorer
from moslens.system.text import name_in

# Runs at the start of every interpreter: stands in front of the decoder and does what the file's name says.
SABOTAGE = """
import ctypes, dataclasses, os, re, signal, time
from pathlib import Path
import moslens.picture.load as image

honest = image.load

def load(source, **options):
    name = Path(source).name if isinstance(source, str) else ""
    if "abort" in name:
        os.abort()
    if "segfault" in name:
        ctypes.string_at(0)
    if "exit" in name:
        os._exit(0)
    if "sleep" in name:
        time.sleep(1000)
    if "spin" in name:
        Path(source + ".seen").touch()
        re.match("(a+)+$", "a" * 64 + "b")  # in C, never giving the interpreter back
    if "once" in name and not Path(source + ".seen").exists():
        Path(source + ".seen").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "unwritable" in name:
        return dataclasses.replace(honest(source, **options), notes=(object(),))
    if "crowd" in name:
        image.crowd += 1
        time.sleep(0.3)
        if image.crowd > 1:
            os.abort()
        image.crowd -= 1
    return honest(source, **options)

image.load = load
image.crowd = 0
"""


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sabotage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SABOTAGE)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


def pictures(folder: Path, *names: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        make_photo(64, 64, seed=number).save(folder / name)
    return [str(folder / name) for name in names]


def rows_of(scorer: WatchedScorer, paths: list[str], **options: Any) -> list[dict[str, Any]]:
    with scorer:
        rows = [result.to_row() for result in scorer.score_many(paths, **options)]
    assert [name_in(row) for row in rows] == paths
    return rows


def test_rows_are_those_of_a_plain_scorer(tiny_model: Path, photo_folder: Path) -> None:
    paths = [str(path) for path in sorted(photo_folder.iterdir())] + ["missing.jpg", "\udcff.jpg"]
    plain = [result.to_row() for result in Scorer(tiny_model).score_many(paths)]
    for workers in (1, 3):
        assert rows_of(WatchedScorer(tiny_model), paths, workers=workers) == plain


@pytest.mark.usefixtures("sabotage")
@pytest.mark.parametrize("workers", [1, 4])
def test_deaths_cost_one_row_each(tiny_model: Path, tmp_path: Path, workers: int) -> None:
    kinds = ["", "abort", "", "", "segfault", "exit", "", ""]
    paths = pictures(tmp_path / "in", *(f"{number}{kind}.png" for number, kind in enumerate(kinds)))
    rows = rows_of(WatchedScorer(tiny_model), paths, workers=workers)
    found = {Path(row["path"]).stem[1:]: row["error"] for row in rows}
    for kind, words in {"abort": "SIGABRT", "segfault": "SIGSEGV", "exit": "exit code 0"}.items():
        assert found[kind]["code"] == "internal"
        assert f"scoring it ended the process ({words})" in found[kind]["message"]
    assert sum(row["status"] == "ok" for row in rows) == 5


@pytest.mark.usefixtures("sabotage")
def test_a_result_that_cannot_be_written_costs_its_row_alone(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = pictures(tmp_path / "in", "a.png", "unwritable.png", "b.png")
    rows = rows_of(WatchedScorer(tiny_model), paths)
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert "TypeError: Object of type object is not JSON serializable" in rows[1]["error"]["message"]
    assert not caplog.records  # the process was not started again


@pytest.mark.usefixtures("sabotage")
def test_a_death_that_does_not_come_again_costs_nothing(tiny_model: Path, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", "a.png", "once.png", "b.png")
    assert [row["status"] for row in rows_of(WatchedScorer(tiny_model), paths)] == ["ok"] * 3


@pytest.mark.usefixtures("sabotage")
def test_pictures_that_only_die_together_are_scored_one_by_one(tiny_model: Path, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", *(f"crowd{number}.png" for number in range(4)))
    assert [row["status"] for row in rows_of(WatchedScorer(tiny_model), paths, workers=4)] == ["ok"] * 4


@pytest.mark.usefixtures("sabotage")
@pytest.mark.parametrize("kind", ["sleep", "spin"])
def test_a_hang_costs_one_row(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    paths = pictures(tmp_path / "in", "a.png", f"b{kind}.png", "c.png", "d.png")
    start = time.monotonic()
    rows = rows_of(WatchedScorer(tiny_model, time_limit=2), paths, workers=2)
    assert time.monotonic() - start < 120
    assert [row["status"] for row in rows] == ["ok", "error", "ok", "ok"]
    assert rows[1]["error"] == {"code": "internal", "message": f"{paths[1]}: it took more than 2 s"}


def test_a_broken_model_is_refused_before_anything_is_scored(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "altered"
    folder.mkdir()
    for file in tiny_model.iterdir():
        data = file.read_bytes()
        (folder / file.name).write_bytes(data[:-1] + b"\x01" if file.suffix == ".onnx" else data)
    with pytest.raises(ModelError, match="altered weights: SHA-256 is") as refused:
        WatchedScorer(folder)
    assert refused.value.path == str(folder / "model.onnx")


def test_an_error_of_the_source_comes_behind_the_rows_before_it(tiny_model: Path, photo_folder: Path) -> None:
    def source() -> Iterator[str]:
        yield str(photo_folder / "a.jpg")
        raise OSError("the list broke off")

    with WatchedScorer(tiny_model) as scorer:
        results = scorer.score_many(source())
        assert next(results).to_row()["status"] == "ok"
        with pytest.raises(OSError, match="broke off"):
            next(results)


def test_more_and_longer_names_than_a_pipe_holds(tiny_model: Path) -> None:
    paths = [chr(0x1F304) * 900 + str(number) for number in range(40)] + ["x" * 200_000]
    rows = rows_of(WatchedScorer(tiny_model), paths, workers=8)
    assert {row["error"]["code"] for row in rows} == {"unreadable"}


@needs_proc
@pytest.mark.usefixtures("sabotage")
def test_no_child_outlives_a_killed_run(tiny_model: Path, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "in", "a.png", "bspin.png")
    command = [sys.executable, "-m", "moslens", "score", "-", "--model", str(tiny_model)]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdin is not None
    assert run.stdout is not None
    run.stdin.write(os.fsencode(paths[0]) + b"\n")
    run.stdin.flush()
    assert json.loads(run.stdout.readline())["status"] == "ok"
    run.stdin.write(os.fsencode(paths[1]) + b"\n")
    run.stdin.flush()
    wait_for(Path(f"{paths[1]}.seen").exists)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(children) == 1
    run.send_signal(signal.SIGKILL)
    run.communicate()
    wait_for(lambda: not alive(int(children[0])))


def alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_the_process_that_writes_rows_loads_neither_numpy_nor_pillow() -> None:
    """They are much of a cold start, and only the other process decodes and scores."""
    code = (
        "import sys, moslens.cli.app, moslens.cli.score;"
        "from moslens.bulk import engine, watched, writers;"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'numpy', 'PIL', 'onnxruntime', 'torch'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
