"""How good a picture is at 100 %: which tiles decide what, and that the score does not change by it."""

import dataclasses
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.map_model import BLUE, GREEN, RED, make_map_model, plain
from moslens import Detail, Failure, Score, Scorer
from moslens.picture.tiles import Box, Tile
from moslens.scoring.detail import BLURRED, ScoredTile, summarize_tiles
from moslens.scoring.map_blocks import QualityBlock


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """Red is jpeg, blue is white noise, green is nothing wrong; working size 512, so tiles above 1024 px."""
    return Scorer(make_map_model(tmp_path_factory.mktemp("maps") / "colours"), threads=2)


@pytest.fixture(scope="module")
def released() -> Scorer:
    return Scorer(threads=1)


def tile(raw: float, *shares: tuple[str, str, float]) -> ScoredTile:
    """A tile of ten columns, with kinds (name, group, share) named on so many tenths of it."""
    kinds: list[tuple[str | None, str | None]] = []
    for kind, group, share in shares:
        kinds += [(kind, group)] * round(10 * share)
    kinds += [(None, None)] * (10 - len(kinds))
    blocks = tuple(
        QualityBlock(10 * i, 0, 10, 100, 50.0, 0.1, kind, group, None if kind is None else 3.0, 0.9)
        for i, (kind, group) in enumerate(kinds)
    )
    return ScoredTile(Tile(np.zeros((100, 100, 3), np.uint8), Box(0, 0, 100, 100)), raw, blocks)


NOISE, SOFT = ("white_noise", "noise", 0.5), ("lens_blur", "blur", 0.8)


class TestRule:
    def test_a_blurred_background_is_no_fault(self) -> None:
        found = summarize_tiles([tile(80), tile(78), *[tile(20, SOFT)] * 4], float)
        assert found.score == 79
        assert found.distortions == ()

    def test_blur_everywhere_is_one(self) -> None:
        found = summarize_tiles([tile(20 + i, SOFT) for i in range(6)], float)
        assert found.score == 24.5  # of the best third
        assert [(row["kind"], row["share"], row["label"]) for row in found.distortions] == [
            ("lens_blur", 0.8, "out of focus")
        ]

    def test_noise_counts_on_all_tiles(self) -> None:
        found = summarize_tiles([tile(80), tile(78), *[tile(20, NOISE)] * 4], float)
        assert found.score == pytest.approx((80 + 78 + 4 * 20) / 6)
        assert [(row["kind"], row["share"]) for row in found.distortions] == [("white_noise", round(4 / 12, 4))]

    def test_noise_in_a_blurred_background_is_named(self) -> None:
        both = tile(20, ("lens_blur", "blur", 0.6), ("white_noise", "noise", 0.4))
        found = summarize_tiles([tile(80), tile(78), *[both] * 4], float)
        assert found.score == 79
        assert [row["kind"] for row in found.distortions] == ["white_noise"]

    def test_half_a_tile_out_of_focus_still_counts(self) -> None:
        found = summarize_tiles([tile(80), tile(50, ("lens_blur", "blur", BLURRED))], float)
        assert found.score == 65

    def test_a_small_share_is_not_named(self) -> None:
        assert summarize_tiles([tile(80, ("jpeg", "compression", 0.1)), *[tile(79)] * 5], float).distortions == ()

    def test_the_largest_share_comes_first(self) -> None:
        found = summarize_tiles([tile(50, ("jpeg", "compression", 0.2), ("white_noise", "noise", 0.6))], float)
        assert [row["kind"] for row in found.distortions] == ["white_noise", "jpeg"]

    def test_the_order_of_tiles_changes_nothing_but_their_list(self) -> None:
        tiles = [tile(80), tile(20, SOFT), tile(40, NOISE), tile(41)]
        there, back = summarize_tiles(tiles, float), summarize_tiles(tiles[::-1], float)
        assert there.tiles == back.tiles[::-1]
        assert dataclasses.replace(there, tiles=()) == dataclasses.replace(back, tiles=())

    def test_the_calibration_is_that_of_the_model(self) -> None:
        found = summarize_tiles([tile(1), tile(3)], lambda raw: 10 * raw)
        assert isinstance(found, Detail)
        assert found.score == 20
        assert [one["score"] for one in found.tiles] == [10, 30]


