"""Sample depth, alpha, palettes, CMYK and colour profiles: every pixel type against an independent computation."""

import logging
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from helpers.hostile import (
    ADOBE_RGB,
    encode,
    icc_gamma,
    icc_profile,
    photo,
    png_16,
    png_chunk,
    rgb_profile,
)
from moslens.errors import UnsupportedImage
from moslens.picture.load import decode, load
from moslens.picture.windows import fit

MID_GREY = 128


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second.astype(int)).max())


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


def test_inverted_cmyk_of_adobe_jpeg_agrees_with_opencv() -> None:
    data = encode(Image.fromarray(photo()).convert("CMYK"), "JPEG")
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
        with pytest.raises(UnsupportedImage, match="every pixel is transparent"):
            load(encode(np.dstack([hidden, 0 * alpha]), "PNG"), working_size=working_size)


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
