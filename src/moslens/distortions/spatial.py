"""Spatial: jitter, misplaced patches, pixelation, quantization, blocks of flat color; moire, lost blocks, marks, lines.

The sparse kinds take rectangles (x, y, width, height), so that every block of a composite gets a patch. Their
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
_MACROBLOCK = 16
_RUN = 4
_FARTHEST_MOTION = 24


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


def moire(stack: Array, amplitude: float, rng: np.random.Generator) -> Array:
    """Interference of a fine texture with the sensor: bent color stripes, 4 to 16 px wide, that come and go."""
    height, width = stack.shape[1:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, wide = rng.uniform(0, np.pi), rng.uniform(8, 16)
    across = np.float32(np.sin(angle)) * y + np.float32(np.cos(angle)) * x
    along = np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x
    bend = np.sin(along * np.float32(2 * np.pi / rng.uniform(60, 120)) + np.float32(rng.uniform(0, 2 * np.pi)))
    phase = across * np.float32(2 * np.pi / wide) + np.float32(rng.uniform(1, 3)) * bend
    lag = rng.uniform(0.5, 2.1)
    waves = np.stack([np.sin(phase + np.float32(lag * channel)) for channel in range(3)])
    changed: Array = stack + np.float32(amplitude) * (np.float32(0.75) + np.float32(0.25) * bend) * waves
    return changed


def screen_moire(stack: Array, amplitude: float, rng: np.random.Generator) -> Array:
    """A photo of a screen: the stripes of its red, green and blue dots beat with the pixels of the camera."""
    height, width = stack.shape[1:]
    turn, period = rng.uniform(-0.12, 0.12), rng.uniform(2.7, 3.3)
    y, x = np.arange(height)[:, None] + rng.uniform(0, 9), np.arange(width) + rng.uniform(0, 9)
    across = (x * np.cos(turn) + y * np.sin(turn)) / period
    dots = np.stack([np.cos(2 * np.pi * (across - channel / 3)) for channel in range(3)]).astype(np.float32)
    changed: Array = stack + np.float32(amplitude) * dots
    return changed


def lost_blocks(
    stack: Array, blocks: float, rng: np.random.Generator, regions: Sequence[Region] | None = None
) -> Array:
    """Macroblocks of 16 x 16 px lost in runs of up to four: from a wrong place, flat grey, or their top row."""
    out = stack.copy()
    for region in regions or [_whole(stack)]:
        for x, y, side in _macroblocks(region, blocks, rng):
            fault, (shift_y, shift_x) = rng.random(), rng.integers(-_FARTHEST_MOTION, _FARTHEST_MOTION + 1, 2)
            block = np.s_[:, y : y + side, x : x + side]
            from_x = int(np.clip(x + shift_x, region[0], region[0] + region[2] - side))
            from_y = int(np.clip(y + shift_y, region[1], region[1] + region[3] - side))
            if fault < 0.5 and (from_x, from_y) != (x, y):
                out[block] = stack[:, from_y : from_y + side, from_x : from_x + side]
            elif fault < 0.75:
                out[block] = np.float32(0.5)
            else:
                out[block] = stack[:, y : y + 1, x : x + side]
    return out


def shifted_slices(
    stack: Array, blocks: float, rng: np.random.Generator, regions: Sequence[Region] | None = None
) -> Array:
    """Runs of macroblocks of which the picture slipped sideways or took over a color of its own."""
    out = stack.copy()
    for region in regions or [_whole(stack)]:
        slip, tint = 0, np.zeros((3, 1, 1), np.float32)
        for number, (x, y, side) in enumerate(_macroblocks(region, blocks, rng)):
            if number % _RUN == 0:
                slip = int(rng.integers(6, _FARTHEST_MOTION + 1)) * int(rng.choice([-1, 1]))
                tint = rng.uniform(-0.25, 0.25, (3, 1, 1)).astype(np.float32)
            from_x = int(np.clip(x + slip, region[0], region[0] + region[2] - side))
            out[:, y : y + side, x : x + side] = stack[:, y : y + side, from_x : from_x + side] + tint
    return out


def logo_watermark(stack: Array, opacity: float, rng: np.random.Generator) -> Array:
    """Rings joined by bars, again and again across the picture, in white with a dark rim."""
    height, width = stack.shape[1:]
    size = min(max(min(height, width) / 6, 16), 60)
    turn = rng.uniform(-0.7, 0.7)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(rng.uniform(0, size))
    x = np.arange(width, dtype=np.float32) + np.float32(rng.uniform(0, size))
    across = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))) / np.float32(size)
    down = (y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))) / np.float32(size)
    across, down = across - np.rint(across), down - np.rint(down)
    ring = np.abs(np.hypot(across, down) - np.float32(0.27))
    bar = np.where(np.abs(across) > 0.27, np.abs(down), np.float32(1))
    distance = np.minimum(ring, bar) * np.float32(size)
    line = max(0.8, size / 26)
    light = np.clip(line + np.float32(0.5) - distance, 0, 1)
    rim = np.clip(line + np.float32(1.5) - distance, 0, 1)
    return mark(stack, light, rim, opacity)


def mark(stack: Array, light: Array, rim: Array, opacity: float) -> Array:
    """White letters (``light``) and a dark ``rim`` that includes them, H x W in [0, 1], laid over a picture."""
    changed: Array = stack + np.float32(opacity) * (light - rim * stack)
    return changed


def rolling_lines(stack: Array, amplitude: float, rng: np.random.Generator) -> Array:
    """Bright and dark bands of a lamp that flickers while the shutter rolls: light times 1 + ``amplitude`` sin."""
    period, start = rng.uniform(8, 40), rng.uniform(0, 2 * np.pi)
    rows = np.arange(stack.shape[1])
    return _lit_by_row(stack, 1 + amplitude * np.sin(rows * 2 * np.pi / period + start))


def scan_lines(stack: Array, amplitude: float, rng: np.random.Generator) -> Array:
    """Thin dark lines at even distances, and rows whose amplifiers differ."""
    period, start = rng.uniform(3, 7), rng.uniform(0, 9)
    rows = np.arange(stack.shape[1])
    line = np.maximum(np.cos((rows + start) * 2 * np.pi / period), 0) ** 2
    uneven = rng.normal(0, 0.35, len(rows))
    return _lit_by_row(stack, 1 - amplitude * (1.6 * line + uneven))


def _lit_by_row(stack: Array, gains: Array) -> Array:
    """Every row times the root of its gain: light is near enough to the square of a sample."""
    return stack * np.sqrt(np.maximum(gains, 0)).astype(np.float32)[:, None]


def _macroblocks(region: Region, blocks: float, rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
    """(x, y, side) of the blocks lost in a region, in runs along rows of its grid of macroblocks."""
    left, top, width, height = region
    side = min(_MACROBLOCK, width // 2, height // 2)
    columns, rows = width // side, height // side
    left_over = max(1, round(blocks * width * height / _REFERENCE_AREA))
    while left_over:
        column, row = int(rng.integers(columns)), int(rng.integers(rows))
        for place in range(column, min(column + min(_RUN, left_over), columns)):
            left_over -= 1
            yield left + place * side, top + row * side, side


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
