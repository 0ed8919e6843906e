"""The decoding policy: anything -> upright sRGB pixels. Training, scoring and serving all read pictures here.

EXIF orientation is applied, an embedded ICC profile is converted to sRGB, 16-bit samples are scaled, grey
becomes RGB, alpha is composited over mid-grey, CMYK is converted, an animation gives its first frame, a raw file the
preview in it or a development (raw.py). What the samples of a file mean is read from its header (layout.py).
``load`` is the one way from a file to the pixels that a model sees; docs/decisions.md has the reasons.

A decoded picture is worked through in upright bands, so that beside Pillow's own copy (4 bytes a pixel for
colour) there is no second one of full size, and a picture stored sideways gives the very pixels of its twin.

A JPEG much larger than the working size is decoded at 1/2, 1/4 or 1/8 of its size, which libjpeg does inside
its inverse transform: never below ``REDUCED_TO`` times the working size, from where the resize does the rest.

Tiles (tiles.py) are cut out of the decoded picture. Where that was decoded at a reduced size, the file is decoded a
second time for them, so that the picture at the working size is the same with tiles and without.

Of pictures with very many pixels only a few are decoded at the same time (memory_budget.py).
"""

import io
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from moslens.errors import (
    EmptyImage,
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    NotAnImage,
    UnreadableImage,
    UnsupportedImage,
)
from moslens.picture.arrays import in_memory
from moslens.picture.colour import Conversion, conversion
from moslens.picture.damage import refuse_damage
from moslens.picture.formats import (
    CAMERA_RAW,
    Metered,
    explain_failure,
    identify,
    keeps_everything,
    muted_decoders,
    read_header,
    read_pixels,
)
from moslens.picture.layout import PLAIN, Layout, layout
from moslens.picture.limits import MAX_PIXELS
from moslens.picture.memory_budget import MemoryBudget
from moslens.picture.names import is_raw_name
from moslens.picture.raw import PREVIEW, develop
from moslens.picture.tiles import TILE, Box, Tile, choose_tiles, has_tiles
from moslens.picture.windows import SHORTEST, fit, fitted_size

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


Source = Any

_MEMORY_BUDGET = MemoryBudget()
_BAND_PIXELS = 1 << 20
_MOST_EXIF = 4 << 20
_ORIENTATION = 0x0112
_XMP = {"xmp", "XML:com.adobe.xmp"}


class _Turn(NamedTuple):
    """How upright rows are stored: as columns or not, last first or not, each from its end or not, and what turns a
    piece upright.
    """

    how: Image.Transpose | None
    columns: bool
    backwards: bool
    mirrored: bool


_TURNS = {
    1: _Turn(None, False, False, False),
    2: _Turn(Image.Transpose.FLIP_LEFT_RIGHT, False, False, True),
    3: _Turn(Image.Transpose.ROTATE_180, False, True, True),
    4: _Turn(Image.Transpose.FLIP_TOP_BOTTOM, False, True, False),
    5: _Turn(Image.Transpose.TRANSPOSE, True, False, False),
    6: _Turn(Image.Transpose.ROTATE_270, True, False, True),
    7: _Turn(Image.Transpose.TRANSVERSE, True, True, True),
    8: _Turn(Image.Transpose.ROTATE_90, True, True, False),
}


@dataclass(frozen=True)
class Picture:
    """``pixels`` (h x w x 3, upright sRGB) at the working size, and the size of the upright original.

    ``notes`` are codes of what a reader of its score should know. ``tiles`` are pieces of it at its native size.
    """

    pixels: Pixels
    width: int
    height: int
    notes: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()


