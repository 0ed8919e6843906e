"""Whole photos with opinions instead of scores: clean, unlabelled, degraded, and mosaics with degraded twins (R-E).

    BANK/made-KEY/     000000.png ... and kinds.npy, levels.npy n x 16: made photos, and the labels of their blocks
    BANK/opinions-KEY/ opinions.npy n float32: the mean opinion on every photo, in MOS units

Made photos are stored without loss at a size above the working sizes, and are then opened like any other photo: each
teacher sees every photo as it sees one that it scores. Each KEY is a hash of what decides the files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moslens.blocks import BlockDegradation, Composite
from moslens.data.labelled_views import Batch, LabelledViews, alike, draw_alike
from moslens.distortions.kinds import NO_DISTORTION
from moslens.errors import ConfigError
from moslens.picture.load import load
from moslens.system.files import whole_file
from moslens.train.distill.chunks import Arrays, compute_arrays, key_of
from moslens.train.distill.opinion_teachers import OpinionTeachers
from moslens.train.distill.pool import photo_in_turn
from moslens.train.predict import predict

Floats = NDArray[np.float32]
_GRIDS = (2, 3, 4)
_CLEAN = 0.25
"""The share of the blocks of a mosaic that are those of the photo, beside the degraded ones."""


@dataclass(frozen=True)
class MadePhotos:
    """What decides ``count`` made photos: the photos ``names`` in ``root`` (``data_hash``: their names and sizes).

    ``mosaic``: blocks of each photo are replaced by those of degraded twins; otherwise the whole photo has one
    distortion. ``kinds``: names to draw from. ``size``: the longer side that photos are brought to first.
    """

    root: Path
    names: tuple[str, ...]
    data_hash: str
    count: int
    seed: int
    mosaic: bool
    kinds: tuple[str, ...]
    size: int

    def make(self, index: int) -> Composite:
        """Photo ``index``, with its labels."""
        rng = np.random.default_rng((self.seed, 8, index))
        name = photo_in_turn(self.names, index, lambda turn: (self.seed, 8, turn, 0))
        photo = load(self.root / name, working_size=self.size).pixels
        if self.mosaic:
            return BlockDegradation(grid=int(rng.choice(_GRIDS)), kinds=self.kinds, p_clean=_CLEAN)(photo, rng)
        return BlockDegradation(grid=1, mode="global-single", kinds=self.kinds, p_clean=0.0)(photo, rng)

    def key(self) -> str:
        """The name of the folder. Photos are a hash, so they may move to another folder."""
        tree = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return key_of({key: value for key, value in tree.items() if key not in ("root", "names")})

    def write(self, folder: Path, indices: range) -> Arrays:
        """Write some photos into a folder; their ``kinds`` and ``levels``."""
        kinds = np.full((len(indices), max(_GRIDS) ** 2), NO_DISTORTION, np.int8)
        levels = np.zeros_like(kinds)
        for place, index in enumerate(indices):
            made = self.make(index)
            with whole_file(_path(folder, index), durable=False) as scratch:
                Image.fromarray(made.image).save(scratch, format="png", compress_level=1)
            kinds[place, : len(made.blocks)], levels[place, : len(made.blocks)] = made.kinds, made.levels
        return {"kinds": kinds, "levels": levels}


def made_photos(bank: Path, plan: MadePhotos, *, processes: int | None = None) -> list[Path]:
    """The made photos of a plan in the folder ``bank``, written first where they are not there. Raises ImageError."""
    if not plan.count:
        return []
    folder = bank / f"made-{plan.key()}"
    compute_arrays(folder, plan.count, partial(plan.write, folder), ("kinds", "levels"), processes)
    return [_path(folder, index) for index in range(plan.count)]


def photo_opinions(
    bank: Path, photos: Sequence[Path], teachers: OpinionTeachers, *, processes: int | None = None
) -> Floats:
    """The mean opinion of ``teachers`` on each photo, n float32 in MOS units, as they score photos.

    Computed at the first call and stored in the folder ``bank``; a call that was killed is completed. Raises ImageError
    for a photo that cannot be read; CheckpointError and ConfigError as :class:`OpinionTeachers`.
    """
    folder = bank / f"opinions-{key_of(photos_hash(photos), teachers.digest)}"
    compute_arrays(folder, len(photos), partial(_opinions_on, tuple(photos), teachers), ("opinions",), processes)
    found: Floats = np.load(folder / "opinions.npy")
    return found


def photos_hash(photos: Sequence[Path]) -> str:
    """A hash of the names and sizes of some photos, in order."""
    return key_of([[photo.parent.name, photo.name, photo.stat().st_size] for photo in photos])


def _opinions_on(photos: tuple[Path, ...], teachers: OpinionTeachers, indices: range) -> Arrays:
    teachers.require_unchanged()
    some = [photos[index] for index in indices]
    with teachers.precision():
        scores = [list(predict(scorer, some)) for scorer in teachers.load()]
    return {"opinions": np.mean(scores, axis=0).astype(np.float32)}


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.png"


class PhotoBatches:
    """The P stream: each step draws views of ``batch`` photos of like shape, decided by (seed, epoch, step) alone.

    views: the photos, whose labels are opinions. ConfigError where there are fewer photos than a batch.
    """

    def __init__(self, views: LabelledViews, batch: int, seed: int) -> None:
        if not 1 <= batch <= len(views):
            raise ConfigError(f"distill.photo_batch is 1 to {len(views)}, the photos that there are, not {batch}")
        self.views = views
        self.batch = batch
        self.seed = seed
        self.groups = alike([views.shape(index) for index in range(len(views))], batch)

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of a batch that process ``rank`` of ``world`` trains on, as that of labelled photos."""
        rng = np.random.default_rng((self.seed, 6, epoch, step))
        chosen = draw_alike(self.groups, self.batch, rng)[rank::world]
        # A photo that comes twice in an epoch comes as another view.
        return self.views.batch([(epoch, int(index), step) for index in chosen])
