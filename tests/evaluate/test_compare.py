"""Two sources on the same pictures: changes, ranks, tests against people, bounds and exit codes."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from helpers.command import call
from moslens.data.sets import load_dataset
from moslens.data.split import make_split
from moslens.errors import ConfigError, DatasetError
from moslens.evaluate.compare import Bounds, Comparison, Move, compare_on_dataset, compare_pictures, to_record
from moslens.evaluate.predictors import Part, RunSource, TableSource, open_source


@pytest.fixture
def tables(tmp_path):
    """A data set of 100 pictures; close.csv follows it, far.csv less so."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(0, 100, 100)
    columns = {"set": mos, "close": mos + rng.normal(0, 5, 100), "far": mos + rng.normal(0, 40, 100)}
    for i in range(100):
        Image.new("RGB", (32, 32), (i, i, i)).save(tmp_path / f"{i:03}.png")
    for name, values in columns.items():
        header = "image,mos" if name == "set" else "image,prediction"
        rows = [f"{i:03}.png,{value:.6f}" for i, value in enumerate(values.clip(0, 100) if name == "set" else values)]
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *rows]))
    return tmp_path, columns


def test_changes_on_pictures_are_sorted_and_summed_up(tables):
    folder, columns = tables
    paths = [str(folder / f"{i:03}.png") for i in range(100)]
    found = compare_pictures(TableSource(folder / "close.csv"), TableSource(folder / "far.csv"), paths)
    change = columns["far"] - columns["close"]
    assert found.mean_change == pytest.approx(change.mean(), abs=1e-5)
    assert found.mean_absolute_change == pytest.approx(np.abs(change).mean(), abs=1e-5)
    assert found.largest_change == pytest.approx(np.abs(change).max(), abs=1e-5)
    assert found.srcc == pytest.approx(stats.spearmanr(columns["close"], columns["far"]).statistic)
    assert found.krcc == pytest.approx(stats.kendalltau(columns["close"], columns["far"]).statistic)
    order = np.argsort(-np.abs(change))
    assert [move.name for move in found.moves[:5]] == [paths[i] for i in order[:5]]
    assert found.moves[0].change == pytest.approx(change[order[0]], abs=1e-5)


def test_the_better_model_wins_on_a_data_set(tables):
    folder, _ = tables
    dataset = load_dataset(str(folder / "set.csv"))
    sources = [TableSource(folder / f"{name}.csv") for name in ("close", "far")]
    found = compare_on_dataset(*sources, dataset, range(10), np.random.default_rng(0), draws=100)
    quality = found.quality
    assert quality.seeds == tuple(range(10))
    assert (quality.sign.wins, quality.sign.losses) == (0, 10)
    assert quality.sign.p == pytest.approx(2 / 2**10)
    assert quality.bootstrap.high < 0
    assert quality.loss > 0.1
    assert min(quality.first_srcc) > max(quality.second_srcc)
    assert all(srcc > 0.9 for srcc in quality.first_plcc)
    swapped = compare_on_dataset(*reversed(sources), dataset, range(10), np.random.default_rng(0), draws=100)
    assert swapped.quality.loss == pytest.approx(-quality.loss)
    assert swapped.quality.sign.wins == 10


def test_splits_that_share_pictures_are_no_new_evidence(tables):
    """Ten copies of one test part say what one says: the interval is not the square root of ten narrower."""
    folder, _ = tables
    dataset = load_dataset(str(folder / "set.csv"))
    sources = [TableSource(folder / f"{name}.csv") for name in ("close", "far")]
    part = Part(0, tuple(range(100)), "all")

    def width(copies):
        for source in sources:
            source.parts = lambda dataset, seeds: [replace(part, seed=k) for k in range(copies)]
        found = compare_on_dataset(*sources, dataset, range(copies), np.random.default_rng(0), draws=300).quality
        assert math.isnan(found.t.p)  # no picture was left to train on
        return found.bootstrap.high - found.bootstrap.low

    assert width(10) == pytest.approx(width(1), rel=0.2)


