"""Files without the parts that no pixel depends on, so that a fault in those does not cost the picture.

Every viewer shows a PNG whose text is too long or whose physical size is too short, and a JPEG with a broken
application segment, but Pillow stops at them. Such parts are left out before it sees the file.
"""

import io
import zlib
from typing import IO, cast

from moslens.errors import UnsupportedImage

_MOST_PARTS = 1 << 18
_MOST_TEXT = 1 << 20  # what Pillow decompresses
_MOST_EXTRA = 1 << 24
_COLOUR_CHUNKS = {b"gAMA": 4, b"sRGB": 1, b"cICP": 4, b"cHRM": 32}
_ORIENTATION_TEXTS = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
_KEPT = {b"tRNS", b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt", *_COLOUR_CHUNKS}
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA)
# By marker: how a segment that is kept begins, and the bytes it has at least.
_SOUND_SEGMENTS = {
    0xE0: ((b"JFIF\0", 14),),
    0xE1: ((b"Exif\0\0", 14), (b"http://ns.adobe.com/xap/1.0/\0", 30)),
    0xE2: ((b"ICC_PROFILE\0", 15),),
    0xEE: ((b"Adobe", 12),),
}

Part = tuple[int, int]


class Spliced(io.RawIOBase):
    """``parts`` one after the other: bytes, or (start, end) of a piece of ``stream``."""

    def __init__(self, stream: IO[bytes], parts: list[bytes | tuple[int, int]]) -> None:
        self._stream, self._parts, self._at = stream, parts, 0
        self._ends: list[int] = []
        for part in parts:
            length = len(part) if isinstance(part, bytes) else part[1] - part[0]
            self._ends.append((self._ends[-1] if self._ends else 0) + length)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._ends[-1])[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._ends[-1] - self._at if size is None or size < 0 else size
        found: list[bytes] = []
        begin = 0
        for part, end in zip(self._parts, self._ends, strict=True):
            if begin <= self._at < end and wanted > 0:
                length = min(wanted, end - self._at)
                if isinstance(part, bytes):
                    data = part[self._at - begin : self._at - begin + length]
                else:
                    self._stream.seek(part[0] + self._at - begin)
                    data = self._stream.read(length)
                found.append(data)
                self._at += len(data)
                wanted -= len(data)
                if len(data) < length:
                    break
            begin = end
        return b"".join(found)


def png_pixels(stream: IO[bytes], *, to_end: bool = False) -> tuple[IO[bytes], bytes | None]:
    """A PNG without the chunks that no pixel depends on and broken ones that viewers pass over; its colour profile.

    What is kept besides the pixels: transparency, colour space, EXIF data and the texts that can hold an orientation.
    Unless ``to_end``, the chunks behind the first one with pixels stay. The profile is None where none is sound.
    Raises UnsupportedImage for the variant that Xcode writes.
    """
    kept: list[Part] = [(0, 8)]
    at, colour_type, profile = 8, -1, None
    for _ in range(_MOST_PARTS):
        stream.seek(at)
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"CgBI":
            raise UnsupportedImage("a PNG that Xcode rewrote for iOS: score the picture it was made of")
        if len(head) < 8 or not kind.isalpha() or (kind == b"IDAT" and not to_end):
            kept.append((at, max(at, stream.seek(0, 2))))  # what is broken here is for the decoder to say
            break
        end = at + 12 + length
        if kind == b"IHDR":
            colour_type = int.from_bytes(stream.read(10)[9:], "big")
        sound = not kind[0] & 0x20  # chunks whose name begins with a capital are pixels
        if not sound and kind in _KEPT and length <= _MOST_EXTRA:
            data = stream.read(length)
            if stream.read(4) == zlib.crc32(kind + data).to_bytes(4, "big"):
                sound = _is_sound(kind, data, colour_type)
                profile = _profile(data) if kind == b"iCCP" and profile is None else profile
        if sound:
            kept.append((at, end))
        at = end
        if kind == b"IEND":
            break
    merged = [kept[0]]
    for part in kept[1:]:
        if merged[-1][1] == part[0]:
            merged[-1] = (merged[-1][0], part[1])
        else:
            merged.append(part)
    return cast(IO[bytes], Spliced(stream, [*merged])) if len(merged) > 1 else stream, profile


def _is_sound(kind: bytes, data: bytes, colour_type: int) -> bool:
    """Whether Pillow can read an ancillary chunk; the colour profile is not for Pillow, which limits its length."""
    if kind == b"tRNS":
        return len(data) == {0: 2, 2: 6}.get(colour_type) or (colour_type == 3 and 0 < len(data) <= 256)
    if kind == b"eXIf" or kind in _COLOUR_CHUNKS:
        return len(data) == _COLOUR_CHUNKS.get(kind, len(data))
    name, _, text = data.partition(b"\0")
    if name not in _ORIENTATION_TEXTS or len(data) > _MOST_TEXT:
        return False
    packed = text[1:] if kind == b"zTXt" else text[2:].split(b"\0", 2)[-1]
    plain = kind == b"tEXt" or (kind == b"iTXt" and text[:1] == b"\0")
    return plain or (_inflated(packed, _MOST_TEXT) is not None)


def _profile(data: bytes) -> bytes | None:
    name, _, packed = data.partition(b"\0")
    return _inflated(packed[1:], _MOST_EXTRA) if packed[:1] == b"\0" and name else None


def _inflated(data: bytes, most: int) -> bytes | None:
    try:
        found = zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return None
    return found if 0 < len(found) < most else None


def jpeg_pixels(stream: IO[bytes]) -> IO[bytes] | None:
    """A JPEG without broken application segments and with its height in the header; None where neither is at fault.

    The standard lets the height be 0 in the header and stand behind the first scan. What is kept of the application
    segments: sound ones for EXIF and XMP data, colour profile, JFIF and Adobe.
    """
    kept: list[Part] = [(0, 2)]
    at, height_at, dropped = 2, 0, False
    for _ in range(_MOST_PARTS):
        stream.seek(at)
        head = stream.read(48)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        kind, end = head[1], at + 2 + int.from_bytes(head[2:4], "big")
        if kind in _FRAMES and head[5:7] == b"\0\0":
            height_at = at + 5
        if 0xE0 <= kind <= 0xEF and not any(
            head[4:].startswith(name) and end - at - 4 >= least for name, least in _SOUND_SEGMENTS.get(kind, ())
        ):
            dropped = True
        else:
            kept.append((at, end))
        at = end
        if kind == 0xDA:
            break
    kept.append((at, stream.seek(0, 2)))
    height = _height_behind(stream, at) if height_at else None
    if not (dropped or height):
        return None
    parts: list[bytes | Part] = []
    for start, end in kept:
        inside = height is not None and start < height_at < end
        parts += [(start, height_at), height or b"", (height_at + 2, end)] if inside else [(start, end)]
    return cast(IO[bytes], Spliced(stream, parts))


def _height_behind(stream: IO[bytes], at: int) -> bytes | None:
    """The two bytes of the height in the segment for it (DNL), from byte ``at`` on."""
    stream.seek(at)
    before = b""
    while more := stream.read(1 << 16):
        block = before + more
        found = block.find(b"\xff\xdc\0\4")
        if 0 <= found <= len(block) - 6:
            return block[found + 4 : found + 6]
        before = block[-5:]
    return None
