"""Spatial: jitter, misplaced patches, pixelation, quantization, and blocks of flat color.

The two sparse kinds take rectangles (x, y, width, height), so that every block of a composite gets a patch. Their
published counts are for a 224 x 224 picture; a rectangle gets a number in proportion to its area, at least one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moslens.distortions.fast_normal import normal
from moslens.distortions.planes import Array

Region = tuple[int, int, int, int]

_REFERENCE_AREA = 224 * 224
_PASSES = 5
_STRIP_PIXELS = 1 << 14
_PATCH = 16
_FARTHEST = 8
_BLOCK = 32


def jitter(stack: Array, displacement: float, rng: np.random.Generator) -> Array:
    """Five passes that each move every pixel by Gaussian noise of ``displacement`` px, bilinear."""
    for _ in range(_PASSES):
        stack = _scatter(stack, displacement, rng)
    return stack


def non_eccentricity(
    stack: Array, patches: float, rng: np.random.Generator, regions: Sequence[Region] | None = None
) -> Array:
    """Patches of 16 x 16 px copied up to 8 px away."""
    out = stack.copy()
    for x, y, width, height in regions or [_whole(stack)]:
        side = min(_PATCH, width // 2, height // 2)
        for _ in range(max(1, round(patches * width * height / _REFERENCE_AREA))):
            left = x + int(rng.integers(width - side + 1))
            top = y + int(rng.integers(height - side + 1))
            shift_x, shift_y = rng.integers(-_FARTHEST, _FARTHEST + 1, 2)
            to_x = int(np.clip(left + shift_x, x, x + width - side))
            to_y = int(np.clip(top + shift_y, y, y + height - side))
            patch = out[:, top : top + side, left : left + side].copy()
            out[:, to_y : to_y + side, to_x : to_x + side] = patch
    return out


def pixelate(stack: Array, strength: float, rng: np.random.Generator) -> Array:
    """Scaled by 0.95 - ``strength`` ** 0.6 and back, nearest neighbour both ways."""
    scale = 0.95 - strength**0.6
    rows, columns = (_there_and_back(size, max(1, int(size * scale))) for size in stack.shape[1:])
    return stack[:, rows[:, None], columns]


def quantization(stack: Array, values: float, rng: np.random.Generator) -> Array:
    """Every channel rounded to ``values`` evenly spaced values."""
    steps = np.float32(values - 1)
    return np.rint(stack * steps) / steps


def color_block(
    stack: Array, blocks: float, rng: np.random.Generator, regions: Sequence[Region] | None = None
) -> Array:
    """Blocks of 32 x 32 px in a random flat color.

    A rectangle whose share is less than one block gets one smaller block of that area, so that a higher level
    always covers more.
    """
    out = stack.copy()
    for x, y, width, height in regions or [_whole(stack)]:
        share = blocks * width * height / _REFERENCE_AREA
        side = min(round(_BLOCK * min(1.0, share) ** 0.5), width, height)
        for _ in range(max(1, round(share))):
            left = x + int(rng.integers(width - side + 1))
            top = y + int(rng.integers(height - side + 1))
            out[:, top : top + side, left : left + side] = rng.random((3, 1, 1), dtype=np.float32)
    return out


def _whole(stack: Array) -> Region:
    return 0, 0, stack.shape[2], stack.shape[1]


def _there_and_back(size: int, small: int) -> NDArray[np.intp]:
    down = ((np.arange(small) + 0.5) * size / small).astype(np.intp)
    up = ((np.arange(size) + 0.5) * small / size).astype(np.intp)
    return down[up]


def _scatter(stack: Array, displacement: float, rng: np.random.Generator) -> Array:
    _, height, width = stack.shape
    out = np.empty_like(stack)
    flat = stack.reshape(3, -1)
    for top, rows in _row_strips(height, width):
        shift = normal((2, rows, width), rng) * np.float32(displacement)
        y = np.clip(shift[0] + np.arange(top, top + rows, dtype=np.float32)[:, None], 0, height - 1)
        x = np.clip(shift[1] + np.arange(width, dtype=np.float32), 0, width - 1)
        y0 = np.minimum(y.astype(np.intp), height - 2)
        x0 = np.minimum(x.astype(np.intp), width - 2)
        part_y, part_x = (y - y0).astype(np.float32), (x - x0).astype(np.float32)
        corner = y0 * width + x0
        upper = _mix(flat.take(corner, axis=1), flat.take(corner + 1, axis=1), part_x)
        lower = _mix(flat.take(corner + width, axis=1), flat.take(corner + width + 1, axis=1), part_x)
        out[:, top : top + rows] = _mix(upper, lower, part_y)
    return out


def _mix(first: Array, second: Array, part: Array) -> Array:
    second -= first
    second *= part
    second += first
    return second


def _row_strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, min(rows, height - top)
