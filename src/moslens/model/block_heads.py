"""Quality, kind and level of every block, in the forward pass that scores a window or picture (method.md 12).

quality of block k      mean_j h . Dec(panel_j + c + r, Z | tokens of block k)
weight of block k       w_k of BAF
kind, level of block k  Heads(u_k) with u_k = P a~_k / |P a~_k|      distilled: the teacher's heads, in its space
                        Head(a~_k)                                   supervised: trained on labels, for comparison
                        Head([a~_k, m_k(Z), m_k(T), c, m(T)])        fitted after training, on frozen features; m_k:
                                                                     mean and deviation over the places of block k,
                                                                     m: over the picture; T: its texture

A head has C + 1 kind logits: its kinds, named in ``kinds``, in their order, then no distortion.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moslens.distortions import PAPER_KINDS
from moslens.model.baf import TokenGrid
from moslens.model.decoder import PanelDecoder
from moslens.model.region_features import FeatureScale, mean_and_deviation
from moslens.model.shdiqa import SHDIQA, ModelOutput, PictureScorer
from moslens.model.teacher import EMBEDDING, Heads, kind_classes
from moslens.scoring.card import BLOCK_OUTPUTS

OUTPUTS = ("score", *BLOCK_OUTPUTS)

_FARTHEST = 8.0


class DistilledHead(nn.Module):
    """Kind logits (B x K x C + 1) and level (B x K, about 1 to 5) of block tokens a~ through the teacher's heads."""

    def __init__(self, dim: int, kinds: tuple[str, ...] = PAPER_KINDS) -> None:
        super().__init__()
        self.kinds = kinds
        self.projection = nn.Linear(dim, EMBEDDING)
        self.heads = Heads(kinds)

    def forward(self, gated: Tensor) -> tuple[Tensor, Tensor]:
        kinds_and_level: tuple[Tensor, Tensor] = self.heads(F.normalize(self.projection(gated), dim=-1))
        return kinds_and_level


class SupervisedHead(nn.Module):
    """Kind logits and level from a head on a~ that is trained with labels.

    Every kind has its own map to the level, since levels of different kinds are not comparable. The level is the mean
    over kinds, weighted by their probabilities.
    """

    def __init__(self, dim: int, kinds: tuple[str, ...] = PAPER_KINDS) -> None:
        super().__init__()
        self.kinds = kinds
        self.norm = nn.LayerNorm(dim)
        self.kind = nn.Linear(dim, len(kinds) + 1)
        self.level = nn.Linear(dim, len(kinds))

    def forward(self, gated: Tensor) -> tuple[Tensor, Tensor]:
        return _kinds_and_level(self.kind, self.level, self.norm(gated))

    def loss(self, gated: Tensor, kinds: Tensor, levels: Tensor) -> Tensor:
        """CE of kinds (-1 pristine) + SmoothL1 of levels over degraded blocks; labels B x K."""
        return naming_loss(self(gated), kinds, levels)


class FittedHead(nn.Module):
    """Kind logits and level from one hidden layer on :func:`block_features`, fitted after training.

    ``features``: their number; all are brought to one scale.
    """

    def __init__(self, features: int, kinds: tuple[str, ...] = PAPER_KINDS, hidden: int = 256) -> None:
        super().__init__()
        self.kinds = kinds
        self.scale = FeatureScale(features, _FARTHEST)
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Dropout(0.2))
        self.kind = nn.Linear(hidden, len(kinds) + 1)
        self.level = nn.Linear(hidden, len(kinds))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return _kinds_and_level(self.kind, self.level, self.body(self.scale(features)))


