"""The bank of composites: made once from the pristine pool, stored with labels and teacher targets (method.md 11).

    BANK/plan.json            what decides the composites
    BANK/composites.npy       n x 3 x 224 x 224 uint8, read through a memory map
    BANK/kinds.npy levels.npy n x 16 int8, blocks in reading order; -1 and 0 for a clean block and for padding
    BANK/targets/KEY.npy      n x 16 x D float32, one file for each teacher, view and target
    BANK/views/, opinions/    views to have an opinion on, and opinions, see bank_opinions.py
    BANK/references/          pristine crops and distances to them, see bank_references.py

Other degraded views of a composite are not stored. They are made again when a teacher describes them, and must give the
stored composite.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moslens.blocks import BlockDegradation, Composite
from moslens.distortions.kinds import NO_DISTORTION, kind_names
from moslens.errors import CheckpointError, ConfigError
from moslens.picture.windows import WINDOW
from moslens.train.config import BdmSection
from moslens.train.distill.chunks import Arrays, BankPlan, build_bank
from moslens.train.distill.pool import Pool, photo_in_turn, pristine_crop


@dataclass(frozen=True)
class CompositePlan(BankPlan):
    """What decides every entry of a bank of composites."""

    bdm: BdmSection

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bdm.grids or len(self.bdm.grids) != len(self.bdm.shares):
            raise ConfigError("bdm.grids and bdm.shares must have the same length, at least 1")

    @cached_property
    def grids(self) -> NDArray[np.int64]:
        """Blocks a side of every entry; entries of the same grid are consecutive."""
        shares = np.cumsum(self.bdm.shares) / np.sum(self.bdm.shares)
        ends = np.round(shares * self.entries).astype(int)
        return np.repeat(self.bdm.grids, np.diff(ends, prepend=0))

    @property
    def width(self) -> int:
        """Blocks of the finest grid."""
        return max(self.bdm.grids) ** 2

    def photo(self, index: int) -> str:
        """The name of the photo that entry ``index`` is cut from."""
        return photo_in_turn(self.names, index, lambda turn: (self.seed, turn, 0))

    def crop(self, index: int, rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """The pristine crop of entry ``index``, 224 x 224 x 3. ``rng``: that of the entry, from its start."""
        rng = np.random.default_rng((self.seed, index)) if rng is None else rng
        return pristine_crop(self.root, self.photo(index), self.working_size, rng)

    def make(self, index: int) -> Composite:
        """The composite of entry ``index``, with its views and labels."""
        rng = np.random.default_rng((self.seed, index))
        crop = self.crop(index, rng)
        degrade = BlockDegradation(
            grid=int(self.grids[index]),
            mode=self.bdm.mode,
            types=self.bdm.types or None,
            p_clean=self.bdm.p_clean,
            levels=self.bdm.levels,
            feather=self.bdm.feather,
            kinds=kind_names(self.bdm.kinds),
            implementations=self.bdm.implementations,
        )
        return degrade(crop, rng)

    def arrays(self, indices: range) -> Arrays:
        """``composites``, ``kinds`` and ``levels`` of some entries."""
        composites = np.empty((len(indices), 3, WINDOW, WINDOW), np.uint8)
        kinds = np.full((len(indices), self.width), NO_DISTORTION, np.int8)
        levels = np.zeros((len(indices), self.width), np.int8)
        for place, index in enumerate(indices):
            composite = self.make(index)
            count = len(composite.blocks)
            composites[place] = composite.image.transpose(2, 0, 1)
            kinds[place, :count] = composite.kinds
            levels[place, :count] = composite.levels
        return {"composites": composites, "kinds": kinds, "levels": levels}

    def to_dict(self) -> dict[str, Any]:
        """What ``plan.json`` holds."""
        return super().to_dict() | {"bdm": self.bdm.record()}


def plan_bank(pool: Pool, bdm: BdmSection, working_size: int, entries: int, seed: int) -> CompositePlan:
    """The plan of a bank over the training part of a pool. ConfigError for settings that no bank can have."""
    return CompositePlan(pool.root, pool.train, pool.hash_of(pool.train), working_size, entries, seed, bdm)


class Bank:
    """A finished bank of composites, opened by :func:`open_bank`."""

    def __init__(self, folder: Path, plan: CompositePlan) -> None:
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


def made_again(plan: CompositePlan, index: int, stored: NDArray[np.generic], folder: Path) -> Composite:
    """The composite of entry ``index``, which must be the one in ``stored``, the pictures of the bank in ``folder``.

    CheckpointError where it is not: with other versions of the codecs a bank cannot be made again.
    """
    composite = plan.make(index)
    if not np.array_equal(composite.image.transpose(2, 0, 1), stored[index]):
        raise CheckpointError(f"entry {index} cannot be made again here: remove the bank to build it again", folder)
    return composite


def open_bank(folder: Path, plan: CompositePlan, *, processes: int | None = None) -> Bank:
    """The bank of a plan in ``folder``, built or completed first where needed. Raises as :func:`build_bank`."""
    names = ("kinds", "levels", "composites")
    build_bank(folder, plan, names, entry_bytes=3 * WINDOW * WINDOW, processes=processes)
    return Bank(folder, plan)


@dataclass(frozen=True)
class BankReferences:
    """Of each entry the pristine crop, ``pictures`` uint8 n x 3 x 224 x 224, and how far each block is from its own.

    ``distances``: float32 n x 16, nan for padding.
    """

    pictures: NDArray[np.uint8]
    distances: NDArray[np.float32]


class BankBatches:
    """The D stream: each step draws ``batch`` entries of one grid, decided by (seed, epoch, step) alone."""

    def __init__(
        self,
        bank: Bank,
        targets: NDArray[np.float32] | None,
        batch: int,
        seed: int,
        opinions: NDArray[np.float32] | None = None,
        references: BankReferences | None = None,
    ) -> None:
        self.bank = bank
        self.targets = targets
        self.opinions = opinions
        self.references = references
        self.seed = seed
        self.batch = batch
        self.members = {int(g): np.flatnonzero(bank.plan.grids == g) for g in np.unique(bank.plan.grids)}
        scarce = [grid for grid, members in self.members.items() if len(members) < batch]
        if scarce:
            raise ConfigError(f"the bank has fewer than {batch} entries of grid {scarce[0]}", bank.folder)

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> dict[str, Any]:
        """The part of a batch that process ``rank`` of ``world`` trains on.

        ``composites`` uint8 B x 3 x 224 x 224, ``kinds`` and ``levels`` int64 B x K, ``grid``, and where the bank has
        targets ``targets`` float32 B x K x D, where it has opinions ``opinions`` float32 B x K, and where it has
        references ``references`` uint8 B x 3 x 224 x 224 and ``distances`` float32 B x K.
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
        if self.opinions is not None:
            batch["opinions"] = torch.from_numpy(self.opinions[chosen, :count])
        if self.references is not None:
            batch["references"] = torch.from_numpy(self.references.pictures[chosen])
            batch["distances"] = torch.from_numpy(self.references.distances[chosen, :count])
        return batch


def _integers(values: NDArray[np.int8]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
