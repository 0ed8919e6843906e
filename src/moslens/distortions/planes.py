"""Conversion between pictures (H x W x 3, uint8 or float) and the planes of the operations (3 x H x W, float32)."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


def to_planes(image: Array) -> Array:
    """H x W x 3, uint8 or float in [0, 1], to contiguous 3 x H x W float32 in [0, 1]."""
    stack = np.empty((3, *image.shape[:2]), np.float32)
    stack[:] = image.transpose(2, 0, 1)
    if image.dtype == np.uint8:
        stack *= np.float32(1 / 255)
    return stack


def from_planes(stack: Array, dtype: DTypeLike) -> Array:
    """3 x H x W float32 in [0, 1] to contiguous H x W x 3 of ``dtype``: uint8, rounded, or float."""
    if np.dtype(dtype) == np.uint8:
        stack = stack * np.float32(255)
        stack += np.float32(0.5)
    image = np.empty((*stack.shape[1:], 3), dtype)
    for channel in range(3):
        image[..., channel] = stack[channel]
    return image
