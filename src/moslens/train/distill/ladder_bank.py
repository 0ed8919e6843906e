"""The bank of ladders: pristine crops that get worse rung by rung, for the severity ranking of method.md 13.

    BANK/plan.json       what it is made of; another plan is refused
    BANK/pictures.npy    n x 6 x 3 x 224 x 224 uint8, from the clean crop down; rungs behind the last are not drawn
    BANK/rungs.npy       n, how many rungs a ladder has, the clean one counted

Three ladders in four go by level: one kind all over the crop, clean and then every level that changes it; the signed
kinds in steps of their size. One in four goes by area: a kind at level 3 to 5 on 0, 1, 2, 3 and 4 quarters of the crop.
Entry i is a function of (seed, i), as in the bank of composites.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moslens.distortions import KINDS, Kind, distort
from moslens.errors import ConfigError
from moslens.picture.grid import grid_blocks
from moslens.picture.windows import WINDOW
from moslens.train.distill.chunks import Arrays, build_bank
from moslens.train.distill.pool import Pool, photo_in_turn, pristine_crop

log = logging.getLogger(__name__)

RUNGS = 6
# signed kinds in ARNIQA's order: which levels are a step worse than the rung before
_SIGNED: dict[str, tuple[tuple[int, ...], ...]] = {"mean_shift": ((2, 3), (4, 5)), "contrast_change": ((5,),)}


@dataclass(frozen=True)
class LadderPlan:
    """What decides every entry of a bank of ladders."""

    root: Path
    names: tuple[str, ...]
    data_hash: str
    working_size: int
    entries: int
    seed: int

    def make(self, index: int) -> list[NDArray[np.uint8]]:
        """Ladder ``index``, 2 to 6 crops from clean to worst."""
        rng = np.random.default_rng((self.seed, 5, index))
        name = photo_in_turn(self.names, index, lambda turn: (self.seed, 5, turn, 0))
        crop = pristine_crop(self.root, name, self.working_size, rng)
        kind = KINDS[index % len(KINDS)]
        return _by_area(crop, kind, rng) if rng.random() < 0.25 else _by_level(crop, kind, rng)

    def to_dict(self) -> dict[str, Any]:
        """What ``plan.json`` holds."""
        tree = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("root", "names")}
        return tree | {"pictures": len(self.names), "rungs": RUNGS}


def _by_level(crop: NDArray[np.uint8], kind: Kind, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    steps = _SIGNED.get(kind.name, tuple((level,) for level in kind.active_levels))
    levels = [int(rng.choice(step)) for step in steps]
    seed = int(rng.integers(2**32))
    return [crop, *(distort(crop, kind, level, np.random.default_rng(seed)) for level in levels)]


def _by_area(crop: NDArray[np.uint8], kind: Kind, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    worse = distort(crop, kind, int(rng.integers(3, 6)), rng)
    blocks = grid_blocks(WINDOW, WINDOW, 2)
    ladder, current = [crop], crop
    for number in rng.permutation(len(blocks)):
        block = blocks[number]
        current = current.copy()
        inside = np.s_[block.y : block.y + block.height, block.x : block.x + block.width]
        current[inside] = worse[inside]
        ladder.append(current)
    return ladder


class LadderBatches:
    """The R stream: ``batch`` ladders a step, ``rungs`` rungs of each, and one dead frame."""

    def __init__(self, folder: Path, batch: int, rungs: int, seed: int) -> None:
        self.pictures = np.load(folder / "pictures.npy", mmap_mode="r")
        self.counts = np.load(folder / "rungs.npy")
        self.batch, self.rungs, self.seed = batch, rungs, seed
        if not 1 <= batch <= len(self.counts):
            raise ConfigError(f"rank.batch is 1 to {len(self.counts)}, the entries of the bank, not {batch}", folder)
        if not 2 <= rungs <= RUNGS:
            raise ConfigError(f"rank.rungs is 2 to {RUNGS}, not {rungs}")

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> dict[str, Any]:
        """``pictures`` uint8 B x R x 3 x 224 x 224, ``places`` B x R (0 clean), ``dead`` uint8 1 x 3 x 224 x 224.

        Places rise along a row; a ladder with fewer rungs than R repeats its last one, which compares as equal.
        """
        rng = np.random.default_rng((self.seed, 3, epoch, step))
        chosen = rng.choice(len(self.counts), self.batch, replace=False)
        places = np.stack([self._places(int(self.counts[entry]), rng) for entry in chosen])
        mine = np.s_[rank::world]
        pictures = np.stack([self.pictures[e][p] for e, p in zip(chosen[mine], places[mine], strict=True)])
        frame = dead_frame(np.random.default_rng((self.seed, 4, epoch, step, rank)))
        return {
            "pictures": torch.from_numpy(pictures),
            "places": torch.from_numpy(places[mine]),
            "dead": torch.from_numpy(frame[None]),
        }

    def _places(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        chosen = np.sort(rng.choice(count, min(count, self.rungs), replace=False))
        return np.pad(chosen, (0, self.rungs - len(chosen)), mode="edge")


def dead_frame(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A frame that shows nothing, 3 x 224 x 224: black, white, one grey, one colour, or noise of any strength."""
    shape = (3, WINDOW, WINDOW)
    what = rng.integers(5)
    if what < 2:
        flat = np.full((3, 1, 1), 0.0 if what == 0 or rng.random() < 0.5 else 255.0)
    else:
        flat = rng.uniform(0, 255, (3 if what == 3 else 1, 1, 1))
    frame = np.broadcast_to(flat, shape)
    if what == 4:
        spread = rng.uniform(30, 255)
        frame = frame + rng.uniform(-spread, spread, shape if rng.random() < 0.5 else (1, *shape[1:]))
    else:
        frame = frame + rng.normal(0, rng.uniform(0, 2), shape)
    return np.clip(np.round(frame), 0, 255).astype(np.uint8)


def plan_ladders(pool: Pool, working_size: int, entries: int, seed: int) -> LadderPlan:
    """The plan of a bank of ladders over the training part of a pool. ConfigError for no entries."""
    if entries < 1:
        raise ConfigError(f"a bank has at least one entry, not {entries}")
    return LadderPlan(pool.root, pool.train, pool.hash_of(pool.train), working_size, entries, seed)


def open_ladders(folder: Path, plan: LadderPlan, *, processes: int | None = None) -> Path:
    """The bank of a plan in ``folder``, built there first if need be. CheckpointError where another plan's is there."""
    build_bank(
        folder,
        plan.to_dict(),
        ("rungs", "pictures"),
        _LadderJob(plan),
        entry_bytes=RUNGS * 3 * WINDOW * WINDOW,
        processes=processes,
    )
    return folder


@dataclass(frozen=True)
class _LadderJob:
    plan: LadderPlan

    def __call__(self, indices: range) -> Arrays:
        pictures = np.zeros((len(indices), RUNGS, 3, WINDOW, WINDOW), np.uint8)
        rungs = np.zeros(len(indices), np.int8)
        for place, index in enumerate(indices):
            ladder = self.plan.make(index)
            rungs[place] = len(ladder)
            for rung, picture in enumerate(ladder):
                pictures[place, rung] = picture.transpose(2, 0, 1)
        return {"rungs": rungs, "pictures": pictures}
