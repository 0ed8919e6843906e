"""Resolution: small pictures and thumbnails, enlarged."""

import numpy as np

from moslens.distortions.compression import quantize_jpeg
from moslens.distortions.planes import Array
from moslens.distortions.resampling import area, bilinear, reduced


def low_resolution(stack: Array, times: float, rng: np.random.Generator) -> Array:
    """Made ``times`` smaller by means of areas, then enlarged with straight lines between the pixels."""
    return bilinear(area(stack, reduced(stack.shape[1:], times)), stack.shape[1:])


def thumbnail(stack: Array, times: float, rng: np.random.Generator) -> Array:
    """A thumbnail of a file, ``times`` smaller and compressed as JPEG, enlarged: its 8 px blocks become large ones."""
    small = area(stack, reduced(stack.shape[1:], times))
    coded = quantize_jpeg(small, rng.uniform(25, 60), 8).clip(0, 1)
    return bilinear(coded, stack.shape[1:])
