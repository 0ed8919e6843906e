"""Blur: Gaussian, lens (a disk) and motion (a line at a random angle).

Every operation of this package takes an H x W x 3 float32 picture in [0, 1], the parameter of the level and a
generator, and gives a new float32 picture that may leave [0, 1]; the caller clips.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moslens.distortions import filters

Array = NDArray[Any]


def gaussian_blur(image: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Gaussian of ``sigma`` px, cut at two sigma."""
    return filters.interleaved(filters.gaussian(filters.planes(image), sigma))


def lens_blur(image: Array, radius: float, rng: np.random.Generator) -> Array:
    """A disk of ``radius`` px: an unfocused lens."""
    return filters.interleaved(filters.correlate(filters.planes(image), filters.disk(radius)))


def motion_blur(image: Array, length: float, rng: np.random.Generator) -> Array:
    """A line of ``length`` px at an angle drawn from 0 to 180 degrees."""
    kernel = filters.line(length, rng.uniform(0, 180))
    return filters.interleaved(filters.correlate(filters.planes(image), kernel))
