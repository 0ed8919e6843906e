"""Scores of a trained run, with the decoding and the windows of the released model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moslens.data.records import Dataset
from moslens.model.shdiqa import WindowScorer
from moslens.picture.load import load
from moslens.picture.windows import cover
from moslens.train.networks import load_run


def predict_windows(scorer: WindowScorer, windows: NDArray[np.uint8], batch: int = 16) -> NDArray[np.float64]:
    """Scores of n x 224 x 224 x 3 uint8 windows, in MOS units: n."""
    with torch.inference_mode():
        parts = [scorer(torch.from_numpy(windows[i : i + batch])) for i in range(0, len(windows), batch)]
    return torch.cat(parts).double().numpy()


def predict(scorer: WindowScorer, paths: Iterable[Path], working_size: int) -> Iterator[float]:
    """Yield the score of each picture, in MOS units: the mean over the windows that cover it."""
    for path in paths:
        windows = cover(load(path, working_size=working_size).pixels)
        yield float(predict_windows(scorer, windows).mean())


def predict_run(run: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[float]:
    """Yield the score of ``dataset.samples[i]`` for each i in ``indices`` by a finished run, in MOS units."""
    scorer, config = load_run(run)
    yield from predict(scorer, (dataset.samples[i].path for i in indices), config.data.working_size)
