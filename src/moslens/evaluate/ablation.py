"""The core ablation table of method.md 9.9: one student per row and split, every row with the same budget.

A plan is a TOML file:

    name = "ablation-livec-lite"
    base = "shdiqa-lite.toml"            a training configuration, from the plan's folder
    splits = [0, 1, 2]
    main = "shdiqa"                      the row that the others are compared with
    rows = ["ablation/floor.toml", ...]  one file per row: a title, and the settings it changes
    [changes]                            settings of all rows, which replace those of the base

A row may change the model, the distillation and the degradation, but not the budget: data, optimiser, seed and stage.
"""

from __future__ import annotations

import logging
import statistics
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslens.errors import ConfigError
from moslens.evaluate import record
from moslens.train import train
from moslens.train.config import TrainConfig, from_dict
from moslens.train.quality import dataset_of
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)

_BUDGET = ("stage", "data", "optim", "seed")


@dataclass(frozen=True)
class AblationRow:
    """One row of the table: the settings it changes, and its training configuration without the split."""

    name: str
    title: str
    changes: Mapping[str, Any]
    tree: Mapping[str, Any]

    def config(self, split: int) -> TrainConfig:
        """The configuration of the run on one split."""
        tree = dict(self.tree)
        return from_dict(tree | {"data": {**tree.get("data", {}), "split": split}})


@dataclass(frozen=True)
class AblationPlan:
    """The contents of a plan, checked."""

    name: str
    main: str
    splits: tuple[int, ...]
    rows: tuple[AblationRow, ...]


def read_plan(path: Path) -> AblationPlan:
    """Read a plan and the files it names. ConfigError, naming the file, for anything wrong in one of them."""
    tree = _read(path)
    missing = [key for key in ("name", "base", "splits", "main", "rows") if key not in tree]
    unknown = set(tree) - {"name", "base", "splits", "main", "rows", "changes"}
    if missing or unknown:
        raise ConfigError(f"an ablation plan lacks {missing} or does not know {sorted(unknown)}", path)
    base = _merged(_read(path.parent / tree["base"]), tree.get("changes", {}))
    rows = tuple(_row(path.parent / name, base) for name in tree["rows"])
    names = [row.name for row in rows]
    if len(set(names)) < len(names) or tree["main"] not in names:
        raise ConfigError(f"rows are named once each and main, {tree['main']!r}, is one of them", path)
    return AblationPlan(tree["name"], tree["main"], tuple(tree["splits"]), rows)


def ablate(plan: AblationPlan, output: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train and measure every row on every split. Writes ``output/NAME.json`` after each run.

    Returns the last result. With ``resume``, finished runs are kept and interrupted ones continue. ConfigError where
    ``output`` is not empty and ``resume`` is false.
    """
    if output.is_dir() and any(output.iterdir()) and not resume:
        raise ConfigError("holds an ablation already: --resume continues it", output)
    result = _result(plan, output)
    for split in plan.splits:
        for row in plan.rows:
            run = output / row.name / f"split-{split}"
            config = row.config(split)
            if not _finished(run, config):
                log.info("%s: %s, split %d", run, row.title, split)
                train(config, run, resume=True)
            result = _result(plan, output)
            record.write_result(output / f"{plan.name}.json", result)
    return result


def _finished(run: Path, config: TrainConfig) -> bool:
    """Whether a run of this configuration is trained and measured. Training then refuses a run of another one."""
    return Run(run).metrics_file.is_file() and Run(run).config == config


def _result(plan: AblationPlan, output: Path) -> dict[str, Any]:
    """The result of all finished runs; its own figures are those of the main row."""
    config = next(row for row in plan.rows if row.name == plan.main).config(plan.splits[0])
    rows = [_measured(row, plan, output) for row in plan.rows]
    by_name = {row["name"]: row for row in rows}
    main = {split["seed"]: split["srcc"] for split in by_name[plan.main]["splits"]}
    for row in rows:
        row["srcc_against_main"] = {
            str(s["seed"]): s["srcc"] - main[s["seed"]] for s in row["splits"] if s["seed"] in main
        }
    dataset = dataset_of(config.data)
    part = "validation" if config.data.validation else "test"
    seeds = ", ".join(map(str, plan.splits))
    return record.make_result(
        name=plan.name,
        config={"main": plan.main, "optim": vars(config.optim), "data": vars(config.data)},
        dataset=dataset.name,
        protocol=f"{part} part of splits {seeds}, last epoch, the same steps and labelled crops for every row",
        model=plan.main,
        splits=by_name[plan.main]["splits"],
        seconds=sum(split["seconds"] for row in rows for split in row["splits"]),
        data_hash=dataset.data_hash(),
        rows=rows,
        complete=all(len(row["splits"]) == len(plan.splits) for row in rows),
    )


def _measured(row: AblationRow, plan: AblationPlan, output: Path) -> dict[str, Any]:
    splits = []
    for seed in plan.splits:
        run = output / row.name / f"split-{seed}"
        if _finished(run, row.config(seed)):
            splits.append({"seed": seed, **run_figures(run), "epoch": row.config(seed).optim.epochs})
    summaries = {
        "median": record.summary(splits, statistics.median),
        "mean": record.summary(splits, statistics.fmean),
        "std": record.summary(splits, statistics.pstdev),
    }
    return {"name": row.name, "title": row.title, "changes": row.changes, **summaries, "splits": splits}


def run_figures(folder: Path) -> dict[str, Any]:
    """The figures of a finished run, the number of pictures and the training time in seconds."""
    run = Run(folder)
    rows = run.predictions(run.metrics()["part"])
    figures = record.split_figures([row.prediction for row in rows], [row.mos for row in rows])
    return {**figures, "n": len(rows), "seconds": run.seconds()}


def _row(path: Path, base: Mapping[str, Any]) -> AblationRow:
    changes = _read(path)
    title = changes.pop("title", None)
    if not isinstance(title, str):
        raise ConfigError("a row of an ablation has a title", path)
    fixed = sorted(set(changes) & set(_BUDGET))
    if fixed:
        raise ConfigError(f"a row may not change {', '.join(fixed)}: all rows have the same budget", path)
    row = AblationRow(path.stem, title, changes, _merged(base, changes))
    row.config(0)
    return row


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML ({error})", path) from error


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        merged[key] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return merged
