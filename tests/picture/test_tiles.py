"""Tiles: where they lie, and that they are the picture's own pixels however it is stored."""

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from moslens.picture.load import Named, decode, load
from moslens.picture.tiles import TILE, TILES, Box, choose_tiles, has_tiles
from moslens.picture.windows import fitted_size

SIZE = 384


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with some structure everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


def test_pictures_up_to_twice_the_working_size_have_none() -> None:
    for shape in ((768, 600), (600, 768), (768, 768), (300, 200)):
        assert load(texture(*shape), working_size=SIZE, tiles=True).tiles == ()
    for shape in ((769, 600), (600, 769)):
        assert len(load(texture(*shape), working_size=SIZE, tiles=True).tiles) >= 1
    # a panorama keeps a shorter side of 32 px, so that it may not be shrunk at all
    assert not has_tiles(40, 2000, fitted_size(40, 2000, SIZE))
    assert has_tiles(100, 2000, fitted_size(100, 2000, SIZE))


def test_without_being_asked_for_there_are_none() -> None:
    assert load(texture(900, 1200), working_size=SIZE).tiles == ()


@settings(max_examples=40)
@given(st.integers(32, 5000), st.integers(32, 5000), st.integers(1, 9))
def test_tiles_lie_inside_apart_and_at_most_so_many(height: int, width: int, count: int) -> None:
    small = texture(*fitted_size(height, width, SIZE))
    boxes = choose_tiles(small, height, width, count=count)
    assert 1 <= len(boxes) <= count
    for box in boxes:
        assert 0 <= box.x <= box.x + box.width <= width
        assert 0 <= box.y <= box.y + box.height <= height
        assert (box.width, box.height) == (min(width, TILE), min(height, TILE))
        assert {type(number) for number in box} == {int}  # they go into JSON
    for one, other in combinations(boxes, 2):
        apart = one.x + TILE <= other.x or other.x + TILE <= one.x
        assert apart or one.y + TILE <= other.y or other.y + TILE <= one.y


@pytest.mark.parametrize(("height", "width", "cut"), [(3000, 4000, (2, 3)), (4000, 3000, (3, 2)), (500, 9000, (1, 6))])
def test_every_region_has_its_tile(height: int, width: int, cut: tuple[int, int]) -> None:
    boxes = choose_tiles(texture(*fitted_size(height, width, SIZE)), height, width)
    assert len(boxes) == TILES
    cells = [
        ((2 * b.y + b.height) * cut[0] // (2 * height), (2 * b.x + b.width) * cut[1] // (2 * width)) for b in boxes
    ]
    assert cells == [(row, column) for row in range(cut[0]) for column in range(cut[1])]


def test_tiles_lie_where_there_is_structure() -> None:
    small = np.full((288, 384, 3), 128, np.uint8)
    small[100:140, 40:80] = np.random.default_rng(0).integers(60, 200, (40, 40, 3))
    first = choose_tiles(small, 3000, 4000)[0]  # of 2 x 3 regions
    scale = 4000 / 384
    assert first.x == pytest.approx(40 * scale, abs=2 * scale)
    assert first.y == pytest.approx(100 * scale, abs=2 * scale)


def test_between_equal_places_the_middle_is_taken() -> None:
    boxes = choose_tiles(np.full((288, 384, 3), 90, np.uint8), 3000, 4000)
    for number, box in enumerate(boxes):
        row, column = divmod(number, 3)
        assert box.x + 192 == pytest.approx(4000 * (column + 0.5) / 3, abs=12)
        assert box.y + 192 == pytest.approx(1500 * (row + 0.5), abs=12)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_tiles_are_the_pixels_of_the_upright_picture(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(texture(1000, 1700, orientation), format, exif=exif)
    full = decode(data)
    picture = load(data, working_size=SIZE, tiles=True)
    assert len(picture.tiles) == TILES
    for tile in picture.tiles:
        assert np.array_equal(tile.pixels, tile.box.cut(full))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_the_picture_is_the_same_with_tiles_and_without(format: str) -> None:
    data = encoded(texture(1700, 2500), format)
    with_tiles, without = load(data, working_size=SIZE, tiles=True), load(data, working_size=SIZE)
    assert np.array_equal(with_tiles.pixels, without.pixels)
    assert (with_tiles.width, with_tiles.height) == (without.width, without.height)
    assert len(with_tiles.tiles) == TILES


def test_every_source_gives_the_same_tiles(tmp_path: Path) -> None:
    pixels = texture(1000, 1300)
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path)
    wanted = load(path, working_size=SIZE, tiles=True).tiles
    assert wanted
    for source in (path.read_bytes(), pixels, Image.fromarray(pixels), io.BytesIO(path.read_bytes())):
        found = load(source, working_size=SIZE, tiles=True).tiles
        assert [tile.box for tile in found] == [tile.box for tile in wanted]
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, wanted, strict=True))


def test_a_source_that_comes_over_a_network_is_read_once() -> None:
    data = encoded(texture(2000, 2600), "JPEG")
    reads = []

    def read() -> bytes:
        reads.append(1)
        return data

    assert load(Named("s3://bucket/x.jpg", read), working_size=SIZE, tiles=True).tiles
    assert reads == [1]


def test_a_smaller_working_size_has_smaller_tiles() -> None:
    picture = load(texture(900, 1200), working_size=224, tiles=True)
    assert {(tile.box.width, tile.box.height) for tile in picture.tiles} == {(224, 224)}


def test_a_box_cuts_rows_and_columns() -> None:
    assert Box(2, 1, 3, 2).cut(texture(10, 12)).shape == (2, 3, 3)
