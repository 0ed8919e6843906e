"""Compression: the real JPEG and JPEG 2000 codecs of Pillow (libjpeg-turbo, OpenJPEG), and block codecs of our own."""

import io
from typing import Any

import numpy as np
from PIL import Image

from moslens.distortions.colorspace import rgb_to_ycc, ycc_to_rgb
from moslens.distortions.dct import quantize_blocks
from moslens.distortions.planes import Array, from_planes, to_planes

_MOST_RESOLUTIONS = 6

# The example tables of ITU-T T.81, annex K, which nearly every encoder scales: for luma and for chroma.
_LUMA_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA_STEPS = np.full((8, 8), 99)
_CHROMA_STEPS[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_RESCALED_SIDES = (6, 7, 9, 10, 12)
"""Sides in px of the 8 x 8 blocks of a JPEG whose scale was changed after it was compressed."""


def jpeg(stack: Array, quality: float, rng: np.random.Generator) -> Array:
    """JPEG at ``quality`` 1 to 100, chroma halved both ways (4:2:0)."""
    return _through_codec(stack, "JPEG", quality=int(quality), subsampling="4:2:0")


def jpeg2000(stack: Array, ratio: float, rng: np.random.Generator) -> Array:
    """JPEG 2000 at a compression ratio, with the lossy 9-7 wavelet.

    The code stream has about 150 bytes of headers, so very small pictures cannot reach the high ratios.
    """
    # OpenJPEG refuses more decompositions than the shorter side can be halved.
    resolutions = min(_MOST_RESOLUTIONS, int(min(stack.shape[1:])).bit_length())
    return _through_codec(
        stack,
        "JPEG2000",
        no_jp2=True,
        quality_mode="rates",
        quality_layers=[ratio],
        irreversible=True,
        num_resolutions=resolutions,
    )


def recompressed_jpeg(stack: Array, quality: float, rng: np.random.Generator) -> Array:
    """JPEG's quantization on blocks that are not 8 px wide: a picture whose scale was changed after compression."""
    side = int(rng.choice(_RESCALED_SIDES))
    down, right = (int(shift) for shift in rng.integers(0, side, 2))
    return quantize_jpeg(stack, quality, side, (down, right))


def quantize_jpeg(stack: Array, quality: float, side: int, shift: tuple[int, int] = (0, 0)) -> Array:
    """What a JPEG of ``quality`` 1 to 100 loses, chroma halved both ways, with blocks of ``side`` px."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    rows = np.minimum(np.arange(side) * 8 // side, 7)
    luma, *chroma = rgb_to_ycc(stack)
    out = [quantize_blocks(luma, side, _steps(_LUMA_STEPS, scale)[np.ix_(rows, rows)] * side / 8, 0.5, shift)]
    for plane in _halved(np.stack(chroma)):
        steps = _steps(_CHROMA_STEPS, scale)[np.ix_(rows, rows)] * side / 8
        out.append(quantize_blocks(plane, side, steps, 0.5))
    return ycc_to_rgb(np.stack([out[0], *_doubled(np.stack(out[1:]), stack.shape[1:])]))


def block_codec(stack: Array, quantizer: float, rng: np.random.Generator) -> Array:
    """The losses of H.26x within a picture: 8 and 16 px transforms with a dead zone, then a filter of block edges.

    ``quantizer`` is QP: six more double the step.
    """
    step = 2 ** ((quantizer - 4) / 6) / 255
    down, right = (int(shift) for shift in rng.integers(0, 16, 2))
    luma, *chroma = rgb_to_ycc(stack)
    coded = _in_larger_blocks(luma, step, (down, right))
    halves = [
        _deblocked(quantize_blocks(half, 8, np.full((8, 8), step), 1 / 3), 8, (0, 0), step)
        for half in _halved(np.stack(chroma))
    ]
    return ycc_to_rgb(np.stack([coded, *_doubled(np.stack(halves), stack.shape[1:])]))


def _in_larger_blocks(luma: Array, step: float, shift: tuple[int, int]) -> Array:
    """Luma coded in blocks of 16 px where that loses less than coding in blocks of 8, edges filtered."""
    even = (shift[0] % 8, shift[1] % 8)
    small, large = (
        quantize_blocks(luma, side, np.full((side, side), step), 1 / 3, at) for side, at in ((8, even), (16, shift))
    )
    y, x = ((np.arange(size) + (-at) % 16) // 16 for size, at in zip(luma.shape, shift, strict=True))
    block = y[:, None] * (x[-1] + 1) + x
    losses = [np.bincount(block.ravel(), ((coded - luma) ** 2).ravel()) for coded in (small, large)]
    # A split costs bits, so it must win clearly.
    split = (losses[0] < 0.7 * losses[1])[block]
    return _deblocked(np.where(split, small, large), 8, even, step)


def _deblocked(plane: Array, side: int, shift: tuple[int, int], step: float) -> Array:
    """The two samples beside every block edge drawn together where their difference is below twice ``step``."""
    out = plane.copy()
    for axis, at in ((0, shift[0]), (1, shift[1])):
        view = out if axis == 0 else out.T
        edges = np.arange(at or side, len(view), side)
        if edges.size:
            gap = view[edges] - view[edges - 1]
            gap *= np.abs(gap) < 2 * step
            view[edges - 1] += gap / 3
            view[edges] -= gap / 3
    return out


def _halved(planes: Array) -> Array:
    """C x H x W planes at half the size, odd sides rounded up: means of 2 x 2 px."""
    planes = np.pad(planes, ((0, 0), (0, planes.shape[1] % 2), (0, planes.shape[2] % 2)), mode="edge")
    rows = planes[:, ::2] + planes[:, 1::2]
    halves: Array = (rows[..., ::2] + rows[..., 1::2]) * np.float32(0.25)
    return halves


def _doubled(planes: Array, size: tuple[int, ...]) -> Array:
    """The inverse of :func:`_halved` to height and width ``size``: 3/4 of the nearest pixel, 1/4 of the next."""
    for axis in (1, 2):
        planes = planes.swapaxes(1, axis)
        padded = np.pad(planes, ((0, 0), (1, 1), (0, 0)), mode="edge")
        out = np.empty((len(planes), 2 * planes.shape[1], planes.shape[2]), np.float32)
        out[:, ::2] = np.float32(0.75) * planes + np.float32(0.25) * padded[:, :-2]
        out[:, 1::2] = np.float32(0.75) * planes + np.float32(0.25) * padded[:, 2:]
        planes = out.swapaxes(1, axis)
    return planes[:, : size[0], : size[1]]


def _steps(table: Array, scale: float) -> Array:
    steps: Array = np.clip(np.floor(table * scale + 0.5), 1, 255) / 255
    return steps


def _through_codec(stack: Array, codec: str, **settings: Any) -> Array:
    file = io.BytesIO()
    Image.fromarray(from_planes(stack, np.uint8)).save(file, format=codec, **settings)
    with Image.open(file) as decoded:
        return to_planes(np.asarray(decoded.convert("RGB")))
