"""Files as other programs write them: turned, with profiles and markers in unusual places, of rarer processes.

Each gives the pixels of a plain file of the same picture, or is refused in words.
"""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.hostile import ADOBE_RGB, ORIENTATION, STORED, encode, icc_gamma, icc_profile, icc_xyz, photo, png_chunk
from moslens.errors import UnsupportedImage
from moslens.picture.load import decode, load

JPEG = encode(photo(), "JPEG", quality=95)
SIDEWAYS = 6


def exif(orientation: int, *, kind: int = 3, order: str = "<") -> bytes:
    """EXIF data whose only entry is the orientation, of TIFF type ``kind`` (2 text, 3 SHORT, 4 LONG)."""
    value = {
        2: str(orientation).encode().ljust(4, b"\0"),
        3: struct.pack(f"{order}HH", orientation, 0),
        4: struct.pack(f"{order}I", orientation),
    }[kind]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHHI", 1, ORIENTATION, kind, 2 if kind == 2 else 1) + value
    return mark + struct.pack(f"{order}I", 8) + entry + bytes(4)


def with_segments(*segments: tuple[int, bytes]) -> bytes:
    """The photo as JPEG, with segments of these markers behind its start."""
    body = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    return JPEG[:2] + body + JPEG[2:]


def upright_of(orientation: int) -> np.ndarray:
    """The stored pixels of the JPEG as they are to be seen."""
    turns = {6: lambda stored: np.rot90(stored, -1), 1: lambda stored: stored}
    return turns[orientation](decode(JPEG))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned_in_tiles_of_16_bits_too(orientation: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation](photo()))
    tag = [(ORIENTATION, "H", 1, orientation, True)]
    for pixels, options in ((stored, {}), (stored.astype(np.uint16) * 257, {"tile": (16, 16)})):
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, photometric="rgb", extratags=tag, metadata=None, **options)
        assert np.array_equal(decode(file.getvalue()), photo())


@pytest.mark.parametrize("orientation", [5, 6])
def test_avif_is_turned_and_keeps_its_size(orientation: int) -> None:
    tag = Image.Exif()
    tag[ORIENTATION] = orientation
    turned = decode(encode(STORED[orientation](photo()), "AVIF", quality=95, exif=tag))
    assert turned.shape == photo().shape
    assert np.abs(turned.astype(int) - photo()).mean() < 4


