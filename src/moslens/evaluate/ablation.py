"""The core ablation table of method.md 9.9, and comparisons of recipes: every row of a plan on every split.

    OUTPUT/ROW/split-N/      a run
    OUTPUT/ROW/split-N.json  the trial: its configuration, budget and figures, or the error that ended it
    OUTPUT/NAME.json         the table, of all trials of all calls; written anew after each

The plan is described in :mod:`.ablation_plan`.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moslens.errors import CheckpointError, ConfigError, MissingExtra, MoslensError, OutputError
from moslens.evaluate import record
from moslens.evaluate.ablation_plan import AblationPlan, AblationRow, Budget, budgets, read_plan
from moslens.evaluate.significance import corrected_t_test, paired_interval, sign_test
from moslens.system.files import read_json
from moslens.system.lock import locked_folder
from moslens.train import train
from moslens.train.config import TrainConfig, config_difference
from moslens.train.quality import dataset_of
from moslens.train.run_folder import Run
from moslens.train.splits import Job, train_many

__all__ = ["AblationPlan", "AblationRow", "Budget", "ablate", "budgets", "read_plan", "run_figures"]

log = logging.getLogger(__name__)

Budgets = Mapping[tuple[str, int], Budget]
Trial = tuple[AblationRow, int]


def ablate(
    plan: AblationPlan,
    output: Path,
    *,
    resume: bool = False,
    rows: Sequence[str] | None = None,
    splits: Sequence[int] | None = None,
    jobs: int = 1,
    on_start: Callable[[Budgets], None] = lambda budgets: None,
) -> dict[str, Any]:
    """Train and measure every row on every split. Writes ``output/NAME.json`` after each run.

    Returns the last result. ``rows`` and ``splits`` restrict what is trained, not what the table shows. ``jobs`` > 1
    trains that many runs at once, each in a process with its share of the cores. ``on_start`` gets the budgets before
    anything is trained. A trial that ends with an error is recorded with it, and the others go on.

    With ``resume``, finished runs are kept, interrupted ones continue and failed ones are tried again. ConfigError
    where ``output`` is not empty and ``resume`` is false, and where the plan has no such row or split. CheckpointError
    where a run was started with another configuration.
    """
    if output.is_dir() and any(output.iterdir()) and not resume:
        raise ConfigError("holds an ablation already: --resume continues it", output)
    trials = plan.only(rows, splits)
    table = _Table(plan, output, budgets(plan))
    for trial in trials:
        table.refuse_other_run(trial)
    on_start(table.budgets)
    result = table.write()
    for trial in trials:
        if table.finished(trial) and not table.recorded(trial):  # killed between the two
            result = table.ended(trial)
    trials = [trial for trial in trials if not table.finished(trial)]
    if jobs == 1:
        for row, split in trials:
            log.info("%s: %s, split %d", table.folder((row, split)), row.title, split)
            try:
                train(table.config((row, split)), table.folder((row, split)), resume=True)
            except MissingExtra:
                raise
            except MoslensError as error:
                result = table.ended((row, split), str(error))
            except RuntimeError as error:  # of torch: out of memory, a number that is too large
                result = table.ended((row, split), f"{type(error).__name__}: {error}")
            else:
                result = table.ended((row, split))
        return result
    # What the others start from has to be there first.
    for branches in (False, True):
        some = [trial for trial in trials if bool(trial[0].branch_at) == branches]
        _train_at_once(table, _prepared(table, some), jobs)
    return table.write()


def _prepared(table: _Table, trials: Sequence[Trial]) -> list[Trial]:
    """The trials whose banks are there, computed one after the other, before several processes want them at once."""
    from moslens.train.student import prepare_shared

    ready: list[Trial] = []
    error_of: dict[str, str] = {}
    prepared: set[str] = set()
    for trial in trials:
        row, config = trial[0].name, table.config(trial)
        # What runs share is that of the row; opinions are those of a split.
        if config.stage == "student" and (row not in prepared or config.distill.holds_opinions):
            prepared.add(row)
            try:
                prepare_shared(config)
                error_of.pop(row, None)
            except MissingExtra:
                raise
            except MoslensError as error:
                error_of[row] = str(error)
        if row in error_of:
            table.ended(trial, error_of[row])
        else:
            ready.append(trial)
    return ready


def _train_at_once(table: _Table, trials: Sequence[Trial], jobs: int) -> None:
    """Train trials in ``jobs`` processes at a time."""
    work = {table.folder(trial): trial for trial in trials}

    def ended(job: Job, lines: str | None) -> None:
        table.ended(work[job.folder], None if lines is None else _error_in(lines))

    train_many([Job(table.config(trial), folder) for folder, trial in work.items()], jobs, resume=True, on_end=ended)


def _error_in(lines: str) -> str:
    """The error in what a training process left: how it ended, and its last messages."""
    how, *messages = lines.splitlines()
    return messages[-1].removeprefix("moslens: ") if messages and how.startswith("exit code") else how


class _Table:
    """The trials of a plan in a folder, and the table over them."""

    def __init__(self, plan: AblationPlan, output: Path, budgets: Budgets) -> None:
        self.plan = plan
        self.output = output
        self.budgets = budgets
        self.dataset = dataset_of(plan.main_row.config(plan.splits[0]).data)
        self.data_hash = self.dataset.data_hash()

    def config(self, trial: Trial) -> TrainConfig:
        return self.plan.config(*trial, self.output)

    def folder(self, trial: Trial) -> Path:
        row, split = trial
        return self.output / row.name / f"split-{split}"

    def refuse_other_run(self, trial: Trial) -> None:
        """CheckpointError where the folder of a trial holds a run of another configuration."""
        run = Run(self.folder(trial))
        changed = config_difference(run.config, self.config(trial)) if run.config_file.exists() else ""
        if changed:
            raise CheckpointError(f"was started with another configuration{changed}", run.folder)

    def finished(self, trial: Trial) -> bool:
        """Whether the run of a trial is trained and measured."""
        run = Run(self.folder(trial))
        return run.metrics_file.is_file() and run.config == self.config(trial)

    def ended(self, trial: Trial, error: str | None = None) -> dict[str, Any]:
        """Write the record of a trial, and the table with it."""
        row, split = trial
        if error is not None:
            log.warning("%s: failed: %s", self.folder(trial), error)
        trial_record = {
            "row": row.name,
            "split": split,
            "error": error,
            "budget": asdict(self.budgets[row.name, split]),
            "config": self.config(trial).to_dict(),
            "part": self.plan.part,
            "figures": None if error is not None else run_figures(self.folder(trial)),
        }
        record.write_result(self._record_file(trial), trial_record)
        return self.write()

    def recorded(self, trial: Trial) -> bool:
        """Whether there is a record of a trial, without an error."""
        file = self._record_file(trial)
        return file.is_file() and read_json(file)["error"] is None

    def _record_file(self, trial: Trial) -> Path:
        return self.folder(trial).with_suffix(".json")

    def write(self) -> dict[str, Any]:
        """The result of all finished runs, written; its own figures are those of the main row."""
        with _turn(self.output):
            result = self._result()
            record.write_result(self.output / f"{self.plan.name}.json", result)
        return result

    def _result(self) -> dict[str, Any]:
        plan = self.plan
        rows = [self._measured(row) for row in plan.rows]
        main = next(row for row in rows if row["name"] == plan.main)
        pictures = self.budgets[plan.main, plan.splits[0]].pictures
        before = [[], *(row["splits"] for row in rows)]
        rows = [
            row
            | against_main(row["splits"], main["splits"], pictures)
            | {"against_previous": paired_summary(row["splits"], previous, pictures)}
            for row, previous in zip(rows, before, strict=False)
        ]
        config = plan.main_row.config(plan.splits[0])
        return record.make_result(
            name=plan.name,
            config={"main": plan.main, "optim": vars(config.optim), "data": vars(config.data)},
            dataset=self.dataset.name,
            protocol=self._protocol(),
            model=plan.main,
            splits=main["splits"],
            seconds=sum(split["seconds"] for row in rows for split in row["splits"]),
            data_hash=self.data_hash,
            kind="recipe" if plan.recipe else "parts",
            part=plan.part,
            rows=rows,
            complete=all(len(row["splits"]) == len(plan.splits) for row in rows),
        )

    def _protocol(self) -> str:
        seeds = ", ".join(map(str, self.plan.splits))
        same = "the same steps and labelled crops for every row"
        budget = "steps and labelled crops by row, see budget" if self.plan.recipe else same
        return f"{self.plan.part} part of splits {seeds}, last epoch, {budget}"

    def _measured(self, row: AblationRow) -> dict[str, Any]:
        splits, failures = [], []
        for seed in self.plan.splits:
            file = self._record_file((row, seed))
            if self.finished((row, seed)):
                epochs = self.budgets[row.name, seed].epochs
                splits.append({"seed": seed, **run_figures(self.folder((row, seed))), "epoch": epochs})
            elif file.is_file() and (error := read_json(file)["error"]) is not None:
                failures.append({"seed": seed, "error": error})
        return {
            "name": row.name,
            "title": row.title,
            "changes": row.changes,
            "budget": asdict(self.budgets[row.name, self.plan.splits[0]]),
            "median": record.summary(splits, statistics.median),
            "mean": record.summary(splits, statistics.fmean),
            "std": record.summary(splits, statistics.pstdev),
            "splits": splits,
            "failures": failures,
        }


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait until no other call writes the table in ``folder``, and let others wait for the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked_folder(folder))
                break
            except OutputError:
                time.sleep(0.05)
        yield


def against_main(
    splits: Sequence[Mapping[str, Any]], main: Sequence[Mapping[str, Any]], pictures: int
) -> dict[str, Any]:
    """SRCC minus that of the main row, paired by split: each difference, and :func:`paired_summary`."""
    of_main = {split["seed"]: split["srcc"] for split in main}
    gaps = {
        str(split["seed"]): split["srcc"] - of_main[split["seed"]]
        for split in splits
        if math.isfinite(split["srcc"] - of_main.get(split["seed"], math.nan))
    }
    return {"srcc_against_main": gaps, "against_main": paired_summary(splits, main, pictures)}


def paired_summary(
    splits: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], pictures: int
) -> dict[str, Any] | None:
    """What the differences of SRCC between two rows say together, on the splits that both have; None without any.

    ``low`` to ``high`` is the 95 % t interval of the mean difference as if splits were independent, ``error`` its
    standard error. ``corrected_low`` to ``corrected_high`` and ``p`` allow for the pictures that splits share, see
    :func:`~moslens.evaluate.significance.corrected_t_test`. pictures: how many a run learns from.
    """
    theirs = {split["seed"]: split["srcc"] for split in others if math.isfinite(split["srcc"])}
    pairs = [(s, theirs[s["seed"]]) for s in splits if s["seed"] in theirs and math.isfinite(s["srcc"])]
    if not pairs:
        return None
    own, other = [split["srcc"] for split, _ in pairs], [srcc for _, srcc in pairs]
    ratio = statistics.fmean(split["n"] for split, _ in pairs) / pictures
    plain, corrected = paired_interval(own, other), paired_interval(own, other, ratio=ratio)
    sign = sign_test(own, other)
    return {
        "splits": len(pairs),
        **asdict(plain),
        "corrected_low": corrected.low,
        "corrected_high": corrected.high,
        "p": corrected_t_test(own, other, ratio).p,
        "wins": sign.wins,
        "losses": sign.losses,
        "ties": sign.ties,
    }


def run_figures(folder: Path) -> dict[str, Any]:
    """The figures of a finished run, the number of pictures and the training time in seconds."""
    run = Run(folder)
    rows = run.predictions(run.metrics()["part"])
    figures = record.split_figures([row.prediction for row in rows], [row.mos for row in rows])
    return {**figures, "n": len(rows), "seconds": run.seconds()}
