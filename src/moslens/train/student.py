"""The student stage: learn opinion scores and, beside them, from the teacher of blocks (method.md 9.7)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor

from moslens.data.labelled_views import QualityBatches
from moslens.data.records import Dataset
from moslens.data.roles import refuse_labelled
from moslens.data.split import Split
from moslens.distortions import PAPER_KINDS, kind_names
from moslens.distortions.harmless import TURNS_GREY
from moslens.errors import CheckpointError, ConfigError
from moslens.picture.windows import WINDOW
from moslens.train import checkpoint
from moslens.train.config import BranchSection, DataSection, HarmlessSection, RankSection, TrainConfig
from moslens.train.distill.bank_opinions import ViewOpinionBatches
from moslens.train.distill.bank_references import bank_references
from moslens.train.distill.composite_bank import Bank, BankBatches, BankReferences, open_bank, plan_bank
from moslens.train.distill.fit_correction import fit_correction
from moslens.train.distill.harmless_pairs import HarmlessBatches, open_harmless
from moslens.train.distill.ladder_bank import LadderBank, LadderBatches, LadderPlan, open_ladders, plan_ladders
from moslens.train.distill.named_kinds import named_kinds
from moslens.train.distill.opinion_teachers import find_teachers, require_student_photos
from moslens.train.distill.opinions import Opinions, OpinionStreams, compute_opinions
from moslens.train.distill.photo_opinions import PhotoBatches, photos_hash
from moslens.train.distill.pool import pictures_in, pool_of, unlabelled_photos
from moslens.train.distill.student_task import StudentTask
from moslens.train.distill.targets import bank_targets
from moslens.train.loop import fit, open_run
from moslens.train.networks import build_model, load_teacher
from moslens.train.precision import mixed_precision
from moslens.train.quality import (
    dataset_of,
    finish_quality_run,
    label_facts,
    labelled_stream,
    point_of,
    split_of,
    training_labels,
    training_set,
)
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)

_BATCH = {
    "d": "distill.batch",
    "r": "rank.batch",
    "p": "distill.photo_batch",
    "v": "distill.view_batch",
    "h": "harmless.batch",
}
"""The setting that gives the batch of each stream."""


@dataclasses.dataclass(frozen=True)
class DistillationData:
    """What the D stream draws from: the bank of composites, and the teacher's targets, n x 16 x D.

    ``targets`` and ``teacher``, the hash of its weights, are None where the student's moving average is the teacher,
    and where the teachers are those of opinions alone.
    ``kinds``: those that the student's head will know, see :func:`head_kinds`. ``references``: None where no loss
    reads them.
    """

    bank: Bank
    targets: NDArray[np.float32] | None
    teacher: str | None
    kinds: tuple[str, ...] = PAPER_KINDS
    references: BankReferences | None = None

    @property
    def width(self) -> int:
        """Channels of a target."""
        return 128 if self.targets is None else int(self.targets.shape[-1])

    def facts(self) -> dict[str, Any]:
        """Hashes of the data and the kinds of the head, stored in the run."""
        return {"bank": self.bank.digest, "teacher": self.teacher, "kinds": list(self.kinds)}


class Drawn(Protocol):
    """A stream of which each step draws a batch by its address. ``batch``: pictures or entries of a whole batch."""

    batch: int

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> Any:
        """The part of a batch that process ``rank`` of ``world`` trains on."""


class StudentBatches:
    """The Q, D, R, P, V and H streams, a batch of each a step. Any may be missing; ``steps``: an epoch, without Q."""

    def __init__(
        self,
        q: QualityBatches | None,
        d: BankBatches | None,
        steps: int,
        r: LadderBatches | None = None,
        p: PhotoBatches | None = None,
        v: ViewOpinionBatches | None = None,
        h: HarmlessBatches | None = None,
    ) -> None:
        self.q = q
        drawn: dict[str, Drawn | None] = {"d": d, "r": r, "p": p, "v": v, "h": h}
        self.drawn = {name: stream for name, stream in drawn.items() if stream is not None}
        self.steps = steps if q is None else q.steps

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[dict[str, Any]]:
        """The batches of an epoch from step ``start`` on, for process ``rank`` of ``world``."""
        for name, stream in self.drawn.items():
            if stream.batch % world:
                raise ConfigError(f"{_BATCH[name]} {stream.batch} is not a multiple of {world} processes")
        labelled = None if self.q is None else self.q.epoch(epoch, start, rank, world)
        for step in range(start, self.steps):
            batch: dict[str, Any] = {}
            if labelled is not None:
                batch["q"] = next(labelled)
            yield batch | {name: stream.draw(epoch, step, rank, world) for name, stream in self.drawn.items()}


def train_student(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    """Train a student and score the test part with the weights of the last epoch.

    Beside the files of the quality stage, writes ``embedding.safetensors``: the projection a~ -> u and the teacher's
    heads that read u. The bank, its targets and the first phase of a schedule are computed where they are not there.
    """
    distill = config.distill
    warms = distill.schedule != "joint" and distill.kd != "none"
    if warms and distill.warm < 1:
        raise ConfigError(f"distill.schedule {distill.schedule} needs distill.warm, the steps of its first phase")
    corrects = bool(config.model.changes.get("correction"))
    _check_correction(config, corrects=corrects)
    dataset = training_set(config.data, run)
    split = split_of(dataset, config.data)
    require_own_photos(config, dataset)
    opinions = open_opinions(config, dataset, split) if distill.holds_opinions else None
    q, labels = labelled_stream(config, dataset, split)
    data = open_distillation_data(config) if distill.needs_bank else None
    photos = unlabelled_photos(pool_of(config.bdm), distill.photos) if config.harmless.weight else ()
    facts = label_facts(dataset, split, labels) | (data.facts() if data else {})
    facts |= (opinions.facts() if opinions else {}) | ({"harmless": photos_hash(photos)} if photos else {})
    open_run(run, config, facts, resume=resume)
    joint = distill if distill.schedule != "two-stage" else dataclasses.replace(distill, kd="none", head="distilled")
    streams = OpinionStreams() if opinions is None else opinions.streams(config, labels)
    d = None
    if data is not None and (joint.kd != "none" or data.references is not None or streams.blocks is not None):
        d = BankBatches(data.bank, data.targets, distill.batch, config.seed, streams.blocks, data.references)
    r = open_rank(config, dataset, split) if config.rank.weight else None
    decoded = None if streams.photos is None else streams.photos.views
    h = open_harmless(config, q.stream, photos, decoded) if photos else None
    torch.manual_seed(config.seed)
    width = data.width if data else 128
    model = build_model(config.model, pretrained=True)
    batches = StudentBatches(q, d, 0, None if corrects else r, streams.photos, streams.views, h)
    rank, point = rank_in_label_units(config, dataset, split), point_of(dataset, labels)
    task = StudentTask(
        model,
        joint,
        batches.steps,
        width=width,
        kinds=data.kinds if data else PAPER_KINDS,
        rank=dataclasses.replace(rank, weight=0.0) if corrects else rank,
        harmless=config.harmless,
        point=point,
        correlation=config.optim.correlation,
        mirror=config.optim.mirror,
    )
    if warms and data is not None:
        folder = Path(distill.warm_run) if distill.warm_run else run / "warm"
        warm_up(config, data, folder)
        start_from(task, folder)

    def correct() -> None:
        if corrects and r is not None:
            pairs = None if h is None else h.pairs
            half = mixed_precision(config.optim.precision) == "bf16"
            fit_correction(model, q.stream, r, pairs, rank, config.harmless, point, config.seed, half=half)

    if fit(task, batches, config, run, finish=correct):
        save_embedding(task, config, run)
        finish_quality_run(run, dataset, split)


def train_distillation(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    """Train ``distill.warm`` steps of distillation alone: a run without scores, whose body others can start with.

    ConfigError where no step or no loss is set, CheckpointError where the folder holds a run and ``resume`` is false.
    """
    if config.distill.warm < 1 or config.distill.kd == "none":
        raise ConfigError("the stage distillation needs distill.warm, its steps, and a loss, distill.kd")
    warm_up(config, open_distillation_data(config), run, resume=resume)


def _check_correction(config: TrainConfig, *, corrects: bool) -> None:
    if corrects and not config.rank.weight:
        raise ConfigError("a model with a correction learns it from ladders: it needs rank.weight above 0")
    if corrects and config.rank.blocks:
        raise ConfigError("rank.blocks is for ladders that the network learns: with a correction it is 0")


def prepare_shared(config: TrainConfig) -> None:
    """Compute what runs of a configuration share, before several of them start at once.

    That is the bank, its targets, the opinions for this split, the ladders and a first phase with a folder of its own.
    """
    distill = config.distill
    if distill.holds_opinions:
        dataset = dataset_of(config.data)
        require_own_photos(config, dataset)
        open_opinions(config, dataset, split_of(dataset, config.data))
    if distill.needs_bank:
        data = open_distillation_data(config)
        if distill.kd != "none" and distill.schedule != "joint" and distill.warm_run:
            warm_up(config, data, Path(distill.warm_run))
    if config.rank.weight:
        dataset = dataset_of(config.data)
        open_rank(config, dataset, split_of(dataset, config.data))


def open_distillation_data(config: TrainConfig) -> DistillationData:
    """The bank and the teacher's targets of a configuration. The main process computes what is not there.

    ConfigError where the teacher's folder is not set, CheckpointError where it holds no finished teacher.
    """
    distill = config.distill
    asks = distill.kd != "none" and distill.view != "ema"
    if not distill.teacher and asks:
        raise ConfigError("distill.teacher, the run folder of a teacher, is not set: --set distill.teacher=RUN")
    teacher = Path(distill.teacher)
    if asks and not Run(teacher).finished:
        raise CheckpointError("holds no finished teacher: distill.teacher names its run folder", teacher)
    with _main_process_first():
        bank = bank_of(config)
        references = bank_references(bank) if distill.needs_references else None
        if distill.view == "ema" or not asks:
            return DistillationData(bank, None, None, head_kinds(config), references)
        targets = bank_targets(bank, teacher, distill.view, distill.target)
    return DistillationData(bank, targets, Run(teacher).weights_sha256(), head_kinds(config), references)


def head_kinds(config: TrainConfig) -> tuple[str, ...]:
    """The kinds that the head of a student knows: its teacher's, or those of its composites for a supervised head."""
    distill = config.distill
    if distill.kd == "none" or distill.head == "supervised" or distill.view == "ema":
        return kind_names(config.bdm.kinds)
    return Run(Path(distill.teacher)).kinds


