"""Notes on a picture beside those of its file: ``not_a_photo``, ``monochrome``, ``tiny``. A note never changes a score.

``not_a_photo`` is a logistic regression over a few statistics of neighbours and colours (``features``). Its
coefficients, and the photos and graphics they come from, are in ``graphics.json``, made by
``python -m benchmarks.quality.notes --fit``; how often it is right is in ``results/notes.json``.
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
)  # fmt: skip
"""The names of :func:`features`."""

TERMS = (*FEATURES, *(f"{name} squared" for name in FEATURES))
"""The names of :func:`terms`, which the regression weighs."""

TONE_BINS = 32
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


Plane = NDArray[np.int16]
Planes = Sequence[Plane]


class Weights(NamedTuple):
    """The regression: a picture is no photo where ``bias + weights . terms`` is above 0."""

    bias: float
    weights: NDArray[np.float64]


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

    Lightness is cut into ``TONE_BINS`` bins. Red minus green and blue minus green of each pixel are compared with their
    mean over its bin. One pixel of nine tells most colour photos, so all pixels are compared only where it does not.
    """
    share, spread = _off_tone(pixels[::3, ::3])
    if share > 4 * TONE_SHARE or spread > 2 * TONE_SPREAD:
        return False
    share, spread = _off_tone(pixels)
    return share <= TONE_SHARE and spread <= TONE_SPREAD


def _off_tone(pixels: Pixels) -> tuple[float, float]:
    """The share of pixels that are off the usual colour of their lightness, and how far all are, root mean square."""
    red, green, blue = (pixels[..., channel].ravel().astype(np.int16) for channel in range(3))
    bins = (red + 2 * green + blue) // (1024 // TONE_BINS)
    counts = np.maximum(np.bincount(bins, minlength=TONE_BINS), 1)
    worst = np.zeros(len(bins))
    for chroma in (red - green, blue - green):
        means = np.bincount(bins, chroma, TONE_BINS) / counts
        np.maximum(worst, np.abs(chroma - means[bins]), out=worst)
    return float((worst > TONE_LEVELS).mean()), math.sqrt(float((worst**2).mean()))


def is_graphic(pixels: Pixels) -> bool:
    """Whether a picture (h x w x 3) is no photo: a screenshot, text, a chart, a logo, a drawing."""
    return graphic_logit(features(pixels)) > 0


def graphic_logit(found: NDArray[np.float64]) -> float:
    """The logarithm of the odds that a picture with these features is no photo, 0 at the threshold."""
    weights = _weights()
    return weights.bias + float(weights.weights @ terms(found))


def terms(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features and their squares."""
    return np.concatenate([found, found**2])


@cache
def _weights() -> Weights:
    record = json.loads(WEIGHTS.read_text("utf-8"))
    return Weights(float(record["bias"]), np.array([record["weights"][name] for name in TERMS], np.float64))


def features(pixels: Pixels) -> NDArray[np.float64]:
    """Statistics of a picture (h x w x 3, sides of 8 px or more), each about 0 to 1, in the order of ``FEATURES``."""
    planes = [pixels[..., channel].astype(np.int16) for channel in range(3)]
    high, low = _largest(planes), -_largest([-plane for plane in planes])
    return np.array([*_neighbours(planes, high, low), *_colours(planes, high, low), *_blocks(planes[1])])


def _neighbours(planes: Planes, high: Plane, low: Plane) -> list[float]:
    """How far each pixel is from the next one right and below, by the largest difference over the channels.

    The shares that are equal, differ by at most 2 levels, by 3 to 20, by more than 60. The share of equal ones to the
    right that are neither white nor black. Of the steps in green, the share that go on straight for three pixels.
    """
    across, down = (_largest([np.abs(np.diff(plane, axis=axis)) for plane in planes]) for axis in (1, 0))
    steps = np.concatenate([across.ravel(), down.ravel()])
    reached = (np.bincount(steps, minlength=256) / len(steps)).cumsum()
    inside = (high[:, 1:] < _WHITE) & (low[:, 1:] > _BLACK)
    upright, level = (np.abs(np.diff(planes[1], axis=axis)) > _SOFT for axis in (1, 0))
    straight = (upright[:-2] & upright[1:-1] & upright[2:]).sum() + (
        level[:, :-2] & level[:, 1:-1] & level[:, 2:]
    ).sum()
    return [
        reached[0],
        reached[_NEAR],
        reached[_SOFT] - reached[_NEAR],
        1 - reached[_STEEP],
        (inside & (across == 0)).mean(),
        straight / max(1, upright.sum() + level.sum()),
    ]


def _colours(planes: Planes, high: Plane, low: Plane) -> list[float]:
    """Colours at 5 bits a channel: how many there are (logarithm), their entropy, the shares of the most common one and
    of the eight most common, and that of the most common one along the border.

    The shares of white, black and strongly coloured pixels.
    """
    codes = (planes[0] >> 3 << 10) | (planes[1] >> 3 << 5) | (planes[2] >> 3)
    counts = np.sort(np.bincount(codes.ravel(), minlength=_CODES))[::-1]
    shares = counts[counts > 0] / codes.size
    border = np.concatenate([codes[0], codes[-1], codes[:, 0], codes[:, -1]])
    return [
        math.log(len(shares)) / math.log(_CODES),
        -float((shares * np.log(shares)).sum()) / math.log(_CODES),
        shares[0],
        shares[:8].sum(),
        np.bincount(border).max() / len(border),
        (low >= _WHITE).mean(),
        (high <= _BLACK).mean(),
        (high - low > _SATURATED).mean(),
    ]


def _blocks(green: Plane) -> list[float]:
    """Blocks of 8 x 8 pixels: the share without structure, the median spread (logarithm), the share that is even and
    neither white nor black, and how much of the blocks with an edge is at one of two levels.
    """
    rows, columns = green.shape[0] // _BLOCK, green.shape[1] // _BLOCK
    tiled = green[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    blocks = tiled.transpose(1, 3, 0, 2).reshape(_BLOCK**2, -1).astype(np.float32)  # a column for each block
    means, spreads = blocks.mean(0), blocks.std(0)
    inside = (means > 2 * _BLACK) & (means < _WHITE - _BLACK)
    bottom, top = blocks.min(0), blocks.max(0)
    edge = top - bottom > _STEEP
    at_ends = (np.minimum(blocks - bottom, top - blocks) <= 0.1 * (top - bottom)).mean(0)
    return [
        (spreads < _FLAT).mean(),
        math.log1p(float(np.median(spreads))) / math.log(128),
        (inside & (spreads < _EVEN)).mean(),
        at_ends[edge].mean() if edge.any() else 0.0,
    ]


def _largest(planes: Planes) -> Plane:
    """The largest of three values at each place; along an axis of three numpy takes many times as long."""
    return np.maximum(np.maximum(planes[0], planes[1]), planes[2])
