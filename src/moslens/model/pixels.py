"""From stored uint8 pictures to the input of a network."""

from __future__ import annotations

import torch
from torch import Tensor


def as_float(pictures: Tensor) -> Tensor:
    """uint8 B x 3 x H x W -> float in [0, 1], channels last."""
    return pictures.to(memory_format=torch.channels_last).float() / 255.0
