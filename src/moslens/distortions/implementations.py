"""Which programs make which kind: every photographic kind has several implementations, made to look equally strong.

An implementation is named after its program, "numpy", "pillow" or "opencv", followed by its formula where a program has
several: "numpy-jerky". The first of a kind is its default. The operations of the paper's kinds have one each.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from moslens.distortions import (
    blur,
    brightness,
    color,
    compression,
    exposure,
    noise,
    resolution,
    sharpness,
    spatial,
    with_opencv,
    with_pillow,
)
from moslens.distortions.kinds import Kind
from moslens.distortions.planes import Array
from moslens.errors import ConfigError
from moslens.system.text import did_you_mean

Operation = Callable[..., Array]

ImplementationSet = Literal["default", "portable", "all"]
"""What to draw an implementation from: the default of each kind, those of numpy and Pillow, or those of OpenCV too."""

_IMPLEMENTATIONS: dict[str, dict[str, Operation]] = {
    "gaussian_blur": {"numpy": blur.gaussian_blur},
    "lens_blur": {"numpy": blur.lens_blur},
    "motion_blur": {"numpy": blur.motion_blur},
    "color_diffusion": {"numpy": color.color_diffusion},
    "color_shift": {"numpy": color.color_shift},
    "color_quantization": {"pillow": color.color_quantization},
    "hsv_saturation": {"numpy": color.hsv_saturation},
    "lab_saturation": {"numpy": color.lab_saturation},
    "jpeg2000": {"pillow": compression.jpeg2000},
    "jpeg": {"pillow": compression.jpeg},
    "white_noise": {"numpy": noise.white_noise},
    "color_noise": {"numpy": noise.color_noise},
    "impulse_noise": {"numpy": noise.impulse_noise},
    "multiplicative_noise": {"numpy": noise.multiplicative_noise},
    "denoise": {"numpy": noise.denoise},
    "brighten": {"numpy": brightness.brighten},
    "darken": {"numpy": brightness.darken},
    "mean_shift": {"numpy": brightness.mean_shift},
    "jitter": {"numpy": spatial.jitter},
    "non_eccentricity": {"numpy": spatial.non_eccentricity},
    "pixelate": {"numpy": spatial.pixelate},
    "quantization": {"numpy": spatial.quantization},
    "color_block": {"numpy": spatial.color_block},
    "high_sharpen": {"numpy": sharpness.high_sharpen},
    "contrast_change": {"numpy": sharpness.contrast_change},
    "nonlinear_contrast": {"numpy": sharpness.nonlinear_contrast},
    "under_exposure": {
        "numpy": exposure.exposure,
        "pillow": with_pillow.exposure,
        "opencv": with_opencv.under_exposure,
    },
    "over_exposure": {
        "numpy": exposure.exposure,
        "pillow": with_pillow.exposure,
        "opencv": with_opencv.over_exposure,
    },
    "haze": {"numpy": exposure.haze, "pillow": with_pillow.haze, "opencv": with_opencv.haze},
    "color_cast": {"numpy": color.color_cast, "pillow": with_pillow.color_cast, "opencv": with_opencv.color_cast},
    "negative": {"numpy": color.negative, "numpy-film": color.film_negative, "pillow": with_pillow.negative},
    "banding": {
        "numpy": color.banding,
        "numpy-channels": color.banded_channels,
        "pillow": with_pillow.banding,
        "opencv": with_opencv.banding,
    },
    "sensor_noise": {
        "numpy": noise.sensor_noise,
        "numpy-plain": noise.plain_sensor_noise,
        "opencv": with_opencv.sensor_noise,
    },
    "luminance_noise": {"numpy": noise.luminance_noise, "numpy-grain": noise.film_grain},
    "chroma_noise": {
        "numpy": noise.chroma_noise,
        "numpy-plain": noise.plain_chroma_noise,
        "pillow": with_pillow.chroma_noise,
        "opencv": with_opencv.chroma_noise,
    },
    "noise_reduction": {
        "numpy": noise.noise_reduction,
        "pillow": with_pillow.noise_reduction,
        "opencv": with_opencv.noise_reduction,
    },
    "camera_shake": {
        "numpy": blur.camera_shake,
        "numpy-jerky": blur.jerky_camera_shake,
        "opencv": with_opencv.camera_shake,
    },
    "defocus": {"numpy": blur.defocus, "numpy-disc": blur.disc_defocus, "opencv": with_opencv.defocus},
    "recompressed_jpeg": {
        "pillow": with_pillow.recompressed_jpeg,
        "numpy": compression.recompressed_jpeg,
        "opencv": with_opencv.recompressed_jpeg,
    },
    "block_codec": {
        "numpy": compression.block_codec,
        "pillow": with_pillow.block_codec,
        "opencv": with_opencv.block_codec,
    },
    "low_resolution": {
        "pillow": with_pillow.low_resolution,
        "numpy": resolution.low_resolution,
        "opencv": with_opencv.low_resolution,
    },
    "thumbnail": {
        "pillow": with_pillow.thumbnail,
        "numpy": resolution.thumbnail,
        "opencv": with_opencv.thumbnail,
    },
    "moire": {"numpy": spatial.moire, "numpy-screen": spatial.screen_moire},
    "lost_blocks": {"numpy": spatial.lost_blocks, "numpy-slices": spatial.shifted_slices},
    "watermark": {
        "pillow": with_pillow.watermark,
        "pillow-large": with_pillow.large_watermark,
        "numpy": spatial.logo_watermark,
        "opencv": with_opencv.watermark,
    },
    "rolling_lines": {"numpy": spatial.rolling_lines, "numpy-scan": spatial.scan_lines},
    "sharpening_halos": {
        "numpy": sharpness.sharpening_halos,
        "numpy-local": sharpness.local_contrast_halos,
        "pillow": with_pillow.sharpening_halos,
        "opencv": with_opencv.sharpening_halos,
    },
}


def implementations_of(kind: Kind, among: ImplementationSet = "all") -> tuple[str, ...]:
    """The names of a kind's implementations, the default first. They are the same on every machine."""
    names = tuple(_IMPLEMENTATIONS[kind.name])
    if among == "default":
        return names[:1]
    return names if among == "all" else tuple(name for name in names if not name.startswith("opencv"))


def draw_implementation(kind: Kind, rng: np.random.Generator, among: ImplementationSet) -> str:
    """An implementation of a kind, each as likely. Where there is one to choose from, nothing is drawn from ``rng``.

    What is drawn does not depend on what is installed: without OpenCV, "all" raises MissingExtra (see
    :func:`require_implementations`) and never falls back, so a seed means the same pixels everywhere.
    """
    names = implementations_of(kind, among)
    return names[int(rng.integers(len(names)))] if len(names) > 1 else names[0]


def require_implementations(among: ImplementationSet) -> None:
    """Check that all implementations of a set can run here.

    Raises MissingExtra where "all" is asked for and OpenCV is not installed, ConfigError for an unknown set.
    """
    if among not in get_args(ImplementationSet):
        raise ConfigError(f"implementations is one of {', '.join(get_args(ImplementationSet))}, not {among!r}")
    if among == "all":
        with_opencv.opencv()


def get_operation(kind: Kind, implementation: str | None = None) -> Operation:
    """An implementation of a kind, by default the first. ConfigError where the kind has none of that name."""
    known = _IMPLEMENTATIONS[kind.name]
    if implementation is None:
        return next(iter(known.values()))
    if implementation not in known:
        hint = did_you_mean(implementation, known)
        raise ConfigError(f"{kind.name} has no implementation {implementation!r}; {hint}it has {', '.join(known)}")
    return known[implementation]
