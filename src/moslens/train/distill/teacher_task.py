"""The losses of the teacher (method.md 9.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moslens.distortions.kinds import NO_DISTORTION
from moslens.model.pixels import as_float
from moslens.model.teacher import Regions, Teacher, kind_classes

_IGNORED = -100
"""The default ``ignore_index`` of PyTorch's cross-entropy."""


class TeacherTask(nn.Module):
    """One batch of labelled regions in, a dict of losses out.

    batch: the items of :class:`moslens.train.distill.region_views.DegradedViews`, stacked.
    L_T = CE(kind, smoothing s) + weight * SmoothL1((level - 1) / 4), the level term on degraded regions only. Both are
    sums over labelled regions divided by the number of all regions, so that the mean over processes is that of the
    whole batch.
    """

    def __init__(self, model: Teacher, smoothing: float, level_weight: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.level_weight = level_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pristine = as_float(batch["pristine"]) if "pristine" in batch else None
        regions: Regions = self.model(as_float(batch["picture"]), batch["boxes"], pristine)
        kinds, levels, labelled = batch["kinds"], batch["levels"], batch["labelled"]
        logits = regions.kinds.float().flatten(0, 1)
        classes = kind_classes(kinds, logits.shape[1] - 1).flatten()
        shown = classes.masked_fill(~labelled.flatten(), _IGNORED)
        kind_loss = F.cross_entropy(
            logits, shown, ignore_index=_IGNORED, label_smoothing=self.smoothing, reduction="sum"
        )
        degraded = labelled & (kinds != NO_DISTORTION)
        gaps = F.smooth_l1_loss((regions.levels.float() - 1) / 4, (levels.float() - 1) / 4, reduction="none")
        level_loss = (gaps * degraded).sum()
        loss = (kind_loss + self.level_weight * level_loss) / kinds.numel()
        with torch.no_grad():
            right = (logits.argmax(1) == shown).sum() / labelled.sum().clamp_min(1)
            error = ((regions.levels - levels).abs() * degraded).sum() / degraded.sum().clamp_min(1)
        return {
            "loss": loss,
            "kind": kind_loss.detach() / kinds.numel(),
            "level": level_loss.detach() / kinds.numel(),
            "accuracy": right,
            "level_error": error,
        }
