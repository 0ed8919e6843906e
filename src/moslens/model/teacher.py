"""The teacher: kind and level of the distortion in regions of a picture (method.md 9.4).

    Z = backbone(x)                          B x N x d
    p = mean of Z over a region              B x R x d     (or mean and deviation: 2 d)
    e = MLP(p) / |MLP(p)|                    B x R x 128   the embedding, the target of the student
    kind logits = H_kind(sqrt(128) e)        B x R x C + 1 the C kinds of the teacher in their order, then pristine
    level = 1 + 4 H_level(sqrt(128) e)       B x R         1 to 5

The heads read the embedding, so they can read that of the student too (method.md 12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from moslens.distortions import PAPER_KINDS
from moslens.errors import ConfigError
from moslens.model.backbone import build_backbone
from moslens.model.baf import CELL

EMBEDDING = 128
Labels = TypeVar("Labels", Tensor, NDArray[np.int64])


def kind_classes(kinds: Labels, count: int) -> Labels:
    """Classes of kind labels, for a classifier of the first ``count`` kinds: -1, no distortion, becomes the last class.

    Any shape. ValueError for a kind that the classifier does not know.
    """
    if math.prod(kinds.shape) and int(kinds.max()) >= count:
        raise ValueError(f"a classifier of {count} kinds cannot learn kind {int(kinds.max())}")
    return kinds % (count + 1)


def class_kinds(classes: Labels, count: int) -> Labels:
    """The inverse of :func:`kind_classes`."""
    return (classes + 1) % (count + 1) - 1


@dataclass(frozen=True)
class TeacherConfig:
    """``statistics``: "mean" of the tokens of a region, or "mean-std", mean and standard deviation.

    ``reference``: a region is described by its difference from the same region of the pristine picture (R-B).
    ``kinds``: the names of the kinds it tells apart, in the order of its logits.
    """

    backbone: str = "tf_efficientnet_lite0"
    dim: int = 192
    statistics: str = "mean"
    reference: bool = False
    fold: bool = True
    kinds: tuple[str, ...] = PAPER_KINDS


class Regions(NamedTuple):
    """R regions of each picture: pooled tokens p, embedding e (unit length), kind logits, level (1 to 5)."""

    pooled: Tensor
    embedding: Tensor
    kinds: Tensor
    levels: Tensor


class Teacher(nn.Module):
    """Describes regions of 224 x 224 windows. ConfigError for unknown statistics, CheckpointError as build_backbone."""

    def __init__(self, config: TeacherConfig, weights: str | Path | None = None) -> None:
        super().__init__()
        if config.statistics not in ("mean", "mean-std"):
            raise ConfigError(f"statistics are mean or mean-std, not {config.statistics!r}")
        self.config = config
        self.backbone = build_backbone(config.backbone, config.dim, weights=weights, fold=config.fold)
        # The teacher does not use c. DistributedDataParallel would wait for the gradient of its layer.
        for name, parameter in self.backbone.named_parameters():
            if name.startswith("whole."):
                parameter.requires_grad_(False)
        width = int(self.backbone.dim) * (2 if config.statistics == "mean-std" else 1)  # type: ignore[arg-type]
        self.embed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, EMBEDDING))
        self.heads = Heads(config.kinds)

    def forward(self, pictures: Tensor, boxes: Tensor, pristine: Tensor | None = None) -> Regions:
        """pictures and, with ``reference``, the pristine pictures: B x 3 x 224 x 224 in [0, 1].

        boxes: B x R x 4 ints, (top, left, bottom, right) in tokens. ValueError where pristine pictures are missing.
        """
        pooled = self.pool(pictures, boxes)
        if self.config.reference:
            if pristine is None:
                raise ValueError("a teacher with a reference needs the pristine pictures")
            pooled = pooled - self.pool(pristine, boxes)
        embedding = F.normalize(self.embed(pooled).float(), dim=-1)
        kinds, levels = self.heads(embedding)
        return Regions(pooled, embedding, kinds, levels)

    def pool(self, pictures: Tensor, boxes: Tensor) -> Tensor:
        """p, B x R x d (or 2 d), of B x 3 x 224 x 224 pictures and B x R x 4 boxes."""
        _, tokens, _ = self.backbone(pictures)
        masks = box_masks(boxes, pictures.shape[2] // CELL, pictures.shape[3] // CELL)
        share = masks.to(tokens.dtype)
        share = share / share.sum(-1, keepdim=True)
        mean: Tensor = share @ tokens
        if self.config.statistics == "mean":
            return mean
        variance = (share @ tokens.square() - mean.square()).clamp_min(0)
        return torch.cat([mean, (variance + 1e-4).sqrt()], dim=-1)


class Heads(nn.Module):
    """Linear heads for kind and level of unit vectors of the embedding space (... x 128). ``kinds``: their names."""

    def __init__(self, kinds: tuple[str, ...] = PAPER_KINDS) -> None:
        super().__init__()
        self.kinds = kinds
        self.kind = nn.Linear(EMBEDDING, len(kinds) + 1)
        self.level = nn.Linear(EMBEDDING, 1)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Kind logits (... x C + 1) and level (...), 1 to 5."""
        scaled = embedding * math.sqrt(EMBEDDING)
        return self.kind(scaled), 1 + 4 * self.level(scaled).squeeze(-1)


def box_masks(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """B x R x 4 boxes in tokens -> B x R x (rows * columns) bool."""
    top, left, bottom, right = (edge[..., None] for edge in boxes.unbind(-1))
    y, x = torch.arange(rows, device=boxes.device), torch.arange(columns, device=boxes.device)
    inside = ((y >= top) & (y < bottom))[..., :, None] & ((x >= left) & (x < right))[..., None, :]
    return inside.flatten(-2)