def test_pictures_of_one_reference_are_drawn_together(tables):
    """Ten pictures a reference that agree but for a trace are ten pieces of evidence, not a hundred."""
    folder, columns = tables
    rng = np.random.default_rng(2)
    copies = {name: np.repeat(values[::10], 10) + rng.normal(0, 0.01, 100) for name, values in columns.items()}
    for name in ("close", "far"):
        rows = [f"{i:03}.png,{value:.4f}" for i, value in enumerate(copies[name])]
        (folder / f"{name}.csv").write_text("\n".join(["image,prediction", *rows]))
    widths = {}
    for label, groups in (("alone", range(100)), ("together", np.repeat(np.arange(10), 10))):
        rows = [f"{i:03}.png,{copies['set'][i].clip(0, 100):.4f},r{g}" for i, g in enumerate(groups)]
        (folder / f"{label}.csv").write_text("\n".join(["image,mos,reference", *rows]))
        dataset = load_dataset(str(folder / f"{label}.csv"))
        sources = [TableSource(folder / f"{name}.csv") for name in ("close", "far")]
        for source in sources:
            source.parts = lambda dataset, seeds: [Part(0, tuple(range(100)), "all")]
        found = compare_on_dataset(*sources, dataset, [0], np.random.default_rng(0), draws=200)
        widths[label] = found.quality.bootstrap.high - found.quality.bootstrap.low
    assert widths["together"] > 1.5 * widths["alone"]


def test_predictions_that_rank_nothing_are_refused_in_words(tables):
    folder, _ = tables
    (folder / "far.csv").write_text("\n".join(["image,prediction", *(f"{i:03}.png,5" for i in range(100))]))
    sources = [TableSource(folder / f"{name}.csv") for name in ("close", "far")]
    with pytest.raises(ConfigError, match="split 3: predictions or scores are all the same"):
        compare_on_dataset(*sources, load_dataset(str(folder / "set.csv")), [3], np.random.default_rng(0))


def test_bounds_name_what_is_passed(tables):
    folder, _ = tables
    paths = [str(folder / f"{i:03}.png") for i in range(100)]
    found = compare_pictures(TableSource(folder / "close.csv"), TableSource(folder / "far.csv"), paths)
    assert Bounds().broken(found) == []
    assert Bounds(max_change=1000, max_mean_change=1000, min_srcc=-1).broken(found) == []
    broken = Bounds(max_change=1, max_mean_change=1, min_srcc=0.99).broken(found)
    assert [sentence.split(" is ")[0] for sentence in broken] == [
        "largest change",
        "mean absolute change",
        "rank correlation",
    ]
    assert len(Bounds(max_loss=1.0).broken(found)) == 1


def test_models_list_pictures_they_cannot_read(photo_folder, tmp_path, tiny_model):
    folder = shutil.copytree(photo_folder, tmp_path / "photos")
    (folder / "broken.png").write_bytes(b"no picture")
    other = shutil.copytree(tiny_model, tmp_path / "other")
    card = json.loads((other / "card.json").read_text())
    card |= {"name": "other", "id": f"other@{card['sha256'][:12]}"}
    card["calibration"]["shift"] += 1.0
    (other / "card.json").write_text(json.dumps(card))
    paths = sorted(str(path) for path in folder.iterdir())
    found = compare_pictures(open_source(str(tiny_model)), open_source(str(other)), paths)
    assert len(found.moves) == len(paths) - 1
    assert len(found.failures) == 1
    assert "broken.png" in found.failures[0]
    assert found.mean_change > 0
    assert found.srcc == pytest.approx(1)
    same = compare_pictures(open_source(str(tiny_model)), open_source(str(tiny_model)), paths)
    assert (same.largest_change, same.srcc) == (0, pytest.approx(1))
    with pytest.raises(ConfigError, match="no picture was scored by both"):
        compare_pictures(open_source(str(tiny_model)), open_source(str(other)), [str(folder / "broken.png")])


