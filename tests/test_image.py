"""The decoding policy: what pixels come out of every kind of picture, and what error out of everything else."""

import io
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from hostile import (
    ADOBE_RGB,
    ORIENTATION,
    STORED,
    encode,
    icc_gamma,
    icc_profile,
    make_odd_files,
    photo,
    png_16,
    png_chunk,
    rgb_profile,
)
from moslens import image as image_module
from moslens.errors import (
    CorruptImage,
    EmptyImage,
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    TruncatedImage,
    UnreadableImage,
    UnsupportedImage,
)
from moslens.image import MIN_SIDE, decode, load
from moslens.views import fit

MID_GREY = 128


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str | None]]:
    folder = tmp_path_factory.mktemp("odd")
    return folder, make_odd_files(folder)


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second.astype(int)).max())


# Errors


def test_every_odd_file_gives_its_pixels_or_its_error(odd: tuple[Path, dict[str, str | None]]) -> None:
    folder, expected = odd
    found: dict[str, str | None] = {}
    for name in expected:
        path = folder / name
        try:
            pixels = load(path).pixels
            found[name] = None if pixels.dtype == np.uint8 and pixels.shape[2:] == (3,) else str(pixels.shape)
        except ImageError as error:
            named = error.path == str(path) and str(error).startswith(f"{path}: ")
            found[name] = error.code if named else f"unnamed {error.code}"
    assert found == expected


def test_bytes_give_what_the_file_gives(odd: tuple[Path, dict[str, str | None]]) -> None:
    folder, expected = odd
    for name in (name for name in expected if (folder / name).is_file() and "megapixels" not in name):
        data = (folder / name).read_bytes()
        if expected[name] is None or name == "forbidden.jpg":
            assert np.array_equal(load(data).pixels, load(folder / name).pixels), name
        else:
            with pytest.raises(ImageError) as caught:
                load(data)
            assert caught.value.code == expected[name], name
            assert caught.value.path is None


@pytest.mark.parametrize("name", ["nowhere.jpg", "a\0b.jpg", "x" * 5000, "plain.jpg/inside.jpg", "lone \ud800.jpg"])
def test_paths_that_lead_nowhere_are_unreadable(odd: tuple[Path, Any], name: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        load(os.path.join(odd[0], name))  # noqa: PTH118
    assert caught.value.path is not None
    assert caught.value.path.endswith(name)


def test_sockets_and_devices_are_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        with pytest.raises(UnreadableImage, match="not a regular file"):
            load("socket.jpg")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        load("/dev/zero")


def test_a_read_error_of_the_disk_is_unreadable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise OSError(5, "Input/output error")
            return super().read(size)

    (tmp_path / "a.jpg").write_bytes(b"\xff")
    monkeypatch.setattr(Path, "open", lambda *_: Failing(encode(photo(), "JPEG")))
    with pytest.raises(UnreadableImage, match="Input/output error"):
        load(tmp_path / "a.jpg")


def test_no_bytes_and_other_things_than_pictures() -> None:
    with pytest.raises(EmptyImage):
        load(b"")
    with pytest.raises(UnsupportedImage, match="cannot be read from list"):
        load([[1, 2], [3, 4]])  # type: ignore[arg-type]


def test_a_short_file_says_how_short(tmp_path: Path) -> None:
    webp, jpeg = encode(photo(), "WEBP"), encode(photo(), "JPEG")
    with pytest.raises(TruncatedImage, match=rf"^the file ends after 1,024 of {len(webp):,} bytes$"):
        load(webp[:1024])
    (tmp_path / "c.jpg").write_bytes(jpeg[:1024])
    with pytest.raises(TruncatedImage) as caught:
        load(tmp_path / "c.jpg")
    assert str(caught.value) == f"{tmp_path}/c.jpg: the file ends after 1,024 bytes, before the picture does"


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(photo(), "JPEG"),
    "jpeg with a thumbnail": lambda: _with_thumbnail(encode(photo(), "JPEG")),
    "progressive": lambda: encode(photo(), "JPEG", progressive=True),
    "png": lambda: encode(photo(), "PNG"),
    "webp": lambda: encode(photo(), "WEBP"),
    "lossless webp": lambda: encode(photo(), "WEBP", lossless=True),
    "animated webp": lambda: encode(photo(), "WEBP", save_all=True, append_images=[Image.fromarray(photo(seed=1))]),
    "tiff": lambda: encode(photo(), "TIFF"),
    "lzw tiff": lambda: encode(photo(), "TIFF", compression="tiff_lzw"),
    "bmp": lambda: encode(photo(), "BMP"),
    "gif": lambda: encode(photo(), "GIF"),
    "jp2": lambda: encode(photo(), "JPEG2000"),
    "ppm": lambda: encode(photo(), "PPM"),
    "pcx": lambda: encode(photo(), "PCX"),
    "sgi": lambda: encode(photo(), "SGI"),
    "qoi": lambda: encode(photo(), "QOI"),
    "dds": lambda: encode(photo(), "DDS"),
    "avif": lambda: encode(photo(), "AVIF"),
    "heic": lambda: _heic(photo()),
}


