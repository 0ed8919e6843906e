"""The losses of training, one function each."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def quality_loss(prediction: Tensor, label: Tensor) -> Tensor:
    """L_Q = SmoothL1(yhat, (y - mu) / sd): both B, in standardised label units (method.md 9.6)."""
    return F.smooth_l1_loss(prediction, label)
