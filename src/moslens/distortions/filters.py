"""Linear filters with replicated borders, as small matrix products: exact, and fast at 224 px and at 24 megapixels.

A row of taps becomes a banded matrix over a tile of columns. A few products then filter the picture, and the cost
per pixel does not grow with its size, as it would with one matrix for the whole row. All functions take and give
planes: C x H x W, float32.
"""

import math

import numpy as np

from moslens.distortions.planes import Array

_TILE = 32
_FEW_TAPS = 32
_TAPS_OF_A_ROW = 6  # the cost of a filtered row over that of a tap

# OpenBLAS does a product of at most 4 * 65,536 multiplications in the calling thread. Larger ones wake its thread
# pool, which on a machine whose cores are busy takes a hundred times as long as the product itself.
_LARGEST_PRODUCT = 1 << 18


def gaussian_taps(sigma: float) -> Array:
    """A Gaussian cut at two sigma, 2 ceil(2 sigma) + 1 taps that sum to one, as in KADID-10k and ARNIQA."""
    radius = math.ceil(2 * sigma)
    x = np.arange(-radius, radius + 1)
    taps: Array = np.exp(-(x**2) / (2 * sigma**2))
    taps /= taps.sum()
    return taps


def gaussian(stack: Array, sigma: float) -> Array:
    """Gaussian blur of C x H x W planes."""
    taps = gaussian_taps(sigma)
    band = _band(taps, _TILE)
    padded = np.pad(stack, ((0, 0), (len(taps) // 2,) * 2, (len(taps) // 2,) * 2), mode="edge")
    return _down(_along(padded, band, stack.shape[2]), band, stack.shape[1])


def correlate(stack: Array, kernel: Array) -> Array:
    """Correlate C x H x W planes with a kernel of odd height and width."""
    rows, columns = kernel.shape
    height, width = stack.shape[1:]
    padded = np.pad(stack, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2), mode="edge")
    out = np.zeros_like(stack)
    different, which = np.unique(kernel, axis=0, return_inverse=True)
    if np.count_nonzero(kernel) <= max(_FEW_TAPS, _TAPS_OF_A_ROW * len(different)):
        scratch = np.empty_like(stack)
        for y, x in np.argwhere(kernel):
            np.multiply(padded[:, y : y + height, x : x + width], np.float32(kernel[y, x]), out=scratch)
            out += scratch
        return out
    for index, taps in enumerate(different):
        filtered = _along(padded, _band(taps, _TILE), width)
        for row in np.flatnonzero(which.reshape(-1) == index):
            out += filtered[:, row : row + height]
    return out


def product(rows: Array, matrix: Array, out: Array | None = None) -> Array:
    """``rows`` (N x K) times ``matrix`` (K x M), in groups of rows small enough for one BLAS thread."""
    out = np.empty((len(rows), matrix.shape[1]), np.float32) if out is None else out
    step = max(1, _LARGEST_PRODUCT // matrix.size)
    for at in range(0, len(rows), step):
        np.matmul(rows[at : at + step], matrix, out=out[at : at + step])
    return out


def disk(radius: float) -> Array:
    """The disk of ``radius`` px: the share of each pixel that the circle covers, summing to one."""
    reach = math.ceil(radius - 0.5)
    steps = 256
    x = (np.arange((2 * reach + 1) * steps) + 0.5) / steps - reach - 0.5
    half_chord = np.sqrt(np.maximum(radius**2 - x**2, 0))
    edges = np.arange(-reach, reach + 2)[:, None] - 0.5
    reached = np.clip(edges, -half_chord, half_chord)
    cover: Array = np.diff(reached, axis=0).reshape(2 * reach + 1, 2 * reach + 1, steps).mean(axis=2)
    cover /= cover.sum()
    return cover


def polygon(radius: float, blades: int, turn: float) -> Array:
    """A regular polygon with the area of the disk of ``radius`` px, turned by ``turn`` radians, summing to one."""
    inside = radius * math.sqrt(math.pi / (blades * math.tan(math.pi / blades)))  # the inscribed circle's radius
    reach = math.ceil(inside / math.cos(math.pi / blades) - 0.5)
    steps = 8
    place = (np.arange((2 * reach + 1) * steps) + 0.5) / steps - reach - 0.5
    angles = turn + 2 * math.pi * np.arange(blades) / blades
    farthest = np.max([place[:, None] * math.sin(a) + place * math.cos(a) for a in angles], axis=0)
    cover: Array = (farthest <= inside).reshape(2 * reach + 1, steps, 2 * reach + 1, steps).mean(axis=(1, 3))
    cover /= cover.sum()
    return cover


def path(points: Array) -> Array:
    """The way along N x 2 points (y, x; px), each of which weighs the same, with linear edges, summing to one."""
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    reach = int(np.ceil(np.abs(points).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    corner = np.floor(points).astype(np.intp)
    part = points - corner
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - right - part[:, 1])
            np.add.at(kernel, (corner[:, 0] + down + reach, corner[:, 1] + right + reach), weight)
    changed: Array = kernel / kernel.sum()
    return changed


def box(stack: Array, radius: int) -> Array:
    """The mean of the (2 ``radius`` + 1)-sided square around each pixel of C x H x W planes."""
    band = _band(np.full(2 * radius + 1, 1 / (2 * radius + 1)), _TILE)
    padded = np.pad(stack, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    return _down(_along(padded, band, stack.shape[2]), band, stack.shape[1])


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
    """The matrix that takes ``tile`` + len(taps) - 1 neighbours to ``tile`` filtered values."""
    matrix = np.zeros((tile + len(taps) - 1, tile), np.float32)
    column = np.arange(tile)
    for offset, tap in enumerate(taps):
        matrix[column + offset, column] = tap
    return matrix


def _along(padded: Array, band: Array, width: int) -> Array:
    planes, height, _ = padded.shape
    flat = padded.reshape(planes * height, -1)
    out = np.empty((planes * height, width), np.float32)
    tile = band.shape[1]
    for x in range(0, width, tile):
        wide = min(tile, width - x)
        reach = wide + len(band) - tile
        product(flat[:, x : x + reach], band[:reach, :wide], out[:, x : x + wide])
    return out.reshape(planes, height, width)


def _down(padded: Array, band: Array, height: int) -> Array:
    planes, _, width = padded.shape
    out = np.empty((planes, height, width), np.float32)
    tile = band.shape[1]
    step = max(1, _LARGEST_PRODUCT // band.size)
    for y in range(0, height, tile):
        high = min(tile, height - y)
        reach = high + len(band) - tile
        matrix = band[:reach, :high].T
        for source, target in zip(padded, out, strict=True):
            for x in range(0, width, step):
                np.matmul(matrix, source[y : y + reach, x : x + step], out=target[y : y + high, x : x + step])
    return out
