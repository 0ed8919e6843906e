"""What a person sees of a run in training: a bar on a terminal, lines of the log elsewhere, TensorBoard."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from moslens.system.text import printable
from moslens.train.config import TrainConfig
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)

LINE_EVERY = 30.0
"""Seconds between lines of the log away from a terminal; there is one at the end of each epoch too."""

Show = Callable[[Mapping[str, Any]], None]


@contextmanager
def watch(run: Path, config: TrainConfig, first: int, total: int, steps: int) -> Iterator[Show]:
    """Yield a function that shows a row of the log. ``first``: steps done; ``steps`` of the ``total`` make an epoch.

    Where the package tensorboard is installed, rows go to ``RUN/tensorboard`` too.
    """
    with ExitStack() as stack:
        if sys.stderr.isatty():
            shows = [stack.enter_context(_bar(run.name, config, first, total))]
        else:
            shows = [_lines(config, first, total, steps)]
        write = _tensorboard(Run(run), first, stack)
        if write is not None:
            shows.append(write)

        def show(row: Mapping[str, Any]) -> None:
            for one in shows:
                one(row)

        yield show


@contextmanager
def _bar(name: str, config: TrainConfig, first: int, total: int) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(printable(f"training {name}"), total=total, completed=first, figures="")
        yield lambda row: bar.update(task, completed=row["step"], figures=figures_of(row, config))


def _lines(config: TrainConfig, first: int, total: int, steps: int) -> Show:
    started = last = time.monotonic()

    def show(row: Mapping[str, Any]) -> None:
        nonlocal last
        now, step = time.monotonic(), row["step"]
        if now - last < LINE_EVERY and step % steps and step != total:
            return
        last = now
        left = (now - started) / (step - first) * (total - step)
        epoch = f"epoch {-(-step // steps)} of {config.optim.epochs}"
        log.info("step %d of %d (%s): %s, %s left", step, total, epoch, figures_of(row, config), duration(left))

    return show


def figures_of(row: Mapping[str, Any], config: TrainConfig) -> str:
    """Loss and learning rate of the new layers, of a row of the log."""
    return f"loss {row['loss']:.4f}, rate {row['rate'] * config.optim.lr_new:.1e}"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _tensorboard(run: Run, first: int, stack: ExitStack) -> Show | None:
    """A function that writes rows for TensorBoard; None where that is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What a killed run wrote after its checkpoint is replaced.
    writer = SummaryWriter(run.tensorboard_folder, purge_step=first + 1)
    stack.callback(writer.close)

    def show(row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name not in ("step", "of"):
                writer.add_scalar(name, value, row["step"])

    return show
