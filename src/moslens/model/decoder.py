"""The score decoder of DEIQT (AAAI 2023): a panel of learned queries reads the tokens through one decoder layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moslens.model.baf import read_blocks

PANEL = 6


class PanelDecoder(nn.Module):
    """o_j = Dec(panel_j + c + r, Z);  y = mean_j h . o_j   (method.md 9.5).

    One pre-norm transformer decoder layer (feed-forward 4 d, GELU), ``PANEL`` learned queries and one
    bias-free linear map h shared by the panel. BAF sends its block queries through the same layer.
    """

    def __init__(self, dim: int, heads: int = 6, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(
            dim, heads, 4 * dim, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.panel = nn.Parameter(torch.randn(PANEL, dim) * 0.02)
        self.head = nn.Linear(dim, 1, bias=False)

    def forward(self, whole: Tensor, tokens: Tensor, absent: Tensor | None = None) -> Tensor:
        """whole (c, or c + r): B x d; tokens Z: B x N x d -> scores B, in units of the standardised label.

        absent: B x N bool, tokens that are not read.
        """
        queries = self.panel + whole[:, None, :]
        opinions = self.layer(queries, tokens, memory_key_padding_mask=absent)
        scores: Tensor = self.head(opinions).mean(dim=(1, 2))
        return scores

    def inside(self, whole: Tensor, tokens: Tensor, masks: Tensor) -> Tensor:
        """The score of each block, for which the panel reads the tokens of that block alone.

        whole: B x d; tokens: B x N x d; masks: the tokens of each of K blocks, B (or 1) x K x N -> B x K.
        """
        count = masks.shape[1]
        queries = (self.panel + whole[:, None, :]).repeat(1, count, 1)
        opinions = read_blocks(self.layer, queries, tokens, masks, PANEL)
        scores: Tensor = self.head(opinions).unflatten(1, (count, PANEL)).mean(dim=(2, 3))
        return scores


class LinearDecoder(nn.Module):
    """y = h . c: a fine-tuned backbone and a linear head, the baseline of the ablation (method.md 9.9)."""

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.head = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, whole: Tensor, tokens: Tensor, absent: Tensor | None = None) -> Tensor:
        """whole c: B x d; the tokens are not read."""
        scores: Tensor = self.head(self.dropout(whole)).squeeze(-1)
        return scores
