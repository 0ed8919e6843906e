"""Fewer labels: quality only against SHDIQA with a share of the training photos, on the same test photos.

    python -m benchmarks.quality.data_efficiency [--fractions .2 .4 .6] [--splits 0 1 2]
        [--runs runs/efficiency] [--no-train]

Each run is the committed configuration with ``data.fraction`` changed and with more epochs, the same number for both
sides: 10, 7 and 6 instead of 5, since with a fifth of the photos an epoch has a fifth of the steps. As in
``configs/ablation-lite.toml`` depthwise kernels and first layers keep their weights on both sides, which makes a step
cheaper. Runs that are finished are read, others are trained or go on. ``--no-train`` only gathers what is finished.
"""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, argument_parser, command_line, kept_layers
from moslens.evaluate import record as results
from moslens.evaluate.ablation import run_figures
from moslens.train import train
from moslens.train.config import TrainConfig, load_config
from moslens.train.quality import dataset_of

CONFIGS = {"quality": "lite.toml", "shdiqa": "shdiqa-lite.toml"}
EPOCHS = {0.2: 10, 0.4: 7, 0.6: 6}


def main() -> None:
    parser = argument_parser(__doc__, "data-efficiency-livec-lite.json")
    parser.add_argument("--fractions", nargs="+", type=float, default=list(EPOCHS), choices=list(EPOCHS))
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "efficiency")
    parser.add_argument("--no-train", action="store_true")
    options = parser.parse_args()
    rows = []
    for fraction in options.fractions:
        for side in CONFIGS:
            splits = []
            for split in options.splits:
                run = options.runs / f"{side}-{round(100 * fraction)}" / f"split-{split}"
                if not (run / "metrics.json").is_file() and not options.no_train:
                    train(configuration(side, fraction, split), run, resume=True)
                if (run / "metrics.json").is_file():
                    splits.append({"seed": split, **run_figures(run), "epoch": EPOCHS[fraction]})
            rows.append({"model": side, "fraction": fraction, "splits": splits})
            print(f"{fraction:.0%} {side:8s}", *(f"{s['srcc']:.3f}/{s['plcc']:.3f}" for s in splits), flush=True)
    rows = [row | {"median": results.summary(row["splits"], statistics.median)} for row in rows if row["splits"]]
    config = configuration("shdiqa", options.fractions[0], options.splits[0])
    dataset = dataset_of(config.data)
    record = results.make_result(
        name=options.output.stem,
        config={side: configuration(side, 1.0, 0).to_dict() for side in CONFIGS} | {"epochs": EPOCHS},
        dataset=dataset.name,
        protocol="test parts of the named splits, last epoch; both sides see the same photos equally often",
        model="quality-only and SHDIQA, lite",
        splits=next(row["splits"] for row in rows if row["model"] == "shdiqa"),
        command=command_line(),
        seconds=sum(split["seconds"] for row in rows for split in row["splits"]),
        data_hash=dataset.data_hash(),
        rows=rows,
        gain=[gain(rows, fraction) for fraction in options.fractions],
    )
    results.write_result(options.output, record)


def configuration(side: str, fraction: float, split: int) -> TrainConfig:
    """The committed configuration of one side with a share of the labels."""
    changes = [f"data.split={split}", f"data.fraction={fraction}", f"optim.frozen={list(kept_layers())}"]
    if fraction in EPOCHS:
        changes.append(f"optim.epochs={EPOCHS[fraction]}")
    return load_config(ROOT / "configs" / CONFIGS[side], changes)


def gain(rows: list[dict[str, Any]], fraction: float) -> dict[str, Any]:
    """SRCC of SHDIQA minus that of quality only, split by split."""
    sides = {row["model"]: {s["seed"]: s["srcc"] for s in row["splits"]} for row in rows if row["fraction"] == fraction}
    ours, theirs = (sides.get(side, {}) for side in ("shdiqa", "quality"))
    gaps = {str(seed): ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    return {"fraction": fraction, "srcc": gaps, "mean": statistics.fmean(gaps.values()) if gaps else None}


if __name__ == "__main__":
    main()
