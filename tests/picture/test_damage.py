"""Damage that decoders pass over gives an error, never pixels; what only looks like damage gives the pixels."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from PIL import Image

from helpers.hostile import encode, photo, png_chunk, rgb_profile
from helpers.paths import ROOT
from moslens.errors import CorruptImage, TruncatedImage, UnsupportedImage
from moslens.picture.load import decode, load

EOI = b"\xff\xd9"
MARKER = re.compile(rb"\xff[\xc4\xd0-\xda]")
PHOTO = photo(240, 320)
NOISE = np.random.default_rng(5).integers(0, 256, (600, 800, 3), np.uint8)


def is_refused(data: bytes) -> bool:
    try:
        load(data)
    except (TruncatedImage, CorruptImage):
        return True
    return False


def refused(data: bytes) -> str:
    with pytest.raises((TruncatedImage, CorruptImage)) as caught:
        load(data)
    return caught.value.message


def scan_of(jpeg: bytes) -> int:
    """Where the coded bytes of the first scan begin."""
    at = jpeg.index(b"\xff\xda")
    return at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")


def holed(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + bytes(size) + data[at + size :]


def heic(pixels: np.ndarray) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=80)
    return file.getvalue()


JPEGS: dict[str, dict[str, object]] = {
    "baseline": {"quality": 85},
    "baseline 4:4:4": {"quality": 95, "subsampling": 0},
    "optimised": {"quality": 50, "optimize": True},
    "progressive": {"quality": 85, "progressive": True},
    "restart by rows": {"quality": 85, "restart_marker_rows": 1},
    "restart by every block": {"quality": 85, "restart_marker_blocks": 1},
    "restart by blocks, progressive": {"quality": 85, "restart_marker_blocks": 5, "progressive": True},
}


@cache
def jpeg(name: str, *, large: bool = False) -> bytes:
    return encode(NOISE if large else PHOTO, "JPEG", **JPEGS[name])


class TestJpeg:
    @pytest.mark.parametrize("name", JPEGS)
    @pytest.mark.parametrize("large", [False, True])
    def test_whole_ones_give_the_pixels_of_pillow(self, name: str, large: bool) -> None:
        data = jpeg(name, large=large)
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        for behind in (b"", b"\0" * 5000, b"\xff\xff\xff", data):
            assert np.array_equal(decode(data + behind), pixels)

    @pytest.mark.parametrize("name", JPEGS)
    @pytest.mark.parametrize("large", [False, True])
    def test_cut_and_closed_with_an_end_marker(self, name: str, large: bool) -> None:
        data = jpeg(name, large=large)
        for cut in np.linspace(scan_of(data) + 40, len(data) - 300, 12).astype(int):
            if not MARKER.search(data, cut, cut + 20):  # a scan that lacks only its last bytes is let through
                refused(data[:cut].rstrip(b"\xff") + EOI)

    @pytest.mark.parametrize("name", ["baseline", "baseline 4:4:4", "restart by rows"])
    @pytest.mark.parametrize("size", [512, 2000])
    def test_a_hole_of_zeros(self, name: str, size: int) -> None:
        data = jpeg(name)
        for at in np.linspace(scan_of(data), len(data) - size - 2, 12).astype(int):
            refused(holed(data, at, size))

    def test_a_hole_across_blocks_of_the_file(self) -> None:
        data = jpeg("baseline 4:4:4", large=True)
        assert len(data) > 1 << 19
        refused(holed(data, (1 << 18) - 100, 200))

    @pytest.mark.parametrize(("name", "least"), [("baseline", 12), ("progressive", 9), ("restart by rows", 12)])
    def test_a_piece_that_is_missing(self, name: str, least: int) -> None:
        data = jpeg(name)
        places = np.linspace(scan_of(data), len(data) - 600, 12).astype(int)
        assert sum(is_refused(data[:at] + data[at + 500 :]) for at in places) >= least

    def test_restart_intervals_that_are_lost(self) -> None:
        data = jpeg("restart by rows")
        third, eighth, eleventh = (find_restart(data, number) for number in (3, 8, 11))
        for begin, end in ((third, eighth), (third, eleventh)):
            refused(data[:begin] + data[end:])
        # eight of them leave the numbers in order, but too few
        assert "before the picture does" in refused(data[:third] + data[eleventh:])

    def test_a_header_of_more_lines_than_there_are(self) -> None:
        for name in JPEGS:
            data = bytearray(jpeg(name))
            at = height_at(data)
            data[at : at + 2] = struct.pack(">H", 3 * 240)
            refused(bytes(data))

    def test_line_feeds_that_became_pairs(self) -> None:
        data = jpeg("baseline 4:4:4", large=True)
        at = scan_of(data)
        refused(data[:at] + data[at:].replace(b"\n", b"\r\n"))

    def test_a_run_of_broken_bytes(self) -> None:
        data = jpeg("baseline")
        noise = np.random.default_rng(1).integers(0, 255, 1000, np.uint8).tobytes()
        places = np.linspace(scan_of(data), len(data) - 1100, 20).astype(int)
        found = sum(is_refused(data[:at] + noise + data[at + 1000 :]) for at in places)
        assert found >= 18  # now and then the blocks come out even

    def test_zeros_that_belong(self) -> None:
        white = np.full((1000, 1200, 3), 255, np.uint8)
        white[100:140:3, 100:900:5] = 0
        for options in ({"optimize": True}, {"progressive": True}, {"optimize": True, "restart_marker_rows": 4}):
            data = encode(white, "JPEG", **options)
            assert np.abs(decode(data).astype(int) - white).mean() < 2
        assert bytes(1000) in encode(white, "JPEG", optimize=True)

    @pytest.mark.parametrize("padding", [b"\0" * 16, b"\0" * 3000, b"\xff" * 9, b"\0\xff\xff", b"\x55\xaa\x55"])
    def test_a_whole_scan_may_be_padded(self, padding: bytes) -> None:
        for name in ("baseline", "optimised", "progressive", "restart by rows"):
            data = jpeg(name)
            assert np.array_equal(decode(data[:-2] + padding + EOI), decode(data))

    def test_too_much_data_is_no_padding(self) -> None:
        data = jpeg("baseline")
        assert "more coded data" in refused(data[:-2] + data[-200:-2] + EOI)

    def test_the_height_may_stand_behind_the_scan(self) -> None:
        for name in ("baseline", "restart by rows"):
            data = bytearray(jpeg(name))
            at = height_at(data)
            height, data[at : at + 2] = bytes(data[at : at + 2]), b"\0\0"
            assert np.array_equal(decode(bytes(data[:-2]) + b"\xff\xdc\0\4" + height + EOI), decode(jpeg(name)))
            refused(bytes(data))

    @pytest.mark.parametrize(
        "segment",
        [b"\xe0JFIF\0", b"\xeeAdobe", b"\xe2ICC_PROFILE\0", b"\xedPhotoshop 3.0\x008BIM\4\4", b"\xe1Exif\0\0"],
    )
    def test_short_application_segments_cost_no_pixel(self, segment: bytes) -> None:
        data = jpeg("baseline")
        short = b"\xff" + segment[:1] + struct.pack(">H", len(segment) + 1) + segment[1:]
        assert np.array_equal(decode(data[:2] + short + data[2:]), decode(data))

    def test_orientation_and_profile_stay_beside_a_short_segment(self) -> None:
        image = Image.fromarray(PHOTO)
        exif = image.getexif()
        exif[0x0112] = 6
        data = encode(image, "JPEG", exif=exif, icc_profile=rgb_profile())
        short = b"\xff\xee\0\x07Adobe"
        assert np.array_equal(decode(data[:2] + short + data[2:]), decode(data))
        assert decode(data).shape == (320, 240, 3)


def height_at(data: bytes | bytearray) -> int:
    return max(data.find(b"\xff\xc0\0"), data.find(b"\xff\xc2\0")) + 5


def find_restart(data: bytes, number: int) -> int:
    """Where the ``number``-th restart marker stands."""
    at = scan_of(data)
    for count in range(number):
        at = data.index(bytes([0xFF, 0xD0 + count % 8]), at) + 2
    return at - 2


CODED: dict[str, Callable[[np.ndarray], bytes]] = {
    "webp": lambda pixels: encode(pixels, "WEBP", quality=80),
    "lossless webp": lambda pixels: encode(pixels, "WEBP", lossless=True),
    "avif": lambda pixels: encode(pixels, "AVIF", quality=80, speed=9),
    "heic": heic,
    "jpeg 2000": lambda pixels: encode(pixels, "JPEG2000"),
    "lzw tiff": lambda pixels: encode(pixels, "TIFF", compression="tiff_lzw"),
    "deflate tiff": lambda pixels: encode(pixels, "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": lambda pixels: encode(pixels, "TIFF", compression="jpeg"),
    "png": lambda pixels: encode(pixels, "PNG"),
}
EXAMPLE = decode(ROOT / "examples" / "photos" / "livec_571.jpg")
ENCODED = {name: make(EXAMPLE) for name, make in CODED.items()}


class TestHoles:
    def test_a_qoi_without_its_end_marker(self) -> None:
        data = encode(PHOTO, "QOI")
        decode(data + b"junk behind the picture")
        for broken in (data[:-8], data[: len(data) // 2], data[: len(data) // 2].ljust(len(data), b"\0")):
            with pytest.raises(TruncatedImage):
                decode(broken)

    @pytest.mark.parametrize("name", CODED)
    def test_a_hole_of_zeros(self, name: str) -> None:
        data = ENCODED[name]
        size = min(1500, len(data) // 3)
        for at in np.linspace(len(data) // 4, len(data) - size - 400, 6).astype(int):
            refused(holed(data, at, size))

    @pytest.mark.parametrize("name", ["webp", "lossless webp", "avif", "heic", "jpeg 2000", "png"])
    def test_zeros_from_somewhere_to_the_end(self, name: str) -> None:
        data = ENCODED[name]
        for at in np.linspace(len(data) // 4, 0.9 * len(data), 6).astype(int):
            refused(holed(data, at, len(data) - at))

    @pytest.mark.parametrize("name", [name for name in CODED if "tiff" not in name])
    def test_zeros_behind_the_end_are_none_of_the_picture(self, name: str) -> None:
        assert np.array_equal(decode(ENCODED[name] + bytes(3000)), decode(ENCODED[name]))

    @pytest.mark.parametrize("name", CODED)
    @pytest.mark.parametrize("grey", [0, 128, 255])
    def test_flat_and_half_flat_pictures_are_whole(self, name: str, grey: int) -> None:
        flat, half = np.full((700, 900, 3), grey, np.uint8), np.full((700, 900, 3), grey, np.uint8)
        half[:350] = photo(350, 900)
        for pixels in (flat, half, half[::-1]):
            assert np.abs(decode(CODED[name](pixels)).astype(int) - pixels).mean() < 8

    @pytest.mark.parametrize("options", [{"quality": 100, "method": 0}, {"lossless": True, "method": 0, "quality": 0}])
    def test_long_runs_of_zeros_that_webp_needs(self, options: dict[str, object]) -> None:
        pixels = np.zeros((900, 1200, 3), np.uint8)
        pixels[::97, ::89] = 255
        data = encode(pixels, "WEBP", **options)
        assert bytes(200) in data
        assert np.abs(decode(data).astype(int) - pixels).mean() < 8

    @pytest.mark.parametrize("name", ["webp", "lossless webp", "avif", "heic"])
    def test_line_feeds_that_became_pairs(self, name: str) -> None:
        data = CODED[name](NOISE)
        message = refused(data.replace(b"\n", b"\r\n"))
        assert "text" in message or "the file ends" in message or "broken" in message

    def test_pictures_without_compression_may_be_black(self) -> None:
        pixels = PHOTO.copy()
        pixels[100:] = 0
        for format in ("TIFF", "BMP", "PPM"):
            assert np.array_equal(decode(encode(pixels, format)), pixels)


def png(*chunks: bytes, rows: bytes | None = None, header: bytes = b"", behind: tuple[bytes, ...] = ()) -> bytes:
    """PHOTO as a PNG with more chunks in front of its pixels or behind them, or with other rows."""
    size = header or struct.pack(">IIBBBBB", 320, 240, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in PHOTO) if rows is None else rows
    pixels, end = png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join((png_chunk(b"IHDR", size), *chunks, pixels, *behind, end))


LONG = zlib.compress(b"x" * 1_500_000)
ODD_CHUNKS = {
    "long zTXt": png_chunk(b"zTXt", b"workflow\0\0" + LONG),
    "long iTXt": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "long orientation text": png_chunk(b"zTXt", b"Raw profile type exif\0\0" + LONG),
    "zTXt of an unknown method": png_chunk(b"zTXt", b"a\0\7abc"),
    "empty acTL": png_chunk(b"acTL", b""),
    "short cHRM": png_chunk(b"cHRM", bytes(12)),
    "short gAMA": png_chunk(b"gAMA", b"\0"),
    "short pHYs": png_chunk(b"pHYs", bytes(4)),
    "empty sRGB": png_chunk(b"sRGB", b""),
    "short tRNS": png_chunk(b"tRNS", bytes(4)),
    "iCCP without a method": png_chunk(b"iCCP", b"name"),
    "iCCP that is no zlib": png_chunk(b"iCCP", b"name\0\0abcdef"),
    "wrong check sum": png_chunk(b"gAMA", bytes(4))[:-1] + b"?",
}


class TestPng:
    @pytest.mark.parametrize("name", ODD_CHUNKS)
    def test_odd_chunks_cost_no_pixel(self, name: str) -> None:
        chunk = ODD_CHUNKS[name]
        assert np.array_equal(decode(png(chunk)), PHOTO)
        assert np.array_equal(decode(png(behind=(chunk,))), PHOTO)

    def test_what_stands_beside_an_odd_chunk_stays(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = png_chunk(b"eXIf", exif.tobytes()[6:])
        for name in ("long zTXt", "short gAMA"):
            for data in (png(ODD_CHUNKS[name], turned), png(behind=(ODD_CHUNKS[name], turned))):
                assert decode(data).shape == (320, 240, 3)

    def test_a_long_profile_is_used(self) -> None:
        profile = rgb_profile()
        short, long = (png_chunk(b"iCCP", b"a\0\0" + zlib.compress(profile + bytes(more))) for more in (0, 2_000_000))
        converted = decode(png(short))
        assert np.abs(converted.astype(int) - PHOTO).mean() > 1
        assert np.array_equal(decode(png(long)), converted)

    def test_a_png_of_xcode_is_unsupported(self) -> None:
        with pytest.raises(UnsupportedImage, match="Xcode"):
            load(png().replace(png()[8:33], png_chunk(b"CgBI", b"P\0 \6") + png()[8:33]))

    def test_rows_that_are_missing(self) -> None:
        rows = b"".join(b"\0" + row.tobytes() for row in PHOTO)
        for there in (1, 120, 239):
            assert "before the last row" in refused(png(rows=rows[: there * 961]))
        refused(png(rows=rows[:-400]))

    def test_rows_that_are_missing_in_interlaced_ones(self) -> None:
        header = struct.pack(">IIBBBBB", 320, 240, 8, 0, 0, 0, 1)
        sizes = [(30, 41), (30, 41), (30, 81), (60, 81), (60, 161), (120, 161), (120, 321)]
        rows = b"".join((b"\0" + b"\x80" * (length - 1)) * count for count, length in sizes)
        assert (decode(png(rows=rows, header=header)) == 0x80).all()
        for there in (len(rows) - 321, len(rows) - 120 * 321, len(rows) // 3):
            refused(png(rows=rows[:there], header=header))

    def test_black_rows_are_rows(self) -> None:
        rows = b"".join(b"\0" + row.tobytes() for row in PHOTO[:100]) + bytes(140 * 961)
        assert not decode(png(rows=rows))[100:].any()


def test_a_picture_of_the_caller_is_left_to_pillow(tmp_path) -> None:
    for name in ("a.jpg", "a.png"):
        Image.fromarray(PHOTO).save(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            pixels = decode(image)
        assert np.array_equal(pixels, decode(tmp_path / name))
