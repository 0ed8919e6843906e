"""Labelled pictures in memory and the seeded stream of training crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from moslens.picture.load import load
from moslens.picture.windows import training_crop
from moslens.system.cores import available_cores


def decode_all(paths: Sequence[Path], working_size: int, threads: int | None = None) -> list[NDArray[np.uint8]]:
    """All pictures at the working size, H x W x 3 uint8, in order (LIVEC: 0.9 GB). Raises the first ImageError."""
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        return list(pool.map(lambda path: load(path, working_size=working_size).pixels, paths))


class CropStream(TorchDataset[tuple[Tensor, float]]):
    """Training crops by key (epoch, picture, repeat); a crop depends on the seed and its key alone.

    No generator is shared, so workers, processes and resumed runs all draw the same crops.
    """

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[float], seed: int) -> None:
        self.pictures = pictures
        self.labels = labels
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[Tensor, float]:
        epoch, index, repeat = key
        rng = np.random.default_rng((self.seed, epoch, index, repeat))
        crop = training_crop(self.pictures[index], rng)
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))), self.labels[index]


class QualityBatches:
    """Batches of the labelled stream: uint8 B x 3 x 224 x 224 and float32 labels.

    A global batch is divided equally among ``world`` processes. The last batch of an epoch is dropped
    unless it is full, so that the mean over processes is the mean over the batch.
    """

    def __init__(self, stream: CropStream, batch: int, repeats: int, workers: int = 0) -> None:
        self.stream = stream
        self.batch = min(batch, len(stream) * repeats)
        self.repeats = repeats
        self.workers = workers
        self.steps = len(stream) * repeats // self.batch

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from step ``start`` on, for process ``rank`` of ``world``."""
        keys = [(epoch, i, r) for r in range(self.repeats) for i in range(len(self.stream))]
        order = np.random.default_rng((self.stream.seed, epoch)).permutation(len(keys))
        batches = [
            [keys[i] for i in order[step * self.batch : (step + 1) * self.batch][rank::world]]
            for step in range(start, self.steps)
        ]
        loader = DataLoader(
            self.stream, batch_sampler=batches, num_workers=self.workers, pin_memory=torch.cuda.is_available()
        )
        for crops, labels in loader:
            yield crops, labels.to(torch.float32)
