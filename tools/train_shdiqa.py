"""Train the released model: the teacher of kinds, students and quality-only models of every split, the model, figures.

    python -m tools.train_shdiqa --data DIR --output runs/shdiqa [--splits 0-9] [--jobs N]

``DIR`` holds the folders ``livec`` and ``pristine``. The students of the splits measure the recipe and calibrate the
student of all pictures, which is exported to ``OUTPUT/model``. Every step is a command of moslens that goes on where it
was, so the same line again continues after a kill. A step can be changed: ``--set student.optim.epochs=12``, which
changes the student of all pictures too.
``OUTPUT/times.json`` has the seconds of each step, those of earlier calls included that were not killed outright.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT, machine, moslens_command
from moslens.system.files import read_json, write_json

CONFIGS = {
    "teacher": "teacher-photographic-lite.toml",
    "quality": "lite-whole.toml",
    "student": "release-photographic-lite.toml",
}
STEPS = (*CONFIGS, "all", "figures", "model")
CARD = "card-shdiqa-lite.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of livec and pristine")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--splits", default="0-9")
    parser.add_argument("--jobs", default="", help="runs at once; by default one a core, ten on a GPU")
    parser.add_argument("--set", action="append", default=[], metavar="STEP.SECTION.KEY=VALUE", dest="changes")
    parser.add_argument("--only", nargs="+", choices=STEPS, help="these steps alone")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    steps = commands(options.data, options.output, options.splits, options.jobs, options.changes)
    for name, command in steps:
        if options.only is None or name in options.only:
            code = run_step(name, command, options.output / "times.json")
            if code:
                sys.exit(code if code > 0 else 128 - code)


def commands(data: Path, output: Path, splits: str, jobs: str, changes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The steps in their order, each with the arguments of ``moslens``. SystemExit for a change of an unknown step."""
    of_step: dict[str, list[str]] = {name: [] for name in CONFIGS}
    for change in changes:
        name, _, rest = change.partition(".")
        if name not in of_step or not rest:
            raise SystemExit(f"--set {change}: a change begins with a step, one of {', '.join(of_step)}")
        of_step[name] += ["--set", rest]
    labelled, pool = ["--set", f"data.root={data / 'livec'}"], ["--set", f"bdm.root={data / 'pristine'}"]
    split = ["--splits", splits, *(["--jobs", jobs] if jobs else [])]
    banks = {
        "distill.teacher": output / "teacher",
        "distill.bank": output / "bank",
        "rank.bank": output / "ladders",
        "rank.labelled_bank": output / "labelled-ladders",
    }
    taught = [one for key, value in banks.items() for one in ("--set", f"{key}={value}")] + of_step["student"]

    def train(config: str, name: str, *words: str) -> tuple[str, list[str]]:
        return name, ["train", str(ROOT / "configs" / config), *words, "-o", str(output / name), "--resume"]

    measured = ["--dataset", "livec", "--root", str(data / "livec"), "--splits", splits, "--reuse"]
    quality, student, final = (str(output / name) for name in ("quality", "student", "all"))
    export = ["export", final, "--folds", student, "--pool", str(data / "pristine")]
    export += ["--card", str(ROOT / "configs" / CARD), "--results", str(output / "livec-student.json")]
    return [
        train(CONFIGS["teacher"], "teacher", *pool, *of_step["teacher"]),
        train(CONFIGS["quality"], "quality", *labelled, *split, *of_step["quality"]),
        train(CONFIGS["student"], "student", *labelled, *pool, *split, *taught),
        train(CONFIGS["student"], "all", *labelled, *pool, *taught, "--set", "data.split=-1"),
        ("figures", ["evaluate", quality, *measured, "--output", str(output / "livec-quality")]),
        ("figures", ["evaluate", student, *measured, "--output", str(output / "livec-student")]),
        ("figures", ["compare", quality, student, *measured, "--top", "0", "--format", "json"]),
        ("model", [*export, "--output", str(output / "model")]),
    ]


def run_step(name: str, command: Sequence[str], times: Path) -> int:
    """Run a step, add its seconds to ``times``, and give its exit code, below 0 where a signal ended it."""
    print(f"{name}: moslens {' '.join(command)}", flush=True)
    begun = time.perf_counter()
    child = subprocess.Popen(moslens_command(*command))

    def pass_on(number: int, frame: object) -> None:
        # A terminal sends Ctrl-C to the child itself, which saves the step in work before it leaves.
        if number == signal.SIGTERM:
            child.terminate()

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    record = read_json(times) if times.is_file() else {"seconds": {}, "machine": machine()}
    record["seconds"][name] = round(record["seconds"].get(name, 0.0) + time.perf_counter() - begun, 1)
    write_json(times, record)
    return code


if __name__ == "__main__":
    main()
