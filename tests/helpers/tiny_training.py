"""A data set of made pictures and a network small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from helpers.tiny_model import make_photo
from moslens.data.sets import load_dataset
from moslens.train.config import TrainConfig, from_dict
from moslens.train.loop import fit, open_run
from moslens.train.networks import build_model
from moslens.train.quality import QualityTask, labelled_stream, split_of

TINY_MODEL: dict[str, Any] = {
    "config": "lite",
    "weights": "",
    "changes": {"backbone": "test_efficientnet", "dim": 24, "heads": 2},
}


ON_POINTS = {"mos_range": [0, 100], "direction": "higher"}


def make_labelled(folder: Path, count: int = 20) -> Path:
    """``count`` pictures of several sizes with scores that differ, as a CSV; returns the CSV."""
    folder.mkdir(parents=True)
    lines = ["image,mos"]
    for number in range(count):
        name = f"{number:02d}.png"
        make_photo(240 + 8 * (number % 3), 232, seed=number).save(folder / name)
        lines.append(f"{name},{20 + 3 * (number * 7 % count):.1f}")
    table = folder / "labels.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def tiny_config(table: Path, **optim: Any) -> TrainConfig:
    """Two epochs of four batches of four, checkpointing every second step."""
    return from_dict(
        {
            "stage": "quality",
            "checkpoint_every": 2,
            "model": TINY_MODEL,
            "data": {"name": str(table), "root": str(table.parent), "split": 0, **ON_POINTS},
            "optim": {"epochs": 2, "batch": 4, **optim},
        }
    )


def same_weights(a: Path, b: Path, tolerance: float, *, except_for: str = "nothing") -> None:
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert first.keys() == second.keys()
    for key, value in first.items():
        if except_for not in key:
            assert torch.allclose(value, second[key], atol=tolerance, rtol=0), key


def run_fit(config: TrainConfig, run: Path, stop_after: int | None = None) -> None:
    """Quality training, stoppable."""
    dataset = load_dataset(config.data.name, Path(config.data.root))
    batches, _ = labelled_stream(config, dataset, split_of(dataset, config.data))
    open_run(run, config, {"labels": {"mean": 0.0, "std": 1.0}}, resume=True)
    torch.manual_seed(7)
    task = QualityTask(build_model(config.model, pretrained=True))
    fit(task, batches, config, run, stop_after=stop_after)


def write_quality_config(path: Path, table: Path, *, epochs: int) -> Path:
    """A configuration file of the quality stage for the command line, with a checkpoint every second step."""
    path.write_text(
        f"""checkpoint_every = 2
[model]
weights = ""
changes = {{backbone = "test_efficientnet", dim = 24, heads = 2}}
[data]
name = "{table}"
root = "{table.parent}"
mos_range = [0, 100]
direction = "higher"
[optim]
epochs = {epochs}
batch = 4
""",
        encoding="utf-8",
    )
    return path
