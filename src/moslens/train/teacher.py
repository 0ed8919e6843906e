"""The teacher stage: learn kinds and levels of distortions on pristine photos, then write the teacher's card."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from moslens.distill.pool import Pool, open_pool
from moslens.distill.teacher import TeacherTask, measure_composites, measure_views
from moslens.distill.views import DegradedViews, ViewBatches
from moslens.errors import CheckpointError, ConfigError
from moslens.model.shdiqa import CONFIGS
from moslens.model.teacher import VIEWS, Teacher, TeacherConfig
from moslens.train import checkpoint
from moslens.train.config import TrainConfig, from_dict

log = logging.getLogger(__name__)


def teacher_config(config: TrainConfig) -> TeacherConfig:
    """The teacher's network: the backbone of the model configuration. ConfigError for an unknown one."""
    if config.model.config not in CONFIGS:
        raise ConfigError(f"no model configuration {config.model.config!r}: one of {', '.join(CONFIGS)}")
    fields = vars(CONFIGS[config.model.config]) | config.model.changes
    return TeacherConfig(
        backbone=fields["backbone"],
        dim=fields["dim"],
        statistics=config.teacher.statistics,
        reference=config.teacher.view == "reference",
        fold=fields["fold"],
    )


def teacher_stream(config: TrainConfig, pool: Pool) -> ViewBatches:
    """Degraded views of the pool's training part."""
    views = DegradedViews(pool.root, pool.train, config.teacher, config.bdm, config.data.working_size, config.seed)
    return ViewBatches(views, config.optim.batch, config.data.workers)


def build_task(config: TrainConfig) -> TeacherTask:
    """The task with its starting weights, which the seed decides."""
    if config.teacher.view not in VIEWS[:-1]:
        raise ConfigError(f"teacher.view is one of {', '.join(VIEWS[:-1])}, not {config.teacher.view!r}")
    torch.manual_seed(config.seed)
    teacher = Teacher(teacher_config(config), config.model.weights or None)
    return TeacherTask(teacher, config.teacher.smoothing, config.teacher.level_weight)


def train_teacher(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    """Train the teacher as configured; leave its weights and ``card.json``, with accuracies on held-out photos."""
    from moslens.train.loop import fit, open_run

    pool = open_pool(config.bdm.root, held_out=config.bdm.held_out)
    facts = {"pool": pool.facts()}
    open_run(run, config, facts, resume=resume)
    task = build_task(config)
    if fit(task, teacher_stream(config, pool), config, run):
        write_card(config, pool, run)


def write_card(config: TrainConfig, pool: Pool, run: Path) -> None:
    """Measure a finished teacher and say on its card what it is, what it saw and what it knows."""
    card = {
        "model": dataclasses.asdict(teacher_config(config)),
        "view": config.teacher.view,
        "data": "crops of pristine photos, degraded by moslens.distortions; no opinion score was used",
        "pool": pool.facts(),
        "sha256": checkpoint.file_sha256(run / "model.safetensors"),
        "training": config.to_dict(),
    }
    checkpoint.write_json(run / "card.json", card)
    teacher, _ = load_teacher(run)
    log.info("measuring on %d held-out photos", len(pool.held_out))
    card["held_out"] = measure_views(
        teacher, pool, config.data.working_size, config.teacher.view, config.teacher.examined
    )
    card["composites"] = measure_composites(teacher, pool, config.data.working_size, 25 * config.teacher.examined)
    checkpoint.write_json(run / "card.json", card)


def load_teacher(run: Path) -> tuple[Teacher, TrainConfig]:
    """The finished teacher of a run folder, frozen and in eval mode, and its configuration. CheckpointError if none."""
    content = checkpoint.read_json(run / "config.json")
    config = from_dict(content["config"], run / "config.json")
    if config.stage != "teacher":
        raise CheckpointError(f"is not the run of a teacher but of stage {config.stage}", run)
    teacher = Teacher(teacher_config(config))
    teacher.load_state_dict(checkpoint.load_tensors(run / "model.safetensors"))
    teacher.requires_grad_(False)
    return teacher.eval().to(memory_format=torch.channels_last), config
