"""A head for kinds and levels, fitted on the frozen block features of a finished student.

In the composites of distillation nearly every block is degraded, and the teacher has one linear map to the level for
all kinds. In real photos most blocks are clean. So a small head is trained on crops in which most blocks are clean
(:mod:`moslens.release.planted_crops`), from the training part of the pristine pool.
"""

from __future__ import annotations

import logging
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from moslens.model import SHDIQA
from moslens.model.block_heads import FittedHead, block_features, naming_loss
from moslens.model.pixels import as_float
from moslens.release.planted_crops import planted_crops
from moslens.train.distill.pool import Pool
from moslens.train.distill.region_views import planes

log = logging.getLogger(__name__)

PICTURES = 8_000
EPOCHS = 12
BATCH = 256
RATE = 1e-3
DECAY = 1e-2
_SEED = 9_004


def block_material(
    model: SHDIQA, pool: Pool, names: tuple[str, ...], working_size: int, count: int, seed: int = _SEED
) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N x 4 d), kinds (N; -1 clean) and levels (N; 0 clean) of the labelled blocks of ``count`` crops.

    names: photos of the pool. The same seed gives the same crops.
    """
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    masks = model.masks()
    made = planted_crops(pool, names, working_size, model.config.grid, count, seed)
    with torch.inference_mode():
        while batch := list(islice(made, 8)):
            pictures = as_float(torch.stack([planes(crop.picture) for crop in batch]))
            features = block_features(model.parts(pictures), masks).float().flatten(0, 1)
            kinds = torch.from_numpy(np.concatenate([crop.kinds for crop in batch]))
            levels = torch.from_numpy(np.concatenate([crop.levels for crop in batch]))
            labelled = torch.from_numpy(np.concatenate([crop.labelled for crop in batch]))
            rows.append((features[labelled], kinds[labelled], levels[labelled]))
    features, kinds, levels = (torch.cat(column) for column in zip(*rows, strict=True))
    return features.clone(), kinds, levels


def fit_head(features: Tensor, kinds: Tensor, levels: Tensor, *, epochs: int = EPOCHS) -> FittedHead:
    """Train a head on features (N x 4 d), kinds (-1 clean) and levels of N blocks; deterministic."""
    generator = torch.Generator().manual_seed(_SEED)
    steps = epochs * -(-len(features) // BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        head = FittedHead(features.shape[1] // 4)
        optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for epoch in range(epochs):
            total = 0.0
            for chosen in torch.randperm(len(features), generator=generator).split(BATCH):  # type: ignore[no-untyped-call]
                loss = naming_loss(head(features[chosen]), kinds[chosen], levels[chosen])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(chosen)
            if epoch in (0, epochs - 1):
                log.info("head, epoch %d: loss %.3f", epoch + 1, total / len(features))
    return head.eval()
