"""Labelled pictures in memory and the seeded stream of views that a network learns from.

A view is a random 224 x 224 window, or most of a picture at the working size. The pictures lie on the device that
trains, as uint8, and views are cut there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from moslens.picture.load import load
from moslens.picture.windows import SHORTEST_PASS, STRIDE, WINDOW, fitted_size, pad
from moslens.system.cores import available_cores

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Pictures uint8 B x 3 x H x W, labels float32 B, and sizes B x 2 of what is not padding; None for windows."""


def decode_all(paths: Sequence[Path], working_size: int, threads: int | None = None) -> list[NDArray[np.uint8]]:
    """All pictures at the working size, H x W x 3 uint8, in order (LIVEC: 0.9 GB). Raises the first ImageError."""
    with ThreadPoolExecutor(threads or available_cores()) as pool:
        return list(pool.map(lambda path: load(path, working_size=working_size).pixels, paths))


class LabelledViews:
    """Training views by key (epoch, picture, repeat); a view depends on the seed and its key alone.

    No generator is shared, so processes and resumed runs all draw the same views. Half of them are mirrored.
    ``whole``: the working size of whole pictures, of whose sides a view shows random ``shares``; None for windows.
    Pictures, H x W x 3 uint8, are best decoded at the working size over the smaller share: no view is enlarged.
    """

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        labels: Sequence[float],
        seed: int,
        *,
        whole: int | None = None,
        shares: tuple[float, float] = (0.85, 1.0),
        device: str | torch.device = "cpu",
    ) -> None:
        shortest = WINDOW if whole is None else SHORTEST_PASS
        self.pictures = [
            torch.from_numpy(np.ascontiguousarray(pad(each, shortest).transpose(2, 0, 1))).to(device)
            for each in pictures
        ]
        self.labels = torch.tensor(labels, dtype=torch.float32)
        self.seed = seed
        self.whole = whole
        self.shares = shares

    def __len__(self) -> int:
        return len(self.pictures)

    def shape(self, index: int) -> tuple[int, int]:
        """(height, width) that most views of a picture have, padded: the shapes of a batch should be alike."""
        height, width = self.pictures[index].shape[1:]
        if self.whole is None:
            return WINDOW, WINDOW
        return _padded(fitted_size(height, width, self.whole, SHORTEST_PASS))

    def view(self, epoch: int, index: int, repeat: int) -> Tensor:
        """One view, uint8 3 x H x W, not padded."""
        rng = np.random.default_rng((self.seed, epoch, index, repeat))
        picture = self.pictures[index]
        height, width = picture.shape[1:]
        if self.whole is None:
            sides = WINDOW, WINDOW
        else:
            share = rng.uniform(*self.shares)
            sides = max(SHORTEST_PASS, round(share * height)), max(SHORTEST_PASS, round(share * width))
        y, x = (int(rng.integers(0, side - part + 1)) for side, part in zip((height, width), sides, strict=True))
        crop = picture[:, y : y + sides[0], x : x + sides[1]]
        if self.whole is not None:
            crop = _resized(crop, fitted_size(*sides, self.whole, SHORTEST_PASS))
        return crop.flip(2) if rng.random() < 0.5 else crop

    def batch(self, keys: Sequence[tuple[int, int, int]]) -> Batch:
        """The views of several keys, padded by reflection to one shape, whose sides are multiples of 32."""
        views = [self.view(*key) for key in keys]
        labels = self.labels[[index for _, index, _ in keys]].to(views[0].device)
        if self.whole is None:
            return torch.stack(views), labels, None
        padded, sizes = stack_padded(views)
        return padded, labels, sizes


def stack_padded(views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Views, uint8 3 x H x W, padded by reflection to one shape, whose sides are multiples of 32; and their sizes.

    B x 3 x H x W, and B x 2 ints: the rows and columns of each that are not padding.
    """
    sizes = torch.tensor([view.shape[1:] for view in views])
    height, width = _padded((int(sizes[:, 0].max()), int(sizes[:, 1].max())))
    padded = torch.stack([_reflected(_reflected(view, 1, height), 2, width) for view in views])
    return padded, sizes.to(views[0].device)


def alike(shapes: Sequence[tuple[int, int]], batch: int) -> list[NDArray[np.int64]]:
    """The indices of pictures by shape; shapes of fewer than ``batch`` pictures share a group."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(index)
    groups = [group for _, group in sorted(by_shape.items()) if len(group) >= batch]
    rest = [index for _, group in sorted(by_shape.items()) if len(group) < batch for index in group]
    if len(rest) >= batch or not groups:
        groups.append(rest)
    else:
        max(groups, key=len).extend(rest)
    return [np.array(group) for group in groups if group]


def draw_alike(groups: Sequence[NDArray[np.int64]], batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``batch`` indices of one of the ``groups``, none twice; larger groups are drawn as much more often."""
    sizes = np.array([len(group) for group in groups])
    group = groups[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
    return rng.choice(group, batch, replace=False)


def _padded(size: tuple[int, int]) -> tuple[int, int]:
    height, width = (-(-side // STRIDE) * STRIDE for side in size)
    return height, width


def _resized(view: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 3 x H x W -> 3 x h x w, as Pillow's bicubic resize, to 1 level."""
    if view.shape[1:] == size:
        return view
    found = F.interpolate(view[None].float(), size=size, mode="bicubic", antialias=True)
    return found.round().clamp(0, 255).to(torch.uint8)[0]


def _reflected(view: Tensor, axis: int, length: int) -> Tensor:
    """Pad one axis at its end by reflection, repeatedly where it is short."""
    if view.shape[axis] == length:
        return view
    order = np.pad(np.arange(view.shape[axis]), (0, length - view.shape[axis]), mode="reflect")
    return view.index_select(axis, torch.from_numpy(order).to(view.device))


class QualityBatches:
    """Batches of the labelled stream. A picture is drawn ``repeats`` times in an epoch, each time as another view.

    A global batch is divided equally among ``world`` processes. The last batch of an epoch is dropped
    unless it is full, so that the mean over processes is the mean over the batch. Pictures of like shape share a batch
    where there are enough of them.
    """

    def __init__(self, stream: LabelledViews, batch: int, repeats: int) -> None:
        self.stream = stream
        self.batch = min(batch, len(stream) * repeats)
        self.repeats = repeats
        self.steps = len(stream) * repeats // self.batch

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on, for process ``rank`` of ``world``."""
        keys = [(epoch, i, r) for r in range(self.repeats) for i in range(len(self.stream))]
        rng = np.random.default_rng((self.stream.seed, epoch))
        order = [keys[i] for i in rng.permutation(len(keys))]
        for batch in self._alike(order, rng)[start:]:
            yield self.stream.batch(batch[rank::world])

    def _alike(self, order: list[tuple[int, int, int]], rng: np.random.Generator) -> list[list[tuple[int, int, int]]]:
        """``order`` in batches of one shape each, the rest in mixed ones, all shuffled."""
        by_shape: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for key in order:
            by_shape.setdefault(self.stream.shape(key[1]), []).append(key)
        chunks: list[list[tuple[int, int, int]]] = []
        rest = order if len(by_shape) == 1 else []
        if len(by_shape) > 1:
            for _, alike in sorted(by_shape.items()):
                full = len(alike) // self.batch * self.batch
                chunks += [alike[i : i + self.batch] for i in range(0, full, self.batch)]
                rest += alike[full:]
        chunks += [rest[i : i + self.batch] for i in range(0, len(rest) - self.batch + 1, self.batch)]
        return chunks if len(by_shape) == 1 else [chunks[i] for i in rng.permutation(len(chunks))]
