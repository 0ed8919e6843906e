"""Harmless changes: what each does to a picture, and that none of them is a kind of distortion."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.paths import ROOT
from helpers.pictures import picture
from moslens.distortions import KINDS, distort, get_kind, implementations_of
from moslens.distortions.framing import LARGEST_MARK, MOST_CROPPED, THICKEST_FRAME
from moslens.distortions.harmless import HARMLESS, TURNS_GREY, change_harmlessly, draw_harmless, get_harmless
from moslens.distortions.reencoding import LARGEST_SCALE, LEAST_QUALITY, SMALLEST_SCALE
from moslens.errors import ConfigError, MissingExtra
from moslens.picture.notes import is_monochrome

EVERY = [(change.name, maker) for change in HARMLESS for maker in change.makers]
GREY = [each for each in EVERY if each[0] in ("black_and_white", "toned")]
SAME_SIZE = [each for each in EVERY if each[0] not in ("crop", "frame", "scaled")]

PHOTO = picture(240, 320, seed=3)


def changed(name: str, maker: str, seed: int = 0, photo: np.ndarray = PHOTO) -> np.ndarray:
    return change_harmlessly(photo, name, np.random.default_rng(seed), implementation=maker)


def multiple_correlation(plane: np.ndarray, photo: np.ndarray) -> float:
    """Correlation of a plane (H, W) with the mix of the photo's channels that is nearest to it."""
    terms = np.column_stack([photo.reshape(-1, 3), np.ones(photo.shape[0] * photo.shape[1])])
    mix = terms @ np.linalg.lstsq(terms, plane.ravel(), rcond=None)[0]
    return float(np.corrcoef(plane.ravel(), mix)[0, 1])


@pytest.mark.parametrize(("name", "maker"), EVERY)
def test_a_change_is_a_picture_and_a_function_of_its_generator(name: str, maker: str) -> None:
    before = PHOTO.copy()
    made = [changed(name, maker, seed) for seed in (0, 0, 1, 2, 3)]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(PHOTO, before)
    for each in made:
        assert each.dtype == np.uint8
        assert each.shape[2] == 3
        assert each.flags.c_contiguous
        assert each.shape != PHOTO.shape or (each != PHOTO).any()
    if name != "mirror":
        assert any(each.shape != made[0].shape or (each != made[0]).any() for each in made[2:])


@settings(max_examples=40, deadline=None)
@given(
    which=st.sampled_from(EVERY),
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(32, 90),
    width=st.integers(32, 90),
    shade=st.sampled_from([None, 0, 255]),
)
def test_any_picture_can_be_changed(
    which: tuple[str, str], seed: int, height: int, width: int, shade: int | None
) -> None:
    photo = picture(height, width, seed=1) if shade is None else np.full((height, width, 3), shade, np.uint8)
    made = changed(*which, seed, photo)
    for old, new in zip((height, width), made.shape[:2], strict=True):
        assert SMALLEST_SCALE * old - 1 <= new <= LARGEST_SCALE * old + 1
    if which in SAME_SIZE:
        assert made.shape == photo.shape


@pytest.mark.parametrize(("name", "maker"), GREY)
def test_greys_and_tones_have_one_colour_for_each_lightness(name: str, maker: str) -> None:
    for seed in range(6):
        made = changed(name, maker, seed)
        assert is_monochrome(made)
        spread = made.max(axis=2).astype(int) - made.min(axis=2)
        assert (spread.max() == 0) == (name == "black_and_white")
        # the picture is still there: a mix of the photo's channels explains it
        assert multiple_correlation(made.mean(axis=2), PHOTO) > 0.95


def test_conversions_to_grey_are_those_of_the_standards() -> None:
    """Pure red, green and blue become the weights of BT.601 and BT.709 in one seed or another."""
    primaries = np.zeros((16, 48, 3), np.uint8)
    for channel in range(3):
        primaries[:, 16 * channel : 16 * channel + 16, channel] = 255
    found = {
        tuple(int(changed("black_and_white", "numpy", seed, primaries)[0, 16 * c, 0]) for c in range(3))
        for seed in range(60)
    }
    assert {(76, 150, 29), (54, 182, 18), (85, 85, 85)} <= found
    assert len(found) > 8, "random mixes differ"
    channels = {
        tuple(int(changed("black_and_white", "pillow", seed, primaries)[0, 16 * c, 0]) for c in range(3))
        for seed in range(30)
    }
    assert {(255, 0, 0), (0, 255, 0)} < channels
    assert len(channels) == 3


