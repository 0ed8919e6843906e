"""Blur: Gaussian, lens (a disk) and motion (a line at a random angle); camera shake and defocus of linear light.

Every operation of this package takes planes (3 x H x W float32 RGB in [0, 1]), the parameter of the level and a
generator, and gives new planes that may leave [0, 1]; the caller clips.
"""

import numpy as np

from moslens.distortions import filters
from moslens.distortions.planes import Array

_PATH_POINTS = 96


def gaussian_blur(stack: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Gaussian of ``sigma`` px, cut at two sigma."""
    return filters.gaussian(stack, sigma)


def lens_blur(stack: Array, radius: float, rng: np.random.Generator) -> Array:
    """A disk of ``radius`` px: an unfocused lens."""
    return filters.correlate(stack, filters.disk(radius))


def motion_blur(stack: Array, length: float, rng: np.random.Generator) -> Array:
    """A line of ``length`` px at an angle drawn from 0 to 180 degrees."""
    return filters.correlate(stack, filters.line(length, rng.uniform(0, 180)))


def camera_shake(stack: Array, length: float, rng: np.random.Generator) -> Array:
    """The smooth path of an unsteady hand, ``length`` px long, at even speed."""
    return _of_light(stack, filters.path(smooth_path(length, rng)))


def jerky_camera_shake(stack: Array, length: float, rng: np.random.Generator) -> Array:
    """A path of two to four straight strokes, ``length`` px long, with rests at the turns."""
    return _of_light(stack, filters.path(jerky_path(length, rng)))


def defocus(stack: Array, radius: float, rng: np.random.Generator) -> Array:
    """An aperture of five to eight blades, with the area of a disk of ``radius`` px."""
    blades, turn = int(rng.integers(5, 9)), rng.uniform(0, 2 * np.pi)
    return _of_light(stack, filters.polygon(radius, blades, turn))


def disc_defocus(stack: Array, radius: float, rng: np.random.Generator) -> Array:
    """A round aperture."""
    return _of_light(stack, filters.disk(radius))


def smooth_path(length: float, rng: np.random.Generator) -> Array:
    """N x 2 points (y, x; px) of a path whose direction drifts at random."""
    turns = rng.normal(0, 0.25, _PATH_POINTS) + rng.normal(0, 0.03)
    direction = rng.uniform(0, 2 * np.pi) + np.cumsum(turns * np.hanning(_PATH_POINTS))
    steps = np.stack([np.sin(direction), np.cos(direction)], axis=1)
    points: Array = np.cumsum(steps, axis=0) * (length / _PATH_POINTS)
    return points


def jerky_path(length: float, rng: np.random.Generator) -> Array:
    """N x 2 points (y, x; px) of a path of straight strokes with rests between them."""
    strokes = int(rng.integers(2, 5))
    direction = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.7, strokes))
    shares = rng.uniform(0.5, 1.5, strokes)
    steps = np.stack([np.sin(direction), np.cos(direction)], axis=1) * (shares / shares.sum())[:, None] * length
    corners = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    way = np.linspace(0, strokes, _PATH_POINTS - 6 * strokes)
    moving = [np.interp(way, np.arange(strokes + 1), corners[:, axis]) for axis in (0, 1)]
    return np.concatenate([np.stack(moving, axis=1), np.repeat(corners[1:], 6, axis=0)])


def _of_light(stack: Array, kernel: Array) -> Array:
    """The squares of the samples filtered: near enough to linear light, in which lenses blur, and cheap."""
    out = filters.correlate(stack * stack, kernel)
    return np.sqrt(np.maximum(out, 0, out=out), out=out)
