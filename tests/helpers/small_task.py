"""A training task of milliseconds, with dropout, stochastic depth and batch norm, and its batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from moslens.system.interrupts import Stopped
from moslens.train.config import TrainConfig, from_dict
from moslens.train.loop import fit, open_run

FACTS = {"labels": {"mean": 50.0, "std": 10.0}, "train_pictures": 20}


class SmallModel(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.3)
        self.path = DropPath(0.3)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(self.body(x))
        return self.head(self.drop((seen + self.path(seen.relu())).mean((2, 3))))[:, 0]


class SmallTask(nn.Module):
    """``extra``: a further layer, as a distillation has one."""

    def __init__(self, *, width: int = 8, extra: bool = False) -> None:
        super().__init__()
        self.model = SmallModel(width)
        self.extra = nn.Linear(1, 1) if extra else None

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        score = self.model(batch[0])
        loss = (score - batch[1]).square().mean()
        if self.extra is not None:
            loss = loss + (self.extra(score[:, None])[:, 0] - batch[1]).square().mean()
        return {"loss": loss}


class SmallBatches:
    """Batches of four that depend on epoch and step alone; ``before(epoch, step, rank)`` runs before each."""

    def __init__(self, steps: int = 5, before: Callable[[int, int, int], None] | None = None) -> None:
        self.steps = steps
        self.before = before

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(start, self.steps):
            if self.before is not None:
                self.before(epoch, step, rank)
            rng = np.random.default_rng((epoch, step))
            pictures = torch.from_numpy(rng.normal(size=(4, 3, 9, 9)).astype(np.float32))
            labels = torch.from_numpy(rng.normal(size=4).astype(np.float32))
            yield pictures[rank::world], labels[rank::world]


def small_config(tree: dict[str, Any] | None = None, **optim: Any) -> TrainConfig:
    """Four epochs, a checkpoint every hundredth step."""
    return from_dict({"optim": {"epochs": 4, "batch": 4, **optim}, **(tree or {})})


def small_fit(
    config: TrainConfig,
    run: Path,
    *,
    stop_after: int | None = None,
    batches: SmallBatches | None = None,
    task: SmallTask | None = None,
    facts: dict[str, Any] | None = None,
) -> bool:
    """Train into ``run``, from its checkpoint where there is one."""
    open_run(run, config, facts or FACTS, resume=True)
    if task is None:
        torch.manual_seed(5)
        task = SmallTask()
    return fit(task, batches or SmallBatches(), config, run, stop_after=stop_after)


def fit_and_stop_one_process(config: TrainConfig, run: Path) -> None:
    """Train in two processes, of which the second gets SIGTERM before step 7; both must stop after the same step."""

    def before(epoch: int, step: int, rank: int) -> None:
        if (epoch, step, rank) == (1, 1, 1):
            os.kill(os.getpid(), 15)

    rank = int(os.environ["RANK"])
    try:
        small_fit(config, run, batches=SmallBatches(before=before))
    except Stopped as stop:
        (run.parent / f"stopped-{rank}").write_text(str(stop.signal))