def _with_thumbnail(jpeg: bytes) -> bytes:
    """The end marker of a thumbnail must not pass for that of the picture."""
    thumbnail = b"Exif\0\0" + encode(photo(40, 40), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + jpeg[2:]


def _heic(pixels: np.ndarray) -> bytes:
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=90)
    return file.getvalue()


@pytest.mark.parametrize("name", CONTAINERS)
def test_files_cut_anywhere_are_truncated_and_whole_ones_are_not(name: str) -> None:
    data = CONTAINERS[name]()
    reference = photo()
    assert np.abs(decode(data).astype(int) - reference).mean() < 8
    for cut in np.linspace(24, len(data) * 0.97, 40).astype(int):
        with pytest.raises(TruncatedImage, match=r"the file ends after [\d,]+ "):
            load(data[:cut])


@settings(deadline=None, max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(CONTAINERS)))
def test_damaged_files_give_pixels_or_a_typed_error(data: st.DataObject, name: str) -> None:
    damaged = bytearray(ENCODED[name])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1) | st.integers(0, 200))
        damaged[at : at + 1] = data.draw(st.binary(min_size=0, max_size=4))
    try:
        outcome = "ok" if load(bytes(damaged), max_pixels=1_000_000).pixels.size else "nothing"
    except ImageError as error:
        outcome = error.code
    possible = {"ok", "empty", "not_an_image", "truncated", "corrupt", "unsupported", "too_small", "too_large"}
    assert outcome in possible


ENCODED = {name: make() for name, make in CONTAINERS.items()}


def test_broken_is_not_short() -> None:
    jpeg = encode(photo(), "JPEG")
    table = jpeg.index(b"\xff\xc4")
    broken = jpeg[: table + 5] + b"\xff" * 16 + jpeg[table + 21 :]
    with pytest.raises(CorruptImage, match="JPEG data is broken"):
        load(broken)
    with pytest.raises(CorruptImage):
        load(broken + b"trailing bytes of some camera")


def test_heic_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedImage, match=r"HEIC needs pillow-heif: pip install 'moslens\[formats\]'"):
        load(ENCODED["heic"])


def test_the_preview_in_a_camera_raw_file_is_not_taken_for_the_photo() -> None:
    for tag, value in ((254, 1), (50706, b"\1\4\0\0")):
        with pytest.raises(UnsupportedImage, match="camera raw"):
            load(encode(photo(), "TIFF", tiffinfo={tag: value}))


# Sizes and the cap


