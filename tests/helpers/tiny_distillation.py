"""A pristine pool of made pictures, a teacher with random weights and a student configuration, all tiny."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from helpers.pictures import picture
from helpers.tiny_training import ON_POINTS, TINY_MODEL
from moslens.data.sets import load_dataset
from moslens.system.files import write_json
from moslens.train import checkpoint
from moslens.train.config import TrainConfig, from_dict
from moslens.train.distill.composite_bank import BankBatches
from moslens.train.distill.pool import open_pool
from moslens.train.distill.student_task import StudentTask
from moslens.train.loop import fit, open_run
from moslens.train.networks import build_model
from moslens.train.quality import labelled_stream, split_of
from moslens.train.student import StudentBatches, open_distillation_data
from moslens.train.teacher import build_task, teacher_stream


def make_pool(folder: Path, count: int = 12) -> Path:
    """``count`` textured pictures, a quarter of them held out (whichever their names say)."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(picture(240, 250 + number, seed=number)).save(folder / f"{number:02d}.png")
    return folder


def teacher_settings(pool: Path, **teacher: Any) -> TrainConfig:
    """Two epochs of three batches of four views."""
    return from_dict(
        {
            "stage": "teacher",
            "checkpoint_every": 2,
            "model": TINY_MODEL,
            "bdm": {"root": str(pool), "held_out": 0.25},
            "teacher": {"views": 12, **teacher},
            "optim": {"epochs": 2, "batch": 4},
        }
    )


def make_teacher(pool: Path, run: Path, *, seed: int = 0, view: str = "uniform") -> Path:
    """The run folder of a finished teacher that never learned anything."""
    config = dataclasses.replace(teacher_settings(pool, view=view), seed=seed)
    run.mkdir(parents=True)
    write_json(run / "config.json", {"config": config.to_dict()})
    checkpoint.save_tensors(run / "model.safetensors", dict(build_task(config).model.state_dict()))
    return run


def student_config(table: Path, pool: Path, teacher: Path, bank: Path, **distill: Any) -> TrainConfig:
    """Two epochs of four labelled batches of four, each beside two of twelve composites."""
    return from_dict(
        {
            "stage": "student",
            "checkpoint_every": 2,
            "model": TINY_MODEL | {"changes": TINY_MODEL["changes"] | {"baf": "full"}},
            "data": {"name": str(table), "root": str(table.parent), "split": 0, **ON_POINTS},
            "optim": {"epochs": 2, "batch": 4},
            "bdm": {"root": str(pool), "held_out": 0.25},
            "distill": {
                "teacher": str(teacher),
                "bank": str(bank),
                "entries": 12,
                "batch": 2,
                "queue": 20,
                **distill,
            },
        }
    )


def write_student_config(path: Path, table: Path, pool: Path, teacher: Path, *, epochs: int) -> None:
    """A configuration file with a checkpoint after every step, for the command line."""
    path.write_text(
        f"""stage = "student"
checkpoint_every = 1
[model]
weights = ""
changes = {{backbone = "test_efficientnet", dim = 24, heads = 2, baf = "full"}}
[data]
name = "{table}"
root = "{table.parent}"
mos_range = [0, 100]
direction = "higher"
[bdm]
root = "{pool}"
held_out = 0.25
[distill]
teacher = "{teacher}"
bank = "{path.parent / "bank"}"
entries = 12
batch = 2
[optim]
epochs = {epochs}
batch = 4
""",
        encoding="utf-8",
    )


def run_teacher_fit(config: TrainConfig, run: Path, stop_after: int | None = None) -> None:
    """The teacher's training, stoppable."""
    pool = open_pool(config.bdm.root, held_out=config.bdm.held_out)
    open_run(run, config, {"pool": pool.facts()}, resume=True)
    fit(build_task(config), teacher_stream(config, pool), config, run, stop_after=stop_after)


def run_student_fit(config: TrainConfig, run: Path, stop_after: int | None = None) -> bool:
    """The student's joint phase, stoppable."""
    dataset = load_dataset(config.data.name, Path(config.data.root))
    q, _ = labelled_stream(config, dataset, split_of(dataset, config.data))
    composites = open_distillation_data(config)
    d = BankBatches(composites.bank, composites.targets, config.distill.batch, config.seed)
    open_run(run, config, {"labels": {"mean": 0.0, "std": 1.0}}, resume=True)
    torch.manual_seed(7)
    batches = StudentBatches(q, d, 0)
    task = StudentTask(build_model(config.model, pretrained=True), config.distill, batches.steps)
    return fit(task, batches, config, run, stop_after=stop_after)
