"""The bank: composites of the pristine pool made once, with labels and teacher targets beside them (method.md 11).

    BANK/plan.json            what it is made of; another plan is refused
    BANK/composites.npy       n x 3 x 224 x 224 uint8, read through a memory map
    BANK/kinds.npy levels.npy n x 16, blocks in reading order; -1 and 0 clean, and behind the last block of a grid
    BANK/targets/KEY.npy      n x 16 x D float32, one file for each teacher, view and target

Entry i is a function of (seed, i). So the bank is built by any number of processes in any order, goes on where it was
stopped, and views need no room on disk: they are made again for a teacher, and must give the stored composite.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moslens.blocks import BlockDegradation, Composite
from moslens.distortions.kinds import NO_DISTORTION
from moslens.errors import ConfigError
from moslens.picture.windows import WINDOW
from moslens.train.config import BdmSection
from moslens.train.distill.chunks import Arrays, build_bank
from moslens.train.distill.pool import Pool, photo_in_turn, pristine_crop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What decides every entry of a bank."""

    root: Path
    names: tuple[str, ...]
    data_hash: str
    bdm: BdmSection
    working_size: int
    entries: int
    seed: int

    def __post_init__(self) -> None:
        if not self.bdm.grids or len(self.bdm.grids) != len(self.bdm.shares):
            raise ConfigError("bdm.grids and bdm.shares are as many as each other, and not none")
        if self.entries < 1:
            raise ConfigError(f"a bank has at least one entry, not {self.entries}")

    @cached_property
    def grids(self) -> NDArray[np.int64]:
        """The grid of every entry: each grid has its share of the entries, in one run of them."""
        shares = np.cumsum(self.bdm.shares) / np.sum(self.bdm.shares)
        ends = np.round(shares * self.entries).astype(int)
        return np.repeat(self.bdm.grids, np.diff(ends, prepend=0))

    @property
    def width(self) -> int:
        """Blocks of the finest grid."""
        return max(self.bdm.grids) ** 2

    def photo(self, index: int) -> str:
        """The photo of entry ``index``."""
        return photo_in_turn(self.names, index, lambda turn: (self.seed, turn, 0))

    def make(self, index: int) -> Composite:
        """Entry ``index``."""
        rng = np.random.default_rng((self.seed, index))
        crop = pristine_crop(self.root, self.photo(index), self.working_size, rng)
        degrade = BlockDegradation(
            grid=int(self.grids[index]),
            mode=self.bdm.mode,
            types=self.bdm.types or None,
            p_clean=self.bdm.p_clean,
            levels=self.bdm.levels,
            feather=self.bdm.feather,
        )
        return degrade(crop, rng)

    def to_dict(self) -> dict[str, Any]:
        """What ``plan.json`` holds: the pictures as a hash, so that a pool may lie elsewhere."""
        bdm = {k: v for k, v in dataclasses.asdict(self.bdm).items() if k != "root"}
        return {
            "pictures": len(self.names),
            "data_hash": self.data_hash,
            "bdm": bdm,
            "working_size": self.working_size,
            "entries": self.entries,
            "seed": self.seed,
        }


def plan_bank(pool: Pool, bdm: BdmSection, working_size: int, entries: int, seed: int) -> Plan:
    """The plan of a bank over the training part of a pool."""
    return Plan(pool.root, pool.train, pool.hash_of(pool.train), bdm, working_size, entries, seed)


class Bank:
    """A finished bank, opened by :func:`open_bank`."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.composites = np.load(folder / "composites.npy", mmap_mode="r")
        self.kinds = np.load(folder / "kinds.npy")
        self.levels = np.load(folder / "levels.npy")

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the plan and all labels."""
        digest = hashlib.sha256(json.dumps(self.plan.to_dict(), sort_keys=True).encode())
        digest.update(self.kinds.tobytes())
        digest.update(self.levels.tobytes())
        return digest.hexdigest()


def open_bank(folder: Path, plan: Plan, *, processes: int | None = None) -> Bank:
    """The bank of a plan in ``folder``, built there first if need be, or built to the end.

    CheckpointError where the folder holds a bank of another plan.
    """
    build_bank(
        folder,
        plan.to_dict(),
        ("kinds", "levels", "composites"),
        _SynthesisJob(plan),
        entry_bytes=3 * WINDOW * WINDOW,
        processes=processes,
    )
    return Bank(folder, plan)


class BankBatches:
    """The D stream: ``batch`` entries of one grid a step, a function of (seed, epoch, step)."""

    def __init__(self, bank: Bank, targets: NDArray[np.float32] | None, batch: int, seed: int) -> None:
        self.bank = bank
        self.targets = targets
        self.seed = seed
        self.batch = batch
        self.members = {int(g): np.flatnonzero(bank.plan.grids == g) for g in np.unique(bank.plan.grids)}
        scarce = [grid for grid, members in self.members.items() if len(members) < batch]
        if scarce:
            raise ConfigError(f"the bank has fewer than {batch} entries of grid {scarce[0]}", bank.folder)

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> dict[str, Any]:
        """The share of process ``rank`` of ``world``.

        ``composites`` uint8 B x 3 x 224 x 224, ``kinds`` and ``levels`` B x K, ``grid``, and with targets
        ``targets`` B x K x D.
        """
        rng = np.random.default_rng((self.seed, 2, epoch, step))
        grids = sorted(self.members)
        sizes = np.array([len(self.members[grid]) for grid in grids])
        grid = int(rng.choice(grids, p=sizes / sizes.sum()))
        chosen = rng.choice(self.members[grid], self.batch, replace=False)[rank::world]
        count = grid * grid
        batch: dict[str, Any] = {
            "composites": torch.from_numpy(self.bank.composites[chosen]),
            "kinds": _integers(self.bank.kinds[chosen, :count]),
            "levels": _integers(self.bank.levels[chosen, :count]),
            "grid": grid,
        }
        if self.targets is not None:
            batch["targets"] = torch.from_numpy(self.targets[chosen, :count])
        return batch


def _integers(values: NDArray[np.int8]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))


@dataclass(frozen=True)
class _SynthesisJob:
    plan: Plan

    def __call__(self, indices: range) -> Arrays:
        width = self.plan.width
        composites = np.empty((len(indices), 3, WINDOW, WINDOW), np.uint8)
        kinds = np.full((len(indices), width), NO_DISTORTION, np.int8)
        levels = np.zeros((len(indices), width), np.int8)
        for place, index in enumerate(indices):
            composite = self.plan.make(index)
            count = len(composite.blocks)
            composites[place] = composite.image.transpose(2, 0, 1)
            kinds[place, :count] = composite.kinds
            levels[place, :count] = composite.levels
        return {"composites": composites, "kinds": kinds, "levels": levels}
