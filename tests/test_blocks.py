"""Block-wise Degradation Modelling: exact labels for any size, grid and seed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from helpers.pictures import picture
from moslens.blocks import FEATHER, BlockDegradation, Composite, draw_grid, grid_blocks
from moslens.distortions import GROUPS, KIND_INDEX, KINDS
from moslens.errors import ConfigError, ImageTooSmall

DEFAULT = BlockDegradation()


def degrade(seed: int = 0, size: tuple[int, int] = (96, 112), **settings_: object) -> tuple[np.ndarray, Composite]:
    image = picture(*size, seed=seed)
    return image, BlockDegradation(**settings_)(image, np.random.default_rng(seed))  # type: ignore[arg-type]


def change(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean() / 255)


@pytest.mark.parametrize(
    ("grid", "cuts"),
    [(2, [0, 7, 14]), (3, [0, 5, 9, 14]), (4, [0, 4, 7, 10, 14]), (7, list(range(0, 15, 2)))],
)
def test_cuts_of_a_crop_are_those_of_the_tokens(grid: int, cuts: list[int]) -> None:
    blocks = grid_blocks(224, 224, grid)
    assert [block.x // 16 for block in blocks[:grid]] == cuts[:-1]
    assert [block.y // 16 for block in blocks[::grid]] == cuts[:-1]
    assert all(value % 16 == 0 for block in blocks for value in (block.x, block.y, block.width, block.height))


@given(
    width=st.integers(16, 5000),
    height=st.integers(16, 5000),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
)
def test_blocks_tile_the_picture(width: int, height: int, rows: int, columns: int) -> None:
    if width // 16 < columns or height // 16 < rows:
        with pytest.raises(ImageTooSmall, match=f"{columns * 16} x {rows * 16} px"):
            grid_blocks(width, height, (rows, columns))
        return
    blocks = grid_blocks(width, height, (rows, columns))
    assert [(block.row, block.column) for block in blocks] == [divmod(k, columns) for k in range(rows * columns)]
    assert sum(block.width * block.height for block in blocks) == width * height
    for block in blocks:
        assert block.x % 16 == block.y % 16 == 0
        assert block.width >= 16
        assert block.height >= 16
        right = [b for b in blocks if (b.row, b.column) == (block.row, block.column + 1)]
        assert (right[0].x if right else width) == block.x + block.width
        below = [b for b in blocks if (b.row, b.column) == (block.row + 1, block.column)]
        assert (below[0].y if below else height) == block.y + block.height


@given(
    height=st.integers(64, 150),
    width=st.integers(64, 150),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    feather=st.sampled_from([0.0, 1.0]),
    p_clean=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    levels=st.sampled_from(["half-gaussian", "uniform"]),
    as_float=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=80)
def test_labels_hold_for_any_picture(
    *,
    height: int,
    width: int,
    rows: int,
    columns: int,
    feather: float,
    p_clean: float,
    levels: str,
    as_float: bool,
    seed: int,
) -> None:
    image = picture(height, width, seed)
    if as_float:
        image = image.astype(np.float32) / 255
    before = image.copy()
    bdm = BlockDegradation(grid=(rows, columns), feather=feather, p_clean=p_clean, levels=levels)  # type: ignore[arg-type]
    result = bdm(image, np.random.default_rng(seed))
    assert_array_equal(image, before)
    assert result.image.shape == image.shape
    assert result.image.dtype == image.dtype
    assert_array_equal(result.views[0], image)
    assert len(result.views) == len(result.recipes)
    assert result.recipes[0] == ()

    groups = [KINDS[recipe[0][0]].group for recipe in result.recipes[1:]]
    assert len(groups) == len(set(groups)) <= min(4, rows * columns)

    scale = 1 if as_float else 255
    for block, view, kind, level in zip(result.blocks, result.assignment, result.kinds, result.levels, strict=True):
        part = result.image[block.slices].astype(float)
        if view == 0:
            assert (kind, level) == (-1, 0)
        else:
            assert ((int(kind), int(level)),) == result.recipes[view]
            assert level in KINDS[kind].active_levels
            assert np.abs(part - image[block.slices]).mean() / scale >= 1 / 255 - 1e-7
        if not result.feathered:
            assert_array_equal(result.image[block.slices], result.views[view][block.slices])
        inner = (slice(FEATHER, -FEATHER), slice(FEATHER, -FEATHER))
        assert np.abs(part - result.views[view][block.slices])[inner].max(initial=0) <= 1e-5 * scale

    again = bdm(image, np.random.default_rng(seed))
    assert_array_equal(again.image, result.image)
    assert_array_equal(again.assignment, result.assignment)
    assert again.recipes == result.recipes


@given(
    height=st.integers(64, 150),
    width=st.integers(64, 150),
    grid=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=40)
def test_flip_turns_picture_and_labels_together(height: int, width: int, grid: int, seed: int) -> None:
    _, result = degrade(seed, (height, width), grid=grid, feather=0.0)
    flipped = result.flip()
    assert_array_equal(flipped.image, result.image[:, ::-1])
    assert [(b.row, b.column) for b in flipped.blocks] == [divmod(k, grid) for k in range(grid * grid)]
    for block, view in zip(flipped.blocks, flipped.assignment, strict=True):
        assert_array_equal(flipped.image[block.slices], flipped.views[view][block.slices])
    for block, kind, level in zip(flipped.blocks, flipped.kinds, flipped.levels, strict=True):
        mirror = result.blocks.index(replace(block, column=grid - 1 - block.column, x=width - block.x - block.width))
        assert (result.kinds[mirror], result.levels[mirror]) == (kind, level)
    back = flipped.flip()
    assert back.blocks == result.blocks
    assert_array_equal(back.image, result.image)
    assert_array_equal(back.assignment, result.assignment)


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_flip_keeps_the_geometry_of_a_training_crop(grid: int) -> None:
    _, result = degrade(size=(224, 224), grid=grid)
    assert result.flip().blocks == result.blocks


def test_every_view_is_used_and_four_blocks_differ() -> None:
    for seed in range(20):
        _, result = degrade(seed, grid=2, p_clean=0.0)
        assert sorted(result.assignment) == [1, 2, 3, 4]
        assert len(set(result.kinds)) == 4
        _, result = degrade(seed, grid=3, p_clean=0.0)
        assert set(result.assignment) == set(range(1, len(result.views)))
        assert len(result.views) in (4, 5)


@pytest.mark.parametrize("types", range(1, 8))
def test_types_sets_the_number_of_distortions(types: int) -> None:
    _, result = degrade(grid=3, types=types)
    assert len(result.views) == types + 1
    _, result = degrade(grid=(1, 2), types=types)
    assert len(result.views) == min(types, 2) + 1


def test_share_of_clean_blocks() -> None:
    rng = np.random.default_rng(0)
    image = picture(64, 64)
    bdm = BlockDegradation(grid=4, p_clean=0.3, kinds=("darken",))
    clean = [(bdm(image, rng).assignment == 0).mean() for _ in range(150)]
    assert abs(np.mean(clean) - 0.3) < 0.04


def test_half_gaussian_levels() -> None:
    rng = np.random.default_rng(0)
    bdm = BlockDegradation(grid=1, p_clean=0.0, kinds=("darken",))
    image = picture(32, 32)
    share = np.bincount([bdm(image, rng).levels[0] for _ in range(3000)], minlength=6)[1:] / 3000
    assert np.abs(share - [0.293, 0.270, 0.213, 0.143, 0.081]).max() < 0.03
    uniform = replace(bdm, levels="uniform")
    share = np.bincount([uniform(image, rng).levels[0] for _ in range(3000)], minlength=6)[1:] / 3000
    assert np.abs(share - 0.2).max() < 0.03


def test_kinds_of_a_group_are_equally_likely_and_no_op_levels_never_drawn() -> None:
    rng = np.random.default_rng(0)
    bdm = BlockDegradation(grid=1, p_clean=0.0, kinds=("gaussian_blur", "motion_blur"), min_change=0)
    drawn = [bdm(picture(32, 32), rng) for _ in range(600)]
    assert 1 not in {int(result.levels[0]) for result in drawn}
    share = np.mean([result.kinds[0] == KIND_INDEX["motion_blur"] for result in drawn])
    assert abs(share - 0.5) < 0.07


def test_flat_picture_is_labelled_clean_where_nothing_shows() -> None:
    """Blur cannot change a flat picture: after the last try the blocks are pristine, and say so."""
    grey = np.full((96, 96, 3), 119, np.uint8)
    result = BlockDegradation(kinds=("gaussian_blur", "hsv_saturation"), p_clean=0.0)(grey, np.random.default_rng(0))
    assert_array_equal(result.assignment, 0)
    assert_array_equal(result.kinds, -1)
    assert_array_equal(result.image, grey)


def test_a_half_flat_picture_keeps_the_blocks_that_show() -> None:
    image = picture(96, 96)
    image[:, 32:] = 119
    for seed in range(10):
        bdm = BlockDegradation(grid=2, kinds=("gaussian_blur",), p_clean=0.0, level=5, feather=0.0)
        result = bdm(image, np.random.default_rng(seed))
        assert_array_equal(result.assignment, [1, 0, 1, 0])


@pytest.mark.parametrize("name", ["color_block", "non_eccentricity"])
@pytest.mark.parametrize("grid", [2, 3, 4])
def test_sparse_kinds_reach_every_block(name: str, grid: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for level in range(1, 6):
        bdm = BlockDegradation(grid=grid, kinds=(name,), p_clean=0.0, level=level, min_change=0, feather=0)
        result = bdm(noise, np.random.default_rng(level))
        for block in result.blocks:
            assert (result.image[block.slices] != noise[block.slices]).any(), (level, block)


def test_feathered_seams_blend_linearly() -> None:
    black = np.zeros((64, 64, 3), np.float32)
    for seed in range(20):
        bdm = BlockDegradation(grid=(1, 2), kinds=("mean_shift", "brighten"), p_clean=0.5, feather=1.0, level=4)
        result = bdm(black, np.random.default_rng(seed))
        if result.feathered and list(result.kinds) == [KIND_INDEX["mean_shift"], -1]:
            break
    left = result.views[1][0, 0, 0]
    expected = left * np.clip((32 + 4 - (np.arange(64) + 0.5)) / 8, 0, 1)
    assert np.abs(result.image[..., 0] - expected).max() < 1e-6


def test_global_single_is_one_distortion_everywhere() -> None:
    image, result = degrade(mode="global-single", p_clean=0.0)
    assert_array_equal(result.assignment, 1)
    assert len(result.recipes[1]) == 1
    assert_array_equal(result.image, result.views[1])
    assert change(result.image, image) >= 1 / 255


def test_global_chain_uses_one_to_four_groups() -> None:
    lengths = set()
    for seed in range(60):
        _, result = degrade(seed, (64, 64), mode="global-chain", p_clean=0.0, grid=2)
        chain = result.recipes[1]
        groups = [KINDS[kind].group for kind, _ in chain]
        assert len(set(groups)) == len(groups)
        lengths.add(len(chain))
        strongest = max(level for _, level in chain)
        assert set(result.levels) == {strongest}
        assert (int(result.kinds[0]), strongest) in chain
    assert lengths == {1, 2, 3, 4}


def test_global_modes_keep_pristine_pictures() -> None:
    image = picture(64, 64)
    for mode in ("global-chain", "global-single"):
        bdm = BlockDegradation(mode=mode, grid=2, p_clean=1.0)  # type: ignore[arg-type]
        result = bdm(image, np.random.default_rng(0))
        assert_array_equal(result.image, image)
        assert_array_equal(result.kinds, -1)


def test_mode_none() -> None:
    image, result = degrade(mode="none")
    assert_array_equal(result.image, image)
    assert_array_equal(result.assignment, 0)
    assert len(result.views) == 1


def test_draw_grid() -> None:
    rng = np.random.default_rng(0)
    share = np.bincount([draw_grid(rng) for _ in range(4000)])[2:] / 4000
    assert np.abs(share - [0.5, 0.3, 0.2]).max() < 0.03


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid": 0},
        {"grid": (2, 0)},
        {"grid": 1.5},
        {"grid": (2, 2, 2)},
        {"min_change": float("nan")},
        {"mode": "blocks"},
        {"levels": "gaussian"},
        {"level": 6},
        {"types": 0},
        {"p_clean": 1.5},
        {"feather": -0.1},
        {"max_tries": 0},
        {"kinds": ("blurr",)},
        {"kinds": ()},
        {"kinds": ("gaussian_blur", "mean_shift"), "level": 1},
    ],
)
def test_settings_that_cannot_be_met(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BlockDegradation(**wrong)  # type: ignore[arg-type]


def test_all_groups_can_be_met_in_one_picture() -> None:
    _, result = degrade(grid=4, types=9, p_clean=0.0)
    assert {KINDS[recipe[0][0]].group for recipe in result.recipes[1:]} == set(GROUPS)
