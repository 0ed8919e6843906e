"""The photographic kinds: every implementation gets stronger by level, all of a kind alike, for any picture."""

import inspect
import itertools
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from helpers.paths import ROOT
from moslens.blocks import BlockDegradation
from moslens.distortions import (
    KIND_BY_NAME,
    KINDS,
    LEVELS,
    PAPER_KINDS,
    distort,
    draw_implementation,
    implementations_of,
)
from moslens.distortions.colorspace import from_linear, rgb_to_ycc, to_linear, ycc_to_rgb
from moslens.distortions.dct import quantize_blocks
from moslens.distortions.filters import box, disk, path, polygon
from moslens.distortions.resampling import area, bilinear
from moslens.errors import ConfigError, MissingExtra

PHOTOGRAPHIC = KINDS[len(PAPER_KINDS) :]
MADE = [(kind.name, name) for kind in PHOTOGRAPHIC for name in implementations_of(kind)]
PHOTOS = ("livec_571", "livec_590", "livec_680")


@cache
def photo(name: str) -> np.ndarray:
    """The middle of an example photo, 160 x 160."""
    with Image.open(ROOT / "examples" / "photos" / f"{name}.jpg") as opened:
        scaled = opened.convert("RGB").resize((300, 300), Image.Resampling.LANCZOS)
    pixels = np.ascontiguousarray(np.asarray(scaled)[70:230, 70:230])
    pixels.flags.writeable = False
    return pixels


@cache
def changes(name: str, implementation: str) -> np.ndarray:
    """The mean absolute change in grey levels of 255, photos x levels."""
    rows = []
    for number, one in enumerate(PHOTOS):
        pixels = photo(one)
        made = [distort(pixels, name, n, np.random.default_rng(number), implementation=implementation) for n in LEVELS]
        rows.append([float(np.abs(out.astype(float) - pixels).mean()) for out in made])
    return np.array(rows)


@pytest.mark.parametrize(("name", "implementation"), MADE)
def test_every_level_shows_and_changes_more_than_the_one_below(name: str, implementation: str) -> None:
    found = changes(name, implementation)
    assert found.mean(axis=0)[0] >= 0.75
    assert (np.diff(found, axis=1) > 0).all(), found


@pytest.mark.parametrize("kind", PHOTOGRAPHIC, ids=lambda kind: kind.name)
def test_implementations_of_a_kind_are_about_equally_strong(kind: Any) -> None:
    """The measure is the mean absolute change, over photos: at every level, the strongest at most twice the weakest."""
    by_level = np.array([changes(kind.name, name).mean(axis=0) for name in implementations_of(kind)])
    assert (by_level.max(axis=0) <= 2 * by_level.min(axis=0)).all(), by_level


@pytest.mark.parametrize("kind", PHOTOGRAPHIC, ids=lambda kind: kind.name)
def test_implementations_of_a_kind_differ(kind: Any) -> None:
    pixels = photo(PHOTOS[0])
    portable = implementations_of(kind, "portable")
    assert len(portable) >= 2
    assert portable == tuple(name for name in implementations_of(kind) if not name.startswith("opencv"))
    made = [distort(pixels, kind, 3, np.random.default_rng(4), implementation=n) for n in implementations_of(kind)]
    for one, other in itertools.combinations(made, 2):
        assert not np.array_equal(one, other)


