"""What the model sees of a picture: the working size, windows that cover it fully, and training crops.

Arrays are ``height x width x 3`` of uint8. Scoring uses ``fit`` and ``View``; training on windows uses ``fit`` and
``training_crop``. A picture smaller than a window is padded by reflection.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WINDOW = 224
SHORTEST = 32
SHORTEST_PASS = 128
"""The shortest side of a whole picture as the network sees it."""
STRIDE = 32
"""The network reads sides that are multiples of this."""

Pixels = NDArray[np.uint8]


def fitted_size(height: int, width: int, working_size: int, shortest: int = SHORTEST) -> tuple[int, int]:
    """The (height, width) that ``fit`` gives a picture of that size.

    The longer side is capped at ``working_size``, except where that would push the shorter side below ``shortest`` px:
    a long panorama then keeps its shorter side at that and a longer side above the cap.
    """
    shrink = min(1.0, max(working_size / max(height, width), shortest / min(height, width)))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


@overload
def fit(picture: Image.Image, working_size: int, shortest: int = SHORTEST) -> Image.Image: ...
@overload
def fit(picture: Pixels, working_size: int, shortest: int = SHORTEST) -> Pixels: ...
def fit(picture: Image.Image | Pixels, working_size: int, shortest: int = SHORTEST) -> Image.Image | Pixels:
    """Shrink to the working size (see ``fitted_size``), never enlarge; the same kind of object comes back.

    Pillow's bicubic resize is used, whose support grows with the factor, so every source pixel counts.
    A picture that fits already is returned as it is.
    """
    if isinstance(picture, Image.Image):
        height, width = fitted_size(picture.height, picture.width, working_size, shortest)
        if (width, height) == picture.size:
            return picture
        return picture.resize((width, height), Image.Resampling.BICUBIC)
    height, width = picture.shape[:2]
    if fitted_size(height, width, working_size, shortest) == (height, width):
        return picture
    return np.array(fit(Image.fromarray(picture), working_size, shortest))


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


class Piece(NamedTuple):
    """What the network reads in one pass.

    ``pixels``: H x W x 3. ``y`` and ``x``: where its top left corner lies in the picture at the working size, below 0
    where the picture was mirrored to fill it. ``height`` and ``width``: how much of it is picture; behind them lies
    padding that the network leaves out.
    """

    pixels: Pixels
    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class View:
    """How a picture is brought to the network.

    ``whole``: all of it in one pass, at ``working_size``; a very long picture in a few. Otherwise as 224 x 224 windows
    that cover it.
    """

    whole: bool
    working_size: int

    @property
    def shortest(self) -> int:
        """The shorter side is never shrunk below this many px."""
        return SHORTEST_PASS if self.whole else SHORTEST

    def pieces(self, pixels: Pixels) -> Iterator[Piece]:
        """The pieces of a picture at the working size, row by row; together they cover every pixel.

        A side shorter than a window, or than ``SHORTEST_PASS``, is mirrored up to it. A whole picture is also padded
        by reflection to multiples of ``STRIDE``, below and to the right.
        """
        size, least = (self.working_size, SHORTEST_PASS) if self.whole else (WINDOW, WINDOW)
        full = pixels.shape[0], pixels.shape[1]
        for y, x in window_origins(*full, size):
            view = pad(pixels[y : y + size, x : x + size], least)
            height, width = view.shape[:2]
            top, left = (max(0, least - side) // 2 for side in full)
            padded = np.pad(view, ((0, -height % STRIDE), (0, -width % STRIDE), (0, 0)), mode="reflect")
            yield Piece(np.ascontiguousarray(padded), y - top, x - left, height, width)

    def cells(self, side: int, grid: int) -> int:
        """How many cells of a map a side of ``side`` px is cut into: as fine as the ``grid`` blocks of a piece."""
        piece = min(side, self.working_size) if self.whole else WINDOW
        return max(1, (2 * side * grid + piece) // (2 * piece))


WINDOWS = View(whole=False, working_size=512)


def cover(pixels: Pixels) -> Pixels:
    """All windows of a picture, n x 224 x 224 x 3; every pixel is in at least one."""
    return np.stack([piece.pixels for piece in WINDOWS.pieces(pixels)])


def training_crop(pixels: Pixels, rng: np.random.Generator, size: int = WINDOW, flip: bool = True) -> Pixels:
    """One random ``size x size`` crop, mirrored with probability 0.5 if ``flip``; small pictures are padded."""
    pixels = pad(pixels, size)
    y, x = (int(rng.integers(0, side - size + 1)) for side in pixels.shape[:2])
    crop = pixels[y : y + size, x : x + size]
    if flip and rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop)
