"""Exposure: too little and too much light, and a veil of haze over the picture."""

import numpy as np

from moslens.distortions.colorspace import from_linear, to_linear
from moslens.distortions.planes import Array


def exposure(stack: Array, stops: float, rng: np.random.Generator) -> Array:
    """Linear light times 2 ** ``stops``, clipped: highlights above one are lost."""
    return from_linear(to_linear(stack) * np.float32(2.0**stops))


def haze(stack: Array, veil: float, rng: np.random.Generator) -> Array:
    """Light is scattered: 1 - ``veil`` of it arrives, and ``veil`` of a pale sky's is added, in linear light.

    The veil is thicker on one side, by up to a half, as where a landscape recedes.
    """
    sky = np.float32(0.85) * np.array([1 - 0.1 * rng.random(), 1, 1 + 0.1 * rng.random()], np.float32)[:, None, None]
    thickness = -np.log1p(-veil) * slope(stack.shape[1:], rng)
    arrives = np.exp(-thickness).astype(np.float32)
    return from_linear(to_linear(stack) * arrives + sky * (1 - arrives))


def slope(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """H x W values that rise evenly from 2/3 to 4/3 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, size) for size in shape)
    across = y[:, None] * np.sin(angle) + x * np.cos(angle)
    rising: Array = 1 + across / (3 * max(float(np.abs(across).max()), 1e-6))
    return rising
