"""Harmless: compressed again at high quality, and brought to another size within a factor of 1.5.

Pictures are H x W x 3 uint8.
"""

import numpy as np
from PIL import Image

from moslens.distortions.planes import Array, from_planes, to_planes
from moslens.distortions.resampling import area, bilinear
from moslens.distortions.with_opencv import opencv
from moslens.distortions.with_pillow import through

LEAST_QUALITY = 92
"""Of JPEG and WebP, 1 to 100."""
SMALLEST_SCALE, LARGEST_SCALE = 0.75, 1.5

_FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.HAMMING)


def pillow_jpeg(picture: Array, rng: np.random.Generator) -> Array:
    """Pillow's JPEG, with or without halved chroma."""
    subsampling = "4:4:4" if rng.random() < 0.5 else "4:2:0"
    return np.array(through(Image.fromarray(picture), "JPEG", quality=_quality(rng), subsampling=subsampling))


def pillow_webp(picture: Array, rng: np.random.Generator) -> Array:
    """Pillow's lossy WebP."""
    return np.array(through(Image.fromarray(picture), "WEBP", quality=_quality(rng)))


def opencv_reencoded(picture: Array, rng: np.random.Generator) -> Array:
    """OpenCV's JPEG or WebP."""
    cv2 = opencv()
    suffix, setting = (".jpg", cv2.IMWRITE_JPEG_QUALITY) if rng.random() < 0.5 else (".webp", cv2.IMWRITE_WEBP_QUALITY)
    _, coded = cv2.imencode(suffix, picture[..., ::-1], [setting, _quality(rng)])
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def pillow_scaled(picture: Array, rng: np.random.Generator) -> Array:
    """Pillow's resize with one of its better filters."""
    height, width = _scaled_size(picture, rng)
    return np.array(Image.fromarray(picture).resize((width, height), _FILTERS[int(rng.integers(len(_FILTERS)))]))


def averaged_or_drawn(picture: Array, rng: np.random.Generator) -> Array:
    """Means of areas down, straight lines between the pixels up."""
    size = _scaled_size(picture, rng)
    resample = area if size[0] < picture.shape[0] else bilinear
    return from_planes(resample(to_planes(picture), size).clip(0, 1), np.uint8)


def opencv_scaled(picture: Array, rng: np.random.Generator) -> Array:
    """OpenCV's resize: by area down, cubic or Lanczos up."""
    cv2 = opencv()
    height, width = _scaled_size(picture, rng)
    up = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LANCZOS4
    method = cv2.INTER_AREA if height < picture.shape[0] else up
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method))


def _quality(rng: np.random.Generator) -> int:
    return int(rng.integers(LEAST_QUALITY, 99))


def _scaled_size(picture: Array, rng: np.random.Generator) -> tuple[int, int]:
    """Another (height, width): smaller and larger ones are equally likely."""
    scale = np.exp(
        rng.uniform(np.log(SMALLEST_SCALE), 0) if rng.random() < 0.5 else rng.uniform(0, np.log(LARGEST_SCALE))
    )
    height, width = (round(float(scale) * side) for side in picture.shape[:2])
    return height, width
