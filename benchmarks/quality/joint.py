"""The curves of a joint run beside the quality-only run of the same budget: a plot and a record.

    python -m benchmarks.quality.joint runs/joint-lite/split-0 runs/joint-lite-quality/split-0

writes ``results/joint-lite.json`` and ``docs/images/joint-lite.png``. Means over windows of steps; the claims, each
with what it compares, are in the record: all losses fall, in-image accuracy rises above chance, the quality loss of
the joint run is not above that of the other.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, argument_parser, read_lines, write_record
from moslens.system.files import read_json

TERMS = ("quality", "ckd", "akd", "in_image", "in_image_chance", "cross_image")


def main() -> None:
    parser = argument_parser(__doc__, "joint-lite.json")
    parser.add_argument("joint", type=Path)
    parser.add_argument("quality", type=Path)
    parser.add_argument("--windows", type=int, default=20, help="Points of a curve.")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "joint-lite.png")
    options = parser.parse_args()
    joint, quality = (read_lines(run / "log.jsonl") for run in (options.joint, options.quality))
    if len(joint) != len(quality):
        raise SystemExit(f"{len(joint)} and {len(quality)} steps: not the same budget")
    curves = {
        "joint": {term: windowed(joint, term, options.windows) for term in TERMS},
        "quality-only": {"quality": windowed(quality, "quality", options.windows)},
    }
    claims = judge(curves)
    for name, claim in claims.items():
        print(f"{name}: {claim}")
    draw(curves, len(joint), options.plot)
    write_record(
        options.output,
        {
            "config": read_json(options.joint / "config.json")["config"],
            "steps": len(joint),
            "steps_a_point": len(joint) / options.windows,
            "curves": curves,
            "claims": claims,
            "held_out": {
                "joint": read_json(options.joint / "metrics.json"),
                "quality-only": read_json(options.quality / "metrics.json"),
            },
        },
        ("torch", "timm", "numpy"),
    )


def windowed(steps: list[dict[str, Any]], term: str, windows: int) -> list[float]:
    """Mean of a term over equal stretches of the run, leaving out steps that lack it."""
    values = np.array([step.get(term, np.nan) for step in steps])
    return [float(np.nanmean(part)) for part in np.array_split(values, windows)]


def judge(curves: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """Each claim with the figures it rests on (the first point, the mean of the last quarter) and whether it holds."""
    joint = curves["joint"]

    def late(values: list[float]) -> float:
        return float(np.mean(values[-max(1, len(values) // 4) :]))

    falls = {
        f"{term} falls": {
            "first": joint[term][0],
            "late": late(joint[term]),
            "holds": late(joint[term]) < joint[term][0],
        }
        for term in ("quality", "ckd", "akd")
    }
    in_image, chance = late(joint["in_image"]), late(joint["in_image_chance"])
    ours, other = late(joint["quality"]), late(curves["quality-only"]["quality"])
    return falls | {
        "in-image accuracy rises above chance": {
            "first": joint["in_image"][0],
            "late": in_image,
            "chance": chance,
            "holds": in_image > joint["in_image"][0] and in_image > chance + 0.1,
        },
        "quality loss is not hurt": {"joint": ours, "quality-only": other, "holds": ours <= 1.05 * other},
    }


def draw(curves: dict[str, dict[str, list[float]]], steps: int, path: Path) -> None:
    """Four panels: quality loss of both runs, CKD, AKD, contrastive accuracies."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    joint = curves["joint"]
    count = len(joint["quality"])
    x = (np.arange(count) + 0.5) * steps / count
    figure, axes = pyplot.subplots(1, 4, figsize=(14, 3.2), layout="constrained")
    panels = (
        ("quality loss", {"joint": joint["quality"], "quality only": curves["quality-only"]["quality"]}),
        ("contrastive distillation", {"joint": joint["ckd"]}),
        ("affinity distillation", {"joint": joint["akd"]}),
        (
            "contrastive accuracy",
            {
                "in image": joint["in_image"],
                "across images": joint["cross_image"],
                "chance in image": joint["in_image_chance"],
            },
        ),
    )
    for axis, (title, lines) in zip(axes, panels, strict=True):
        for (name, values), style in zip(lines.items(), ("-", "--", ":"), strict=False):
            axis.plot(x, values, style, label=name)
        axis.set(title=title, xlabel="step", ylim=(0, None))
        axis.grid(alpha=0.3)
        if len(lines) > 1:
            axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
