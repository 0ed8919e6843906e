"""Opinions on the bank of composites: what quality models think of its uniform views and of every block of them (R-E).

    BANK/views/KEY/       pictures.npy n x 3 x 224 x 224 uint8, one view of each entry, and numbers.npy n, which one
    BANK/opinions/KEY/    views.npy n float32, the opinion on that view; blocks.npy n x 16, those on its blocks

The opinion on a block of a composite is that on the same block of the uniform view that it was cut from. All are means
over the teachers, in MOS units. A view counts where it is clean or every distortion of it is one of the ``kinds``;
blocks of other views, and padding, are nan. Each KEY is a hash of what decides the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moslens.blocks import Composite
from moslens.data.labelled_views import Batch
from moslens.distortions import KIND_INDEX
from moslens.errors import ConfigError
from moslens.model.shdiqa import PictureScorer
from moslens.train.distill.chunks import Arrays, compute_arrays, key_of
from moslens.train.distill.composite_bank import Bank, CompositePlan, made_again
from moslens.train.distill.opinion_teachers import OpinionTeachers, mean_opinion

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BankOpinions:
    """``pictures`` uint8 n x 3 x 224 x 224 with the opinions ``views`` (n), and ``blocks`` (n x 16), in MOS units."""

    pictures: NDArray[np.uint8]
    views: Floats
    blocks: Floats


def bank_opinions(
    bank: Bank, teachers: OpinionTeachers, kinds: tuple[str, ...], *, processes: int | None = None
) -> BankOpinions:
    """The opinions of ``teachers`` on a bank; views count by ``kinds``, names of distortions.

    Computed at the first call and stored in the bank; a call that was killed is completed. CheckpointError as
    :func:`made_again`, and where a teacher is not finished; ConfigError where one changed meanwhile.
    """
    plan, folder = bank.plan, bank.folder
    shown = folder / "views" / key_of(bank.digest, kinds)
    compute_arrays(
        shown, plan.entries, partial(_views_of_entries, plan, folder, kinds), ("pictures", "numbers"), processes
    )
    asked = folder / "opinions" / key_of(bank.digest, kinds, teachers.digest)
    job = partial(_opinions_of_entries, plan, folder, kinds, teachers)
    compute_arrays(asked, plan.entries, job, ("blocks", "views"), processes)
    pictures = np.load(shown / "pictures.npy", mmap_mode="r")
    return BankOpinions(pictures, np.load(asked / "views.npy"), np.load(asked / "blocks.npy"))


def counted_views(composite: Composite, kinds: tuple[str, ...]) -> list[int]:
    """The views of a composite on which opinions count, the clean one first."""
    known = {KIND_INDEX[name] for name in kinds}
    return [number for number, recipe in enumerate(composite.recipes) if all(kind in known for kind, _ in recipe)]


def shown_view(plan: CompositePlan, index: int, composite: Composite, kinds: tuple[str, ...]) -> int:
    """The view of entry ``index`` that the student sees: any one that counts, drawn by the entry."""
    counted = counted_views(composite, kinds)
    return counted[int(np.random.default_rng((plan.seed, 7, index)).integers(len(counted)))]


def composite_opinions(
    scorers: list[PictureScorer], composite: Composite, kinds: tuple[str, ...], working_size: int
) -> tuple[dict[int, float], Floats]:
    """The opinion on each view that counts, by its number, and on each block of a composite (K), nan for others."""
    counted = counted_views(composite, kinds)
    grid = 1 + max(block.row for block in composite.blocks)
    scores, blocks = mean_opinion(scorers, [composite.views[number] for number in counted], grid, working_size)
    found = np.full(len(composite.blocks), np.nan, np.float32)
    for place, number in enumerate(counted):
        mine = composite.assignment == number
        found[mine] = blocks[place, mine]
    return dict(zip(counted, map(float, scores), strict=True)), found


class ViewOpinionBatches:
    """The V stream: each step draws ``batch`` views with opinions, decided by (seed, epoch, step) alone.

    pictures: uint8 n x 3 x 224 x 224; opinions: n, in standardised label units. ConfigError where there are fewer views
    than a batch.
    """

    def __init__(self, pictures: NDArray[np.uint8], opinions: Floats, batch: int, seed: int) -> None:
        if not 1 <= batch <= len(pictures):
            raise ConfigError(f"distill.view_batch is 1 to {len(pictures)}, the entries of the bank, not {batch}")
        self.pictures = pictures
        self.opinions = opinions
        self.batch = batch
        self.seed = seed

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of a batch that process ``rank`` of ``world`` trains on, as that of labelled windows."""
        rng = np.random.default_rng((self.seed, 9, epoch, step))
        chosen = rng.choice(len(self.pictures), self.batch, replace=False)[rank::world]
        return torch.from_numpy(self.pictures[chosen]), torch.from_numpy(self.opinions[chosen]), None


def _views_of_entries(plan: CompositePlan, folder: Path, kinds: tuple[str, ...], indices: range) -> Arrays:
    stored = np.load(folder / "composites.npy", mmap_mode="r")
    pictures, numbers = np.empty((len(indices), *stored.shape[1:]), np.uint8), np.empty(len(indices), np.int8)
    for place, index in enumerate(indices):
        composite = made_again(plan, index, stored, folder)
        numbers[place] = shown_view(plan, index, composite, kinds)
        pictures[place] = composite.views[numbers[place]].transpose(2, 0, 1)
    return {"pictures": pictures, "numbers": numbers}


def _opinions_of_entries(
    plan: CompositePlan, folder: Path, kinds: tuple[str, ...], teachers: OpinionTeachers, indices: range
) -> Arrays:
    teachers.require_unchanged()
    scorers = teachers.load()
    stored = np.load(folder / "composites.npy", mmap_mode="r")
    views = np.empty(len(indices), np.float32)
    blocks = np.full((len(indices), plan.width), np.nan, np.float32)
    for place, index in enumerate(indices):
        composite = made_again(plan, index, stored, folder)
        with teachers.precision():
            scores, own = composite_opinions(scorers, composite, kinds, plan.working_size)
        views[place] = scores[shown_view(plan, index, composite, kinds)]
        blocks[place, : len(own)] = own
    return {"blocks": blocks, "views": views}
