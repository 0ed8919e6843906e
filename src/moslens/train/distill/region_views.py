"""Training and test pictures of the teacher: crops of pristine photos, degraded, with labelled regions.

Every item is a function of (seed, epoch, index) alone, so workers, processes and resumed runs make the same pictures.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from moslens.blocks import MIN_CHANGE, BlockDegradation
from moslens.distortions import KINDS, distort, draw_implementation, kind_names
from moslens.distortions.implementations import require_implementations
from moslens.distortions.kinds import NO_DISTORTION
from moslens.picture.grid import CELL, Block, grid_blocks
from moslens.train.config import BdmSection, TeacherSection
from moslens.train.distill.pool import photo_in_turn, pristine_crop

TOKENS = 14
Item = dict[str, Tensor]
Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]
Labelled = tuple[Pixels, Ints, Ints, Ints, NDArray[np.bool_]]
"""Picture, boxes (R x 4), kinds (R), levels (R), and whether a region has a label (R)."""


class DegradedViews(TorchDataset[Item]):
    """Degraded crops with labelled regions, as ``section.view`` says.

    uniform: one kind over the whole crop, kind and level drawn evenly; reference: the same, with the pristine crop;
    composite: a composite of BDM and R of its blocks; isolated: a uniform view in which all but one region is grey.

    Items: ``picture`` and, for reference, ``pristine`` uint8 3 x 224 x 224, ``boxes`` R x 4 in tokens, ``kinds`` R (-1
    for no distortion), ``levels`` R (0 for no distortion), ``labelled`` R bool (False where too little changed).
    ``section.siblings`` consecutive items show one crop under different kinds, so content does not hint at the kind.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        section: TeacherSection,
        bdm: BdmSection,
        working_size: int,
        seed: int,
    ) -> None:
        self.root = root
        self.names = names
        self.section = section
        self.bdm = bdm
        self.kinds = kind_names(bdm.kinds)
        require_implementations(bdm.implementations)
        self.working_size = working_size
        self.seed = seed

    def __len__(self) -> int:
        return self.section.views

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        rng = np.random.default_rng((self.seed, 1, epoch, index))
        content, place = divmod(index, self.section.siblings)
        shared = np.random.default_rng((self.seed, 2, epoch, content))
        name = photo_in_turn(self.names, content, lambda turn: (self.seed, 3, epoch, turn))
        crop = pristine_crop(self.root, name, self.working_size, shared)
        kind = int(shared.permutation(len(self.kinds))[place % len(self.kinds)])
        if self.section.view == "composite":
            picture, boxes, kinds, levels, labelled = self._composite(crop, rng)
        else:
            picture, boxes, kinds, levels, labelled = self._uniform(crop, kind, rng)
        if self.section.view == "isolated":
            picture, boxes = isolate(picture, boxes[0]), boxes[:1]
            kinds, levels, labelled = kinds[:1], levels[:1], labelled[:1]
        item = {
            "picture": planes(picture),
            "boxes": torch.from_numpy(boxes),
            "kinds": torch.from_numpy(kinds),
            "levels": torch.from_numpy(levels),
            "labelled": torch.from_numpy(labelled),
        }
        if self.section.view == "reference":
            item["pristine"] = planes(crop)
        return item

    def _uniform(self, crop: Pixels, number: int, rng: np.random.Generator) -> Labelled:
        boxes = np.stack([_box(rng, self.section.smallest) for _ in range(self.section.regions)])
        count = len(boxes)
        if rng.random() < self.section.pristine:
            return crop, boxes, np.full(count, NO_DISTORTION), np.zeros(count, np.int64), np.ones(count, np.bool_)
        level = int(rng.choice(KINDS[number].active_levels))
        grid = int(rng.choice([2, 3, 4]))
        regions = [(b.x, b.y, b.width, b.height) for b in grid_blocks(TOKENS * CELL, TOKENS * CELL, grid)]
        kind = KINDS[number]
        implementation = draw_implementation(kind, rng, self.bdm.implementations)
        picture = distort(crop, kind, level, rng, regions=regions, implementation=implementation)
        labelled = np.array([changed(picture, crop, box) for box in boxes])
        return picture, boxes, np.full(count, number), np.full(count, level), labelled

    def _composite(self, crop: Pixels, rng: np.random.Generator) -> Labelled:
        grid = int(rng.choice([2, 3, 4]))
        composite = BlockDegradation(
            grid=grid,
            types=self.bdm.types or None,
            p_clean=self.bdm.p_clean,
            levels="uniform",
            feather=self.bdm.feather,
            kinds=self.kinds,
            implementations=self.bdm.implementations,
        )(crop, rng)
        chosen = rng.integers(0, len(composite.blocks), self.section.regions)
        boxes = np.array([block_box(composite.blocks[k]) for k in chosen])
        labelled = np.ones(len(chosen), np.bool_)
        return composite.image, boxes, composite.kinds[chosen], composite.levels[chosen], labelled


def block_box(block: Block) -> Ints:
    """A block of a 224 window as (top, left, bottom, right) in tokens."""
    return np.array([block.y, block.x, block.y + block.height, block.x + block.width]) // CELL


def planes(picture: Pixels) -> Tensor:
    """H x W x 3 -> 3 x H x W."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def _box(rng: np.random.Generator, smallest: int) -> Ints:
    height, width = rng.integers(smallest, TOKENS + 1, 2)
    top, left = rng.integers(0, TOKENS + 1 - height), rng.integers(0, TOKENS + 1 - width)
    return np.array([top, left, top + height, left + width])


def changed(picture: Pixels, crop: Pixels, box: Ints) -> bool:
    """Whether a region (in tokens) changed by at least ``MIN_CHANGE`` on average."""
    top, left, bottom, right = box * CELL
    part = np.s_[top:bottom, left:right]
    return float(np.abs(np.subtract(picture[part], crop[part], dtype=np.int16)).mean()) / 255 >= MIN_CHANGE


def isolate(picture: Pixels, box: Ints) -> Pixels:
    """The picture with everything but one region (in tokens) mid-grey."""
    top, left, bottom, right = box * CELL
    alone = np.full_like(picture, 128)
    alone[top:bottom, left:right] = picture[top:bottom, left:right]
    return alone


class ViewBatches:
    """Batches of :class:`DegradedViews`; ``world`` processes share each batch evenly."""

    def __init__(self, views: DegradedViews, batch: int, workers: int = 0) -> None:
        self.views = views
        self.batch = batch
        self.workers = workers
        self.steps = len(views) // batch

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[Item]:
        """The batches of an epoch from step ``start`` on, for process ``rank`` of ``world``."""
        keys = [
            [(epoch, i) for i in range(step * self.batch, (step + 1) * self.batch)][rank::world]
            for step in range(start, self.steps)
        ]
        yield from DataLoader(
            self.views,
            batch_sampler=keys,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_signals_to_training,
        )


def _leave_signals_to_training(worker: int) -> None:
    """A terminal or a scheduler signals all processes of a run; the loop saves its step and then ends the workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
