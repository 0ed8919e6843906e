"""`moslens score --engine ray` over 5,000 pictures, a worker and then the driver killed, beside the plain engine.

    python -m benchmarks.speed.cluster [--model NAME|DIR] [--pictures 5000]

prints the outcome and writes ``results/cluster.json``. The pictures are JPEGs of 224 x 224, all different, one in a
hundred cut short. The plain engine scores them once. Then Ray does: one of its workers is killed when two parts are
there, the driver and all its processes when a third of them is, and a run with ``--resume`` ends it. Every picture must
have one row, equal to that of the plain engine to 1e-4. The exit code is 1 where one has not.
"""

import argparse
import json
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from benchmarks.common import add_model_option, argument_parser, machine, moslens_command, write_record
from benchmarks.pictures import make_photos
from moslens.scoring.card import Card, find_model
from moslens.system.cores import available_cores

SHAPE = (224, 224)
BROKEN_EVERY = 100
BOUND = 1e-4


def main() -> None:
    parser = argument_parser(__doc__, "cluster.json")
    add_model_option(parser)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--patience", type=float, default=900, help="seconds to wait for the next part")
    options = parser.parse_args()
    state = machine()
    with tempfile.TemporaryDirectory() as scratch:
        photos, parts = Path(scratch) / "photos", Path(scratch) / "parts"
        for path in make_photos(photos, SHAPE, options.pictures)[::BROKEN_EVERY]:
            path.write_bytes(path.read_bytes()[:2000])
        command = moslens_command("score", str(photos), model=options.model)
        plain_rows, plain_seconds = plain(command)
        began = time.perf_counter()
        killed = broken_run([*command, "--engine", "ray", "--output", str(parts)], parts, options)
        rows = rows_of(parts)
        ray_seconds = time.perf_counter() - began
    found = compare(rows, plain_rows)
    passed = not (found["lost"] or found["doubled"] or found["other_status"]) and found["furthest"] <= BOUND
    print(
        f"{found['rows']} rows, {found['lost']} lost, {found['doubled']} doubled, {found['furthest']:.1g} apart at most"
    )
    print(f"killed: a worker at {killed['parts_at_worker']} parts, the driver at {killed['rows_at_driver']} rows")
    print("passed" if passed else "FAILED")
    write_record(
        options.output,
        {
            "model": Card.read(find_model(options.model)).id,
            "passed": passed,
            "time_to_plain": ray_seconds / plain_seconds,
            **found,
            "killed": killed,
            "plain_seconds": plain_seconds,
            "ray_seconds_with_kills": ray_seconds,
            "workers": available_cores(),
            "machine": state,
        },
        ("onnxruntime", "ray", "pyarrow"),
    )
    raise SystemExit(not passed)


def plain(command: list[str]) -> tuple[list[dict[str, Any]], float]:
    """The rows of the plain engine, and its seconds."""
    began = time.perf_counter()
    done = subprocess.run([*command, "--format", "jsonl"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"the plain engine ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()], time.perf_counter() - began


def broken_run(command: list[str], parts: Path, options: argparse.Namespace) -> dict[str, int]:
    """Run, kill a worker, kill the driver with all it started, resume to the end; how far each kill let it come."""
    driver = subprocess.Popen(command)
    wait_for(lambda: count(parts) >= 2, driver, options.patience)
    at_worker = count(parts)
    actor(driver.pid).send_signal(signal.SIGKILL)
    third = -(-options.pictures // (3 * 500))
    wait_for(lambda: count(parts) > max(at_worker, third), driver, options.patience)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    for process in family:
        if process.is_running():
            process.kill()
    psutil.wait_procs(family, timeout=60)
    at_driver = len(rows_of(parts))
    resumed = subprocess.run([*command, "--resume"], check=False)
    if resumed.returncode not in (0, 1):
        raise SystemExit(f"the resumed run ended with {resumed.returncode}")
    return {
        "parts_at_worker": at_worker,
        "rows_at_driver": at_driver,
        "rows_of_resumed_run": len(rows_of(parts)) - at_driver,
    }


def actor(driver: int) -> psutil.Process:
    """A worker of Ray that scores."""
    everyone = psutil.Process(driver).children(recursive=True)
    return next(process for process in everyone if "MapWorker" in " ".join(process.cmdline()))


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen[bytes], patience: float) -> None:
    end = time.monotonic() + patience
    while not condition():
        if driver.poll() is not None or time.monotonic() > end:
            raise SystemExit("the run ended, or stood still, before it could be killed: more pictures are needed")
        time.sleep(0.05)


def count(parts: Path) -> int:
    return len(list(parts.glob("part-*.parquet")))


def rows_of(parts: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(parts.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def compare(rows: list[dict[str, Any]], plain_rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows lost, doubled or of another status than those of the plain engine, and how far scores are apart."""
    times = Counter(row["path"] for row in rows)
    by_path = {row["path"]: row for row in rows}
    pairs = [(by_path[row["path"]], row) for row in plain_rows if row["path"] in by_path]
    apart = [
        abs(ours["score"] - theirs["score"]) for ours, theirs in pairs if ours["status"] == theirs["status"] == "ok"
    ]
    return {
        "rows": len(rows),
        "errors": sum(row["status"] != "ok" for row in rows),
        "lost": len(plain_rows) - len(pairs),
        "doubled": sum(number - 1 for number in times.values()),
        "other_status": sum(ours["status"] != theirs["status"] for ours, theirs in pairs),
        "furthest": max(apart, default=0.0),
    }


if __name__ == "__main__":
    main()
