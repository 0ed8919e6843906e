"""Brightness: brighten and darken along a curve, and a shift of the mean."""

import numpy as np

from moslens.distortions.colorspace import lab_to_rgb, rgb_to_lab
from moslens.distortions.planes import Array


def brighten(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """The curve through (0.5, 0.5 + ``amount`` / 2), two parts on RGB and one part on the L of Lab."""
    lab = rgb_to_lab(stack)
    lab[0] = 100 * _curve(lab[0] / 100, amount)
    in_lab = np.clip(lab_to_rgb(lab), 0, 1)
    out: Array = (2 * _curve(stack, amount) + in_lab) / np.float32(3)
    return out


def darken(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """The curve through (0.5, 0.5 - ``amount`` / 2) on RGB."""
    return _curve(stack, -amount)


def mean_shift(stack: Array, shift: float, rng: np.random.Generator) -> Array:
    """Every sample plus ``shift``."""
    return stack + np.float32(shift)


def _curve(x: Array, amount: float) -> Array:
    """The parabola through (0, 0), (0.5, 0.5 + amount / 2) and (1, 1), cut to [0, 1]."""
    bent: Array = x + np.float32(2 * amount) * x * (1 - x)
    return bent.clip(0, 1)
