"""The decoding policy: anything -> upright sRGB pixels. Training, scoring and serving all read pictures here.

EXIF orientation is applied, an embedded ICC profile is converted to sRGB, 16-bit samples are scaled, grey
becomes RGB, alpha is composited over mid-grey, CMYK is converted, an animation gives its first frame.
``load`` is the one way from a file to the pixels that a model sees; docs/decisions.md has the reasons.

A decoded picture is worked through in upright bands, so that beside Pillow's own copy (4 bytes a pixel for
colour) there is no second one of full size, and a picture stored sideways gives the very pixels of its twin.

A JPEG much larger than the working size is decoded at 1/2, 1/4 or 1/8 of its size, which libjpeg does inside
its inverse transform: never below ``REDUCED_TO`` times the working size, from where the resize does the rest.

Of pictures with very many pixels only a few are decoded at the same time (memory_budget.py).
"""

import io
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moslens.errors import (
    EmptyImage,
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    NotAnImage,
    UnreadableImage,
    UnsupportedImage,
)
from moslens.picture.colour import conversion
from moslens.picture.formats import (
    Metered,
    explain_failure,
    identify,
    keeps_everything,
    muted_decoders,
    read_header,
    read_pixels,
)
from moslens.picture.limits import MAX_PIXELS
from moslens.picture.memory_budget import MemoryBudget
from moslens.picture.names import is_raw_name
from moslens.picture.windows import fit, fitted_size

logger = logging.getLogger(__name__)

MIN_SIDE = 32
REDUCED_TO = 2

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Named(os.PathLike[str]):
    """A picture file that is not on this disk: ``read`` gives its bytes when it is its turn, ``name`` stands in rows.

    ``read`` raises an ImageError where it cannot.
    """

    name: str
    read: Callable[[], bytes]

    def __fspath__(self) -> str:
        return self.name


Source = str | bytes | io.BytesIO | os.PathLike[str] | Image.Image | Pixels

_MEMORY_BUDGET = MemoryBudget()
_BAND_PIXELS = 1 << 20
_MOST_EXIF = 4 << 20
_ORIENTATION = 0x0112


class _Turn(NamedTuple):
    """How upright rows are stored: as columns or not, last first or not, and what turns a piece upright."""

    how: Image.Transpose | None
    columns: bool
    backwards: bool


