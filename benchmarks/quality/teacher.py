"""Gather what a finished teacher knows into a committed record.

    python -m benchmarks.quality.teacher runs/teacher-lite [--output results/teacher-lite.json]

The figures are those of the run's card, measured by the training itself on held-out photos; here they are put beside
the targets and the loss of the run's first and last steps.
"""

import statistics
from pathlib import Path

from benchmarks.common import argument_parser, read_lines, write_record
from moslens.system.files import read_json

TARGETS = {"kind_accuracy": 0.70, "group_accuracy": 0.85, "level_error": 0.8}


def main() -> None:
    parser = argument_parser(__doc__, "teacher-lite.json")
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    card = read_json(options.run / "card.json")
    steps = read_lines(options.run / "log.jsonl")
    held = card["held_out"]
    met = {name: held[name] <= t if name == "level_error" else held[name] >= t for name, t in TARGETS.items()}
    for name, target in TARGETS.items():
        print(f"{name:15s} {held[name]:.3f}  target {target}  {'met' if met[name] else 'missed'}")
    for name, figures in card["composites"].items():
        print(f"half-Gaussian levels, asked in the {name}: kind {figures['kind_accuracy']:.3f}")
    write_record(
        options.output,
        {
            "config": card["training"],
            "dataset": "pristine photos, degraded by moslens.distortions",
            "pool": card["pool"],
            "protocol": "held out by file; balanced over kinds and levels; one block of a random grid a picture",
            "targets": TARGETS,
            "met": met,
            "held_out": held,
            "composites": card["composites"],
            "steps": steps[-1]["step"],
            "loss": {"first": mean_loss(steps[:50]), "last": mean_loss(steps[-50:])},
            "seconds": steps[-1]["step"] * steps[-1]["seconds_a_step"],
            "sha256": card["sha256"],
        },
        ("torch", "timm", "numpy"),
    )


def mean_loss(rows: list[dict[str, float]]) -> float:
    """Mean of the loss over fifty steps."""
    return statistics.mean(row["loss"] for row in rows)


if __name__ == "__main__":
    main()
