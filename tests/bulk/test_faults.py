"""Faults of the machine: full disks, closed pipes, read-only folders, torn files, clocks that leap, a second run."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import needs_proc
from helpers.tiny_training import make_labelled, tiny_config
from moslens.bulk.watched import _Work
from moslens.errors import CheckpointError, OutputError
from moslens.system.lock import locked_folder
from moslens.train import train
from moslens.train.checkpoint import latest_checkpoint, save_checkpoint


def moslens(*words: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "moslens", *map(str, words)],
        stderr=subprocess.PIPE, check=False, timeout=120, **options,
    )  # fmt: skip


def wait_for_content(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_one_line(done: subprocess.CompletedProcess[bytes], *words: str) -> None:
    text = done.stderr.decode()
    assert done.returncode == 2, text
    assert "Traceback" not in text
    assert all(word in text for word in words), text


def test_a_full_disk_under_the_output_file_keeps_whole_rows(
    tiny_model: Path, photo_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "rows.jsonl"

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))

    command = ("score", photo_folder, "--model", tiny_model, "--output", output)
    assert_one_line(moslens(*command, preexec_fn=small_disk), str(output), "cannot be written")
    assert 0 < output.stat().st_size <= 700
    assert moslens(*command, "--resume").returncode == 0
    rows = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert [row["path"] for row in rows] == sorted(map(str, photo_folder.iterdir()))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("format", ["jsonl", "csv", "table"])
def test_a_full_disk_under_standard_output_is_one_line(tiny_model: Path, photo_folder: Path, format: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = moslens("score", photo_folder, "--model", tiny_model, "--format", format, stdout=full)
    assert_one_line(done, "No space left")


def test_a_full_disk_under_parquet_is_one_line(tiny_model: Path, photo_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the [bulk] extra")

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    output = tmp_path / "rows.parquet"
    done = moslens("score", photo_folder, "--model", tiny_model, "--output", output, preexec_fn=small_disk)
    assert_one_line(done, str(output))
    assert not output.exists()


@needs_proc
def test_a_read_only_folder_is_named(tiny_model: Path, photo_folder: Path) -> None:
    done = moslens("score", photo_folder, "--model", tiny_model, "--output", "/proc/rows.jsonl")
    assert_one_line(done, "/proc/rows.jsonl", "cannot be written")


def test_sigterm_ends_like_ctrl_c_with_its_own_code(tiny_model: Path, photo_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "moslens", "score", "-", "--model", tiny_model, "--output", output]
    run = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdin is not None
    run.stdin.write(os.fsencode(photo_folder / "a.jpg") + b"\n")
    run.stdin.flush()
    wait_for_content(output)
    run.terminate()
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 143
    assert b"interrupted: 1 row in" in errors
    assert output.read_bytes().endswith(b"\n")


def test_the_second_run_on_one_output_is_refused(tiny_model: Path, photo_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows.jsonl"
    command = ["score", "-", "--model", tiny_model, "--output", output, "--resume"]
    words = [sys.executable, "-m", "moslens", *map(str, command)]
    first = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert first.stdin is not None
    first.stdin.write(os.fsencode(photo_folder / "a.jpg") + b"\n")
    first.stdin.flush()
    wait_for_content(output)
    assert_one_line(moslens(*command, input=os.fsencode(photo_folder / "b.png")), "another run is writing")
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert output.read_bytes().count(b"\n") == 1


def test_the_second_training_into_one_run_is_refused(tmp_path: Path) -> None:
    table = make_labelled(tmp_path / "set")
    config, run = tiny_config(table), tmp_path / "run"
    run.mkdir()
    with locked_folder(run), pytest.raises(OutputError, match="another run is writing to it") as refused:
        train(config, run)
    assert refused.value.path == str(run)
    assert not (run / "log.jsonl").exists()
    with locked_folder(run):
        assert run.is_dir(), "the first to come holds it until it ends, and no longer"


@needs_proc
@pytest.mark.parametrize(
    "words", [("explain", "PHOTO"), ("degrade", "PHOTO"), ("evaluate", "MODEL", "--dataset", "TABLE")]
)
def test_a_folder_that_cannot_be_written_is_one_line(
    tiny_model: Path, photo_folder: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    table = make_labelled(tmp_path / "set")
    named = {"PHOTO": photo_folder / "a.jpg", "MODEL": tiny_model, "TABLE": table}
    done = moslens(*(named.get(word, word) for word in words), "--output", "/proc/nowhere")
    assert_one_line(done, "moslens: ")
    assert done.stderr.count(b"\n") == 1


@needs_proc
def test_nothing_needs_a_home_or_a_place_for_temporary_files(tiny_model: Path, photo_folder: Path) -> None:
    closed = os.environ | dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), "/proc/nowhere")
    command = ("score", photo_folder / "a.jpg", "--model", tiny_model, "--format", "jsonl")
    done = moslens(*command, env=closed, cwd="/proc", stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "ok"


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    done = moslens("score", tmp_path / "\x1b]0;owned\x07\n.jpg")
    assert_one_line(done, "\\x1b]0;owned\\x07\\n.jpg: no such file")
    assert b"\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["explain", "degrade"])
def test_names_in_rows_of_errors_cannot_steer_the_terminal(tmp_path: Path, command: str) -> None:
    bad = tmp_path / "pictures"
    bad.mkdir()
    (bad / "a\x1b[31m\x07\nmoslens: forged.jpg").write_bytes(b"garbage")
    done = moslens(command, bad, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert b"\x1b" not in done.stderr
    assert b"\nmoslens: forged" not in done.stderr
    assert b"\\nmoslens: forged.jpg" in done.stderr


@pytest.mark.parametrize(
    "content", ["[project]", '{"my": "settings"}', "one line", "path;status", '{"pat', "path,sta", "\xff\xd8 not text"]
)
@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_resume_never_empties_a_file_that_is_not_its_own(tmp_path: Path, content: str, format: str) -> None:
    from moslens.bulk.writers import FileWriter

    output = tmp_path / "mine"
    output.write_text(content)
    torn = {"jsonl": '{"pat', "csv": "path,sta"}[format]
    if content == torn:
        FileWriter(str(output), format, resume=True).close()
        assert output.read_text() == ("" if format == "jsonl" else "path,status" + output.read_text()[11:])
    else:
        with pytest.raises(OutputError, match="not a results file"):
            FileWriter(str(output), format, resume=True)
        assert output.read_text() == content


def test_the_second_run_on_one_parquet_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the [bulk] extra")
    import pyarrow.parquet as pq

    from moslens.bulk.writers import ParquetWriter

    output = str(tmp_path / "rows.parquet")
    first = ParquetWriter(output)
    with pytest.raises(OutputError, match="another run is writing to it"):
        ParquetWriter(output)
    first.close()
    assert pq.read_table(output).num_rows == 0
    with pytest.raises(OutputError, match="is there already"):
        ParquetWriter(output)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_closed_stream_that_is_not_needed_does_not_matter(
    tiny_model: Path, photo_folder: Path, tmp_path: Path, closed: str
) -> None:
    output = tmp_path / "rows.jsonl"
    words = [
        sys.executable,
        "-m",
        "moslens",
        "score",
        photo_folder / "a.jpg",
        "--model",
        tiny_model,
        "--output",
        output,
    ]
    line = f"{shlex.join(map(str, words))} {closed}"
    assert subprocess.run(["/bin/sh", "-c", line], check=False, timeout=120).returncode == 0
    assert json.loads(output.read_bytes())["status"] == "ok"


def test_a_closed_output_that_is_needed_is_one_line(tiny_model: Path, photo_folder: Path) -> None:
    words = [sys.executable, "-m", "moslens", "score", photo_folder / "a.jpg", "--model", tiny_model]
    line = f"{shlex.join(map(str, words))} >&-"
    done = subprocess.run(["/bin/sh", "-c", line], stderr=subprocess.PIPE, check=False, timeout=120)
    assert_one_line(done, "cannot be written")


@pytest.mark.parametrize("command", ["explain", "degrade"])
def test_sigterm_ends_every_command_over_pictures_with_its_code(tmp_path: Path, command: str) -> None:
    from helpers.tiny_model import make_photo

    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(300):
        if number < 5:
            make_photo(400, 400, seed=number).save(photos / f"{number:03}.png")
        else:
            os.link(photos / f"{number % 5:03}.png", photos / f"{number:03}.png")
    words = [sys.executable, "-m", "moslens", command, photos, "--output", output, "--workers", "2"]
    run = subprocess.Popen([*map(str, words)], stderr=subprocess.PIPE)
    log = output / {"explain": "rows.jsonl", "degrade": "labels.jsonl"}[command]
    wait_for_content(log)
    run.terminate()
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 143, errors
    assert b"interrupted: " in errors
    rows = [json.loads(line) for line in log.read_bytes().splitlines()]
    made = output if command == "explain" else output / "pictures"
    assert 0 < len(rows) < 300
    assert len(list(made.glob("*.png"))) == len(rows), "every picture that was made has its row"


def test_a_clock_that_leaps_or_a_stopped_process_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    from queue import SimpleQueue

    events: SimpleQueue[tuple[object, Any]] = SimpleQueue()
    work = _Work()
    work.waiting.append("a.jpg")
    assert work.next_path() == "a.jpg"
    now = iter([0.0, 1e6, 1e6, 1e6 - 500])  # suspended for days; set back
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    for _ in range(2):
        events.put((None, b""))
        work.wait(events)
    assert work.silent <= 2


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_torn_checkpoint_is_passed_over_and_never_loaded(tmp_path: Path, suffix: str, cut: float) -> None:
    import torch

    save_checkpoint(tmp_path, 4, {"task.w": torch.arange(1000.0)})
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save_checkpoint(tmp_path, 6, {"task.w": torch.zeros(1000)})
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    (torn,) = tmp_path.glob(f"checkpoint-*6.{suffix}")
    torn.write_bytes(torn.read_bytes()[: int(cut * torn.stat().st_size)])
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found[0] == 4
    assert torch.equal(found[1]["task.w"], torch.arange(1000.0))
    for path in tmp_path.glob("checkpoint-*4.*"):
        path.write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints is whole"):
        latest_checkpoint(tmp_path)


def test_a_csv_row_whose_path_nobody_wrote_is_no_row_of_results(tmp_path: Path) -> None:
    from moslens.bulk.rows import HEADERS
    from moslens.bulk.writers import FileWriter

    output = tmp_path / "rows.csv"
    content = HEADERS["csv"] + b'"""oops"' + b",ok" + b"," * (HEADERS["csv"].count(b",") - 1) + b"\n"
    output.write_bytes(content)
    with pytest.raises(OutputError, match="row 2 is not a row of results"):
        FileWriter(str(output), "csv", resume=True)
    assert output.read_bytes() == content
