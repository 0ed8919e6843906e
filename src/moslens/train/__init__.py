"""Training (needs the ``train`` extra)."""

from pathlib import Path

from moslens.errors import ConfigError
from moslens.train.config import TrainConfig, load_config, require_weights

__all__ = ["TrainConfig", "load_config", "train"]


def train(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    """Train what ``config.stage`` names into the folder ``run``. ConfigError for an unknown stage.

    With ``resume``, a run that was interrupted continues from its newest checkpoint. CheckpointError, before anything
    is written, where ``model.weights`` names no file.
    """
    require_weights(config.model.weights)
    if config.stage == "quality":
        from moslens.train.quality import train_quality

        train_quality(config, run, resume=resume)
    elif config.stage == "teacher":
        from moslens.train.teacher import train_teacher

        train_teacher(config, run, resume=resume)
    elif config.stage == "distillation":
        from moslens.train.student import train_distillation

        train_distillation(config, run, resume=resume)
    elif config.stage == "student":
        from moslens.train.student import train_student

        train_student(config, run, resume=resume)
    else:
        raise ConfigError(f"no training stage {config.stage!r}: one of quality, teacher, distillation, student")
