"""Quality runs with random weights as teachers of opinions, tiny, and a student that learns from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from helpers.tiny_distillation import student_config
from helpers.tiny_training import tiny_config
from moslens.system.files import write_json
from moslens.train import checkpoint
from moslens.train.config import TrainConfig
from moslens.train.distill.composite_bank import BankBatches
from moslens.train.distill.student_task import StudentTask
from moslens.train.loop import fit, open_run
from moslens.train.networks import build_model
from moslens.train.quality import dataset_of, label_facts, labelled_stream, split_of, training_labels
from moslens.train.student import StudentBatches, open_distillation_data, open_opinions


def make_quality(table: Path, run: Path, *, seed: int = 0, changes: dict[str, Any] | None = None, **data: Any) -> Path:
    """The run folder of a finished quality model that never learned anything, with the record of one that did."""
    config = tiny_config(table)
    model = dataclasses.replace(config.model, changes=config.model.changes | (changes or {}))
    config = dataclasses.replace(config, seed=seed, model=model, data=dataclasses.replace(config.data, **data))
    dataset = dataset_of(config.data)
    split = split_of(dataset, config.data)
    facts = label_facts(dataset, split, training_labels(config.data, dataset, split))
    run.mkdir(parents=True)
    write_json(run / "config.json", {"config": config.to_dict(), **facts})
    torch.manual_seed(seed)
    checkpoint.save_tensors(run / "model.safetensors", dict(build_model(config.model, pretrained=True).state_dict()))
    return run


def change_weights(run: Path) -> None:
    """Make a run another one: its weights are scaled."""
    file = run / "model.safetensors"
    save_file({name: value * 1.5 for name, value in load_file(file).items()}, file)


def opinion_config(folder: Path, *, teacher: str = "teacher", **distill: Any) -> TrainConfig:
    """A student with photos, views and blocks on, in a folder that holds set/, pool/, teacher/, a/ and b/."""
    settings: dict[str, Any] = {
        "opinions": [str(folder / "a"), str(folder / "b")],
        "lambda_p": 0.5,
        "lambda_v": 0.25,
        "lambda_b": 0.75,
        "photo_batch": 2,
        "view_batch": 2,
        "degraded": 3,
        "mosaics": 2,
        "photo_size": 256,
        "photo_bank": str(folder / "photos"),
    }
    return student_config(
        folder / "set" / "labels.csv", folder / "pool", folder / teacher, folder / "bank", **settings | distill
    )


def run_opinion_fit(config: TrainConfig, run: Path, stop_after: int | None = None) -> bool:
    """The student's joint phase with opinions, stoppable."""
    dataset = dataset_of(config.data)
    split = split_of(dataset, config.data)
    q, labels = labelled_stream(config, dataset, split)
    streams = open_opinions(config, dataset, split).streams(config, labels)
    data = open_distillation_data(config)
    d = BankBatches(data.bank, data.targets, config.distill.batch, config.seed, streams.blocks)
    open_run(run, config, label_facts(dataset, split, labels), resume=True)
    torch.manual_seed(7)
    batches = StudentBatches(q, d, 0, None, streams.photos, streams.views)
    task = StudentTask(build_model(config.model, pretrained=True), config.distill, batches.steps)
    return fit(task, batches, config, run, stop_after=stop_after)
