"""The block cosine transform of codecs and of the denoiser."""

from functools import cache

import numpy as np

from moslens.distortions.filters import product
from moslens.distortions.planes import Array


@cache
def dct_basis(side: int) -> Array:
    """The orthonormal matrix of the ``side`` x ``side`` cosine transform, one basis picture a row."""
    place = np.arange(side)
    rows = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * side)) * (2 / side) ** 0.5
    rows[0] /= 2**0.5
    return np.kron(rows, rows).astype(np.float32)


def quantize_blocks(plane: Array, side: int, steps: Array, rounding: float, shift: tuple[int, int] = (0, 0)) -> Array:
    """An H x W plane whose blocks of ``side`` px have their cosine coefficients in multiples of ``steps``.

    steps: side x side. rounding: 0.5 rounds to the nearest multiple; less is a dead zone, as in video codecs. shift:
    where the first whole block begins (down, right), each below ``side``.
    """
    height, width = plane.shape
    (top, bottom), (left, right) = (
        ((side - s) % side, -(size + (side - s) % side) % side) for s, size in zip(shift, plane.shape, strict=True)
    )
    padded = np.pad(plane, ((top, bottom), (left, right)), mode="edge")
    rows, columns = padded.shape[0] // side, padded.shape[1] // side
    blocks = padded.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(-1, side * side)
    basis = dct_basis(side)
    steps = np.asarray(steps, np.float32).reshape(-1)
    spectrum = product(blocks, np.ascontiguousarray(basis.T)) / steps
    spectrum = np.copysign(np.floor(np.abs(spectrum) + np.float32(rounding)), spectrum) * steps
    coded = product(spectrum, basis).reshape(rows, columns, side, side).transpose(0, 2, 1, 3).reshape(padded.shape)
    return coded[top : top + height, left : left + width]