def test_the_cap_is_decided_by_the_header() -> None:
    jpeg = encode(photo(60, 100), "JPEG")
    assert load(jpeg, max_pixels=6000).width == 100
    with pytest.raises(ImageTooLarge, match=r"100 x 60 = 6,000 pixels are more than the cap of 5,999"):
        load(jpeg[:700], max_pixels=5999)  # the pixels are not even there
    with pytest.raises(ImageTooLarge):
        decode(photo(60, 100), max_pixels=5999)


def test_the_smallest_side(tmp_path: Path) -> None:
    assert load(encode(photo(MIN_SIDE, 200), "PNG")).height == MIN_SIDE
    for shape in ((MIN_SIDE - 1, 200), (200, MIN_SIDE - 1), (1, 1)):
        with pytest.raises(ImageTooSmall):
            load(encode(photo(*shape), "PNG"))
        with pytest.raises(ImageTooSmall):
            load(photo(*shape))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_the_limit_of_pillow_plays_no_part(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photo(300, 400), format)
    reference = decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    monkeypatch.setattr(image_module, "_BAND_PIXELS", 20_000)
    assert np.array_equal(decode(data), reference)
    assert Image.MAX_IMAGE_PIXELS == 40_000


def test_the_original_size_is_that_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture = load(encode(photo(600, 1000), "JPEG", exif=exif), working_size=500)
    assert (picture.width, picture.height) == (600, 1000)
    assert picture.pixels.shape == (500, 300, 3)


# Pixels


def test_load_gives_what_pillow_alone_gives_for_a_plain_photo() -> None:
    data = encode(photo(700, 900), "JPEG")
    reference = Image.open(io.BytesIO(data)).resize((512, 398), Image.Resampling.BICUBIC)
    assert np.array_equal(load(data).pixels, np.asarray(reference))


