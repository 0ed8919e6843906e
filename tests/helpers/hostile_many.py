"""Several hundred hostile files, the same every time: for each of them one row within a time limit, and no crash.

    names = make_hostile_files(folder)    # the path of every file, relative to the folder, in sorted order

Each format that Pillow opens: whole, cut at ten places, with flipped bits, with a lying header. Then bombs, giants,
deep metadata, endless animations, other files under a picture's name, and what only looks like a file.
"""

# ruff: noqa: E501 (tables of bytes, one entry a line)

import contextlib
import functools
import io
import os
import socket
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from helpers.hostile import encode, make_odd_files, photo, png_chunk, rgb_profile

PNG = b"\x89PNG\r\n\x1a\n"
CUTS = 10


def make_hostile_files(folder: Path) -> list[str]:
    """Write all of them below ``folder`` and return their names."""
    (folder / "odd").mkdir(parents=True)
    names = [f"odd/{name}" for name in make_odd_files(folder / "odd")]

    def write(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)
        names.append(name)

    rng = np.random.default_rng(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow is about to drop a format or two
        whole = samples()
    for suffix, data in whole.items():
        write(f"whole.{suffix}", data)
        for cut in np.linspace(0, len(data), CUTS, endpoint=False).astype(int) + 1:
            write(f"cut_{cut:05}.{suffix}", data[:cut])
        for flips in (1, 8, 64):
            write(f"flipped_{flips:02}.{suffix}", flipped(data, flips, rng))
        for word in (b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00"):
            at = int(rng.integers(4, min(64, len(data) - 4)))
            write(f"lying_{at:02}_{word[0]}.{suffix}", data[:at] + word + data[at + 4 :])
    for name, make in MONSTERS.items():
        write(name, make())
    for name, data in foreign():
        write(name, data)
    names += awkward(folder)
    assert len(names) == len(set(names))
    return sorted(names)


def flipped(data: bytes, flips: int, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for at in rng.integers(0, len(data), flips):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def samples() -> dict[str, bytes]:
    """One small file of every format that Pillow opens, by its suffix; hand-made where Pillow only reads it."""
    rgb = Image.fromarray(photo(64, 80))
    grey, bits, palette = rgb.convert("L"), rgb.convert("1"), rgb.quantize(32)
    found = {
        suffix: encode(picture, format)
        for suffix, format, picture in (
            ("avif", "AVIF", rgb), ("blp", "BLP", palette), ("bmp", "BMP", rgb), ("dds", "DDS", rgb),
            ("dib", "DIB", rgb), ("eps", "EPS", rgb), ("gif", "GIF", palette), ("icns", "ICNS", rgb),
            ("ico", "ICO", rgb), ("im", "IM", rgb), ("jpg", "JPEG", rgb), ("jp2", "JPEG2000", rgb),
            ("mpo", "MPO", rgb), ("msp", "MSP", bits), ("pcx", "PCX", rgb), ("png", "PNG", rgb), ("ppm", "PPM", rgb),
            ("qoi", "QOI", rgb), ("sgi", "SGI", rgb), ("spider", "SPIDER", grey.convert("F")), ("tga", "TGA", rgb),
            ("tif", "TIFF", rgb), ("webp", "WEBP", rgb), ("xbm", "XBM", bits),
        )
    }  # fmt: skip
    found["lzw.tif"] = encode(rgb, "TIFF", compression="tiff_lzw")
    found["progressive.jpg"] = encode(rgb, "JPEG", progressive=True)
    with contextlib.suppress(ImportError):
        import pillow_heif

        file = io.BytesIO()
        pillow_heif.from_pillow(rgb).save(file, quality=80)
        found["heic"] = file.getvalue()
    pixels = bytes(range(256)) * 20
    found |= {
        "cur": b"\0\0\2\0" + found["ico"][4:],
        "dcx": struct.pack("<III", 0x3ADE68B1, 12, 0) + found["pcx"],
        "fits": b"".join(card.ljust(80).encode() for card in FITS).ljust(2880) + pixels,
        "fli": struct.pack("<IHHHHHHI", 5120, 0xAF11, 1, 80, 64, 8, 3, 70).ljust(128, b"\0") + pixels,
        "ftex": b"FTEX" + struct.pack("<6I", 1, 80, 64, 1, 1, 32) + pixels,
        "gbr": struct.pack(">5I", 28, 2, 80, 64, 1) + b"GIMP" + struct.pack(">I", 1) + pixels,
        "mcidas": struct.pack(">64I", 0, 4, *([0] * 6), 64, 80, 1, *([1] * 53)) + pixels,
        "pcd": bytes(2048) + b"PCD_" + bytes(4096),
        "pixar": b"\x80\xe8\0\0".ljust(1024, b"\0") + pixels,
        "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 80, 8, 3) + bytes(14) + pixels * 3,
        "ras": struct.pack(">8I", 0x59A66A95, 80, 64, 8, 5120, 1, 0, 0) + pixels,
        "wmf": b"\xd7\xcd\xc6\x9a" + struct.pack("<HhhhhHIH", 0, 0, 0, 80, 64, 96, 0, 0) + b"\1\0\x09\0" + bytes(60),
        "xpm": b'/* XPM */\nstatic char *a[] = {\n"80 64 1 1",\n" c #ff0000",\n'
        + b'"%s",\n' % (b" " * 80) * 64
        + b"};",
        "xvthumb": b"P7 332\n#END_OF_COMMENTS\n80 64 255\n" + pixels,
        "iim": b"\x1c\x02\x00\x00\x02\x00\x02" + pixels,
        "mpg": b"\x00\x00\x01\xb3\x05\x00\x40\x13" + pixels,
    }
    return found


FITS = ("SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    2",
        "NAXIS1  =                   80", "NAXIS2  =                   64", "END")  # fmt: skip


def png(width: int, height: int, body: bytes, *, depth: int = 8, colour: int = 2, before: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG + png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def small_png(before: bytes) -> bytes:
    return png(64, 64, zlib.compress(bytes(64 * 193)), before=before)


@functools.cache
def zeros(count: int) -> bytes:
    """``count`` zeros, compressed, without ever holding them."""
    deflate = zlib.compressobj(9)
    block = bytes(1 << 20)
    pieces = [deflate.compress(block[: min(len(block), count - at)]) for at in range(0, count, len(block))]
    return b"".join(pieces) + deflate.flush()


def jpeg_of_size(width: int, height: int, *, progressive: bool = False) -> bytes:
    """A small JPEG whose header claims another size."""
    data = encode(photo(64, 64), "JPEG", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def many_scans(scans: int) -> bytes:
    """A progressive JPEG that refines the same coefficients over and over: little to read, much to do."""
    data = encode(Image.new("RGB", (4000, 4000), (90, 120, 150)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def jpeg_with(*segments: bytes, marker: int = 0xE1) -> bytes:
    data = encode(photo(), "JPEG")
    added = b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(s) + 2) + s for s in segments)
    return data[:2] + added + data[2:]


def exif(*directories: bytes) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + b"".join(directories)


def directory(*entries: tuple[int, int, int, int], next_at: int = 0) -> bytes:
    return (
        struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", *e) for e in entries)
        + struct.pack("<I", next_at)
    )


def deep_exif(depth: int) -> bytes:
    """Directories inside directories, each two entries and a link to the next."""
    size = len(directory((0x8769, 4, 1, 0), (274, 3, 1, 1)))
    return exif(*(directory((274, 3, 1, 6), (0x8769, 4, 1, 8 + (n + 1) * size)) for n in range(depth)))


def gif_of_frames(frames: int) -> bytes:
    one = encode(Image.fromarray(photo(64, 64)).quantize(16), "GIF")
    start = one.index(b"\x2c")
    return one[:start] + one[start:-1] * frames + b";"


def apng_of_frames(frames: int) -> bytes:
    body = zlib.compress(bytes(64 * 193))
    control = [struct.pack(">IIIIIHHBB", n, 64, 64, 0, 0, 1, 100, 0, 0) for n in range(2 * frames)]
    rest = b"".join(
        png_chunk(b"fcTL", control[2 * n - 1]) + png_chunk(b"fdAT", struct.pack(">I", 2 * n) + body)
        for n in range(1, frames)
    )
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    first = (
        png_chunk(b"acTL", struct.pack(">II", frames, 0)) + png_chunk(b"fcTL", control[0]) + png_chunk(b"IDAT", body)
    )
    return PNG + header + first + rest + png_chunk(b"IEND", b"")


def webp_of_frames(frames: int) -> bytes:
    one = encode(photo(64, 64), "WEBP")[12:]
    frame = bytes(6) + (63).to_bytes(3, "little") * 2 + bytes(4) + one
    chunk = b"ANMF" + struct.pack("<I", len(frame)) + frame + bytes(len(frame) % 2)
    extended = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (63).to_bytes(3, "little") * 2
    body = b"WEBP" + extended + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + chunk * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(*entries: tuple[int, int, int, int], next_at: int = 0, tail: bytes = b"") -> bytes:
    basic = ((256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 64), (279, 4, 1, 4096))  # fmt: skip
    merged = {entry[0]: entry for entry in (*basic, *entries)}
    return (
        b"II*\0"
        + struct.pack("<I", 4104)
        + bytes(4096)
        + directory(*(merged[k] for k in sorted(merged)), next_at=next_at)
        + tail
    )


def patched(data: bytes, find: bytes, offset: int, value: bytes) -> bytes:
    at = data.index(find) + offset
    return data[:at] + value + data[at + len(value) :]


# Each must be cheap to refuse, or within the caps of pixels, memory and time.
MONSTERS: dict[str, Callable[[], bytes]] = {
    "bomb_60000x60000.png": lambda: png(60_000, 60_000, zeros(1 << 20)),
    "bomb_2147483647.png": lambda: png(2**31 - 1, 2**31 - 1, zeros(100)),
    "bomb_1_bit_9000x9000.png": lambda: png(9_000, 9_000, zeros(9_000 * 1_126), depth=1, colour=0),
    "giant_10000x10000_rgba16.png": lambda: png(10_000, 10_000, zeros(1 << 20), depth=16, colour=6),
    "text_bomb.png": lambda: small_png(png_chunk(b"zTXt", b"a\0\0" + zeros(1 << 27))),
    "international_text_bomb.png": lambda: small_png(png_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(1 << 27))),
    "many_texts.png": lambda: small_png(png_chunk(b"tEXt", b"a\0" + b"x" * 900_000) * 80),
    "profile_bomb.png": lambda: small_png(png_chunk(b"iCCP", b"a\0\0" + zeros(1 << 27))),
    "chunk_of_2_gigabytes.png": lambda: patched(small_png(png_chunk(b"eXIf", b"II*\0")), b"eXIf", -4, b"\x7f\xff\xff\xff"),
    "hundred_thousand_chunks.png": lambda: small_png(png_chunk(b"abCd", b"") * 100_000),
    "exif_that_ends.png": lambda: small_png(png_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "exif_of_16_megabytes.png": lambda: small_png(png_chunk(b"eXIf", b"II*\0\x08\0\0\0" + directory((274, 4, 1 << 22, 26)) + b"\1\2\3\4" * (1 << 22))),
    "fill_bytes.jpg": lambda: b"\xff\xd8\xff\x02\0\2" + b"\xff" * (1 << 25),
    "empty_segments.jpg": lambda: b"\xff\xd8\xff\x02\0\2" + b"\xff\1" * (1 << 24),
    "65535x65535.jpg": lambda: jpeg_of_size(65_535, 65_535),
    "8000x8000.jpg": lambda: jpeg_of_size(8_000, 8_000),
    "zero_height.jpg": lambda: jpeg_of_size(64, 0),
    "progressive_6000x6000.jpg": lambda: jpeg_of_size(6_000, 6_000, progressive=True),
    "many_scans.jpg": lambda: many_scans(100),
    "deep_exif.jpg": lambda: jpeg_with(deep_exif(2_000)),
    "exif_in_a_circle.jpg": lambda: jpeg_with(exif(directory((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), next_at=8))),
    "exif_of_65535_entries.jpg": lambda: jpeg_with(exif(struct.pack("<H", 65_535) + bytes(60_000))),
    "exif_of_4_gigabytes.jpg": lambda: jpeg_with(exif(directory((274, 7, 2**32 - 1, 8)))),
    "exif_orientation_99.jpg": lambda: jpeg_with(exif(directory((274, 3, 1, 99)))),
    "ten_thousand_comments.jpg": lambda: jpeg_with(*[b"x" * 100] * 10_000, marker=0xFE),
    "profile_of_16_megabytes.jpg": lambda: jpeg_with(
        *(b"ICC_PROFILE\0" + bytes([n, 255]) + bytes(65_519) for n in range(1, 256)), marker=0xE2
    ),
    "profile_parts_missing.jpg": lambda: jpeg_with(b"ICC_PROFILE\0\1\xff" + rgb_profile(), marker=0xE2),
    "profile_that_lies.jpg": lambda: encode(photo(), "JPEG", icc_profile=b"\x7f\xff\xff\xff" + rgb_profile()[4:]),
    "profile_of_10000_tags.jpg": lambda: encode(photo(), "JPEG", icc_profile=patched(rgb_profile(), b"acsp", 92, b"\0\0\x27\x10")),
    "five_thousand_frames.gif": lambda: gif_of_frames(5_000),
    "giant_frame.gif": lambda: patched(gif_of_frames(1), b"GIF8", 6, struct.pack("<HH", 65_535, 65_535)),
    "three_thousand_frames.png": lambda: apng_of_frames(3_000),
    "two_thousand_frames.webp": lambda: webp_of_frames(2_000),
    "one_of_4294967295_frames.png": lambda: patched(apng_of_frames(1), b"acTL", 4, b"\xff\xff\xff\xff"),
    "directory_in_a_circle.tif": lambda: tiff(next_at=4104),
    "tags_of_4_gigabytes.tif": lambda: tiff((34675, 7, 2**32 - 1, 16), (270, 2, 2**32 - 1, 16)),
    "million_strips.tif": lambda: tiff((273, 4, 1_000_000, 4200), (279, 4, 1_000_000, 4200), (278, 4, 1, 1)),
    "strips_of_16_megabytes.tif": lambda: tiff((273, 4, 1 << 22, 4200), (279, 4, 1 << 22, 4200), tail=b"\1\2\3\4" * (1 << 22)),
    "bits_of_16_megabytes.tif": lambda: tiff((258, 4, 1 << 22, 4200), tail=b"\1\2\3\4" * (1 << 22)),
    "strips_as_text.tif": lambda: tiff((273, 2, 9_000, 4200), (279, 2, 9_000, 4200), tail=b"a" * 9_000),
    "tile_of_2_gigabytes.tif": lambda: tiff((322, 4, 1, 2**31 - 16), (323, 4, 1, 2**31 - 16), (324, 4, 1, 8), (325, 4, 1, 4096)),
    "60000x60000.tif": lambda: tiff((256, 4, 1, 60_000), (257, 4, 1, 60_000)),
    "1000_samples.tif": lambda: tiff((277, 3, 1, 1_000)),
    "deflate_bomb.tif": lambda: patched(tiff((259, 3, 1, 8), (256, 4, 1, 12_000), (257, 4, 1, 12_000), (278, 4, 1, 12_000)), bytes(64), 0, zeros(12_000 * 12_000)[:4000]),
    "giant.jp2": lambda: patched(encode(photo(), "JPEG2000"), b"\xff\x51", 6, struct.pack(">II", 2**31, 2**31)),
    "many_tiles.jp2": lambda: patched(encode(photo(), "JPEG2000"), b"\xff\x51", 22, struct.pack(">II", 1, 1)),
    "5000x5000.jp2": lambda: patched(
        patched(encode(photo(), "JPEG2000"), b"\xff\x51", 6, struct.pack(">II", 5_000, 5_000)),
        b"ihdr", 4, struct.pack(">II", 5_000, 5_000),
    ),
    "giant.webp": lambda: patched(encode(photo(), "WEBP"), b"\x9d\x01\x2a", 3, b"\xff\x3f\xff\x3f"),
    "lying_length.webp": lambda: patched(encode(photo(), "WEBP"), b"RIFF", 4, b"\xff\xff\xff\xff"),
    "giant.avif": lambda: patched(encode(photo(), "AVIF"), b"ispe", 8, struct.pack(">II", 60_000, 60_000)),
    "5000x5000.avif": lambda: patched(encode(photo(), "AVIF"), b"ispe", 8, struct.pack(">II", 5_000, 5_000)),
    "hundred_thousand_boxes.avif": lambda: encode(photo(), "AVIF") + b"\0\0\0\x08free" * 100_000,
    "giant.bmp": lambda: patched(encode(photo(), "BMP"), b"BM", 18, struct.pack("<ii", 2**31 - 1, 2**31 - 1)),
    "upside_down.bmp": lambda: patched(encode(photo(), "BMP"), b"BM", 22, struct.pack("<i", -(2**31))),
    "run_lengths.bmp": lambda: patched(encode(Image.fromarray(photo()).quantize(16), "BMP"), b"BM", 30, b"\1\0\0\0"),
    "header_of_4_gigabytes.bmp": lambda: patched(encode(photo(), "BMP"), b"BM", 14, b"\xff\xff\xff\xff"),
    "12000x12000.qoi": lambda: b"qoif" + struct.pack(">IIBB", 12_000, 12_000, 3, 0) + b"\xfd" * 20_000,
    "giant.qoi": lambda: b"qoif" + struct.pack(">IIBB", 2**32 - 1, 2**32 - 1, 3, 0),
    "giant.ppm": lambda: b"P6 99999999 99999999 255\n" + bytes(1000),
    "endless_number.ppm": lambda: b"P6 " + b"1" * 1_000_000,
    "endless_comment.ppm": lambda: b"P6 #" + b"c" * 3_000_000,
    "plain_13000x13000.ppm": lambda: b"P3 13000 13000 255\n" + b"0 " * 100_000,
    "plain_bits.pbm": lambda: b"P1 10000 10000\n" + b"1" * 500_000,
    "many_icons.ico": lambda: b"\0\0\1\0\xff\xff" + struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, 100, 22) * 65_535,
    "icon_in_itself.ico": lambda: b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, 99, 0) + bytes(99),
    "bomb_in_an_icon.ico": lambda: b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, 1 << 20, 22) + png(60_000, 60_000, zeros(9)),
    "giant.sgi": lambda: patched(encode(photo(), "SGI"), b"\x01\xda", 6, b"\xff\xff\xff\xff"),
    "giant.pcx": lambda: patched(encode(photo(), "PCX"), b"\n\x05", 4, struct.pack("<4H", 0, 0, 65_535, 65_535)),
    "giant.dds": lambda: patched(encode(photo(), "DDS"), b"DDS ", 12, struct.pack("<II", 2**31, 2**31)),
    "giant.tga": lambda: patched(encode(photo(), "TGA"), b"\0\0\2", 12, b"\xff\xff\xff\xff"),
}  # fmt: skip


def foreign() -> Iterator[tuple[str, bytes]]:
    """Files of other kinds under a picture's name."""
    svg = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">]><svg xmlns="http://www.w3.org/2000/svg">%s</svg>'
    page = b"<!DOCTYPE html><html><script>alert(1)</script><img src='file:///etc/passwd'></html>"
    for name, data in {
        "archive": b"PK\3\4" + bytes(500), "gzip": b"\x1f\x8b\x08" + bytes(300), "tar": b"a.jpg".ljust(257, b"\0") + b"ustar" + bytes(700),
        "drawing": svg % (b"&a;" * 1000), "page": page, "pdf": b"%PDF-1.7\n" + bytes(300), "program": b"\x7fELF" + bytes(600),
        "windows": b"MZ" + bytes(600), "pickle": b"cos\nsystem\n(S'touch pwned'\ntR.", "script": b"#!/bin/sh\ntouch pwned\n",
        "postscript": b"%!PS\n(pwned) (w) file closefile\n", "newlines": b"\n" * 10_000, "zeros": bytes(10_000),
        "ones": b"\xff" * 10_000, "one_byte": b"\xff", "start_of_jpeg": b"\xff\xd8\xff", "start_of_png": PNG,
        "video": b"\0\0\0\x18ftypmp42" + bytes(600), "jpeg_in_zip": b"PK\3\4" + encode(photo(), "JPEG"),
        "jpeg_and_zip": encode(photo(), "JPEG") + b"PK\5\6" + bytes(18), "two_jpegs": encode(photo(), "JPEG") * 2,
        "utf16": "<svg>".encode("utf-16"), "bom": b"\xef\xbb\xbf" + encode(photo(), "PNG"),
    }.items():  # fmt: skip
        yield f"{name}.jpg", data
        yield f"{name}.tif", data


def awkward(folder: Path) -> list[str]:
    """Names and kinds of files that trip programs; of the kinds, those that this system and user can make."""
    jpeg = encode(photo(), "JPEG")
    names = [f"control_{code:02x}_{chr(code)}.jpg" for code in (*range(1, 32), 127)]
    names += [os.fsdecode(b"bytes_%02x_" % code + bytes([code]) + b".jpg") for code in (0x80, 0xC0, 0xED, 0xFE)]
    names += ["ü" * 125 + ".jpg", "x" * 251 + ".jpg", "\u202egpj.exe.jpg", "\u2028.jpg", " .jpg", "%s%n.jpg", "-.jpg"]
    names += [
        "'; rm -rf x.jpg",
        "{}.jpg",
        "[a].jpg",
        "*.jpg",
        "a?b.jpg",
        "~.jpg",
        "$HOME.jpg",
        "http:.jpg",
        "\ufeff.jpg",
    ]
    made = []
    for name in names:
        with contextlib.suppress(OSError):  # some file systems take only some names
            (folder / name).write_bytes(jpeg)
            made.append(name)
    for name, target in {
        "zero.jpg": "/dev/zero", "null.jpg": "/dev/null", "full.jpg": "/dev/full", "random.jpg": "/dev/urandom",
        "terminal.jpg": "/dev/tty", "memory.jpg": "/proc/self/mem", "kernel.jpg": "/proc/kmsg", "empty.jpg": "/proc/self/maps",
        "here.jpg": ".", "ring_1.jpg": "ring_2.jpg", "ring_2.jpg": "ring_1.jpg", "linked.jpg": "whole.jpg",
        **{f"chain_{n:02}.jpg": f"chain_{n + 1:02}.jpg" for n in range(50)},
    }.items():  # fmt: skip
        (folder / name).symlink_to(target)
        made.append(name)
    os.mkfifo(folder / "pipe.jpg")
    before = Path.cwd()
    os.chdir(folder)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket.jpg")
    finally:
        os.chdir(before)
    made += ["pipe.jpg", "socket.jpg"]
    for name, start in {"sparse.png": PNG + b"\x7f\xff\xff\xffIDAT", "sparse_text.png": small_png(b"")[:33] + b"\x7f\xff\xff\xfftEXt",
                        "sparse.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 ", "sparse.avif": b"\0\0\0\x18ftypavif" + bytes(12),
                        "sparse.jpg": jpeg[:400], "sparse.ppm": b"P6 #", "sparse.heic": b"\0\0\0\x18ftypheic" + bytes(12),
                        "sparse.jp2": b"\xff\x4f\xff\x51", "sparse.tga": b"", "sparse.gif": b"GIF89a"}.items():  # fmt: skip
        with (folder / name).open("wb") as file:
            file.write(start)
            file.truncate(1 << 33)  # 8 GB that take no room
        made.append(name)
    return made
