"""What the model sees of a picture: the working size, windows that cover it fully, and training crops.

Arrays are ``height x width x 3`` of uint8. Scoring uses ``fit`` and ``iter_cover``; training uses ``fit`` and
``training_crop``. A picture smaller than a window is padded by reflection.
"""

from collections.abc import Iterator
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WINDOW = 224
SHORTEST = 32

Pixels = NDArray[np.uint8]


def fitted_size(height: int, width: int, working_size: int) -> tuple[int, int]:
    """The (height, width) that ``fit`` gives a picture of that size.

    The longer side is capped at ``working_size``, except where that would push the shorter side below 32 px:
    a long panorama then keeps its shorter side at 32 px and a longer side above the cap.
    """
    shrink = min(1.0, max(working_size / max(height, width), SHORTEST / min(height, width)))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


@overload
def fit(picture: Image.Image, working_size: int) -> Image.Image: ...
@overload
def fit(picture: Pixels, working_size: int) -> Pixels: ...
def fit(picture: Image.Image | Pixels, working_size: int) -> Image.Image | Pixels:
    """Shrink to the working size (see ``fitted_size``), never enlarge; the same kind of object comes back.

    Pillow's bicubic resize is used, whose support grows with the factor, so every source pixel counts.
    A picture that fits already is returned as it is.
    """
    if isinstance(picture, Image.Image):
        height, width = fitted_size(picture.height, picture.width, working_size)
        if (width, height) == picture.size:
            return picture
        return picture.resize((width, height), Image.Resampling.BICUBIC)
    height, width = picture.shape[:2]
    if fitted_size(height, width, working_size) == (height, width):
        return picture
    return np.array(fit(Image.fromarray(picture), working_size))


def window_origins(height: int, width: int, size: int = WINDOW) -> list[tuple[int, int]]:
    """Top left corners (y, x), row by row, of the windows that cover ``height x width`` completely.

    Each axis has ceil(length / size) windows, spread evenly from edge to edge and mirror-symmetric to 1 px.
    An axis shorter than a window has one, at 0, after padding.
    """
    return [(y, x) for y in _starts(height, size) for x in _starts(width, size)]


def _starts(length: int, size: int) -> list[int]:
    count = -(-length // size)
    if count <= 1:
        return [0]
    free, steps = length - size, count - 1
    # The first half is rounded and the second mirrors it; rounding all alike would favour one side.
    first = [(2 * free * i + steps) // (2 * steps) for i in range((count + 1) // 2)]
    return first + [free - start for start in reversed(first[: count // 2])]


def pad(pixels: Pixels, size: int = WINDOW) -> Pixels:
    """Reflect-pad, evenly on both sides, each axis that is shorter than ``size`` up to it.

    The edge pixel is not doubled. A side too short for one reflection is reflected repeatedly; a side of one pixel
    is repeated.
    """
    height, width = pixels.shape[:2]
    rows, columns = max(0, size - height), max(0, size - width)
    if rows == columns == 0:
        return pixels
    around = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(pixels, around, mode="reflect")


def iter_cover(pixels: Pixels, size: int = WINDOW, batch: int = 16) -> Iterator[Pixels]:
    """The windows of ``cover`` in batches of at most ``batch``: bounded memory for pictures of any length."""
    height, width = pixels.shape[:2]
    origins = window_origins(height, width, size)
    for first in range(0, len(origins), batch):
        # One window spans an axis that needs padding, so padding each window is padding the picture.
        yield np.stack([pad(pixels[y : y + size, x : x + size], size) for y, x in origins[first : first + batch]])


def cover(pixels: Pixels, size: int = WINDOW) -> Pixels:
    """All windows, (n, size, size, 3), in the order of ``window_origins``; every pixel is in at least one."""
    return np.concatenate(list(iter_cover(pixels, size)))


def training_crop(pixels: Pixels, rng: np.random.Generator, size: int = WINDOW, flip: bool = True) -> Pixels:
    """One random ``size x size`` crop, mirrored with probability 0.5 if ``flip``; small pictures are padded."""
    pixels = pad(pixels, size)
    y, x = (int(rng.integers(0, side - size + 1)) for side in pixels.shape[:2])
    crop = pixels[y : y + size, x : x + size]
    if flip and rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop)