_TURNS = {
    1: _Turn(None, False, False),
    2: _Turn(Image.Transpose.FLIP_LEFT_RIGHT, False, False),
    3: _Turn(Image.Transpose.ROTATE_180, False, True),
    4: _Turn(Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: _Turn(Image.Transpose.TRANSPOSE, True, False),
    6: _Turn(Image.Transpose.ROTATE_270, True, False),
    7: _Turn(Image.Transpose.TRANSVERSE, True, True),
    8: _Turn(Image.Transpose.ROTATE_90, True, True),
}


@dataclass(frozen=True)
class Picture:
    """``pixels`` (h x w x 3, upright sRGB) at the working size, and the size of the upright original."""

    pixels: Pixels
    width: int
    height: int


def load(source: Source, *, working_size: int | None = 512, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture and put it on the working size (``windows.fit``; None keeps the size).

    ``source`` is a path, the bytes of a file (also ``Named`` or ``io.BytesIO``), a PIL image (its current frame) or an
    h x w x 3 uint8 RGB array, which comes back uncopied if it fits. Raises an ImageError, with the path where there is
    one: UnreadableImage, EmptyImage, NotAnImage, TruncatedImage, CorruptImage, UnsupportedImage, and by the header
    alone ImageTooSmall for a side below 32 px and ImageTooLarge above ``max_pixels``.
    """
    if isinstance(source, np.ndarray):
        _check_array(source, max_pixels)
        height, width = source.shape[:2]
        pixels = np.ascontiguousarray(source)
        return Picture(pixels if working_size is None else fit(pixels, working_size), width, height)
    with _opened_picture(source, max_pixels, working_size) as (image, path, size, held), _MEMORY_BUDGET.reserve(held):
        read_pixels(image)
        turn = _turn(image, path)
        width, height = size[::-1] if turn.columns else size
        target = (height, width) if working_size is None else fitted_size(height, width, working_size)
        colours = conversion(image, path)
        if target == (height, width):
            pixels = np.empty((height, width, 3), np.uint8)
            for top, band in _bands(image, turn, _BAND_PIXELS):
                pixels[top : top + band.height] = np.asarray(colours.after(colours.before(band)))
            return Picture(pixels, width, height)
        # Pillow resizes along rows, then along columns; done by bands, the first step gives the same bits.
        narrow: Image.Image | None = None
        at_once = image.width * image.height if colours.direct and turn.how is None else _BAND_PIXELS
        rows = image.width if turn.columns else image.height
        for top, band in _bands(image, turn, at_once):
            piece = colours.before(band).resize((target[1], band.height), Image.Resampling.BICUBIC)
            narrow = narrow or Image.new(piece.mode, (target[1], rows), None)
            narrow.paste(piece, (0, top))
        assert narrow is not None
        small = colours.after(narrow.resize((target[1], target[0]), Image.Resampling.BICUBIC))
        return Picture(np.array(small), width, height)


def decode(source: Source, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The upright sRGB pixels (H x W x 3) of a picture at full size. Sources and errors as for ``load``."""
    return load(source, working_size=None, max_pixels=max_pixels).pixels


def _bands(image: Image.Image, turn: _Turn, pixels: int) -> Iterator[tuple[int, Image.Image]]:
    """Upright horizontal bands of about ``pixels`` pixels, from the top, each with its first row."""
    width, height = image.size[::-1] if turn.columns else image.size
    step = max(1, pixels // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        near, far = (height - bottom, height - top) if turn.backwards else (top, bottom)
        box = (near, 0, far, width) if turn.columns else (0, near, width, far)
        band = image if box == (0, 0, *image.size) else image.crop(box)
        yield top, band if turn.how is None else band.transpose(turn.how)


def _turn(image: Image.Image, path: str | None) -> _Turn:
    try:
        if len(image.info.get("exif") or b"") > _MOST_EXIF:  # each value in it would become an object
            raise ValueError(f"it has more than {_MOST_EXIF:,} bytes")
        orientation = image.getexif().get(_ORIENTATION, 1)
        return _TURNS.get(orientation, _TURNS[1])
    except Exception as error:
        logger.warning("%s: the EXIF data is ignored: %s", path or "picture", error)
        return _TURNS[1]


@contextmanager
def _opened_picture(
    source: Source, max_pixels: int, working_size: int | None
) -> Iterator[tuple[Image.Image, str | None, tuple[int, int], int]]:
    """A PIL image, the path to name in messages, (width, height) as stored, and how many pixels its decoder will hold.

    The image itself is smaller where it is to be decoded at a reduced size. Whatever goes wrong, in decoding too, is
    typed.
    """
    path = _path_of(source)
    try:
        with muted_decoders(), _opened(source) as stream:
            name = None
            try:
                if isinstance(source, Image.Image):
                    image = source
                else:
                    name = _format(stream, path)
                    image = read_header(stream, name)
                size = image.size
                _check_size(*size, max_pixels)
                if isinstance(stream, Metered):
                    stream.left += 8 * image.width * image.height  # as much as 16-bit RGBA without compression
                    stream.least = 0
                held = size[0] * size[1]
                if working_size is not None and name == "JPEG":
                    whole = keeps_everything(image, stream)
                    _reduce(image, working_size)
                    held = held if whole else image.width * image.height
                yield image, path, size, held
            except ImageError:
                raise
            except Exception as error:
                raise explain_failure(error, stream, name) from error
    except ImageError as error:
        raise type(error)(error.message, path) from error.__cause__


def _format(stream: IO[bytes], path: str | None) -> str:
    """:func:`identify`, where a raw file is known by its name: most are TIFF files, some have no mark of their own."""
    raw = path is not None and is_raw_name(path)
    try:
        name = identify(stream)
    except (NotAnImage, UnsupportedImage):
        if not raw:
            raise
        name = "TIFF"
    if raw and name == "TIFF":
        raise UnsupportedImage("a raw file: develop it, or score the JPEG that the camera made")
    return name


def _reduce(image: Image.Image, working_size: int) -> None:
    """Have a JPEG decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 that leaves ``REDUCED_TO`` times the target.

    A PIL image of the caller's is never reduced: that would change what is theirs.
    """
    height, width = fitted_size(image.height, image.width, working_size)
    image.draft(None, (REDUCED_TO * width, REDUCED_TO * height))


@contextmanager
def _opened(source: Source) -> Iterator[IO[bytes]]:
    """The bytes of a source; of a PIL image, none."""
    if isinstance(source, Image.Image):
        yield io.BytesIO()
    elif isinstance(source, bytes | Named):
        data = source if isinstance(source, bytes) else source.read()
        if not data:
            raise EmptyImage("no bytes")
        yield io.BytesIO(data)
    elif isinstance(source, io.BytesIO):
        if not source.getbuffer().nbytes:
            raise EmptyImage("no bytes")
        yield source
    elif isinstance(source, str | os.PathLike):
        with _regular_file(source) as stream:
            yield stream
    else:
        raise UnsupportedImage(f"a picture cannot be read from {type(source).__name__}")


def _regular_file(path: str | os.PathLike[str]) -> IO[bytes]:
    try:
        status = Path(path).stat()  # before opening, which waits for a writer if this is a FIFO
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImage("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage("is not a regular file")
        if status.st_size == 0:
            raise EmptyImage("the file has no bytes")
        return Metered(Path(path).open("rb", buffering=0))
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error
    except ValueError as error:  # a path that no file system can hold
        raise UnreadableImage(str(error)) from error


def _path_of(source: Source) -> str | None:
    name = getattr(source, "filename", None) if isinstance(source, Image.Image) else source
    if isinstance(name, str) or (isinstance(name, os.PathLike) and not isinstance(source, np.ndarray)):
        return os.fspath(name)
    return None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmall(f"{width} x {height} pixels; the shorter side must have {MIN_SIDE} or more")
    if width * height > max_pixels:
        size = f"{width} x {height} = {width * height:,} pixels"
        raise ImageTooLarge(f"{size} are more than the cap of {max_pixels:,}")


def _check_array(pixels: Pixels, max_pixels: int) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        found = f"{' x '.join(map(str, pixels.shape))} {pixels.dtype}"
        raise UnsupportedImage(f"an array must be height x width x 3 uint8 (RGB), this one is {found}")
    _check_size(pixels.shape[1], pixels.shape[0], max_pixels)
