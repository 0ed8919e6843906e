"""Crops with known faults, to fit and calibrate the kind head on: most blocks are clean, faults may cross blocks.

A quarter of the crops are clean, a quarter are composites of BDM, and half have one to three degraded rectangles
anywhere, at levels drawn evenly. A block gets the label that covers three quarters of it, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moslens.blocks import MIN_CHANGE, BlockDegradation
from moslens.distortions import KINDS, LEVELS, distort
from moslens.distortions.kinds import NO_DISTORTION
from moslens.picture.grid import Block, grid_blocks
from moslens.picture.windows import WINDOW
from moslens.train.distill.pool import Pool, pristine_crop

COVERED = 0.75
"""Share of a block that its label must cover."""

Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PlantedCrop:
    """A 224 x 224 x 3 crop, and for each block in reading order its kind (-1 clean) and level (0 clean).

    Where ``labelled`` is False, the kind and level of the block mean nothing.
    """

    picture: Pixels
    kinds: Ints
    levels: Ints
    labelled: NDArray[np.bool_]


class _PixelLabels:
    """Kind, level and "has a label" of every pixel of a crop, at first a clean one."""

    def __init__(self) -> None:
        self.kinds = np.full((WINDOW, WINDOW), NO_DISTORTION)
        self.levels = np.zeros((WINDOW, WINDOW), np.int64)
        self.labelled = np.ones((WINDOW, WINDOW), np.bool_)

    def set(self, area: tuple[slice, slice], kind: int, level: int, *, labelled: bool = True) -> None:
        self.kinds[area], self.levels[area], self.labelled[area] = kind, level, labelled

    def of(self, block: Block) -> tuple[int, int, bool]:
        """Kind, level and "has a label" of a block."""
        area = block.slices
        steps = len(LEVELS) + 1
        # One code per pixel: np.unique is many times faster on numbers than on rows.
        codes = ((self.kinds[area] - NO_DISTORTION) * steps + self.levels[area]) * 2 + self.labelled[area]
        found, counts = np.unique(codes, return_counts=True)
        label, labelled = divmod(int(found[counts.argmax()]), 2)
        kind, level = divmod(label, steps)
        return kind + NO_DISTORTION, level, bool(labelled) and counts.max() >= COVERED * codes.size


def plant(crop: Pixels, grid: int, number: int, rng: np.random.Generator) -> PlantedCrop:
    """The crop clean, as a composite, or with degraded rectangles, by turns of ``number``; ``grid`` blocks a side."""
    turn = number % 4
    labels = _PixelLabels()
    picture = crop
    if turn == 1:
        composite = BlockDegradation(grid=int(rng.choice([2, 3, 4])), levels="uniform")(crop, rng)
        picture = composite.image
        for block, kind, level in zip(composite.blocks, composite.kinds, composite.levels, strict=True):
            labels.set(block.slices, kind, level)
    elif turn > 1:
        picture = crop.copy()
        for _ in range(int(rng.integers(1, 4))):
            _degrade_rectangle(picture, crop, labels, rng)
    found = [labels.of(block) for block in grid_blocks(WINDOW, WINDOW, grid)]
    kinds, levels, labelled = (np.array(column) for column in zip(*found, strict=True))
    return PlantedCrop(picture, kinds, levels, labelled)


def _degrade_rectangle(picture: Pixels, crop: Pixels, labels: _PixelLabels, rng: np.random.Generator) -> None:
    """Degrade a rectangle with sides of 56 to 224 px, anywhere, in place. Earlier faults inside it are replaced."""
    width, height = (int(side) for side in rng.integers(56, WINDOW + 1, 2))
    x, y = int(rng.integers(WINDOW - width + 1)), int(rng.integers(WINDOW - height + 1))
    inside = np.s_[y : y + height, x : x + width]
    number = int(rng.integers(len(KINDS)))
    level = int(rng.choice(KINDS[number].active_levels))
    degraded = distort(crop, KINDS[number], level, rng, regions=[(x, y, width, height)])[inside]
    change = float(np.abs(degraded.astype(np.int16) - crop[inside]).mean()) / 255
    picture[inside] = degraded
    labels.set(inside, number, level, labelled=change >= MIN_CHANGE)


def planted_crops(
    pool: Pool, names: Sequence[str], working_size: int, grid: int, count: int, seed: int
) -> Iterator[PlantedCrop]:
    """Yield ``count`` crops of the named photos; each is a function of the seed and its number."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        crop = pristine_crop(pool.root, names[int(rng.integers(len(names)))], working_size, rng)
        yield plant(crop, grid, number, rng)