@pytest.mark.parametrize("band", [1, 3000, 1 << 30])
def test_load_is_fit_after_decode_and_the_bands_leave_no_trace(
    band: int, odd: tuple[Path, dict[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = odd
    pictures = [name for name in expected if expected[name] is None and "megapixels" not in name]
    whole = {name: decode(folder / name) for name in pictures}
    monkeypatch.setattr(image_module, "_BAND_PIXELS", band)
    for name in pictures:
        assert np.array_equal(decode(folder / name), whole[name]), name
        small = load(folder / name, working_size=70).pixels
        if name == "adobe_rgb.png":  # an opaque picture's profile is applied after the resize
            assert np.abs(small.astype(int) - fit(whole[name], 70)).mean() < 1
        else:
            assert np.array_equal(small, fit(whole[name], 70)), name


def test_twins_under_all_exif_orientations_are_identical(odd: tuple[Path, Any]) -> None:
    folder = odd[0]
    for orientation in STORED:
        path = folder / f"exif_{orientation}.png"
        assert np.array_equal(decode(path), photo()), orientation
        assert np.array_equal(load(path, working_size=50).pixels, fit(photo(), 50)), orientation


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_orientation_of_other_formats_agrees_with_pillow(format: str) -> None:
    for orientation in STORED:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        data = encode(photo(), format, exif=exif)
        with Image.open(io.BytesIO(data)) as image:
            upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        assert np.array_equal(decode(data), upright), orientation


def test_broken_exif_is_ignored_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    plain = encode(photo(), "JPEG")
    for junk in (b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\1", b"Exif\0\0XX*\0\x08\0\0\0\1\0", b"Exif\0\0MM\0*"):
        assert np.array_equal(decode(encode(photo(), "JPEG", exif=junk)), decode(plain))
    nonsense = Image.Exif()
    nonsense[ORIENTATION] = 99
    assert np.array_equal(decode(encode(photo(), "JPEG", exif=nonsense)), decode(plain))


# XYZ of the sRGB primaries adapted to D50, by columns (ICC, sRGB v2 profile).
SRGB_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def srgb_from_matrix(pixels: np.ndarray, colorants: Any, gamma: float) -> np.ndarray:
    """Independent of LittleCMS: to XYZ (D50) by the matrix, to linear sRGB by the inverse of its, and its curve."""
    linear = (pixels / 255.0) ** gamma @ np.array(colorants) @ np.linalg.inv(SRGB_D50).T
    return 255 * srgb_curve(linear.clip(0, 1))


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_profile_is_converted_to_srgb(format: str) -> None:
    stored = decode(encode(photo(), format))
    converted = decode(encode(photo(), format, icc_profile=rgb_profile()))
    expected = srgb_from_matrix(stored, ADOBE_RGB, 2.19921875)
    assert np.abs(converted - expected).max() <= 2
    assert np.abs(converted.astype(int) - stored).max() > 20  # else nothing was shown


def test_a_grey_profile_is_converted_to_srgb() -> None:
    profile = icc_profile(b"GRAY", {b"kTRC": icc_gamma(1.75)})
    grey = photo()[..., 0]
    expected = 255 * srgb_curve((grey / 255.0) ** 1.75)
    for picture in (grey, np.dstack([grey, np.full_like(grey, 255)])):
        converted = decode(encode(picture, "PNG", icc_profile=profile))
        assert np.abs(converted - expected[..., None]).max() <= 2
    sixteen = encode(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF", icc_profile=profile)
    assert np.abs(decode(sixteen) - expected[..., None]).max() <= 2


def test_a_profile_counts_before_the_alpha_channel() -> None:
    colour, alpha = photo(), np.full((96, 128, 1), 100, np.uint8)
    converted = decode(encode(np.dstack([colour, alpha]), "PNG", icc_profile=rgb_profile()))
    shown = srgb_from_matrix(colour, ADOBE_RGB, 2.19921875)
    assert np.abs(converted - (shown * 100 + MID_GREY * 155) / 255).max() <= 2


def test_the_srgb_profile_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode(encode(photo(), "PNG", icc_profile=srgb)), photo())


def cmyk_profile() -> bytes:
    """An 8-bit table with the 16 corners of the ink cube: no ink white, black ink or all inks black, else coloured."""
    corners = np.array(
        [[0, 128, 128] if index & 1 or index >> 1 == 7 else CORNERS.get(index, [60, 128, 128]) for index in range(16)]
    )
    ramp = bytes(range(256))
    head = struct.pack(">4sI4B9i", b"mft1", 0, 4, 3, 2, 0, *(65536 * (i % 4 == 0) for i in range(9)))
    table = head + ramp * 4 + corners.astype(np.uint8).tobytes() + ramp * 3
    return icc_profile(b"CMYK", {b"A2B0": table}, b"prtr", b"Lab ")


# Index of cyan 8, magenta 4, yellow 2, black 1 -> Lab in 8 bits (L 0-255, a and b + 128).
CORNERS = {0: [255, 128, 128], 8: [150, 118, 108], 4: [130, 168, 118], 2: [230, 123, 208]}


def test_a_cmyk_profile_is_used() -> None:
    inks = np.zeros((64, 64, 4), np.uint8)
    inks[:32, 32:, 0] = inks[32:, :32, 1] = inks[32:, 32:, 3] = 255
    image = Image.fromarray(inks, "CMYK")
    data = encode(image, "TIFF", icc_profile=cmyk_profile())
    colours = decode(data)[[16, 16, 48, 48], [16, 48, 16, 48]]
    for found, lab in zip(colours, (CORNERS[0], CORNERS[8], CORNERS[4], [0, 128, 128]), strict=True):
        assert np.abs(found - srgb_from_lab(*lab)).max() <= 3, (found, lab)
    assert np.abs(decode(encode(image, "TIFF"))[16, 48].astype(int) - colours[1]).max() > 50


def srgb_from_lab(lightness: int, a: int, b: int) -> np.ndarray:
    """Lab as profiles store it in 8 bits, by the definition of CIELAB under D50."""
    middle = (lightness / 2.55 + 16) / 116
    roots = np.array([middle + (a - 128) / 500, middle, middle - (b - 128) / 200])
    xyz = np.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * 3 * (6 / 29) ** 2) * (0.9642, 1.0, 0.8249)
    return 255 * srgb_curve((np.linalg.inv(SRGB_D50) @ xyz).clip(0, 1))


def test_cmyk_without_a_profile() -> None:
    inks = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    expected = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:]) / 255
    assert np.abs(decode(encode(Image.fromarray(inks, "CMYK"), "TIFF")) - expected).max() <= 1


def test_inverted_cmyk_of_adobe_jpeg_agrees_with_opencv(odd: tuple[Path, Any]) -> None:
    data = (odd[0] / "cmyk.jpg").read_bytes()
    assert b"Adobe" in data
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert levels_apart(decode(data), reference) <= 3
    assert np.abs(decode(data).astype(int) - photo()).mean() < 6


@pytest.mark.parametrize(
    ("profile", "picture"),
    [
        (rgb_profile()[:150], photo()),
        (b"not a profile", photo()),
        (icc_profile(b"GRAY", {b"kTRC": icc_gamma(1.8)}), photo()),
        (rgb_profile(), photo()[..., 0]),
        (icc_profile(b"RGB ", {}), photo()),
    ],
    ids=["cut", "junk", "grey on colour", "colour on grey", "no tags"],
)
def test_a_useless_profile_is_ignored_with_a_warning_in_the_log(
    profile: bytes, picture: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tagged.png").write_bytes(encode(picture, "PNG", icc_profile=profile))
    with caplog.at_level(logging.WARNING, "moslens"):
        assert np.array_equal(decode(tmp_path / "tagged.png"), decode(encode(picture, "PNG")))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "tagged.png" in caplog.text
    assert "colour profile is ignored" in caplog.text


def sixteen_bit_twins(values: np.ndarray) -> dict[str, bytes]:
    image = Image.fromarray(values)
    height, width = values.shape
    return {
        "png": png_16(values),
        "tiff": encode(image, "TIFF"),
        "big-endian tiff": encode(Image.frombytes("I;16B", (width, height), values.astype(">u2").tobytes()), "TIFF"),
        "jpeg 2000": encode(image, "JPEG2000"),
        "pgm": b"P5\n%d %d\n65535\n" % (width, height) + values.astype(">u2").tobytes(),
        "rgb png": png_16(np.repeat(values[..., None], 3, 2)),
    }


def test_sixteen_bits_are_scaled_and_twins_are_equal() -> None:
    grey = photo()[..., 0]
    twin = decode(encode(grey, "PNG"))
    for wide in (grey.astype(np.uint16) * 257, grey.astype(np.uint16) << 8):
        for name, data in sixteen_bit_twins(wide).items():
            assert np.array_equal(decode(data), twin), name
            assert np.array_equal(load(data, working_size=64).pixels, fit(twin, 64)), name


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_sixteen_bit_samples_are_right_to_one_level(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 65536, (40, 50), dtype=np.uint16)
    for name, data in sixteen_bit_twins(values).items():
        assert np.abs(decode(data)[..., 0] - values / 257).max() <= 1, name


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    values = np.full((40, 40), 200, np.uint16)
    assert {name: int(decode(data).max()) for name, data in sixteen_bit_twins(values).items()} == dict.fromkeys(
        sixteen_bit_twins(values), 0
    )


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(1, np.int32), (257, np.int32), (8421504, np.int32), (1 / 255, np.float32), (1, np.float32), (257, np.float32)],
)
def test_samples_of_32_bits_take_the_smallest_usual_scale(scale: float, dtype: Any) -> None:
    grey = photo()[..., 0]
    data = encode(Image.fromarray((grey.astype(float) * scale).astype(dtype)), "TIFF")
    assert levels_apart(decode(data), decode(encode(grey, "PNG"))) <= 1


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 1e9])
def test_samples_without_an_agreed_scale_are_refused(value: float) -> None:
    samples = np.full((40, 40), 0.5, np.float32)
    samples[20, 20] = value
    with pytest.raises(UnsupportedImage, match="no agreed black and white"):
        load(encode(Image.fromarray(samples), "TIFF"))


