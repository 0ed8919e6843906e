"""The contract of every kind: the published table, and what holds for any picture, level and seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from helpers.pictures import picture
from moslens.distortions import (
    GROUPS,
    KIND_BY_NAME,
    KIND_INDEX,
    KINDS,
    LEVELS,
    PAPER_KINDS,
    distort,
    get_kind,
    kind_names,
)
from moslens.errors import ConfigError

NAMES = [kind.name for kind in KINDS]
PAPER = KINDS[:26]

KADID = {
    "gaussian_blur": (0.1, 0.5, 1, 2, 5),
    "lens_blur": (1, 2, 4, 6, 8),
    "motion_blur": (1, 2, 4, 6, 10),
    "color_diffusion": (1, 3, 6, 8, 12),
    "color_shift": (1, 3, 6, 8, 12),
    "color_quantization": (64, 48, 32, 16, 8),
    "hsv_saturation": (0.4, 0.2, 0.1, 0, -0.4),
    "lab_saturation": (1, 2, 3, 6, 9),
    "jpeg2000": (16, 32, 45, 120, 400),
    "jpeg": (43, 36, 24, 7, 4),
    "white_noise": (0.001, 0.002, 0.003, 0.005, 0.01),
    "color_noise": (0.0001, 0.0005, 0.001, 0.002, 0.003),
    "impulse_noise": (0.001, 0.005, 0.01, 0.02, 0.03),
    "multiplicative_noise": (0.001, 0.005, 0.01, 0.02, 0.05),
    "denoise": (0.01, 0.03, 0.05, 0.1, 0.15),
    "brighten": (0.1, 0.2, 0.4, 0.7, 1.1),
    "darken": (0.05, 0.1, 0.2, 0.4, 0.8),
    "mean_shift": (0.15, 0.08, 0, -0.08, -0.15),
    "jitter": (0.05, 0.1, 0.2, 0.5, 1),
    "non_eccentricity": (20, 40, 60, 80, 100),
    "pixelate": (0.01, 0.05, 0.1, 0.2, 0.5),
    "quantization": (20, 16, 13, 10, 7),
    "color_block": (2, 4, 6, 8, 10),
    "high_sharpen": (1, 2, 3, 6, 12),
    "contrast_change": (0.3, 0.15, 0, -0.4, -0.6),
}

ARNIQA_INSTEAD = {
    "jpeg2000": (16, 32, 45, 120, 170),
    "mean_shift": (0, 0.08, -0.08, 0.15, -0.15),
    "contrast_change": (0, 0.15, -0.4, 0.3, -0.6),
    "nonlinear_contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
}

PHOTOGRAPHIC = [
    "under_exposure",
    "over_exposure",
    "haze",
    "color_cast",
    "negative",
    "banding",
    "sensor_noise",
    "luminance_noise",
    "chroma_noise",
    "noise_reduction",
    "camera_shake",
    "defocus",
    "recompressed_jpeg",
    "block_codec",
    "low_resolution",
    "thumbnail",
    "moire",
    "lost_blocks",
    "watermark",
    "rolling_lines",
    "sharpening_halos",
]

GROUP_SIZES = {
    "blur": 3,
    "color": 5,
    "compression": 2,
    "noise": 5,
    "brightness": 3,
    "spatial": 5,
    "sharpness": 3,
}


def test_table_has_the_published_levels() -> None:
    published = KADID | ARNIQA_INSTEAD
    assert {kind.name: kind.levels for kind in PAPER} == published


def test_kinds_from_another_table_say_so() -> None:
    for kind in PAPER:
        assert ("ARNIQA" in kind.source) == (kind.name not in ("color_quantization", "denoise")), kind
        assert ("KADID" in kind.source) == (kind.name not in ARNIQA_INSTEAD), kind


def test_groups_have_the_published_sizes() -> None:
    assert {group: sum(kind.group == group for kind in PAPER) for group in GROUP_SIZES} == GROUP_SIZES
    assert (*GROUP_SIZES, "exposure", "resolution") == GROUPS


def test_names_index_and_lookup_agree() -> None:
    assert len(set(NAMES)) == 47
    assert kind_names("paper") == PAPER_KINDS == tuple(NAMES[:26])
    assert kind_names("all") == tuple(NAMES)
    for index, kind in enumerate(KINDS):
        assert KIND_INDEX[kind.name] == index
        assert KIND_BY_NAME[kind.name] is kind is get_kind(kind.name)


def test_class_ids_do_not_move() -> None:
    """Stored banks and trained heads hold these numbers."""
    assert NAMES[:3] == ["gaussian_blur", "lens_blur", "motion_blur"]
    assert (KIND_INDEX["jpeg"], KIND_INDEX["denoise"], KIND_INDEX["nonlinear_contrast"]) == (9, 14, 25)
    assert NAMES[26:] == PHOTOGRAPHIC


def test_every_kind_has_a_plain_label() -> None:
    for kind in KINDS:
        assert kind.label, kind.name
        assert kind.label.isascii()
        assert "_" not in kind.label


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="motion_blur"):
        get_kind("motionblur")
    with pytest.raises(ConfigError, match="moslens distortions"):
        get_kind("zzz")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_pure_and_seeded(name: str, level: int, dtype: type) -> None:
    image = picture().astype(dtype)
    if dtype is not np.uint8:
        image /= 255
    before = image.copy()
    image.flags.writeable = False
    out = distort(image, name, level, np.random.default_rng(5))
    again = distort(image, name, level, np.random.default_rng(5))
    assert out.shape == image.shape
    assert out.dtype == dtype
    assert out.min() >= 0
    assert out.max() <= (255 if dtype is np.uint8 else 1)
    assert_array_equal(out, again)
    assert_array_equal(image, before)
    assert not np.shares_memory(out, image)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_but_the_no_ops_changes_the_picture(name: str, level: int) -> None:
    image = picture()
    same = np.array_equal(distort(image, name, level, np.random.default_rng(1)), image)
    # Lab gain 1 goes through float32 Lab and back: that must cost nothing either.
    assert same == (level in KIND_BY_NAME[name].no_op_levels)


@pytest.mark.parametrize("name", NAMES)
def test_float_and_uint8_agree(name: str) -> None:
    image = picture()
    whole = distort(image, name, 3, np.random.default_rng(2))
    exact = distort(image.astype(np.float64) / 255, name, 3, np.random.default_rng(2))
    assert np.abs(whole / 255 - exact).max() <= 0.51 / 255


@given(
    name=st.sampled_from(NAMES),
    level=st.sampled_from(LEVELS),
    height=st.integers(16, 70),
    width=st.integers(16, 70),
    seed=st.integers(0, 2**32 - 1),
    fill=st.sampled_from(["noise", "black", "white", "grey", "picture"]),
)
@settings(deadline=None, max_examples=250)
def test_any_size_and_content(*, name: str, level: int, height: int, width: int, seed: int, fill: str) -> None:
    rng = np.random.default_rng(seed)
    image = {
        "noise": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "black": np.zeros((height, width, 3), np.uint8),
        "white": np.full((height, width, 3), 255, np.uint8),
        "grey": np.full((height, width, 3), 119, np.uint8),
        "picture": picture(height, width, seed),
    }[fill]
    before = image.copy()
    out = distort(image, name, level, np.random.default_rng(seed))
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert_array_equal(image, before)
    assert_array_equal(out, distort(image, name, level, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", [kind.name for kind in PAPER if kind.group in ("blur", "color")])
def test_flat_grey_stays_flat_grey(name: str) -> None:
    image = np.full((40, 50, 3), 119, np.uint8)
    for level in LEVELS:
        assert_array_equal(distort(image, name, level, np.random.default_rng(0)), image)


def test_a_view_that_is_not_contiguous() -> None:
    image = picture()[:, ::-1]
    for name in NAMES:
        expected = distort(np.ascontiguousarray(image), name, 4, np.random.default_rng(3))
        assert_array_equal(distort(image, name, 4, np.random.default_rng(3)), expected)


@pytest.mark.parametrize("level", [0, 6, -1, 2.5])
def test_wrong_level(level: float) -> None:
    with pytest.raises(ValueError, match="1 to 5"):
        distort(picture(), "jpeg", level, np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (64, 64, 1), (15, 64, 3), (64, 15, 3), (0, 0, 3)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="H x W x 3"):
        distort(np.zeros(shape, np.uint8), "jpeg", 1, np.random.default_rng(0))


@pytest.mark.parametrize("worst", [255.0, -0.01, np.nan])
def test_floats_outside_the_range(worst: float) -> None:
    """Floats from 0 to 255 are the usual mistake; cut to 1 they would be a white picture."""
    image = np.full((32, 32, 3), 0.5, np.float32)
    image[3, 4, 1] = worst
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        distort(image, "jpeg", 1, np.random.default_rng(0))


@pytest.mark.parametrize("image", [picture().astype(np.int64), picture().astype(np.uint16), picture().tolist()])
def test_wrong_type(image: object) -> None:
    with pytest.raises(TypeError, match="uint8"):
        distort(image, "jpeg", 1, np.random.default_rng(0))  # type: ignore[arg-type]
