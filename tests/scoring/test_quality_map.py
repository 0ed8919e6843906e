"""The quality map: geometry, labels, the JSON of the contract, and that it never changes the score."""

import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.map_model import BLUE, GREEN, RED, make_map_model, plain
from moslens import NoMapsError, Scorer
from moslens.distortions.kinds import GROUP_LABELS, GROUPS
from moslens.errors import InternalError, ModelError, OutputError, UnreadableImage
from moslens.picture.load import Picture
from moslens.picture.windows import WINDOWS, View, fitted_size
from moslens.scoring.card import BlockLabels, Calibration
from moslens.scoring.draw_map import colour
from moslens.scoring.map_blocks import QualityBlock, summarize_kinds
from moslens.scoring.quality_map import QualityMap, label_blocks, name_cells
from moslens.scoring.stitch import Stitched, Stitcher, pixel_cuts

SIDES = st.integers(32, 2500)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(make_map_model(tmp_path_factory.mktemp("maps") / "colours"))


def stitched_constant(height: int, width: int, view: View) -> Stitcher:
    """A picture whose every piece says score 2, weight 1/16, level 3 and logits that depend on the kind alone."""
    stitcher = Stitcher(height, width, view, 4)
    logits = np.tile(np.linspace(0, 2, 27, dtype=np.float32), (16, 1))
    for piece in view.pieces(np.zeros((height, width, 3), np.uint8)):
        two, weight, three = (np.full(16, value, np.float32) for value in (2, 1 / 16, 3))
        stitcher.add(piece, two, weight, logits, three)
    return stitcher


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, st.booleans())
def test_blocks_tile_any_picture_and_averages_of_a_constant_are_the_constant(
    height: int, width: int, whole: bool
) -> None:
    view = View(whole, 384)
    small = fitted_size(height, width, view.working_size, view.shortest)
    found = stitched_constant(*small, view).result()
    assert found.score.shape == (view.cells(small[0], 4), view.cells(small[1], 4))
    for side, count in ((height, found.score.shape[0]), (width, found.score.shape[1])):
        cuts = pixel_cuts(side, count)
        assert len(cuts) == count + 1
        assert cuts[0] == 0
        assert cuts[-1] == side
        assert min(np.diff(cuts)) > 0
        assert max(np.diff(cuts)) - min(np.diff(cuts)) <= 2
        assert np.abs(np.array(cuts) - (side - np.array(cuts)[::-1])).max() <= 1
    assert found.score == pytest.approx(2, abs=1e-9)
    assert found.level == pytest.approx(3, abs=1e-9)
    assert found.weight.sum() == pytest.approx(1, abs=1e-12)
    assert found.weight.min() > 0
    expected = np.exp(np.linspace(0, 2, 27)) / np.exp(np.linspace(0, 2, 27)).sum()
    assert found.probabilities == pytest.approx(np.broadcast_to(expected, found.probabilities.shape), abs=1e-6)


def test_overlapping_windows_are_averaged_by_shared_area() -> None:
    stitcher = Stitcher(224, 300, WINDOWS, 4)
    left, right = WINDOWS.pieces(np.zeros((224, 300, 3), np.uint8))
    score = np.repeat(np.array([[10], [20]], np.float32), 16, axis=1)
    logits, level = np.zeros((2, 16, 27), np.float32), np.ones((2, 16), np.float32)
    for piece, *values in zip((left, right), score, np.full((2, 16), 1 / 16, np.float32), logits, level, strict=True):
        stitcher.add(piece, *values)
    row = stitcher.result().score[0]
    assert row[0] == pytest.approx(10)
    # cells are 60 px wide; of the second one the first window shares 60 px and the other 44
    assert row[1] == pytest.approx((60 * 10 + 44 * 20) / 104)
    assert row[2] == pytest.approx(15)
    assert row[3] == pytest.approx((44 * 10 + 60 * 20) / 104)
    assert row[4] == pytest.approx(20)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 224), (100, 500), (223, 225)])
