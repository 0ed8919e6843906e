"""The pristine pool: clean photos without scores, split by file into a training part and a held-out part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moslens.data.roles import refuse_as_pool
from moslens.errors import ConfigError, DatasetError
from moslens.picture.load import load
from moslens.picture.windows import fit, pad, training_crop
from moslens.train.config import BdmSection

_SHARES = (0.85, 1.0)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Pool:
    """File names below ``root``, sorted. The part of a file depends on the seed and its name, not on other files."""

    root: Path
    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def hash_of(self, names: Sequence[str]) -> str:
        """Hex SHA-256 over the names and sizes of some files."""
        digest = hashlib.sha256()
        for name in names:
            size = (self.root / name).stat().st_size
            digest.update(f"{name}\t{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def facts(self) -> dict[str, object]:
        """Counts and hashes of both parts, for a card."""
        return {
            "train_pictures": len(self.train),
            "train_hash": self.hash_of(self.train),
            "held_out_pictures": len(self.held_out),
            "held_out_hash": self.hash_of(self.held_out),
        }


def open_pool(root: str | Path, *, held_out: float = 0.15, seed: int = 0) -> Pool:
    """The pictures in a folder, split by the hash of seed and name: a share ``held_out`` of them is held out.

    DatasetError where there is no such folder, or it has no pictures for one of the parts. ConfigError for a folder
    that trains nothing, see :mod:`moslens.data.roles`.
    """
    root = Path(root)
    names = pictures_in(root)
    out = tuple(name for name in names if _fraction(f"{seed}/{name}") < held_out)
    train = tuple(name for name in names if _fraction(f"{seed}/{name}") >= held_out)
    if not train or (held_out > 0 and not out):
        raise DatasetError(f"{len(names)} pictures are too few to hold out a share of {held_out}", root)
    return Pool(root, train, out)


def pictures_in(root: Path) -> list[str]:
    """The sorted names of the pictures in a folder and those below it. Raises as :func:`open_pool`."""
    if not root.is_dir():
        raise DatasetError("no such folder of pristine pictures", root)
    refuse_as_pool(root)
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES)


def unlabelled_photos(pool: Pool, folders: Sequence[str]) -> tuple[Path, ...]:
    """The training part of a pool, then the pictures of further folders. Raises as :func:`open_pool`."""
    further = [Path(folder) / name for folder in folders for name in pictures_in(Path(folder))]
    return (*(pool.root / name for name in pool.train), *further)


def pool_of(bdm: BdmSection, root: Path | None = None) -> Pool:
    """The pool of a configuration, or that in ``root`` with the same split. ConfigError where neither names a folder.

    DatasetError as :func:`open_pool`.
    """
    place = root or bdm.root
    if not place:
        raise ConfigError("bdm.root, the folder of pristine photos, is not set: --set bdm.root=DIR")
    return open_pool(place, held_out=bdm.held_out)


def _fraction(text: str) -> float:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def photo_in_turn(names: Sequence[str], index: int, key: Callable[[int], tuple[int, ...]]) -> str:
    """The photo of item ``index``. All photos come once in every round, in an order that ``key(round)`` seeds."""
    turn, place = divmod(index, len(names))
    return names[int(np.random.default_rng(key(turn)).permutation(len(names))[place])]


def pristine_square(root: Path, name: str, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Most of a pool picture as a square of ``side`` px, mirrored half of the time: as a square photo is seen whole.

    Its sides are 85 to 100 % of the shorter side of the picture, which is brought to twice ``side`` first. A square
    that is smaller than that is padded by reflection, not enlarged.
    """
    picture = load(root / name, working_size=2 * side).pixels
    length = round(rng.uniform(*_SHARES) * min(picture.shape[:2]))
    return pad(np.array(fit(training_crop(picture, rng, size=length), side)), side)


def pristine_crop(root: Path, name: str, working_size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random 224 x 224 x 3 crop of a pool picture at the working size, mirrored half of the time."""
    return training_crop(_picture(root, name, working_size), rng)


@cache
def _picture(root: Path, name: str, working_size: int) -> NDArray[np.uint8]:
    # A thousand pictures at 512 px take 0.4 GB. Decoding each time would add a tenth to the time of synthesis.
    return load(root / name, working_size=working_size).pixels