def load(
    source: Source,
    *,
    working_size: int | None = 512,
    shortest: int = SHORTEST,
    max_pixels: int = MAX_PIXELS,
    tiles: bool = False,
) -> Picture:
    """Decode a picture and put it on the working size (``windows.fitted_size``; None keeps the size).

    ``source`` is a path, the bytes of a file (also ``Named`` or an open binary file), a PIL image (its current frame),
    an array of h x w, h x w x 1, x 3 (RGB) or x 4 (RGBA), or a torch tensor of 1, 3 or 4 x h x w. Arrays and tensors
    are uint8, uint16 of full scale or floats in [0, 1]; h x w x 3 uint8 comes back uncopied if it fits.

    With ``tiles``, a picture above twice the working size also gives its tiles: of ``tiles.TILE`` px, or of the working
    size where that is smaller. ``pixels`` are the same with tiles and without.

    Raises an ImageError, with the path where there is one: UnreadableImage, EmptyImage, NotAnImage, TruncatedImage,
    CorruptImage, UnsupportedImage, and by the header alone ImageTooSmall for a side below 32 px and ImageTooLarge above
    ``max_pixels``. ValueError where ``max_pixels`` is no number from 1 up.
    """
    if not isinstance(max_pixels, int | np.integer) or max_pixels < 1:
        raise ValueError(f"max_pixels is a number of pixels from 1 up, not {max_pixels!r}")
    source = in_memory(source, Named)
    if isinstance(source, np.ndarray):
        _check_size(source.shape[1], source.shape[0], max_pixels)
        height, width = source.shape[:2]
        pixels = np.ascontiguousarray(source)
        if working_size is None:
            return Picture(pixels, width, height)
        picture = Picture(fit(pixels, working_size, shortest), width, height)
        boxes = _boxes(picture, working_size) if tiles else []
        return replace(picture, tiles=tuple(Tile(box.cut(pixels), box) for box in boxes))
    if tiles and isinstance(source, Named):
        source = replace(source, read=cache(source.read))  # it may come over a network, and may be decoded twice
    with (
        _opened_picture(source, max_pixels, working_size, shortest) as (opened, path, size, held, declared),
        _MEMORY_BUDGET.reserve(held),
    ):
        read_pixels(opened)
        turn = _turn(opened, path)
        # A PIL image of a TIFF file turns itself as it loads.
        width, height = opened.size if isinstance(source, Image.Image) else size
        if turn.columns:
            width, height = height, width
        image = declared.pixels(opened)
        target = (height, width) if working_size is None else fitted_size(height, width, working_size, shortest)
        colours = conversion(image, path)
        if target == (height, width):
            pixels = np.empty((height, width, 3), np.uint8)
            for top, band in _bands(image, turn, _BAND_PIXELS):
                pixels[top : top + band.height] = np.asarray(colours.after(colours.before(band)))
            colours.refuse_unseen()
            return Picture(pixels, width, height, declared.notes)
        # Pillow resizes along rows, then along columns; done by bands, the first step gives the same bits.
        narrow: Image.Image | None = None
        at_once = image.width * image.height if colours.direct and turn.how is None else _BAND_PIXELS
        rows = image.width if turn.columns else image.height
        for top, band in _bands(image, turn, at_once):
            piece = colours.before(band).resize((target[1], band.height), Image.Resampling.BICUBIC)
            narrow = narrow or Image.new(piece.mode, (target[1], rows), None)
            narrow.paste(piece, (0, top))
        assert narrow is not None
        colours.refuse_unseen()
        small = colours.after(narrow.resize((target[1], target[0]), Image.Resampling.BICUBIC))
        picture = Picture(np.array(small), width, height, declared.notes)
        boxes = _boxes(picture, working_size) if tiles and working_size is not None else []
        if (image.width, image.height) == ((height, width) if turn.columns else (width, height)):
            return replace(picture, tiles=tuple(_tile(image, turn, colours, box) for box in boxes))
    return replace(picture, tiles=_decode_tiles(source, max_pixels, turn, colours, boxes)) if boxes else picture


