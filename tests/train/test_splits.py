"""Many runs by one command: refusals, bars, failures, a kill of the parent."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import alive, children_of, needs_proc, wait_for
from helpers.small_task import small_config
from helpers.tiny_training import make_labelled, tiny_config, write_quality_config
from moslens.errors import CheckpointError, ConfigError
from moslens.system.files import write_json
from moslens.train import splits
from moslens.train.config import from_dict
from moslens.train.run_folder import Run
from moslens.train.splits import Job, split_jobs, train_many


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("labelled") / "set")


def command(*words: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "moslens", "train", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def steps_in(run: Path) -> int:
    row = Run(run).last_row()
    return 0 if row is None else int(row["step"])


@needs_proc
@pytest.mark.slow
def test_stopped_killed_and_resumed_splits_equal_runs_one_by_one(table: Path, tmp_path: Path) -> None:
    config = write_quality_config(tmp_path / "c.toml", table, epochs=6)
    many = tmp_path / "many"
    words = (config, "--output", many, "--splits", "0-2", "--jobs", "2")

    process = command(*words)
    wait_for(lambda: steps_in(many / "split-0") >= 1 and steps_in(many / "split-1") >= 1)
    process.send_signal(signal.SIGTERM)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 143, shown
    # on a busy machine the first may be at its end before the second begins
    stopped = [run for run in (many / "split-0", many / "split-1") if not Run(run).weights_file.exists()]
    assert stopped
    for run in stopped:
        [saved] = run.glob("checkpoint-*.json")
        assert json.loads(saved.read_text())["step"] == steps_in(run)
        assert "--resume" in (run / "messages.txt").read_text()
        assert f"{run}: stopped and saved: --resume goes on there" in shown.replace("\n", "")

    before = steps_in(many / "split-0")
    process = command(*words, "--resume")
    wait_for(lambda: steps_in(many / "split-0") > before)
    children = children_of(process.pid)
    process.kill()
    process.communicate()
    assert len(children) == 2
    wait_for(lambda: not any(map(alive, children)), 20)
    assert not (many / "split-2" / "metrics.json").exists()

    process = command(*words, "--resume")
    told, shown = process.communicate(timeout=300)
    assert process.returncode == 0, shown
    rows = [line.split() for line in told.splitlines()]
    assert [row[0] for row in rows] == ["split", "0", "1", "2", "median", "mean"]
    alone = []
    for split in range(3):
        one = command(config, "--output", tmp_path / f"{split}", "--set", f"data.split={split}")
        assert one.wait(timeout=300) == 0
        one.communicate()
        for name in ("model.safetensors", "predictions.csv", "metrics.json"):
            assert (tmp_path / f"{split}" / name).read_bytes() == (many / f"split-{split}" / name).read_bytes()
        alone.append(Run(tmp_path / f"{split}").metrics())
    for split, figures in enumerate(alone):
        assert rows[1 + split][1:] == [f"{figures['srcc']:.4f}", f"{figures['plcc_raw']:.4f}"]
    assert rows[4][1] == f"{sorted(f['srcc'] for f in alone)[1]:.4f}"
    assert rows[5][2] == f"{sum(f['plcc_raw'] for f in alone) / 3:.4f}"


@pytest.mark.slow
def test_a_split_that_fails_stops_no_other(table: Path, tmp_path: Path) -> None:
    config = write_quality_config(tmp_path / "c.toml", table, epochs=1)
    other = dataclasses.replace(tiny_config(table), seed=8)
    (tmp_path / "runs" / "split-0").mkdir(parents=True)
    write_json(tmp_path / "runs" / "split-0" / "config.json", {"config": other.to_dict()})
    process = command(config, "--output", tmp_path / "runs", "--splits", "0,1", "--jobs", "1", "--resume")
    told, shown = process.communicate(timeout=300)
    assert process.returncode == 1
    assert [line.split()[0] for line in told.splitlines()] == ["split", "1", "median", "mean"]
    assert re.search(r"split-0: failed, exit code 1\n", shown)
    assert shown.rstrip().endswith("was started with another configuration or other data: seed was 8 and is 0")
    assert Run(tmp_path / "runs" / "split-1").finished


def test_a_run_that_is_there_is_refused_and_a_finished_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job] = split_jobs(small_config(), tmp_path, [3])
    assert job.config.data.split == 3
    assert job.folder == tmp_path / "split-3"
    job.folder.mkdir()
    write_json(job.run.config_file, {"config": job.config.to_dict()})
    with pytest.raises(CheckpointError, match=r"split-3: holds a run already: --resume"):
        train_many([job])
    assert not job.finished
    for file in (job.run.weights_file, job.run.metrics_file):
        file.write_bytes(b"{}")
    assert job.finished
    monkeypatch.setattr(splits, "_start", lambda *_: pytest.fail("it is finished"))
    assert train_many([job], resume=True) == {}
    assert not Job(dataclasses.replace(job.config, seed=1), job.folder).finished


def test_a_teacher_and_a_launcher_of_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="has no splits"):
        split_jobs(from_dict({"stage": "teacher"}), tmp_path, [0])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="leave out accelerate launch"):
        train_many(split_jobs(small_config(), tmp_path, [0]))


def test_cores_are_shared_among_the_runs_and_a_card_takes_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, int]] = []

    def start(job: Job, threads: int) -> subprocess.Popen[bytes]:
        given.append((job.folder.name, threads))
        job.folder.mkdir()
        job.run.messages_file.write_text("moslens: \x1b[31mno\n")
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], stdin=subprocess.PIPE)

    monkeypatch.setattr(splits, "available_cores", lambda: 6)
    monkeypatch.setattr(splits, "_start", start)
    (tmp_path / "a").mkdir()
    failed = train_many(split_jobs(small_config(), tmp_path / "a", [0, 1, 2]))
    assert given == [("split-0", 2), ("split-1", 2), ("split-2", 2)]
    assert failed[tmp_path / "a" / "split-1"] == "exit code 3\nmoslens: \\x1b[31mno"
    (tmp_path / "b").mkdir()
    train_many(split_jobs(small_config(), tmp_path / "b", [0, 1]), 1)
    assert given[3:] == [("split-0", 6), ("split-1", 6)]
    assert splits.runs_at_once() == 6
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert splits.runs_at_once() == 10


def started(tmp_path: Path) -> list[Job]:
    """Two runs, the first in the middle, the second waiting."""
    jobs = split_jobs(small_config(), tmp_path, [0, 1])
    jobs[0].folder.mkdir()
    row = {"step": 5, "of": 20, "loss": 0.25, "rate": 0.5}
    jobs[0].run.log_file.write_text(json.dumps(row) + '\n{"step": 6, "o')
    return jobs


def test_a_bar_for_each_run_and_one_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    jobs = started(tmp_path)
    with splits._board(jobs) as show:
        show({jobs[0]: None}, {})
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)  # without colours
    assert re.search(r"split-0 .* 25% .*step 5 of 20, loss 0\.2500, rate 5\.0e-04", shown)
    assert re.search(r"split-1 .* 0% .*waiting", shown)
    assert re.search(r"all .* 12%", shown)
    with splits._board(jobs) as show:
        show({}, {jobs[0].folder: "exit code 1"})
    assert re.search(r"split-0 .*failed", capsys.readouterr().err)


def test_lines_of_the_runs_away_from_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moslens.train")
    jobs = started(tmp_path)
    with splits._board(jobs) as show:
        show({jobs[0]: None}, {})
        assert not caplog.messages
        monkeypatch.setattr(splits, "LINE_EVERY", 0.0)
        show({jobs[0]: None}, {})
    assert caplog.messages == [f"{jobs[0].folder}: step 5 of 20, loss 0.2500, rate 5.0e-04"]
