"""Distortions made with operations of Pillow and OpenCV, at five rising levels.

Training has distortions by these two libraries too, at other levels: programs that it never uses are in desk_faults.py.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

Pixels = NDArray[np.uint8]
Operation = Callable[[Pixels, int, np.random.Generator], Pixels]


def _pillow(change: Callable[[Image.Image, int], Image.Image]) -> Operation:
    return lambda pixels, level, rng: np.asarray(change(Image.fromarray(pixels), level).convert("RGB"))


def _saved(format: str, settings: list[dict[str, object]]) -> Operation:
    def change(pixels: Pixels, level: int, rng: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format, **settings[level - 1])  # type: ignore[arg-type]
        return np.asarray(Image.open(buffer).convert("RGB"))

    return change


def _pixelate(pixels: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    factor = (2, 3, 5, 8, 12)[level - 1]
    small = cv2.resize(pixels, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _motion(pixels: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    length = (3, 7, 11, 17, 25)[level - 1]
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), float(rng.uniform(0, 180)), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT), np.uint8)


def _gaussian_noise(pixels: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    cv2.setRNGSeed(int(rng.integers(2**31)))
    noise = np.zeros(pixels.shape, np.int16)
    cv2.randn(noise, (0, 0, 0), (float((8, 14, 20, 28, 40)[level - 1]),) * 3)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _salt_and_pepper(pixels: Pixels, level: int, rng: np.random.Generator) -> Pixels:
    cv2.setRNGSeed(int(rng.integers(2**31)))
    draw = np.zeros(pixels.shape[:2], np.float32)
    cv2.randu(draw, 0.0, 1.0)
    share = (0.005, 0.01, 0.02, 0.04, 0.08)[level - 1]
    noisy = pixels.copy()
    noisy[draw < share / 2] = 0
    noisy[draw > 1 - share / 2] = 255
    return noisy


def _scaled(by: tuple[float, ...], enhance: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return _pillow(lambda image, level: enhance(image).enhance(by[level - 1]))


FOREIGN: dict[str, Operation] = {
    "pillow_gaussian_blur": _pillow(
        lambda i, level: i.filter(ImageFilter.GaussianBlur((1, 1.5, 2.5, 4, 6)[level - 1]))
    ),
    "pillow_box_blur": _pillow(lambda i, level: i.filter(ImageFilter.BoxBlur((1, 2, 3, 5, 8)[level - 1]))),
    "opencv_motion_blur": _motion,
    "opencv_median": lambda p, level, rng: np.asarray(cv2.medianBlur(p, (3, 5, 7, 9, 13)[level - 1]), np.uint8),
    "pillow_jpeg": _saved("JPEG", [{"quality": q} for q in (45, 30, 18, 10, 4)]),
    "pillow_webp": _saved("WEBP", [{"quality": q} for q in (40, 20, 10, 4, 0)]),
    "pillow_jpeg2000": _saved(
        "JPEG2000",
        [{"quality_mode": "rates", "quality_layers": [r], "irreversible": True} for r in (30, 50, 80, 120, 200)],
    ),
    "opencv_gaussian_noise": _gaussian_noise,
    "opencv_salt_and_pepper": _salt_and_pepper,
    "pillow_darken": _scaled((0.8, 0.6, 0.45, 0.3, 0.18), ImageEnhance.Brightness),
    "pillow_brighten": _scaled((1.3, 1.6, 2.0, 2.6, 3.4), ImageEnhance.Brightness),
    "pillow_low_contrast": _scaled((0.8, 0.6, 0.45, 0.3, 0.18), ImageEnhance.Contrast),
    "pillow_desaturate": _scaled((0.6, 0.4, 0.25, 0.1, 0.0), ImageEnhance.Color),
    "pillow_oversaturate": _scaled((1.6, 2.2, 3.0, 4.5, 7.0), ImageEnhance.Color),
    "pillow_sharpen": _scaled((2.0, 3.5, 6.0, 10.0, 18.0), ImageEnhance.Sharpness),
    "pillow_quantise": _pillow(lambda i, level: i.quantize((64, 32, 16, 10, 6)[level - 1], dither=Image.Dither.NONE)),
    "opencv_pixelate": _pixelate,
}