def bank_of(config: TrainConfig) -> Bank:
    """The bank of composites of a configuration, built where it is not there."""
    distill = config.distill
    plan = plan_bank(pool_of(config.bdm), config.bdm, config.data.working_size, distill.entries, distill.bank_seed)
    return open_bank(Path(distill.bank), plan)


def open_opinions(config: TrainConfig, dataset: Dataset, split: Split) -> Opinions:
    """The opinions that a student learns. The main process computes what is not there.

    ConfigError where a run of ``distill.opinions`` did not learn from exactly the student's labelled photos.
    """
    teachers = find_teachers(config.distill.opinions, config.data.split)
    facts = label_facts(dataset, split, training_labels(config.data, dataset, split))
    require_student_photos(teachers, config, facts)
    with _main_process_first():
        bank = bank_of(config) if config.distill.lambda_v or config.distill.lambda_b else None
        return compute_opinions(config.distill, teachers, pool_of(config.bdm), dataset, split, bank)


def require_own_photos(config: TrainConfig, dataset: Dataset) -> None:
    """ConfigError where photos without scores that the student sees are pictures of its data set."""
    distill = config.distill
    if distill.needs_bank or distill.holds_opinions or config.rank.weight or config.harmless.weight:
        pool = pool_of(config.bdm)
        refuse_labelled((pool.root / name for name in (*pool.train, *pool.held_out)), dataset)
        for folder in map(Path, distill.photos):
            refuse_labelled((folder / name for name in pictures_in(folder)), dataset)


