"""Every benchmark of speed and memory, one after the other, and one table of what they found.

    python -m benchmarks.speed.all [--model NAME|DIR] [--data DIR] [--only NAME ...] [--skip NAME ...] [--table]

Each writes its own file in results/, as when it is run by itself; this one writes ``results/benchmarks.json`` with the
machine, and prints the same: ratios first, then targets, then how long each took. With ``--table`` nothing is run and
the table is made of the files that are there. One that fails does not stop the rest; the exit code is then 1. On two
cores all take about an hour; `scale` and `score` are the longest. `reduced`, `training` and `bdm` need
the data sets, `peers` needs pyiqa.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.common import ROOT, add_data_option, add_model_option, argument_parser, machine, write_record

RESULTS = ROOT / "results"


@dataclass(frozen=True)
class Benchmark:
    """A script, its file in results/, and the ratios in it by what they are a ratio of (keys joined by /)."""

    script: str
    result: str
    ratios: dict[str, str]
    takes_model: bool = True
    takes_data: bool = False


BENCHMARKS = (
    Benchmark(
        "score",
        "score-benchmark",
        {
            "cold start to bare session, processor time": "cold_start/command_to_bare_session/ratio",
            "500 x 500: scoring to the slower of decoding and session": "pictures_per_second/0.25/"
            "scoring_of_slower_reference",
            "500 x 500: the command to the slower of both": "pictures_per_second/0.25/command_of_slower_reference",
            "500 x 500: scoring to all that both references can do on the same cores": "pictures_per_second/0.25/"
            "of_possible",
            "12 MP: scoring to all that both references can do on the same cores": "pictures_per_second/12/of_possible",
            "12 MP: scoring to a straight loop": "pictures_per_second/12/scoring_to_straight",
            "memory at 24 MP to the session alone": "peak_memory/24/to_session",
            "memory at 200 MP to the session alone": "peak_memory/200/to_session",
        },
    ),
    Benchmark(
        "reduced",
        "reduced-decoding",
        {"12 MP and more: reduced to full decoding": "kinds/enlarged/time_ratio"},
        takes_data=True,
    ),
    Benchmark(
        "peers",
        "peers-benchmark",
        {f"to {name}": f"ratio/{name}" for name in ("MUSIQ", "TOPIQ-NR", "HyperIQA", "PIQE")},
    ),
    Benchmark(
        "scale",
        "scale",
        {
            "cost a picture, most pictures to fewest": "cost_a_picture_ratio",
            "peak memory, most pictures to fewest": "peak_memory_ratio",
        },
    ),
    Benchmark("cluster", "cluster", {"Ray with two kills to the plain engine, time": "time_to_plain"}),
    Benchmark("serve_load", "serve-load", {}),
    Benchmark(
        "training",
        "training-profile",
        {
            "share of a step that waits for the D stream's data": "by_threads/1/shares/draw d",
            "D stream to Q stream, forward and backward": "by_threads/1/streams_alone/d/to_q",
        },
        takes_model=False,
        takes_data=True,
    ),
    Benchmark("bdm", "bdm-benchmark", {}, takes_model=False, takes_data=True),
    Benchmark("paper_step", "paper-step", {}, takes_model=False),
)


def main() -> None:
    names = [one.script for one in BENCHMARKS]
    parser = argument_parser(__doc__, "benchmarks.json")
    add_model_option(parser)
    add_data_option(parser, required=False)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--skip", nargs="+", choices=names, default=[])
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    state = machine()
    chosen = [one for one in BENCHMARKS if one.script in options.only and one.script not in options.skip]
    if options.data is None and not options.table and any(one.takes_data for one in chosen):
        parser.error("--data is needed for " + ", ".join(one.script for one in chosen if one.takes_data))
    runs = [] if options.table else [run(one, options) for one in chosen]
    found = {one.script: read(one) for one in chosen}
    show(found, runs)
    write_record(
        options.output,
        {
            "ratios": {name: row["ratios"] for name, row in found.items() if row["ratios"]},
            "targets_met": {name: row["targets"] for name, row in found.items() if row["targets"]},
            "made": {name: row["made"] for name, row in found.items()},
            "runs": runs,
            "machine": state,
        },
    )
    raise SystemExit(any(one["exit_code"] for one in runs))


def run(one: Benchmark, options: argparse.Namespace) -> dict[str, Any]:
    """Run a benchmark by its own command."""
    command = ["-m", f"benchmarks.speed.{one.script}"]
    command += ["--model", options.model] if options.model and one.takes_model else []
    command += ["--data", str(options.data.resolve())] if one.takes_data else []
    print(f"== python {' '.join(command)}", flush=True)
    began = time.perf_counter()
    code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
    return {"benchmark": one.script, "exit_code": code, "seconds": round(time.perf_counter() - began, 1)}


def read(one: Benchmark) -> dict[str, Any]:
    """Ratios and targets in the file of a benchmark, and when and where it was made; nothing where it is missing."""
    path = RESULTS / f"{one.result}.json"
    record = json.loads(path.read_bytes()) if path.is_file() else {}
    ratios = {label: value for label, keys in one.ratios.items() if (value := look_up(record, keys)) is not None}
    targets = record.get("targets_met", {})
    made = {key: record.get(key) for key in ("command", "model", "git", "machine")}
    return {"ratios": ratios, "targets": targets, "made": made if record else None}


def look_up(record: Any, keys: str) -> float | None:
    for key in keys.split("/"):
        record = record.get(key) if isinstance(record, dict) else None
    return record if isinstance(record, int | float) else None


def show(found: dict[str, dict[str, Any]], runs: list[dict[str, Any]]) -> None:
    """The table: ratios, targets, runs."""
    print(f"\n{'ratio':>8s}  what")
    for name, row in found.items():
        for label, value in row["ratios"].items():
            print(f"{value:8.2f}  {name}: {label}")
    for name, row in found.items():
        for label, met in row["targets"].items():
            print(f"{'met' if met else 'MISSED':>8s}  {name}: {label}")
    for one in runs:
        how = "ran" if one["exit_code"] == 0 else f"FAILED with {one['exit_code']}"
        print(f"{one['seconds']:7.0f}s  {one['benchmark']} {how}")
    for name, row in found.items():
        if row["made"] is None:
            print(f"{'-':>8s}  {name}: no results yet")


if __name__ == "__main__":
    main()