@given(
    made=st.sampled_from(MADE),
    level=st.sampled_from(LEVELS),
    height=st.sampled_from([16, 17, 32, 45, 67]),
    width=st.sampled_from([16, 23, 32, 61]),
    fill=st.sampled_from(["noise", "black", "white", "grey", "grey photo"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=250)
def test_any_size_and_content(
    *, made: tuple[str, str], level: int, height: int, width: int, fill: str, seed: int
) -> None:
    name, implementation = made
    image = {
        "noise": np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8),
        "black": np.zeros((height, width, 3), np.uint8),
        "white": np.full((height, width, 3), 255, np.uint8),
        "grey": np.full((height, width, 3), 119, np.uint8),
        "grey photo": photo(PHOTOS[1])[:height, :width, :1].repeat(3, axis=2),
    }[fill]
    before = image.copy()
    out = distort(image, name, level, np.random.default_rng(seed), implementation=implementation)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert_array_equal(image, before)
    assert_array_equal(out, distort(image, name, level, np.random.default_rng(seed), implementation=implementation))


@pytest.mark.parametrize("name", ["under_exposure", "camera_shake", "defocus", "low_resolution", "haze", "moire"])
def test_a_grey_picture_gets_no_color_but_where_the_kind_has_one(name: str) -> None:
    grey = photo(PHOTOS[1])[..., :1].repeat(3, axis=2)
    for implementation in implementations_of(KIND_BY_NAME[name]):
        out = distort(grey, name, 3, np.random.default_rng(0), implementation=implementation).astype(int)
        spread = (out.max(axis=2) - out.min(axis=2)).mean()
        assert (spread < 12) == (name != "moire"), implementation


# --- which implementation --------------------------------------------------------------------------------------------


def test_the_default_is_the_first_and_needs_no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    without_opencv(monkeypatch)
    for kind in PHOTOGRAPHIC:
        first = implementations_of(kind)[0]
        by_default = distort(photo(PHOTOS[0]), kind, 2, np.random.default_rng(3))
        assert_array_equal(
            by_default, distort(photo(PHOTOS[0]), kind, 2, np.random.default_rng(3), implementation=first)
        )
        assert not first.startswith("opencv")


def test_what_is_drawn_does_not_depend_on_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(among: Any) -> list[str]:
        rng = np.random.default_rng(0)
        return [draw_implementation(kind, rng, among) for kind in KINDS for _ in range(4)]

    before = {among: drawn(among) for among in ("default", "portable", "all")}
    without_opencv(monkeypatch)
    assert {among: drawn(among) for among in before} == before
    assert any(name == "opencv" for name in before["all"])
    assert not any(name == "opencv" for name in before["portable"])
    assert before["default"] == [implementations_of(kind)[0] for kind in KINDS for _ in range(4)]


def test_a_kind_with_one_implementation_draws_nothing() -> None:
    rng, untouched = np.random.default_rng(7), np.random.default_rng(7)
    for name in PAPER_KINDS:
        draw_implementation(KIND_BY_NAME[name], rng, "all")
    assert rng.random() == untouched.random()


def test_without_opencv_its_pictures_are_refused_and_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    without_opencv(monkeypatch)
    with pytest.raises(MissingExtra, match="opencv-python-headless"):
        distort(photo(PHOTOS[0]), "haze", 3, np.random.default_rng(0), implementation="opencv")
    with pytest.raises(MissingExtra, match="opencv-python-headless"):
        BlockDegradation(implementations="all")
    BlockDegradation(implementations="portable")(photo(PHOTOS[0]), np.random.default_rng(0))


def test_unknown_names_are_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="numpy, pillow, opencv"):
        distort(photo(PHOTOS[0]), "haze", 3, np.random.default_rng(0), implementation="torch")
    with pytest.raises(ConfigError, match="default, portable, all"):
        BlockDegradation(implementations="some")  # type: ignore[arg-type]


def test_composites_draw_implementations_by_seed() -> None:
    pixels = photo(PHOTOS[2])
    settings = {"grid": 2, "kinds": ("haze", "camera_shake"), "p_clean": 0.0, "feather": 0.0}
    one, same, default = (
        [BlockDegradation(**settings, implementations=among)(pixels, np.random.default_rng(n)).image for n in range(6)]  # type: ignore[arg-type]
        for among in ("portable", "portable", "default")
    )
    assert_array_equal(one, same)
    assert not np.array_equal(one, default)


def without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)


# --- what they do ----------------------------------------------------------------------------------------------------


def test_a_stop_of_exposure_doubles_linear_light() -> None:
    ramp = np.linspace(0.02, 0.7, 200, dtype=np.float64)[None, :, None].repeat(16, 0).repeat(3, 2)
    light = to_linear(ramp.transpose(2, 0, 1).astype(np.float32))
    for name, level, gain in (("over_exposure", 1, 2.0), ("over_exposure", 5, 16.0), ("under_exposure", 5, 1 / 16)):
        out = distort(ramp, name, level, np.random.default_rng(0))
        expected = np.minimum(gain * light, 1).transpose(1, 2, 0)
        np.testing.assert_allclose(
            to_linear(out.transpose(2, 0, 1).astype(np.float32)).transpose(1, 2, 0), expected, atol=1e-4
        )


def test_a_full_negative_is_the_inverse() -> None:
    pixels = photo(PHOTOS[0])
    assert_array_equal(distort(pixels, "negative", 5, np.random.default_rng(0)), 255 - pixels)


def test_a_cast_keeps_the_luminance_of_grey() -> None:
    grey = np.full((32, 32, 3), 0.4)
    for seed in range(8):
        for level in LEVELS:
            out = distort(grey, "color_cast", level, np.random.default_rng(seed))[0, 0]
            assert np.ptp(out) > 0.02
            light = to_linear(out[:, None, None].astype(np.float32)).ravel()
            assert float(light @ [0.2126, 0.7152, 0.0722]) == pytest.approx(
                float(to_linear(np.full((1, 1, 1), 0.4, np.float32)).item()), rel=2e-3
            )


