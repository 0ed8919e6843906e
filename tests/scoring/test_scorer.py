"""The model folder, the session and the Scorer: right values, the same values everywhere, typed failures."""

import hashlib
import io
import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moslens
from helpers.tiny_model import make_photo, make_tiny_model, run_onnx
from moslens import Failure, ImageTooLarge, ImageTooSmall, Score, Scorer, UnreadableImage, errors
from moslens.errors import InternalError, ModelError
from moslens.picture import load
from moslens.picture.windows import SHORTEST_PASS, STRIDE, WINDOW, WINDOWS, View, cover
from moslens.scoring.card import PREPROCESSING, Calibration, find_model, shipped
from moslens.scoring.result import COLUMNS, Detail
from moslens.scoring.session import Model

CONTRACT_ROW = (
    "path", "status", "score", "low", "high", "width", "height",
    "distortions", "worst_block", "notes", "detail", "model", "version", "error",
)  # fmt: skip


@pytest.fixture(scope="module")
def scorer(tiny_model: Path) -> Scorer:
    return Scorer(tiny_model)


@pytest.fixture
def own_model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "own"))


def edit_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def photos(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_results_are_values_with_hashes(scorer: Scorer, photo_folder: Path) -> None:
    path = photos(photo_folder)[0]
    fault = {"kind": "jpeg", "group": "compression", "severity": 3.0, "share": 0.5}
    box = {"x": 0, "y": 0, "width": 4, "height": 3, "score": 41.0}

    def result(severity: float) -> Score:
        faults = ({**fault, "severity": severity},)
        return Score("a.jpg", 71.0, 60.0, 80.0, 40, 30, "m@0", faults, box, detail=Detail(40.0, (box,), faults))

    assert result(3.0) == result(3.0) != result(2.0)
    assert hash(result(3.0)) == hash(result(3.0))
    assert len({result(3.0), result(3.0), result(2.0), scorer.score(path), scorer.score(path)}) == 3
    with pytest.raises(FrozenInstanceError):
        result(3.0).score = 1.0  # type: ignore[misc]


def test_score_is_the_calibrated_mean_over_all_windows(scorer: Scorer, tiny_model: Path, photo_folder: Path) -> None:
    network = (tiny_model / "model.onnx").read_bytes()
    seen = set()
    for path in photos(photo_folder):
        picture = load.load(path, working_size=512)
        raw = run_onnx(network, cover(picture.pixels)).astype(np.float64).mean()
        expected = 100 / (1 + math.exp(-(1.5 * raw + 0.2)))
        result = scorer.score(path)
        assert result.score == pytest.approx(expected, abs=1e-4)
        assert result.low == pytest.approx(max(0, expected - 9), abs=1e-4)
        assert result.high == pytest.approx(min(100, expected + 9), abs=1e-4)
        assert (result.width, result.height) == load.decode(path).shape[1::-1]
        seen.add(round(expected, 2))
    assert len(seen) == len(photos(photo_folder)), "the fixture's scores must differ, or the test shows nothing"


def test_score_has_no_neighbours(scorer: Scorer, tiny_model: Path, photo_folder: Path) -> None:
    paths = photos(photo_folder)
    alone = {path: scorer.score(path).score for path in paths}
    for threads in (1, 2, 5):
        other = Scorer(tiny_model, threads=threads)
        assert {path: other.score(path).score for path in paths} == alone
        for workers in (1, 2, 7):
            for order in (paths, paths[::-1], paths * 3):
                results = other.score_many(order, workers=workers)
                assert [result.score for result in results if isinstance(result, Score)] == [
                    alone[path] for path in order
                ]


def test_every_kind_of_source_gives_the_same_score(scorer: Scorer, tmp_path: Path) -> None:
    photo = make_photo(300, 260, seed=3)
    path = tmp_path / "x.png"
    photo.save(path)
    expected = scorer.score(path).score
    for source in (str(path), path.read_bytes(), photo, np.asarray(photo)):
        assert scorer.score(source).score == expected
    assert scorer.score(path).path == str(path)
    assert scorer.score(str(path)).path == str(path)
    assert scorer.score(photo).path is None
    assert scorer.score(path.read_bytes()).path is None


def test_rows_have_the_names_of_the_contract(scorer: Scorer, tmp_path: Path) -> None:
    make_photo(64, 48, seed=1).save(tmp_path / "x.png")
    good, bad = scorer.score_many([tmp_path / "x.png", tmp_path / "missing.png"])
    assert tuple(good.to_row()) == tuple(bad.to_row()) == COLUMNS == CONTRACT_ROW
    assert good.to_row()["status"] == "ok"
    assert good.to_row()["distortions"] == bad.to_row()["distortions"] == []
    assert bad.to_row() == dict.fromkeys(CONTRACT_ROW) | {
        "path": str(tmp_path / "missing.png"),
        "status": "error",
        "distortions": [],
        "notes": [],
        "model": scorer.model_id,
        "version": good.version,
        "error": bad.to_row()["error"],
    }
    assert bad.to_row()["error"]["code"] == "unreadable"
    assert str(tmp_path / "missing.png") in bad.to_row()["error"]["message"]
    assert json.loads(json.dumps(good.to_row())) == good.to_row()


def test_errors_are_typed_and_carry_the_path(scorer: Scorer, tmp_path: Path) -> None:
    make_photo(400, 300, seed=1).save(tmp_path / "x.png")
    make_photo(400, 20, seed=1).save(tmp_path / "thin.png")
    with pytest.raises(ImageTooLarge) as large:
        scorer.score(tmp_path / "x.png", max_pixels=119_999)
    assert large.value.path == str(tmp_path / "x.png")
    assert scorer.score(tmp_path / "x.png", max_pixels=120_000).width == 400
    with pytest.raises(ImageTooSmall):
        scorer.score(tmp_path / "thin.png")
    with pytest.raises(UnreadableImage):
        scorer.score(tmp_path)


def test_a_failure_inside_moslens_is_a_row_and_ends_nothing(
    tiny_model: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Scorer(tiny_model)
    monkeypatch.setattr(broken, "_raw", lambda window: math.nan)
    with pytest.raises(InternalError, match="no finite score"):
        broken.score(photo_folder / "a.jpg")

    def explode(window: object) -> float:
        raise RuntimeError("no memory for the arena")

    monkeypatch.setattr(broken, "_raw", explode)
    results = list(broken.score_many(photos(photo_folder)))
    assert [result.to_row()["error"]["code"] for result in results] == ["internal"] * 6
    assert "no memory for the arena" in results[0].to_row()["error"]["message"]


def test_bad_pictures_between_good_ones_keep_order_and_count(scorer: Scorer, photo_folder: Path) -> None:
    good = [str(path) for path in photos(photo_folder)]
    mixed: list[Any] = [value for path in good for value in (path, path + ".missing", b"", object())]
    results = list(scorer.score_many(mixed, workers=3))
    assert [result.path for result in results] == [v if isinstance(v, str) else None for v in mixed]
    assert [isinstance(result, Failure) for result in results] == [value not in good for value in mixed]
    codes = {result.error.code for result in results if isinstance(result, Failure)}
    assert codes == {"unreadable", "empty", "unsupported"}


def test_scorer_is_shared_between_threads(scorer: Scorer, photo_folder: Path) -> None:
    paths = photos(photo_folder) * 4
    expected = [scorer.score(path).score for path in paths]
    with ThreadPoolExecutor(8) as pool:
        assert [result.score for result in pool.map(scorer.score, paths)] == expected


def test_scorer_pickles(scorer: Scorer, own_model: Path, photo_folder: Path) -> None:
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy.score(photo_folder / "a.jpg") == scorer.score(photo_folder / "a.jpg")
    pickled = pickle.dumps(Scorer(own_model, threads=1))
    assert pickle.loads(pickled).threads == 1
    shutil.rmtree(own_model)
    make_tiny_model(own_model, seed=1)
    with pytest.raises(ModelError, match="pickled with tiny@"):
        pickle.loads(pickled)


def test_batch_of_rows(scorer: Scorer, photo_folder: Path) -> None:
    paths = [str(path) for path in photos(photo_folder)]
    expected = [scorer.score(path).score for path in paths]
    by_path = scorer({"path": np.array([*paths, "missing"]), "id": list(range(7))})
    assert by_path["id"] == list(range(7))
    assert by_path["score"].dtype == np.float64
    np.testing.assert_array_equal(by_path["score"], [*expected, math.nan])
    assert by_path["status"] == ["ok"] * 6 + ["error"]
    assert by_path["error"][:6] == [""] * 6
    assert by_path["error"][6].startswith("missing: ")
    assert by_path["width"][6] == 0
    assert set(by_path["model"]) == {scorer.model_id}
    encoded = [Path(path).read_bytes() for path in paths]
    np.testing.assert_array_equal(scorer({"bytes": encoded})["score"], expected)
    cells = [{"bytes": data, "path": None} for data in encoded[:3]]
    cells += [{"bytes": None, "path": path} for path in paths[3:]]
    np.testing.assert_array_equal(scorer({"image": cells})["score"], expected)
    with pytest.raises(KeyError, match="path"):
        scorer({"url": ["x"]})


class Frame(dict[str, Any]):
    """What the Scorer uses of a pandas DataFrame."""

    def assign(self, **columns: Any) -> "Frame":
        return Frame(self | columns)


def test_batch_as_a_data_frame_stays_one(scorer: Scorer, photo_folder: Path) -> None:
    scored = scorer(Frame(path=[str(photo_folder / "a.jpg")], id=[7]))
    assert isinstance(scored, Frame)
    assert scored["id"] == [7]
    assert scored["score"].tolist() == [scorer.score(photo_folder / "a.jpg").score]


def test_altered_weights_give_no_score(own_model: Path) -> None:
    data = bytearray((own_model / "model.onnx").read_bytes())
    stated = hashlib.sha256(data).hexdigest()
    data[len(data) // 2] ^= 1
    (own_model / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError) as altered:
        Scorer(own_model)
    assert stated in str(altered.value)
    assert hashlib.sha256(data).hexdigest() in str(altered.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: card.pop("calibration"), "malformed"),
        (lambda card: card["calibration"].update(scale="steep"), "malformed"),
        (lambda card: card["calibration"].update(kind="isotonic"), "isotonic"),
        (lambda card: card["preprocessing"].update(window=384), "384"),
        (lambda card: card["preprocessing"].update(layout="float32 NCHW"), "NCHW"),
        (lambda card: card.update(id="tiny@000000000000"), "does not match"),
        (lambda card: card.update(file="missing.onnx"), "cannot be read"),
    ],
)
def test_a_wrong_card_is_refused(own_model: Path, change: Callable[[Any], object], words: str) -> None:
    edit_card(own_model, change)
    with pytest.raises(ModelError, match=words):
        Scorer(own_model)


def test_a_graph_that_is_not_one_is_refused(own_model: Path) -> None:
    junk = b"not a graph"
    digest = hashlib.sha256(junk).hexdigest()
    (own_model / "model.onnx").write_bytes(junk)
    edit_card(own_model, lambda card: card.update(sha256=digest, id=f"tiny@{digest[:12]}"))
    with pytest.raises(ModelError, match="onnxruntime cannot open"):
        Scorer(own_model)


def test_models_are_found_by_name_or_folder(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model(tiny_model) == tiny_model
    assert find_model(str(tiny_model)) == tiny_model
    with pytest.raises(ModelError, match="no model 'nonesuch'"):
        find_model("nonesuch")
    with pytest.raises(ModelError, match="no model here"):
        Scorer(tmp_path)
    monkeypatch.setattr("moslens.scoring.card.WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match="none"):
        find_model()
    make_tiny_model(tmp_path / "shdiqa-lite")
    assert list(shipped()) == ["shdiqa-lite"]
    assert find_model() == find_model("shdiqa-lite") == tmp_path / "shdiqa-lite"


def test_only_the_outputs_asked_for_come_back(tiny_model: Path) -> None:
    model = Model(tiny_model)
    (window,) = WINDOWS.pieces(np.asarray(make_photo(224, 224, seed=2)))
    (raw,) = model.run(window)
    score, blocks = model.run(window, ("score", "block_map"))
    assert model.outputs == ("score", "block_map")
    assert raw == score == pytest.approx(blocks.mean(), abs=1e-5)
    assert blocks.shape == (1, 13, 13)


@given(st.floats(-1e6, 1e6), st.floats(-50, 50), st.floats(0, 60), st.floats(-1e9, 1e9))
def test_calibration_stays_on_the_scale(scale: float, shift: float, radius: float, raw: float) -> None:
    calibration = Calibration(scale, shift, radius)
    score = calibration.score(raw)
    low, high = calibration.interval(score)
    assert 0 <= low <= score <= high <= 100
    assert high - low <= 2 * radius + 1e-9
    if abs(scale * raw + shift) < 30:
        assert score == pytest.approx(100 / (1 + math.exp(-(scale * raw + shift))), abs=1e-9)


def test_wrong_counts_are_refused(scorer: Scorer, tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="workers"):
        scorer.score_many([], workers=0)
    with pytest.raises(ValueError, match="threads"):
        Scorer(tiny_model, threads=0)
    assert list(scorer.score_many([])) == []


def test_truncated_bytes_are_a_failure_with_a_code(scorer: Scorer) -> None:
    stream = io.BytesIO()
    make_photo(640, 480, seed=1).save(stream, "JPEG")
    (result,) = scorer.score_many([stream.getvalue()[:3000]])
    assert isinstance(result, Failure)
    assert result.error.code == "truncated"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.timeout(60)
def test_a_forked_child_scores_as_its_parent(tiny_model: Path, photo_folder: Path) -> None:
    scorer = Scorer(tiny_model, threads=2)
    expected = scorer.score(photo_folder / "a.jpg").score
    child = os.fork()
    if child == 0:
        os._exit(0 if abs(scorer.score(photo_folder / "a.jpg").score - expected) < 1e-4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_folder_gives_the_pictures_of_a_walk(scorer: Scorer, photo_folder: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(photo_folder, tree / "below")
    make_photo(64, 64, seed=1).save(tree / "z.png")
    (tree / "notes.txt").write_text("no picture")
    (tree / "._z.png").write_bytes(b"attributes of macOS")
    expected = [str(tree / "below" / path.name) for path in photos(photo_folder)] + [str(tree / "z.png")]
    for sources in (tree, str(tree), [tree]):
        assert [result.path for result in scorer.score_many(sources)] == expected
    mixed = list(scorer.score_many([tree / "z.png", tree, "missing.jpg"]))
    assert [result.path for result in mixed] == [str(tree / "z.png"), *expected, "missing.jpg"]
    (one,) = scorer.score_many([tree], folders=False)
    assert isinstance(one, Failure)
    assert "is a folder, not a picture: give it to score_many" in str(one.error)
    assert scorer({"path": [str(tree)]})["status"] == ["error"], "a row each"


def test_a_folder_without_pictures_is_said(scorer: Scorer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(scorer.score_many(tmp_path)) == []
    assert f"{tmp_path}: no picture in this folder" in caplog.text


def test_a_lone_picture_is_one_picture(scorer: Scorer, photo_folder: Path) -> None:
    path = photo_folder / "b.png"
    expected = scorer.score(path).score
    array = load.decode(path)
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), array, array / 255, file):
            (result,) = scorer.score_many(source)
            assert isinstance(result, Score), result
            assert result.score == expected
    (missing,) = scorer.score_many("one.jpg")
    assert (missing.path, missing.error.code) == ("one.jpg", "unreadable")
    batch = np.stack([array, array])
    assert [result.score for result in scorer.score_many(batch)] == [expected] * 2


def test_one_line_scores_and_gives_a_dict(photo_folder: Path) -> None:
    found = moslens.score(photo_folder / "a.jpg")
    assert found == Scorer().score(photo_folder / "a.jpg")
    assert found.to_dict() == found.to_row()
    with pytest.raises(moslens.TruncatedImage) as error:
        moslens.score((photo_folder / "a.jpg").read_bytes()[:3000])
    assert isinstance(error.value, moslens.ImageError)
    assert Failure(None, error.value, found.model).to_dict()["error"]["code"] == "truncated"


def test_every_error_of_a_picture_is_at_the_top() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ImageError)}
    assert {getattr(moslens, kind.__name__) for kind in kinds} == kinds


def test_the_preprocessing_of_a_card_is_what_the_views_do() -> None:
    assert PREPROCESSING["windows"]["window"] == WINDOW
    assert PREPROCESSING["whole"]["shortest"] == SHORTEST_PASS == View(True, 384).shortest
    assert PREPROCESSING["whole"]["multiple"] == STRIDE
