"""Tiles: pieces of a large picture at its native size, where there is structure, spread over the picture.

The picture is cut into as many regions as there are tiles, and every region gives one tile. Structure is read from the
picture at the working size, where noise of single pixels is averaged out and does not count as structure.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moslens.picture.windows import Pixels

TILES = 6
"""The most tiles of a picture."""

TILE = 384
"""The side of a tile, in pixels of the upright picture."""

LARGE = 2
"""A picture has tiles where it is more than this many times as large as at the working size."""

_EDGE = 32  # levels: a steeper step counts no more, or one outline would outweigh a texture


class Box(NamedTuple):
    """A rectangle in pixels of the upright picture."""

    x: int
    y: int
    width: int
    height: int

    def cut(self, pixels: Pixels) -> Pixels:
        """What ``pixels``, the upright picture at its native size, has in this rectangle."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


class Tile(NamedTuple):
    """``pixels`` (h x w x 3, upright sRGB) of a picture at its native size, and where they lie in it."""

    pixels: Pixels
    box: Box


def has_tiles(height: int, width: int, fitted: tuple[int, int]) -> bool:
    """Whether a picture that is ``fitted`` (height, width) at the working size is large enough for tiles."""
    return max(height, width) > LARGE * max(fitted)


def choose_tiles(small: Pixels, height: int, width: int, *, count: int = TILES, size: int = TILE) -> list[Box]:
    """Where the tiles of a picture of ``height x width`` lie, row by row; they do not overlap.

    ``small`` is the picture at the working size. There are at most ``count`` tiles of ``size x size``, fewer where the
    picture has no room for them. A side shorter than ``size`` is taken whole. Between places of equal structure the
    one nearest the middle of its region is taken.
    """
    rows, columns = _regions(height, width, count, size)
    table = _summed(_structure(small))
    cuts = (np.linspace(0, side, number + 1).astype(int) for side, number in ((height, rows), (width, columns)))
    down, across = (edges.tolist() for edges in cuts)
    return [
        _best(table, (top, bottom), (left, right), (height, width), size)
        for top, bottom in pairwise(down)
        for left, right in pairwise(across)
    ]


def _regions(height: int, width: int, count: int, size: int) -> tuple[int, int]:
    """Into how many rows and columns the picture is cut: as many regions as there may be, as square as possible."""
    most_rows, most_columns = max(1, height // size), max(1, width // size)
    choices = [(r, c) for r in range(1, most_rows + 1) for c in range(1, most_columns + 1) if r * c <= count]
    return max(choices, key=lambda cut: (cut[0] * cut[1], -abs(math.log(height / cut[0] * cut[1] / width))))


def _structure(small: Pixels) -> NDArray[np.float64]:
    """How much changes from each pixel to the next one right and below, in levels of the green channel, capped."""
    green = small[..., 1].astype(np.int16)
    found = np.zeros(green.shape)
    found[:, :-1] += np.minimum(np.abs(np.diff(green, axis=1)), _EDGE)
    found[:-1] += np.minimum(np.abs(np.diff(green, axis=0)), _EDGE)
    return found


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``table[y, x]`` is the sum of ``values[:y, :x]``."""
    table = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    table[1:, 1:] = values.cumsum(0).cumsum(1)
    return table


def _best(
    table: NDArray[np.float64], rows: tuple[int, int], columns: tuple[int, int], full: tuple[int, int], size: int
) -> Box:
    """The tile with the most structure inside one region, tried at every place that differs at the working size."""
    tops, tall = _places(rows, full[0], table.shape[0] - 1, size)
    lefts, wide = _places(columns, full[1], table.shape[1] - 1, size)
    (y0, y1), (x0, x1) = (
        [np.rint(edge * (length / side)).astype(int) for edge in (starts, starts + taken)]
        for starts, taken, side, length in (
            (tops, tall, full[0], table.shape[0] - 1),
            (lefts, wide, full[1], table.shape[1] - 1),
        )
    )
    sums = table[np.ix_(y1, x1)] - table[np.ix_(y0, x1)] - table[np.ix_(y1, x0)] + table[np.ix_(y0, x0)]
    area = np.outer(y1 - y0, x1 - x0)
    off_middle = np.add.outer((2 * tops + tall - sum(rows)) ** 2, (2 * lefts + wide - sum(columns)) ** 2)
    means = np.round(sums / area, 6)
    candidates = np.where(means == means.max(), off_middle, np.inf)
    row, column = np.unravel_index(int(candidates.argmin()), candidates.shape)
    return Box(int(lefts[column]), int(tops[row]), wide, tall)


def _places(region: tuple[int, int], side: int, small: int, size: int) -> tuple[NDArray[np.int64], int]:
    """Where a tile may begin along one axis of a region, a pixel of the working size apart, and how long it is."""
    start, end = region
    taken = min(size, end - start)
    count = max(1, round((end - start - taken) * small / side)) + 1
    return np.unique(np.linspace(start, end - taken, count).astype(np.int64)), taken
