"""The working size, complete coverage by windows, reflection padding and training crops."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.hostile import photo
from moslens.picture.windows import (
    SHORTEST,
    SHORTEST_PASS,
    WINDOW,
    WINDOWS,
    View,
    cover,
    fit,
    fitted_size,
    pad,
    training_crop,
    window_origins,
)

sides = st.integers(1, 700)


def test_window_starts_of_every_length_cover_it_and_mirror_each_other() -> None:
    for length in range(1, 3000):
        starts = [y for y, _ in window_origins(length, 224)]
        assert len(starts) == -(-length // 224)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - 224)
        gaps = np.diff(starts)
        assert np.all((gaps > 0) & (gaps <= 224)), length
        mirrored = [starts[-1] - start for start in reversed(starts)]
        assert np.abs(np.subtract(starts, mirrored)).max() <= 1, length
        assert np.ptp(gaps) <= 2 if len(gaps) else True


def test_window_origins_go_row_by_row() -> None:
    assert window_origins(384, 512) == [(y, x) for y in (0, 160) for x in (0, 144, 288)]


@settings(deadline=None)
@given(height=sides, width=sides, size=st.integers(8, 224))
def test_every_pixel_is_in_a_window(height: int, width: int, size: int) -> None:
    seen = np.zeros((max(height, size), max(width, size)), bool)
    for y, x in window_origins(height, width, size):
        seen[y : y + size, x : x + size] = True
    assert seen.all()


@settings(deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700))
def test_windows_hold_the_picture_at_their_origins(height: int, width: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    padded = pad(pixels)
    origins = window_origins(height, width)
    before = [max(0, WINDOW - side) // 2 for side in (height, width)]
    pieces = list(WINDOWS.pieces(pixels))
    assert np.array_equal(cover(pixels), [piece.pixels for piece in pieces])
    for piece, (y, x) in zip(pieces, origins, strict=True):
        assert (piece.y, piece.x) == (y - before[0], x - before[1])
        assert (piece.height, piece.width) == (WINDOW, WINDOW)
        assert np.array_equal(piece.pixels, padded[y : y + WINDOW, x : x + WINDOW])


@settings(deadline=None)
@given(height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_a_whole_picture_is_seen_in_one_piece_or_in_a_few_if_it_is_very_long(height: int, width: int) -> None:
    view = View(whole=True, working_size=384)
    height, width = fitted_size(height, width, view.working_size, view.shortest)
    rows, columns = np.indices((height, width), np.int32)
    address = (rows * width + columns)[..., None]
    pieces = list(view.pieces(address))  # type: ignore[arg-type]
    assert len(pieces) == -(-max(height, width) // 384)
    assert (len(pieces) == 1) == (max(height, width) <= 384)
    seen = np.zeros(height * width, bool)
    for piece in pieces:
        assert all(side % 32 == 0 and side <= 384 for side in piece.pixels.shape[:2])
        assert all(128 <= side <= 384 for side in (piece.height, piece.width))
        assert all(
            0 <= full - part < 32
            for full, part in zip(piece.pixels.shape[:2], (piece.height, piece.width), strict=True)
        )
        seen[piece.pixels.ravel()] = True
        y, x = max(0, piece.y), max(0, piece.x)
        assert piece.pixels[y - piece.y, x - piece.x, 0] == y * width + x
        # what is behind the picture mirrors it
        if piece.pixels.shape[0] > piece.height:
            assert np.array_equal(piece.pixels[piece.height], piece.pixels[piece.height - 2])
    assert seen.all()


def test_the_shorter_side_of_a_whole_picture_stays_above_its_bound() -> None:
    assert fitted_size(1000, 6000, 384, SHORTEST_PASS) == (128, 768)
    assert fitted_size(2000, 3000, 384, SHORTEST_PASS) == (256, 384)
    assert fitted_size(90, 6000, 384, SHORTEST_PASS) == (90, 6000)


def reflected(position: int, length: int) -> int:
    """Where a position outside 0 .. length - 1 falls when the picture is a hall of mirrors."""
    if length == 1:
        return 0
    position %= 2 * (length - 1)
    return min(position, 2 * (length - 1) - position)


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(1, 70))
def test_padding_is_a_reflection_on_both_sides(height: int, width: int, size: int) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    padded = pad(pixels, size)
    assert padded.shape == (max(height, size), max(width, size), 3)
    above, left = max(0, size - height) // 2, max(0, size - width) // 2
    rows = [reflected(y - above, height) for y in range(padded.shape[0])]
    columns = [reflected(x - left, width) for x in range(padded.shape[1])]
    assert np.array_equal(padded, pixels[rows][:, columns])


@settings(deadline=None)
@given(height=st.integers(1, 20_000), width=st.integers(1, 20_000), working_size=st.integers(64, 2000))
def test_fit_keeps_the_aspect_and_never_enlarges(height: int, width: int, working_size: int) -> None:
    new_height, new_width = fitted_size(height, width, working_size)
    assert new_height <= height
    assert new_width <= width
    if max(height, width) <= working_size or min(height, width) <= SHORTEST:
        assert (new_height, new_width) == (height, width)
    else:
        assert min(new_height, new_width) >= SHORTEST
        if min(new_height, new_width) > SHORTEST:
            assert max(new_height, new_width) == working_size
    # Each side is its exact length to half a pixel, for one common factor.
    lowest = max((new_height - 0.5) / height, (new_width - 0.5) / width)
    highest = min((new_height + 0.5) / height, (new_width + 0.5) / width)
    assert lowest <= highest


def test_a_panorama_keeps_its_short_side_and_more_than_the_cap() -> None:
    assert fitted_size(400, 20_000, 512) == (32, 1600)
    assert fitted_size(20_000, 400, 512) == (1600, 32)
    assert fitted_size(32, 9000, 512) == (32, 9000)


def test_fit_averages_over_the_area_of_the_source() -> None:
    checkerboard = (np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8)
    fitted = fit(np.repeat(checkerboard[..., None], 3, axis=2), 128)
    assert fitted.shape == (128, 128, 3)
    assert np.abs(fitted[2:-2, 2:-2].astype(int) - 128).max() <= 2  # point sampling would give black or white
    flat = fit(np.full((900, 700, 3), (10, 200, 77), np.uint8), 300)
    assert np.array_equal(np.unique(flat.reshape(-1, 3), axis=0), [(10, 200, 77)])


def test_fit_takes_arrays_and_pil_images_alike() -> None:
    pixels = photo(300, 400)
    image = fit(Image.fromarray(pixels), 100)
    assert isinstance(image, Image.Image)
    assert image.size == (100, 75)
    assert np.array_equal(fit(pixels, 100), np.asarray(image))
    assert fit(pixels, 400) is pixels


@settings(deadline=None)
@given(height=st.integers(1, 120), width=st.integers(1, 120), size=st.integers(1, 90), seed=st.integers(0, 99))
def test_a_training_crop_is_part_of_the_picture_or_its_mirror(height: int, width: int, size: int, seed: int) -> None:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([y, x, y ^ x], -1).astype(np.uint8)  # every pixel names its place
    crop = training_crop(pixels, np.random.default_rng(seed), size)
    padded = pad(pixels, size)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size, 3))[:, :, 0]
    same = (windows == crop).all((2, 3, 4)).any()
    mirrored = (windows == crop[:, ::-1]).all((2, 3, 4)).any()
    assert crop.shape == (size, size, 3)
    assert crop.flags.c_contiguous
    assert same or mirrored


def test_training_crops_reach_every_place_and_flip_half_of_the_time() -> None:
    y, x = np.mgrid[:230, :228]
    pixels = np.stack([y, x, x], -1).astype(np.uint8)
    rng = np.random.default_rng(1)
    crops = [training_crop(pixels, rng) for _ in range(600)]
    flipped = np.array([crop[0, 0, 1] > crop[0, 1, 1] for crop in crops])
    corners = {(int(crop[0, 0, 0]), int(crop[0, :, 1].min())) for crop in crops}
    assert 0.4 < flipped.mean() < 0.6
    assert corners == {(top, left) for top in range(7) for left in range(5)}
    assert not any(
        crop[0, 0, 1] > crop[0, 1, 1] for crop in (training_crop(pixels, rng, flip=False) for _ in range(50))
    )


def test_the_same_generator_gives_the_same_crops() -> None:
    pixels = photo(400, 300)
    first, second = (training_crop(pixels, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second)
