"""The geometry of a grid of blocks, and the picture put together from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moslens.errors import ConfigError, ImageTooSmall

Array = NDArray[Any]
Ints = NDArray[np.int64]

CELL = 16
"""Cuts between blocks are multiples of this many px, so that a token of a 16 px patch lies in one block."""

FEATHER = 4
"""Feathered seams blend over this many px on either side of a cut."""


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
        raise ConfigError(f"a grid is the blocks a side or (rows, columns), at least one, not {grid!r}")
    return int(pair[0]), int(pair[1])


def cell_cuts(cells: int, parts: int) -> list[int]:
    """Where ``cells`` cells (tokens, or 16 px) are cut into ``parts``: round(i cells / parts), halves to even."""
    return [round(part * cells / parts) for part in range(parts + 1)]


def _cuts(side: int, parts: int) -> list[int]:
    return [CELL * cut for cut in cell_cuts(side // CELL, parts)[:-1]] + [side]


def compose(views: Sequence[Array], assignment: Ints, blocks: Sequence[Block], feathered: bool) -> Array:
    """The mosaic: block k from view ``assignment[k]``, cut hard or blended over 4 px on either side of a cut."""
    image = np.empty_like(views[0])
    if not feathered:
        for block, view in zip(blocks, assignment, strict=True):
            image[block.slices] = views[view][block.slices]
        return image
    height, width = image.shape[:2]
    # As lines of 3 x width samples: broadcasting over a last axis of three would take five times as long.
    total = np.zeros((height, 3 * width), np.float32)
    lines = [view.reshape(height, 3 * width) for view in views]
    for block, view in zip(blocks, assignment, strict=True):
        top, bottom = max(block.y - FEATHER, 0), min(block.y + block.height + FEATHER, height)
        left, right = max(block.x - FEATHER, 0), min(block.x + block.width + FEATHER, width)
        weight = _ramp(block.y, block.height, height)[:, None] * _ramp(block.x, block.width, width).repeat(3)
        total[top:bottom, 3 * left : 3 * right] += weight * lines[view][top:bottom, 3 * left : 3 * right]
    if image.dtype == np.uint8:
        total += 0.5
    image[:] = total.reshape(image.shape)
    return image


def _ramp(start: int, size: int, side: int) -> Array:
    """The weight of a block along one axis: 1 inside, rising over 8 px about each cut; blocks sum to one."""
    place = np.arange(max(start - FEATHER, 0), min(start + size + FEATHER, side)) + 0.5
    rise = (place - start + FEATHER) / (2 * FEATHER) if start > 0 else np.inf
    fall = (start + size + FEATHER - place) / (2 * FEATHER) if start + size < side else np.inf
    weight: Array = np.minimum(rise, fall) * np.ones_like(place)
    return weight.clip(0, 1).astype(np.float32)
