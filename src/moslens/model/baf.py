"""Block-wise Aggregation and Filtering (BAF): a token and a weight for each block of a window.

With c the global token (B x d), Z the tokens (B x N x d) and M (K x N) the tokens of each block (method.md 7, 9.5):

    q_k = q_0 + PE(centre_k)                   block queries; PE a fixed 2-D sine, so one q_0 serves every grid
    a_k = Dec(q_k, Z | tokens of block k)      aggregation, through the decoder layer that the panel uses
    f_k = sigmoid(W [a_k + c])                 filtering: one gate per channel
    a~_k = f_k * a_k                           block tokens, B x K x d
    w   = softmax_k(a~_k . c / sqrt(d))        block weights, B x K, sum 1
    r   = sum_k w_k a~_k                       summary, B x d: the panel reads with c + r
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from moslens.errors import ConfigError
from moslens.picture.grid import cell_cuts, rows_columns

MODES = ("off", "full", "no-filter", "no-aggregation", "gate-only", "weight-only")
VARIANTS = ("A", "B", "C")
Grid = int | tuple[int, int]


class BlockOutput(NamedTuple):
    """K blocks in reading order: a and a~ (B x K x d), w (B x K), r (B x d)."""

    tokens: Tensor
    gated: Tensor
    weights: Tensor
    summary: Tensor


def block_rectangles(rows: int, columns: int, grid: Grid) -> list[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of each block in tokens, in reading order; the cuts of ``grid_blocks``."""
    down, across = (cell_cuts(n, parts) for n, parts in zip((rows, columns), rows_columns(grid), strict=True))
    return [
        (down[i], across[j], down[i + 1], across[j + 1]) for i in range(len(down) - 1) for j in range(len(across) - 1)
    ]


def block_masks(rows: int, columns: int, grid: Grid) -> Tensor:
    """M, K x (rows * columns) bool: which tokens belong to which block. Every token belongs to exactly one."""
    rectangles = block_rectangles(rows, columns, grid)
    masks = torch.zeros(len(rectangles), rows, columns, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, rectangles, strict=True):
        mask[top:bottom, left:right] = True
    return masks.flatten(1)


