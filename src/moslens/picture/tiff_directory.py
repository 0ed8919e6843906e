"""The first directory of a TIFF file, read without decoding: which entries it has and how long they are.

Decoders turn each value of an entry into a Python object, so a file of 100 MB could keep one busy for minutes and
fill gigabytes before the first pixel. Only the table itself is read here.
"""

import struct
from typing import IO, NamedTuple

from moslens.errors import ImageTooLarge

MOST_VALUES = 1 << 20  # 200 megapixels in tiles of 16 x 16 are 781,250
_MOST_ENTRIES = 1 << 16

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


def entries(stream: IO[bytes]) -> list[Entry] | None:
    """The entries of the first directory, classic TIFF or BigTIFF; None where the file ends inside it."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    try:
        if head[2:4] in (b"+\0", b"\0+"):
            (start,), number, entry, room = struct.unpack_from(order + "Q", head, 8), "Q", "HHQQ", 8
        else:
            (start,), number, entry, room = struct.unpack_from(order + "I", head, 4), "H", "HHII", 4
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
