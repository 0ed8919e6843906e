"""The correction: what the order of severity adds to the score of a finished network (method.md 13, extension).

    y = yhat + Net([m(Z), m(T)])      m: mean and deviation over the places of the picture

The network keeps what it learned from opinions, and a small net on its features says what opinions hardly know. Of a
block it reads the same features, with m over the places of the block. It does not read c: the network knows its
training photos by heart there, so that other photos look strange to whoever reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moslens.model.baf import mean_pool

HIDDEN = 128
_FARTHEST = 6.0
"""Features lie at most so many deviations from their mean: what no picture showed says no more."""


class Correction(nn.Module):
    """Two hidden layers on ``features`` numbers, which ``centre`` and ``spread`` bring to one scale. 0 at first."""

    centre: Tensor
    spread: Tensor

    def __init__(self, features: int, dropout: float = 0.4) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        last = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(features, HIDDEN),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            nn.Dropout(dropout),
            last,
        )

    def set_scale(self, features: Tensor) -> None:
        """Take centre and spread from features, N x their number."""
        self.centre.copy_(features.mean(0))
        self.spread.copy_(features.std(0).clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Features ... x their number -> what is added to scores (...), in units of the standardised label."""
        scaled = ((features - self.centre) / self.spread).clamp(-_FARTHEST, _FARTHEST)
        added: Tensor = self.net(scaled).squeeze(-1)
        return added


def correction_features(tokens: Tensor, texture: Tensor, masks: Tensor) -> Tensor:
    """[m(Z), m(T)] of K regions, B x K x (2 d + 2 t). masks: B (or 1) x K x N, the places of each.

    tokens and texture are those of :class:`moslens.model.shdiqa.ModelOutput`.
    """
    moments = torch.cat([tokens, tokens.square()], -1)
    return torch.cat([mean_and_deviation(moments, masks), mean_and_deviation(texture, masks)], -1)


def mean_and_deviation(moments: Tensor, masks: Tensor) -> Tensor:
    """Mean and standard deviation in each of K regions: B x K x 2 n.

    moments: means and mean squares of n channels in each place, B x N x 2 n; masks: B (or 1) x K x N bool.
    """
    mean, square = mean_pool(moments, masks).chunk(2, -1)
    return torch.cat([mean, ((square - mean.square()).clamp_min(0) + 1e-5).sqrt()], -1)
