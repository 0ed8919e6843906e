"""Linear filters with replicated borders, as tiled matrix products: exact, and quick at 224 px and at 24
megapixels.

A row of taps becomes a banded matrix over a tile of columns, so that one matrix product filters a whole
band of the picture; the cost per pixel does not grow with the picture as one big matrix would make it grow.
All functions take and give planes: float32, C x H x W.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_LEAST_TILE = 48


def planes(image: Array) -> Array:
    """H x W x C to C x H x W, contiguous."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def interleaved(stack: Array) -> Array:
    """C x H x W to H x W x C, contiguous."""
    return np.ascontiguousarray(stack.transpose(1, 2, 0))


def gaussian_taps(sigma: float) -> Array:
    """A Gaussian cut at two sigma, 2 ceil(2 sigma) + 1 taps that sum to one: the width both sources use."""
    radius = math.ceil(2 * sigma)
    x = np.arange(-radius, radius + 1)
    taps: Array = np.exp(-(x**2) / (2 * sigma**2))
    taps /= taps.sum()
    return taps


def gaussian(stack: Array, sigma: float) -> Array:
    """Gaussian blur of C x H x W planes."""
    taps = gaussian_taps(sigma)
    return _down(_along(stack, taps), taps)


def correlate(stack: Array, kernel: Array) -> Array:
    """Correlate C x H x W planes with a kernel of odd height and width."""
    height, width = stack.shape[1:]
    rows, columns = kernel.shape
    padded = np.pad(stack, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2), mode="edge")
    different, which = np.unique(kernel, axis=0, return_inverse=True)
    which = which.reshape(-1)
    tile = max(_LEAST_TILE, columns)
    bands = [_band(row, tile) for row in different]
    out = np.zeros_like(stack)
    for x in range(0, width, tile):
        wide = min(tile, width - x)
        source = padded[:, :, x : x + wide + columns - 1]
        filtered = [source @ band[: wide + columns - 1, :wide] for band in bands]
        target = out[:, :, x : x + wide]
        for row, index in enumerate(which):
            target += filtered[index][:, row : row + height]
    return out


def disk(radius: float) -> Array:
    """The disk of ``radius`` px: the share of each pixel that the circle covers, summing to one."""
    reach = math.ceil(radius - 0.5)
    steps = 64
    x = (np.arange((2 * reach + 1) * steps) + 0.5) / steps - reach - 0.5
    half_chord = np.sqrt(np.maximum(radius**2 - x**2, 0))
    edges = np.arange(-reach, reach + 2)[:, None] - 0.5
    reached = np.clip(edges, -half_chord, half_chord)
    cover: Array = np.diff(reached, axis=0).reshape(2 * reach + 1, 2 * reach + 1, steps).mean(axis=2)
    cover /= cover.sum()
    return cover


def line(length: float, angle: float) -> Array:
    """A line of ``length`` px at ``angle`` degrees, one pixel wide with linear edges, summing to one.

    A pixel weighs 1 minus its distance to the segment through the centres of the line's first and last pixel.
    """
    half = (max(length, 1) - 1) / 2
    reach = math.ceil(half)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cosine, sine = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    nearest = np.clip(x * cosine + y * sine, -half, half)
    kernel: Array = np.maximum(1 - np.hypot(x - nearest * cosine, y - nearest * sine), 0)
    kernel /= kernel.sum()
    return kernel


def _band(taps: Array, tile: int) -> Array:
    matrix = np.zeros((tile + len(taps) - 1, tile), np.float32)
    column = np.arange(tile)
    for offset, tap in enumerate(taps):
        matrix[column + offset, column] = tap
    return matrix


def _along(stack: Array, taps: Array) -> Array:
    width, extra = stack.shape[2], len(taps) - 1
    padded = np.pad(stack, ((0, 0), (0, 0), (extra // 2,) * 2), mode="edge")
    tile = max(_LEAST_TILE, len(taps))
    band = _band(taps, tile)
    out = np.empty_like(stack)
    for x in range(0, width, tile):
        wide = min(tile, width - x)
        out[:, :, x : x + wide] = padded[:, :, x : x + wide + extra] @ band[: wide + extra, :wide]
    return out


def _down(stack: Array, taps: Array) -> Array:
    height, extra = stack.shape[1], len(taps) - 1
    padded = np.pad(stack, ((0, 0), (extra // 2,) * 2, (0, 0)), mode="edge")
    tile = max(_LEAST_TILE, len(taps))
    band = np.ascontiguousarray(_band(taps, tile).T)
    out = np.empty_like(stack)
    for y in range(0, height, tile):
        high = min(tile, height - y)
        out[:, y : y + high] = band[:high, : high + extra] @ padded[:, y : y + high + extra]
    return out