def test_sizes_and_places_are_those_of_the_catalogue() -> None:
    np.testing.assert_array_equal(changed("mirror", "numpy"), PHOTO[:, ::-1])
    for seed in range(20):
        part = changed("crop", "numpy", seed)
        assert all(1 - MOST_CROPPED <= new / old <= 1 for new, old in zip(part.shape, PHOTO.shape, strict=True))
        assert any(
            (PHOTO[y : y + part.shape[0], x : x + part.shape[1]] == part).all()
            for y in range(PHOTO.shape[0] - part.shape[0] + 1)
            for x in range(PHOTO.shape[1] - part.shape[1] + 1)
        )
        framed = changed("frame", "numpy", seed)
        thickness = round(THICKEST_FRAME * PHOTO.shape[1]) + 3
        if framed.shape == PHOTO.shape:
            inside = np.s_[thickness:-thickness, thickness:-thickness]
            np.testing.assert_array_equal(framed[inside], PHOTO[inside])
        else:
            around = (framed.shape[0] - PHOTO.shape[0]) // 2
            assert 1 <= around <= thickness
        assert len(np.unique(framed[0].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("maker", list(get_harmless("corner_mark").makers))
def test_a_mark_stays_in_one_corner(maker: str) -> None:
    corners = set()
    for seed in range(16):
        rows, columns = np.nonzero((changed("corner_mark", maker, seed) != PHOTO).any(axis=2))
        assert len(rows) > 10
        assert np.ptp(rows) < LARGEST_MARK[0] * PHOTO.shape[0] + 1
        assert np.ptp(columns) < LARGEST_MARK[1] * PHOTO.shape[1] + 1
        corners.add((rows.mean() > 120, columns.mean() > 160))
    assert len(corners) == 4


@pytest.mark.parametrize("maker", list(get_harmless("reencoded").makers))
def test_encoding_again_is_hardly_seen(maker: str) -> None:
    fault = distort(PHOTO, "recompressed_jpeg", 1, np.random.default_rng(0))
    limit = np.abs(fault.astype(int) - PHOTO).mean()
    for seed in range(5):
        change = np.abs(changed("reencoded", maker, seed).astype(int) - PHOTO).mean()
        assert 0 < change < 0.75 * limit


def test_no_harmless_change_is_a_fault() -> None:
    assert not {change.name for change in HARMLESS} & {kind.name for kind in KINDS}
    assert not {change.label for change in HARMLESS} & {kind.label for kind in KINDS}
    # where a change and a kind do the same in another strength, the strengths are far apart
    for name in ("jpeg", "recompressed_jpeg"):
        assert max(get_kind(name).levels) < LEAST_QUALITY - 30
    for name in ("low_resolution", "thumbnail"):
        assert min(get_kind(name).levels) > 1 / SMALLEST_SCALE + 0.3
        assert min(get_kind(name).levels) > LARGEST_SCALE
    photo = picture(240, 320, seed=5)
    for implementation in implementations_of(get_kind("color_cast")):
        cast = distort(photo, "color_cast", 1, np.random.default_rng(2), implementation=implementation)
        assert not is_monochrome(cast), "a cast on a colour photo is a fault"
    for implementation in implementations_of(get_kind("watermark")):
        marked = distort(photo, "watermark", 1, np.random.default_rng(2), implementation=implementation)
        rows, columns = np.nonzero((marked != photo).any(axis=2))
        assert np.ptp(rows) > 2 * LARGEST_MARK[0] * 240
        assert np.ptp(columns) > 2 * LARGEST_MARK[1] * 320


def test_kinds_that_leave_no_colours_are_known() -> None:
    photo = picture(240, 320, seed=5)
    assert not is_monochrome(photo)
    grey = {
        kind.name
        for kind in KINDS
        if kind.group == "color"
        for level in kind.active_levels
        if is_monochrome(distort(photo, kind, level, np.random.default_rng(0)))
    }
    assert grey == set(TURNS_GREY)


def test_the_list_of_the_docs_is_the_catalogue() -> None:
    text = (ROOT / "docs" / "method.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (?:`(.+?)`|-) \|$", text.split("## 15.")[1], re.M)
    assert [name for name, _ in rows] == [change.name for change in HARMLESS]
    faults = {fault for _, listed in rows for fault in re.findall(r"\w+", listed)}
    assert faults
    assert faults <= {kind.name for kind in KINDS}


def test_draws_do_not_depend_on_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [draw_harmless(np.random.default_rng(seed), "all") for seed in range(400)]
    assert {(change.name, maker) for change, maker in pairs} == set(EVERY)
    portable = [draw_harmless(np.random.default_rng(seed), "portable")[1] for seed in range(100)]
    assert not any(name.startswith("opencv") for name in portable)
    default = [draw_harmless(np.random.default_rng(seed), "default") for seed in range(100)]
    assert all(maker == next(iter(change.makers)) for change, maker in default)
    monkeypatch.setitem(sys.modules, "cv2", None)
    again = [draw_harmless(np.random.default_rng(seed), "all") for seed in range(400)]
    assert [(c.name, m) for c, m in again] == [(c.name, m) for c, m in pairs]
    with pytest.raises(MissingExtra, match="opencv"):
        changed("toned", "opencv")


def test_what_is_no_picture_or_no_change_is_refused() -> None:
    rng = np.random.default_rng(0)
    for wrong in (PHOTO[..., 0], PHOTO[:8], np.float32(PHOTO) / 255, PHOTO.astype(np.int32)):
        with pytest.raises((TypeError, ValueError)):
            change_harmlessly(wrong, "mirror", rng)
    with pytest.raises(ConfigError, match=r"'toneed'; did you mean"):
        change_harmlessly(PHOTO, "toneed", rng)
    with pytest.raises(ConfigError, match="no implementation 'gimp'"):
        change_harmlessly(PHOTO, "toned", rng, implementation="gimp")