@pytest.mark.parametrize(
    ("segments", "seen"),
    [
        ([(0xE1, b"Exif\0\0" + exif(6, kind=4))], 6),
        ([(0xE1, b"Exif\0\0" + exif(6, order=">"))], 6),
        ([(0xE1, b"Exif\0\0" + exif(0))], 1),
        ([(0xE1, b"Exif\0\0" + exif(9))], 1),
        ([(0xE1, b"Exif\0\0" + exif(6, kind=2))], 1),
        (
            [
                (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><broken tiff:Orientation='8"),
                (0xE1, b"Exif\0\0" + exif(6)),
            ],
            6,
        ),
    ],
    ids=["long", "big endian", "zero", "nine", "text", "broken xmp"],
)
def test_orientations_of_odd_values_and_types(segments: list[tuple[int, bytes]], seen: int) -> None:
    assert np.array_equal(decode(with_segments(*segments)), upright_of(seen))


def png(pixels: np.ndarray, *, before: bytes = b"", behind: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG of 8-bit RGB with chunks in front of its pixels and behind them, written without Pillow."""
    height, width = pixels.shape[:2]
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b""
    for top, left, down, right in passes if interlaced else ((0, 0, 1, 1),):
        rows += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::right])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    body = before + png_chunk(b"IDAT", zlib.compress(rows)) + behind + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body


def raw_profile() -> bytes:
    """EXIF data as ImageMagick wrote it before there was a chunk for it: hexadecimal, in a text chunk."""
    data = b"Exif\0\0" + exif(SIDEWAYS)
    text = b"\nexif\n%8d\n%s\n" % (len(data), data.hex().encode())
    return png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


@pytest.mark.parametrize(
    "places",
    [
        {"before": png_chunk(b"eXIf", exif(SIDEWAYS))},
        {"behind": png_chunk(b"eXIf", exif(SIDEWAYS))},
        {"before": raw_profile()},
        {"before": png_chunk(b"eXIf", exif(SIDEWAYS)), "interlaced": True},
    ],
    ids=["in front", "behind", "as text", "interlaced"],
)
def test_the_orientation_of_a_png_wherever_it_stands(places: dict[str, Any]) -> None:
    assert np.array_equal(decode(png(STORED[SIDEWAYS](photo()), **places)), photo())


def test_a_second_picture_or_a_film_behind_the_first_plays_no_part() -> None:
    gain_map = Image.fromarray(photo(48, 64)[..., 0])
    ultra_hdr = encode(photo(), "MPO", save_all=True, append_images=[gain_map], quality=95)
    film = struct.pack(">I4s4sI", 24, b"ftyp", b"mp42", 0) + b"mp42isom"
    film += struct.pack(">I4s", 5000, b"mdat") + bytes(4992)
    for data in (ultra_hdr, JPEG + film, JPEG + JPEG):
        assert np.array_equal(decode(data), decode(JPEG))


def test_the_markers_of_adobe_say_which_colours_a_jpeg_has() -> None:
    """RGB by the marker with transform 0, RGB by the names of its components alone, CMYK and YCCK."""
    rgb = encode(photo(), "JPEG", quality=95, keep_rgb=True)
    at = rgb.index(b"\xff\xee")
    assert rgb[at + 15] == 0, "the transform of the marker"
    without = rgb[:at] + rgb[at + 2 + struct.unpack(">H", rgb[at + 2 : at + 4])[0] :]
    assert b"Adobe" not in without
    for data in (rgb, without):
        assert np.abs(decode(data).astype(int) - photo()).mean() < 3
    inks = encode(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(inks).astype(int) - photo()).mean() < 3


def test_a_profile_in_several_segments_is_put_together() -> None:
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: icc_xyz(*colour) for name, colour in zip(names, ADOBE_RGB, strict=True)}
    tags |= {name: icc_gamma(2.19921875) for name in (b"rTRC", b"gTRC", b"bTRC")}
    small, large = (icc_profile(b"RGB ", tags | {b"priv": b"data" + bytes(size)}) for size in (100, 150_000))
    parts = encode(photo(), "JPEG", quality=95, icc_profile=large)
    assert parts.count(b"ICC_PROFILE\0") == 3
    found = decode(parts)
    assert np.array_equal(found, decode(encode(photo(), "JPEG", quality=95, icc_profile=small)))
    assert np.abs(found.astype(int) - decode(JPEG)).max() > 20


# Made once with imagecodecs 2026.3: colours() but for those that are refused.
ENCODED = {
    "avif 10 bits": (
        "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAO"
        "cGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAuQAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAA"
        "AABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAMAAAACgAAAAQcGl4aQAAAAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAG"
        "gAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAwW1kYXQSAAoJOBVvnbwICBpAMqkBEgJDSoAA8gAAeP6xf1lhez0Rxo7wQa6lqNbKlEU0zuGq"
        "kg+4zwuIu+Ce+vjt1mvYwCKE2wtK+8ZPIWFvOvStPIKEKPShCRtUds5CDV1BwLyxl76Zua82lzbD2xR21KSYVTEuQ/eFFhac3RtpS8DxowPF"
        "w3KQjC6yFE++tSWP55VDpdz89zJ8q69L3xTFB42N5/wmFjpPEE1/yQhBJOvB14rbL5IPCxGqIg=="
    ),
    "avif 12 bits": (
        "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAOttZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAAA5waXRt"
        "AAAAAAABAAAAHmlsb2MAAAAARAAAAQABAAAAAQAAAQ8AAADAAAAAKGlpbmYAAAAAAAEAAAAaaW5mZQIAAAAAAQAAYXYwMUNvbG9yAAAAAGpp"
        "cHJwAAAAS2lwY28AAAAUaXNwZQAAAAAAAAAwAAAAKAAAABBwaXhpAAAAAAMMDAwAAAAMYXYxQ4FAYAAAAAATY29scm5jbHgAAgACAAaAAAAA"
        "F2lwbWEAAAAAAAAAAQABBAECgwQAAADIbWRhdBIACglYFW+drQICBogysAESAkNKgADyAADX3s2rSe8NmrwPCKdwUSGuS8lu/E4tFjtdwtXO"
        "OB+NxnOtw0NvlY9coLv84wReYDT5+FnCUzaRuipmGmgOWof/htbmWb2kk74kIoQrE8nMn7FGaTMXmLh+6YdI9IcKbpFMf3VR4Xlx1VIftjUw"
        "Yv2U6BWwESp2Kx93jgvuGDeTK2yKs6EfW/6ZAYD9YO8SXTUq4A7qshfunjcqZa5sjMMKBg5BP4lM3g=="
    ),
    "avif grey": (
        "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAOltZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAAA5waXRt"
        "AAAAAAABAAAAHmlsb2MAAAAARAAAAQABAAAAAQAAAQ0AAABdAAAAKGlpbmYAAAAAAAEAAAAaaW5mZQIAAAAAAQAAYXYwMUNvbG9yAAAAAGhp"
        "cHJwAAAASWlwY28AAAAUaXNwZQAAAAAAAAAwAAAAKAAAAA5waXhpAAAAAAEKAAAADGF2MUOBAFwAAAAAE2NvbHJuY2x4AAIAAgACgAAAABdp"
        "cG1hAAAAAAAAAAEAAQQBAoMEAAAAZW1kYXQSAAoGGBVvn51AMlEQAFKnOMY83an/FJfHDh1npbCw7xTXmzYLzRzF0ZEB1XcA4B+gX9zPNEmv"
        "bUZGwH74UIWaeFjhyTLjZp3iuCyrjMxBX4cJhkxHM+t45QpV9SU="
    ),
    "lossless 8 bits": (
        "/9j/7gAOQWRvYmUAZAAAAAAA/8MAEQgAKAAwA1IRAEcRAEIRAP/EABgAAQEBAQEAAAAAAAAAAAAAAAADCAEH/9oADANSAEcAQgABAADP/hPn"
        "dChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoU"
        "KFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFC"
        "hQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMo"
        "UKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQo"
        "UKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKF"
        "ChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQ"
        "oUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFCh"
        "Q7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoU"
        "KFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFC"
        "hQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFG"
        "jKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQo"
        "UKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKF"
        "ChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQ"
        "oUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFCh"
        "QoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoU"
        "KFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFC"
        "hQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFC"
        "hRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQo"
        "UKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQoUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKF"
        "ChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFChQoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ7VQ"
        "oUKFChQoUKFChQoUKFChQoUKFChRoyhQoUKFChQoUKFChQoUKFChQoUO1UKFChQoUKFChQoUKFChQoUKFChQoUaMoUKFChQoUKFChQoUKFCh"
        "QoUKFDtVChQoUKFChQoUKFChQoUKFChQoUKFGjKFChQoUKFChQoUKFChQoUKFChQ/9k="
    ),
    "lossless 16 bits": (
        "/9j/7gAOQWRvYmUAZAAAAAAA/8MAERAAKAAoA1IRAEcRAEIRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAAP/9oADANSAEcAQgABAACB88D54Hzg"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAD/2Q=="
    ),
    "12 bits": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggL"
        "DAsKDAkKCgr/2wBDAQICAgICAgUDAwUKBwYHCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgr/wQAR"
        "DAAoACgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAA3/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFAEBAAAAAAAAAAAAAAAAAAAA"
        "AP/EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEAAhEDEQA/AJ8+AAAAAAAAAAAAAAAAAD//2Q=="
    ),
    "jpeg xl": (
        "/wpJQCQIBAEApAFLKKK65dQ5eB3k4HcFBYULBQVHNAoQUTAuEBrV78fduBsruQMNflqo+RsRQAFiIACAROBo/hscKNhQ3SwOg/U7VZVU2QM0"
        "fjn4yfE0nNVSsQEt0xwarEnx0OUPOthrXlr7ufghWSxFgAQ="
    ),
}


def colours() -> np.ndarray:
    y, x = np.mgrid[:40, :48]
    return np.stack([4 * x + y, 5 * y + 10, np.where(x > 24, 200, 60)], -1).astype(np.uint8)


@pytest.mark.parametrize(("name", "levels"), [("avif 10 bits", 5), ("avif 12 bits", 5), ("lossless 8 bits", 0)])
def test_other_depths_and_processes(name: str, levels: int) -> None:
    assert np.abs(decode(base64.b64decode(ENCODED[name])).astype(int) - colours()).max() <= levels


def test_grey_avif() -> None:
    found = decode(base64.b64decode(ENCODED["avif grey"]))
    assert np.array_equal(found, np.repeat(colours()[..., 1:2], 3, 2))


@pytest.mark.parametrize("name", ["lossless 16 bits", "12 bits", "jpeg xl"])
def test_processes_that_are_not_decoded_here_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedImage, match=r"cannot be decoded here|does not open"):
        load(base64.b64decode(ENCODED[name]))
