"""Whether a picture file that failed to decode lacks its end, judged by the structure of the file.

Decoders often give one message for missing bytes and for broken ones. The file itself is clearer: many formats state
their length or end with a marker. Format names are those of ``moslens.picture.formats``. These functions are called
only after a failure and may read the whole file.
"""

import io
import re
import struct
from collections.abc import Callable
from typing import IO

from moslens.picture.tiff_directory import MOST_VALUES, NUMBERS, entries

QOI_END = bytes(7) + b"\1"
"""How the data of a QOI file ends."""

_MOST_READ = 1 << 27
_MOST_PARTS = 1 << 18  # segments, chunks or boxes; a file with more is not followed to its end
_FILL = re.compile(rb"\xff+")


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
    """The message for a user: the length of the file and, if its header states it, the length it should have."""
    size = stream.seek(0, 2)
    whole = declared_size(stream, name)
    if whole is not None and whole > size:
        return f"the file ends after {size:,} of {whole:,} bytes"
    return f"the file ends after {size:,} bytes, before the picture does"


def declared_size(stream: IO[bytes], name: str) -> int | None:
    """The length in bytes that the file's header states; None for formats without one."""
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
    for _ in range(_MOST_PARTS):
        if at >= size:
            return at
        stream.seek(at)
        length, _, wide = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        length = wide if length == 1 else length
        if length < 8:  # zero: the box reaches to the end of the file
            return size
        at += length
    return size


def _jpeg_is_short(data: bytes) -> bool:
    at = 2
    for _ in range(_MOST_PARTS):
        fill = _FILL.match(data, at)
        if fill is None:
            return at + 4 > len(data)
        at = fill.end() - 1
        if at + 4 > len(data):
            return True
        marker = data[at + 1]
        if marker == 0xDA:  # scan data cannot hold the end marker; a thumbnail in front of it can
            return data.find(b"\xff\xd9", at) < 0
        if marker == 0xD9:
            return False
        if marker == 1 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png_is_short(data: bytes) -> bool:
    at = 8
    for _ in range(_MOST_PARTS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND" or not kind.isalpha():
            return False
        at += 12 + length
    return not data.endswith(b"IEND\xaeB`\x82")


def _tiff_is_short(data: bytes) -> bool:
    """Follow the first directory: short if anything it points to lies beyond the end."""
    directory = entries(io.BytesIO(data))
    if directory is None:
        return True
    if any(entry.at + struct.calcsize(entry.layout) > len(data) for entry in directory):
        return True
    # Offsets and lengths of strips and tiles; entries of another type than numbers are skipped.
    found = {
        entry.tag: struct.unpack_from(entry.layout, data, entry.at)
        for entry in directory
        if entry.tag in (273, 279, 324, 325) and entry.kind in NUMBERS and entry.values <= MOST_VALUES
    }
    offsets = found.get(273, ()) + found.get(324, ())
    lengths = found.get(279, ()) + found.get(325, ())
    return any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=False))


_CHECKS: dict[str, Callable[[bytes], bool | None]] = {
    "JPEG": _jpeg_is_short,
    "PNG": _png_is_short,
    "TIFF": _tiff_is_short,
    "WebP": lambda data: False,  # its declared length decides
    "AVIF": lambda data: b"mdat" not in data,
    "HEIC": lambda data: b"mdat" not in data,
    "GIF": lambda data: not data.rstrip(b"\0").endswith(b";"),
    "JPEG 2000": lambda data: b"\xff\xd9" not in data,
    "QOI": lambda data: not data.endswith(QOI_END),
}
