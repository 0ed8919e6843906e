"""Decoding of Huffman-coded JPEGs that notices a scan too short or too long for its picture, which libjpeg forgives.

libjpeg fills missing blocks with grey, skips what is left over, and only counts warnings, which Pillow does not show.
But it stops and waits where its input ends without a marker. So each run of coded bytes is handed to it without the
marker behind it, and what it makes of them shows where its picture ends:

- As long as blocks are missing, it waits for the several bytes that its next code may need, and takes no single one.
- When the last block is decoded it looks for a marker, and takes every single byte in front of that at once.

A run is whole when the last block ends where the run does. This costs no second decoding.
"""

import struct
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from moslens.errors import CorruptImage, TruncatedImage

_LEFT_OVER = 16  # bytes that may follow the last block: some cameras leave a few
# libjpeg looks ahead by 8 bytes at most. Taken for codes, these are long ones, so that they give few blocks.
_PADDING = b"\xfe" * 16
_BLOCK = 1 << 18
_HELD = 1 << 12  # bytes at the end of a block of the file that wait for the next one
_MOST_SEGMENTS = 1 << 16
_HOLE = bytes(64)
_SHORT_RUN = 16  # units; runs of fewer are handed on many at a time, since each would cost more than its decoding
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_ALONE = {0, 1, *range(0xD0, 0xDA), 0xFF}  # markers without a segment, and what is none
_DHT, _RST0, _EOI, _SOS, _DRI = 0xC4, 0xD0, 0xD9, 0xDA, 0xDD