def test_alpha_is_composited_over_mid_grey() -> None:
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    alpha = rgba[..., 3:].astype(float)
    expected = (rgba[..., :3] * alpha + MID_GREY * (255 - alpha)) / 255
    grey_alpha = np.dstack([rgba[..., 0], rgba[..., 3]])
    for format in ("PNG", "TIFF"):
        assert np.abs(decode(encode(rgba, format)) - expected).max() <= 1
        assert np.abs(decode(encode(grey_alpha, format)) - expected[..., :1]).max() <= 1
    assert np.abs(decode(encode(rgba, "WEBP", lossless=True, exact=True)) - expected).max() <= 1


def test_hidden_colours_do_not_count() -> None:
    alpha = np.where(np.indices((64, 64)).sum(0) > 60, 255, 0).astype(np.uint8)
    shown, hidden = photo(64, 64), photo(64, 64, seed=1)
    first = np.dstack([shown, alpha])
    second = np.dstack([np.where(alpha[..., None] > 0, shown, hidden), alpha])
    assert np.array_equal(decode(encode(first, "PNG")), decode(encode(second, "PNG")))
    for working_size in (None, 40):
        pixels = load(encode(np.dstack([hidden, 0 * alpha]), "PNG"), working_size=working_size).pixels
        assert np.all(pixels == MID_GREY)


