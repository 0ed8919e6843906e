"""Noise: white, in YCbCr, impulse, multiplicative, and a denoiser's artefacts; noise of cameras, and its removal."""

from functools import cache

import numpy as np

from moslens.distortions import filters
from moslens.distortions.colorspace import rgb_to_ycc, to_linear, ycc_to_rgb
from moslens.distortions.dct import dct_basis
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


def sensor_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Noise of photons and of the sensor's electronics, on a Bayer mosaic that is interpolated: coarse and colored."""
    noise = _demosaic(normal(stack.shape[1:], rng))
    return stack + noise * (np.float32(deviation / 255) * noise_gain(stack))


def plain_sensor_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """The same noise, independent in every sample, as of a picture that was made smaller."""
    return stack + normal(stack.shape, rng) * (np.float32(deviation / 255) * noise_gain(stack))


def luminance_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Noise of luma alone: what is left where color noise was removed."""
    return stack + np.float32(deviation / 255) * normal(stack.shape[1:], rng)


def film_grain(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Noise of luma in clumps, strongest in the mid-tones."""
    clumps = _unit(filters.gaussian(normal((1, *stack.shape[1:]), rng), rng.uniform(0.6, 1.0)))[0]
    luma = stack.mean(axis=0)
    changed: Array = stack + np.float32(deviation / 255) * clumps * (
        np.float32(0.7) + np.float32(2) * luma * (1 - luma)
    )
    return changed


def chroma_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Blotches of Cb and Cr, a few px wide; luma is kept."""
    blotches = _unit(filters.gaussian(normal((2, *stack.shape[1:]), rng), rng.uniform(1.2, 2.5)))
    return with_chroma(stack, np.float32(deviation / 255) * blotches)


def plain_chroma_noise(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Noise of Cb and Cr, independent in every pixel, stronger in the shadows."""
    noise = normal((2, *stack.shape[1:]), rng)
    return with_chroma(stack, np.float32(deviation / 255) * noise * (np.float32(1.3) - np.float32(0.6) * stack[1]))


def noise_reduction(stack: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Sensor noise, removed by a guided filter of luma and a wide mean of chroma: edges stay, texture is smeared.

    He, Sun and Tang, "Guided Image Filtering", TPAMI 2013, with the picture as its own guide.
    """
    noisy = rgb_to_ycc(sensor_noise(stack, deviation, rng).clip(0, 1))
    luma, radius = noisy[:1], 4
    mean, mean_square, *chroma = filters.box(np.concatenate([luma, luma * luma, noisy[1:]]), radius)
    variance = np.maximum(mean_square - mean * mean, 0)
    gain = variance / (variance + np.float32((1.6 * deviation / 255) ** 2))
    gain, offset = filters.box(np.stack([gain, mean - gain * mean]), radius)
    return ycc_to_rgb(np.stack([gain * luma[0] + offset, *chroma]))


def noise_gain(stack: Array) -> Array:
    """The deviation of sensor noise at each sample over that at mid-grey: larger in the shadows, smaller in light."""
    return _noise_gains().take((stack * np.float32(255) + np.float32(0.5)).astype(np.uint8))


def with_chroma(stack: Array, change: Array) -> Array:
    """``stack`` with ``change`` (2 x H x W: Cb, Cr) added; luma is kept where nothing is clipped."""
    return stack + ycc_to_rgb(np.stack([np.zeros_like(change[0]), *change]))


@cache
def _noise_gains() -> Array:
    """Shot noise grows with the root of linear light, noise of the electronics is constant; sRGB stretches shadows."""
    values = np.arange(256, dtype=np.float32) / 255
    light = to_linear(values[None])[0].astype(np.float64)
    slope = np.where(light <= 0.0031308, 12.92, 1.055 / 2.4 * np.maximum(light, 0.0031308) ** (1 / 2.4 - 1))
    gains = slope * np.sqrt(light + 0.004)
    changed: Array = (gains / gains[118]).astype(np.float32)
    return changed


def _demosaic(mosaic: Array) -> Array:
    """Samples of an H x W Bayer mosaic (RGGB), interpolated linearly to 3 planes of about unit deviation."""
    padded = np.zeros((3, mosaic.shape[0] + 2, mosaic.shape[1] + 2), np.float32)
    inner = padded[:, 1:-1, 1:-1]
    inner[0, ::2, ::2] = mosaic[::2, ::2]
    inner[1, ::2, 1::2], inner[1, 1::2, ::2] = mosaic[::2, 1::2], mosaic[1::2, ::2]
    inner[2, 1::2, 1::2] = mosaic[1::2, 1::2]
    rows = padded[:, :-2] + padded[:, 2:] + 2 * padded[:, 1:-1]
    out = rows[:, :, :-2] + rows[:, :, 2:] + 2 * rows[:, :, 1:-1]
    # Green lies on a quincunx: its four neighbours are enough.
    green = padded[1]
    out[1] = green[:-2, 1:-1] + green[2:, 1:-1] + green[1:-1, :-2] + green[1:-1, 2:] + 4 * green[1:-1, 1:-1]
    out *= np.float32(0.25 / 0.77)
    changed: Array = out
    return changed


def _unit(planes: Array) -> Array:
    """Planes divided by their standard deviation."""
    changed: Array = planes / np.maximum(planes.std(), np.float32(1e-6))
    return changed


def _normal(shape: tuple[int, ...], variance: float, rng: np.random.Generator) -> Array:
    return normal(shape, rng) * np.float32(variance**0.5)


def _threshold_dct(stack: Array, threshold: float) -> Array:
    height, width = stack.shape[1:]
    side, step = _DCT_SIDE, _DCT_STEP
    bottom, right = (max(side - size, -(size - side) % step) for size in (height, width))
    # One step of border on the outside, so that every pixel is covered four times.
    padded = np.pad(stack, ((0, 0), (step, bottom + step), (step, right + step)), mode="reflect")
    basis = dct_basis(side)
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
