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

CELL = 16
"""A token stands for 16 x 16 px, whatever the backbone."""

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


class TokenGrid(NamedTuple):
    """The tokens of a batch of padded pictures, and how many of them show the picture.

    ``rows`` x ``columns`` tokens, row-major. ``valid``: B x 2 ints, the rows and columns that lie in the picture; None
    where there is no padding. Blocks are laid over the valid tokens.
    """

    rows: int
    columns: int
    valid: Tensor | None = None

    @classmethod
    def of(cls, pictures: Tensor, sizes: Tensor | None = None) -> TokenGrid:
        """The grid for B x 3 x H x W pictures, of which ``sizes`` (B x 2 ints: rows, columns) px are not padding."""
        height, width = pictures.shape[2:]
        return cls(height // CELL, width // CELL, None if sizes is None else valid_cells(sizes, CELL))

    def absent(self) -> Tensor | None:
        """B x N bool: the tokens of the padding. None where there are none."""
        return None if self.valid is None else ~inside(self.valid, self.rows, self.columns).flatten(1)

    def masks(self, grid: Grid, device: torch.device | None = None) -> Tensor:
        """M, B x K x N bool: the tokens of each block; B is 1 without padding. A valid token is in exactly one."""
        rows, columns = rows_columns(grid)
        down = self._belongs(self.rows, rows, 0, device)
        across = self._belongs(self.columns, columns, 1, device)
        return (down[:, :, None, :, None] & across[:, None, :, None, :]).flatten(3, 4).flatten(1, 2)

    def centres(self, grid: Grid, device: torch.device | None = None) -> Tensor:
        """(y, x) of the centre of each block, in tokens: B x K x 2; B is 1 without padding."""
        middles = []
        for axis, parts in enumerate(rows_columns(grid)):
            cuts = self._cuts(parts, axis, device)
            middles.append((cuts[:, :-1] + cuts[:, 1:]) / 2)
        y, x = middles
        shape = (y.shape[0], y.shape[1], x.shape[1])
        return torch.stack([y[:, :, None].expand(shape), x[:, None, :].expand(shape)], -1).flatten(1, 2)

    def _cuts(self, parts: int, axis: int, device: torch.device | None) -> Tensor:
        """B x (parts + 1), as :func:`moslens.picture.grid.cell_cuts`."""
        if self.valid is None:
            return torch.tensor([cell_cuts((self.rows, self.columns)[axis], parts)], device=device).float()
        shares = torch.arange(parts + 1, device=self.valid.device) / parts
        return (self.valid[:, axis, None] * shares).round()

    def _belongs(self, cells: int, parts: int, axis: int, device: torch.device | None) -> Tensor:
        """B x parts x cells bool."""
        cuts = self._cuts(parts, axis, device)[..., None]
        place = torch.arange(cells, device=cuts.device)
        return (place >= cuts[:, :-1]) & (place < cuts[:, 1:])


def valid_cells(sizes: Tensor, stride: int) -> Tensor:
    """How many cells of ``stride`` px show a picture of ``sizes`` px: those of which it covers half, at least one."""
    return torch.div(sizes + stride // 2, stride, rounding_mode="floor").clamp_min(1)


def inside(valid: Tensor, rows: int, columns: int) -> Tensor:
    """B x rows x columns bool, from B x 2 numbers of valid rows and columns."""
    y, x = torch.arange(rows, device=valid.device), torch.arange(columns, device=valid.device)
    return (y < valid[:, :1])[:, :, None] & (x < valid[:, 1:])[:, None, :]


def mean_pool(tokens: Tensor, masks: Tensor) -> Tensor:
    """Mean token of each region: B x N x d and K x N (or B or 1 x K x N) bool -> B x K x d."""
    share = masks.to(tokens.dtype)
    return share / share.sum(-1, keepdim=True) @ tokens


def sine_positions(centres: Tensor, dim: int) -> Tensor:
    """PE of block centres (... x 2): ... x d, sines and cosines of y, then of x, in tokens; d a multiple of 4.

    Its root mean square is 0.02, that of a query at initialisation. The residual path carries PE into a_k, where a
    larger one would make blocks similar or different by position alone. ConfigError for another d.
    """
    if dim % 4:
        raise ConfigError(f"block positions need a dim that is a multiple of 4, not {dim}")
    frequencies = 10_000.0 ** -(torch.arange(dim // 4, device=centres.device) / (dim // 4))
    angles = centres[..., None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return waves * (0.02 * math.sqrt(2))


def read_blocks(
    layer: nn.TransformerDecoderLayer, queries: Tensor, tokens: Tensor, masks: Tensor, readers: int
) -> Tensor:
    """One decoder layer in which the queries of a block read the tokens of that block alone, in one pass for all.

    queries: B x (K * readers) x d, the ``readers`` queries of a block one after another; they see each other and those
    of no other block. tokens: B x N x d; masks: B (or 1) x K x N bool. Returns B x (K * readers) x d.
    """
    count = masks.shape[1]
    block = torch.arange(count, device=tokens.device).repeat_interleave(readers)
    hidden = ~masks.repeat_interleave(readers, dim=1).expand(tokens.shape[0], -1, -1)
    found: Tensor = layer(
        queries,
        tokens,
        tgt_mask=block[:, None] != block[None, :],
        memory_mask=hidden.repeat_interleave(layer.self_attn.num_heads, dim=0),
    )
    return found


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

    def queries(self, centres: Tensor) -> Tensor:
        """q_k = q_0 + PE(centre_k): B x K x d for centres B x K x 2."""
        assert self.query is not None
        return self.query + sine_positions(centres, len(self.query)).to(self.query)

    def read(self, layer: nn.TransformerDecoderLayer, tokens: Tensor, queries: Tensor, masks: Tensor) -> Tensor:
        """a_k of variant A, B x K x d: a query attends to the tokens of its block alone.

        layer: the decoder layer; tokens: B x N x d; queries: B (or 1) x K x d; masks: B (or 1) x K x N.
        """
        return read_blocks(layer, queries.expand(tokens.shape[0], -1, -1), tokens, masks, 1)

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
