"""The correction: what the order of severity adds to the score of a finished network (method.md 13, extension).

    y = yhat + Net([m(Z), m(T)])      m: mean and deviation over the places of the picture

The network keeps what it learned from opinions, and a small net on its features says what opinions hardly know. Of a
block it reads the same features, with m over the places of the block. It does not read c: the network knows its
training photos by heart there, so that other photos look strange to whoever reads it.
"""

from __future__ import annotations

from torch import Tensor, nn

from moslens.model.region_features import FeatureScale

HIDDEN = 128
_FARTHEST = 6.0


class Correction(nn.Module):
    """Two hidden layers on ``features`` numbers, brought to one scale. 0 at first."""

    def __init__(self, features: int, dropout: float = 0.4) -> None:
        super().__init__()
        self.scale = FeatureScale(features, _FARTHEST)
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

    def forward(self, features: Tensor) -> Tensor:
        """Features ... x their number -> what is added to scores (...), in units of the standardised label."""
        added: Tensor = self.net(self.scale(features)).squeeze(-1)
        return added
