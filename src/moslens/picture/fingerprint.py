"""What of a picture tells whether another one shows the same: perceptual hashes, a small grey copy, its capture.

The hashes are those of the package ImageHash (the extra ``pick``): the signs of the lowest 8 x 8 frequencies of a
cosine transform. They are of five cuts, the middle and four beside it, so that the middle of one picture meets a cut
of the same picture shifted.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moslens.picture.capture import Capture, read_capture
from moslens.picture.limits import MAX_PIXELS
from moslens.picture.load import Named, load

SIDE = 40
"""Pixels a side of the grey copy, whatever the shape of the picture."""

BITS = 64

_WORKING_SIZE = 128
_SHIFT = 0.04  # of the side: how far a cut lies beside the middle
_CUT = 1 - 2 * _SHIFT


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """``hashes`` [5, 8] are 64 bits a cut, packed, the middle first. ``thumbnail`` [40, 40] is grey, uint8.

    ``width`` and ``height`` are those of the upright picture.
    """

    hashes: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]
    width: int
    height: int
    capture: Capture


def fingerprint(source: str | bytes | Named, *, max_pixels: int = MAX_PIXELS) -> Fingerprint:
    """The fingerprint of a picture file: a path, or its bytes. Raises ImageError as ``load`` does.

    Raises ModuleNotFoundError where ImageHash is not installed.
    """
    if isinstance(source, bytes | Named):
        data = source if isinstance(source, bytes) else source.read()
        picture = load(data, working_size=_WORKING_SIZE, max_pixels=max_pixels)
        capture = read_capture(io.BytesIO(data))
    else:
        picture = load(source, working_size=_WORKING_SIZE, max_pixels=max_pixels)
        with Path(source).open("rb") as stream:
            capture = read_capture(stream)
    grey = Image.fromarray(picture.pixels).convert("L")
    hashes = np.stack([_hash(grey, across, down) for down, across in _cuts()])
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return Fingerprint(hashes, thumbnail, picture.width, picture.height, capture)


def _cuts() -> list[tuple[float, float]]:
    """The shifts of the cuts, down and across as shares of the sides, the middle first."""
    sides = (-_SHIFT, _SHIFT)
    return [(0.0, 0.0), *((down, across) for down in sides for across in sides)]


def _hash(grey: Image.Image, across: float, down: float) -> NDArray[np.uint8]:
    import imagehash

    left, top = (_SHIFT + across) * grey.width, (_SHIFT + down) * grey.height
    box = (left, top, left + _CUT * grey.width, top + _CUT * grey.height)
    side = 4 * 8  # what the transform takes
    cut = grey.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.packbits(imagehash.phash(cut, hash_size=8, highfreq_factor=4).hash.ravel())
