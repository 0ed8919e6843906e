"""Teaching the teacher, and measuring it on photos it never saw (method.md 9.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moslens.model.teacher import PRISTINE, Regions, Teacher
from moslens.train.distill.region_views import IGNORE


class TeacherTask(nn.Module):
    """One batch of labelled regions in, a dict of losses out.

    L_T = CE(kind, smoothing s) + weight * SmoothL1((level - 1) / 4), the level term on degraded regions only. Both are
    sums over the regions that have a label divided by all regions, so that processes can average them.
    """

    def __init__(self, model: Teacher, smoothing: float, level_weight: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.level_weight = level_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pristine = as_float(batch["pristine"]) if "pristine" in batch else None
        regions: Regions = self.model(as_float(batch["picture"]), batch["boxes"], pristine)
        kinds, levels = batch["kinds"], batch["levels"]
        labelled = kinds != IGNORE
        logits = regions.kinds.float().flatten(0, 1)
        kind_loss = F.cross_entropy(
            logits, kinds.flatten(), ignore_index=IGNORE, label_smoothing=self.smoothing, reduction="sum"
        )
        degraded = labelled & (kinds != PRISTINE)
        gaps = F.smooth_l1_loss((regions.levels.float() - 1) / 4, (levels.float() - 1) / 4, reduction="none")
        level_loss = (gaps * degraded).sum()
        loss = (kind_loss + self.level_weight * level_loss) / kinds.numel()
        with torch.no_grad():
            right = (logits.argmax(1) == kinds.flatten()).sum() / labelled.sum().clamp_min(1)
            error = ((regions.levels - levels).abs() * degraded).sum() / degraded.sum().clamp_min(1)
        return {
            "loss": loss,
            "kind": kind_loss.detach() / kinds.numel(),
            "level": level_loss.detach() / kinds.numel(),
            "accuracy": right,
            "level_error": error,
        }


def as_float(pictures: Tensor) -> Tensor:
    """uint8 B x 3 x H x W -> float in [0, 1], channels last."""
    return pictures.to(memory_format=torch.channels_last).float() / 255.0
