"""Noise: white, in YCbCr, impulse, multiplicative, and the artefacts of a denoiser."""

import numpy as np

from moslens.distortions.fast_normal import normal
from moslens.distortions.filters import product
from moslens.distortions.planes import Array

_DCT_SIDE = 8
_DCT_STEP = 4
_DCT_THRESHOLD = 2.7


def white_noise(stack: Array, variance: float, rng: np.random.Generator) -> Array:
    """Gaussian noise, independent in every sample."""
    noisy: Array = stack + _normal(stack.shape, variance, rng)
    return noisy


def color_noise(stack: Array, variance: float, rng: np.random.Generator) -> Array:
    """Gaussian noise, independent in Y, Cb and Cr: mostly colored, strongest in blue and red."""
    light, blue, red = _normal(stack.shape, variance, rng)
    out: Array = stack + light
    # ITU-R BT.601, full range.
    out[0] += np.float32(1.402) * red
    out[1] -= np.float32(0.344136) * blue + np.float32(0.714136) * red
    out[2] += np.float32(1.772) * blue
    return out


def impulse_noise(stack: Array, density: float, rng: np.random.Generator) -> Array:
    """Salt and pepper: a share ``density`` of the samples becomes 0 or 1 with equal chance."""
    draw = rng.random(stack.shape, dtype=np.float32)
    out = stack.copy()
    out[draw < density / 2] = 0
    out[draw >= 1 - density / 2] = 1
    return out


def multiplicative_noise(stack: Array, variance: float, rng: np.random.Generator) -> Array:
    """Speckle: every sample times 1 + Gaussian noise, so it is strongest in bright areas and black stays black."""
    noisy: Array = stack * (1 + _normal(stack.shape, variance, rng))
    return noisy


def denoise(stack: Array, variance: float, rng: np.random.Generator) -> Array:
    """White noise added, then removed: texture is gone, faint ripples and blotches stay.

    The denoiser is a hard threshold of 2.7 standard deviations on overlapping 8 x 8 cosine transforms,
    averaged where they overlap (Yu and Sapiro, IPOL 2011).
    """
    noisy = np.clip(stack + _normal(stack.shape, variance, rng), 0, 1)
    return _threshold_dct(noisy, _DCT_THRESHOLD * variance**0.5)


def _normal(shape: tuple[int, ...], variance: float, rng: np.random.Generator) -> Array:
    return normal(shape, rng) * np.float32(variance**0.5)


def _dct_basis() -> Array:
    """The 64 x 64 orthonormal matrix of the 8 x 8 cosine transform, one basis picture a row."""
    place = np.arange(_DCT_SIDE)
    rows = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * _DCT_SIDE)) * (2 / _DCT_SIDE) ** 0.5
    rows[0] /= 2**0.5
    return np.kron(rows, rows).astype(np.float32)


def _threshold_dct(stack: Array, threshold: float) -> Array:
    height, width = stack.shape[1:]
    side, step = _DCT_SIDE, _DCT_STEP
    bottom, right = (max(side - size, -(size - side) % step) for size in (height, width))
    # One step of border on the outside, so that every pixel is covered four times.
    padded = np.pad(stack, ((0, 0), (step, bottom + step), (step, right + step)), mode="reflect")
    basis = _dct_basis()
    inverse = np.ascontiguousarray(basis.T)
    total = np.zeros_like(padded)
    for y in range(0, padded.shape[1] - side + 1, step):
        windows = np.lib.stride_tricks.sliding_window_view(padded[:, y : y + side], side, axis=2)[:, :, ::step]
        spectrum = product(windows.transpose(0, 2, 1, 3).reshape(-1, side * side), inverse)
        keep = np.abs(spectrum) >= threshold
        keep[:, 0] = True
        spectrum *= keep
        smooth = product(spectrum, basis).reshape(len(stack), -1, side, side)
        for phase in range(side // step):
            chosen = smooth[:, phase :: side // step].transpose(0, 2, 1, 3).reshape(len(stack), side, -1)
            total[:, y : y + side, phase * step : phase * step + chosen.shape[2]] += chosen
    cover = (side // step) ** 2
    return total[:, step : step + height, step : step + width] / np.float32(cover)
