"""A head for kinds and levels, fitted on the frozen block features of a finished student.

In the composites of distillation nearly every block is degraded, and the teacher has one linear map to the level for
all kinds. In real photos most blocks are clean, and others have two or three faults. So a small head is trained on
crops in which most blocks are clean (:mod:`moslens.release.planted_crops`), of the pool's training part.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from moslens.distortions import PAPER_KINDS
from moslens.distortions.implementations import ImplementationSet
from moslens.model import SHDIQA
from moslens.model.block_heads import FittedHead, block_features, faults_loss
from moslens.model.pixels import as_float
from moslens.picture.windows import View
from moslens.release.planted_crops import planted_crops
from moslens.system.progress import tracked
from moslens.train.distill.pool import Pool
from moslens.train.distill.region_views import planes

log = logging.getLogger(__name__)

PICTURES = 9_000
EPOCHS = 12
BATCH = 256
RATE = 1e-3
DECAY = 1e-2
_SEED = 9_004


def block_material(
    model: SHDIQA,
    pool: Pool,
    names: tuple[str, ...],
    view: View,
    grid: int,
    count: int,
    kinds: Sequence[str] = PAPER_KINDS,
    implementations: ImplementationSet = "default",
    combined: int = 1,
    seed: int = _SEED,
) -> tuple[Tensor, Tensor]:
    """Features (N x F) and faults (N x kinds; their levels, 0 where they are not) of the labelled blocks of crops.

    names: photos of the pool, of which ``count`` crops are made, as ``view`` shows them, with ``grid`` blocks a side;
    kinds: the first kinds, those of the faults; implementations and combined: as for
    :func:`moslens.release.planted_crops.plant`. The same seed gives the same crops.
    """
    rows: list[tuple[Tensor, Tensor]] = []
    crops = planted_crops(pool, names, view, grid, count, seed, kinds, implementations, combined)
    made = tracked(crops, "making blocks", count)
    with torch.inference_mode():
        while batch := list(islice(made, 8)):
            pictures = as_float(torch.stack([planes(crop.picture) for crop in batch]))
            features = block_features(model.parts(pictures, grid)).float().flatten(0, 1)
            faults = torch.from_numpy(np.concatenate([crop.faults[:, : len(kinds)] for crop in batch]))
            labelled = torch.from_numpy(np.concatenate([crop.labelled for crop in batch]))
            rows.append((features[labelled], faults[labelled]))
    features, faults = (torch.cat(column) for column in zip(*rows, strict=True))
    return features.clone(), faults


def fit_head(
    features: Tensor, faults: Tensor, *, names: tuple[str, ...] = PAPER_KINDS, epochs: int = EPOCHS
) -> FittedHead:
    """Train a head on features (N x F) and faults (N x kinds) of N blocks; deterministic. names: its kinds."""
    generator = torch.Generator().manual_seed(_SEED)
    steps = epochs * -(-len(features) // BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        head = FittedHead(features.shape[1], names)
        head.scale.fit(features)
        optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for epoch in range(epochs):
            total = 0.0
            for chosen in torch.randperm(len(features), generator=generator).split(BATCH):  # type: ignore[no-untyped-call]
                loss = faults_loss(head(features[chosen]), faults[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(chosen)
            if epoch in (0, epochs - 1):
                log.info("head, epoch %d: loss %.3f", epoch + 1, total / len(features))
    return head.eval()
