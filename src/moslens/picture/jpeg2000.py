"""JPEG 2000 beside 8 bits: what the headers declare (ISO/IEC 15444-1, annexes A and I), and samples at full scale.

Pillow rounds deeper colour to 8 bits and lets white wrap to 0; shallower samples it leaves below white.
"""

import io
import struct
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

from PIL import Image, ImageChops

from moslens.errors import UnsupportedImage

_SIZ, _QCD, _QCC, _SOT = 0x51, 0x5C, 0x5D, 0x90
_MOST_HEADER = 1 << 22
_SPACES = {12, 16, 17, 18}  # CMYK, sRGB, grey, sYCC
_SYCC = 18


class Declared(NamedTuple):
    """``start`` of the codestream in the file, ``depths`` and ``steps`` (subsampling) of its components."""

    start: int
    depths: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]
    space: int | None
    profile: bytes | None


def declared(stream: IO[bytes]) -> Declared:
    """Raises UnsupportedImage for components and colour spaces that have no agreed way to 8-bit sRGB."""
    start, space, profile = _container(stream)
    stream.seek(start)
    head = stream.read(42)
    (count,) = struct.unpack_from(">H", head, 40)
    found = list(struct.iter_unpack("3B", stream.read(3 * count)))
    depths = tuple((depth & 0x7F) + 1 for depth, _, _ in found)
    steps = tuple((x, y) for _, x, y in found)
    if max(depths) > 16:
        raise UnsupportedImage(f"JPEG 2000 of {max(depths)} bits a sample is not decoded here")
    if space is not None and space not in _SPACES:
        raise UnsupportedImage(f"JPEG 2000 in the colour space {space} is not decoded here")
    if count > 1 and set(depths) != {8} and (len(set(steps)) > 1 or space == _SYCC):
        raise UnsupportedImage("JPEG 2000 with subsampled colour is decoded here with 8 bits a sample alone")
    return Declared(start, depths, steps, space, profile)


def at_full_scale(image: Image.Image, stream: IO[bytes], found: Declared) -> Image.Image:
    """The decoded ``image`` (L, LA, RGB, RGBA, CMYK) with its white at 255."""
    if image.mode in ("P", "PA") or set(found.depths) == {8} or image.mode.startswith("I"):
        return image
    bands = list(image.split())
    if max(found.depths) > 8:
        quarter = _quarter(stream, found).split()
        for i, depth in enumerate(found.depths):
            if depth > 8:  # a sample that wrapped is 0, and bright in the other picture
                wrapped = ImageChops.multiply(bands[i].point(_ZERO), quarter[i].point(_BRIGHT))
                bands[i] = ImageChops.lighter(bands[i].point(_SCALED), wrapped)
    for i, depth in enumerate(found.depths):
        if depth < 8:
            bands[i] = bands[i].point([(level >> 8 - depth) * 255 // ((1 << depth) - 1) for level in range(256)])
    merged = Image.merge(image.mode, bands)
    merged.info = image.info
    return merged


_SCALED = [(level * 255 + 128) >> 8 for level in range(256)]  # a sample of all ones was rounded to 256, not to 255
_ZERO = [255] + [0] * 255
_BRIGHT = [0] * 160 + [255] * 96


def _quarter(stream: IO[bytes], found: Declared) -> Image.Image:
    """The picture decoded once more as of one bit more: it takes the middle half of the range, and nothing wraps."""
    stream.seek(0)
    data = bytearray(stream.read())
    at = found.start + 2
    while data[at + 1] != _SOT and at < found.start + _MOST_HEADER:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if marker == _SIZ:
            for i in range(len(found.depths)):
                data[at + 40 + 3 * i] += 1
        elif marker in (_QCD, _QCC):
            _keep_steps(data, at + 4 + (marker == _QCC), at + 2 + length)
        at += 2 + length
    image = _open(io.BytesIO(data))
    image.load()
    return image


def _keep_steps(data: bytearray, at: int, end: int) -> None:
    """Quantisation steps are relative to the range of the samples: one more of exponent, one less of guard bits."""
    if data[at] & 0x1F:
        if data[at] < 0x20:
            raise UnsupportedImage("JPEG 2000 without guard bits is decoded here with 8 bits a sample alone")
        data[at] -= 0x20
        for place in range(at + 1, end - 1, 2):
            struct.pack_into(">H", data, place, (struct.unpack_from(">H", data, place)[0] + 0x800) & 0xFFFF)


def _open(stream: IO[bytes]) -> Image.Image:
    from PIL import Jpeg2KImagePlugin

    opener = cast(Callable[[Any], Image.Image], Jpeg2KImagePlugin.Jpeg2KImageFile)
    return opener(stream)


def _container(stream: IO[bytes]) -> tuple[int, int | None, bytes | None]:
    """Where the codestream starts, and the colour space or ICC profile of the box around it."""
    space, profile, at = None, None, 0
    stream.seek(0)
    if stream.read(2) == b"\xff\x4f":
        return 0, None, None
    for _ in range(1000):
        stream.seek(at)
        length, kind, wide = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        header = 16 if length == 1 else 8
        length = wide if length == 1 else length
        stream.seek(at + header)
        if kind == b"jp2c":
            return at + header, space, profile
        if kind == b"jp2h":
            space, profile = _colour(stream.read(min(length - header, _MOST_HEADER)))
        if length < 8:
            break
        at += length
    raise EOFError("no codestream")


def _colour(header: bytes) -> tuple[int | None, bytes | None]:
    """Space and profile of the first colour box; an alpha channel must be plain and the last one."""
    at, space, profile = 0, None, None
    while at + 8 <= len(header):
        length, kind = struct.unpack_from(">I4s", header, at)
        body = header[at + 8 : at + length]
        if kind == b"colr" and space is None and profile is None:
            if body[0] == 1:
                (space,) = struct.unpack_from(">I", body, 3)
            elif body[0] in (2, 3):
                profile = body[3:]
            else:
                raise UnsupportedImage("JPEG 2000 with a colour space of its own is not decoded here")
        if kind == b"cdef":
            channels = list(struct.iter_unpack(">HHH", body[2 : 2 + 6 * struct.unpack_from(">H", body)[0]]))
            last = max((number for number, _, _ in channels), default=0)
            for number, meaning, partner in channels:
                plain = partner == number + 1 if meaning == 0 else meaning == 1 and number == last and partner == 0
                if not plain:
                    raise UnsupportedImage("JPEG 2000 with channels in an order of its own is not decoded here")
        at += max(length, 8)
    return space, profile
