"""Scores from a trained run: the same decoding and complete-coverage windows as the released model uses."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moslens import metrics, views
from moslens.data.records import Dataset
from moslens.data.split import Split
from moslens.errors import CheckpointError
from moslens.image import load
from moslens.model.shdiqa import WindowScorer
from moslens.train import checkpoint
from moslens.train.config import TrainConfig, from_dict
from moslens.train.quality import build_model


def load_run(run: Path) -> tuple[WindowScorer, TrainConfig]:
    """The finished network of a run folder, in MOS units, and its configuration. CheckpointError if not finished."""
    content = checkpoint.read_json(run / "config.json")
    config = from_dict(content["config"], run / "config.json")
    if config.stage == "teacher":
        raise CheckpointError("is the run of a teacher, which gives no scores", run)
    model = build_model(config.model, pretrained=False)
    model.load_state_dict(checkpoint.load_tensors(run / "model.safetensors"))
    model.eval().to(memory_format=torch.channels_last)
    return WindowScorer(model, **content["labels"]).eval(), config


def predict_windows(scorer: WindowScorer, windows: NDArray[np.uint8], batch: int = 16) -> NDArray[np.float64]:
    """Scores in MOS units of n x 224 x 224 x 3 uint8 windows."""
    with torch.inference_mode():
        parts = [scorer(torch.from_numpy(windows[i : i + batch])) for i in range(0, len(windows), batch)]
    return torch.cat(parts).double().numpy()


def predict(scorer: WindowScorer, paths: Iterable[Path], working_size: int) -> Iterator[float]:
    """One score a picture as it is made, in MOS units: the mean over the windows that cover it."""
    for path in paths:
        windows = views.cover(load(path, working_size=working_size).pixels)
        yield float(predict_windows(scorer, windows).mean())


def predict_run(run: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[float]:
    """Scores of ``dataset.samples[i]`` for i in ``indices`` by the finished run, in MOS units, as they are made."""
    scorer, config = load_run(run)
    yield from predict(scorer, (dataset.samples[i].path for i in indices), config.data.working_size)


def finish_quality_run(run: Path, dataset: Dataset, split: Split) -> None:
    """Score what the run held out and leave ``predictions.csv`` and ``metrics.json``.

    A run with a validation part is a trial: it is judged on that part alone and never sees the test part.
    """
    part, indices = ("validation", split.validation) if split.validation else ("test", split.test)
    if not indices:
        return
    prediction = np.array(list(predict_run(run, dataset, indices)))
    mos = np.array([dataset.samples[i].mos for i in indices])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "mos", "prediction", "part"])
    for i, value in zip(indices, prediction, strict=True):
        writer.writerow([dataset.samples[i].name, dataset.samples[i].mos, f"{value:.6f}", part])
    checkpoint.write_atomic(run / "predictions.csv", text.getvalue().encode())
    result = {"part": part, "srcc": metrics.srcc(prediction, mos), "plcc_raw": metrics.plcc(prediction, mos)}
    checkpoint.write_json(run / "metrics.json", result)