def test_padding_counts_nowhere(scorer: Scorer, height: int, width: int) -> None:
    picture = plain(width, height)
    picture[:, width // 2 :] = RED
    found = scorer.explain(picture)
    assert sum(block.weight for block in found.blocks) == pytest.approx(1)
    assert sum(block.width * block.height for block in found.blocks) == width * height
    assert found.columns == max(1, round(width / 56))


def test_a_planted_fault_is_found_where_it_is(scorer: Scorer) -> None:
    picture = plain(448, 336)
    picture[70:250, 120:330] = RED
    picture[280:, :100] = BLUE
    found = scorer.explain(picture)
    assert (found.rows, found.columns) == (6, 8)
    for block in found.blocks:
        part = picture[block.y : block.y + block.height, block.x : block.x + block.width]
        if (part == GREEN).all(axis=2).mean() > 0.999:
            assert block.confidence > 0.5 or block.kind is not None
        if (part == RED).all():
            assert (block.kind, block.group) == ("jpeg", "compression")
            assert block.confidence > 0.5
            assert block.score < 50
    clean = [b for b in found.blocks if b.x >= 390 and b.y >= 280]
    assert clean
    assert all(b.kind is None and b.group is None and b.severity is None and b.confidence > 0.9 for b in clean)
    first, second = found.distortions
    assert (first["kind"], second["kind"]) == ("jpeg", "white_noise")
    assert first["share"] == pytest.approx(180 * 210 / (336 * 448), abs=0.12)
    assert second["share"] < first["share"]
    assert 1 <= first["severity"] <= 5
    worst = found.worst_block
    assert worst["score"] == min(block.to_dict()["score"] for block in found.blocks)
    assert set(worst) == {"x", "y", "width", "height", "score"}


def test_blocks_are_in_pixels_of_the_original(scorer: Scorer) -> None:
    picture = plain(2000, 1500)
    picture[:, 1000:] = RED
    found = scorer.explain(picture)
    assert (found.width, found.height) == (2000, 1500)
    assert all(block.kind == "jpeg" for block in found.blocks if block.x > 1100)
    assert all(block.kind is None for block in found.blocks if block.x + block.width < 900)
    assert max(block.x + block.width for block in found.blocks) == 2000
    assert max(block.y + block.height for block in found.blocks) == 1500


@settings(max_examples=12, deadline=None)
@given(st.integers(40, 700), st.integers(40, 700), st.integers(0, 9))
def test_the_map_of_a_mirror_image_is_the_mirrored_map(scorer: Scorer, height: int, width: int, seed: int) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    picture = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    there, back = scorer.explain(picture), scorer.explain(np.ascontiguousarray(picture[:, ::-1]))

    def grid(found: QualityMap) -> np.ndarray:
        values = [(b.score, b.weight) for b in found.blocks]
        return np.array(values).reshape(found.rows, found.columns, 2)

    # windows and cuts mirror to a pixel, and the network under test mirrors exactly
    assert np.abs(grid(there) - grid(back)[:, ::-1]).max() < 2
    assert there.score == pytest.approx(back.score, abs=0.5)


def test_json_has_the_names_of_the_contract(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    Image.fromarray(plain(300, 240, RED)).save(path)
    found = scorer.explain(path)
    tree = json.loads(found.to_json())
    assert tree == found.to_dict()
    beside = ("distortions", "notes", "detail")
    assert list(tree) == ["path", "score", "low", "high", "model", "width", "height", *beside, "grid"]
    assert tree["path"] == str(path)
    assert tree["model"] == scorer.model_id
    assert list(tree["grid"]) == ["rows", "columns", "blocks"]
    assert len(tree["grid"]["blocks"]) == tree["grid"]["rows"] * tree["grid"]["columns"]
    for block in tree["grid"]["blocks"]:
        assert list(block) == [
            "x", "y", "width", "height", "score", "weight", "kind", "group", "label", "kind_certain", "severity",
            "confidence",
        ]  # fmt: skip
        assert 0 <= block["score"] <= 100
        assert 0 <= block["confidence"] <= 1


def test_scores_are_the_same_with_and_without_the_map(scorer: Scorer) -> None:
    alone = Scorer(scorer.model.card.folder, maps=False)
    for seed in range(4):
        picture = np.random.default_rng(seed).integers(0, 256, (300 + 90 * seed, 410, 3), dtype=np.uint8)
        with_map, without = scorer.score(picture), alone.score(picture)
        assert with_map.score == pytest.approx(without.score, abs=1e-9)
        assert scorer.explain(picture).score == with_map.score
        assert without.distortions == ()
        assert without.worst_block is None
        assert with_map.worst_block is not None


def test_rows_of_score_say_where_and_what(scorer: Scorer) -> None:
    picture = plain(448, 448)
    picture[:224] = RED
    row = json.loads(json.dumps(scorer.score(picture).to_row()))
    (only,) = row["distortions"]
    assert only["kind"] == "jpeg"
    assert only["group"] == "compression"
    assert only["share"] == pytest.approx(0.5, abs=0.13)
    assert row["worst_block"]["y"] < 224


def test_a_higher_threshold_or_temperature_names_less(tmp_path: Path) -> None:
    picture = plain(448, 448, (130, 110, 15))
    lenient = Scorer(make_map_model(tmp_path / "a", threshold=0.5))
    strict = Scorer(make_map_model(tmp_path / "b", threshold=0.999))
    unsure = Scorer(make_map_model(tmp_path / "c", threshold=0.97, temperature=50))
    never = Scorer(make_map_model(tmp_path / "d", threshold=2.0))
    assert {block.kind for block in lenient.explain(picture).blocks} == {"jpeg"}
    for one in (strict, unsure, never):
        assert {block.kind for block in one.explain(picture).blocks} == {None}
    sure, flat = lenient.explain(picture).blocks[0], unsure.explain(picture).blocks[0]
    assert sure.confidence > 0.7
    assert flat.confidence < 0.25  # the picture has one tone, so kinds of colour count as nothing wrong


def test_a_picture_without_colours_has_no_fault_of_colours() -> None:
    probabilities = np.array([[[0.6, 0.1, 0.3], [0.1, 0.8, 0.1]]])
    stitched = Stitched(np.full((1, 2), 2.0), np.full((1, 2), 0.5), probabilities, np.full((1, 2), 3.0))
    labels = BlockLabels(2, ("hsv_saturation", "jpeg"), ("color", "compression"), 1.0, 0.5)
    calibration = Calibration(1.0, 0.0, 5.0)
    named, grey = (
        [
            (one.kind, round(one.confidence, 6))
            for one in label_blocks(stitched, labels, calibration, 80, 40, raw=1.0, monochrome=monochrome)
        ]
        for monochrome in (False, True)
    )
    assert named == [("hsv_saturation", 0.6), ("jpeg", 0.8)]
    assert grey == [(None, 0.9), ("jpeg", 0.8)]
    sure = dataclasses.replace(labels, certainty=0.7)
    kinds = [one.kind for one in label_blocks(stitched, sure, calibration, 80, 40, raw=1.0)]
    assert kinds == [None, "jpeg"], "the first cell is sure of a fault, not of its kind"
    more = BlockLabels(2, ("color_noise", "white_noise", "color_shift"), ("noise", "noise", "color"), 1.0, 0.5)
    assert more.of_colour == [0, 2]


def test_a_penalty_sets_faulty_blocks_apart_and_leaves_the_score(tmp_path: Path) -> None:
    picture = plain(448, 448)
    picture[:224] = RED
    folder = make_map_model(tmp_path / "m")
    before = Scorer(folder).explain(picture)
    card = json.loads((folder / "card.json").read_text())
    card["explain"]["penalty"] = 0.5
    (folder / "card.json").write_text(json.dumps(card))
    after = Scorer(folder).explain(picture)
    assert after.score == before.score
    changes: dict[bool, list[float]] = {True: [], False: []}
    for old, new in zip(before.blocks, after.blocks, strict=True):
        if old.y >= 280 or old.y + old.height <= 200:
            changes[old.y >= 280].append(new.score - old.score)
    assert max(changes[False]) < min(changes[True]) - 5
    assert min(changes[True]) > 0


@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("size", [(448, 448), (300, 700), (150, 90)])
def test_blocks_average_to_the_score_on_the_raw_scale(tmp_path: Path, size: tuple[int, int], penalty: float) -> None:
    picture = plain(*size)
    picture[: size[0] // 3, : size[1] // 2] = RED
    folder = make_map_model(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    card["explain"]["penalty"] = penalty
    (folder / "card.json").write_text(json.dumps(card))
    found = Scorer(folder).explain(picture)

    def raw(score: float) -> float:
        return math.log(score / (100 - score))

    assert len({round(block.score, 3) for block in found.blocks}) > 1
    assert sum(block.weight * raw(block.score) for block in found.blocks) == pytest.approx(raw(found.score), abs=1e-6)


def test_a_model_without_maps_says_so(tiny_model: Path) -> None:
    scorer = Scorer(tiny_model)
    picture = plain(300, 300)
    assert not scorer.has_maps
    with pytest.raises(NoMapsError, match=r"tiny@.*scores alone") as caught:
        scorer.explain(picture)
    assert isinstance(caught.value, ModelError)
    with pytest.raises(NoMapsError):
        scorer.explain_many([picture])
    row = scorer.score(picture).to_row()
    assert row["distortions"] == []
    assert row["worst_block"] is None


def test_many_maps_come_in_order_and_failures_take_their_place(scorer: Scorer, tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(plain(300, 200, BLUE)).save(good)
    sources = [good, tmp_path / "missing.png", b"no picture", plain(100, 100)]
    results = list(scorer.explain_many(sources, workers=2))
    assert [type(result).__name__ for result in results] == ["QualityMap", "Failure", "Failure", "QualityMap"]
    assert results[0].to_dict() == scorer.explain(good).to_dict()
    with pytest.raises(UnreadableImage):
        scorer.explain(tmp_path / "missing.png")


def test_a_map_that_is_not_finite_is_an_error(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = scorer.model.run

    def broken(window, outputs=("score",)):  # type: ignore[no-untyped-def]
        values = genuine(window, outputs)
        values[3] = np.full_like(values[3], np.nan)
        return values

    monkeypatch.setattr(scorer.model, "run", broken)
    with pytest.raises(InternalError, match="not finite"):
        scorer.explain(plain(64, 64))


def test_a_scorer_keeps_its_choice_of_maps_when_pickled(scorer: Scorer) -> None:
    alone = pickle.loads(pickle.dumps(Scorer(scorer.model.card.folder, maps=False)))
    assert alone.score(plain(64, 64)).worst_block is None
    assert pickle.loads(pickle.dumps(scorer)).score(plain(64, 64)).worst_block is not None


@pytest.mark.parametrize(
    "broken", [{"grid": 4}, {"temperature": 0}, {"groups": []}, {"threshold": "high"}, {"kinds": None}]
)
def test_a_malformed_explain_record_is_refused(tmp_path: Path, broken: dict[str, object]) -> None:
    folder = make_map_model(tmp_path / "m")
    card = json.loads((folder / "card.json").read_text())
    card["explain"] = broken if broken == {"grid": 4} else card["explain"] | broken
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="malformed"):
        Scorer(folder)


def test_the_overlay_shows_scores_as_lightness(scorer: Scorer, tmp_path: Path) -> None:
    light = [np.dot(colour(score), (0.299, 0.587, 0.114)) for score in range(0, 101, 5)]
    assert min(np.diff(light)) > 0
    picture = plain(448, 224)
    picture[:, :224] = RED
    found = scorer.explain(picture)
    overlay = found.overlay(448)
    assert overlay.mode == "RGB"
    assert overlay.width >= 448
    shown = np.asarray(overlay.convert("L"), np.float64)[:224]
    left = (overlay.width - 448) // 2
    assert shown[:, left : left + 200].mean() < shown[:, left + 248 : left + 448].mean()
    found.save_overlay(tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as saved:
        assert max(saved.size) >= 1024
    for bad in (tmp_path / "map.unknown", tmp_path / "no" / "map.png"):
        with pytest.raises(OutputError, match="map"):
            found.save_overlay(bad)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (5000, 40), (40, 5000)])
def test_overlays_of_odd_shapes_stay_small(scorer: Scorer, width: int, height: int) -> None:
    overlay = scorer.explain(plain(width, height, RED)).overlay(300)
    assert overlay.width <= 600
    assert overlay.height <= 600


def test_explain_reads_every_kind_of_source_alike(scorer: Scorer, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path)
    by_path = scorer.explain(path)
    for source in (path.read_bytes(), pixels, Image.fromarray(pixels)):
        assert scorer.explain(source).blocks == by_path.blocks
    assert isinstance(by_path.pixels, np.ndarray)
    assert Picture(by_path.pixels, by_path.width, by_path.height).pixels.shape == (120, 150, 3)


# --- names where no more than the group is certain -------------------------------------------------------------------

UNSURE = BlockLabels(
    2, ("gaussian_blur", "motion_blur", "jpeg"), ("blur", "blur", "compression"), 1.0, 0.5, 0.0, 0.8, 0.7
)


def test_a_kind_that_is_not_certain_gives_the_name_of_its_group() -> None:
    cells = np.array([
        [0.5, 0.4, 0.0, 0.1],  # blur, of which kind is open
        [0.3, 0.45, 0.1, 0.15],
        [0.0, 0.05, 0.9, 0.05],  # certainly JPEG
        [0.3, 0.2, 0.3, 0.2],  # some fault, but of which group is open
        [0.1, 0.1, 0.1, 0.7],  # nothing
    ])  # fmt: skip
    names = name_cells(cells, UNSURE)
    # both cells of blur have the kind that is likeliest in them together: .8 against .85
    assert names.kinds.tolist() == [1, 1, 2, -1, -1]
    assert names.certain == {2}
    assert names.confidence == pytest.approx([0.9, 0.75, 0.9, 0.2, 0.7])
    certain = name_cells(np.vstack([cells, [0.85, 0.05, 0.0, 0.1]]), UNSURE)
    # a kind that is certain somewhere names the other cells of its group
    assert certain.kinds.tolist() == [0, 0, 2, -1, -1, 0]
    assert certain.certain == {0, 2}
    assert name_cells(cells, dataclasses.replace(UNSURE, group_certainty=2.0)).kinds.tolist() == [-1, -1, 2, -1, -1]


def test_in_a_bad_picture_a_fault_need_only_be_likely() -> None:
    labels = dataclasses.replace(UNSURE, threshold=0.9, faulty_below=40.0)
    cells = np.array([
        [0.05, 0.4, 0.05, 0.5],  # motion blur, given that there is a fault: .4 / .5
        [0.35, 0.15, 0.1, 0.4],  # blur, of which kind is open: .5 / .6
        [0.0, 0.05, 0.9, 0.05],
        [0.2, 0.1, 0.3, 0.4],  # of which group is open: .3 / .6
        [0.1, 0.3, 0.05, 0.55],  # likelier sound
    ])  # fmt: skip
    assert name_cells(cells, labels).kinds.tolist() == [-1, -1, 2, -1, -1]
    names = name_cells(cells, labels, bad=True)
    assert names.kinds.tolist() == [1, 1, 2, -1, -1]
    assert names.certain == {1, 2}
    assert names.confidence == pytest.approx([0.8, 0.5 / 0.6, 0.9, 0.4, 0.55])
    # a single cell of five is too little to explain the score of the picture
    assert name_cells(cells[[0, 3, 3, 4, 4]], labels, bad=True).kinds.tolist() == [-1] * 5
    shape = np.ones((1, 2))
    stitched = Stitched(shape, 0.5 * shape, cells[None, [0, 4]], 3 * shape)
    for score, kinds in ((39.9, ["motion_blur", None]), (40.0, [None, None]), (None, [None, None])):
        blocks = label_blocks(stitched, labels, Calibration(1.0, 0.0, 5.0), 200, 100, raw=1.0, score=score)
        assert [block.kind for block in blocks] == kinds
    never = dataclasses.replace(labels, faulty_below=0.0)
    blocks = label_blocks(stitched, never, Calibration(1.0, 0.0, 5.0), 200, 100, raw=1.0, score=0.0)
    assert [block.kind for block in blocks] == [None, None]


def test_the_label_of_a_block_says_no_more_than_is_certain() -> None:
    shape = np.ones((2, 2))
    cells = np.array([[[0.5, 0.4, 0.0, 0.1], [0.0, 0.05, 0.9, 0.05]], [[0.1, 0.1, 0.1, 0.7], [0.5, 0.4, 0.0, 0.1]]])
    stitched = Stitched(shape, 0.25 * shape, cells, 3 * shape)
    blocks = label_blocks(stitched, UNSURE, Calibration(1.0, 0.0, 5.0), 200, 100, raw=1.0)
    assert [block.label for block in blocks] == ["blurred", "JPEG artefacts", None, "blurred"]
    assert [block.kind for block in blocks] == ["gaussian_blur", "jpeg", None, "gaussian_blur"]
    assert [block.group for block in blocks] == ["blur", "compression", None, "blur"]
    assert [block.to_dict()["kind_certain"] for block in blocks] == [False, True, None, False]
    rows = summarize_kinds(blocks)
    assert [(row["kind"], row["label"], row["kind_certain"], row["share"]) for row in rows] == [
        ("gaussian_blur", "blurred", False, 0.5),
        ("jpeg", "JPEG artefacts", True, 0.25),
    ]
    motion = dataclasses.replace(blocks[0], kind="motion_blur")
    assert motion.label == "blurred", "the kind is a guess"
    assert dataclasses.replace(motion, kind_certain=True).label == "motion blur"
    assert set(GROUP_LABELS) == set(GROUPS)


def test_guesses_of_several_maps_give_one_row_a_group() -> None:
    def block(kind: str, group: str, width: int, *, certain: bool) -> QualityBlock:
        return QualityBlock(0, 0, width, 10, 50.0, 0.1, kind, group, 2.0, 0.8, certain)

    guesses = [block("defocus", "blur", 10, certain=False), block("gaussian_blur", "blur", 30, certain=False)]
    (row,) = summarize_kinds(guesses)
    assert (row["kind"], row["label"], row["kind_certain"], row["share"]) == ("gaussian_blur", "blurred", False, 1.0)
    rows = summarize_kinds(
        [*guesses, block("motion_blur", "blur", 5, certain=True), block("jpeg", "compression", 5, certain=True)]
    )
    assert [(row["kind"], row["label"], row["kind_certain"], row["share"]) for row in rows] == [
        ("motion_blur", "motion blur", True, 0.9),
        ("jpeg", "JPEG artefacts", True, 0.1),
    ]
