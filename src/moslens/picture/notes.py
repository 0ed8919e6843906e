"""Notes on a picture beside those of its file: ``not_a_photo``, ``monochrome``, ``tiny``. A note never changes a score.

``not_a_photo`` is a small network on statistics of neighbours, colours, blocks and lines (``features``). Its
coefficients, the threshold, and counts of the photos and graphics they come from are in ``graphics.json``, made by
``python -m benchmarks.quality.notes --fit``. How often it is right is in ``results/notes.json``.
"""

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moslens.picture.windows import Pixels

NOT_A_PHOTO, MONOCHROME, TINY = "not_a_photo", "monochrome", "tiny"

TINY_PIXELS = 100_000
"""A picture with fewer pixels is ``tiny``."""

WEIGHTS = Path(__file__).with_name("graphics.json")
FEATURES = (
    "equal", "near", "soft", "steep", "equal_inside", "straight",
    "bins", "entropy", "first_colour", "eight_colours", "border", "white", "black", "saturated",
    "flat_blocks", "block_spread", "flat_inside", "two_levels",
    "long", "repeated", "same_lines", "grid", "levels", "first_colour_spread", "calm_spread", "edge_by_flat",
)  # fmt: skip
"""The names of :func:`features`."""

TONE_BINS = 32
DARKEST = 0.25
"""A picture whose brightest tone is below half white is compared as if it were brighter, at most by 1 / ``DARKEST``."""
TONE_LEVELS = 12
"""By how many levels a colour may differ from the usual one of its lightness in a monochrome picture ..."""
TONE_SHARE = 0.005
"""... except in this share of the pixels."""
TONE_SPREAD = 3.0
"""The root mean square of these differences is at most this, in levels."""

_CODES = 1 << 15
_NEAR, _SOFT, _STEEP = 2, 20, 60  # levels
_WHITE, _BLACK, _SATURATED = 250, 5, 160
_BLOCK, _FLAT, _EVEN = 8, 1.0, 0.3  # px, levels
_PLACE, _OFTEN = 32, 0.1  # px, share of its pixels
_LIKE = 0.97  # share of the pixels of a line
_FARTHEST = 4.0  # deviations


Plane = NDArray[np.int16]
Planes = Sequence[Plane]


class Weights(NamedTuple):
    """The network: a picture is no photo where ``output . tanh(inputs . hidden + hidden_bias) + bias`` is above 0. Its
    inputs are features less their mean, in deviations.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    hidden: NDArray[np.float64]
    hidden_bias: NDArray[np.float64]
    output: NDArray[np.float64]
    bias: float


def notes_of(pixels: Pixels, height: int, width: int) -> tuple[str, ...]:
    """The notes on a picture of ``height x width`` px that is ``pixels`` (h x w x 3) at the working size."""
    found = (
        (NOT_A_PHOTO, is_graphic(pixels)),
        (MONOCHROME, is_monochrome(pixels)),
        (TINY, height * width < TINY_PIXELS),
    )
    return tuple(code for code, holds in found if holds)


def is_monochrome(pixels: Pixels) -> bool:
    """Whether a picture (h x w x 3) is grey, or toned: each lightness has one colour.

    Lightness is cut into ``TONE_BINS`` bins. Red minus green and blue minus green of each pixel are compared with a
    curve through their means over the bins, since a strong tone changes within a bin. One pixel of nine tells most
    colour photos, so all pixels are compared only where it does not.
    """
    share, spread = _off_tone(pixels[::3, ::3])
    if share > 4 * TONE_SHARE or spread > 2 * TONE_SPREAD:
        return False
    share, spread = _off_tone(pixels)
    return share <= TONE_SHARE and spread <= TONE_SPREAD


def _off_tone(pixels: Pixels) -> tuple[float, float]:
    """The share of pixels that are off the usual colour of their lightness, and how far all are, root mean square.

    A dark picture is compared as if it were brighter: all its colours are close to grey.
    """
    red, green, blue = (pixels[..., channel].ravel().astype(np.int16) for channel in range(3))
    lightness = red + 2 * green + blue
    bins = lightness // (1024 // TONE_BINS)
    counts = np.bincount(bins, minlength=TONE_BINS)
    filled = counts > 0
    places = np.bincount(bins, lightness, TONE_BINS)[filled] / counts[filled]
    worst = np.zeros(len(bins))
    for chroma in (red - green, blue - green):
        means = np.bincount(bins, chroma, TONE_BINS)[filled] / counts[filled]
        curve = np.interp(np.arange(1024), places, means)
        np.maximum(worst, np.abs(chroma - curve[lightness]), out=worst)
    brightest = float(np.searchsorted(np.cumsum(counts), 0.99 * len(bins))) / TONE_BINS
    worst /= min(max(2 * brightest, DARKEST), 1)
    return float((worst > TONE_LEVELS).mean()), math.sqrt(float((worst**2).mean()))


def is_graphic(pixels: Pixels) -> bool:
    """Whether a picture (h x w x 3) is no photo: a screenshot, text, a chart, a logo, a drawing."""
    return graphic_logit(features(pixels)) > 0


def graphic_logit(found: NDArray[np.float64]) -> float:
    """The logarithm of the odds that a picture with these features is no photo, 0 at the threshold."""
    return float(logits(_weights(), found))


def logits(weights: Weights, found: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the network says of features, or of rows of them."""
    inputs = standardised(found, weights.mean, weights.deviation)
    inner = np.tanh(inputs @ weights.hidden + weights.hidden_bias)
    return np.asarray(inner @ weights.output + weights.bias)