def _kinds_and_level(kind: nn.Module, level: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Kind logits, and the mean of the levels of all kinds, weighted by the probabilities of the kinds."""
    logits: Tensor = kind(hidden)
    shares = logits[..., :-1].detach().softmax(-1)
    return logits, 3 + (shares * level(hidden)).sum(-1)


def naming_loss(predicted: tuple[Tensor, Tensor], kinds: Tensor, levels: Tensor) -> Tensor:
    """CE of kinds (... x C + 1; label -1 pristine) + SmoothL1 of levels over degraded blocks."""
    logits, strengths = predicted
    kind_loss = F.cross_entropy(logits.float().flatten(0, -2), kind_classes(kinds, logits.shape[-1] - 1).flatten())
    degraded = (kinds >= 0).float()
    gaps = F.smooth_l1_loss(strengths.float(), levels.float(), reduction="none")
    return kind_loss + (gaps * degraded).sum() / degraded.sum().clamp_min(1)


def faults_loss(predicted: tuple[Tensor, Tensor], faults: Tensor) -> Tensor:
    """-log sum of the probabilities of the faults that are there + SmoothL1 of the level over degraded blocks.

    faults: N x C levels, 0 where a kind is not there; a row of zeros is a clean block. Any of several faults is a right
    answer, and the level is that of the faults in proportion to their probabilities. With one fault in each block at
    most this is :func:`naming_loss`.
    """
    logits, strengths = predicted
    clean = (faults == 0).all(-1, keepdim=True)
    there = torch.cat([faults > 0, clean], -1)
    known = logits.float().log_softmax(-1).masked_fill(~there, -torch.inf)
    levels = (known.detach().softmax(-1)[..., :-1] * faults).sum(-1)
    gaps = F.smooth_l1_loss(strengths.float(), levels, reduction="none") * ~clean[..., 0]
    return -known.logsumexp(-1).mean() + gaps.sum() / (~clean).sum().clamp_min(1)


def block_features(output: ModelOutput) -> Tensor:
    """[a~_k, m_k(Z), m_k(T), c, m(T)], B x K x F: m_k mean and deviation over block k, m over the picture."""
    local = output.features(output.masks)
    overall = mean_and_deviation(output.texture, output.masks.any(1, keepdim=True))
    whole = torch.cat([output.whole[:, None], overall], -1).expand(-1, local.shape[1], -1)
    return torch.cat([output.blocks.gated, local, whole], dim=-1)


def feature_count(model: SHDIQA) -> int:
    """How many :func:`block_features` a block has."""
    channels = model.backbone.texture_channels
    assert isinstance(channels, int)
    return 4 * model.dim + 4 * channels


class PictureDescriber(nn.Module):
    """What is exported of a model with maps. ``grid``: blocks a side of the map, by default those of the score.

    forward: pictures as for the scorer -> score (n) and block_score (n x K) in MOS units, block_weight (n x K),
    kind_logits (n x K x C + 1: the kinds of the head in their order, then pristine), level (n x K); blocks in reading
    order.
    """

    def __init__(
        self, scorer: PictureScorer, head: DistilledHead | SupervisedHead | FittedHead, grid: int | None = None
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.head = head
        self.kinds = head.kinds
        self.grid = scorer.model.config.grid if grid is None else grid
        self.view = scorer.view

    def forward(self, pictures: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        model, mean, std = self.scorer.model, self.scorer.mean, self.scorer.std
        planes = self.scorer.planes(pictures)
        output = model.parts(planes, sizes=sizes)
        if self.grid != model.config.grid:
            output = model.regrid(output, TokenGrid.of(planes, sizes), self.grid)
        fitted = isinstance(self.head, FittedHead)
        kinds, levels = self.head(block_features(output) if fitted else output.blocks.gated)
        quality = block_quality(model, output)
        return output.score * std + mean, quality * std + mean, output.blocks.weights, kinds, levels


def block_quality(model: SHDIQA, output: ModelOutput) -> Tensor:
    """Quality of each block, B x K in units of the standardised label.

    Decoder, head and correction are those of the score; for block k they read the tokens of block k alone.
    """
    assert isinstance(model.decoder, PanelDecoder)
    quality = model.decoder.inside(output.reader, output.tokens, output.masks)
    return quality if model.correction is None else quality + model.correction(output.features(output.masks))


def read_head(
    state: Mapping[str, Tensor], dim: int, kinds: tuple[str, ...] = PAPER_KINDS
) -> DistilledHead | SupervisedHead | None:
    """The head for ``kinds`` in a student's ``embedding.safetensors``, in eval mode; None where it has none."""
    supervised = {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
    if supervised:
        own = SupervisedHead(dim, kinds)
        own.load_state_dict(supervised)
        return own.eval()
    if not any(key.startswith("heads.") for key in state):
        return None
    head = DistilledHead(dim, kinds)
    head.load_state_dict(dict(state))
    return head.eval()
