"""Damage inside a picture file that its decoder passes over: runs of zeros in coded data, and rows that never came.

A transfer that lost a piece leaves zeros in its place. Zeros can be right, too: a black page as JPEG is little else.
So each format has a rule of its own for what its coding never writes, and where it has none, a second look decides.
JPEG has its own module, jpeg_scan.py. Format names are those of ``moslens.picture.formats``.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from moslens.errors import CorruptImage, ImageError
from moslens.picture.item_extents import coded_items
from moslens.picture.jpeg_scan import load_jpeg

_MOST_READ = 1 << 27
_STRIP_OFFSETS, _STRIP_LENGTHS, _TILE_OFFSETS, _TILE_LENGTHS, _JPEG_TABLES = 273, 279, 324, 325, 347
# More zero bytes in a row than a coder writes. Photos, flat pictures and drawings had 23 at most as AV1 and 29 as
# JPEG 2000; HEVC never writes three. LZW and PackBits code repetition; 512 also allows for encoders that do not.
_ZEROS = {"AVIF": 128, "HEIC": 128, "JPEG 2000": 128, "tiff_lzw": 512, "packbits": 512}
_SUSPECT_ZEROS, _SPARE, _LINE_FEEDS = 64, 64, 12


def refuse_damage(image: ImageFile.ImageFile, stream: IO[bytes], name: str) -> None:
    """Raise CorruptImage where the coded data of an opened picture cannot be what an encoder wrote.

    Called before decoding. ``stream`` is the file, which is left at the same place.
    """
    check = _CHECKS.get(name)
    if check is not None and stream.seek(0, 2) <= _MOST_READ:
        check(image, stream)


def _items(image: ImageFile.ImageFile, stream: IO[bytes], name: str) -> None:
    for item in coded_items(stream):
        _refuse_zeros(item, name, _ZEROS[name])
        _refuse_text(item, name)


def _codestream(image: ImageFile.ImageFile, stream: IO[bytes]) -> None:
    """JPEG 2000: a packet without data is one zero byte, so as many as there are packets in a tile may follow."""
    stream.seek(0)
    data = stream.read()
    start, style = data.find(b"\xff\x4f\xff\x51"), data.find(b"\xff\x52\0")
    tiles, end = data.find(b"\xff\x90\0\x0a"), data.rfind(b"\xff\xd9")
    if not 0 <= start < style < tiles < end:
        return
    layers, levels, own_precincts = int.from_bytes(data[style + 6 : style + 8], "big"), data[style + 9], data[style + 4]
    packets = layers * (levels + 1) * len(image.getbands())
    if own_precincts & 1:
        smallest = min((min(size & 15, size >> 4) for size in data[style + 14 : style + 15 + levels]), default=0)
        packets *= ((image.width >> smallest) + 1) * ((image.height >> smallest) + 1)
    _refuse_zeros(memoryview(data)[tiles:end], "JPEG 2000", _ZEROS["JPEG 2000"] + packets)


def _tiff(image: ImageFile.ImageFile, stream: IO[bytes]) -> None:
    """Strips and tiles, one after the other. In one without compression zeros are black."""
    compression, tags = image.info.get("compression"), getattr(image, "tag_v2", {})
    if compression in ("tiff_lzw", "packbits"):
        for part in _parts(tags, stream):
            _refuse_zeros(part, "TIFF", _ZEROS[compression])
    elif compression in ("tiff_adobe_deflate", "tiff_deflate"):
        for part in _parts(tags, stream):
            if bytes(_SUSPECT_ZEROS) in part and not _inflates(part):
                raise CorruptImage("the TIFF data is broken (a check sum is wrong)")
    elif compression == "jpeg":
        tables = tags.get(_JPEG_TABLES, b"")
        for part in _parts(tags, stream):
            _refuse_broken_jpeg(tables[:-2] + part[2:] if tables else part)


def _parts(tags: Any, stream: IO[bytes]) -> Iterator[bytes]:
    for places, lengths in ((_STRIP_OFFSETS, _STRIP_LENGTHS), (_TILE_OFFSETS, _TILE_LENGTHS)):
        for place, length in zip(_many(tags.get(places)), _many(tags.get(lengths)), strict=False):
            stream.seek(place)
            yield stream.read(length)


def _many(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) if isinstance(value, int) else ()


def _inflates(data: bytes) -> bool:
    """Whether the check sum at the end is right, which libtiff looks at only now and then."""
    inflate = zlib.decompressobj()
    try:
        while data:
            inflate.decompress(data, 1 << 20)
            data = inflate.unconsumed_tail
    except zlib.error:
        return False
    return inflate.eof


def _refuse_broken_jpeg(data: bytes) -> None:
    """Decode it at an eighth of its size, for the sake of its errors."""
    try:
        part = JpegImageFile(io.BytesIO(data))
        part.draft(None, (part.width // 8 or 1, part.height // 8 or 1))
        load_jpeg(part)
    except ImageError:
        raise
    except Exception:
        return  # what only libtiff can read


def _webp(image: ImageFile.ImageFile, stream: IO[bytes]) -> None:
    """Zeros may be right, but then the decoder needs them: it must fail without the last bytes."""
    stream.seek(0)
    data = stream.read()
    _refuse_text(data, "WebP")
    if bytes(_SUSPECT_ZEROS) not in data:
        return
    kind, frame = _first_frame(data)
    if bytes(_SUSPECT_ZEROS) in frame and _decodes(kind, frame[:-_SPARE]):
        raise CorruptImage("the WebP data is broken (more coded data than the picture needs)")


def _first_frame(data: bytes) -> tuple[bytes, bytes]:
    """The chunk that holds the (first) picture: its name and data."""
    at, end = 12, len(data)
    while at + 8 <= end:
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind, data[at + 8 : at + 8 + length]
        at += 24 if kind == b"ANMF" else 8 + length + (length & 1)
    return b"", b""


def _decodes(kind: bytes, frame: bytes) -> bool:
    padded = frame + bytes(len(frame) & 1)
    chunk = b"WEBP" + kind + len(frame).to_bytes(4, "little") + padded
    try:
        with Image.open(io.BytesIO(b"RIFF" + len(chunk).to_bytes(4, "little") + chunk), formats=["WEBP"]) as whole:
            whole.load()
    except Exception:
        return False
    return True


def _refuse_zeros(data: bytes | memoryview, name: str, most: int) -> None:
    if bytes(most) in bytes(data):
        raise CorruptImage(f"the {name} data is broken ({most} or more zero bytes inside)")


def _refuse_text(data: bytes, name: str) -> None:
    """A transfer as text put a carriage return before every line feed; by chance one in 256 has it."""
    feeds = data.count(b"\n")
    if feeds >= _LINE_FEEDS and 10 * data.count(b"\r\n") > 9 * feeds:
        raise CorruptImage(f"the {name} data is broken (a transfer as text changed its line feeds)")


_CHECKS: dict[str, Callable[[ImageFile.ImageFile, IO[bytes]], None]] = {
    "AVIF": lambda image, stream: _items(image, stream, "AVIF"),
    "HEIC": lambda image, stream: _items(image, stream, "HEIC"),
    "JPEG 2000": _codestream,
    "TIFF": _tiff,
    "WebP": _webp,
}


def refuse_missing_rows(image: PngImageFile, stream: IO[bytes]) -> None:
    """Raise CorruptImage where the compressed data of a decoded PNG ended before its last row.

    Pillow leaves such rows black, so the data is looked at again only if the last row is.
    """
    last = image.height - 1
    if image.info.get("interlace"):
        last -= 1 - last % 2  # odd rows come last
    if any(image.crop((0, last, image.width, last + 1)).tobytes()):
        return
    (found, ended), size = _inflated(stream), _coded_size(stream)
    if found < size:
        raise CorruptImage("the PNG data is broken (its compressed data ends before the last row)")
    if found > size and not ended:
        raise CorruptImage("the PNG data is broken (its compressed data has no end)")


def _coded_size(stream: IO[bytes]) -> int:
    """The bytes of all rows with their filter bytes, by the header."""
    stream.seek(16)
    header = stream.read(13)
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[9]]
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    total = 0
    for x, y, across, down in passes if header[12] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def _inflated(stream: IO[bytes]) -> tuple[int, bool]:
    """How many bytes the IDAT chunks hold, decompressed, and whether they end by the rules."""
    inflate, total, at = zlib.decompressobj(), 0, 8
    while True:
        stream.seek(at)
        head = stream.read(8)
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"IDAT":
            left = length
            while left and not inflate.eof:
                data = stream.read(min(left, 1 << 16))
                if not data:
                    return total, False
                left -= len(data)
                while data:
                    total += len(inflate.decompress(data, 1 << 20))
                    data = inflate.unconsumed_tail
        elif len(head) < 8 or head[4:] == b"IEND":
            return total, inflate.eof
        at += 12 + length
