"""``moslens train`` as a user meets it: what it shows, Ctrl-C, its options."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.command import call
from helpers.processes import heed_interrupts, wait_for
from helpers.tiny_training import make_labelled, write_quality_config
from moslens.cli.train import table
from moslens.system.files import write_json
from moslens.train.run_folder import Run


@pytest.mark.slow
def test_ctrl_c_saves_and_the_end_is_summed_up(tmp_path: Path) -> None:
    config = write_quality_config(tmp_path / "c.toml", make_labelled(tmp_path / "set"), epochs=30)
    run = Run(tmp_path / "run")
    words = [sys.executable, "-m", "moslens", "train", str(config), "--output", str(run.folder)]
    words += ["--set", "checkpoint_every=100"]
    with subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    ) as process:
        wait_for(lambda: run.last_row() is not None)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        shown = process.stderr.read()
    assert process.returncode == 130, shown
    row = run.last_row()
    assert row is not None
    assert f"stopped and saved after step {row['step']} of 120: --resume goes on there" in shown
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"INFO: step {row['step']} of 120, 1 process(es)" in done.stderr
    assert "INFO: step 120 of 120 (epoch 30 of 30): loss " in done.stderr
    *_, first, second, third = done.stderr.splitlines()
    last = run.last_row()
    assert last is not None
    assert first.startswith("120 steps in ")
    assert first.endswith(f" {4 / last['seconds_a_step']:.1f} pictures a second, final loss {last['loss']:.4f}")
    found = run.metrics()
    assert second == f"test part, 4 pictures: SRCC {found['srcc']:.4f}, PLCC raw {found['plcc_raw']:.4f}"
    assert third == f"{run.folder}: model.safetensors, log.jsonl, curves.png"
    assert run.curves_file.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "2"], "--jobs belongs to --splits"),
        (["--splits", "official"], "for every picture, --set data.split=-1"),
        (["--splits", "3-"], "--splits wants seeds such as 0-9"),
        (["--splits", "1,1"], "names no seed, or one twice"),
        (["--splits", "0", "--set", "stage=teacher"], "has no splits"),
    ],
)
def test_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text("")
    assert call("train", config, "--output", tmp_path / "runs", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_table_of_splits(tmp_path: Path) -> None:
    figures = {0: (0.5, 0.25), 4: (0.75, 0.5), 10: (None, None), 11: (0.25, 0.125)}
    runs = [Run(tmp_path / f"split-{split}") for split in figures]
    for run, (srcc, plcc) in zip(runs, figures.values(), strict=True):
        run.folder.mkdir()
        write_json(run.metrics_file, {"part": "test", "srcc": srcc, "plcc_raw": plcc})
    assert table(runs).splitlines() == [
        "split     SRCC  PLCC raw",
        "0       0.5000    0.2500",
        "4       0.7500    0.5000",
        "10           -         -",
        "11      0.2500    0.1250",
        "median  0.5000    0.2500",
        "mean    0.5000    0.2917",
    ]
    assert table([]).splitlines()[1:] == ["median     -         -", "mean       -         -"]
