"""From the blocks of overlapping windows to one map over the whole picture.

A picture of h x w px at the working size gets round(h g / 224) x round(w g / 224) cells, at least one: as fine as the
g x g blocks of a window. A cell is the mean of all blocks that overlap it, whichever windows they are of, each weighted
by the area it shares with the cell. The padding of a small picture is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moslens.picture.grid import CELL, cell_cuts
from moslens.picture.windows import WINDOW

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


class Stitcher:
    """Takes the windows of one picture (``height`` x ``width`` at the working size) in any order."""

    def __init__(self, height: int, width: int, grid: int, temperature: float = 1.0) -> None:
        self.size = height, width
        self.temperature = temperature
        self.rows, self.columns = (cell_count(side, grid) for side in self.size)
        self.grid = grid
        spans = np.diff(_edges(grid))
        self._areas = spans[:, None] * spans
        self._sums: Floats | None = None

    def add(
        self,
        origins: Sequence[tuple[int, int]],
        score: NDArray[np.float32],
        weight: NDArray[np.float32],
        logits: NDArray[np.float32],
        level: NDArray[np.float32],
    ) -> None:
        """Add n windows with top left corners ``origins`` (y, x): n x K values, n x K x (kinds + 1) logits."""
        shape = (len(score), *self._areas.shape)
        probabilities = softmax(logits / self.temperature).reshape(*shape, -1)
        fault = 1.0 - probabilities[..., -1]
        values = np.concatenate(
            [
                np.ones((*shape, 1)),
                score.reshape(*shape, 1),
                weight.reshape(*shape, 1) / self._areas[..., None],
                (fault * level.reshape(shape))[..., None],
                probabilities,
            ],
            axis=-1,
        )
        if self._sums is None:
            self._sums = np.zeros((self.rows, self.columns, values.shape[-1]))
        for (y, x), window in zip(origins, values, strict=True):
            top, down = _shared(self.grid, y, self.size[0], self.rows)
            left, across = _shared(self.grid, x, self.size[1], self.columns)
            self._sums[top : top + len(down), left : left + len(across)] += np.einsum(
                "rj,cl,jlv->rcv", down, across, window
            )

    def result(self) -> Stitched:
        """The map, after every window was added."""
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


def _edges(grid: int) -> Floats:
    """Where the blocks of a window are cut along an axis, in px."""
    return np.array([CELL * cut for cut in cell_cuts(WINDOW // CELL, grid)], np.float64)


@lru_cache(maxsize=256)  # pictures of one size share their windows
def _shared(grid: int, start: int, side: int, count: int) -> tuple[int, Floats]:
    """First cell that a window along one axis reaches, and the px each cell from there shares with each block."""
    edges = _edges(grid) + start - max(0, WINDOW - side) // 2
    first = max(0, int(edges[0] * count / side))
    last = min(count, -int(-edges[-1] * count // side))
    cuts = np.arange(first, last + 1) * (side / count)
    low = np.maximum(cuts[:-1, None], edges[:-1])
    high = np.minimum(cuts[1:, None], edges[1:])
    return first, np.maximum(high - low, 0)


def cell_count(side: int, grid: int) -> int:
    """How many cells a side of ``side`` px at the working size is cut into."""
    return max(1, (2 * side * grid + WINDOW) // (2 * WINDOW))


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
