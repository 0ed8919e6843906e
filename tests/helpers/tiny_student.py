"""A student with maps, trained for a few steps and exported: the whole path, tiny."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from helpers.tiny_distillation import make_pool, make_teacher, student_config
from helpers.tiny_training import make_labelled
from moslens.release.export import CardText, export
from moslens.train import train

TEXT = CardText("tiny-student", "Apache-2.0", "twenty made pictures", ("good for nothing",))
HELD_OUT = 0.6


def train_tiny_student(folder: Path, **distill: Any) -> Path:
    """A run folder under ``folder``; its pool of twelve made pictures holds more than half of them out."""
    pool = make_pool(folder / "pool")
    teacher = make_teacher(pool, folder / "teacher")
    config = student_config(make_labelled(folder / "set"), pool, teacher, folder / "bank", **distill)
    config = dataclasses.replace(config, bdm=dataclasses.replace(config.bdm, held_out=HELD_OUT))
    train(config, folder / "run")
    return folder / "run"


def make_folds(folder: Path, count: int = 2) -> Path:
    """Held-out predictions as split runs leave them: raw values near the scores, a few pictures in two splits."""
    rng = np.random.default_rng(0)
    for split in range(count):
        path = folder / f"split-{split}" / "predictions.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "mos", "prediction", "part"])
            for i in rng.permutation(200)[:40]:
                writer.writerow([f"{i}.jpg", i / 2, i / 2 + rng.normal(0, 4), "test"])
    return folder


def export_tiny_student(run: Path, output: Path, **options: Any) -> Path:
    """The model folder of a run made by :func:`train_tiny_student`."""
    folds = run.parent / "folds"
    export(run, output, TEXT, folds=folds if folds.is_dir() else make_folds(folds), **options)
    return output
