"""Statistics of regions of a picture, which small nets beside the network read, and their scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moslens.model.baf import mean_pool


class FeatureScale(nn.Module):
    """Brings ``features`` numbers to one scale: (x - ``centre``) / ``spread``, at most ``farthest`` either way.

    So what no picture of the fit showed says no more than what one did.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, features: int, farthest: float) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.farthest = farthest

    def fit(self, features: Tensor) -> None:
        """Take centre and spread, mean and deviation of each, from features, N x their number."""
        self.centre.copy_(features.mean(0))
        self.spread.copy_(features.std(0).clamp_min(1e-6))

    def forward(self, features: Tensor) -> Tensor:
        return ((features - self.centre) / self.spread).clamp(-self.farthest, self.farthest)


def mean_and_deviation(moments: Tensor, masks: Tensor) -> Tensor:
    """Mean and standard deviation in each of K regions: B x K x 2 n.

    moments: means and mean squares of n channels in each place, B x N x 2 n; masks: B (or 1) x K x N bool.
    """
    mean, square = mean_pool(moments, masks).chunk(2, -1)
    return torch.cat([mean, ((square - mean.square()).clamp_min(0) + 1e-5).sqrt()], -1)
