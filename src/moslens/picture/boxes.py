"""What the boxes of an AVIF or HEIC file declare of its main picture: colour codes and clean aperture.

ISO/IEC 14496-12 (boxes) and 23008-12 (properties of pictures). Nothing is decoded.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import IO, NamedTuple

from moslens.errors import UnsupportedImage
from moslens.picture.item_extents import inner_boxes

_MOST_META = 1 << 24
_MOST_BOXES = 1 << 12


class Declared(NamedTuple):
    """``codes``: primaries and transfer function of H.273, if the file has them and no ICC profile.

    ``crop``: left, top, right, bottom of the clean aperture in the stored picture, if it has one.
    """

    codes: tuple[int, int] | None
    crop: tuple[int, int, int, int] | None


def declared(stream: IO[bytes]) -> Declared:
    """Raises UnsupportedImage for a clean aperture that does not lie on pixels inside the picture."""
    meta = _meta(stream)
    parts = dict(_boxes(meta[4:]))
    try:
        mine = _properties(parts)
        profiles = [body[:4] for kind, body in mine if kind == b"colr"]
        nclx = next((body for kind, body in mine if kind == b"colr" and body[:4] == b"nclx"), None)
        coloured = nclx is not None and not {b"prof", b"rICC"} & set(profiles)
        codes = struct.unpack_from(">HH", nclx, 4) if nclx is not None and coloured else None
        clap = next((body for kind, body in mine if kind == b"clap"), None)
        size = next((struct.unpack_from(">II", body, 4) for kind, body in mine if kind == b"ispe"), None)
        crop = None if clap is None or size is None else _crop(struct.unpack_from(">IIIIiIiI", clap), *size)
    except (struct.error, IndexError, KeyError):
        return Declared(None, None)  # the decoder says what is wrong
    return Declared(codes, crop)


def _crop(clap: tuple[int, ...], width: int, height: int) -> tuple[int, int, int, int]:
    wide, wide_by, high, high_by, x, x_by, y, y_by = clap
    if 0 in (wide_by, high_by, x_by, y_by):
        raise UnsupportedImage("its clean aperture divides by zero")
    size = (wide / wide_by, high / high_by)
    left = x / x_by + (width - 1) / 2 - (size[0] - 1) / 2
    top = y / y_by + (height - 1) / 2 - (size[1] - 1) / 2
    edges = (left, top, left + size[0], top + size[1])
    box = (round(edges[0]), round(edges[1]), round(edges[2]), round(edges[3]))
    whole = max(abs(edge - cut) for edge, cut in zip(edges, box, strict=True)) < 0.01
    if not whole or not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise UnsupportedImage(f"its clean aperture {edges} does not lie on pixels inside {width} x {height}")
    return box


def _properties(parts: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The properties of the primary item (boxes ``pitm``, ``ipco`` and ``ipma``)."""
    first = parts[b"pitm"]
    (item,) = struct.unpack_from(">I" if first[0] else ">H", first, 4)
    inside = list(_boxes(parts[b"iprp"]))
    every = list(_boxes(next(body for kind, body in inside if kind == b"ipco")))
    mine: list[tuple[bytes, bytes]] = []
    for links in (body for kind, body in inside if kind == b"ipma"):
        wide, at = links[3] & 1, 8
        for _ in range(min(struct.unpack_from(">I", links, 4)[0], _MOST_BOXES)):
            name = ">I" if links[0] else ">H"
            (owner,) = struct.unpack_from(name, links, at)
            at += struct.calcsize(name)
            count, at = links[at], at + 1
            numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", links, at)
            at += count << wide
            if owner == item:
                mine += [every[(number & (0x7FFF if wide else 0x7F)) - 1] for number in numbers]
    return mine


def _meta(stream: IO[bytes]) -> bytes:
    end, at = stream.seek(0, 2), 0
    for _ in range(_MOST_BOXES):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        if kind == b"meta":
            return stream.read(min(length - 8 if length >= 8 else end, _MOST_META))
        if length < 8:
            break
        at += length
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    return islice(inner_boxes(data), _MOST_BOXES)
