"""The score decoder of DEIQT (AAAI 2023): a panel of learned queries reads the tokens through one decoder layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moslens.model.baf import Members

PANEL = 6


class PanelDecoder(nn.Module):
    """o_j = Dec(panel_j + c + r, Z);  y = mean_j h . o_j   (method.md 9.5).

    One pre-norm transformer decoder layer (feed-forward 4 d, GELU, no dropout), ``PANEL`` learned queries and one
    bias-free linear map h shared by the panel. BAF sends its block queries through the same layer.
    """

    def __init__(self, dim: int, heads: int = 6) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(
            dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.panel = nn.Parameter(torch.randn(PANEL, dim) * 0.02)
        self.head = nn.Linear(dim, 1, bias=False)

    def forward(self, whole: Tensor, tokens: Tensor) -> Tensor:
        """whole (c, or c + r): B x d; tokens Z: B x N x d -> scores B, in units of the standardised label."""
        queries = self.panel + whole[:, None, :]
        opinions = self.layer(queries, tokens)
        scores: Tensor = self.head(opinions).mean(dim=(1, 2))
        return scores

    def inside(self, whole: Tensor, tokens: Tensor, members: Members) -> Tensor:
        """The score of each block, for which the panel reads the tokens of that block alone.

        whole: B x d; tokens: B x N x d; members: the tokens of each of K blocks -> B x K.
        """
        memory, absent = members.of(tokens)
        count = len(members.places)
        queries = (self.panel + whole[:, None, :])[:, None].expand(-1, count, -1, -1).flatten(0, 1)
        opinions = self.layer(queries, memory, memory_key_padding_mask=absent)
        scores: Tensor = self.head(opinions).mean(dim=(1, 2)).view(-1, count)
        return scores


class LinearDecoder(nn.Module):
    """y = h . c: a fine-tuned backbone and a linear head, the baseline of the ablation (method.md 9.9)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(dim, 1)

    def forward(self, whole: Tensor, tokens: Tensor) -> Tensor:
        """whole c: B x d; the tokens are not read."""
        scores: Tensor = self.head(whole).squeeze(-1)
        return scores