def test_palette_transparency() -> None:
    indices = np.random.default_rng(0).integers(0, 4, (64, 64), dtype=np.uint8)
    colours = np.array([[255, 0, 0], [0, 200, 0], [10, 20, 250], [90, 90, 90]])
    image = Image.fromarray(indices)
    image.putpalette(colours.astype(np.uint8).tobytes())
    alphas = np.array([255, 0, 128, 51])
    expected = ((colours * alphas[:, None] + MID_GREY * (255 - alphas[:, None])) / 255)[indices]
    assert np.abs(decode(encode(image, "PNG", transparency=bytes(alphas.tolist()))) - expected).max() <= 1
    one = np.where(indices[..., None] == 2, MID_GREY, colours[indices])
    assert np.array_equal(decode(encode(image, "PNG", transparency=2)), one)
    assert np.array_equal(decode(encode(image, "GIF", transparency=2)), one)
    assert np.array_equal(decode(encode(image, "PNG")), colours[indices])


def test_a_transparent_colour() -> None:
    pixels = photo()
    pixels[:30] = (7, 8, 9)
    expected = np.where(np.all(pixels == (7, 8, 9), axis=2, keepdims=True), MID_GREY, pixels)
    assert np.array_equal(decode(encode(pixels, "PNG", transparency=(7, 8, 9))), expected)
    grey = pixels[..., 0]
    expected_grey = np.where(grey == 7, MID_GREY, grey)
    assert np.array_equal(decode(encode(grey, "PNG", transparency=7))[..., 0], expected_grey)
    wide = png_16(grey.astype(np.uint16) * 257)
    clear = wide[:33] + png_chunk(b"tRNS", struct.pack(">H", 7 * 257)) + wide[33:]
    assert np.array_equal(decode(clear)[..., 0], expected_grey)


def test_the_first_frame_of_an_animation(odd: tuple[Path, Any]) -> None:
    assert np.array_equal(decode(odd[0] / "animated.webp"), photo())
    with Image.open(odd[0] / "animated.gif") as image:
        first = np.asarray(image.convert("RGB"))
        image.seek(1)
        second = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(odd[0] / "animated.gif"), first)
    assert not np.array_equal(first, second)
    pages = encode(photo(), "TIFF", save_all=True, append_images=[Image.fromarray(photo(200, 300))])
    assert np.array_equal(decode(pages), photo())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBX", "YCbCr", "HSV", "PA", "La", "RGBa"])