def standardised(
    found: NDArray[np.float64], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Features as the network takes them, at most ``_FARTHEST`` deviations from the mean."""
    return np.clip((found - mean) / deviation, -_FARTHEST, _FARTHEST)


@cache
def _weights() -> Weights:
    record = json.loads(WEIGHTS.read_text("utf-8"))
    rows = [record["features"][name] for name in FEATURES]
    mean, deviation, hidden = (np.array([row[key] for row in rows], float) for key in ("mean", "deviation", "hidden"))
    hidden_bias, output = (np.array(record[key], float) for key in ("hidden_bias", "output"))
    return Weights(mean, deviation, hidden, hidden_bias, output, float(record["bias"]))


def features(pixels: Pixels) -> NDArray[np.float64]:
    """Statistics of a picture (h x w x 3, sides of 8 px or more), each about 0 to 1, in the order of ``FEATURES``."""
    planes = [pixels[..., channel].astype(np.int16) for channel in range(3)]
    high, low = _largest(planes), -_largest([-plane for plane in planes])
    near, lines = _neighbours(planes, high, low)
    colours, spread = _colours(planes, high, low)
    blocks, calm = _blocks(planes[1])
    return np.array([*near, *colours, *blocks, *lines, _levels(planes[1]), spread, *calm])


def _neighbours(planes: Planes, high: Plane, low: Plane) -> tuple[list[float], list[float]]:
    """How far each pixel is from the next one right and below, by the largest difference over the channels.

    The shares that are equal, differ by at most 2 levels, by 3 to 20, by more than 60. The share of equal ones to the
    right that are neither white nor black. Of the steps in green, the share that go on straight for three pixels.

    Then four of lines: the share of steps that go on straight for eight pixels, those of rows and columns that are like
    the next one, up to 2 levels and exactly, and how far every eighth row and column stands out (logarithm).
    """
    across, down = (_largest([np.abs(np.diff(plane, axis=axis)) for plane in planes]) for axis in (1, 0))
    equal, near, soft, steep = (
        (np.count_nonzero(across <= most) + np.count_nonzero(down <= most)) / (across.size + down.size)
        for most in (0, _NEAR, _SOFT, _STEEP)
    )
    inside = (high[:, 1:] < _WHITE) & (low[:, 1:] > _BLACK)
    upright, level = (np.abs(np.diff(planes[1], axis=axis)) > _SOFT for axis in (1, 0))
    edges = max(1, int(upright.sum() + level.sum()))
    pairs = [one[:-1] & one[1:] for one in (upright, level.T)]
    fours = [pair[:-2] & pair[2:] for pair in pairs]
    straight = sum(int((pair[:-1] & one[2:]).sum()) for pair, one in zip(pairs, (upright, level.T), strict=True))
    eights = sum(int((four[:-4] & four[4:]).sum()) for four in fours)
    return [
        equal,
        near,
        soft - near,
        1 - steep,
        (inside & (across == 0)).mean(),
        straight / edges,
    ], [
        eights / edges,
        *(
            float(np.mean([((lines <= most).mean(axis) > _LIKE).mean() for lines, axis in ((down, 1), (across, 0))]))
            for most in (_NEAR, 0)
        ),
        (_grid(across.mean(0)) + _grid(down.mean(1))) / 2,
    ]


def _grid(steps: NDArray[np.float64]) -> float:
    """How far every eighth of some lines has larger steps than all, 0 to 1, at the place where it is farthest."""
    usable = steps[: len(steps) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    if not len(usable):
        return 0.0
    return float(np.log((usable.mean(0).max() + 0.5) / (usable.mean() + 0.5)) / math.log(_BLOCK))


def _colours(planes: Planes, high: Plane, low: Plane) -> tuple[list[float], float]:
    """Colours at 5 bits a channel: how many there are (logarithm), their entropy, the shares of the most common one and
    of the eight most common, and that of the most common one along the border.

    The shares of white, black and strongly coloured pixels. Then the share of places where the most common one is.
    """
    codes = (planes[0] >> 3 << 10) | (planes[1] >> 3 << 5) | (planes[2] >> 3)
    found = np.bincount(codes.ravel(), minlength=_CODES)
    counts = np.sort(found[found > 0])[::-1]
    shares = counts / codes.size
    border = np.concatenate([codes[0], codes[-1], codes[:, 0], codes[:, -1]])
    first = codes == found.argmax()
    return [
        math.log(len(shares)) / math.log(_CODES),
        -float((shares * np.log(shares)).sum()) / math.log(_CODES),
        shares[0],
        shares[:8].sum(),
        np.bincount(border).max() / len(border),
        (low >= _WHITE).mean(),
        (high <= _BLACK).mean(),
        (high - low > _SATURATED).mean(),
    ], _places(first)


def _places(mask: NDArray[np.bool_]) -> float:
    """The share of squares of 32 px, or less in a smaller picture, in which a mask holds somewhere often."""
    size = min(_PLACE, *mask.shape)
    rows, columns = mask.shape[0] // size, mask.shape[1] // size
    tiled = mask[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return float((tiled.mean((1, 3)) > _OFTEN).mean())


def _levels(green: Plane) -> float:
    """The share of the levels of green that one pixel of 10,000 has."""
    return float((np.bincount(green.ravel(), minlength=256) > green.size * 1e-4).mean())


def _blocks(green: Plane) -> tuple[list[float], list[float]]:
    """Blocks of 8 x 8 pixels: the share without structure, the median spread (logarithm), the share that is even and
    neither white nor black, and how much of the blocks with an edge is at one of two levels.

    Then the spread of the calmest fifth (logarithm), and of the blocks with an edge, the share beside one without
    structure.
    """
    rows, columns = green.shape[0] // _BLOCK, green.shape[1] // _BLOCK
    tiled = green[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    blocks = tiled.transpose(1, 3, 0, 2).reshape(_BLOCK**2, -1).astype(np.float32)  # a column for each block
    means, spreads = blocks.mean(0), blocks.std(0)
    inside = (means > 2 * _BLACK) & (means < _WHITE - _BLACK)
    bottom, top = blocks.min(0), blocks.max(0)
    edge = top - bottom > _STEEP
    at_ends = (np.minimum(blocks - bottom, top - blocks) <= 0.1 * (top - bottom)).mean(0)
    flat = np.pad((spreads < _FLAT).reshape(rows, columns), 1)
    beside = flat[:-2, 1:-1] | flat[2:, 1:-1] | flat[1:-1, :-2] | flat[1:-1, 2:]
    calm, median = np.quantile(spreads, (0.2, 0.5))
    return [
        (spreads < _FLAT).mean(),
        math.log1p(float(median)) / math.log(128),
        (inside & (spreads < _EVEN)).mean(),
        at_ends[edge].mean() if edge.any() else 0.0,
    ], [
        math.log1p(float(calm)) / math.log(128),
        float(beside.ravel()[edge].mean()) if edge.any() else 0.0,
    ]


def _largest(planes: Planes) -> Plane:
    """The largest of three values at each place; along an axis of three numpy takes many times as long."""
    return np.maximum(np.maximum(planes[0], planes[1]), planes[2])
