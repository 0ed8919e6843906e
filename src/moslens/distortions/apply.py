"""``distort``: one kind at one level on one picture."""

from collections.abc import Callable, Sequence

import numpy as np

from moslens.distortions import blur, brightness, color, compression, noise, sharpness, spatial
from moslens.distortions.kinds import LEVELS, Kind, get_kind
from moslens.distortions.planes import Array, from_planes, to_planes

SMALLEST_SIDE = 16

_OPERATIONS: dict[str, Callable[..., Array]] = {
    "gaussian_blur": blur.gaussian_blur,
    "lens_blur": blur.lens_blur,
    "motion_blur": blur.motion_blur,
    "color_diffusion": color.color_diffusion,
    "color_shift": color.color_shift,
    "color_quantization": color.color_quantization,
    "hsv_saturation": color.hsv_saturation,
    "lab_saturation": color.lab_saturation,
    "jpeg2000": compression.jpeg2000,
    "jpeg": compression.jpeg,
    "white_noise": noise.white_noise,
    "color_noise": noise.color_noise,
    "impulse_noise": noise.impulse_noise,
    "multiplicative_noise": noise.multiplicative_noise,
    "denoise": noise.denoise,
    "brighten": brightness.brighten,
    "darken": brightness.darken,
    "mean_shift": brightness.mean_shift,
    "jitter": spatial.jitter,
    "non_eccentricity": spatial.non_eccentricity,
    "pixelate": spatial.pixelate,
    "quantization": spatial.quantization,
    "color_block": spatial.color_block,
    "high_sharpen": sharpness.high_sharpen,
    "contrast_change": sharpness.contrast_change,
    "nonlinear_contrast": sharpness.nonlinear_contrast,
}


def distort(
    image: Array,
    kind: Kind | str,
    level: int,
    rng: np.random.Generator,
    *,
    regions: Sequence[spatial.Region] | None = None,
) -> Array:
    """``image`` with one kind of distortion at ``level`` 1 to 5; the input is not touched.

    ``image`` is H x W x 3 RGB, uint8 or float32 / float64 in [0, 1], both sides at least 16 px. The result
    has the same shape and dtype and stays in the range; the work is done in float32. ``rng`` is the only
    source of randomness: the same generator state gives the same picture. ``regions`` are rectangles (x, y,
    width, height) in px; sparse kinds place separate patches in each of them, other kinds ignore them.

    Raises ``ConfigError`` for an unknown kind, ``ValueError`` or ``TypeError`` for a wrong level, shape or
    dtype.
    """
    kind = get_kind(kind) if isinstance(kind, str) else kind
    if level not in LEVELS:
        raise ValueError(f"a level is 1 to 5, not {level!r}")
    check_image(image)
    return from_planes(distort_planes(to_planes(image), kind, level, rng, regions), image.dtype)


def distort_planes(
    stack: Array,
    kind: Kind,
    level: int,
    rng: np.random.Generator,
    regions: Sequence[spatial.Region] | None = None,
) -> Array:
    """``distort`` on 3 x H x W float32 planes in [0, 1], unchecked, for many views of one picture."""
    where = {"regions": regions} if kind.sparse else {}
    out = _OPERATIONS[kind.name](stack, kind.levels[level - 1], rng, **where)
    return np.clip(out, 0, 1, out=out)


def check_image(image: Array) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``image`` is a picture that ``distort`` takes."""
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.float32, np.float64):
        got = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"a picture is a uint8, float32 or float64 array, not {got}")
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(f"a picture is H x W x 3 with sides of at least 16 px, not {image.shape}")
    if image.dtype != np.uint8 and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"a float picture is in [0, 1], not {image.min():g} to {image.max():g}")
