"""A head for kinds and levels, fitted on the frozen block tokens of a finished student.

Distillation teaches the tokens to tell kinds apart on composites, in which nearly every block is degraded and what the
teacher knows of the level is one linear map for all kinds. In use most blocks are clean. So a linear head learns from
pictures like that (:mod:`moslens.distill.planted`), made of the training part of the pristine pool.
"""

from __future__ import annotations

import logging
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from moslens.distill.planted import MIXED, samples
from moslens.distill.pool import Pool
from moslens.distill.task import as_pictures
from moslens.distill.views import planes
from moslens.model import SHDIQA
from moslens.model.describe import SupervisedHead

log = logging.getLogger(__name__)

PICTURES = 3000
EPOCHS = 40
BATCH = 256
RATE = 3e-3
DECAY = 1e-2
_SEED = 9_004


def block_tokens(
    model: SHDIQA, pool: Pool, names: tuple[str, ...], working_size: int, count: int, seed: int = _SEED
) -> tuple[Tensor, Tensor, Tensor]:
    """Block tokens a~ (N x d), kinds (N; -1 clean) and levels (N; 0 clean) of ``count`` made pictures."""
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    made = samples(pool, names, working_size, model.config.grid, count, seed)
    with torch.inference_mode():
        while batch := list(islice(made, 8)):
            pictures = as_pictures(torch.stack([planes(sample.picture) for sample in batch]))
            tokens = model.parts(pictures).blocks.gated.float().flatten(0, 1)
            kinds = torch.from_numpy(np.concatenate([sample.kinds for sample in batch]))
            levels = torch.from_numpy(np.concatenate([sample.levels for sample in batch]))
            told = kinds > MIXED
            rows.append((tokens[told], kinds[told], levels[told]))
    tokens, kinds, levels = (torch.cat(column) for column in zip(*rows, strict=True))
    return tokens.clone(), kinds, levels


def fit_head(tokens: Tensor, kinds: Tensor, levels: Tensor, *, epochs: int = EPOCHS) -> SupervisedHead:
    """A head for tokens (N x d) with their kinds (-1 clean) and levels; the same for the same tokens."""
    generator = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        head = SupervisedHead(tokens.shape[1])
    optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    steps = epochs * -(-len(tokens) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(tokens), generator=generator).split(BATCH):  # type: ignore[no-untyped-call]
            loss = head.loss(tokens[chosen][None], kinds[chosen][None], levels[chosen][None])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        if epoch in (0, epochs - 1):
            log.info("head, epoch %d: loss %.3f", epoch + 1, total / len(tokens))
    return head.eval()
