"""Sources of predictions: tables, models, runs, and the store that outlives a kill."""

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from helpers.command import call
from moslens.data.sets import load_dataset
from moslens.data.split import make_split
from moslens.errors import CheckpointError, DatasetError, ModelError
from moslens.evaluate.predictors import ModelSource, Part, Prediction, RunSource, Store, TableSource, open_source
from moslens.scoring.scorer import Scorer
from moslens.system.text import csv_name


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A data set of thirty small pictures in a subfolder, MOS rising with the number."""
    from PIL import Image

    root = tmp_path_factory.mktemp("set")
    (root / "in").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,mos"]
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / f"in/{i:02}.png")
        lines.append(f"in/{i:02}.png,{3 * i}")
    (root / "photos.csv").write_text("\n".join(lines))
    return load_dataset(str(root / "photos.csv"))


def table(path, rows, header="image,prediction"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return TableSource(path)


def make_run(folder, split, *, name="photos.csv", predictions=None, **data):
    folder.mkdir(parents=True)
    config = {
        "data": {"name": name, "split": split, "validation": 0.0, "fraction": 1.0, **data},
        "optim": {"epochs": 8},
    }
    (folder / "config.json").write_text(json.dumps({"config": config, "labels": {}}))
    (folder / "model.safetensors").write_bytes(b"weights")
    if predictions is not None:
        lines = ["image,mos,prediction,part", *(f"{n},0,{v},{p}" for n, v, p in predictions)]
        (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
    return folder


def values(source, dataset, part):
    return [p.value for _, p in source.predict(dataset, part.key, part.indices)]


@pytest.mark.parametrize("style", ["in/{:02}.png", "{:02}.png", "/elsewhere/in/{:02}.png", "./in/{:02}.png"])
def test_tables_match_names_paths_and_file_names(photos, tmp_path, style):
    source = table(tmp_path / "p.csv", [f"{style.format(i)},{i / 10}" for i in reversed(range(30))])
    parts = source.parts(photos, [0, 1])
    assert [part.seed for part in parts] == [0, 1, None]
    assert parts[0].indices == make_split(photos, 0).test
    assert values(source, photos, parts[2]) == [i / 10 for i in range(30)]
    assert values(source, photos, parts[0]) == [i / 10 for i in parts[0].indices]


def test_tables_with_bounds_and_other_column_names(photos, tmp_path):
    rows = [f"in/{i:02}.png,{i},{i - 1},{i + 1},x" for i in range(30)]
    source = table(tmp_path / "p.csv", rows, "path,score,low,high,model")
    assert dict(source.predict(photos, "all", [3]))[3] == Prediction(3.0, 2.0, 4.0)


def test_json_lines_of_score_are_predictions(photos, tiny_model, tmp_path):
    target = tmp_path / "rows.jsonl"
    assert call("score", photos.root, "--model", tiny_model, "--output", target) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    source = open_source(str(target))
    found = dict(source.predict(photos, "all", range(30)))
    named = {Path(row["path"]).name: row for row in rows}
    for i, sample in enumerate(photos.samples):
        row = named[sample.path.name]
        assert found[i] == Prediction(row["score"], row["low"], row["high"])
    assert call("compare", target, target, "--dataset", photos.root / "photos.csv", "--max-loss", "0") == 0
    target.write_text(target.read_text() + "no row\n")
    with pytest.raises(DatasetError, match=r"row 31 is not a row of moslens score"):
        open_source(str(target))


def test_every_wrong_cell_of_a_table_is_named(photos, tmp_path):
    rows = ["in/00.png,1,2,1", "in/00.png,2,,", "other.png,3,,", "in/01.png,nan,,", "in/02.png,,,", "in/03.png,1,x,2"]
    source = table(tmp_path / "p.csv", rows, "image,prediction,low,high")
    with pytest.raises(DatasetError) as caught:
        source.parts(photos, [0])
    for line in (
        "row 2, column low: 2 is above high, 1",
        "row 3, column image: in/00.png is already in row 2",
        "row 4, column image: 'other.png' is none of photos",
        "row 5, column prediction: nan is not a finite number",
        "row 6, column prediction: empty",
        "row 7, column low: 'x' is not a number",
    ):
        assert line in str(caught.value)


def test_tables_must_hold_the_test_parts_asked_for(photos, tmp_path):
    test = make_split(photos, 4).test
    source = table(tmp_path / "p.csv", [f"in/{i:02}.png,{i}" for i in test])
    (part,) = source.parts(photos, [4])
    assert part.indices == test
    with pytest.raises(DatasetError, match=r"no prediction for .* pictures of the test parts"):
        source.parts(photos, [4, 5])
    with pytest.raises(DatasetError, match="no row for"):
        list(source.predict(photos, "all", range(30)))


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no rows"), ("image,prediction\n", "no rows"), ("file,prediction\na,1\n", "no column image or path or name")],
)
def test_tables_without_the_columns(tmp_path, text, words):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        open_source(str(tmp_path / "p.csv"))


def test_a_model_predicts_what_the_scorer_scores(photos, tiny_model):
    source = open_source(str(tiny_model))
    assert isinstance(source, ModelSource)
    assert source.model == Scorer(tiny_model).model_id
    parts = source.parts(photos, [0])
    assert [part.seed for part in parts] == [0, None]
    scorer = Scorer(tiny_model)
    for i, prediction in source.predict(photos, "all", [0, 7, 29]):
        score = scorer.score(photos.samples[i].path)
        assert prediction == Prediction(score.score, score.low, score.high)


def test_a_model_never_makes_up_a_score(tmp_path, tiny_model):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "s.csv").write_text("image,mos\na.png,5\n")
    dataset = load_dataset(str(tmp_path / "s.csv"))
    with pytest.raises(DatasetError, match=r"cannot be scored: .*a\.png"):
        list(open_source(str(tiny_model)).predict(dataset, "all", [0]))


def test_a_model_trained_on_the_data_says_so(photos, tiny_model, monkeypatch):
    source = ModelSource(str(tiny_model))
    assert source.warnings(photos, [0]) == []
    monkeypatch.setattr(source, "_trained_on", "all of PHOTOS and more")
    assert source.warnings(photos, [0])[0].startswith("not a test")


def test_runs_are_measured_on_their_own_test_parts(photos, tmp_path, monkeypatch):
    for seed in (10, 2):
        make_run(tmp_path / "runs" / f"split-{seed}", seed)
    calls = []

    def predict_run(run, dataset, indices):
        calls.append(run.name)
        return np.array([float(run.name[6:]) + i for i in indices])

    monkeypatch.setattr("moslens.train.predict.predict_run", predict_run)
    source = open_source(str(tmp_path / "runs"))
    assert isinstance(source, RunSource)
    assert source.model == "runs"
    parts = source.parts(photos, range(11))
    assert [(part.seed, part.epoch) for part in parts] == [(2, 8), (10, 8)]
    assert parts[0].indices == make_split(photos, 2).test
    assert values(source, photos, parts[1]) == [10.0 + i for i in parts[1].indices]
    assert calls == ["split-10"]
    assert [part.seed for part in source.parts(photos, [2])] == [2]
    with pytest.raises(CheckpointError, match="no run of split 5"):
        source.parts(photos, [5])


def test_each_prediction_of_a_run_is_kept_before_the_next_is_made(photos, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", 2)
    kept = tmp_path / "work" / "predictions.jsonl"
    lines = []

    def predict_run(run, dataset, indices):
        for i in indices:
            lines.append(len(kept.read_text().splitlines()))
            yield float(i)

    monkeypatch.setattr("moslens.train.predict.predict_run", predict_run)
    source = open_source(str(run))
    (part,) = source.parts(photos, [2])
    store = Store(tmp_path / "work", source.identity)
    assert store.missing(photos, [part, part]) == len(part.indices)
    calls = []
    store.fill(source, photos, part, lambda: calls.append(None))
    assert lines == list(range(len(part.indices)))
    assert len(calls) == len(part.indices)
    assert store.missing(photos, [part]) == 0


def test_a_run_keeps_its_validation_share_and_fraction(photos, tmp_path):
    run = make_run(tmp_path / "run", 3, validation=0.25, fraction=0.5)
    (part,) = open_source(str(run)).parts(photos, range(10))
    assert part.indices == make_split(photos, 3).test
    assert part.split_hash != open_source(str(make_run(tmp_path / "other", 3))).parts(photos, [3])[0].split_hash


def test_what_a_run_left_out_of_training_is_in_the_protocol(photos, tmp_path):
    whole = open_source(str(make_run(tmp_path / "whole", 3))).protocol(photos)
    part = open_source(str(make_run(tmp_path / "part", 3, validation=0.25, fraction=0.4))).protocol(photos)
    assert part == f"{whole}; 25 % of the training part held out for validation; 40 % of the training groups used"


def test_missing_splits_and_runs_trained_otherwise_are_said(photos, tmp_path):
    for seed in (0, 2):
        make_run(tmp_path / "runs" / f"split-{seed}", seed)
    assert open_source(str(tmp_path / "runs")).warnings(photos, [0, 2]) == []
    (text,) = open_source(str(tmp_path / "runs")).warnings(photos, [0, 1, 2, 3])
    assert text.startswith("there is no run of split 1, 3:")
    make_run(tmp_path / "runs" / "split-4", 4, fraction=0.5)
    (text,) = open_source(str(tmp_path / "runs")).warnings(photos, [0, 2, 4])
    assert text.endswith("they differ in data.fraction")
    assert open_source(str(tmp_path / "runs" / "split-4")).warnings(photos, range(10)) == []


def test_a_run_on_other_data_is_measured_on_all_of_it(photos, tmp_path):
    source = open_source(str(make_run(tmp_path / "run", 0, name="livec")))
    assert source.parts(photos, [0])[0].indices == tuple(range(30))
    assert source.protocol(photos).startswith("trained on a split of livec, tested on all of photos")
    assert source.warnings(photos, [0]) == []


def test_a_run_trained_on_everything_is_no_test(photos, tmp_path):
    source = open_source(str(make_run(tmp_path / "run", -1)))
    assert source.parts(photos, range(10))[0].indices == tuple(range(30))
    assert "not a test" in source.warnings(photos, [0])[0]


def test_stored_predictions_are_reused_when_asked(photos, tmp_path):
    test = make_split(photos, 1).test
    rows = [(photos.samples[i].name, i / 2, "test") for i in test] + [("in/99.png", 5, "validation")]
    run = make_run(tmp_path / "run", 1, predictions=rows)
    source = open_source(str(run), reuse=True)
    (part,) = source.parts(photos, [1])
    assert values(source, photos, part) == [i / 2 for i in test]
    assert source.made == "stored by the runs"
    with pytest.raises(CheckpointError, match="stored no prediction for"):
        list(source.predict(photos, part.key, range(30)))


def test_a_run_tested_on_other_pictures_is_refused(photos, tmp_path):
    rows = [(photos.samples[i].name, i, "test") for i in range(6)]
    source = open_source(str(make_run(tmp_path / "run", 1, predictions=rows)))
    with pytest.raises(DatasetError, match="tested on other pictures"):
        source.parts(photos, [1])


def test_broken_and_unfinished_runs(photos, tmp_path):
    with pytest.raises(CheckpointError, match="neither a run"):
        open_source(str(tmp_path))
    with pytest.raises(ModelError):
        open_source("no-such-model")
    run = make_run(tmp_path / "run", 0)
    (run / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="not finished"):
        open_source(str(run)).parts(photos, [0])
    (run / "config.json").write_text('{"config": {"data": {}}}')
    with pytest.raises(CheckpointError, match="not the configuration of a run"):
        open_source(str(run))
    make_run(tmp_path / "two" / "split-0", 4)
    make_run(tmp_path / "two" / "split-1", 4)
    with pytest.raises(CheckpointError, match="second run of split 4"):
        open_source(str(tmp_path / "two"))


class Counting:
    """Predicts i / 7 and counts; stops for good after ``limit`` predictions."""

    def __init__(self, limit=None):
        self.made, self.limit = [], limit

    def predict(self, dataset, key, indices):
        for i in indices:
            if self.limit is not None and len(self.made) == self.limit:
                raise KeyboardInterrupt
            self.made.append(i)
            yield i, Prediction(i / 7, 0.0, None)


PART = Part(0, (3, 1, 4, 15, 9, 2, 6), "all")


def test_the_store_goes_on_where_a_run_was_stopped(photos, tmp_path, caplog):
    first = Counting(limit=4)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path / "work", "me").fill(first, photos, PART)
    with (tmp_path / "work" / "predictions.jsonl").open("ab") as file:
        file.write(b'["all", "in/09.p')
    second = Counting()
    found = Store(tmp_path / "work", "me").fill(second, photos, PART)
    assert found == [Prediction(i / 7, 0.0, None) for i in PART.indices]
    assert first.made + second.made == list(PART.indices)
    third = Counting()
    assert Store(tmp_path / "work", "me").fill(third, photos, PART) == found
    assert third.made == []
    caplog.set_level(logging.WARNING)
    Store(tmp_path / "work", "another").fill(third, photos, PART)
    assert third.made == list(PART.indices)
    assert "starting again" in caplog.text


def test_the_store_tells_runs_apart_and_works_without_a_folder(photos):
    store = Store(None, "me")
    source = Counting()
    store.fill(source, photos, PART)
    store.fill(source, photos, PART)
    assert len(source.made) == 7
    store.fill(source, photos, Part(1, (3,), "split 1"))
    assert source.made[7:] == [3]


def test_predictions_that_are_not_finite_are_refused(photos):
    class Broken(Counting):
        def predict(self, dataset, key, indices):
            yield indices[0], Prediction(float("nan"))

    with pytest.raises(DatasetError, match=r"the prediction for in/03\.png is nan"):
        Store(None, "me").fill(Broken(), photos, PART)


def test_tables_written_on_other_systems_and_by_score(tmp_path):
    names = ["=a.png", "-b.png", "cafe\u0301.png", "sub/d.png"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "set.csv").write_text("image,mos\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names)))
    dataset = load_dataset(str(tmp_path / "set.csv"))
    for given in (
        names,
        [csv_name(name) for name in names],
        ["=a.png", "-b.png", "C:\\x\\caf\u00e9.png", "sub\\d.png"],
    ):
        file = tmp_path / "p.csv"
        with file.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("path", "score"), *zip(given, range(4), strict=True)])
        found = dict(TableSource(file).predict(dataset, "all", range(4)))
        assert {dataset.samples[i].name: p.value for i, p in found.items()} == dict(zip(names, range(4), strict=True))
