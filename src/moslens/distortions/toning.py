"""Harmless: black and white, and greys toned in one colour, as people make them on purpose.

Pictures are H x W x 3 uint8. Every pixel of a result has the colour that belongs to its lightness, so that no cast of a
colour photo looks like it.
"""

import numpy as np
from PIL import Image, ImageOps

from moslens.distortions.planes import Array
from moslens.distortions.with_opencv import opencv

_LUMA = ((0.299, 0.587, 0.114), (0.2126, 0.7152, 0.0722), (1 / 3, 1 / 3, 1 / 3))
"""BT.601, BT.709, and all channels alike."""

_MIX = (2.0, 3.0, 1.0)
"""Parameters of the Dirichlet distribution of a channel mix: mostly green and red, as with filters on film."""

_TONES = {"sepia": (36, 2, -38), "selenium": (14, -9, 5), "cyanotype": (-56, 4, 54), "copper": (44, -6, -34)}
"""RGB that a tone adds at mid-grey; black and white stay."""

_PAPERS = (
    (("#1b120a"), ("#a58763"), ("#fff6e2")),
    (("#0a1426"), ("#5f86ad"), ("#f4f9ff")),
    (("#140f14"), ("#8a8088"), ("#fdfafc")),
)
"""Shadow, middle and paper: sepia, cyanotype, selenium."""

_INKS = ((1.0, 0.86, 0.62), (1.0, 0.78, 0.5), (0.72, 0.88, 1.0), (0.8, 1.0, 0.85), (0.95, 0.8, 1.0))
"""RGB of white after a tint that colours highlights too: sepia, brown, blue, green, violet."""

_GAMMAS = ((0.8, 1.0, 1.28), (1.3, 1.0, 0.8), (0.93, 1.05, 1.0))
"""Exponents of R, G and B: sepia, cyanotype, selenium."""


def mixed_grey(picture: Array, rng: np.random.Generator) -> Array:
    """A weighted sum of the channels: BT.601, BT.709, their mean, a random mix, or the sum in linear light."""
    return _as_picture(_mixed(picture, rng))


def pillow_grey(picture: Array, rng: np.random.Generator) -> Array:
    """Pillow's conversion to 8-bit grey, or its red or green channel alone."""
    return _as_picture(_with_pillow(picture, rng))


def opencv_grey(picture: Array, rng: np.random.Generator) -> Array:
    """OpenCV's conversion to grey, or the lightness of its Lab or HLS."""
    return _as_picture(_with_opencv(picture, rng))


def tinted(picture: Array, rng: np.random.Generator) -> Array:
    """A grey with a tone, strongest at mid-grey."""
    grey = _mixed(picture, rng)
    tone = np.array(list(_TONES.values())[int(rng.integers(len(_TONES)))]) * rng.uniform(0.4, 1.5)
    lightness = np.arange(256) / 255
    table = np.arange(256)[:, None] + 4 * (lightness * (1 - lightness))[:, None] * tone
    toned: Array = np.rint(table.clip(0, 255)).astype(np.uint8)[grey]
    return toned


def inked(picture: Array, rng: np.random.Generator) -> Array:
    """A grey in one ink, white included, brightened by up to the loss of light, and clipped."""
    ink = np.array(_INKS[int(rng.integers(len(_INKS)))]) ** rng.uniform(0.5, 1)
    gain = rng.uniform(1, 1 / ink.mean())
    table = np.rint((np.arange(256)[:, None] * ink * gain).clip(0, 255)).astype(np.uint8)
    toned: Array = table[_mixed(picture, rng)]
    return toned


def colorized(picture: Array, rng: np.random.Generator) -> Array:
    """Pillow's ramp from the colour of shadows over that of mid-greys to that of the paper."""
    shadow, middle, paper = _PAPERS[int(rng.integers(len(_PAPERS)))]
    return np.array(ImageOps.colorize(Image.fromarray(_with_pillow(picture, rng)), shadow, paper, middle))


def split_by_gamma(picture: Array, rng: np.random.Generator) -> Array:
    """A grey whose channels have gammas of their own, by OpenCV's table."""
    gammas = np.array(_GAMMAS[int(rng.integers(len(_GAMMAS)))]) ** rng.uniform(0.5, 1)
    table = np.rint(255 * (np.arange(256)[:, None] / 255) ** gammas).astype(np.uint8)
    found: Array = opencv().LUT(_as_picture(_with_opencv(picture, rng)), table[None])
    return found


def _mixed(picture: Array, rng: np.random.Generator) -> Array:
    way = int(rng.integers(len(_LUMA) + 2))
    if way < len(_LUMA):
        grey = picture @ np.array(_LUMA[way])
    elif way == len(_LUMA):
        grey = picture @ rng.dirichlet(_MIX)
    else:
        grey = 255 * ((picture / 255.0) ** 2.2 @ np.array(_LUMA[1])) ** (1 / 2.2)
    mixed: Array = np.rint(grey).astype(np.uint8)
    return mixed


def _with_pillow(picture: Array, rng: np.random.Generator) -> Array:
    image = Image.fromarray(picture)
    way = int(rng.integers(3))
    return np.array(image.convert("L") if way == 2 else image.getchannel(way))


def _with_opencv(picture: Array, rng: np.random.Generator) -> Array:
    cv2 = opencv()
    way = int(rng.integers(3))
    if way == 0:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    if way == 1:
        return np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_RGB2Lab)[..., 0])
    return np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HLS)[..., 1])


def _as_picture(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=2)