def _main_process_first() -> AbstractContextManager[None]:
    found: AbstractContextManager[None] = PartialState(cpu=not torch.cuda.is_available()).main_process_first()
    return found


def open_rank(config: TrainConfig, dataset: Dataset, split: Split) -> LadderBatches:
    """The R stream of a configuration. The main process computes its banks where they are not there."""
    rank = config.rank
    if rank.size != WINDOW and config.data.view != "whole":
        raise ConfigError(f"rank.size {rank.size} is for data.view whole: windows are of {WINDOW} px")
    pool = pool_of(config.bdm)
    bdm = config.bdm
    size, named = config.data.working_size, rank_kinds(config)
    plan = plan_ladders(
        pool, size, rank.entries, rank.bank_seed, named, bdm.kinds, bdm.implementations, rank.size, rank.often
    )
    own = labelled_ladders(plan, dataset, rank.labelled) if rank.labelled else None
    with _main_process_first():
        bank = LadderBank(open_ladders(Path(rank.bank), plan))
        labelled = None
        if own is not None:
            labelled = LadderBank(open_ladders(Path(rank.labelled_bank), own), own_ladders(own, dataset, split))
    return LadderBatches(
        bank, rank.batch, rank.versions, config.seed, with_clean=rank.clean_margin > 0, labelled=labelled
    )


