"""Crops in which single blocks are clean or degraded as they are in use: most are clean, what is wrong has any outline.

A quarter of the pictures is clean, a quarter are composites of BDM, and in half of them one to three rectangles
anywhere are degraded, at levels drawn evenly. A block counts as what three quarters of it are; mixed ones have no say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moslens.blocks import BlockDegradation
from moslens.distortions import KINDS, distort
from moslens.picture.grid import grid_blocks
from moslens.picture.windows import WINDOW
from moslens.train.distill.pool import Pool, pristine_crop

MIXED = -2
INSIDE = 0.75
LEAST_CHANGE = 1 / 255


@dataclass(frozen=True)
class Sample:
    """A 224 crop, and for each block in reading order its kind (-1 clean, -2 mixed) and level (0 clean)."""

    picture: NDArray[np.uint8]
    kinds: NDArray[np.int64]
    levels: NDArray[np.int64]


def make_sample(crop: NDArray[np.uint8], grid: int, number: int, rng: np.random.Generator) -> Sample:
    """Picture ``number``: clean, a composite, or with degraded rectangles, by turns."""
    turn = number % 4
    kinds = np.full((WINDOW, WINDOW), -1, np.int64)
    levels = np.zeros((WINDOW, WINDOW), np.int64)
    picture = crop
    if turn == 1:
        composite = BlockDegradation(grid=int(rng.choice([2, 3, 4])), levels="uniform")(crop, rng)
        picture = composite.image
        for block, kind, level in zip(composite.blocks, composite.kinds, composite.levels, strict=True):
            kinds[block.slices], levels[block.slices] = kind, level
    elif turn > 1:
        picture = crop.copy()
        for _ in range(int(rng.integers(1, 4))):
            _degrade_rectangle(picture, crop, kinds, levels, rng)
    labels = [_label(kinds[b.slices], levels[b.slices]) for b in grid_blocks(WINDOW, WINDOW, grid)]
    return Sample(picture, np.array([kind for kind, _ in labels]), np.array([level for _, level in labels]))


def _degrade_rectangle(
    picture: NDArray[np.uint8],
    crop: NDArray[np.uint8],
    kinds: NDArray[np.int64],
    levels: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """One kind at one level on a rectangle with sides of 56 to 224 px, anywhere, in place of what was there."""
    width, height = (int(side) for side in rng.integers(56, WINDOW + 1, 2))
    x, y = int(rng.integers(WINDOW - width + 1)), int(rng.integers(WINDOW - height + 1))
    inside = np.s_[y : y + height, x : x + width]
    number = int(rng.integers(len(KINDS)))
    level = int(rng.choice(KINDS[number].active_levels))
    degraded = distort(crop, KINDS[number], level, rng, regions=[(x, y, width, height)])[inside]
    shows = np.abs(degraded.astype(np.int16) - crop[inside]).mean() / 255 >= LEAST_CHANGE
    picture[inside] = degraded
    kinds[inside] = number if shows else MIXED
    levels[inside] = level


def _label(kinds: NDArray[np.int64], levels: NDArray[np.int64]) -> tuple[int, int]:
    """The kind and level of three quarters of a block; mixed where there is none."""
    answers, counts = np.unique(10 * (kinds + 2) + levels, return_counts=True)
    best = int(counts.argmax())
    if counts[best] < INSIDE * kinds.size:
        return MIXED, 0
    kind, level = divmod(int(answers[best]), 10)
    return kind - 2, level


def samples(pool: Pool, names: Sequence[str], working_size: int, grid: int, count: int, seed: int) -> Iterator[Sample]:
    """``count`` pictures of the named photos; each is a function of the seed and its number."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        crop = pristine_crop(pool.root, names[int(rng.integers(len(names)))], working_size, rng)
        yield make_sample(crop, grid, number, rng)
