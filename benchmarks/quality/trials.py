"""Gather finished trials (runs with a validation part) into one committed record.

    python -m benchmarks.quality.trials RUN... [--mean RUN RUN] [--output results/trials-quality-lite.json]

A trial never looks at the test part: it is judged on a validation part of the training split. Each row holds what the
run was configured to, its validation figures, and the mean loss of its last fifty steps. ``--mean``, which may be given
again, adds the figures of the mean prediction of some trials of one split.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import argument_parser, read_lines, write_record
from moslens.metrics import plcc, srcc
from moslens.system.files import read_json
from moslens.train.config import TrainConfig
from moslens.train.run_folder import Run


def main() -> None:
    parser = argument_parser(__doc__, "trials-quality-lite.json")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--mean", nargs="+", type=Path, action="append", default=[])
    options = parser.parse_args()
    trials = [trial(run) for run in options.runs]
    means = [mean_of(runs) for runs in options.mean]
    for row in trials:
        print(f"{row['name']:8s} {row['validation_srcc']:.3f} {row['validation_plcc_raw']:.3f}  {row['differs']}")
    for row in means:
        print(f"{' + '.join(row['of'])}: {row['validation_srcc']:.3f} {row['validation_plcc_raw']:.3f}")
    write_record(
        options.output,
        {
            "trials": trials,
            **({"means": means} if means else {}),
        },
        ("torch", "timm", "numpy"),
    )


def trial(run: Path) -> dict[str, Any]:
    """One row; raises where the run is not a finished trial."""
    config = read_json(run / "config.json")["config"]
    figures = read_json(run / "metrics.json")
    if figures["part"] != "validation":
        raise SystemExit(f"{run}: not a trial, it was measured on its {figures['part']} part")
    steps = read_lines(run / "log.jsonl")
    return {
        "name": run.name,
        "differs": differences(config, TrainConfig().to_dict()),
        "config": config,
        "validation_srcc": figures["srcc"],
        "validation_plcc_raw": figures["plcc_raw"],
        "last_loss": statistics.mean(row["loss"] for row in steps[-50:]),
        "steps": steps[-1]["step"],
    }


def mean_of(runs: Sequence[Path]) -> dict[str, Any]:
    """The figures of the mean prediction of some trials. SystemExit where they held out other pictures."""
    tables = [{row.image: row for row in Run(run).predictions("validation")} for run in runs]
    names = sorted(tables[0])
    if not names or any(sorted(table) != names for table in tables):
        raise SystemExit(f"{', '.join(map(str, runs))}: not trials of one validation part")
    mean = [statistics.fmean(table[name].prediction for table in tables) for name in names]
    mos = [tables[0][name].mos for name in names]
    return {
        "of": [run.name for run in runs],
        "validation_srcc": srcc(mean, mos),
        "validation_plcc_raw": plcc(mean, mos),
    }


def differences(config: dict[str, object], default: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Settings that are not the default, by dotted name."""
    found: dict[str, object] = {}
    for key, value in config.items():
        other = default.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            found |= differences(value, other, f"{prefix}{key}.")
        elif value != (list(other) if isinstance(other, tuple) else other):
            found[prefix + key] = value
    return found


if __name__ == "__main__":
    main()