@pytest.mark.parametrize("implementation", ["numpy", "numpy-plain"])
def test_sensor_noise_has_its_deviation_at_mid_grey_and_more_in_the_shadows(implementation: str) -> None:
    def deviation(shade: int) -> float:
        flat = np.full((200, 200, 3), shade, np.uint8)
        return float(distort(flat, "sensor_noise", 3, np.random.default_rng(0), implementation=implementation).std())

    assert deviation(118) == pytest.approx(15, rel=0.08)
    assert deviation(60) > deviation(118) > deviation(200)


@pytest.mark.parametrize(("name", "in_luma"), [("luminance_noise", True), ("chroma_noise", False)])
def test_noise_of_luma_and_of_chroma_stay_apart(name: str, *, in_luma: bool) -> None:
    flat = np.full((128, 128, 3), 0.5)
    for implementation in implementations_of(KIND_BY_NAME[name], "portable"):
        out = distort(flat, name, 3, np.random.default_rng(1), implementation=implementation)
        luma, blue, red = (plane.std() for plane in rgb_to_ycc(out.transpose(2, 0, 1).astype(np.float32)))
        if in_luma:
            assert luma > 0.04
            assert max(blue, red) < 1e-3
        else:
            assert min(blue, red) > 0.03
            assert luma < 0.005


def test_blurs_keep_flat_areas_and_the_mean_of_light() -> None:
    flat = np.full((40, 50, 3), 119, np.uint8)
    for name in ("camera_shake", "defocus"):
        for implementation in implementations_of(KIND_BY_NAME[name]):
            for level in LEVELS:
                out = distort(flat, name, level, np.random.default_rng(0), implementation=implementation)
                assert_array_equal(out, flat)


def test_apertures_have_the_same_area_and_paths_their_length() -> None:
    for radius in (1.5, 4, 9):
        for blades in (5, 6, 8):
            kernel = polygon(radius, blades, 0.3)
            assert kernel.sum() == pytest.approx(1)
            assert kernel.max() == pytest.approx(disk(radius).max(), rel=0.03)
    straight = path(np.stack([np.zeros(50), np.linspace(0, 8, 50)], axis=1))
    assert straight.sum() == pytest.approx(1)
    assert np.count_nonzero(straight.sum(axis=0)) == 9


def test_resampling_keeps_the_mean_and_straight_lines() -> None:
    stack = np.random.default_rng(0).random((2, 60, 84), dtype=np.float32)
    for size in ((20, 28), (13, 31)):
        assert area(stack, size).mean() == pytest.approx(stack.mean(), abs=1e-5)
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None, None].repeat(20, 1)
    large = bilinear(ramp, (40, 80))[0, 0]
    np.testing.assert_allclose(np.diff(large)[2:-2], np.diff(large)[10], atol=1e-6)
    np.testing.assert_allclose(box(stack, 2)[:, 5, 7], stack[:, 3:8, 5:10].mean(axis=(1, 2)), atol=1e-6)


def test_color_spaces_go_there_and_back() -> None:
    stack = np.random.default_rng(0).random((3, 20, 30), dtype=np.float32)
    np.testing.assert_allclose(from_linear(to_linear(stack)), stack, atol=1e-5)
    np.testing.assert_allclose(ycc_to_rgb(rgb_to_ycc(stack)), stack, atol=1e-5)


@pytest.mark.parametrize("shift", [(0, 0), (3, 5)])
def test_block_quantization_is_exact_for_small_steps_and_flat_for_large_ones(shift: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).random((37, 50), dtype=np.float32)
    fine = quantize_blocks(plane, 8, np.full((8, 8), 1e-4), 0.5, shift)
    assert np.abs(fine - plane).max() < 1e-3
    steps = np.full((8, 8), 1e3)
    steps[0, 0] = 1e-4
    coarse = quantize_blocks(plane, 8, steps, 0.5, shift)
    top, left = shift
    block = np.s_[top : top + 8, left : left + 8]
    np.testing.assert_allclose(coarse[block], plane[block].mean(), atol=1e-3)


def test_lost_blocks_are_macroblocks_and_more_at_every_level() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    out = distort(noise, "lost_blocks", 3, np.random.default_rng(1))
    changed = (out != noise).any(axis=2).reshape(14, 16, 14, 16).mean(axis=(1, 3))
    assert set(np.unique(changed.round(1))) <= {0.0, 0.9, 1.0}
    assert 10 <= (changed > 0).sum() <= 20


def test_operations_take_what_the_table_gives_them() -> None:
    from moslens.distortions import implementations

    for name, made in implementations._IMPLEMENTATIONS.items():
        for operation in made.values():
            arguments = list(inspect.signature(operation).parameters)
            assert arguments[2] == "rng"
            assert ("regions" in arguments) == KIND_BY_NAME[name].sparse
