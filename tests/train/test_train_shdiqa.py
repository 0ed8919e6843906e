"""The command that trains all of SHDIQA: its steps fit together, it goes on where it was, and a failure ends it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.tiny_distillation import make_pool
from helpers.tiny_training import make_labelled
from moslens.train.config import load_config
from moslens.train.run_folder import Run
from tools import train_shdiqa

NETWORK = '{ backbone = "test_efficientnet", dim = 24, heads = 2, baf = "full" }'
TINY = {
    "teacher": ["teacher.views=16", "optim.epochs=1", "optim.batch=8"],
    "quality": ["optim.epochs=1", "optim.batch=4"],
    "student": [
        "optim.epochs=1",
        "optim.batch=4",
        "distill.entries=16",
        "distill.batch=2",
        "rank.entries=8",
        "rank.batch=2",
        "rank.labelled=40",
        "rank.size=224",
        "harmless.batch=2",
    ],
}


def tiny_changes(table: Path) -> list[str]:
    """``--set`` arguments that make every step small: the made data set and the small network."""
    data = [f"data.name={table}", "data.mos_range=[0, 100]", "data.direction=higher"]
    found = []
    for step, own in TINY.items():
        network = ["model.weights=", f"model.changes={NETWORK}", *own, *(data if step != "teacher" else [])]
        found += [one for change in network for one in ("--set", f"{step}.{change}")]
    return found


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train_shdiqa", *words])
    try:
        train_shdiqa.main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_every_step_trains_goes_on_and_feeds_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, output = tmp_path / "data", tmp_path / "runs"
    data.mkdir()
    table = make_labelled(data / "livec")
    make_pool(data / "pristine", 24)
    words = ["--data", str(data), "--output", str(output), "--splits", "0", "--jobs", "1", *tiny_changes(table)]
    assert call(monkeypatch, *words, "--only", "teacher", "student", "all") == 0
    student, final = Run(output / "student" / "split-0"), Run(output / "all")
    assert student.finished
    assert final.finished
    assert final.config.data.split == -1
    assert final.record["train_pictures"] > student.record["train_pictures"]
    assert student.record["teacher"] == Run(output / "teacher").weights_sha256()
    row = student.last_row()
    assert row is not None
    assert {"ckd", "akd", "rank", "harmless"} <= set(row)
    seconds = json.loads((output / "times.json").read_text())["seconds"]
    assert set(seconds) == {"teacher", "student", "all"}
    weights = student.weights_sha256()
    assert call(monkeypatch, *words, "--only", "student") == 0
    assert student.weights_sha256() == weights
    assert json.loads((output / "times.json").read_text())["seconds"]["student"] > seconds["student"]


def test_a_failed_step_ends_the_command_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = call(monkeypatch, "--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "runs"))
    assert code == 2
    out, err = capfd.readouterr()
    assert "nowhere" in err
    assert "quality:" not in out


def test_sigterm_reaches_the_step_and_its_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); "
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )
    monkeypatch.setattr(train_shdiqa, "moslens_command", lambda *words: [sys.executable, "-c", code])

    def stop_when_ready() -> None:
        while not ready.exists():
            time.sleep(0.01)
        time.sleep(0.2)  # times are kept to a tenth of a second
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop_when_ready).start()
    assert train_shdiqa.run_step("quality", [], tmp_path / "times.json") == 143
    assert signal.getsignal(signal.SIGTERM) == handler
    assert 0 < json.loads((tmp_path / "times.json").read_text())["seconds"]["quality"] < 60


def test_the_changes_of_every_step_are_settings(tmp_path: Path) -> None:
    steps = train_shdiqa.commands(tmp_path / "data", tmp_path / "runs", "0-9", "2", ["student.distill.entries=7"])
    trained = [name for name, words in steps if words[0] == "train"]
    assert trained == ["teacher", "quality", "student", "all"]
    assert [name for name, _ in steps[4:]] == ["figures", "figures", "figures", "model"]
    configs = [
        load_config(words[1], [words[i + 1] for i, word in enumerate(words) if word == "--set"])
        for _, words in steps[:4]
    ]
    assert [config.stage for config in configs] == ["teacher", "quality", "student", "student"]
    assert configs[2].distill.entries == configs[3].distill.entries == 7
    assert configs[3] == replace(configs[2], data=replace(configs[2].data, split=-1))
    with pytest.raises(SystemExit, match="a change begins with a step"):
        train_shdiqa.commands(tmp_path, tmp_path, "0", "", ["nothing.optim.epochs=1"])
