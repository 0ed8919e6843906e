"""Notes: what is no photo, black and white, tiny."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from helpers.paths import ROOT
from moslens.distortions import KINDS, distort
from moslens.picture.load import load
from moslens.picture.notes import FEATURES, WEIGHTS, features, graphic_logit, is_graphic, is_monochrome, notes_of

PHOTOS = sorted((ROOT / "examples" / "photos").glob("*.jpg"))
SIZE = 384


def small(source: Path | Image.Image) -> np.ndarray:
    return load(source, working_size=SIZE).pixels


def page_of_text() -> Image.Image:
    page = Image.new("RGB", (1240, 1754), "white")
    pen = ImageDraw.Draw(page)
    for line in range(48):
        pen.text((120, 120 + 32 * line), "A page of plain text in one column, as a scanner or a browser shows it.",
                 fill="black", font=ImageFont.load_default(26))  # fmt: skip
    return page


def window() -> Image.Image:
    """Something like a screenshot: bars, a list, buttons."""
    image = Image.new("RGB", (1280, 800), (246, 246, 246))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 1280, 40), fill=(40, 60, 90))
    pen.rectangle((0, 40, 220, 800), fill=(230, 233, 240))
    for row in range(20):
        pen.text((20, 60 + 34 * row), f"Folder {row}", fill=(30, 30, 30), font=ImageFont.load_default(18))
        pen.text((260, 60 + 34 * row), f"document_{row}.odt    {row * 13} kB", fill="black",
                 font=ImageFont.load_default(18))  # fmt: skip
    pen.rounded_rectangle((1100, 740, 1240, 780), 8, fill=(60, 120, 220))
    return image


def chart() -> Image.Image:
    image = Image.new("RGB", (900, 600), "white")
    pen = ImageDraw.Draw(image)
    for number, height in enumerate((120, 340, 260, 410, 90, 300)):
        pen.rectangle((100 + 120 * number, 520 - height, 180 + 120 * number, 520), fill=(70, 130, 180))
    pen.line((80, 520, 860, 520), fill="black", width=2)
    pen.text((300, 30), "Sales by quarter", fill="black", font=ImageFont.load_default(28))
    return image


def logo() -> Image.Image:
    image = Image.new("RGB", (500, 500), "white")
    ImageDraw.Draw(image).ellipse((60, 60, 440, 440), fill=(220, 40, 40))
    return image


@pytest.mark.parametrize("make", [page_of_text, window, chart, logo])
def test_graphics_are_no_photos(make: Callable[[], Image.Image]) -> None:
    assert is_graphic(small(make()))
    assert "not_a_photo" in notes_of(small(make()), 800, 1000)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_photos_are_photos(path: Path) -> None:
    with Image.open(path) as image:
        photo = image.convert("RGB")
    bright = photo.point(lambda level: min(255, 2 * level))
    dark = photo.point(lambda level: level // 5)
    for changed in (photo, photo.convert("L"), photo.filter(ImageFilter.GaussianBlur(6)), bright, dark):
        assert not is_graphic(small(changed))
    assert notes_of(small(photo), photo.height, photo.width) == ()


def test_photos_with_faults_are_photos() -> None:
    """Of every kind at its strongest, on every photo: the rule may be wrong on 2 %."""
    photos = [(path.stem, small(path)) for path in PHOTOS]
    noted = [
        (stem, kind.name)
        for stem, pixels in photos
        for kind in KINDS
        if is_graphic(distort(pixels, kind, 5, np.random.default_rng(0)))
    ]
    assert len(noted) <= 0.02 * len(photos) * len(KINDS), noted


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_grey_and_toned_photos_are_monochrome(path: Path, tmp_path: Path) -> None:
    with Image.open(path) as image:
        photo = image.convert("RGB")
    grey = photo.convert("L")
    for number, toned in enumerate(
        (
            grey,
            ImageOps.colorize(grey, (30, 18, 8), (255, 240, 210)),
            ImageOps.colorize(grey, (8, 14, 34), (250, 248, 240), mid=(120, 126, 136)),
            grey.point(lambda level: level // 8),
        )
    ):
        target = tmp_path / f"{number}.jpg"
        toned.save(target, quality=75)
        assert is_monochrome(small(toned))
        assert is_monochrome(small(target)), "through subsampled colour"
    assert is_monochrome(small(ImageOps.colorize(grey, (0, 0, 0), (255, 255, 180), mid=(170, 115, 40)))), "strong sepia"
    assert not is_monochrome(small(photo))
    assert not is_monochrome(small(photo.point(lambda level: level // 6))), "dark, but in colour"


def test_a_small_part_in_colour_is_no_monochrome() -> None:
    pixels = np.repeat(np.random.default_rng(0).integers(0, 256, (288, 384, 1), dtype=np.uint8), 3, axis=2)
    assert is_monochrome(pixels)
    pixels[100:140, 100:140] = (200, 30, 30)
    assert not is_monochrome(pixels)


@pytest.mark.parametrize(("height", "width", "tiny"), [(300, 333, True), (250, 400, False), (400, 250, False)])
def test_tiny_is_below_a_tenth_of_a_megapixel(height: int, width: int, tiny: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert ("tiny" in notes_of(pixels, height, width)) == tiny


@pytest.mark.parametrize("shape", [(32, 32), (32, 400), (384, 35)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_features_of_any_picture_are_finite(shape: tuple[int, int], level: int) -> None:
    for pixels in (
        np.full((*shape, 3), level, np.uint8),
        np.random.default_rng(level).integers(0, 256, (*shape, 3), dtype=np.uint8),
    ):
        found = features(pixels)
        assert found.shape == (len(FEATURES),)
        assert np.isfinite(found).all()
        assert found.min() >= -1e-9
        assert found.max() <= 1.2


def test_mirrored_and_turned_pictures_have_nearly_the_same_features() -> None:
    pixels = small(PHOTOS[0])[:376, :376]
    for other in (pixels[:, ::-1], pixels[::-1], pixels.transpose(1, 0, 2)):
        assert features(np.ascontiguousarray(other)) == pytest.approx(features(pixels), abs=0.02)


def test_the_coefficients_are_those_of_the_features() -> None:
    record = json.loads(WEIGHTS.read_text("utf-8"))
    assert list(record["features"]) == list(FEATURES)
    assert {len(row["hidden"]) for row in record["features"].values()} == {len(record["output"])}
    assert np.isfinite([graphic_logit(np.full(len(FEATURES), level)) for level in (-1e9, 0.0, 0.5, 1e9)]).all()
    assert record["photos"]["pictures"] > 0
    assert record["graphics"]["pictures"] > 0
