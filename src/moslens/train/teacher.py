"""The teacher stage: learn kinds and levels of distortions on pristine photos (method.md 9.4), then measure it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from moslens.distortions import kind_names
from moslens.model.teacher import Teacher
from moslens.system.files import write_json
from moslens.train.config import TrainConfig
from moslens.train.distill.pool import Pool, pool_of
from moslens.train.distill.region_views import DegradedViews, ViewBatches
from moslens.train.distill.teacher_exam import measure_composites, measure_views
from moslens.train.distill.teacher_task import TeacherTask
from moslens.train.networks import load_teacher, teacher_config
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)


def teacher_stream(config: TrainConfig, pool: Pool) -> ViewBatches:
    """Batches of degraded views of the pool's training part."""
    views = DegradedViews(pool.root, pool.train, config.teacher, config.bdm, config.data.working_size, config.seed)
    return ViewBatches(views, config.optim.batch, config.data.workers)


def build_task(config: TrainConfig) -> TeacherTask:
    """The task with its initial weights, which depend on the seed."""
    torch.manual_seed(config.seed)
    teacher = Teacher(teacher_config(config), config.model.weights or None)
    return TeacherTask(teacher, config.teacher.smoothing, config.teacher.level_weight)


def train_teacher(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    """Train the teacher; write its weights and ``card.json`` with its accuracies on held-out photos."""
    from moslens.train.loop import fit, open_run

    pool = pool_of(config.bdm)
    facts = {"pool": pool.facts(), "kinds": list(kind_names(config.bdm.kinds))}
    open_run(run, config, facts, resume=resume)
    task = build_task(config)
    if fit(task, teacher_stream(config, pool), config, run):
        write_card(config, pool, run)


def write_card(config: TrainConfig, pool: Pool, run: Path) -> None:
    """Measure a finished teacher on held-out photos and write ``card.json``: its settings, data and accuracies."""
    card = {
        "model": dataclasses.asdict(teacher_config(config, Run(run).kinds)),
        "view": config.teacher.view,
        "data": "crops of pristine photos, degraded by moslens.distortions; no opinion score was used",
        "pool": pool.facts(),
        "sha256": Run(run).weights_sha256(),
        "training": config.to_dict(),
    }
    write_json(Run(run).card_file, card)
    teacher, _ = load_teacher(run)
    log.info("measuring on %d held-out photos", len(pool.held_out))
    card["held_out"] = measure_views(
        teacher, pool, config.data.working_size, config.teacher.view, config.teacher.examined
    )
    card["composites"] = measure_composites(teacher, pool, config.data.working_size, 25 * config.teacher.examined)
    write_json(Run(run).card_file, card)
