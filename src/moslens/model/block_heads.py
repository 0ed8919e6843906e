"""Quality, kind and level of every block of a window, in the forward pass that scores it (method.md 12).

quality of block k      mean_j h . Dec(panel_j + c + r, Z | tokens of block k)
weight of block k       w_k of BAF
kind, level of block k  Heads(u_k) with u_k = P a~_k / |P a~_k|      distilled: the teacher's heads, in its space
                        Head(a~_k)                                   supervised: trained on labels, for comparison
                        Head([a~_k, mean Z, std Z, c])               fitted after training, on frozen features; mean
                                                                     and deviation over the tokens of block k
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moslens.model.baf import mean_pool
from moslens.model.decoder import PanelDecoder
from moslens.model.shdiqa import SHDIQA, ModelOutput, WindowScorer
from moslens.model.teacher import CLASSES, EMBEDDING, Heads, kind_classes
from moslens.scoring.card import BLOCK_OUTPUTS

OUTPUTS = ("score", *BLOCK_OUTPUTS)


class DistilledHead(nn.Module):
    """Kind logits (B x K x 27) and level (B x K, about 1 to 5) of block tokens a~ through the teacher's heads."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, EMBEDDING)
        self.heads = Heads()

    def forward(self, gated: Tensor) -> tuple[Tensor, Tensor]:
        kinds_and_level: tuple[Tensor, Tensor] = self.heads(F.normalize(self.projection(gated), dim=-1))
        return kinds_and_level


class SupervisedHead(nn.Module):
    """Kind logits and level from a head on a~ that is trained with labels.

    Every kind has its own map to the level, since levels of different kinds are not comparable. The level is the mean
    over kinds, weighted by their probabilities.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.kind = nn.Linear(dim, CLASSES)
        self.level = nn.Linear(dim, CLASSES - 1)

    def forward(self, gated: Tensor) -> tuple[Tensor, Tensor]:
        return _kinds_and_level(self.kind, self.level, self.norm(gated))

    def loss(self, gated: Tensor, kinds: Tensor, levels: Tensor) -> Tensor:
        """CE of kinds (-1 pristine) + SmoothL1 of levels over degraded blocks; labels B x K."""
        return naming_loss(self(gated), kinds, levels)


class FittedHead(nn.Module):
    """Kind logits and level from one hidden layer on :func:`block_features`, fitted after training.

    Beside the block token it reads mean and deviation of the tokens inside the block, and the global token.
    """

    def __init__(self, dim: int, hidden: int = 256) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(4 * dim), nn.Linear(4 * dim, hidden), nn.GELU(), nn.Dropout(0.2))
        self.kind = nn.Linear(hidden, CLASSES)
        self.level = nn.Linear(hidden, CLASSES - 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return _kinds_and_level(self.kind, self.level, self.body(features))


def _kinds_and_level(kind: nn.Module, level: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Kind logits, and the mean of the levels of all kinds, weighted by the probabilities of the kinds."""
    logits: Tensor = kind(hidden)
    shares = logits[..., :-1].detach().softmax(-1)
    return logits, 3 + (shares * level(hidden)).sum(-1)


def naming_loss(predicted: tuple[Tensor, Tensor], kinds: Tensor, levels: Tensor) -> Tensor:
    """CE of kinds (... x 27; label -1 pristine) + SmoothL1 of levels over degraded blocks."""
    logits, strengths = predicted
    kind_loss = F.cross_entropy(logits.float().flatten(0, -2), kind_classes(kinds).flatten())
    degraded = (kinds >= 0).float()
    gaps = F.smooth_l1_loss(strengths.float(), levels.float(), reduction="none")
    return kind_loss + (gaps * degraded).sum() / degraded.sum().clamp_min(1)


def block_features(output: ModelOutput, masks: Tensor) -> Tensor:
    """[a~_k, mean and deviation of Z over the tokens of block k, c]: B x K x 4 d. masks: K x N bool."""
    masks = masks.to(output.tokens.device)
    mean = mean_pool(output.tokens, masks)
    variance = mean_pool(output.tokens.square(), masks) - mean.square()
    whole = output.whole[:, None].expand_as(mean)
    return torch.cat([output.blocks.gated, mean, (variance.clamp_min(0) + 1e-5).sqrt(), whole], dim=-1)


class WindowDescriber(nn.Module):
    """What is exported of a model with maps.

    forward: n x 224 x 224 x 3 uint8 RGB -> score (n) and block_score (n x K) in MOS units, block_weight (n x K),
    kind_logits (n x K x 27: the kinds in their order, then pristine), level (n x K); blocks in reading order.
    """

    def __init__(self, scorer: WindowScorer, head: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer
        self.head = head

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        model, mean, std = self.scorer.model, self.scorer.mean, self.scorer.std
        output = model.parts(self.scorer.pictures(windows))
        fitted = isinstance(self.head, FittedHead)
        kinds, levels = self.head(block_features(output, model.masks()) if fitted else output.blocks.gated)
        quality = block_quality(model, output)
        return output.score * std + mean, quality * std + mean, output.blocks.weights, kinds, levels


def block_quality(model: SHDIQA, output: ModelOutput) -> Tensor:
    """Quality of each block of the configured grid, B x K in units of the standardised label.

    Decoder and head are those of the score; for block k the cross-attention reads the tokens of block k alone.
    """
    assert isinstance(model.decoder, PanelDecoder)
    return model.decoder.inside(output.whole + output.blocks.summary, output.tokens, model.members())


def read_head(state: Mapping[str, Tensor], dim: int) -> DistilledHead | SupervisedHead | None:
    """The head in a student's ``embedding.safetensors``, in eval mode; None where it has none for kinds."""
    supervised = {key.removeprefix("head."): value for key, value in state.items() if key.startswith("head.")}
    if supervised:
        own = SupervisedHead(dim)
        own.load_state_dict(supervised)
        return own.eval()
    if not any(key.startswith("heads.") for key in state):
        return None
    head = DistilledHead(dim)
    head.load_state_dict(dict(state))
    return head.eval()
