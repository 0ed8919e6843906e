"""TIFF layouts that Pillow does not open, or whose samples it takes for others: they are put together here.

Depths beside 1, 2, 4 and 8 bits, signed and float samples, planes, ranges declared in MaxSampleValue, and YCbCr without
compression. Pillow is the decompressor: strips and tiles are handed to it as rows of bytes. See TIFF 6.0 for the tags.
"""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from moslens.errors import UnsupportedImage
from moslens.picture.light import Light, of_profile

Array = NDArray[Any]

_SHOWN_BY_IMAGEJ = re.compile(r"ImageJ=.*^max=(\d{1,9}(?:\.\d+)?)$", re.DOTALL | re.MULTILINE)
_SIGNIFICANT_IN_OME = re.compile(r'<(?:\w+:)?Pixels\b[^>]*\bSignificantBits="(\d{1,2})"')
_AT_ONCE = 1 << 20  # bytes of rows
_COMPRESSIONS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
_COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}
_ORIENTED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Samples:
    """What the first directory of a TIFF file declares. ``depth`` is ``bits`` or what MaxSampleValue leaves of them.

    ``format``: 1 unsigned, 2 signed, 3 float. ``floor``: the sample value that is black. ``extra``: what samples
    beyond the colours mean (0 nothing, 1 premultiplied alpha, 2 alpha).
    """

    width: int
    height: int
    photometric: int
    bits: int
    samples: int
    format: int
    depth: int
    floor: int
    extra: tuple[int, ...]
    planar: bool
    compression: int
    predictor: int
    order: str

    @property
    def colours(self) -> int:
        return _COLOURS[self.photometric]

    @property
    def plain(self) -> bool:
        """Whether Pillow takes these samples for what they are."""
        if self.predictor != 1 and self.compression == 32773:  # libtiff does not undo it there
            return False
        if self.bits == 32 and self.format in (2, 3) and self.order == "<":
            return self.photometric == 1 and self.samples == 1
        whole = self.samples == 1 or (self.bits == 8 and not self.planar and self.photometric != 0)
        return whole and self.bits in (1, 2, 4, 8) and self.depth == self.bits and self.format == 1


def directory(stream: IO[bytes]) -> Any:
    """The tags of the first directory as Pillow converts them, without a check of what they mean."""
    stream.seek(0)
    head = stream.read(8)
    if head[2:4] in (b"+\0", b"\0+"):
        head += stream.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def read_samples(tags: Any, order: str) -> Samples | None:
    """None where the directory is of another kind than grey, RGB or CMYK in a compression without loss."""
    photometric, compression = tags.get(262, 0), tags.get(259, 1)
    if photometric not in _COLOURS or compression not in _COMPRESSIONS:
        return None
    samples = tags.get(277, 1)
    bits, formats = set(tags.get(258, (1,))), set(_tuple(tags.get(339, 1)))
    extra = _tuple(tags.get(338, ()))
    if photometric == 2 and samples == 4 and not extra:
        extra = (2,)  # as all programs take it
    if len(bits) != 1 or len(formats) != 1 or samples != _COLOURS[photometric] + len(extra):
        return None
    (stored,), (kind,) = bits, formats
    depth, floor = _range(tags, stored, kind)
    predictor = tags.get(317, 1) if compression != 1 else 1  # it means nothing without compression
    return Samples(
        tags[256], tags[257], photometric, stored, samples, kind, depth, floor, extra,
        tags.get(284, 1) == 2 and samples > 1, compression, predictor, order,
    )  # fmt: skip


def read_ycbcr(tags: Any, order: str) -> Samples | None:
    """None where the directory is of another kind than YCbCr of 8 bits without compression, not in planes."""
    if tags.get(262) != 6 or tags.get(259, 1) != 1 or tags.get(258) != (8, 8, 8) or tags.get(284, 1) != 1:
        return None
    return Samples(tags[256], tags[257], 2, 8, 3, 1, 8, 0, (), False, 1, 1, order)


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _range(tags: Any, bits: int, kind: int) -> tuple[int, int]:
    """Depth and black of samples. MaxSampleValue (281, or 341 with a type) is the depth where it is 2^n - 1, as is the
    white of ImageJ, and the significant bits of OME, which stand in the description.

    Else it is taken for a statistic if it lies in the upper half of the range.
    """
    if kind == 3:
        return bits, 0
    low, high = min(_tuple(tags.get(340, tags.get(280, 0)))), max(_tuple(tags.get(341, tags.get(281, 0))))
    shown = _SHOWN_BY_IMAGEJ.match(str(tags.get(270, "")))
    if shown and bits > 8 and not high:
        high = int(float(shown[1]))
    significant = _SIGNIFICANT_IN_OME.search(str(tags.get(270, "")))
    if significant and kind == 1 and 8 <= int(significant[1]) < bits and not high:
        high = (1 << int(significant[1])) - 1
    if kind == 2 and (low, high) == (-(1 << bits - 1), (1 << bits - 1) - 1):
        return bits, low
    full = bits - (kind == 2)
    if high <= 0 or high >> (full - 1):
        return full, 0
    depth = int(high).bit_length()
    if high != (1 << depth) - 1:
        raise UnsupportedImage(f"samples of {bits} bits up to {high} (its declared maximum) have no agreed white")
    return depth, 0