def decode(source: Source, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The upright sRGB pixels (H x W x 3) of a picture at full size. Sources and errors as for ``load``."""
    return load(source, working_size=None, max_pixels=max_pixels).pixels


def _boxes(picture: Picture, working_size: int) -> list[Box]:
    """Where the tiles of a picture lie; none where it is not large enough."""
    if not has_tiles(picture.height, picture.width, picture.pixels.shape[:2]):
        return []
    return choose_tiles(picture.pixels, picture.height, picture.width, size=min(TILE, working_size))


def _decode_tiles(
    source: Source, max_pixels: int, turn: _Turn, colours: Conversion, boxes: list[Box]
) -> tuple[Tile, ...]:
    """The tiles of a picture whose first decoding was at a reduced size."""
    with (
        _opened_picture(source, max_pixels, None, SHORTEST) as (opened, _, _, held, declared),
        _MEMORY_BUDGET.reserve(held),
    ):
        read_pixels(opened)
        image = declared.pixels(opened)
        return tuple(_tile(image, turn, colours, box) for box in boxes)


def _tile(image: Image.Image, turn: _Turn, colours: Conversion, box: Box) -> Tile:
    """The pixels of ``box`` in the upright picture that ``image`` stores."""
    width, height = image.size[::-1] if turn.columns else image.size
    left = width - box.x - box.width if turn.mirrored else box.x
    top = height - box.y - box.height if turn.backwards else box.y
    corners = (left, top, left + box.width, top + box.height)
    if turn.columns:
        corners = (top, left, top + box.height, left + box.width)
    piece = image.crop(corners)
    upright = piece if turn.how is None else piece.transpose(turn.how)
    return Tile(np.array(colours.after(colours.before(upright))), box)


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
        if orientation != 1 and image.info.keys() & _XMP:  # Pillow takes it from XMP too; viewers do not
            bare = Image.Image()
            bare.info = {name: value for name, value in image.info.items() if name not in _XMP}
            orientation = bare.getexif().get(_ORIENTATION, 1)
        return _TURNS.get(orientation, _TURNS[1])
    except Exception as error:
        logger.warning("%s: the EXIF data is ignored: %s", path or "picture", error)
        return _TURNS[1]


@contextmanager
def _opened_picture(
    source: Source, max_pixels: int, working_size: int | None, shortest: int
) -> Iterator[tuple[Image.Image, str | None, tuple[int, int], int, Layout]]:
    """A PIL image, the path to name in messages, (width, height) as stored, how many pixels its decoder will hold, and
    what the file declares of them.

    The image itself is smaller where it is to be decoded at a reduced size. Whatever goes wrong, in decoding too, is
    typed.
    """
    path = _path_of(source)
    try:
        with muted_decoders(), _opened(source) as file:
            stream, name, declared = file, None, PLAIN
            try:
                if isinstance(source, Image.Image):
                    image = source
                else:
                    name = _format(stream, path)
                    if name == CAMERA_RAW:
                        image, stream, name, declared = _developed(stream, max_pixels)
                    else:
                        image = read_header(stream, name)
                        declared = layout(stream, name, image)
                    image.info.pop("xmp", None)  # or Pillow's TIFF plugin would turn by it
                size = image.size if declared.crop is None else _size_of(declared.crop)
                _check_size(*size, max_pixels)
                if isinstance(stream, Metered):
                    stream.left += 8 * image.width * image.height  # as much as 16-bit RGBA without compression
                    stream.least = 0
                if name is not None and isinstance(image, ImageFile.ImageFile):
                    refuse_damage(image, stream, name)
                held = size[0] * size[1]
                if working_size is not None and name == "JPEG":
                    whole = keeps_everything(image, stream)
                    _reduce(image, working_size, shortest)
                    held = held if whole else image.width * image.height
                yield image, path, size, held, declared
            except ImageError:
                raise
            except Exception as error:
                raise explain_failure(error, stream, name) from error
    except ImageError as error:
        raise type(error)(error.message, path) from error.__cause__


def _developed(stream: IO[bytes], max_pixels: int) -> tuple[Image.Image, IO[bytes], str | None, Layout]:
    """The picture in a raw file: as a JPEG of its own, with its stream, format and layout, or as pixels alone."""
    stream.seek(0)
    found = develop(stream.read(), max_pixels)
    if found.image is not None:
        return found.image, io.BytesIO(), None, PLAIN
    assert found.jpeg is not None
    preview = io.BytesIO(found.jpeg)
    image = read_header(preview, "JPEG")
    declared = layout(preview, "JPEG", image)
    exif = image.getexif()
    if _ORIENTATION not in exif:
        exif[_ORIENTATION] = found.orientation
    return image, preview, "JPEG", replace(declared, notes=(*declared.notes, PREVIEW))


def _format(stream: IO[bytes], path: str | None) -> str:
    """:func:`identify`, where a raw file is known by its name: most are TIFF files, some have no mark of their own."""
    raw = path is not None and is_raw_name(path)
    try:
        name = identify(stream)
    except (NotAnImage, UnsupportedImage):
        if not raw:
            raise
        return CAMERA_RAW
    return CAMERA_RAW if raw and name == "TIFF" else name


def _reduce(image: Image.Image, working_size: int, shortest: int) -> None:
    """Have a JPEG decoded at the smallest of 1/1, 1/2, 1/4 and 1/8 that leaves ``REDUCED_TO`` times the target.

    A PIL image of the caller's is never reduced: that would change what is theirs.
    """
    height, width = fitted_size(image.height, image.width, working_size, shortest)
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
        if source.closed:
            raise UnreadableImage("I/O operation on closed file")
        if not source.getbuffer().nbytes:
            raise EmptyImage("no bytes")
        yield source
    elif isinstance(source, str | os.PathLike):
        with _regular_file(source) as stream:
            yield stream
    else:
        hint = ": score_many(x) scores each of its entries" if isinstance(source, list | tuple) else ""
        raise UnsupportedImage(f"a picture cannot be read from {type(source).__name__}{hint}")


def _regular_file(path: str | os.PathLike[str]) -> IO[bytes]:
    if not os.fspath(path):
        raise UnreadableImage("the name is empty")
    try:
        path = os.fsdecode(path)
        status = Path(path).stat()  # before opening, which waits for a writer if this is a FIFO
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(path):  # that a folder cannot be listed is what its row should say
                raise UnreadableImage("is a folder, not a picture: give it to score_many, or to a command as a PATH")
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
        return os.fsdecode(name)
    return None


def _size_of(box: tuple[int, int, int, int]) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmall(f"{width} x {height} pixels; the shorter side must have {MIN_SIDE} or more")
    if width * height > max_pixels:
        size = f"{width} x {height} = {width * height:,} pixels"
        raise ImageTooLarge(f"{size} are more than the cap of {max_pixels:,}")
