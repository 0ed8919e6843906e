"""Scoring of 500 x 500 JPEGs by this checkout beside another one, such as a clone of an earlier commit.

    python -m benchmarks.speed.against --before DIR [--pairs 20] [--photos 60]

Two processes stay open, each with one checkout on its path and one thread, and take turns: in each round both score the
same photos once, in changing order. ``ratio`` is pictures a second here over there, by processor time, with the
interval of the median of the rounds (order statistics, 95 %).
"""

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.common import ROOT, argument_parser, machine, write_record
from benchmarks.pictures import make_photos

_CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from moslens import Scorer
paths = sys.argv[2:]
scorer = Scorer(threads=1)
def run():
    start = time.process_time()
    for path in paths:
        scorer.score(path)
    return time.process_time() - start
run()
print("ready", flush=True)
for line in sys.stdin:
    print(run(), flush=True)
"""


def start(source: Path, paths: list[Path]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _CHILD, str(source), *map(str, paths)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    if child.stdout.readline().strip() != "ready":
        raise SystemExit(f"{source}: the process ended before it could score")
    return child


def seconds(child: subprocess.Popen[str]) -> float:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    return float(child.stdout.readline())


def median_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a median by order statistics: the widest ranks whose binomial coverage reaches ``confidence``."""
    ordered, n = sorted(values), len(values)
    rank, outside = 0, 0.0
    while rank < n // 2:
        outside += math.comb(n, rank) / 2**n
        if 2 * outside > 1 - confidence:
            break
        rank += 1
    low = max(0, rank - 1)
    return ordered[low], ordered[n - 1 - low]


def main() -> None:
    parser: argparse.ArgumentParser = argument_parser(__doc__, "against.json")
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--photos", type=int, default=60)
    options = parser.parse_args()
    commit = subprocess.check_output(["git", "-C", options.before, "rev-parse", "--short=12", "HEAD"], text=True)
    with tempfile.TemporaryDirectory() as scratch:
        paths = make_photos(Path(scratch) / "photos", (500, 500), options.photos)
        children = {"before": start(options.before / "src", paths), "after": start(ROOT / "src", paths)}
        rounds: dict[str, list[float]] = {name: [] for name in children}
        for number in range(options.pairs):
            for name in sorted(children, reverse=bool(number % 2)):
                rounds[name].append(seconds(children[name]))
        for child in children.values():
            child.kill()
            child.wait()
    ratios = [a / b for a, b in zip(rounds["before"], rounds["after"], strict=True)]
    low, high = median_interval(ratios)
    print(
        f"{median(ratios):.3f} of the pictures a second before (median of {len(ratios)} pairs, {low:.3f} to {high:.3f})"
    )
    facts = {
        "before": commit.strip(),
        "photos": options.photos,
        "pairs": options.pairs,
        "ratio": median(ratios),
        "interval": [low, high],
        "seconds_a_picture": {name: median(values) / options.photos for name, values in rounds.items()},
        "machine": machine(),
    }
    write_record(options.output, facts, ("numpy", "pillow", "onnxruntime"))


if __name__ == "__main__":
    main()
