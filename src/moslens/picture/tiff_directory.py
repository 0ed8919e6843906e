"""The first directory of a TIFF file, read without decoding: which entries it has and how long they are.

Decoders turn each value of an entry into a Python object, so a file of 100 MB could keep one busy for minutes and
fill gigabytes before the first pixel. Only the table itself is read here.
"""

import struct
from collections.abc import Iterable
from typing import IO, NamedTuple

from moslens.errors import ImageTooLarge

MOST_VALUES = 1 << 20  # 200 megapixels in tiles of 16 x 16 are 781,250
_MOST_ENTRIES = 1 << 16
_MOST_CHILDREN = 64
_REDUCED_RESOLUTION, _PHOTOMETRIC, _MAKE, _CHILDREN, _DNG_VERSION = 254, 262, 271, 330, 50706
_MOSAIC = (32803, 34892)  # PhotometricInterpretation of a colour filter array, and of linear raw samples

# The struct letter of each TIFF type whose values decoders convert one by one; bytes and text stay whole.
NUMBERS = {3: "H", 4: "I", 5: "Q", 6: "b", 8: "h", 9: "i", 10: "q", 11: "f", 12: "d", 13: "I"}
NUMBERS |= {16: "Q", 17: "q", 18: "Q"}  # BigTIFF
_BYTES = {1: "s", 2: "s", 7: "s"}


class Entry(NamedTuple):
    """``values`` values of TIFF type ``kind`` at byte ``at`` of the file, with a ``layout`` for :mod:`struct`."""

    tag: int
    kind: int
    values: int
    at: int
    layout: str


def entries(stream: IO[bytes], start: int | None = None) -> list[Entry] | None:
    """The entries of the first directory, or of the one at byte ``start``, classic TIFF or BigTIFF.

    None where the file ends inside it.
    """
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    try:
        if head[2:4] in (b"+\0", b"\0+"):
            (first,), number, entry, room = struct.unpack_from(order + "Q", head, 8), "Q", "HHQQ", 8
        else:
            (first,), number, entry, room = struct.unpack_from(order + "I", head, 4), "H", "HHII", 4
        start = first if start is None else start
        stream.seek(min(start, 1 << 62))
        (count,) = struct.unpack(order + number, stream.read(struct.calcsize("=" + number)))
        found: list[Entry] = []
        size = struct.calcsize("=" + entry)
        table = stream.read(size * min(count, _MOST_ENTRIES))
        for tag, kind, values, place in struct.iter_unpack(order + entry, table[: len(table) // size * size]):
            layout = f"{order}{values}{(NUMBERS | _BYTES).get(kind, 'x')}"
            inside = start + struct.calcsize("=" + number) + len(found) * size + size - room
            found.append(Entry(tag, kind, values, inside if struct.calcsize(layout) <= room else place, layout))
    except struct.error:
        return None
    return found if len(table) == size * count or count > _MOST_ENTRIES else None


def refuse_endless_entries(stream: IO[bytes]) -> None:
    """Raise ImageTooLarge where a decoder would convert more than ``MOST_VALUES`` values of one entry."""
    for entry in entries(stream) or ():
        if entry.kind in NUMBERS and entry.values > MOST_VALUES:
            raise ImageTooLarge(f"directory entry {entry.tag} has {entry.values:,} values, the cap is {MOST_VALUES:,}")


def holds_camera_raw(stream: IO[bytes]) -> bool:
    """Whether a camera raw file: a preview of a camera first, or the mosaic of a sensor in it or in its children."""
    directory = list(entries(stream) or ())
    first = _numbers(stream, directory)
    preview = first.get(_REDUCED_RESOLUTION, (0,))[0] & 1 and any(entry.tag == _MAKE for entry in directory)
    if _DNG_VERSION in first or preview or _is_mosaic(first):
        return True
    return any(_is_mosaic(_numbers(stream, entries(stream, at) or ())) for at in first.get(_CHILDREN, ()))


def _is_mosaic(tags: dict[int, tuple[int, ...]]) -> bool:
    return tags.get(_PHOTOMETRIC, (0,))[0] in _MOSAIC


def _numbers(stream: IO[bytes], directory: Iterable[Entry]) -> dict[int, tuple[int, ...]]:
    """The values of the entries that tell a camera raw file."""
    found: dict[int, tuple[int, ...]] = {}
    for entry in directory:
        if entry.tag in (_REDUCED_RESOLUTION, _PHOTOMETRIC, _CHILDREN, _DNG_VERSION):
            stream.seek(min(entry.at, 1 << 62))
            count = min(entry.values, _MOST_CHILDREN)
            layout = entry.layout[0] + (f"{count}{entry.layout[-1]}" if entry.kind in NUMBERS else f"{count}B")
            data = stream.read(struct.calcsize(layout))
            if count and len(data) == struct.calcsize(layout):
                found[entry.tag] = tuple(int(value) for value in struct.unpack(layout, data))
    return found