class SampledTiff(ImageFile.ImageFile):
    """An opened TIFF file of a layout from here: L, LA, RGB, RGBA or CMYK once it is loaded; F for 32 bits and floats.

    Colours of 16 bits go through a matrix profile before they become 8 bits.
    """

    format = "TIFF samples"
    format_description = "TIFF by its samples"

    def __init__(self, stream: IO[bytes], tags: Any, layout: Samples) -> None:
        _refuse_unknown(layout, tags)
        self._tags, self._layout = tags, layout
        super().__init__(stream)

    def _open(self) -> None:
        layout = self._layout
        turned = self._tags.get(274, 1) in (5, 6, 7, 8)
        self._size = (layout.height, layout.width) if turned else (layout.width, layout.height)
        alpha = layout.extra[:1] in ((1,), (2,))
        colour = {1: "L", 3: "RGB", 4: "CMYK"}[layout.colours]
        self._mode = "F" if _as_floats(layout) else colour + "A" * alpha
        if self._mode == "F" and layout.format != 3:
            self.info["signed"] = layout.format == 2
        if 34675 in self._tags:
            self.info["icc_profile"] = self._tags[34675]
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 0, None)]

    def load(self) -> Any:
        if self.tile:
            light = None if self.mode in ("F", "CMYK") else of_profile(self.info.get("icc_profile"))
            if self._layout.depth > 8 and light is not None and (self._layout.colours == 3) == (len(light.curves) == 3):
                self.info.pop("icc_profile")
            else:
                light = None
            whole = Image.new(self.mode, (self._layout.width, self._layout.height))
            for top, shown in self._bands(light):
                whole.paste(Image.fromarray(shown, None if self.mode != "CMYK" else "CMYK"), (0, top))
            turn = _ORIENTED.get(self._tags.get(274, 1))
            self.im = (whole if turn is None else whole.transpose(turn)).im
            self.tile = []
        return Image.Image.load(self)

    def _bands(self, light: Light | None) -> Iterator[tuple[int, Array]]:
        for top, rows in _rows(self.fp, self._tags, self._layout):
            yield top, rows[..., 0].astype(np.float32) if self.mode == "F" else _shown(rows, self._layout, light)


