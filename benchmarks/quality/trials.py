"""Gather finished trials (runs with a validation part) into one committed record.

    python -m benchmarks.quality.trials RUN... [--output results/trials-quality-lite.json]

A trial never looks at the test part: it is judged on a validation part of the training split. Each row holds what the
run was configured to, its validation figures, and the mean loss of its last fifty steps.
"""

import statistics
from pathlib import Path

from benchmarks.common import argument_parser, read_lines, write_record
from moslens.system.files import read_json
from moslens.train.config import TrainConfig


def main() -> None:
    parser = argument_parser(__doc__, "trials-quality-lite.json")
    parser.add_argument("runs", nargs="+", type=Path)
    options = parser.parse_args()
    trials = [trial(run) for run in options.runs]
    for row in trials:
        print(f"{row['name']:8s} {row['validation_srcc']:.3f} {row['validation_plcc_raw']:.3f}  {row['differs']}")
    write_record(
        options.output,
        {
            "trials": trials,
        },
        ("torch", "timm", "numpy"),
    )


def trial(run: Path) -> dict[str, object]:
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
