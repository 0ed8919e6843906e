"""The rating that a photo carries inside itself: in its XMP, or in its EXIF data."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from moslens.errors import SidecarError
from moslens.picture.formats import identify, muted_decoders, read_header
from moslens.picture.tiff_directory import entries
from moslens.rating.xmp import MICROSOFT_RATING, MOST_BYTES, OUR_RATING, RATING, Packet, is_unrated, same_rating

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_XMP_TAG, _RATING_TAG = 700, 0x4746
_PILLOW_READS = {"JPEG", "WebP", "AVIF", "HEIC"}
"""Formats of which Pillow gives the XMP wherever in the file it lies."""

_BEGIN, _END = b"<rdf:RDF", b"</rdf:RDF>"
_CHUNK = 1 << 20
_MOST_PACKETS = 64


def embedded_rating(path: str, *, decodes: bool = True) -> str | None:
    """The rating inside a photo as text, None where there is none or the one there means unrated.

    One that equals the rating of moslens beside it is none either: darktable copies both from the sidecar into a photo
    that it exports.

    Pillow, which may crash on a hostile file, gets only one that ``decodes``: that was decoded by another process.

    TIFF files, and raw files that begin like them, are read by their directory, and JPEG, WebP, AVIF and HEIC by
    Pillow. Any other file is searched for XMP from end to end: in PNG, GIF, JPEG 2000 and raw files it is plain text.
    Raises SidecarError where the file or its XMP cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            ratings, ours = _ratings(file, decodes=decodes)
    except OSError as error:
        raise SidecarError(f"cannot be read: {error.strerror or error}", path) from error
    except SidecarError as error:
        raise SidecarError(f"its XMP cannot be read: {error.message}", path) from error
    by_person = (one for one in ratings if not is_unrated(one) and not any(same_rating(one, mine) for mine in ours))
    return next(by_person, None)


def _ratings(file: IO[bytes], *, decodes: bool) -> tuple[list[str | None], list[str]]:
    """The ratings in the file, and those that moslens recorded for the photo that it was made of."""
    packets: Iterator[bytes]
    ratings: list[str | None] = []
    ours: list[str] = []
    if file.read(4) in _TIFF:
        ratings.append(_exif_rating(file))
        data = _tag(file, _XMP_TAG)
        packets = iter([data] if data else [])
    else:
        name, xmp, exif = _by_pillow(file) if decodes else (None, None, None)
        if exif:
            ratings.append(_exif_rating(io.BytesIO(exif.removeprefix(b"Exif\0\0"))))
        packets = iter([xmp] if xmp else []) if name in _PILLOW_READS else _search(file)
    for data in packets:
        packet = Packet(data.strip(b"\0 \t\r\n"))
        ratings += [packet.get(RATING), packet.get(MICROSOFT_RATING)]
        ours += filter(None, [packet.get(OUR_RATING)])
    return ratings, ours


def _by_pillow(file: IO[bytes]) -> tuple[str | None, bytes | None, bytes | None]:
    """The format, the XMP and the EXIF data; None for the format of a file that Pillow does not open."""
    try:
        with muted_decoders():
            name = identify(file)
            info = read_header(file, name).info
    except OSError as error:
        if error.errno is not None:
            raise
        return None, None, None
    except Exception:  # of decoders, for a raw file or one that is no photo
        return None, None, None
    xmp, exif = info.get("xmp"), info.get("exif")
    return name, xmp.encode() if isinstance(xmp, str) else xmp, exif if isinstance(exif, bytes) else None


def _exif_rating(tiff: IO[bytes]) -> str | None:
    data = _tag(tiff, _RATING_TAG)
    order = "little" if tiff.seek(0) == 0 and tiff.read(2) == b"II" else "big"
    return str(int.from_bytes(data, order)) if data else None  # type: ignore[arg-type]


def _tag(tiff: IO[bytes], tag: int) -> bytes | None:
    """The bytes of a tag in the first directory of a TIFF file."""
    for entry in entries(tiff) or ():
        if entry.tag == tag:
            tiff.seek(entry.at)
            return tiff.read(min(struct.calcsize(entry.layout), MOST_BYTES + 1))
    return None


def _search(file: IO[bytes]) -> Iterator[bytes]:
    """The XMP packets in a file of any format."""
    at = 0
    for _ in range(_MOST_PACKETS):
        start = _find(file, _BEGIN, at)
        end = -1 if start < 0 else _find(file, _END, start)
        if end < 0:
            return
        at = end + len(_END)
        file.seek(start)
        yield file.read(min(at - start, MOST_BYTES + 1))


def _find(file: IO[bytes], words: bytes, at: int) -> int:
    """Where ``words`` stand in the file, from byte ``at`` on; -1 where they do not."""
    file.seek(at)
    kept = b""
    while chunk := file.read(_CHUNK):
        found = (kept + chunk).find(words)
        if found >= 0:
            return at - len(kept) + found
        at += len(chunk)
        kept = (kept + chunk)[1 - len(words) :]
    return -1