class TestPictures:
    def test_faults_of_the_tiles_are_named(self, colours: Scorer) -> None:
        picture = plain(2400, 1600, GREEN)
        picture[:, 1200:] = BLUE
        found = colours.score(picture, detail=True).detail
        assert found is not None
        assert len(found.tiles) == 6
        assert [(row["kind"], row["label"]) for row in found.distortions] == [("white_noise", "noise")]
        left = [one["score"] for one in found.tiles if one["x"] + one["width"] <= 1200]
        right = [one["score"] for one in found.tiles if one["x"] >= 1200]
        assert min(left) > found.score > max(right)

    def test_small_pictures_have_none(self, colours: Scorer) -> None:
        assert colours.score(plain(1024, 900, RED), detail=True).detail is None
        assert colours.score(plain(1025, 900, RED), detail=True).detail is not None
        assert colours.score(plain(2400, 1600, RED)).detail is None

    @pytest.mark.parametrize("shape", [(5000, 90), (90, 5000)])
    def test_panoramas(self, colours: Scorer, shape: tuple[int, int]) -> None:
        found = colours.score(plain(*shape, BLUE), detail=True).detail
        assert found is not None
        assert len(found.tiles) == 6
        assert {(one["width"], one["height"]) for one in found.tiles} == {
            (384, 90) if shape[0] > shape[1] else (90, 384)
        }

    def test_a_model_without_maps_gives_the_score_alone(self, tiny_model: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (900, 1300, 3), dtype=np.uint8)
        scorer = Scorer(tiny_model, threads=1)
        result = scorer.score(picture, detail=True)
        assert result.detail is not None
        assert result.detail.distortions == ()
        first = result.detail.tiles[0]
        alone = scorer.score(Box(first["x"], first["y"], first["width"], first["height"]).cut(picture))
        assert first["score"] == pytest.approx(alone.score, abs=1e-4)

    def test_neighbours_and_threads_change_nothing(self, colours: Scorer) -> None:
        pictures = [np.random.default_rng(s).integers(0, 256, (1100, 1500 + s, 3), dtype=np.uint8) for s in range(3)]
        alone = [colours.score(picture, detail=True) for picture in pictures]
        other = Scorer(colours.model.card.folder, threads=1)
        assert list(other.score_many(pictures * 2, workers=2, detail=True)) == alone * 2
        assert [found.to_score() for found in colours.explain_many(pictures, detail=True)] == alone
        again = pickle.loads(pickle.dumps(colours))
        assert again.score(pictures[0], detail=True) == alone[0]

    def test_a_broken_picture_is_a_failure(self, colours: Scorer) -> None:
        file = io.BytesIO()
        Image.fromarray(plain(2400, 1600, RED)).save(file, "JPEG")
        (result,) = colours.score_many([file.getvalue()[:-4000]], detail=True)
        assert isinstance(result, Failure)
        assert result.to_row()["detail"] is None


class TestReleased:
    def test_noise_that_only_shows_at_100_percent(self, released: Scorer) -> None:
        """A sharp, clean photo of 12 megapixels, and the same with fine noise."""
        with Image.open(Path(__file__).parents[2] / "examples" / "photos" / "livec_571.jpg") as image:
            photo = np.array(image.convert("RGB").resize((384, 384), Image.Resampling.LANCZOS))
        clean = np.tile(np.concatenate([photo, photo[:, ::-1]], 1), (8, 5, 1))  # 3072 x 3840, sharp at 100 %
        noise = np.random.default_rng(0).normal(0, 30, clean.shape)
        noisy = (clean + noise).clip(0, 255).astype(np.uint8)
        before, after = (released.score(picture, detail=True) for picture in (clean, noisy))
        assert before.detail is not None
        assert after.detail is not None
        assert after.detail.score < before.detail.score - 8
        assert after.detail.score < after.score
        assert {row["group"] for row in after.detail.distortions} >= {"noise"}

    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_the_score_is_the_same_bit_for_bit(self, released: Scorer, format: str) -> None:
        with Image.open(Path(__file__).parents[2] / "examples" / "photos" / "livec_571.jpg") as image:
            large = image.convert("RGB").resize((1900, 1800), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        large.save(file, format)
        with_detail, without = (released.score(file.getvalue(), detail=detail) for detail in (True, False))
        assert isinstance(with_detail, Score)
        assert with_detail.detail is not None
        assert dataclasses.replace(with_detail, detail=None) == without
