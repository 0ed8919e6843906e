"""From stored uint8 pictures to the input of a network."""

from __future__ import annotations

import torch
from torch import Tensor


def layout_on(device: torch.device) -> torch.memory_format:
    """The fastest layout of pictures: channels last on a CPU, planes for the depthwise kernels of a GPU."""
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


def as_float(pictures: Tensor) -> Tensor:
    """uint8 B x 3 x H x W -> float in [0, 1], in the layout of the device."""
    return pictures.to(memory_format=layout_on(pictures.device)).float() / 255.0


def mirrored(pictures: Tensor, sizes: Tensor | None) -> Tensor:
    """Each picture mirrored left to right, B x 3 x H x W; padding (see ``sizes``, B x 2) stays behind it, reflected."""
    if sizes is None:
        return pictures.flip(3)
    place = torch.arange(pictures.shape[3], device=pictures.device)
    width = sizes[:, 1:]
    source = torch.where(place < width, width - 1 - place, place - width + 1)
    return pictures.gather(3, source[:, None, None, :].expand_as(pictures))
