"""Blur: Gaussian, lens (a disk) and motion (a line at a random angle).

Every operation of this package takes planes (3 x H x W float32 RGB in [0, 1]), the parameter of the level and a
generator, and gives new planes that may leave [0, 1]; the caller clips.
"""

import numpy as np

from moslens.distortions import filters
from moslens.distortions.planes import Array


def gaussian_blur(stack: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Gaussian of ``sigma`` px, cut at two sigma."""
    return filters.gaussian(stack, sigma)


def lens_blur(stack: Array, radius: float, rng: np.random.Generator) -> Array:
    """A disk of ``radius`` px: an unfocused lens."""
    return filters.correlate(stack, filters.disk(radius))


def motion_blur(stack: Array, length: float, rng: np.random.Generator) -> Array:
    """A line of ``length`` px at an angle drawn from 0 to 180 degrees."""
    return filters.correlate(stack, filters.line(length, rng.uniform(0, 180)))
