"""Pictures with known faults, to fit and calibrate the kind head on: most blocks are clean, faults may cross blocks.

They are squares as the network sees them: 224 x 224 crops for windows, most of a photo for whole pictures.

A quarter of the crops are clean, a quarter are composites of BDM, and half have one to three degraded rectangles
anywhere, or one fault all over, at levels drawn evenly. A block gets the label that covers three quarters of it, or
none. So every block has one fault at most, as in the paper. With combinations, a quarter of the crops have several
faults at once, on the same blocks or on the whole crop (:mod:`moslens.release.fault_combinations`), instead of
rectangles; a block then has every fault that covers three quarters of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moslens.blocks import MIN_CHANGE, BlockDegradation
from moslens.distortions import KIND_INDEX, KINDS, LEVELS, PAPER_KINDS, distort, draw_implementation, get_kind
from moslens.distortions.implementations import ImplementationSet
from moslens.distortions.kinds import NO_DISTORTION
from moslens.picture.grid import Block, grid_blocks
from moslens.picture.windows import View, fit
from moslens.release.fault_combinations import combine_faults
from moslens.train.distill.pool import Pool, pristine_crop, pristine_square

COVERED = 0.75
"""Share of a block that its label must cover."""

_EVERYWHERE = 0.4
"""The share of crops with rectangles that have one fault on the whole crop instead, as most faulty photos do."""

WHOLE_SIZE = 288
"""Sides in px of pictures that are seen whole: about the shorter side of a photo at a working size of 384."""

_FILE_SIZES = (WHOLE_SIZE, WHOLE_SIZE, 384, 512)
"""Sides in px at which they get their faults, before they are reduced: photos are larger than they are seen."""

Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PlantedCrop:
    """A square crop, S x S x 3, and for each block in reading order the level of each kind in it.

    ``faults``: K x all kinds, 0 where a kind is not there; they mean nothing where ``labelled`` is False.
    """

    picture: Pixels
    faults: Ints
    labelled: NDArray[np.bool_]

    @property
    def kinds(self) -> Ints:
        """The kind of each block with the highest level; -1 for a clean block."""
        return np.where(self.faults.any(axis=1), self.faults.argmax(axis=1), NO_DISTORTION)

    @property
    def levels(self) -> Ints:
        """The highest level in each block, 0 for a clean one."""
        highest: Ints = self.faults.max(axis=1)
        return highest


class _PixelLabels:
    """Kind, level and "has a label" of every pixel of a crop, at first a clean one."""

    def __init__(self, size: int) -> None:
        self.kinds = np.full((size, size), NO_DISTORTION)
        self.levels = np.zeros((size, size), np.int64)
        self.labelled = np.ones((size, size), np.bool_)

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


def plant(
    crop: Pixels,
    grid: int,
    number: int,
    rng: np.random.Generator,
    kinds: Sequence[str] = PAPER_KINDS,
    implementations: ImplementationSet = "default",
    combined: int = 1,
) -> PlantedCrop:
    """The crop clean, as a composite, or with degraded rectangles, by turns of ``number``; ``grid`` blocks a side.

    combined: the most faults of a block; from 2 on combinations take the place of rectangles every other time.
    """
    turn = number % 4
    if turn == 3 and combined > 1:
        return _combination(crop, grid, rng, kinds, implementations, combined)
    size = len(crop)
    labels = _PixelLabels(size)
    picture = crop
    if turn == 1:
        cuts = int(rng.choice([2, 3, 4]))
        degrade = BlockDegradation(grid=cuts, kinds=tuple(kinds), levels="uniform", implementations=implementations)
        composite = degrade(crop, rng)
        picture = composite.image
        for block, kind, level in zip(composite.blocks, composite.kinds, composite.levels, strict=True):
            labels.set(block.slices, kind, level)
    elif turn > 1:
        picture = crop.copy()
        if rng.random() < _EVERYWHERE:
            _degrade_rectangle(picture, crop, labels, rng, kinds, implementations, least=size)
        else:
            for _ in range(int(rng.integers(1, 4))):
                _degrade_rectangle(picture, crop, labels, rng, kinds, implementations)
    found = [labels.of(block) for block in grid_blocks(size, size, grid)]
    faults = np.zeros((len(found), len(KINDS)), np.int64)
    for row, (kind, level, _) in zip(faults, found, strict=True):
        if kind != NO_DISTORTION:
            row[kind] = level
    return PlantedCrop(picture, faults, np.array([labelled for _, _, labelled in found]))


def _combination(
    crop: Pixels,
    grid: int,
    rng: np.random.Generator,
    kinds: Sequence[str],
    implementations: ImplementationSet,
    most: int,
) -> PlantedCrop:
    """The crop with several faults at once. A block has a label where it is clear of each fault whether it is there."""
    made = combine_faults(crop, most, rng, kinds, implementations)
    blocks = grid_blocks(len(crop), len(crop), grid)
    faults = np.zeros((len(blocks), len(KINDS)), np.int64)
    labelled = np.ones(len(blocks), np.bool_)
    for fault, change in zip(made.faults, made.changes, strict=True):
        inside = np.zeros(crop.shape[:2], np.bool_)
        inside[fault.area] = True
        for place, block in enumerate(blocks):
            share = inside[block.slices].mean()
            if share >= COVERED and change[block.slices].mean() >= MIN_CHANGE:
                faults[place, KIND_INDEX[fault.kind.name]] = fault.level
            elif share > 1 - COVERED:
                labelled[place] = False
    return PlantedCrop(made.picture, faults, labelled)


def _degrade_rectangle(
    picture: Pixels,
    crop: Pixels,
    labels: _PixelLabels,
    rng: np.random.Generator,
    kinds: Sequence[str],
    implementations: ImplementationSet,
    least: int = 56,
) -> None:
    """Degrade a rectangle with sides of ``least`` px and more, anywhere, in place. It replaces faults inside it."""
    size = len(crop)
    width, height = (int(side) for side in rng.integers(least, size + 1, 2))
    x, y = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
    inside = np.s_[y : y + height, x : x + width]
    kind = get_kind(kinds[int(rng.integers(len(kinds)))])
    level = int(rng.choice(kind.active_levels))
    implementation = draw_implementation(kind, rng, implementations)
    degraded = distort(crop, kind, level, rng, regions=[(x, y, width, height)], implementation=implementation)[inside]
    change = float(np.abs(degraded.astype(np.int16) - crop[inside]).mean()) / 255
    picture[inside] = degraded
    labels.set(inside, KIND_INDEX[kind.name], level, labelled=change >= MIN_CHANGE)


def planted_crops(
    pool: Pool,
    names: Sequence[str],
    view: View,
    grid: int,
    count: int,
    seed: int,
    kinds: Sequence[str] = PAPER_KINDS,
    implementations: ImplementationSet = "default",
    combined: int = 1,
) -> Iterator[PlantedCrop]:
    """Yield ``count`` squares of the named photos, with faults of ``kinds``; each is a function of seed and number.

    view: how the network sees pictures. Windows are crops of photos at the working size, otherwise squares of
    ``WHOLE_SIZE`` px show most of a photo, which was larger in half of them when it got its faults. implementations and
    combined as for :func:`plant`.
    """
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        name = names[int(rng.integers(len(names)))]
        if view.whole:
            crop = pristine_square(pool.root, name, int(rng.choice(_FILE_SIZES)), rng)
        else:
            crop = pristine_crop(pool.root, name, view.working_size, rng)
        made = plant(crop, grid, number, rng, kinds, implementations, combined)
        yield replace(made, picture=fit(made.picture, WHOLE_SIZE)) if view.whole else made