class YCbCrTiff(SampledTiff):
    """An opened TIFF file of YCbCr without compression, RGB once it is loaded.

    Pillow alone knows neither subsampling nor coefficients. A chroma sample counts for all pixels of its unit, and
    fractions of a level are cut off, as Pillow does where it converts YCbCr.
    """

    def _bands(self, light: Light | None) -> Iterator[tuple[int, Array]]:
        across, down = self._tags.get(530, (2, 2))
        if {across, down} - {1, 2, 4}:
            raise ValueError(f"chroma for every {across} x {down} pixels")
        tags = {tag: self._tags[tag] for tag in (273, 279, 322, 324, 325) if tag in self._tags}
        tags |= {tag: -(-self._tags[tag] // down) for tag in (278, 323) if tag in self._tags}
        if 322 in tags:
            tags[322] = -(-tags[322] // across)
        layout = self._layout
        units = replace(
            layout, width=-(-layout.width // across), height=-(-layout.height // down), samples=across * down + 2
        )
        for top, rows in _rows(self.fp, tags, units):
            high, wide = rows.shape[:2]
            luma = rows[..., :-2].reshape(high, wide, down, across).swapaxes(1, 2).reshape(high * down, wide * across)
            chroma = rows[..., -2:].repeat(down, 0).repeat(across, 1)
            shown = self._rgb(np.concatenate([luma[..., None], chroma], -1))
            yield top * down, shown[: layout.height - top * down, : layout.width]

    def _rgb(self, values: Array) -> NDArray[np.uint8]:
        """Section 21 of TIFF 6.0, where YCbCrCoefficients and ReferenceBlackWhite are told."""
        reference = np.array(self._tags.get(532, (0, 255, 128, 255, 128, 255)), np.float32).reshape(3, 2)
        of_red, of_green, of_blue = (float(share) for share in self._tags.get(529, (0.299, 0.587, 0.114)))
        black, span = reference[:, 0], reference[:, 1] - reference[:, 0]
        if not (
            np.isfinite(reference).all() and span.all() and 0 < of_green < 1 and 0 < of_red < 1 and 0 < of_blue < 1
        ):
            raise ValueError("YCbCr without a black, a white or a share of green")
        luma, blue, red = np.moveaxis((values - black) / span * np.array([255, 127, 127], np.float32), -1, 0)
        red, blue = luma + (2 - 2 * of_red) * red, luma + (2 - 2 * of_blue) * blue
        green = (luma - of_red * red - of_blue * blue) / of_green
        rounding = 1e-3  # grey stays grey
        return (np.stack([red, green, blue], -1) + rounding).clip(0, 255).astype(np.uint8)


def _as_floats(layout: Samples) -> bool:
    return layout.format == 3 or layout.bits == 32


def _refuse_unknown(layout: Samples, tags: Any) -> None:
    odd = layout.bits % 8 != 0
    floats = _as_floats(layout)
    known = (
        layout.bits in ((16, 32, 64) if layout.format == 3 else (*range(1, 17), 32))
        and layout.format in (1, 2, 3)
        and (layout.format != 2 or layout.bits in (8, 16, 32))
        and layout.predictor in ((1,) if odd else (1, 2, 3) if layout.format == 3 else (1, 2))
        and (not floats or (layout.photometric == 1 and layout.samples == 1))
        and layout.extra[:1] in ((), (0,), (1,), (2,))
        and not any(layout.extra[1:])
        and not (layout.colours == 4 and any(layout.extra))
        and tags.get(266, 1) == 1
        and tags.get(332, 1) == 1
    )
    if not known:
        kind = {1: "unsigned", 2: "signed", 3: "float"}.get(layout.format, "unknown")
        raise UnsupportedImage(
            f"TIFF of {layout.samples} {kind} samples of {layout.bits} bits, photometric interpretation "
            f"{layout.photometric}, predictor {layout.predictor}, is not decoded here"
        )


def _shown(rows: Array, layout: Samples, light: Light | None) -> Array:
    """Rows of samples (rows x width x samples) as 8 bits: white at 255, without samples that mean nothing."""
    values = rows
    if layout.format == 2:
        if layout.floor:
            values = (rows.astype(np.int32) - layout.floor).astype(np.uint16)
        elif rows.min() < 0:
            raise UnsupportedImage("signed samples below 0 have no agreed black and white")
    alpha = layout.extra[:1] in ((1,), (2,))
    values = values[..., : layout.colours + alpha].astype(np.uint16)
    white = (1 << layout.depth) - 1
    if layout.depth < layout.bits and values.max() > white:
        raise UnsupportedImage(f"samples up to {values.max()} lie above the declared MaxSampleValue {white}")
    if layout.extra[:1] == (1,):
        opacity = np.maximum(values[..., -1:], 1).astype(np.uint32)
        colours = np.minimum(values[..., :-1].astype(np.uint32) * white // opacity, white)
        values = np.concatenate([colours.astype(np.uint16), values[..., -1:]], -1)
    if layout.photometric == 0:
        values[..., 0] = white - values[..., 0]
    shown = _eight_bits(values, layout.depth)
    if light is not None:
        fine = (values[..., : layout.colours].astype(np.uint32) * 65535 // white).astype(np.uint16)
        grey = layout.colours == 1
        shown[..., : layout.colours] = light.srgb(fine[..., 0])[..., None] if grey else light.srgb(fine)
    return shown[..., 0] if shown.shape[2] == 1 else shown


def _eight_bits(values: Array, depth: int) -> NDArray[np.uint8]:
    """Integers keep their highest byte, as Pillow does for 16-bit colour; shallower ones are scaled."""
    if depth >= 8:
        return (values >> depth - 8).astype(np.uint8)
    return (values * 255 // ((1 << depth) - 1)).astype(np.uint8)


def _rows(stream: IO[bytes] | None, tags: Any, layout: Samples) -> Iterator[tuple[int, Array]]:
    """Bands of the picture, from the top: the first row, and rows x width x samples in the type of the file."""
    assert stream is not None
    tiled = 324 in tags
    high = min(tags[323] if tiled else tags.get(278, layout.height), layout.height if not tiled else tags[323])
    wide = tags[322] if tiled else layout.width
    if high < 1 or wide < 1:
        raise ValueError("strips or tiles without pixels")
    across, down = -(-layout.width // wide), -(-layout.height // high)
    starts, counts = _tuple(tags[324 if tiled else 273]), _tuple(tags[325 if tiled else 279])
    planes = layout.samples if layout.planar else 1
    if not tiled and layout.compression == 1 and down == 1 and len(starts) >= planes:
        # One strip without compression is read by parts.
        row = -(-wide * (layout.samples // planes) * layout.bits // 8)
        high = min(high, max(1, _AT_ONCE // row))
        down = -(-layout.height // high)
        heights = [min(high, layout.height - i * high) for i in range(down)]
        starts = tuple(start + i * high * row for start in starts[:planes] for i in range(down))
        counts = tuple(part * row for _ in range(planes) for part in heights)
    if len(starts) < across * down * planes or len(counts) < across * down * planes:
        raise ValueError("strips or tiles are missing from the directory")
    each = layout.samples // planes
    row_bytes = -(-wide * each * layout.bits // 8)
    step = max(1, _AT_ONCE // (row_bytes * high * across))
    for first in range(0, down, step):
        last = min(first + step, down)
        top, bottom = first * high, min(last * high, layout.height)
        stored = (last - first) * high if tiled else bottom - top
        bands = []
        for plane in range(planes):
            places = [plane * across * down + i for i in range(first * across, last * across)]
            data = _bytes(stream, [(starts[i], counts[i]) for i in places], stored * across, high, row_bytes, layout)
            values = _values(data, wide, each, layout)
            tiles = values.reshape(-1, across, high if tiled else stored, wide, each)
            bands.append(tiles.swapaxes(1, 2).reshape(stored, across * wide, each))
        yield top, np.concatenate(bands, -1)[: bottom - top, : layout.width]


def _bytes(
    stream: IO[bytes], pieces: list[tuple[int, int]], rows: int, high: int, row_bytes: int, layout: Samples
) -> NDArray[np.uint8]:
    """The bytes of strips (or tiles, one below the other), rows x row_bytes, without their compression."""
    data = []
    for start, count in pieces:
        stream.seek(start)
        data.append(stream.read(count))
        if len(data[-1]) < count:
            raise EOFError("a strip or tile lies beyond the end of the file")
    if layout.compression == 1:
        whole = np.frombuffer(b"".join(data), np.uint8)
        if len(whole) < rows * row_bytes:
            raise EOFError("a strip or tile is too short")
        return whole[: rows * row_bytes].reshape(rows, row_bytes)
    lengths = [len(piece) for piece in data]
    values = {256: row_bytes, 257: rows, 258: 8, 259: layout.compression, 262: 1, 277: 1, 278: high}
    table = 8 + 2 + 12 * (len(values) + 2) + 4
    places = np.cumsum([table + 8 * len(data), *lengths[:-1]])
    entries = [(tag, 1, value) for tag, value in values.items()]
    if len(data) == 1:
        entries += [(273, 1, int(places[0])), (279, 1, lengths[0])]
    else:
        entries += [(273, len(data), table), (279, len(data), table + 4 * len(data))]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    head += b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in sorted(entries)) + bytes(4)
    offsets = struct.pack(f"<{len(data)}I", *places) + struct.pack(f"<{len(data)}I", *lengths)
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(head + offsets + b"".join(data)))
    image.im = Image.new("L", image.size, None).im  # or Pillow's own limit of pixels would apply to bytes
    return np.asarray(image)


def _values(data: NDArray[np.uint8], wide: int, each: int, layout: Samples) -> Array:
    """Samples, rows x wide x each, in the type of the file: unpacked, and without the predictor."""
    rows, bits = len(data), layout.bits
    if bits % 8:
        flat = np.unpackbits(data, axis=1)[:, : wide * each * bits].reshape(rows, wide, each, bits)
        padded = np.zeros((rows, wide, each, 16), np.uint8)
        padded[..., 16 - bits :] = flat
        return np.packbits(padded, axis=-1).view(">u2")[..., 0].astype(np.uint16)
    size = bits // 8
    if layout.predictor == 3:
        summed = np.cumsum(data.reshape(rows, wide * size, each), axis=1, dtype=np.uint8)
        bytewise = summed.reshape(rows, size, wide * each).swapaxes(1, 2)
        return np.ascontiguousarray(bytewise).view(f">f{size}").reshape(rows, wide, each)
    values = np.ascontiguousarray(data).view(f"{layout.order}u{size}").astype(f"u{size}").reshape(rows, wide, each)
    if layout.predictor == 2:
        values = np.cumsum(values, axis=1, dtype=values.dtype)
    return values if layout.format == 1 else values.view({2: "i", 3: "f"}[layout.format] + str(size))