def test_every_mode_of_a_pil_image(mode: str) -> None:
    colour = Image.fromarray(photo())
    steps = {"PA": ["P", "PA"], "La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"]}.get(mode, [mode])
    image = colour
    for step in steps:
        image = image.convert(step)
    before = image.copy()
    back = {"La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
    assert np.array_equal(decode(image), np.asarray(image.convert(back).convert("RGB")))
    assert image == before


def test_modes_without_a_meaning_are_refused() -> None:
    with pytest.raises(UnsupportedImage, match="LAB"):
        load(Image.new("LAB", (50, 50)))


# Sources


def test_a_pil_image_takes_the_same_path_as_its_file(odd: tuple[Path, dict[str, str | None]]) -> None:
    folder, expected = odd
    for name in (name for name in expected if expected[name] is None and "megapixels" not in name):
        with Image.open(folder / name) as image:
            assert np.array_equal(load(image).pixels, load(folder / name).pixels), name
            assert image.getpixel((0, 0)) is not None  # still open
    with Image.open(folder / "truncated.jpg") as image, pytest.raises(TruncatedImage) as caught:
        load(image)
    assert caught.value.path == str(folder / "truncated.jpg")


def test_an_array_is_taken_as_it_is() -> None:
    pixels = photo(600, 800)
    assert decode(pixels) is pixels
    assert np.array_equal(load(pixels).pixels, load(encode(pixels, "PNG")).pixels)
    assert np.array_equal(load(pixels[::-1, ::-1]).pixels, load(pixels[::-1, ::-1].copy()).pixels)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((3, 64, 64), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((2, 64, 64, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_in_clear_words(array: np.ndarray) -> None:
    with pytest.raises(UnsupportedImage, match=r"height x width x 3 uint8 \(RGB\), this one is [\dx ]+(uint8|float32)"):
        load(array)


# The rest of the process


def too_many_entries() -> bytes:
    """A TIFF whose width is given twice: Pillow warns and goes on."""
    return encode(photo(), "TIFF", tiffinfo={270: "x"}).replace(
        struct.pack("<HHI", 259, 3, 1), struct.pack("<HHI", 259, 3, 2)
    )


def test_decoder_warnings_are_dropped_and_those_of_others_are_not() -> None:
    data = too_many_entries()
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(data))  # what is not to leak
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode(data), photo())
        with pytest.raises(UserWarning, match="too many entries"):
            Image.open(io.BytesIO(data))


def test_threads_decode_alike_and_leave_the_warnings_of_other_threads_alone() -> None:
    data, stop, heard = too_many_entries(), threading.Event(), []

    def other_thread() -> None:
        while not stop.is_set():
            try:
                Image.open(io.BytesIO(data))
            except UserWarning:
                heard.append(True)
            else:
                heard.append(False)

    witness = threading.Thread(target=other_thread)
    witness.start()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(decode, [data] * 200))
    stop.set()
    witness.join()
    assert all(np.array_equal(result, photo()) for result in results)
    assert heard
    assert all(heard)


PEAK = """
import sys
from pathlib import Path
from moslens.image import load
def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
before = peak()
picture = load(sys.argv[1])
print((peak() - before) / (picture.width * picture.height))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
@pytest.mark.parametrize(
    ("mode", "format", "orientation", "most"),
    [("RGB", "JPEG", 1, 5.0), ("RGB", "JPEG", 6, 5.5), ("CMYK", "JPEG", 1, 5.5), ("RGBA", "PNG", 8, 5.5)],
)
def test_memory_is_that_of_one_decoded_picture(
    mode: str, format: str, orientation: int, most: float, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.new(mode, (6000, 4000), 90)
    image.save(tmp_path / "large", format, exif=exif)
    result = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "large")], capture_output=True, text=True, check=True
    )
    assert 3.9 < float(result.stdout) < most
