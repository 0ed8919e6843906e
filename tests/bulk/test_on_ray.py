"""The ray engine: the rows of the plain engine, whatever is killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from helpers.ray_cluster import ray_cluster
from helpers.tiny_model import make_photo
from moslens.bulk.parquet_parts import ParquetParts
from moslens.scoring.card import Card
from moslens.system.text import name_in

psutil = pytest.importorskip("psutil", reason="needs psutil, which comes with accelerate")
pytest.importorskip("ray", reason="needs moslens[bulk]: ray")

PICTURES = 5000


def command(photos: Path, output: Path, model: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "moslens", "score", str(photos), "--model", str(model), "--output", str(output)]
    return [*start, "--engine", "ray", "--workers", "2", *more]


def run(words: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[dict[str, str], int]]:
    with ray_cluster() as found:
        yield found


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5,000 small pictures, one in a hundred broken, in folders of 500."""
    folder = tmp_path_factory.mktemp("many")
    files = [folder / f"{number // 500}" / f"{number:05d}.jpg" for number in range(PICTURES)]
    kinds = []
    for seed in range(8):
        make_photo(48 + 4 * seed, 40, seed).save(folder / "kind.jpg")
        kinds.append((folder / "kind.jpg").read_bytes())
    (folder / "kind.jpg").unlink()
    for number, file in enumerate(files):
        file.parent.mkdir(exist_ok=True)
        data = kinds[number % len(kinds)]
        file.write_bytes(data[: len(data) // 2] if number % 100 == 7 else data)
    return folder


@pytest.fixture(scope="module")
def plain(many: Path, tiny_model: Path) -> list[dict[str, Any]]:
    words = [sys.executable, "-m", "moslens", "score", str(many), "--model", str(tiny_model), "--format", "jsonl"]
    done = run(words)
    assert done.returncode == 1, "some are broken"
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_same(found: list[dict[str, Any]], plain: list[dict[str, Any]]) -> None:
    assert [row["path"] for row in found] == [row["path"] for row in plain], "each once, in the order of the parts"
    for ours, theirs in zip(found, plain, strict=True):
        assert ours["status"] == theirs["status"]
        assert ours["error"] == theirs["error"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
        assert (ours["width"], ours["model"]) == (theirs["width"], theirs["model"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_in_the_parts_and_known_again(
    tiny_model: Path, tmp_path: Path, cluster: tuple[dict[str, str], int]
) -> None:
    environment, _ = cluster
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    names = ["a.jpg", os.fsdecode(b"b\xe4r.jpg")]
    for name in names:
        make_photo(80, 60, 1).save(photos / name)
    done = run(command(photos, output, tiny_model), environment)
    assert done.returncode == 0, done.stderr
    rows = rows_of(output)
    assert [row["path"] for row in rows] == [f"{photos}/a.jpg", f"{photos}/b\ufffdr.jpg"]
    assert [name_in(row) for row in rows] == [f"{photos}/{name}" for name in names]
    again = run(command(photos, output, tiny_model, "--resume"), environment)
    assert (again.returncode, "2 had their row" in again.stderr) == (0, True), again.stderr


@pytest.mark.slow
def test_killed_worker_and_killed_driver(
    many: Path, plain: list[dict[str, Any]], tiny_model: Path, tmp_path: Path, cluster: tuple[dict[str, str], int]
) -> None:
    environment, process = cluster
    output = tmp_path / "out"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    driver = subprocess.Popen(command(many, output, tiny_model), env=environment, **silent)
    wait_for(lambda: len(list(output.glob("part-*.parquet"))) >= 2)
    worker = next(p for p in actors(process))
    worker.send_signal(signal.SIGKILL)
    already = len(list(output.glob("part-*.parquet")))
    wait_for(lambda: len(list(output.glob("part-*.parquet"))) > already + 1)
    assert driver.poll() is None, "the run goes on without the worker"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: not actors(process))
    kept = len(rows_of(output))
    assert 0 < kept < PICTURES
    refused = run(command(many, output, tiny_model))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--resume" in refused.stderr
    resumed = run(command(many, output, tiny_model, "--resume"), environment)
    assert resumed.returncode == 1, resumed.stderr
    assert "had their row" in resumed.stderr
    assert_same(rows_of(output), plain)
    assert not list(output.glob(".*")), "nothing unfinished is left"
    names = {part.name: part.stat().st_mtime_ns for part in output.glob("*")}
    again = run(command(many, output, tiny_model, "--resume"), environment)
    assert again.returncode == 1, "the broken ones are still errors"
    assert again.stderr.startswith("0 rows")
    assert {part.name: part.stat().st_mtime_ns for part in output.glob("*")} == names


def actors(pid: int) -> list[Any]:
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # one that ends meanwhile
            found += [process] if "MapWorker" in " ".join(process.cmdline()) else []
    return found


def wait_for(condition: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_listing_that_grew_gets_the_missing_rows_alone(
    photo_folder: Path, tiny_model: Path, tmp_path: Path, cluster: tuple[dict[str, str], int]
) -> None:
    output, listing = tmp_path / "out", tmp_path / "photos"
    listing.mkdir()
    files = sorted(photo_folder.iterdir())
    for file in files[1:]:
        os.link(file, listing / file.name)
    assert run(command(listing, output, tiny_model), cluster[0]).returncode == 0
    os.link(files[0], listing / files[0].name)
    done = run(command(listing, output, tiny_model, "--resume"), cluster[0])
    assert done.returncode == 0, done.stderr
    assert "\n1 row " in "\n" + done.stderr
    counts = Counter(row["path"] for row in rows_of(output))
    assert counts == Counter(str(listing / file.name) for file in files)
    assert ParquetParts(str(output)).done(Card.read(tiny_model).id)[1] == 0


def test_wrong_use_is_one_line(photo_folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    words = command(photo_folder, tmp_path / "out", tiny_model)
    for bad in ([*words, "--format", "csv"], [w for w in words if w not in ("--output", str(tmp_path / "out"))]):
        done = run(bad)
        assert done.returncode == 2
        assert done.stderr.startswith("moslens: --engine ray writes Parquet parts")
        assert done.stderr.count("\n") == 1
