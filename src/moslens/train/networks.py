"""The networks of a configuration, and those of finished runs."""

from __future__ import annotations

from pathlib import Path

import torch

from moslens.errors import CheckpointError, ConfigError
from moslens.model import SHDIQA, build
from moslens.model.shdiqa import CONFIGS, WindowScorer
from moslens.model.teacher import Teacher, TeacherConfig
from moslens.train.config import ModelSection, TrainConfig
from moslens.train.run_folder import Run


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


def load_teacher(run: Path) -> tuple[Teacher, TrainConfig]:
    """The finished teacher of a run folder, frozen and in eval mode, and its configuration. CheckpointError if none."""
    folder = Run(run)
    config = folder.config
    if config.stage != "teacher":
        raise CheckpointError(f"is not the run of a teacher but of stage {config.stage}", run)
    teacher = Teacher(teacher_config(config))
    teacher.load_state_dict(folder.weights())
    teacher.requires_grad_(False)
    return teacher.eval().to(memory_format=torch.channels_last), config


def load_run(run: Path) -> tuple[WindowScorer, TrainConfig]:
    """The finished network of a run folder, in MOS units, and its configuration. CheckpointError if not finished."""
    folder = Run(run)
    config = folder.config
    if config.stage == "teacher":
        raise CheckpointError("is the run of a teacher, which gives no scores", run)
    model = build_model(config.model, pretrained=False)
    model.load_state_dict(folder.weights())
    model.eval().to(memory_format=torch.channels_last)
    return WindowScorer(model, **folder.labels).eval(), config


def build_model(section: ModelSection, *, pretrained: bool) -> SHDIQA:
    """The network of a configuration, with its starting weights or (to be filled from a run) without."""
    weights = section.weights or None
    return build(section.config, weights=weights if pretrained else None, **section.changes)