def labelled_ladders(plan: LadderPlan, dataset: Dataset, entries: int) -> LadderPlan:
    """The plan of a bank of ladders like ``plan``, of all photos of a data set: one bank for all splits."""
    names = tuple(str(sample.path.absolute()) for sample in dataset.samples)
    return dataclasses.replace(
        plan, root=dataset.root, names=names, data_hash=dataset.data_hash(), entries=entries, seed=plan.seed + 1
    )


def own_ladders(plan: LadderPlan, dataset: Dataset, split: Split) -> NDArray[np.int64]:
    """The entries of :func:`labelled_ladders` that are of the better half of the training photos of a split.

    That a bad photo gets worse by a fault more can hardly be seen, so the worse half has no ladders.
    """
    mean = float(np.mean([dataset.samples[i].mos for i in split.train]))
    own = {str(dataset.samples[i].path.absolute()) for i in split.train if dataset.samples[i].mos >= mean}
    return np.array([index for index in range(plan.entries) if plan.photo(index) in own], dtype=np.int64)


def rank_kinds(config: TrainConfig) -> tuple[str, ...]:
    """The kinds or groups that ladders are made of, as ``rank.kinds``.

    Where black and white is harmless, the kinds that end in it are left out. ConfigError where no other kind is left.
    """
    named = config.rank.kinds
    if not config.harmless.weight:
        return named
    every = named_kinds(named, "rank.kinds") or kind_names(config.bdm.kinds)
    kept = tuple(name for name in every if name not in TURNS_GREY)
    if not kept:
        raise ConfigError(
            f"rank.kinds {', '.join(every)} ends in black and white, which harmless.weight calls no fault"
        )
    return kept


def rank_in_label_units(config: TrainConfig, dataset: Dataset, split: Split) -> RankSection:
    """The section ``rank``, whose margins and floor are in standard deviations, in the units that the run learns."""
    rank = config.rank
    if config.data.standardise or not rank.weight:
        return rank
    labels = training_labels(dataclasses.replace(config.data, standardise=True), dataset, split)
    return dataclasses.replace(
        rank,
        margin=rank.margin * labels.std,
        clean_margin=rank.clean_margin * labels.std,
        floor=labels.mean + rank.floor * labels.std,
    )


def warm_up(config: TrainConfig, data: DistillationData, folder: Path, *, resume: bool = True) -> None:
    """Train ``distill.warm`` steps of distillation alone into the run folder ``folder``; a finished one is reused.

    CheckpointError where the folder holds a run and ``resume`` is false.
    """
    embedding = Run(folder).embedding_file
    distill = dataclasses.replace(config.distill.without_opinions(), schedule="joint", warm_run="")
    alone = dataclasses.replace(
        config,
        data=DataSection(name="", root="", working_size=config.data.working_size),
        optim=dataclasses.replace(config.optim, epochs=1, average=0),
        distill=distill,
        rank=RankSection(),
        harmless=HarmlessSection(),
        branch=BranchSection(),
        keep_at=0.0,
    )
    open_run(folder, alone, data.facts(), resume=resume)
    if embedding.is_file():
        log.info("%s: the distillation there is finished", folder)
        return
    d = BankBatches(data.bank, data.targets, distill.batch, config.seed, references=data.references)
    torch.manual_seed(config.seed)
    model = build_model(config.model, pretrained=True)
    task = StudentTask(model, distill, distill.warm, width=data.width, kinds=data.kinds)
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
