"""Change of size by linear maps along rows and columns: means of areas down, straight lines up."""

import numpy as np

from moslens.distortions.filters import product
from moslens.distortions.planes import Array


def area(stack: Array, size: tuple[int, ...]) -> Array:
    """C x H x W planes made smaller to ``size`` (height, width): each pixel is the mean of the area it covers."""
    return _resampled(stack, [_area_weights(old, new) for old, new in zip(stack.shape[1:], size, strict=True)])


def bilinear(stack: Array, size: tuple[int, ...]) -> Array:
    """C x H x W planes brought to ``size`` (height, width), straight lines between the pixels."""
    return _resampled(stack, [_line_weights(old, new) for old, new in zip(stack.shape[1:], size, strict=True)])


def reduced(size: tuple[int, ...], times: float) -> tuple[int, int]:
    """Height and width made ``times`` smaller, at least 2 px."""
    height, width = (max(2, round(side / times)) for side in size)
    return height, width


def _resampled(stack: Array, weights: list[Array]) -> Array:
    rows, columns = weights
    planes, height, width = stack.shape
    across = product(np.ascontiguousarray(stack).reshape(-1, width), columns).reshape(planes, height, -1)
    turned = np.ascontiguousarray(across.transpose(0, 2, 1)).reshape(-1, height)
    down = product(turned, rows).reshape(planes, -1, rows.shape[1])
    return np.ascontiguousarray(down.transpose(0, 2, 1))


def _area_weights(old: int, new: int) -> Array:
    """``old`` x ``new``: the share of each old pixel in each new one."""
    edges = np.arange(new + 1) * old / new
    covered = np.clip(edges - np.arange(old)[:, None], 0, 1)
    weights: Array = np.diff(covered, axis=1) * (new / old)
    return weights.astype(np.float32)


def _line_weights(old: int, new: int) -> Array:
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    weights: Array = np.maximum(1 - np.abs(place - np.arange(old)[:, None]), 0)
    return weights.astype(np.float32)
