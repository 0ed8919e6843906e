"""JPEGs far above the working size are decoded at a fraction of it: when, how close, and what stays as it was."""

import io

import numpy as np
import pytest
from PIL import Image

from helpers.hostile import ORIENTATION, STORED, encode, photo, rgb_profile
from helpers.paths import ROOT
from moslens import Scorer
from moslens.errors import ImageTooLarge, TruncatedImage
from moslens.picture.load import REDUCED_TO, Pixels, load
from moslens.picture.windows import fitted_size

BOUND = 1.0
"""Points of the public scale that reduced decoding may move a score: docs/decisions.md."""


def in_full(data: bytes, working_size: int) -> Pixels:
    """The pixels without any reduction: what a PIL image of the caller's gives."""
    return load(Image.open(io.BytesIO(data)), working_size=working_size).pixels


def difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.fixture(scope="module")
def detailed() -> Image.Image:
    """A 3000 x 2250 mosaic of real photos at their own size: detail down to the pixel, as a large photo has."""
    files = sorted((ROOT / "examples" / "photos").glob("*.jpg"))
    canvas = Image.new("RGB", (3000, 2250))
    for cell in range(36):
        with Image.open(files[(5 * cell) % len(files)]) as tile:
            canvas.paste(tile.convert("RGB").crop((0, 0, 500, 375)), (500 * (cell % 6), 375 * (cell // 6)))
    return canvas


@pytest.mark.parametrize(
    ("width", "factor"), [(700, 1), (512, 1), (1199, 1), (1200, 2), (2399, 2), (2400, 4), (4799, 4), (4800, 8)]
)
def test_the_factor_leaves_twice_the_working_size(width: int, factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    monkeypatch.setattr("moslens.picture.load.read_pixels", lambda image: (decoded.append(image.size), image.load()))
    height = width * 3 // 4
    picture = load(encode(Image.new("RGB", (width, height), (9, 120, 60)), "JPEG"), working_size=300)
    assert decoded == [(-(-width // factor), -(-height // factor))]
    assert min(decoded[0]) >= REDUCED_TO * min(picture.pixels.shape[:2]) or factor == 1
    assert (picture.width, picture.height) == (width, height), "the size told is that of the file"
    assert picture.pixels.shape[:2] == fitted_size(height, width, 300)
    assert picture.pixels.reshape(-1, 3).std(axis=0).max() == 0


def test_below_twice_the_working_size_not_a_bit_changes() -> None:
    data = encode(photo(1100, 1500), "JPEG")
    assert np.array_equal(load(data).pixels, in_full(data, 512))


@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_looks_the_same(orientation: int) -> None:
    upright = photo(1600, 2400)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(STORED[orientation](upright), "JPEG", quality=95, exif=exif)
    picture = load(data, working_size=256)
    assert (picture.width, picture.height) == (2400, 1600)
    reference = np.asarray(Image.fromarray(upright).resize((256, 171), Image.Resampling.BICUBIC))
    assert difference(picture.pixels, reference) < 1


def test_profiles_cmyk_and_grey_still_count() -> None:
    large = Image.fromarray(photo(1500, 2000))
    tagged = encode(large, "JPEG", quality=95, icc_profile=rgb_profile())
    ink = encode(large.convert("CMYK"), "JPEG", quality=95)
    grey = encode(large.convert("L"), "JPEG", quality=95)
    for data in (tagged, ink, grey):
        assert difference(load(data, working_size=256).pixels, in_full(data, 256)) < 1
    assert difference(load(tagged, working_size=256).pixels, load(encode(large, "JPEG"), working_size=256).pixels) > 2


def test_a_cut_file_is_still_cut_and_a_large_one_still_large() -> None:
    data = encode(photo(1600, 2400), "JPEG")
    with pytest.raises(TruncatedImage):
        load(data[: len(data) // 2], working_size=256)
    with pytest.raises(ImageTooLarge, match="2400 x 1600"):
        load(data, working_size=256, max_pixels=2_000_000)


def test_an_opened_image_of_the_callers_is_left_as_it_is() -> None:
    opened = Image.open(io.BytesIO(encode(photo(1600, 2400), "JPEG")))
    load(opened, working_size=256)
    assert opened.size == (2400, 1600)


@pytest.mark.parametrize("scale", [1, 0.75])
def test_the_score_moves_less_than_the_bound(detailed: Image.Image, scale: float) -> None:
    scorer = Scorer()
    size = tuple(round(scale * side) for side in detailed.size)
    data = encode(detailed.resize(size, Image.Resampling.LANCZOS) if scale != 1 else detailed, "JPEG", quality=92)
    full = in_full(data, scorer.model.card.working_size)
    moved = abs(scorer.score(data).score - scorer.score(full).score)
    assert 0 < moved < BOUND
