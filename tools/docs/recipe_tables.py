"""The tables about recipes, from what ablation, data efficiency and residuals wrote: empty where nothing was."""

from collections.abc import Callable
from statistics import fmean
from typing import Any

from tools.docs.cost_tables import read_record


def ablation(name: str = "ablation-livec-lite", *, every: bool = True) -> str:
    """Every row of an ablation: median and spread over its splits, each split, how far it is from the main row, and,
    with three rows and more, from the row before.

    ``every``: rows that were not trained are shown too.
    """
    record = read_record(name)
    if not record:
        return ""
    seeds = [split["seed"] for split in record["splits"]]
    titles = {row["name"]: row["title"] for row in record["rows"]} | {"shdiqa": "SHDIQA"}
    against = titles[record["model"]]
    rows = [row for row in record["rows"] if row["splits"] or every]
    steps = len(rows) > 2
    lines = [
        "| row | SRCC | PLCC | "
        + " | ".join(f"split {seed}" for seed in seeds)
        + f" | mean SRCC to {against} |"
        + " mean SRCC to the row before |" * steps,
        "|---" * (len(seeds) + 4 + steps) + "|",
    ]
    for place, row in enumerate(rows):
        by_seed = {split["seed"]: f"{split['srcc']:.3f}" for split in row["splits"]}
        gaps = row["srcc_against_main"].values()
        gap = f"{fmean(gaps):+.3f}" if gaps and row["name"] != record["model"] else "–"
        lines.append(
            f"| {row['title']} | {_spread(row, 'srcc')} | {_spread(row, 'plcc')} | "
            + " | ".join(by_seed.get(seed, "–") for seed in seeds)
            + f" | {gap} |"
            + f" {_step(row, rows[place - 1] if place else None)} |" * steps
        )
    return "\n".join([*lines, "", f"Median ± standard deviation over the splits; `results/{name}.json`."])


def efficiency() -> str:
    """SRCC of both sides with a share of the labels, split by split."""
    record = read_record("data-efficiency-livec-lite")
    if not record:
        return ""
    lines = ["| share of the labels | quality-only, SRCC | SHDIQA, SRCC | difference | mean |", "|---|---|---|---|---|"]
    for gain in record["gain"]:
        sides = [
            " ".join(f"{split['srcc']:.3f}" for row in _of(record, side, gain["fraction"]) for split in row["splits"])
            for side in ("quality", "shdiqa")
        ]
        gaps = " ".join(f"{value:+.3f}" for value in gain["srcc"].values())
        lines.append(f"| {gain['fraction']:.0%} | {sides[0]} | {sides[1]} | {gaps} | {gain['mean']:+.3f} |")
    seeds = ", ".join(str(split["seed"]) for split in record["splits"])
    return "\n".join([*lines, "", f"Splits {seeds} in this order; `results/data-efficiency-livec-lite.json`."])


def residuals(name: str = "residuals") -> str:
    """What the teacher's description of a photo tells of the residuals of the quality-only model."""
    record = read_record(name)
    if not record:
        return ""
    mean = record["mean"]
    lines = ["| mean over the test parts | |", "|---|---|"]
    lines += [
        f"| opinion scores from the teacher's description alone, SRCC | {mean['scores_srcc']:.3f} |",
        f"| residuals from it: share of their variance explained | {mean['residual_r2']:.1%} |",
        f"| quality-only model, SRCC | {mean['srcc']:.4f} |",
        f"| quality-only model plus what the description adds, SRCC | {mean['srcc_corrected']:.4f} |",
    ]
    return "\n".join(lines)


def preservation() -> str:
    """SRCC of a regression on frozen features, before and after distillation alone."""
    record = read_record("preservation")
    if not record:
        return ""
    rows = record["rows"]
    seeds = range(len(next(iter(rows.values()))["splits"]))
    lines = [
        "| features of | mean SRCC | median | " + " | ".join(f"split {seed}" for seed in seeds) + " |",
        "|---" * (len(seeds) + 3) + "|",
    ]
    for name, row in rows.items():
        splits = " | ".join(f"{value:.3f}" for value in row["splits"])
        lines.append(f"| {name} | {row['mean']:.3f} | {row['median']:.3f} | {splits} |")
    return "\n".join([*lines, "", "`results/preservation.json`."])


def _of(record: dict[str, Any], side: str, fraction: float) -> list[dict[str, Any]]:
    return [row for row in record["rows"] if (row["model"], row["fraction"]) == (side, fraction)]


def _step(row: dict[str, Any], previous: dict[str, Any] | None) -> str:
    """The mean difference of SRCC on the splits of both rows, and on how many of them it is above 0."""
    others = {split["seed"]: split["srcc"] for split in previous["splits"]} if previous else {}
    gaps = [split["srcc"] - others[split["seed"]] for split in row["splits"] if split["seed"] in others]
    return f"{fmean(gaps):+.3f}, ahead on {sum(gap > 0 for gap in gaps)} of {len(gaps)}" if gaps else "–"


def _spread(row: dict[str, Any], figure: str) -> str:
    if not row["splits"]:
        return "–"
    return f"{row['median'][figure]:.3f} ± {row['std'][figure]:.3f}"


TABLES: dict[str, Callable[[], str]] = {"ablation": ablation, "efficiency": efficiency}
EXPERIMENTS: dict[str, Callable[[], str]] = {
    "residuals": residuals,
    "residuals-photographic": lambda: residuals("residuals-photographic"),
    "dinov2": lambda: ablation("ablation-livec-dinov2", every=False),
    "opinions": lambda: ablation("ablation-opinions-288", every=False),
    "preservation": preservation,
    "start": lambda: ablation("recipes-start-288", every=False),
    "fewer": lambda: ablation("fewer-labels-lite"),
}
