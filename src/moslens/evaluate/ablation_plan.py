"""The plan of an ablation or of a comparison of recipes: a TOML file that names a base and one file per row.

    name = "ablation-livec-lite"
    base = "shdiqa-lite.toml"            a training configuration, from the plan's folder
    splits = [0, 1, 2]
    main = "shdiqa"                      the row that the others are compared with
    rows = ["ablation/floor.toml", ...]  one file per row: a title, and the settings it changes
    kind = "recipe"                      rows may also change data and optimiser; without it all have one budget
    validation = true                    rows are measured on a validation part, and nothing touches the test part
    branch_at = 0.7                      rows share their beginning: they start from the main row at that share of it
    [changes]                            settings of all rows, which replace those of the base

A row of a plain ablation may change the model, the distillation and the degradation, but not the budget: data,
optimiser, seed and stage. A row of a recipe may change all of them, but not which pictures are learned from and
measured. A row's own ``branch_at`` replaces that of the plan; 0 trains the row from its start.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslens.data.records import Dataset, check_stated_scale
from moslens.errors import ConfigError
from moslens.train.branch import branch_step
from moslens.train.config import TrainConfig, apply_changes, from_dict
from moslens.train.quality import dataset_of, split_of

VALIDATION = 0.2
"""The validation share of a plan with ``validation = true`` whose base sets none."""

_KINDS = ("parts", "recipe")
_NEEDED = ("name", "base", "splits", "main", "rows")
_ALLOWED = {*_NEEDED, "changes", "kind", "validation", "branch_at"}
_BUDGET = ("stage", "data", "optim", "seed")
_PICTURES = ("name", "root", "split", "validation", "mos_range", "direction")
_OF_THE_PLAN = ("branch", "keep_at")


@dataclass(frozen=True)
class AblationRow:
    """One row of the table: the settings it changes, and its training configuration without the split.

    ``branch_at``: the share of the steps that it takes over from the main row, 0 for none.
    """

    name: str
    title: str
    changes: Mapping[str, Any]
    tree: Mapping[str, Any]
    branch_at: float = 0.0

    def config(self, split: int, trunk: Path | None = None) -> TrainConfig:
        """The configuration of the run on one split. trunk: the folder of the main row's runs, for a row that branches.

        Without ``trunk`` it is that of the row trained from its start.
        """
        tree = dict(self.tree)
        if self.branch_at and trunk is not None:
            tree["branch"] = {"run": str(trunk.resolve()), "at": self.branch_at}
        return from_dict(tree | {"data": {**tree.get("data", {}), "split": split}})


@dataclass(frozen=True)
class AblationPlan:
    """The contents of a plan, checked. ``recipe``: rows may differ in their budgets; ``part``: what is measured."""

    name: str
    main: str
    splits: tuple[int, ...]
    rows: tuple[AblationRow, ...]
    recipe: bool = False
    part: str = "test"

    @property
    def main_row(self) -> AblationRow:
        return next(row for row in self.rows if row.name == self.main)

    def config(self, row: AblationRow, split: int, output: Path) -> TrainConfig:
        """The configuration of a run whose table lies in ``output``."""
        return row.config(split, output / self.main)

    def only(self, rows: Sequence[str] | None, splits: Sequence[int] | None) -> list[tuple[AblationRow, int]]:
        """The rows and splits that a call trains, in order. ConfigError for a name or split that is not in the plan.

        Where a row branches off, the main row comes before it, asked for or not.
        """
        unknown = [name for name in rows or () if name not in {row.name for row in self.rows}]
        absent = [split for split in splits or () if split not in self.splits]
        if unknown or absent:
            what = f"no row {unknown[0]}" if unknown else f"no split {absent[0]}"
            raise ConfigError(f"the plan {self.name} has {what}")
        chosen = [row for row in self.rows if rows is None or row.name in rows]
        wanted = [split for split in self.splits if splits is None or split in splits]
        pairs = [(row, split) for split in wanted for row in chosen]
        if any(row.branch_at for row in chosen):
            first = [(self.main_row, split) for split in wanted]
            pairs = [*first, *(pair for pair in pairs if pair not in first)]
        return pairs


@dataclass(frozen=True)
class Budget:
    """What a run trains on. ``pictures``: labelled ones; crops are labelled ones too.

    ``shared_steps``: those of ``steps`` that it takes over from the main row.
    """

    pictures: int
    steps_an_epoch: int
    crops_an_epoch: int
    epochs: int
    steps: int
    crops: int
    shared_steps: int = 0


def read_plan(path: Path, changes: Sequence[str] = ()) -> AblationPlan:
    """Read a plan and the files it names; ``changes``, ``section.key=value``, are settings of all rows.

    ConfigError, naming the file, for anything wrong in one of them.
    """
    tree = _read(path)
    missing, unknown = [key for key in _NEEDED if key not in tree], set(tree) - _ALLOWED
    if missing or unknown:
        raise ConfigError(f"an ablation plan lacks {missing} or does not know {sorted(unknown)}", path)
    kind, validation, branch_at = tree.get("kind", "parts"), tree.get("validation", False), tree.get("branch_at", 0)
    if kind not in _KINDS:
        raise ConfigError(f"kind is {' or '.join(_KINDS)}, not {kind!r}", path)
    if not isinstance(validation, bool):
        raise ConfigError("validation is true or false: its share is data.validation of the base", path)
    splits = tree["splits"]
    if not splits or len(set(splits)) < len(splits) or not all(type(one) is int and one >= 0 for one in splits):
        raise ConfigError("splits are seeds from 0 on, named once each", path)
    start = path.parent / tree["base"]
    base = _read(start)
    _check(base, start)
    base = _merged(base, tree.get("changes", {}))
    apply_changes(base, changes)
    _check(base, path)
    share = base.get("data", {}).get("validation", 0.0)
    if validation and not share:
        base = _merged(base, {"data": {"validation": VALIDATION}})
    rows = [_row(path.parent / name, base, kind == "recipe", _share(branch_at, path)) for name in tree["rows"]]
    names = [row.name for row in rows]
    if len(set(names)) < len(names) or tree["main"] not in names:
        raise ConfigError(f"rows are named once each and main, {tree['main']!r}, is one of them", path)
    part = "validation" if validation or share else "test"
    return AblationPlan(
        tree["name"], tree["main"], tuple(splits), _with_trunk(rows, tree["main"], path), kind == "recipe", part
    )


def _with_trunk(rows: Sequence[AblationRow], main: str, path: Path) -> tuple[AblationRow, ...]:
    """The rows, the main one of which keeps the checkpoint that the others start from."""
    shares = {row.branch_at for row in rows if row.branch_at and row.name != main}
    if len(shares) > 1:
        raise ConfigError(f"rows branch off at {sorted(shares)}: the main row keeps one checkpoint", path)
    kept = []
    for row in rows:
        if row.name == main:
            tree = {**row.tree, "keep_at": shares.pop()} if shares else row.tree
            kept.append(AblationRow(row.name, row.title, row.changes, tree))
        else:
            kept.append(row)
    return tuple(kept)


def _check(tree: Mapping[str, Any], path: Path) -> TrainConfig:
    """The configuration of ``tree``, which ``path`` states. ConfigError, naming ``path``, where it cannot be one."""
    config = from_dict(dict(tree), path)
    check_stated_scale(config.data.mos_range, config.data.direction, path)
    return config


def _row(path: Path, base: Mapping[str, Any], recipe: bool, branch_at: float) -> AblationRow:
    changes = _read(path)
    title, branch_at = changes.pop("title", None), _share(changes.pop("branch_at", branch_at), path)
    if not isinstance(title, str):
        raise ConfigError("a row of an ablation has a title", path)
    own = sorted(set(changes) & set(_OF_THE_PLAN))
    if own:
        raise ConfigError(f"a row may not set {', '.join(own)}: the plan does, with branch_at", path)
    fixed = sorted(set(changes) & set(_BUDGET))
    if fixed and not recipe:
        way = 'unless the plan says kind = "recipe"'
        raise ConfigError(f"a row may not change {', '.join(fixed)}: all rows have the same budget, {way}", path)
    data = changes.get("data", {})
    fixed = sorted(set(data) & set(_PICTURES)) if isinstance(data, Mapping) else []
    if fixed:
        raise ConfigError(f"a row may not change data.{', data.'.join(fixed)}: all rows are measured alike", path)
    row = AblationRow(path.stem, title, changes, _merged(base, changes), branch_at)
    if not _check(row.tree, path).gives_scores:
        raise ConfigError("a row trains what gives scores: stage quality or student", path)
    return row


def _share(value: Any, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"branch_at is a share of the steps below 1, or 0 for none, not {value!r}", path)
    return float(value)


def budgets(plan: AblationPlan) -> dict[tuple[str, int], Budget]:
    """The budget of every row on every split, by (row, split). Reads the labels, no picture.

    ConfigError where a row that branches off has another number of steps than the main row. Raises as ``dataset_of``.
    """
    dataset = dataset_of(plan.main_row.config(plan.splits[0]).data)  # rows may not change it
    found: dict[tuple[str, int], Budget] = {}
    for split in plan.splits:
        main = _budget(plan.main_row, split, dataset)
        for row in plan.rows:
            one = found[row.name, split] = _budget(row, split, dataset)
            if row.branch_at and one.steps != main.steps:
                raise ConfigError(
                    f"row {row.name} has {one.steps} steps and the main row {main.steps}: it cannot branch off"
                )
    return found


def _budget(row: AblationRow, split: int, dataset: Dataset) -> Budget:
    config = row.config(split)
    pictures, optim = len(split_of(dataset, config.data).train), config.optim
    batch = min(optim.batch, pictures * config.data.repeats)  # as QualityBatches
    steps = pictures * config.data.repeats // batch
    total = optim.epochs * steps
    shared = branch_step(row.branch_at, total) if row.branch_at else 0
    return Budget(pictures, steps, steps * batch, optim.epochs, total, total * batch, shared)


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
