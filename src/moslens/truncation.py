"""Does a picture file that failed to decode lack its end? The structure of the file tells, not the decoder.

A decoder that runs out of bytes and one that stumbles over broken ones often say the same, so the file itself
is asked: formats that state their length or end with a marker leave little doubt. Format names are those of
``moslens.formats``. Only called after a failure; may read the whole file.
"""

import struct
from collections.abc import Callable
from typing import IO

_MOST_READ = 1 << 27


def is_short(stream: IO[bytes], name: str) -> bool | None:
    """Whether the file lacks its end; None where its structure does not say."""
    size = stream.seek(0, 2)
    whole = declared_size(stream, name)
    if whole is not None and whole > size:
        return True
    check = _CHECKS.get(name)
    if check is None or size > _MOST_READ:
        return None
    stream.seek(0)
    return check(stream.read())


def where_it_ends(stream: IO[bytes], name: str) -> str:
    """The words for a user: how far the file goes and, where it says so itself, how far it should."""
    size = stream.seek(0, 2)
    whole = declared_size(stream, name)
    if whole is not None and whole > size:
        return f"the file ends after {size:,} of {whole:,} bytes"
    return f"the file ends after {size:,} bytes, before the picture does"


def declared_size(stream: IO[bytes], name: str) -> int | None:
    """Bytes that the file should have by its own header, for the formats whose header says so."""
    stream.seek(0)
    head = stream.read(12)
    if name == "WebP":
        return int(struct.unpack_from("<I", head, 4)[0]) + 8
    if name == "BMP":
        return int(struct.unpack_from("<I", head, 2)[0])
    if name in ("AVIF", "HEIC"):
        return _end_of_boxes(stream)
    return None


def _end_of_boxes(stream: IO[bytes]) -> int:
    """Where the last top-level box of an ISO base media file ends by its own length."""
    size, at = stream.seek(0, 2), 0
    while at < size:
        stream.seek(at)
        length, _, wide = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        length = wide if length == 1 else length
        if length < 8:  # zero: the box reaches to the end of the file, whatever that is
            return size
        at += length
    return at


def _jpeg_is_short(data: bytes) -> bool:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:  # scan data cannot hold the end marker; a thumbnail in front of it can
            return data.find(b"\xff\xd9", at) < 0
        if marker == 0xD9:
            return False
        if marker == 0xFF:
            at += 1
        elif marker == 1 or 0xD0 <= marker <= 0xD7:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at + 4 > len(data)


def _png_is_short(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND" or not kind.isalpha():
            return False
        at += 12 + length
    return not data.endswith(b"IEND\xaeB`\x82")


def _tiff_is_short(data: bytes) -> bool | None:
    """Follow the first directory of a classic TIFF: short if anything it points to lies beyond the end."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        return True
    version, directory = struct.unpack_from(order + "HI", data, 2)
    if version != 42:
        return None
    if directory + 2 > len(data):
        return True
    (entries,) = struct.unpack_from(order + "H", data, directory)
    if directory + 2 + 12 * entries + 4 > len(data):
        return True
    found: dict[int, tuple[int, ...]] = {}
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        values = f"{order}{count}{_TIFF_KINDS.get(kind, 'x')}"
        size = struct.calcsize(values)
        where = at + 8 if size <= 4 else struct.unpack_from(order + "I", data, at + 8)[0]
        if where + size > len(data):
            return True
        if tag in (273, 279, 324, 325):  # where strips or tiles lie, and how long they are
            found[tag] = struct.unpack_from(values, data, where)
    offsets = found.get(273, ()) + found.get(324, ())
    lengths = found.get(279, ()) + found.get(325, ())
    return any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=False))


_TIFF_KINDS = {2: "s", 3: "H", 4: "I", 5: "Q", 7: "s", 8: "h", 9: "i", 10: "q", 11: "f", 12: "d"}

_CHECKS: dict[str, Callable[[bytes], bool | None]] = {
    "JPEG": _jpeg_is_short,
    "PNG": _png_is_short,
    "TIFF": _tiff_is_short,
    "WebP": lambda data: False,  # its declared length decides
    "AVIF": lambda data: b"mdat" not in data,
    "HEIC": lambda data: b"mdat" not in data,
    "GIF": lambda data: not data.rstrip(b"\0").endswith(b";"),
    "JPEG 2000": lambda data: b"\xff\xd9" not in data,
    "QOI": lambda data: not data.endswith(b"\0\0\0\0\0\0\0\1"),
}
