"""The losses of the labelled stream, the same in every stage that learns opinion scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moslens.data.labelled_views import Batch
from moslens.losses import quality_loss
from moslens.model import SHDIQA
from moslens.model.pixels import as_float, layout_on, mirrored

PAIRS = 4
"""One picture in so many is seen with its mirror image too."""


def labelled_loss(model: SHDIQA, batch: Batch, correlation: float, mirror: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a labelled batch, and its terms.

    quality: as :func:`moslens.losses.quality_loss`. mirror, where its weight is above 0: SmoothL1 between the scores of
    a picture and of its mirror image, for a quarter of the batch.
    """
    pictures, labels, sizes = batch
    planes = as_float(pictures)
    if not mirror:
        loss = quality_loss(model(planes, sizes), labels, correlation)
        return loss, {"quality": loss.detach()}
    pairs = -(-len(labels) // PAIRS)
    own = None if sizes is None else sizes[:pairs]
    planes = torch.cat([planes, mirrored(planes[:pairs], own)]).contiguous(memory_format=layout_on(planes.device))
    scores = model(planes, None if sizes is None or own is None else torch.cat([sizes, own]))
    loss = quality_loss(scores[: len(labels)], labels, correlation)
    gap = F.smooth_l1_loss(scores[len(labels) :].float(), scores[:pairs].float())
    return loss + mirror * gap, {"quality": loss.detach(), "mirror": gap.detach()}
