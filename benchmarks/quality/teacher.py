"""Gather what a finished teacher knows into a committed record.

    python -m benchmarks.quality.teacher runs/teacher [--output results/teacher-photographic-lite.json]

The figures are those of the run's card, measured by the training itself on held-out photos; here they are put beside
the targets and the loss of the run's first and last steps. The targets are for the paper's kinds, asked
among the paper's; what the teacher says where it may name any kind stands beside them.
"""

import statistics
from pathlib import Path

from benchmarks.common import argument_parser, read_lines, write_record
from moslens.system.files import read_json

TARGETS = {"kind_accuracy": 0.85, "group_accuracy": 0.92, "level_error": 0.6}
LEAST_OF_A_KIND = 0.5


def main() -> None:
    parser = argument_parser(__doc__, "teacher-photographic-lite.json")
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    card = read_json(options.run / "card.json")
    steps = read_lines(options.run / "log.jsonl")
    held = card["held_out"]
    paper = held.get("among_paper", held)
    met = {name: paper[name] <= t if name == "level_error" else paper[name] >= t for name, t in TARGETS.items()}
    for name, target in TARGETS.items():
        print(f"{name:15s} {paper[name]:.3f}  target {target}  {'met' if met[name] else 'missed'}")
    weak = {kind: share for kind, share in held["by_kind"].items() if share < LEAST_OF_A_KIND}
    print(f"kinds below {LEAST_OF_A_KIND}:", ", ".join(f"{kind} {share}" for kind, share in weak.items()) or "none")
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
            "kinds_below_half": weak,
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
