"""The grid of blocks that a picture or a token map is divided into."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from moslens.errors import ConfigError, ImageTooSmall

Ints = NDArray[np.int64]

CELL = 16
"""Cuts between blocks are multiples of this many px, so that a token of a 16 px patch lies in one block."""


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of the grid, in pixels of the picture."""

    row: int
    column: int
    x: int
    y: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The block's rows and columns, to index an H x W array."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def grid_blocks(width: int, height: int, grid: int | tuple[int, int]) -> tuple[Block, ...]:
    """The blocks of a picture in reading order; the last of a row or column takes the remainder.

    Cuts are at multiples of 16 px: of n whole cells a side, cut i of g is at cell round(i n / g), halves to
    even. Raises ``ImageTooSmall`` where a side has fewer cells than blocks, ``ConfigError`` for a wrong grid.
    """
    rows, columns = rows_columns(grid)
    if height // CELL < rows or width // CELL < columns:
        raise ImageTooSmall(
            f"{rows} x {columns} blocks need at least {columns * CELL} x {rows * CELL} px, "
            f"the picture has {width} x {height}"
        )
    across, down = _cuts(width, columns), _cuts(height, rows)
    return tuple(
        Block(
            row,
            column,
            across[column],
            down[row],
            across[column + 1] - across[column],
            down[row + 1] - down[row],
        )
        for row in range(rows)
        for column in range(columns)
    )


def rows_columns(grid: int | tuple[int, int]) -> tuple[int, int]:
    """The grid as (rows, columns). Raises ``ConfigError`` unless both are whole numbers from 1 up."""
    pair = grid if isinstance(grid, tuple) else (grid, grid)
    if len(pair) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in pair):
        raise ConfigError(f"a grid is the blocks per side or (rows, columns), at least 1 each, not {grid!r}")
    return int(pair[0]), int(pair[1])


def cell_cuts(cells: int, parts: int) -> list[int]:
    """Where ``cells`` cells (tokens, or 16 px) are cut into ``parts``: round(i cells / parts), halves to even."""
    return [round(part * cells / parts) for part in range(parts + 1)]


def _cuts(side: int, parts: int) -> list[int]:
    return [CELL * cut for cut in cell_cuts(side // CELL, parts)[:-1]] + [side]
