"""Scores of a trained run, with the decoding and the view of the released model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moslens.data.records import Dataset
from moslens.model.block_heads import PictureDescriber
from moslens.model.shdiqa import PictureScorer
from moslens.picture.load import load
from moslens.picture.windows import Piece, View
from moslens.train.networks import load_run
from moslens.train.precision import speed_up_depthwise


def predict_pieces(network: PictureScorer | PictureDescriber, pieces: Iterable[Piece]) -> Iterator[Any]:
    """What a scorer or describer gives for each piece of a picture, in MOS units, each with a leading axis of one."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        for piece in pieces:
            sizes = torch.tensor([[piece.height, piece.width]], device=device) if network.view.whole else None
            yield network(torch.from_numpy(piece.pixels)[None].to(device), sizes)


def predict_pixels(scorer: PictureScorer, pixels: NDArray[np.uint8]) -> float:
    """The score of a picture at the working size, in MOS units: the mean over its pieces."""
    return fmean(float(score) for score in predict_pieces(scorer, scorer.view.pieces(pixels)))


def load_for(view: View, source: Any) -> NDArray[np.uint8]:
    """The pixels of a picture at the working size of a view. Raises ImageError."""
    return load(source, working_size=view.working_size, shortest=view.shortest).pixels


def predict(scorer: PictureScorer, paths: Iterable[Path]) -> Iterator[float]:
    """Yield the score of each picture, in MOS units. Raises ImageError."""
    for path in paths:
        yield predict_pixels(scorer, load_for(scorer.view, path))


def predict_run(run: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[float]:
    """Yield the score of ``dataset.samples[i]`` for each i in ``indices`` by a finished run, in MOS units."""
    scorer, _ = load_run(run)
    if torch.cuda.is_available():
        scorer.to("cuda").to(memory_format=torch.contiguous_format)
        speed_up_depthwise(scorer)
    for i in indices:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # full precision, as on a CPU
            yield from predict(scorer, [dataset.samples[i].path])