def test_runs_need_one_run_for_pictures_and_shared_splits_for_data_sets(tables, monkeypatch):
    folder, _ = tables
    for name, seeds in (("a", (0, 1)), ("b", (1, 2)), ("c", (5,))):
        for seed in seeds:
            run = folder / name / f"split-{seed}"
            run.mkdir(parents=True)
            config = {"data": {"name": "set.csv", "split": seed}, "optim": {"epochs": 1}}
            (run / "config.json").write_text(json.dumps({"config": config}))
            (run / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr("moslens.train.predict.predict_run", lambda run, data, indices: np.arange(float(len(indices))))
    a, b, c = (open_source(str(folder / name)) for name in "abc")
    assert isinstance(a, RunSource)
    dataset = load_dataset(str(folder / "set.csv"))
    found = compare_on_dataset(a, b, dataset, range(10), np.random.default_rng(0), draws=10)
    assert found.quality.seeds == (1,)
    assert found.largest_change == 0
    with pytest.raises(ConfigError, match="share no test part"):
        compare_on_dataset(a, c, dataset, range(10), np.random.default_rng(0))
    with pytest.raises(ConfigError, match="holds 2 runs"):
        compare_pictures(a, b, [str(folder / "000.png")])


def run(arguments, capsys):
    return call("compare", *arguments), *capsys.readouterr()


def test_stored_predictions_are_enough_to_compare_runs(tables, capsys):
    folder, _ = tables
    dataset = load_dataset(str(folder / "set.csv"))
    for name, sign in (("up", 1), ("down", -1)):
        stored = folder / name / "split-0"
        stored.mkdir(parents=True)
        config = {"data": {"name": "set.csv", "split": 0}, "optim": {"epochs": 1}}
        (stored / "config.json").write_text(json.dumps({"config": config}))
        rows = [dataset.samples[i] for i in make_split(dataset, 0).test]
        lines = [f"{row.name},{sign * row.mos},test" for row in rows]
        (stored / "predictions.csv").write_text("\n".join(["image,prediction,part", *lines]) + "\n")
    words = [str(folder / "up"), str(folder / "down"), "--dataset", str(folder / "set.csv"), "--splits", "0"]
    code, out, _ = run([*words, "--reuse"], capsys)
    assert code == 0
    assert json.loads(out)["srcc"] == pytest.approx(-1)
    whole = [part.learned for part in open_source(str(folder / "up"), reuse=True).parts(dataset, [0])]
    for name in ("up", "down"):
        config["data"]["fraction"] = 0.5
        (folder / name / "split-0" / "config.json").write_text(json.dumps({"config": config}))
    assert whole == [len(make_split(dataset, 0).train)]
    (half,) = open_source(str(folder / "up"), reuse=True).parts(dataset, [0])
    assert half.learned == len(make_split(dataset, 0, fraction=0.5).train) < whole[0]
    code, _, err = run(words, capsys)
    assert code == 2
    assert "model.safetensors" in err


def test_exit_code_guards_a_ci(tables, capsys, monkeypatch):
    folder, _ = tables
    monkeypatch.chdir(folder)
    data = ["close.csv", "far.csv", "--dataset", "set.csv", "--splits", "0-2", "--top", "2"]
    code, out, err = run([*data, "--max-loss", "0.9"], capsys)
    assert code == 0
    assert [line.partition(":")[0] for line in err.splitlines()] == ["note", "note"]
    record = json.loads(out)
    assert record["broken"] == []
    assert [text.partition(":")[0] for text in record["warnings"]] == ["close.csv", "far.csv"]
    # three splits prove little, however far apart the two are
    assert 0.05 < record["quality"]["t"]["p"] < 0.3
    assert record["quality"]["t"]["difference"] < -0.1
    assert len(record["moved"]) == 2
    code, out, err = run([*data, "--max-loss", "0.01", "--format", "table"], capsys)
    assert code == 1
    assert "loss of SRCC against opinion scores is" in err
    assert "far.csv better in 0 splits, worse in 3: corrected t-test p" in out
    assert "sign test p 0.25" in out
    assert "far.csv against opinion scores, median of 3 splits" in out


def test_pictures_from_the_command_line(photo_folder, tiny_model, capsys):
    code, out, _ = run([str(tiny_model), str(tiny_model), str(photo_folder), "--max-change", "0"], capsys)
    assert code == 0
    record = json.loads(out)
    assert (record["pictures"], record["largest_change"]) == (6, 0)
    assert record["moved"] == [], "no score differs"
    _, out, _ = run([str(tiny_model), str(tiny_model), str(photo_folder), "--format", "table"], capsys)
    assert out.splitlines()[-1] == "no score moved"


def test_only_pictures_that_moved_are_named():
    moves = tuple(Move(f"{n}.jpg", 50.0, 50.0 + change) for n, change in enumerate((9.0, -4.0, 1e-9, 0.0, 0.0)))
    comparison = Comparison("a", "b", moves)
    assert [move["name"] for move in to_record(comparison, [], 20)["moved"]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [move["name"] for move in to_record(comparison, [], 1)["moved"]] == ["0.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["close.csv", "far.csv"], "needs PATHs or --dataset"),
        (["close.csv", "far.csv", ".", "--dataset", "set.csv"], "and not both"),
        (["close.csv", "far.csv", "000.png", "--max-loss", "0.1"], "--max-loss needs --dataset"),
        (["close.csv", "none.csv", "000.png"], "none.csv"),
    ],
)
def test_wrong_use(tables, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tables[0])
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert words in err


def test_rows_of_errors_are_pictures_that_could_not_be_scored(photo_folder, tmp_path, tiny_model, capsys):
    folder = shutil.copytree(photo_folder, tmp_path / "photos")
    (folder / "broken.png").write_bytes(b"no picture")
    before = tmp_path / "before.csv"
    assert call("score", folder, "--model", tiny_model, "--output", before) == 1
    paths = sorted(str(path) for path in folder.iterdir())
    for one, two in ((str(before), str(tiny_model)), (str(tiny_model), str(before)), (str(before), str(before))):
        found = compare_pictures(open_source(one), open_source(two), paths)
        assert len(found.moves) == len(paths) - 1
        assert found.largest_change == pytest.approx(0, abs=1e-5)
        assert all("broken.png" in sentence for sentence in found.failures)
        assert any("its row in before.csv is an error" in sentence for sentence in found.failures)
    with pytest.raises(DatasetError, match="is none of the pictures given"):
        compare_pictures(open_source(str(before)), open_source(str(tiny_model)), paths[1:])
    assert call("compare", before, tiny_model, folder) == 1


def test_the_t_test_allows_for_the_pictures_that_runs_learned_from(tables):
    folder, _ = tables
    dataset = load_dataset(str(folder / "set.csv"))
    shares = {}
    for fraction in (1.0, 0.5):
        for name, sign in (("up", 1), ("noisy", 0.5)):
            for seed in range(3):
                stored = folder / f"{name}-{fraction}" / f"split-{seed}"
                stored.mkdir(parents=True)
                config = {"data": {"name": "set.csv", "split": seed, "fraction": fraction}, "optim": {"epochs": 1}}
                (stored / "config.json").write_text(json.dumps({"config": config}))
                rows = [dataset.samples[i] for i in make_split(dataset, seed).test]
                noise = np.random.default_rng(seed).normal(0, 20 * (1 - sign) * (1 + seed), len(rows))
                lines = [f"{row.name},{row.mos + jump},test" for row, jump in zip(rows, noise, strict=True)]
                (stored / "predictions.csv").write_text("\n".join(["image,prediction,part", *lines]) + "\n")
        first, second = (open_source(str(folder / f"{name}-{fraction}"), reuse=True) for name in ("noisy", "up"))
        found = compare_on_dataset(first, second, dataset, range(3), np.random.default_rng(0), draws=20)
        shares[fraction] = found.quality.t
    assert shares[0.5].difference == shares[1.0].difference > 0
    assert shares[0.5].p > shares[1.0].p