class Members(NamedTuple):
    """The tokens of each block: indices K x L, L the size of the largest block, and K x L bool, what is padding."""

    places: Tensor
    absent: Tensor

    def of(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Gather tokens by block: B x N x d -> (B K) x L x d, and the padding mask, (B K) x L bool."""
        memory = tokens[:, self.places.to(tokens.device)]
        absent = self.absent.to(tokens.device).expand(memory.shape[0], -1, -1)
        return memory.flatten(0, 1), absent.flatten(0, 1)


def block_members(rows: int, columns: int, grid: Grid) -> Members:
    """The tokens of each block as indices: attention inside a block then reads only its tokens."""
    lists = [
        [y * columns + x for y in range(top, bottom) for x in range(left, right)]
        for top, left, bottom, right in block_rectangles(rows, columns, grid)
    ]
    longest = max(map(len, lists))
    places = [each + each[:1] * (longest - len(each)) for each in lists]
    absent = [[place >= len(each) for place in range(longest)] for each in lists]
    return Members(torch.tensor(places), torch.tensor(absent))


def mean_pool(tokens: Tensor, masks: Tensor) -> Tensor:
    """Mean token of each region: B x N x d and K x N (or B x K x N) bool -> B x K x d."""
    share = masks.to(tokens.dtype)
    return share / share.sum(-1, keepdim=True) @ tokens


def sine_positions(rows: int, columns: int, grid: Grid, dim: int) -> Tensor:
    """PE of block centres, K x d: sines and cosines of y, then of x, in tokens; d a multiple of 4.

    Its root mean square is 0.02, that of a query at initialisation. The residual path carries PE into a_k, where a
    larger one would make blocks similar or different by position alone. ConfigError for another d.
    """
    if dim % 4:
        raise ConfigError(f"block positions need a dim that is a multiple of 4, not {dim}")
    rectangles = block_rectangles(rows, columns, grid)
    centres = torch.tensor([((t + b) / 2, (left + r) / 2) for t, left, b, r in rectangles])
    frequencies = 10_000.0 ** -(torch.arange(dim // 4) / (dim // 4))
    angles = centres[:, :, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return waves * (0.02 * math.sqrt(2))


class BAF(nn.Module):
    """Aggregation and filtering: 147,840 + 384 parameters at d = 384. Every part can be switched off.

    mode: ``full``; ``gate-only`` (w uniform); ``weight-only`` (no gate); ``no-filter`` (neither); ``no-aggregation``
    (mean pooling instead of queries, the same as variant C). variant: ``A`` queries in the shared decoder layer,
    ``B`` queries inside the vision transformer under a block-diagonal mask, ``C`` mean pooling. ConfigError for others.
    """

    def __init__(self, dim: int, mode: str = "full", variant: str = "A") -> None:
        super().__init__()
        if mode not in MODES[1:]:
            raise ConfigError(f"baf is one of {', '.join(MODES)}, not {mode!r}")
        if variant not in VARIANTS:
            raise ConfigError(f"variant is one of {', '.join(VARIANTS)}, not {variant!r}")
        self.variant = "C" if mode == "no-aggregation" else variant
        self.weighs = mode in ("full", "no-aggregation", "weight-only")
        self.query = None if self.variant == "C" else nn.Parameter(torch.randn(dim) * 0.02)
        self.filter = nn.Linear(dim, dim) if mode in ("full", "no-aggregation", "gate-only") else None

    def queries(self, rows: int, columns: int, grid: Grid) -> Tensor:
        """q_k = q_0 + PE(centre_k): K x d."""
        assert self.query is not None
        return self.query + sine_positions(rows, columns, grid, len(self.query)).to(self.query)

    def read(self, layer: nn.Module, tokens: Tensor, queries: Tensor, members: Members) -> Tensor:
        """a_k of variant A, B x K x d: a query attends to the tokens of its block alone.

        layer: the decoder layer; tokens: B x N x d; queries: K x d.
        """
        memory, absent = members.of(tokens)
        alone = queries.expand(tokens.shape[0], -1, -1).flatten(0, 1)[:, None]
        aggregated: Tensor = layer(alone, memory, memory_key_padding_mask=absent)
        return aggregated.view(-1, *queries.shape)

    def forward(self, aggregated: Tensor, whole: Tensor) -> BlockOutput:
        """Filter a (B x K x d) with c (B x d): block tokens, weights and summary."""
        gated = aggregated
        if self.filter is not None:
            gated = torch.sigmoid(self.filter(aggregated + whole[:, None])) * aggregated
        weights = torch.full_like(gated[..., 0], 1 / gated.shape[1])
        if self.weighs:
            affinity = (gated * whole[:, None]).sum(-1).float() / math.sqrt(gated.shape[-1])
            weights = affinity.softmax(-1).to(gated.dtype)
        return BlockOutput(aggregated, gated, weights, (weights[..., None] * gated).sum(1))


def read_inside(backbone: Any, pictures: Tensor, queries: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variant B: block queries pass through the vision transformer. Returns c, Z and a (B x K x d).

    A query attends to itself and the patch tokens of its block; no other token attends to a query, so c and Z are
    those of the plain network.
    """
    body = backbone.body
    x = body.norm_pre(body._pos_embed(body.patch_embed(backbone.normalise(pictures))))
    own, count, prefix = x.shape[1], len(queries), body.num_prefix_tokens
    allowed = torch.zeros(own + count, own + count, dtype=torch.bool, device=x.device)
    allowed[:own, :own] = True
    allowed[own:, prefix:own] = masks
    allowed[own:, own:] = torch.eye(count, dtype=torch.bool, device=x.device)
    x = torch.cat([x, queries.expand(x.shape[0], count, -1)], dim=1)
    for block in body.blocks:
        x = block(x, attn_mask=allowed)
    x = body.norm(x)
    return x[:, 0], x[:, prefix:own], x[:, own:]
