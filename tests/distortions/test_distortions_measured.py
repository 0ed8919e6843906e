"""What each kind does to pixels, against closed forms, scipy, scikit-image, OpenCV and Pillow itself."""

import colorsys
import io
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest
from skimage import color as skcolor

from helpers.paths import ROOT
from helpers.pictures import picture
from moslens.distortions import KIND_BY_NAME, LEVELS, PAPER_KINDS, distort, filters
from moslens.distortions.color import color_shift
from moslens.distortions.fast_normal import normal
from moslens.distortions.planes import from_planes, to_planes

PHOTO = picture(120, 136, seed=4).astype(np.float32) / 255
GREY = np.full((256, 256, 3), 0.5, np.float32)


def run(image: np.ndarray, name: str, level: int, seed: int = 0) -> np.ndarray:
    return distort(image, name, level, np.random.default_rng(seed))


def value(name: str, level: int) -> float:
    return KIND_BY_NAME[name].levels[level - 1]


def impulse(size: int = 41) -> np.ndarray:
    image = np.zeros((size, size, 3), np.float32)
    image[size // 2, size // 2] = 1
    return image


# --- filters ---------------------------------------------------------------------------------------------------------


@given(
    height=st.integers(16, 200),
    width=st.integers(16, 200),
    sigma=st.floats(0.1, 20),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=40)
def test_gaussian_is_scipys(height: int, width: int, sigma: float, seed: int) -> None:
    stack = np.random.default_rng(seed).random((2, height, width), dtype=np.float32)
    expected = [gaussian_filter(plane, sigma, mode="nearest", radius=int(np.ceil(2 * sigma))) for plane in stack]
    assert np.abs(filters.gaussian(stack, sigma) - expected).max() < 2e-6


@given(
    height=st.integers(16, 150),
    width=st.integers(16, 150),
    rows=st.integers(0, 9),
    columns=st.integers(0, 9),
    share=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=60)
def test_correlate_is_opencvs(*, height: int, width: int, rows: int, columns: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack = rng.random((3, height, width), dtype=np.float32)
    kernel = rng.normal(size=(2 * rows + 1, 2 * columns + 1)) * (rng.random((2 * rows + 1, 2 * columns + 1)) < share)
    kernel[-1] = kernel[0]
    expected = cv2.filter2D(stack.transpose(1, 2, 0), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(filters.correlate(stack, kernel) - expected.transpose(2, 0, 1)).max() < 5e-5


def test_a_large_picture_is_filtered_like_a_small_one() -> None:
    stack = np.random.default_rng(0).random((3, 700, 1100), dtype=np.float32)
    whole = filters.gaussian(stack, 5)
    part = filters.gaussian(np.ascontiguousarray(stack[:, 300:400, 500:700]), 5)
    assert np.abs(whole[:, 310:390, 510:690] - part[:, 10:-10, 10:-10]).max() < 1e-6


@pytest.mark.parametrize("radius", [1, 2, 4, 6, 8])
def test_disk_covers_its_area(radius: int) -> None:
    kernel = filters.disk(radius)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(kernel, kernel.T, atol=3e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
    centre = len(kernel) // 2
    assert kernel[centre, centre] == pytest.approx(1 / (np.pi * radius**2), rel=2e-3)
    # MATLAB's fspecial('disk', 1), an independent exact answer.
    if radius == 1:
        np.testing.assert_allclose(kernel[0], [0.0251, 0.1453, 0.0251], atol=6e-5)
        assert kernel[1, 1] == pytest.approx(0.3183, abs=6e-5)


@given(length=st.floats(1, 30), angle=st.floats(0, 180))
def test_line_has_its_length_and_direction(length: float, angle: float) -> None:
    kernel = filters.line(length, angle)
    assert kernel.sum() == pytest.approx(1)
    reach = len(kernel) // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    radians = np.deg2rad(angle)
    along, across = (
        x * np.cos(radians) - y * np.sin(radians),
        x * np.sin(radians) + y * np.cos(radians),
    )
    lit = kernel > 0
    assert np.abs(along[lit]).max() <= (length - 1) / 2 + 1
    assert np.abs(across[lit]).max() <= 1
    if length >= 3:
        assert np.abs(along[lit]).max() >= (length - 1) / 2 - 1
        assert (kernel * along**2).sum() > 2 * (kernel * across**2).sum()


@pytest.mark.parametrize("length", [1, 2, 4, 6, 10])
def test_horizontal_line_is_a_box_of_its_length(length: int) -> None:
    kernel = filters.line(length, 0)
    row = kernel[len(kernel) // 2]
    assert row.max() == pytest.approx(1 / length)
    np.testing.assert_allclose(np.delete(kernel, len(kernel) // 2, axis=0), 0, atol=1e-12)


# --- blur ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_gaussian_blur_spreads_an_edge_by_its_sigma(level: int) -> None:
    step = np.zeros((32, 128, 3), np.float32)
    step[:, 64:] = 1
    profile = run(step, "gaussian_blur", level)[16, :, 0].astype(float)
    spread = np.diff(profile)
    centre = (spread * np.arange(127)).sum()
    sigma = np.sqrt((spread * (np.arange(127) - centre) ** 2).sum())
    # Cut at two sigma a Gaussian keeps 0.88 of its deviation; at most 1 where the cut is rounded up.
    expected = value("gaussian_blur", level)
    assert 0.85 * expected <= sigma <= 1.01 * expected or expected == 0.1


@pytest.mark.parametrize("level", LEVELS)
def test_lens_blur_spreads_an_edge_by_its_diameter(level: int) -> None:
    step = np.zeros((64, 128, 3), np.float32)
    step[:, 64:] = 1
    profile = run(step, "lens_blur", level)[32, :, 0]
    between = np.count_nonzero((profile > 1e-4) & (profile < 1 - 1e-4))
    assert abs(between - 2 * value("lens_blur", level)) <= 1


@pytest.mark.parametrize("level", LEVELS)
def test_motion_blur_is_a_line_at_a_random_angle(level: int) -> None:
    angles = []
    for seed in range(60):
        kernel = run(impulse(), "motion_blur", level, seed)[..., 0].astype(float)
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        y, x = np.mgrid[-20:21, -20:21]
        farthest = np.hypot(x, y)[kernel > 1e-6].max()
        assert farthest <= (value("motion_blur", level) - 1) / 2 + 1
        moments = np.cov(np.stack([x.ravel(), -y.ravel()]), aweights=kernel.ravel() + 1e-12)
        angles.append(np.degrees(0.5 * np.arctan2(2 * moments[0, 1], moments[0, 0] - moments[1, 1])) % 180)
    if level == 5:
        assert np.histogram(angles, 4, (0, 180))[0].min() >= 6


# --- color -----------------------------------------------------------------------------------------------------------


def lab(image: np.ndarray) -> np.ndarray:
    return np.asarray(skcolor.rgb2lab(image.astype(np.float64)))


def rgb(colors: np.ndarray) -> np.ndarray:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-image warns of colors outside the gamut, which are meant here
        return np.asarray(skcolor.lab2rgb(colors))


@pytest.mark.parametrize("level", LEVELS)
def test_lab_saturation_is_scikit_images(level: int) -> None:
    colors = lab(PHOTO)
    colors[..., 1:] *= value("lab_saturation", level)
    assert np.abs(run(PHOTO, "lab_saturation", level) - rgb(colors)).max() < 2e-3


@pytest.mark.parametrize("level", LEVELS)
def test_color_diffusion_is_scikit_images(level: int) -> None:
    amount = value("color_diffusion", level)
    sigma = 1.5 * amount + 2
    colors = lab(PHOTO)
    for channel in (1, 2):
        blurred = gaussian_filter(colors[..., channel], sigma, mode="nearest", radius=int(np.ceil(2 * sigma)))
        colors[..., channel] = amount * blurred
    assert np.abs(run(PHOTO, "color_diffusion", level) - rgb(colors)).max() < 2e-3


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_hsv_saturation_is_that_of_colorsys(level: int) -> None:
    image = PHOTO[:20, :20]
    out = run(image, "hsv_saturation", level)
    for pixel, result in zip(image.reshape(-1, 3).tolist(), out.reshape(-1, 3), strict=True):
        hue, saturation, brightness = colorsys.rgb_to_hsv(*pixel)
        expected = colorsys.hsv_to_rgb(hue, saturation * value("hsv_saturation", level), brightness)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_negative_saturation_turns_hues_to_their_complements() -> None:
    red = np.zeros((16, 16, 3), np.float32)
    red[..., 0] = 0.6
    out = run(red, "hsv_saturation", 5)[0, 0]
    np.testing.assert_allclose(out, [0.6, 0.84, 0.84], atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_color_shift_moves_green_by_its_amount(level: int) -> None:
    noise = np.random.default_rng(0).random((100, 100, 3), dtype=np.float32)
    stack = to_planes(noise)
    out = color_shift(stack, value("color_shift", level), np.random.default_rng(level))
    np.testing.assert_array_equal(out[[0, 2]], stack[[0, 2]])
    inner = slice(12, -12)
    moved = {}
    for down, right in itertools.product(range(13), repeat=2):
        shifted = np.roll(stack[1], (down, right), (0, 1))
        gate = (out[1] - stack[1]) * (shifted - stack[1])
        moved[down, right] = gate[inner, inner].sum()
    best = max(moved, key=lambda key: moved[key])
    assert abs(np.hypot(*best) - value("color_shift", level)) <= 0.75


def test_color_shift_leaves_flat_areas() -> None:
    image = PHOTO.copy()
    image[:, 60:] = 0.5
    out = run(image, "color_shift", 5)
    assert np.abs(out - image)[:, 90:].max() < 1e-6
    assert np.abs(out - image)[:, :40].mean() > 0.003


@pytest.mark.parametrize("level", LEVELS)
def test_color_quantization_has_its_number_of_colors(level: int) -> None:
    out = (run(PHOTO, "color_quantization", level) * 255).round().astype(int).reshape(-1, 3)
    assert len(np.unique(out, axis=0)) == value("color_quantization", level)


# --- compression -----------------------------------------------------------------------------------------------------

ANNEX_K = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)


def remainder(coefficients: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.abs(coefficients - table * (coefficients / table).round())


@pytest.mark.parametrize("level", LEVELS)
def test_jpeg_coefficients_are_multiples_of_the_quantisation_table(level: int) -> None:
    quality = value("jpeg", level)
    table = np.clip((ANNEX_K * (5000 // int(quality)) + 50) // 100, 1, 255)
    other = np.clip((ANNEX_K * (5000 // int(quality + 2)) + 50) // 100, 1, 255)
    grey = np.repeat((picture(64, 64, 9)[..., :1] // 2) + 64, 3, axis=2)
    out = run(grey, "jpeg", level)[..., 0].astype(float) - 128
    assert out.min() > -128
    assert out.max() < 127
    blocks = [out[y : y + 8, x : x + 8] for y, x in itertools.product(range(0, 64, 8), repeat=2)]
    coefficients = np.array([dctn(block, norm="ortho") for block in blocks])
    # Decoded samples are rounded to integers: a coefficient moves by about 0.3, by 4 where all 64 round alike.
    assert remainder(coefficients, table).max() <= 4.01
    assert remainder(coefficients, table).mean() < 0.3
    assert remainder(coefficients, other).max() > 4.01


@pytest.mark.parametrize("level", LEVELS)
def test_jpeg2000_keeps_its_ratio(level: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    image = (gaussian_filter(image.astype(float), (1, 1, 0)) * 1.5 - 60).clip(0, 255).astype(np.uint8)
    ratio = value("jpeg2000", level)
    file = io.BytesIO()
    settings_ = {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True}
    Image.fromarray(image).save(file, "JPEG2000", no_jp2=True, num_resolutions=6, **settings_)
    assert len(file.getvalue()) == pytest.approx(image.size / ratio, rel=0.05)
    np.testing.assert_array_equal(run(image, "jpeg2000", level), np.asarray(Image.open(file)))


# --- noise -----------------------------------------------------------------------------------------------------------


def test_normal_is_gaussian_and_independent() -> None:
    sample = normal((1000, 1000), np.random.default_rng(0)).astype(float)
    assert kstest(sample.ravel()[:100_000], "norm").pvalue > 0.01
    np.testing.assert_allclose([sample.mean(), sample.var(), (sample**4).mean()], [0, 1, 3], atol=0.02)
    assert abs((sample[:, 1:] * sample[:, :-1]).mean()) < 0.004
    assert abs((sample[1:] * sample[:-1]).mean()) < 0.004


@pytest.mark.parametrize("level", LEVELS)
def test_white_noise_has_its_variance(level: int) -> None:
    noise = run(GREY, "white_noise", level) - GREY
    assert noise.var() == pytest.approx(value("white_noise", level), rel=0.02)
    assert abs(noise.mean()) < 5 * np.sqrt(value("white_noise", level) / noise.size)
    channels = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("level", LEVELS)
def test_color_noise_has_its_variance_in_ycbcr(level: int) -> None:
    noise = (run(GREY, "color_noise", level) - GREY).reshape(-1, 3).astype(float)
    light = noise @ [0.299, 0.587, 0.114]
    blue = (noise[:, 2] - light) / 1.772
    red = (noise[:, 0] - light) / 1.402
    expected = value("color_noise", level)
    np.testing.assert_allclose([light.var(), blue.var(), red.var()], expected, rtol=0.03)
    assert np.abs(np.corrcoef([light, blue, red]) - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("level", LEVELS)
def test_impulse_noise_has_its_density(level: int) -> None:
    out = run(GREY, "impulse_noise", level)
    density = value("impulse_noise", level)
    tolerance = 4 * np.sqrt(density / out.size)
    assert abs((out == 1).mean() - density / 2) < tolerance
    assert abs((out == 0).mean() - density / 2) < tolerance
    assert ((out == 0) | (out == 1) | (out == 0.5)).all()


@pytest.mark.parametrize("level", LEVELS)
def test_multiplicative_noise_has_its_variance_and_spares_black(level: int) -> None:
    image = GREY * 0.6
    image[:40] = 0
    out = run(image, "multiplicative_noise", level)
    np.testing.assert_array_equal(out[:40], 0)
    assert (out[40:] / image[40:] - 1).var() == pytest.approx(value("multiplicative_noise", level), rel=0.03)


@pytest.mark.parametrize("level", LEVELS)
def test_denoise_removes_most_of_the_noise_it_adds(level: int) -> None:
    """On flat grey the denoiser must do its work; what it leaves is smooth."""
    left = run(GREY, "denoise", level)
    noise = run(GREY, "white_noise", 5)
    deviation = np.sqrt(value("denoise", level))
    assert left.std() < 0.2 * deviation
    smoothness = np.abs(np.diff(left, axis=1)).mean() / left.std()
    assert smoothness < 0.75 * np.abs(np.diff(noise, axis=1)).mean() / noise.std()


def test_denoise_is_the_identity_without_noise() -> None:
    from moslens.distortions import noise

    for height, width in [(16, 16), (17, 40), (64, 33), (100, 101)]:
        stack = np.random.default_rng(0).random((3, height, width), dtype=np.float32)
        assert np.abs(noise.denoise(stack, 0.0, np.random.default_rng(0)) - stack).max() < 1e-5


# --- brightness, contrast, sharpness ---------------------------------------------------------------------------------


def parabola(x: np.ndarray, middle: float) -> np.ndarray:
    return np.clip(np.polyval(np.polyfit([0, 0.5, 1], [0, middle, 1], 2), x), 0, 1)


@pytest.mark.parametrize("level", LEVELS)
def test_brighten_follows_the_curve(level: int) -> None:
    middle = 0.5 + value("brighten", level) / 2
    colors = lab(PHOTO)
    colors[..., 0] = 100 * parabola(colors[..., 0] / 100, middle)
    expected = (2 * parabola(PHOTO, middle) + rgb(colors)) / 3
    assert np.abs(run(PHOTO, "brighten", level) - expected).max() < 2e-3


@pytest.mark.parametrize("level", LEVELS)
def test_darken_follows_the_curve(level: int) -> None:
    expected = parabola(PHOTO.astype(float), 0.5 - value("darken", level) / 2)
    assert np.abs(run(PHOTO, "darken", level) - expected).max() < 1e-6


@pytest.mark.parametrize("level", LEVELS)
def test_mean_shift(level: int) -> None:
    expected = np.clip(PHOTO + value("mean_shift", level), 0, 1)
    assert np.abs(run(PHOTO, "mean_shift", level) - expected).max() < 1e-6


@pytest.mark.parametrize("level", LEVELS)
def test_contrast_change_is_the_published_spline(level: int) -> None:
    amount = value("contrast_change", level)
    knots = [0, 0.3, 0.5, 0.7, 1], [0, 0.25 - amount / 4, 0.5, 0.75 + amount / 4, 1]
    expected = np.clip(CubicSpline(*knots, bc_type="not-a-knot")(PHOTO.astype(float)), 0, 1)
    assert np.abs(run(PHOTO, "contrast_change", level) - expected).max() < 1e-5


@pytest.mark.parametrize("level", LEVELS)
def test_nonlinear_contrast_narrows_the_range(level: int) -> None:
    half = value("nonlinear_contrast", level)
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None, :, None].repeat(16, 0).repeat(3, 2)
    out = run(ramp, "nonlinear_contrast", level)
    np.testing.assert_allclose([out.min(), out.max(), out.mean()], [0.5 - half, 0.5 + half, 0.5], atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_high_sharpen_is_the_unsharp_mask(level: int) -> None:
    colors = lab(PHOTO)
    light = colors[..., 0]
    mask = light - gaussian_filter(light, 3, mode="nearest", radius=6)
    colors[..., 0] = np.clip(light + value("high_sharpen", level) * mask, 0, 100)
    difference = np.abs(run(PHOTO, "high_sharpen", level) - rgb(colors))
    assert difference.max() < 5e-3


# --- spatial ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_jitter_moves_pixels_by_its_displacement(level: int) -> None:
    ramp = np.linspace(0, 1, 200, dtype=np.float32)[None, :, None].repeat(200, 0).repeat(3, 2)
    moved = (run(ramp, "jitter", level) - ramp)[:, 20:-20, 0] * 199
    amount = value("jitter", level)
    # Each pass adds `amount` ** 2, and its bilinear weights average what the earlier ones left, on either axis.
    part = np.random.default_rng(0).normal(0, amount, 100_000) % 1
    kept = np.mean((1 - part) ** 2 + part**2) ** 2
    assert moved.var() == pytest.approx(amount**2 * sum(kept**k for k in range(5)), rel=0.15)


@pytest.mark.parametrize("level", LEVELS)
def test_pixelate_keeps_its_number_of_rows_and_columns(level: int) -> None:
    noise = np.random.default_rng(0).random((100, 150, 3))
    out = run(noise, "pixelate", level)
    scale = 0.95 - value("pixelate", level) ** 0.6
    assert len(np.unique(out[:, :, 0], axis=0)) == int(100 * scale)
    assert len(np.unique(out[:, :, 0], axis=1).T) == int(150 * scale)
    assert np.isin(out.astype(np.float32), noise.astype(np.float32)).all()


@pytest.mark.parametrize("level", LEVELS)
def test_quantization_has_its_number_of_values(level: int) -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(16, 0).repeat(3, 2)
    out = run(ramp, "quantization", level)
    assert len(np.unique(out)) == value("quantization", level)
    assert (np.diff(out[0, :, 0].astype(int)) >= 0).all()
    assert (out[0, 0, 0], out[0, -1, 0]) == (0, 255)


@pytest.mark.parametrize("level", LEVELS)
def test_color_block_covers_its_share(level: int) -> None:
    image = np.full((224, 224, 3), 0.5, np.float32)
    count = value("color_block", level)
    covered = [(run(image, "color_block", level, seed) != image).any(axis=2).sum() for seed in range(20)]
    assert max(covered) <= count * 32 * 32
    assert min(covered) >= 32 * 32
    assert np.mean(covered) > 0.8 * count * 32 * 32


@pytest.mark.parametrize("name", ["color_block", "non_eccentricity", "lost_blocks"])
def test_sparse_kinds_stay_in_their_regions(name: str) -> None:
    image = np.random.default_rng(0).random((160, 160, 3), dtype=np.float32)
    regions = [(16, 32, 48, 48), (96, 96, 64, 64)]
    for level in LEVELS:
        out = distort(image, name, level, np.random.default_rng(level), regions=regions)
        changed = (out != image).any(axis=2)
        for x, y, width, height in regions:
            assert changed[y : y + height, x : x + width].any()
            changed[y : y + height, x : x + width] = False
        assert not changed.any()


def test_color_block_share_grows_with_the_level_even_in_small_regions() -> None:
    image = np.full((64, 64, 3), 0.5, np.float32)
    share = [np.mean([(run(image, "color_block", level, s) != image).mean() for s in range(9)]) for level in LEVELS]
    assert (np.diff(share) > 0.01).all()
    np.testing.assert_allclose(share, np.array([2, 4, 6, 8, 10]) * 1024 / 224**2, rtol=0.15)


def test_non_eccentricity_copies_pixels_from_close_by() -> None:
    y, x = np.mgrid[0:224, 0:224]
    image = np.stack([y, x, x * 0], axis=2).astype(np.uint8)
    for level in LEVELS:
        out = run(image, "non_eccentricity", level).astype(int)
        moved = np.abs(out - image)[..., :2].max()
        # A patch may land on one that has already moved: twice eight at most in nearly every case.
        assert 0 < moved <= 8 * 4
        assert (out[..., 2] == 0).all()


# --- layout ----------------------------------------------------------------------------------------------------------


def test_uint8_survives_the_way_to_planes_and_back() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    np.testing.assert_array_equal(from_planes(to_planes(image), np.uint8), image)


# --- the committed severity table ------------------------------------------------------------------------------------


def test_the_table_of_kinds_agrees_with_the_measured_severity() -> None:
    path = ROOT / "results" / "distortion-severity.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert len(record["photos"]) == 20
    named = tuple(row["kind"] for row in record["kinds"])
    assert named[:26] == PAPER_KINDS
    assert named == tuple(KIND_BY_NAME)[: len(named)]
    for row in record["kinds"]:
        kind = KIND_BY_NAME[row["kind"]]
        assert [level["level"] for level in row["levels"]] == list(kind.active_levels)
        assert [level["parameter"] for level in row["levels"]] == [
            kind.levels[level - 1] for level in kind.active_levels
        ]
        psnr = [level["psnr"] for level in row["levels"]]
        assert kind.monotone == all(later < earlier for earlier, later in itertools.pairwise(psnr))


def test_severity_figures_can_be_measured_again(shared_data: Path) -> None:
    record = json.loads((ROOT / "results" / "distortion-severity.json").read_text(encoding="utf-8"))
    crops = []
    for name in record["photos"]:
        with Image.open(shared_data / "pristine" / name) as image:
            left, top = (image.width - 224) // 2, (image.height - 224) // 2
            crops.append(np.asarray(image.convert("RGB").crop((left, top, left + 224, top + 224))))
    for row in record["kinds"][::5]:
        for level in row["levels"][::2]:
            figures = []
            for index, crop in enumerate(crops):
                difference = run(crop, row["kind"], level["level"], index).astype(float) - crop
                figures.append(10 * np.log10(255**2 / (difference**2).mean()))
            assert np.mean(figures) == pytest.approx(level["psnr"], abs=0.02)
