"""Build the networks of a configuration, and load those of finished runs."""

from __future__ import annotations

from pathlib import Path

import torch

from moslens.distortions import kind_names
from moslens.errors import CheckpointError, ConfigError
from moslens.model import SHDIQA, build
from moslens.model.shdiqa import CONFIGS, PictureScorer
from moslens.model.teacher import Teacher, TeacherConfig
from moslens.picture.windows import View
from moslens.train.config import ModelSection, TrainConfig
from moslens.train.run_folder import Run


def teacher_config(config: TrainConfig, kinds: tuple[str, ...] | None = None) -> TeacherConfig:
    """The teacher of a training configuration; it has the backbone of the model. ConfigError for an unknown model.

    kinds: those of a finished teacher, by default the ones that the configuration trains.
    """
    if config.model.config not in CONFIGS:
        raise ConfigError(f"no model configuration {config.model.config!r}: one of {', '.join(CONFIGS)}")
    fields = vars(CONFIGS[config.model.config]) | config.model.changes
    return TeacherConfig(
        backbone=fields["backbone"],
        dim=fields["dim"],
        statistics=config.teacher.statistics,
        reference=config.teacher.view == "reference",
        fold=fields["fold"],
        kinds=kind_names(config.bdm.kinds) if kinds is None else kinds,
    )


def load_teacher(run: Path) -> tuple[Teacher, TrainConfig]:
    """The finished teacher of a run folder, frozen and in eval mode, and its configuration.

    CheckpointError for a run of another stage or one that is not finished.
    """
    folder = Run(run)
    config = folder.config
    if config.stage != "teacher":
        raise CheckpointError(f"is not the run of a teacher but of stage {config.stage}", run)
    teacher = Teacher(teacher_config(config, folder.kinds))
    teacher.load_state_dict(folder.weights())
    teacher.requires_grad_(False)
    return teacher.eval().to(memory_format=torch.channels_last), config


def load_run(run: Path) -> tuple[PictureScorer, TrainConfig]:
    """The finished model of a run folder, as a scorer in MOS units, and its configuration.

    CheckpointError for a run of a stage without scores or one that is not finished.
    """
    folder = Run(run)
    folder.require_scores()
    config = folder.config
    model = load_network(folder)
    view = View(whole=config.data.view == "whole", working_size=config.data.working_size)
    return PictureScorer(model, **folder.labels, view=view).eval(), config


def load_network(run: Run) -> SHDIQA:
    """The network of a finished run of any stage but teacher. CheckpointError for one that is not finished."""
    model = build_model(run.config.model, pretrained=False)
    model.load_state_dict(run.weights())
    model.eval().to(memory_format=torch.channels_last)
    return model


def build_model(section: ModelSection, *, pretrained: bool) -> SHDIQA:
    """The model of a configuration, with its pretrained weights, or random ones where a run's are to be loaded."""
    weights = section.weights or None
    return build(section.config, weights=weights if pretrained else None, **section.changes)
