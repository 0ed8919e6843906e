"""Sharpness and contrast: over-sharpening, halos, an S-curve in both directions, and a narrowed range."""

import numpy as np

from moslens.distortions import filters
from moslens.distortions.colorspace import lab_to_rgb, rgb_to_lab
from moslens.distortions.planes import Array

_RADIUS = 3.0
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]


def high_sharpen(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """Unsharp mask on the L of Lab: L + ``amount`` (L - Gaussian(L)), sigma 3 px."""
    lab = rgb_to_lab(stack)
    light = lab[:1]
    light += np.float32(amount) * (light - filters.gaussian(light, _RADIUS))
    np.clip(light, 0, 100, out=light)
    return lab_to_rgb(lab)


def sharpening_halos(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """A wide unsharp mask of luma, sigma 6 px: bright and dark rims along edges, sky that glows beside roofs."""
    luma = (stack * _LUMA).sum(axis=0, keepdims=True)
    changed: Array = stack + np.float32(amount) * (luma - filters.gaussian(luma, 6.0))
    return changed


def local_contrast_halos(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """Local contrast of a crude tone mapping: the difference to the mean of a square, compressed where it is large."""
    luma = (stack * _LUMA).sum(axis=0, keepdims=True)
    detail = luma - filters.box(luma, 9)
    changed: Array = stack + np.float32(0.28 * amount) * np.tanh(detail * np.float32(4))
    return changed


def contrast_change(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """The cubic spline through (0, 0), (0.3, 0.25 - amount/4), (0.5, 0.5), (0.7, 0.75 + amount/4), (1, 1).

    With not-a-knot ends it is one odd cubic about (0.5, 0.5), given here in closed form. It is the identity
    at ``amount`` -0.2, not at 0: above it raises the contrast, below it lowers it.
    """
    slope = (0.218 + amount / 4) / 0.168
    t = stack - np.float32(0.5)
    return np.float32(0.5) + t * (np.float32(slope) + np.float32(4 - 4 * slope) * t * t)


def nonlinear_contrast(stack: Array, half_width: float, rng: np.random.Generator) -> Array:
    """[0, 1] squeezed into 0.5 - ``half_width`` to 0.5 + ``half_width``.

    The name is ARNIQA's; the map itself is affine.
    """
    return np.float32(0.5) + np.float32(2 * half_width) * (stack - np.float32(0.5))
