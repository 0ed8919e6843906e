"""Color: diffusion, shift of one channel, palette quantization, saturation in HSV and Lab, casts, negatives, bands."""

import numpy as np
from PIL import Image

from moslens.distortions import filters
from moslens.distortions.colorspace import from_linear, lab_to_rgb, rgb_to_lab, to_linear
from moslens.distortions.planes import Array, from_planes, to_planes

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_GATE_SIGMA = 4.0
_GREEN = 1


def color_diffusion(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """Lab a and b blurred with sigma 1.5 ``amount`` + 2 px and multiplied by ``amount``; L is kept."""
    lab = rgb_to_lab(stack)
    lab[1:] = filters.gaussian(lab[1:], 1.5 * amount + 2) * np.float32(amount)
    return lab_to_rgb(lab)


def color_shift(stack: Array, amount: float, rng: np.random.Generator) -> Array:
    """Green moved by ``amount`` px in a random direction down and right, blended in where edges are.

    The blend follows the gradient of the luma, blurred with sigma 4 px and stretched between its 1st and 99th
    percentiles: flat areas keep their color, edges get a fringe.
    """
    direction = rng.random(2)
    down, right = np.rint(amount * direction / np.hypot(*direction)).astype(int)
    green = stack[_GREEN]
    height, width = green.shape
    moved = np.pad(green, ((down, 0), (right, 0)), mode="edge")[:height, :width]
    out = stack.copy()
    out[_GREEN] += _edge_gate(stack) * (moved - green)
    return out


def color_quantization(stack: Array, colors: float, rng: np.random.Generator) -> Array:
    """A palette of ``colors`` colors fitted to the picture, with Floyd-Steinberg dithering."""
    picture = Image.fromarray(from_planes(stack, np.uint8))
    palette = picture.quantize(int(colors), method=Image.Quantize.FASTOCTREE)
    quantized = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    return to_planes(np.asarray(quantized.convert("RGB")))


def hsv_saturation(stack: Array, gain: float, rng: np.random.Generator) -> Array:
    """HSV saturation multiplied by ``gain``; below zero the hues turn to their complements.

    With hue and value fixed, every channel is value - saturation x f(hue), so the change is
    linear and needs no conversion.
    """
    value = stack.max(axis=0)
    out: Array = value - np.float32(gain) * (value - stack)
    return out


def lab_saturation(stack: Array, gain: float, rng: np.random.Generator) -> Array:
    """Lab a and b multiplied by ``gain``."""
    lab = rgb_to_lab(stack)
    lab[1:] *= np.float32(gain)
    return lab_to_rgb(lab)


def color_cast(stack: Array, stops: float, rng: np.random.Generator) -> Array:
    """A wrong white balance: channel gains in linear light, up to ``stops`` apart, that keep the luminance of grey."""
    return from_linear(to_linear(stack) * cast_gains(stops, rng)[:, None, None])


def cast_gains(stops: float, rng: np.random.Generator) -> Array:
    """Gains of R, G and B in linear light, in a random direction: warm, cold, green, magenta or between."""
    angle = rng.uniform(0, 2 * np.pi)
    warm, green = np.array([0.5, 0, -0.5]), np.array([-1 / 3, 2 / 3, -1 / 3])
    gains = 2 ** (stops * (np.cos(angle) * warm + np.sin(angle) * green))
    balanced: Array = (gains / (gains @ [0.2126, 0.7152, 0.0722])).astype(np.float32)
    return balanced


def negative(stack: Array, share: float, rng: np.random.Generator) -> Array:
    """Light and dark exchanged: x + ``share`` (1 - 2 x). Below a share of one the negative is pale."""
    return stack + np.float32(share) * (1 - 2 * stack)


def film_negative(stack: Array, share: float, rng: np.random.Generator) -> Array:
    """A negative behind the orange mask of color film."""
    mask = 1 - share * rng.uniform(0.3, 1) * np.array([0, 0.18, 0.32])
    return negative(stack, share, rng) * mask.astype(np.float32)[:, None, None]


def banding(stack: Array, tones: float, rng: np.random.Generator) -> Array:
    """Smooth gradients become steps: luma, smoothed, in ``tones`` values; color and fine detail are kept."""
    luma = _LUMA[0] * stack[0] + _LUMA[1] * stack[1] + _LUMA[2] * stack[2]
    smooth = filters.gaussian(luma[None], 1.5)[0]
    steps = np.float32(tones - 1)
    changed: Array = stack + (np.rint(smooth * steps) / steps - smooth)
    return changed


def banded_channels(stack: Array, tones: float, rng: np.random.Generator) -> Array:
    """Every channel, smoothed, in ``tones`` values at places of its own; fine detail is kept."""
    steps = np.float32(tones - 1)
    start = rng.random((3, 1, 1), dtype=np.float32)
    smooth = filters.gaussian(stack, 1.0)
    changed: Array = stack + ((np.rint(smooth * steps + start) - start) / steps - smooth)
    return changed


def _edge_gate(stack: Array) -> Array:
    luma = _LUMA[0] * stack[0] + _LUMA[1] * stack[1] + _LUMA[2] * stack[2]
    gradient = np.hypot(*np.gradient(luma))
    edges = filters.gaussian(gradient[None], _GATE_SIGMA)[0]
    low, high = np.percentile(edges, (1, 99))
    if high <= low:
        return np.zeros_like(edges)
    gate: Array = np.clip((edges - low) / (high - low), 0, 1).astype(np.float32)
    return gate
