"""Odd, broken and hostile picture files, made in code, for every test that must survive them.

    expected = make_odd_files(folder)    # file name -> the error code it must give, None where it is a picture

Some are no regular files (a folder, a FIFO, links that lead nowhere), some have awkward names. Most pictures show
``photo()``, so that twins can be compared.
"""

import contextlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
ORIENTATION = 0x0112
# How the upright pixels are stored under each EXIF orientation (Exif 2.32, 4.6.4).
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright.swapaxes(0, 1)[::-1],
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright.swapaxes(0, 1)[:, ::-1],
}


def photo(height: int = 96, width: int = 128, seed: int = 0) -> Pixels:
    """Gradients, edges and a little noise: no symmetry, all of the range, height x width x 3 uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [200 * x + 40 * y, 220 * y + 20, 90 + 110 * np.sin(9 * x + 4 * y * y)]
    levels = np.stack(planes, -1) + 60 * ((x > 0.3) & (y < 0.4))[..., None] + rng.normal(0, 6, (height, width, 3))
    pixels: Pixels = levels.clip(0, 255).astype(np.uint8)
    return pixels


def encode(picture: Pixels | Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of a file that holds ``picture``."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_16(values: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG, grey (h x w) or RGB (h x w x 3), written without Pillow."""
    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if values.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows, 1)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def icc_profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC version 2 profile of the given tags, to which description, copyright and D50 white are added."""
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": icc_xyz(0.9642, 1.0, 0.8249),
        **tags,
    }
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    size = 132 + 12 * len(tags) + len(data)
    header = struct.pack(">I4xI4s4s4s", size, 0x02400000, kind, space, pcs) + bytes(12) + b"acsp"
    return header.ljust(68, b"\0") + icc_xyz(0.9642, 1.0, 0.8249)[8:] + bytes(48) + table + data


def icc_xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def icc_gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH2x", 1, round(gamma * 256))


def rgb_profile(colorants: tuple[tuple[float, float, float], ...] = ADOBE_RGB, gamma: float = 2.19921875) -> bytes:
    """A matrix profile: XYZ (D50) of red, green and blue, and one gamma. The default is that of Adobe RGB."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: icc_xyz(*colour) for name, colour in zip(names, colorants, strict=True)}
    return icc_profile(b"RGB ", tags | {name: icc_gamma(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def make_odd_files(folder: str | os.PathLike[str]) -> dict[str, str | None]:
    """Write the files into ``folder`` and say what each must give: an error code, or None for a picture."""
    folder = Path(folder)
    expected: dict[str, str | None] = {}

    def write(name: str, data: bytes, code: str | None = None) -> None:
        (folder / name).write_bytes(data)
        expected[name] = code

    _pictures(write)
    _broken(write)
    _no_pictures(write)
    _awkward_names(folder, expected, write)
    return expected


Writer = Callable[..., None]


def _pictures(write: Writer) -> None:
    upright = photo()
    grey = upright[..., 0]
    alpha = np.linspace(0, 255, grey.size).reshape(grey.shape).astype(np.uint8)
    write("plain.jpg", encode(upright, "JPEG", quality=95))
    write("progressive.jpg", encode(upright, "JPEG", progressive=True))
    write("grey_8.png", encode(grey, "PNG"))
    write("grey_16.png", png_16(grey.astype(np.uint16) * 257))
    write("grey_16.tif", encode(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"))
    write("rgb_16.png", png_16(upright.astype(np.uint16) * 257))
    write("cmyk.jpg", encode(Image.fromarray(upright).convert("CMYK"), "JPEG"))
    write("cmyk.tif", encode(Image.fromarray(upright).convert("CMYK"), "TIFF"))
    write("transparent.png", encode(np.dstack([upright, alpha]), "PNG"))
    write("grey_alpha.png", encode(np.dstack([grey, alpha]), "PNG"))
    palette = Image.fromarray(upright).quantize(16)
    write("palette_transparent.png", encode(palette, "PNG", transparency=bytes(range(0, 256, 16))))
    write("palette_transparent.gif", encode(palette, "GIF", transparency=3))
    turned = Image.fromarray(upright[::-1].copy())
    write("animated.gif", encode(upright, "GIF", save_all=True, append_images=[turned]))
    write("animated.webp", encode(upright, "WEBP", save_all=True, append_images=[turned], lossless=True))
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        write(f"exif_{orientation}.png", encode(stored(upright), "PNG", exif=exif))
    write("adobe_rgb.png", encode(upright, "PNG", icc_profile=rgb_profile()))
    write("broken_profile.png", encode(upright, "PNG", icc_profile=rgb_profile()[:200]))
    write("bits.bmp", encode(Image.fromarray(grey).convert("1"), "BMP"))
    write("panorama_40x5000.png", encode(photo(40, 5000), "PNG"))
    write("one_colour_100_megapixels.png", encode(Image.new("1", (10_000, 10_000), 1), "PNG"))


def _broken(write: Writer) -> None:
    jpeg, png = encode(photo(), "JPEG", quality=95), encode(photo(), "PNG")
    write("truncated.jpg", jpeg[: len(jpeg) // 2], "truncated")
    write("truncated_in_header.jpg", jpeg[:100], "truncated")
    write("no_end_marker.jpg", jpeg[:-2], "truncated")
    write("truncated.png", png[: len(png) // 2], "truncated")
    for format, suffix in (("WEBP", "webp"), ("TIFF", "tif"), ("BMP", "bmp"), ("GIF", "gif")):
        data = encode(photo(), format)
        write(f"truncated.{suffix}", data[: len(data) // 2], "truncated")
    at = png.index(b"IDAT")
    write("bad_checksum.png", png[:29] + b"\0\0\0\0" + png[33:], "corrupt")
    write("broken_chunk.png", png[: at + 40] + bytes(60) + png[at + 100 :], "corrupt")
    table, frame = jpeg.index(b"\xff\xc4"), jpeg.index(b"\xff\xc0")
    write("broken_huffman_table.jpg", jpeg[: table + 5] + b"\xff" * 16 + jpeg[table + 21 :], "corrupt")
    write("twelve_bits.jpg", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :], "unsupported")
    write("layers.psd", b"8BPS\0\1" + bytes(100), "unsupported")
    write("figure.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n", "unsupported")
    write("one_pixel.png", encode(photo(1, 1), "PNG"), "too_small")
    write("strip_20x5000.png", encode(photo(20, 5000), "PNG"), "too_small")
    huge = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = png_chunk(b"IHDR", huge) + png_chunk(b"IDAT", zlib.compress(bytes(10_000))) + png_chunk(b"IEND", b"")
    write("header_bomb.png", b"\x89PNG\r\n\x1a\n" + bomb, "too_large")


def _no_pictures(write: Writer) -> None:
    write("empty.jpg", b"", "empty")
    write("text.jpg", b"Python is a language, not a picture.\n" * 20, "not_an_image")
    write("page.jpg", b"<!DOCTYPE html><html><body>404 not found</body></html>", "not_an_image")
    write(
        "drawing.png",
        b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "not_an_image",
    )
    write("noise.png", np.random.default_rng(0).bytes(5000), "not_an_image")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("photo.jpg", encode(photo(), "JPEG"))
    write("archive.jpg", archive.getvalue(), "not_an_image")


def _awkward_names(folder: Path, expected: dict[str, str | None], write: Writer) -> None:
    jpeg = encode(photo(), "JPEG")
    for name in ("фото 猫 🌄.jpg", "two\nlines.jpg", "-dash 'quote' \"double\" $(x).jpg"):
        write(name, jpeg)
    with contextlib.suppress(OSError):  # some file systems take only UTF-8
        write(os.fsdecode(b"not utf-8 \xff.jpg"), jpeg)
    write("forbidden.jpg", jpeg, None if os.geteuid() == 0 else "unreadable")
    (folder / "forbidden.jpg").chmod(0)
    (folder / "folder.jpg").mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "fifo.jpg")
    expected |= dict.fromkeys(("folder.jpg", "loop.jpg", "dangling.jpg", "fifo.jpg"), "unreadable")
