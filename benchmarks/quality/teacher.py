"""Gather what a finished teacher knows into a committed record.

    python -m benchmarks.quality.teacher runs/teacher-lite [--output results/teacher-lite.json]

The figures are those of the run's card, measured by the training itself on held-out photos; here they are put beside
the targets and the loss of the run's first and last steps.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.common import ROOT, command_line, git_revision, versions, write_json
from moslens.system.files import read_json

TARGETS = {"kind_accuracy": 0.70, "group_accuracy": 0.85, "level_error": 0.8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "teacher-lite.json")
    options = parser.parse_args()
    card = read_json(options.run / "card.json")
    steps = [json.loads(line) for line in (options.run / "log.jsonl").read_text("utf-8").splitlines()]
    held = card["held_out"]
    met = {name: held[name] <= t if name == "level_error" else held[name] >= t for name, t in TARGETS.items()}
    for name, target in TARGETS.items():
        print(f"{name:15s} {held[name]:.3f}  target {target}  {'met' if met[name] else 'missed'}")
    for name, figures in card["composites"].items():
        print(f"half-Gaussian levels, asked in the {name}: kind {figures['kind_accuracy']:.3f}")
    write_json(
        options.output,
        {
            "name": options.output.stem,
            "command": command_line(),
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
            "versions": versions(("torch", "timm", "numpy")),
            "git": git_revision(),
        },
    )


def mean_loss(rows: list[dict[str, float]]) -> float:
    """Mean of the loss over fifty steps."""
    return statistics.mean(row["loss"] for row in rows)


if __name__ == "__main__":
    main()
