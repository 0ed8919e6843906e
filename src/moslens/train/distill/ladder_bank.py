"""The bank of ladders: versions of one pristine crop from clean to worst, for the severity ranking of method.md 13.

    BANK/plan.json       what decides the ladders
    BANK/pictures.npy    n x 6 x 3 x S x S uint8, from clean to worst, padded with black; S = 224 for windows
    BANK/rungs.npy       n int8, the number of versions, the clean one counted

Three ladders in four get worse by level: one kind on the whole crop, first clean, then at every level that changes it.
The signed kinds rise with the size of the change, and a negative is one step, whatever its share. One in four gets
worse by area: a kind at level 3 to 5 on 0, 1, 2, 3 and 4 quarters of the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moslens.distortions import PAPER_KINDS, Kind, distort, draw_implementation, get_kind, kind_names
from moslens.distortions.implementations import ImplementationSet, require_implementations
from moslens.distortions.kinds import KindSet
from moslens.errors import ConfigError
from moslens.picture.grid import grid_blocks
from moslens.picture.windows import STRIDE, WINDOW
from moslens.train.distill.chunks import Arrays, BankPlan, build_bank
from moslens.train.distill.named_kinds import named_kinds
from moslens.train.distill.pool import Pool, photo_in_turn, pristine_crop, pristine_square

MAX_VERSIONS = 6
# Levels that are about as bad as each other, of kinds that do not get worse from level to level: one of each group is
# drawn. The signed kinds are in ARNIQA's order, and a pale negative looks no better than a full one.
_STEPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "mean_shift": ((2, 3), (4, 5)),
    "contrast_change": ((5,),),
    "negative": ((1, 2, 3, 4, 5),),
}


@dataclass(frozen=True)
class LadderPlan(BankPlan):
    """What decides every entry of a bank of ladders. ``kinds``: the names to take in turn, some more than once.

    ``implementations`` as in ``BdmSection``. ``size``: sides of the pictures in px. Those of 224 are crops of photos at
    the working size, larger ones show most of a photo.
    """

    kinds: tuple[str, ...] = PAPER_KINDS
    implementations: ImplementationSet = "default"
    size: int = WINDOW

    def photo(self, index: int) -> str:
        """The name of the photo that ladder ``index`` is made from."""
        return photo_in_turn(self.names, index, lambda turn: (self.seed, 5, turn, 0))

    def make(self, index: int) -> list[NDArray[np.uint8]]:
        """Ladder ``index``: 2 to 6 versions of a crop, from clean to worst, each ``size`` x ``size`` x 3."""
        rng = np.random.default_rng((self.seed, 5, index))
        name = self.photo(index)
        if self.size == WINDOW:
            crop = pristine_crop(self.root, name, self.working_size, rng)
        else:
            crop = pristine_square(self.root, name, self.size, rng)
        kind = get_kind(self.kinds[index % len(self.kinds)])
        implementation = draw_implementation(kind, rng, self.implementations)
        make = _by_area if rng.random() < 0.25 else _by_level
        return make(crop, kind, implementation, rng)

    def arrays(self, indices: range) -> Arrays:
        """``pictures`` and ``rungs`` of some entries."""
        pictures = np.zeros((len(indices), MAX_VERSIONS, 3, self.size, self.size), np.uint8)
        counts = np.zeros(len(indices), np.int8)
        for place, index in enumerate(indices):
            ladder = self.make(index)
            counts[place] = len(ladder)
            pictures[place, : len(ladder)] = np.stack(ladder).transpose(0, 3, 1, 2)
        return {"rungs": counts, "pictures": pictures}

    def to_dict(self) -> dict[str, Any]:
        """What ``plan.json`` holds."""
        tree = super().to_dict() | {"rungs": MAX_VERSIONS}
        kinds, implementations, size = tree.pop("kinds"), tree.pop("implementations"), tree.pop("size")
        if self.kinds != PAPER_KINDS:
            tree["kinds"] = list(kinds)
        if "negative" in kinds:
            tree["steps"] = {"negative": _STEPS["negative"]}
        if implementations != "default":
            tree["implementations"] = implementations
        if size != WINDOW:
            tree["size"] = size
        return tree


def _by_level(
    crop: NDArray[np.uint8], kind: Kind, implementation: str, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    steps = _STEPS.get(kind.name, tuple((level,) for level in kind.active_levels))
    levels = [int(rng.choice(step)) for step in steps]
    seed = int(rng.integers(2**32))
    return [
        crop,
        *(distort(crop, kind, level, np.random.default_rng(seed), implementation=implementation) for level in levels),
    ]


def _by_area(
    crop: NDArray[np.uint8], kind: Kind, implementation: str, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    worse = distort(crop, kind, int(rng.integers(3, 6)), rng, implementation=implementation)
    blocks = grid_blocks(crop.shape[1], crop.shape[0], 2)
    ladder, current = [crop], crop
    for number in rng.permutation(len(blocks)):
        block = blocks[number]
        current = current.copy()
        current[block.slices] = worse[block.slices]
        ladder.append(current)
    return ladder


class LadderBank:
    """A finished bank of ladders, of which ``entries`` are drawn; None for all."""

    def __init__(self, folder: Path, entries: NDArray[np.int64] | None = None) -> None:
        self.folder = folder
        self.pictures = np.load(folder / "pictures.npy", mmap_mode="r")
        self.counts = np.load(folder / "rungs.npy")
        self.entries = np.arange(len(self.counts)) if entries is None else entries


class LadderBatches:
    """The R stream: each step draws ``batch`` ladders, ``versions`` pictures of each, and one blank frame.

    ``with_clean``: the clean version is always among them. ``labelled``: a second bank, of labelled photos, that half
    of the ladders come from. ConfigError where a bank has fewer ladders than are drawn from it, or ``versions`` is not
    2 to 6.
    """

    def __init__(
        self,
        bank: LadderBank,
        batch: int,
        versions: int,
        seed: int,
        *,
        with_clean: bool = False,
        labelled: LadderBank | None = None,
    ) -> None:
        self.bank, self.labelled = bank, labelled
        self.batch, self.versions, self.seed, self.with_clean = batch, versions, seed, with_clean
        half = batch // 2
        self.drawn = [(bank, batch)] if labelled is None else [(bank, batch - half), (labelled, half)]
        for source, count in self.drawn:
            if not 1 <= count <= len(source.entries):
                raise ConfigError(
                    f"rank.batch {batch} takes {count} ladders from this bank, which has {len(source.entries)}",
                    source.folder,
                )
        if not 2 <= versions <= MAX_VERSIONS:
            raise ConfigError(f"rank.versions is 2 to {MAX_VERSIONS}, not {versions}")

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> dict[str, Any]:
        """The part of a batch that process ``rank`` of ``world`` trains on.

        ``pictures`` uint8 B x R x 3 x S x S, ``places`` int64 B x R, their places on the ladder (0 clean), and
        ``blank`` uint8 1 x 3 x S x S. Places rise along a row. A ladder with fewer versions than R repeats its
        last one, and the ranking loss leaves out pairs of equal places.
        """
        rng = np.random.default_rng((self.seed, 3, epoch, step))
        chosen = [
            (bank, int(entry)) for bank, count in self.drawn for entry in rng.choice(bank.entries, count, replace=False)
        ]
        places = np.stack([self._places(int(bank.counts[entry]), rng) for bank, entry in chosen])
        mine = np.s_[rank::world]
        pictures = np.stack([b.pictures[e][p] for (b, e), p in zip(chosen[mine], places[mine], strict=True)])
        frame = blank_frame(np.random.default_rng((self.seed, 4, epoch, step, rank)), self.bank.pictures.shape[-1])
        return {
            "pictures": torch.from_numpy(pictures),
            "places": torch.from_numpy(places[mine]),
            "blank": torch.from_numpy(frame[None]),
        }

    def _places(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        chosen = np.sort(rng.choice(count, min(count, self.versions), replace=False))
        if self.with_clean:
            chosen[0] = 0
        return np.pad(chosen, (0, self.versions - len(chosen)), mode="edge")


def blank_frame(rng: np.random.Generator, size: int = WINDOW) -> NDArray[np.uint8]:
    """A picture without content, 3 x size x size: black, white, one grey, one colour, or noise of any strength."""
    shape = (3, size, size)
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


def plan_ladders(
    pool: Pool,
    working_size: int,
    entries: int,
    seed: int,
    named: Sequence[str] = (),
    kinds: KindSet = "paper",
    implementations: ImplementationSet = "default",
    size: int = WINDOW,
    often: Sequence[str] = (),
) -> LadderPlan:
    """The plan of a bank of ladders over the training part of a pool: of the kinds and groups that are ``named``.

    Where none is, of ``kinds``. ``often``: names of those of which three times as many ladders are made. ConfigError
    for no entries, unknown names and a ``size`` of pictures that no network reads, MissingExtra where implementations
    need OpenCV and that is not installed.
    """
    require_implementations(implementations)
    names = named_kinds(named, "rank.kinds") or kind_names(kinds)
    names += 2 * tuple(name for name in named_kinds(often, "rank.often") if name in names)
    if size < WINDOW or size % STRIDE:
        raise ConfigError(f"rank.size is a multiple of {STRIDE} from {WINDOW} up, not {size}")
    data_hash = pool.hash_of(pool.train)
    return LadderPlan(pool.root, pool.train, data_hash, working_size, entries, seed, names, implementations, size)


def open_ladders(folder: Path, plan: LadderPlan, *, processes: int | None = None) -> Path:
    """The folder of a plan's bank, built or completed first where needed. Raises as :func:`build_bank`."""
    entry_bytes = MAX_VERSIONS * 3 * plan.size * plan.size
    build_bank(folder, plan, ("rungs", "pictures"), entry_bytes=entry_bytes, processes=processes)
    return folder