class _State:
    """What the segments read so far say: the frame, the restart interval, the code tables and the scan that begins."""

    def __init__(self) -> None:
        self.width = self.height = self.interval = 0
        self.sampling: dict[int, tuple[int, int]] = {}  # across and down, by component
        self._all_zeros: dict[int, int] = {}  # the symbol of each code table whose code has no bit set
        self.units, self.zero_runs = 0, True

    def read(self, kind: int | None, segment: bytes) -> None:
        """Take in one segment. Raises ValueError for what is not followed here."""
        if kind in _FRAMES:
            entries = [segment[at : at + 3] for at in range(10, min(len(segment) - 2, 10 + 3 * segment[9]), 3)]
            self.sampling = {number: (factors >> 4, factors & 15) for number, factors, _ in entries}
            self.height, self.width = struct.unpack_from(">HH", segment, 5)
            if kind not in _HUFFMAN or not entries or not all(h and v for h, v in self.sampling.values()):
                raise ValueError
        elif kind == _DRI:
            self.interval = int.from_bytes(segment[4:6], "big")
        elif kind == _DHT:
            at = 4
            while at + 17 < len(segment):
                self._all_zeros[segment[at]] = segment[at + 17]
                at += 17 + sum(segment[at + 1 : at + 17])
        elif kind == _SOS:
            self._read_scan(segment)
        elif kind is None or kind == _EOI:
            raise ValueError

    def _read_scan(self, segment: bytes) -> None:
        end = 5 + 2 * segment[4]
        scan = dict(zip(segment[5:end:2], segment[6:end:2], strict=True))
        if not scan or not scan.keys() <= self.sampling.keys():
            raise ValueError
        across, down = (max(factors) for factors in zip(*self.sampling.values(), strict=True))
        if len(scan) > 1:
            self.units = -(-self.width // (8 * across)) * -(-self.height // (8 * down))
        else:
            h, v = self.sampling[next(iter(scan))]
            self.units = -(-self.width * h // (8 * across)) * -(-self.height * v // (8 * down))
        # Zeros can go on for as long as every block can be one of zeros, which must end by the code for that.
        ends_by_zeros = all(self._all_zeros.get(0x10 | tables & 15) == 0 for tables in scan.values())
        self.zero_runs = segment[end : end + 2] != b"\0\x3f" or ends_by_zeros


class _Reader:
    """The bytes of a file from ``at`` on, in order, and the markers among them."""

    def __init__(self, stream: IO[bytes], at: int) -> None:
        stream.seek(at)
        self._stream, self._block, self._at = stream, b"", 0
        self.has_hole = False  # in the present block
        self._markers: list[int] = []  # where one begins in the block, last first

    def ask(self) -> None:
        """Let the stream raise, as that of the service does when nobody waits any more: a short scan can take long."""
        self._stream.read(0)

    def take(self, size: int) -> bytes:
        while len(self._block) - self._at < size and self._read_on():
            pass
        taken = self._block[self._at : self._at + max(0, size)]
        self._at += len(taken)
        return taken

    def segment(self) -> tuple[int | None, bytes]:
        """The next marker and its segment with the marker; None where no marker stands."""
        at, block = self._at, self._block
        if at + 4 < len(block) and block[at] == 0xFF and block[at + 1] not in _ALONE:
            end = at + 2 + (block[at + 2] << 8 | block[at + 3])
            if at + 4 <= end <= len(block):
                self._at = end
                return block[at + 1], block[at:end]
        head = self.take(2)
        while head == b"\xff\xff":
            self._skip_fill()
            head = b"\xff" + self.take(1)
        if len(head) < 2 or head[0] != 0xFF or head[1] == 0:
            return None, head
        if head[1] in _ALONE:
            return head[1], head
        length = self.take(2)
        return head[1], head + length + self.take(max(0, int.from_bytes(length, "big") - 2))

    def coded(self) -> Iterator[tuple[memoryview, bool]]:
        """The bytes in front of the next marker, in pieces; True with the last, whose marker is then taken next."""
        while True:
            while self._markers and self._markers[-1] < self._at:
                self._markers.pop()
            if self._markers:
                yield self._view(self._markers[-1]), True
                return
            piece = self._view(len(self._block) - _HELD)
            if piece:
                yield piece, False
            if not self._read_on():
                raise EOFError("the file ends inside a scan")

    def runs(self, number: int) -> Iterator[memoryview]:
        """The next ``number`` runs of coded bytes, with the restart markers behind them, in pieces of many."""
        count = 0
        while count < number:
            while self._markers and self._markers[-1] < self._at:
                self._markers.pop()
            end = self._at
            while count < number and self._markers:
                _check_restart(count, self._block[self._markers[-1] + 1])
                end = self._markers.pop() + 2
                count += 1
            yield self._view(end if count == number else max(end, len(self._block) - _HELD))
            if count < number and not self._read_on():
                raise EOFError("the file ends inside a scan")

    def _view(self, end: int) -> memoryview:
        """The block up to ``end``, without a copy."""
        begin, self._at = self._at, max(self._at, end)
        return memoryview(self._block)[begin : self._at]

    def _skip_fill(self) -> None:
        """Pass over bytes of 255, of which any number may stand in front of a marker."""
        while True:
            rest = self._block[self._at :].lstrip(b"\xff")
            self._at = len(self._block) - len(rest)
            if rest or not self._read_on():
                return

    def _read_on(self) -> bool:
        more = self._stream.read(_BLOCK)
        if more:
            self._block, self._at = self._block[self._at :] + more, 0
            self.has_hole = _HOLE in self._block
            values = np.frombuffer(self._block, np.uint8)
            places = np.flatnonzero(values[:-1] == 0xFF)
            follow = values[places + 1]
            self._markers = places[(follow != 0) & (follow != 0xFF)][::-1].tolist()
        return bool(more)


class _Decoder:
    """Pillow's decoder for a picture, fed by hand."""

    def __init__(self, image: ImageFile.ImageFile) -> None:
        name, extents, _, arguments = image.tile[0]
        image.load_prepare()
        self._decoder: Any = Image._getdecoder(image.mode, name, arguments, image.decoderconfig)
        self._decoder.setimage(image.im, extents)
        self._waiting, self.done = b"", False

    def feed(self, data: bytes | memoryview) -> None:
        if self.done:
            return
        data = self._waiting + data if self._waiting else data
        used, code = self._decoder.decode(data)
        if used < 0:
            self.done = True
            if code < 0:
                raise OSError("broken data stream when reading image file")
            return
        self._waiting = bytes(data[used:])

    def takes(self, byte: bytes | memoryview) -> bool:
        """Whether it is done or takes the single ``byte``, so has decoded every block of the scan by now."""
        waited = bool(self._waiting)
        self.feed(byte)
        return self.done or not (waited or self._waiting)

    def close(self) -> None:
        self._decoder.cleanup()


def load_jpeg(image: ImageFile.ImageFile) -> bool:
    """Decode an opened JPEG in place; False, with nothing done, where it is of a kind that this cannot follow.

    Raises TruncatedImage or CorruptImage for a scan that does not hold the picture, and what Pillow raises.
    """
    if image.fp is None or image.filename or len(image.tile) != 1:  # with a name it is the caller's, to read and close
        return False
    reader, state = _Reader(image.fp, image.tile[0][2]), _State()
    try:
        header = _to_scan(reader, state, reader.take(2))
    except (ValueError, IndexError, struct.error):
        return False
    decoder = _Decoder(image)
    try:
        decoder.feed(header)
        _decode(decoder, reader, state)
    finally:
        decoder.close()
    image.tile = []
    return True


def _to_scan(reader: _Reader, state: _State, begin: bytes = b"") -> bytes:
    """All bytes up to the coded ones of the next scan."""
    parts = [begin]
    for _ in range(_MOST_SEGMENTS):
        kind, segment = reader.segment()
        parts.append(segment)
        state.read(kind, segment)
        if kind == _SOS:
            return b"".join(parts)
    raise ValueError


def _decode(decoder: _Decoder, reader: _Reader, state: _State) -> None:
    while True:
        reader.ask()
        _decode_scan(decoder, reader, state)
        for _ in range(_MOST_SEGMENTS):
            kind, segment = reader.segment()
            decoder.feed(segment)
            if kind is None:  # what stands between segments is passed over
                for piece, _ in reader.coded():
                    decoder.feed(piece)
                continue
            if kind == _EOI:
                if not decoder.done:
                    raise _ends_early()
                return
            try:
                state.read(kind, segment)
            except (ValueError, IndexError, struct.error) as error:
                raise CorruptImage("the JPEG data is broken (a segment between its scans)") from error
            if kind == _SOS:
                break
        else:
            raise CorruptImage(f"the JPEG data is broken ({_MOST_SEGMENTS:,} segments behind a scan)")


def _decode_scan(decoder: _Decoder, reader: _Reader, state: _State) -> None:
    """One scan: runs of coded bytes with a numbered marker between each two."""
    runs = -(-state.units // state.interval) if state.interval else 1
    together = runs - 1 if state.interval < _SHORT_RUN else 0
    for piece in reader.runs(together):
        decoder.feed(piece)
    for number in range(together, runs):
        for piece, last in reader.coded():
            if reader.has_hole and not state.zero_runs and _HOLE in bytes(piece).rstrip(b"\0\xff" if last else b""):
                raise CorruptImage(f"the JPEG data is broken ({len(_HOLE)} or more zero bytes inside)")
            if last:
                _decode_end(decoder, piece)
            else:
                decoder.feed(piece)
        if number + 1 < runs:
            marker = reader.take(2)
            _check_restart(number, marker[1])
            decoder.feed(marker)


def _check_restart(number: int, kind: int) -> None:
    """``kind`` is the marker behind run ``number``."""
    if kind == _EOI:
        raise _ends_early()
    if kind != _RST0 + number % 8:
        raise CorruptImage("the JPEG data is broken (a restart marker is out of order)")


def _decode_end(decoder: _Decoder, data: memoryview) -> None:
    """The last bytes in front of a marker, with all that shows where the last block ends."""
    tail = bytes(data[-_HELD:])
    sound = tail.rstrip(b"\xff")  # markers may have any number of these in front
    data = data[: len(data) - len(tail) + len(sound)]
    coded = len(data) - len(sound) + len(sound.rstrip(b"\0"))
    fed = 0
    for stop, whole in ((coded - _LEFT_OVER, False), (coded + len(_PADDING), True), (len(data) - _LEFT_OVER, False)):
        at = stop
        while fed < at < len(data) and 0xFF in data[at - 1 : at + 1]:
            at -= 1
        if not fed < at < len(data) - 1:
            continue
        decoder.feed(data[fed:at])
        finished = decoder.takes(data[at : at + 1])
        fed = at + 1
        if finished and whole:
            return
        if finished:
            raise CorruptImage("the JPEG data is broken (more coded data than the picture needs)")
    decoder.feed(bytes(data[fed:]) + _PADDING)
    if not decoder.takes(_PADDING[:1]):
        raise CorruptImage("the JPEG data is broken (less coded data than the picture needs)")


def _ends_early() -> TruncatedImage:
    return TruncatedImage("the JPEG data ends before the picture does")
