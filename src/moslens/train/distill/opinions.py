"""Everything that a student learns opinions from, for one split: computed and stored once, drawn as streams (R-E)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moslens.data.labelled_views import LabelledViews, decode_all
from moslens.data.records import Dataset
from moslens.data.split import Split
from moslens.errors import ConfigError
from moslens.train.config import DistillSection, TrainConfig
from moslens.train.distill.bank_opinions import BankOpinions, Floats, ViewOpinionBatches, bank_opinions
from moslens.train.distill.chunks import key_of
from moslens.train.distill.composite_bank import Bank
from moslens.train.distill.named_kinds import named_kinds
from moslens.train.distill.opinion_teachers import OpinionTeachers
from moslens.train.distill.photo_opinions import MadePhotos, PhotoBatches, made_photos, photo_opinions, photos_hash
from moslens.train.distill.pool import Pool, unlabelled_photos
from moslens.train.quality import Labels, decoded_size, shares_of

_PHOTO_SEED = 1
"""Added to the seed of the labelled stream, so that equal indices do not mean equal views."""


@dataclass(frozen=True)
class OpinionStreams:
    """The P and V streams, and the opinions on blocks for the D stream (n x 16, standardised); None where off."""

    photos: PhotoBatches | None = None
    views: ViewOpinionBatches | None = None
    blocks: Floats | None = None


@dataclass(frozen=True)
class Opinions:
    """The mean opinions of ``teachers`` in MOS units: on ``photos``, in their order, and on a bank of composites."""

    teachers: OpinionTeachers
    photos: tuple[Path, ...] = ()
    scores: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    bank: BankOpinions | None = None

    def facts(self) -> dict[str, Any]:
        """Hashes of teachers and photos, stored in the run: with others it cannot go on."""
        return {"opinions": {"teachers": list(self.teachers.weights), "photos": photos_hash(self.photos)}}

    def streams(self, config: TrainConfig, labels: Labels) -> OpinionStreams:
        """The streams of a student, whose labels have the statistics ``labels``. Decodes the photos into memory."""
        distill, data, seed = config.distill, config.data, config.seed

        def standardised(opinions: Floats) -> Floats:
            found: Floats = ((opinions - labels.mean) / labels.std).astype(np.float32)
            return found

        photos: PhotoBatches | None = None
        views: ViewOpinionBatches | None = None
        blocks: Floats | None = None
        if distill.lambda_p:
            seen = LabelledViews(
                decode_all(self.photos, decoded_size(data)),
                standardised(self.scores).tolist(),
                seed + _PHOTO_SEED,
                whole=data.working_size if data.view == "whole" else None,
                shares=shares_of(data),
                device="cuda" if torch.cuda.is_available() else "cpu",
            )
            photos = PhotoBatches(seen, distill.photo_batch, seed)
        if self.bank is not None and distill.lambda_v:
            views = ViewOpinionBatches(self.bank.pictures, standardised(self.bank.views), distill.view_batch, seed)
        if self.bank is not None and distill.lambda_b:
            blocks = standardised(self.bank.blocks)
        return OpinionStreams(photos, views, blocks)


def compute_opinions(
    distill: DistillSection, teachers: OpinionTeachers, pool: Pool, dataset: Dataset, split: Split, bank: Bank | None
) -> Opinions:
    """The opinions that a configuration asks for; what is not stored yet is computed.

    pool: photos without scores; of ``dataset`` the training part of ``split`` alone is read, for mosaics. bank: None
    where neither views nor blocks are asked for. Raises as :func:`photo_opinions` and :func:`bank_opinions`.
    """
    kinds = named_kinds(distill.opinion_kinds, "distill.opinion_kinds")
    photos: tuple[Path, ...] = ()
    scores = np.empty(0, np.float32)
    if distill.lambda_p:
        photos = tuple(opinion_photos(distill, pool, dataset, split, kinds))
        scores = photo_opinions(Path(distill.photo_bank), photos, teachers)
    if bank is None:
        return Opinions(teachers, photos, scores)
    found = bank_opinions(bank, teachers, kinds)
    if distill.lambda_b and np.isnan(found.blocks).all():
        raise ConfigError("no block has an opinion: a run of distill.opinions has a linear decoder, or no kind counts")
    return Opinions(teachers, photos, scores, found)


def opinion_photos(
    distill: DistillSection, pool: Pool, dataset: Dataset, split: Split, kinds: tuple[str, ...]
) -> list[Path]:
    """The photos of the P stream: of the pool, of further folders, degraded ones, and mosaics of training photos.

    Made ones are written where they are not there. The pool's held-out photos are not among them, nor any photo of the
    data set outside the training part of the split.
    """
    if (distill.degraded or distill.mosaics) and not kinds:
        raise ConfigError("distill.degraded and distill.mosaics need kinds whose opinions count: distill.opinion_kinds")
    training = [dataset.samples[index] for index in split.train]
    sizes = [[sample.name, sample.path.stat().st_size] for sample in training]
    made: list[Path] = []
    for count, root, names, data_hash, mosaic in (
        (distill.degraded, pool.root, pool.train, pool.hash_of(pool.train), False),
        (distill.mosaics, Path(), tuple(str(sample.path) for sample in training), key_of(sizes), True),
    ):
        plan = MadePhotos(root, names, data_hash, count, distill.bank_seed, mosaic, kinds, distill.photo_size)
        made += made_photos(Path(distill.photo_bank), plan)
    return [*unlabelled_photos(pool, distill.photos), *made]
