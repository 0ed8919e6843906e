"""Where an AVIF or HEIC file keeps the coded data of its pictures (ISO/IEC 14496-12, item location box)."""

import struct
from collections.abc import Iterator
from typing import IO

_CODED = {b"av01", b"hvc1"}
_MOST_BOXES = 1 << 16


def coded_items(stream: IO[bytes]) -> Iterator[bytes]:
    """The coded data, piece by piece, of every item that is coded as AV1 or HEVC; none where the boxes are unclear."""
    size = stream.seek(0, 2)
    try:
        meta = next((body for kind, body in _boxes_of_file(stream, size) if kind == b"meta"), b"")
        inside = dict(inner_boxes(meta[4:]))
        coded = _coded_numbers(inside.get(b"iinf", b""))
        places = list(_places(inside.get(b"iloc", b""), coded, size))
    except (struct.error, IndexError):
        return
    for start, length in places:
        stream.seek(start)
        yield stream.read(length)


def _boxes_of_file(stream: IO[bytes], size: int) -> Iterator[tuple[bytes, bytes]]:
    """The name of each outer box, and the content of ``meta``."""
    at = 0
    for _ in range(_MOST_BOXES):
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        start = 16 if length == 1 else 8
        length = struct.unpack_from(">Q", head, 8)[0] if length == 1 else length or size - at
        if length < start:
            return
        stream.seek(at + start)
        yield kind, stream.read(length - start) if kind == b"meta" else b""
        at += length


def inner_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and content of each box in ``data``, up to the first that is malformed."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if length < 8:
            return
        yield kind, data[at + 8 : at + length]
        at += length


def _coded_numbers(iinf: bytes) -> set[int]:
    """The items of a kind that is looked at, by the item information box."""
    found = set()
    for kind, entry in inner_boxes(iinf[6 if iinf[0] == 0 else 8 :]):
        if kind == b"infe" and entry[0] in (2, 3):
            number, _, coding = struct.unpack_from(">HH4s" if entry[0] == 2 else ">IH4s", entry, 4)
            if coding in _CODED:
                found.add(number)
    return found


def _places(iloc: bytes, wanted: set[int], size: int) -> Iterator[tuple[int, int]]:
    """(first byte, length) of each extent of the wanted items, as far as it lies in the file."""
    version = iloc[0]
    offset_size, length_size, base_size, index_size = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15
    wide = 4 if version == 2 else 2
    at = 6 + wide

    def number(octets: int) -> int:
        nonlocal at
        at += octets
        if at > len(iloc):
            raise IndexError
        return int.from_bytes(iloc[at - octets : at], "big")

    for _ in range(int.from_bytes(iloc[6:at], "big")):
        item = number(wide)
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)
        base = number(base_size)
        for _ in range(number(2)):
            if version in (1, 2):
                number(index_size)
            start, length = base + number(offset_size), number(length_size)
            if item in wanted and method == 0 and start < size:
                yield start, min(length or size, size - start)
