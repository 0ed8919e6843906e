"""The student stage: learn opinion scores and, beside them, from the teacher of blocks (method.md 9.7)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor

from moslens.data.crops import QualityBatches
from moslens.errors import CheckpointError, ConfigError
from moslens.train import checkpoint
from moslens.train.config import DataSection, RankSection, TrainConfig
from moslens.train.distill.composite_bank import Bank, BankBatches, open_bank, plan_bank
from moslens.train.distill.ladder_bank import LadderBatches, open_ladders, plan_ladders
from moslens.train.distill.pool import pool_of
from moslens.train.distill.student_task import StudentTask
from moslens.train.distill.targets import bank_targets
from moslens.train.loop import fit, open_run
from moslens.train.networks import build_model, load_teacher
from moslens.train.quality import finish_quality_run, label_facts, labelled_stream, split_of, training_set
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DistillationData:
    """What the D stream draws from: the bank of composites, and the teacher's targets, n x 16 x D.

    ``targets`` and ``teacher``, the hash of its weights, are None where the student's moving average is the teacher.
    """

    bank: Bank
    targets: NDArray[np.float32] | None
    teacher: str | None

    @property
    def width(self) -> int:
        """Channels of a target."""
        return 128 if self.targets is None else int(self.targets.shape[-1])

    def facts(self) -> dict[str, Any]:
        """Hashes of the data, stored in the run."""
        return {"bank": self.bank.digest, "teacher": self.teacher}


class StudentBatches:
    """The Q, D and R streams, one batch of each per step. Any may be missing; ``steps`` per epoch count without Q."""

    def __init__(
        self, q: QualityBatches | None, d: BankBatches | None, steps: int, r: LadderBatches | None = None
    ) -> None:
        self.q = q
        self.d = d
        self.r = r
        self.steps = steps if q is None else q.steps

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[dict[str, Any]]:
        """The batches of an epoch from step ``start`` on, for process ``rank`` of ``world``."""
        for name, stream in (("distill", self.d), ("rank", self.r)):
            if stream is not None and stream.batch % world:
                raise ConfigError(f"{name}.batch {stream.batch} is not a multiple of {world} processes")
        labelled = None if self.q is None else self.q.epoch(epoch, start, rank, world)
        for step in range(start, self.steps):
            batch: dict[str, Any] = {}
            if labelled is not None:
                batch["q"] = next(labelled)
            if self.d is not None:
                batch["d"] = self.d.draw(epoch, step, rank, world)
            if self.r is not None:
                batch["r"] = self.r.draw(epoch, step, rank, world)
            yield batch


def train_student(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    """Train a student and score the test part with the weights of the last epoch.

    Beside the files of the quality stage, writes ``embedding.safetensors``: the projection a~ -> u and the teacher's
    heads that read u. The bank, its targets and the first phase of a schedule are computed where they are not there.
    """
    distill = config.distill
    warms = distill.schedule != "joint" and distill.kd != "none"
    if warms and distill.warm < 1:
        raise ConfigError(f"distill.schedule {distill.schedule} needs distill.warm, the steps of its first phase")
    dataset = training_set(config.data, run)
    split = split_of(dataset, config.data)
    q, labels = labelled_stream(config, dataset, split)
    data = None if distill.kd == "none" else open_distillation_data(config)
    facts = label_facts(dataset, split, labels)
    open_run(run, config, facts | (data.facts() if data else {}), resume=resume)
    joint = distill if distill.schedule != "two-stage" else dataclasses.replace(distill, kd="none", head="distilled")
    d = None
    if data is not None and joint.kd != "none":
        d = BankBatches(data.bank, data.targets, distill.batch, config.seed)
    r = open_rank(config) if config.rank.weight else None
    batches = StudentBatches(q, d, 0, r)
    torch.manual_seed(config.seed)
    width = data.width if data else 128
    task = StudentTask(
        build_model(config.model, pretrained=True),
        joint,
        batches.steps,
        width=width,
        rank=config.rank,
        correlation=config.optim.correlation,
    )
    if warms and data is not None:
        folder = Path(distill.warm_run) if distill.warm_run else run / "warm"
        warm_up(config, data, folder)
        start_from(task, folder)
    if fit(task, batches, config, run):
        save_embedding(task, config, run)
        finish_quality_run(run, dataset, split)


def open_distillation_data(config: TrainConfig) -> DistillationData:
    """The bank and the teacher's targets of a configuration. The main process computes what is not there.

    ConfigError where the teacher's folder is not set, CheckpointError where it holds no finished teacher.
    """
    distill = config.distill
    if not distill.teacher and distill.view != "ema":
        raise ConfigError("distill.teacher, the run folder of a teacher, is not set: --set distill.teacher=RUN")
    teacher = Path(distill.teacher)
    if distill.view != "ema" and not Run(teacher).finished:
        raise CheckpointError("holds no finished teacher: distill.teacher names its run folder", teacher)
    state = PartialState(cpu=not torch.cuda.is_available())
    pool = pool_of(config.bdm)
    plan = plan_bank(pool, config.bdm, config.data.working_size, distill.entries, distill.bank_seed)
    with state.main_process_first():
        bank = open_bank(Path(distill.bank), plan)
        if distill.view == "ema":
            return DistillationData(bank, None, None)
        targets = bank_targets(bank, teacher, distill.view, distill.target)
    return DistillationData(bank, targets, Run(teacher).weights_sha256())


def open_rank(config: TrainConfig) -> LadderBatches:
    """The R stream of a configuration. The main process computes its bank where it is not there."""
    rank = config.rank
    pool = pool_of(config.bdm)
    plan = plan_ladders(pool, config.data.working_size, rank.entries, rank.bank_seed)
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        folder = open_ladders(Path(rank.bank), plan)
    return LadderBatches(folder, rank.batch, rank.versions, config.seed)


def warm_up(config: TrainConfig, data: DistillationData, folder: Path) -> None:
    """Train ``distill.warm`` steps of distillation alone into the run folder ``folder``; a finished one is reused."""
    embedding = Run(folder).embedding_file
    if embedding.is_file():
        log.info("%s: starting from the distillation found there", folder)
    distill = dataclasses.replace(config.distill, schedule="joint", warm_run="")
    alone = dataclasses.replace(
        config,
        data=DataSection(name="", root="", working_size=config.data.working_size),
        optim=dataclasses.replace(config.optim, epochs=1),
        distill=distill,
        rank=RankSection(),
    )
    open_run(folder, alone, data.facts(), resume=True)
    if embedding.is_file():
        return
    d = BankBatches(data.bank, data.targets, distill.batch, config.seed)
    torch.manual_seed(config.seed)
    model = build_model(config.model, pretrained=True)
    task = StudentTask(model, distill, distill.warm, width=data.width)
    if fit(task, StudentBatches(None, d, distill.warm), alone, folder):
        save_embedding(task, alone, folder)
    PartialState().wait_for_everyone()


def start_from(task: StudentTask, folder: Path) -> None:
    """Load the weights of a first phase into a student."""
    run = Run(folder)
    task.model.load_state_dict(run.weights())
    state = run.embedding()
    for prefix, module in (("projection.", task.projection), ("head.", task.head)):
        if module is not None:
            own = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
            module.load_state_dict(own)


def save_embedding(task: StudentTask, config: TrainConfig, run: Path) -> None:
    """Write the projection of a finished student with the teacher's heads, where they can read it, and its own head."""
    tensors: dict[str, Tensor] = {}
    if task.head is not None:
        tensors |= {f"head.{k}": v for k, v in task.head.state_dict().items()}
    if task.projection is not None:
        tensors |= {f"projection.{k}": v for k, v in task.projection.state_dict().items()}
        if config.distill.view != "ema" and config.distill.target == "embedding":
            teacher, _ = load_teacher(Path(config.distill.teacher))
            tensors |= {f"heads.{k}": v for k, v in teacher.heads.state_dict().items()}
    checkpoint.save_tensors(Run(run).embedding_file, tensors)
