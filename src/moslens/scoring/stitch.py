"""From the blocks of windows or passes, which may overlap, to one map over the picture.

The map has as many cells as make it as fine as the g x g blocks of a piece: round(h g / 224) x round(w g / 224), at
least one, for windows on a picture of h x w px at the working size, and g x g for one pass over a whole picture. A cell
is the mean of all blocks that overlap it, whichever pieces they are of, each weighted by the area it shares with the
cell. The padding of a small picture is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moslens.picture.grid import CELL, cell_cuts
from moslens.picture.windows import Piece, View

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stitched:
    """R x C cells in reading order.

    ``score``: raw quality. ``weight``: share in the picture's score, sum 1. ``probabilities``: R x C x (kinds + 1), the
    last one that nothing is wrong. ``level``: 1 to 5, the mean level weighted by the probability of a fault.
    """

    score: Floats
    weight: Floats
    probabilities: Floats
    level: Floats

    @property
    def fault(self) -> Floats:
        """Probability that something is wrong, R x C."""
        fault: Floats = 1.0 - self.probabilities[..., -1]
        return fault

    def without(self, kinds: Sequence[int]) -> "Stitched":
        """The same with these kinds ruled out: what spoke for them says that nothing is wrong."""
        probabilities = self.probabilities.copy()
        probabilities[..., -1] += probabilities[..., kinds].sum(axis=-1)
        probabilities[..., kinds] = 0.0
        return replace(self, probabilities=probabilities)


class Stitcher:
    """Takes the pieces of one picture (``height`` x ``width`` at the working size) in any order."""

    def __init__(self, height: int, width: int, view: View, grid: int, temperature: float = 1.0) -> None:
        self.size = height, width
        self.temperature = temperature
        self.rows, self.columns = (view.cells(side, grid) for side in self.size)
        self.grid = grid
        self._sums: Floats | None = None

    def add(
        self,
        piece: Piece,
        score: NDArray[np.float32],
        weight: NDArray[np.float32],
        logits: NDArray[np.float32],
        level: NDArray[np.float32],
    ) -> None:
        """Add the K blocks of a piece: K values, K x (kinds + 1) logits."""
        shape = (self.grid, self.grid)
        spans = [np.diff(_edges(self.grid, side)) for side in (piece.height, piece.width)]
        areas = spans[0][:, None] * spans[1]
        probabilities = softmax(logits / self.temperature).reshape(*shape, -1)
        fault = 1.0 - probabilities[..., -1]
        values = np.concatenate(
            [
                np.ones((*shape, 1)),
                score.reshape(*shape, 1),
                (weight.reshape(shape) / areas)[..., None],
                (fault * level.reshape(shape))[..., None],
                probabilities,
            ],
            axis=-1,
        )
        if self._sums is None:
            self._sums = np.zeros((self.rows, self.columns, values.shape[-1]))
        top, down = _shared(self.grid, piece.height, piece.y, self.size[0], self.rows)
        left, across = _shared(self.grid, piece.width, piece.x, self.size[1], self.columns)
        self._sums[top : top + len(down), left : left + len(across)] += np.einsum(
            "rj,cl,jlv->rcv", down, across, values
        )

    def result(self) -> Stitched:
        """The map, after every piece was added."""
        assert self._sums is not None
        area = self._sums[..., 0]
        weight = self._sums[..., 2]
        probabilities = self._sums[..., 4:] / area[..., None]
        fault = np.maximum(self._sums[..., 4:-1].sum(-1), 1e-12)
        return Stitched(
            score=self._sums[..., 1] / area,
            weight=weight / weight.sum(),
            probabilities=probabilities,
            level=np.clip(self._sums[..., 3] / fault, 1, 5),
        )


def _edges(grid: int, length: int) -> Floats:
    """Where the blocks of a piece are cut along an axis of ``length`` px; tokens are those of ``baf.valid_cells``."""
    cuts = [CELL * cut for cut in cell_cuts((length + CELL // 2) // CELL, grid)]
    return np.array([*cuts[:-1], length], np.float64)


@lru_cache(maxsize=256)  # pictures of one size share their pieces
def _shared(grid: int, length: int, start: int, side: int, count: int) -> tuple[int, Floats]:
    """First cell that a piece along one axis reaches, and the px each cell from there shares with each block."""
    edges = _edges(grid, length) + start
    first = max(0, int(edges[0] * count / side))
    last = min(count, -int(-edges[-1] * count // side))
    cuts = np.arange(first, last + 1) * (side / count)
    low = np.maximum(cuts[:-1, None], edges[:-1])
    high = np.minimum(cuts[1:, None], edges[1:])
    return first, np.maximum(high - low, 0)


def pixel_cuts(side: int, count: int) -> Sequence[int]:
    """Where ``count`` cells cut ``side`` px of the original picture: count + 1 numbers, mirror-symmetric to 1 px."""
    first = [(2 * side * i + count) // (2 * count) for i in range(count // 2 + 1)]
    return first + [side - first[count - i] for i in range(count // 2 + 1, count + 1)]


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Softmax over the last axis, in double precision."""
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(-1, keepdims=True))
    shares: Floats = powers / powers.sum(-1, keepdims=True)
    return shares
