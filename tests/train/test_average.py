"""Averages of finished runs: ensembles and soups, what they predict, and which runs they refuse."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.command import call
from helpers.tiny_training import make_labelled, tiny_config
from moslens.data.sets import load_dataset
from moslens.data.split import make_split
from moslens.errors import CheckpointError, ConfigError, OutputError
from moslens.evaluate.measure import evaluate, to_result
from moslens.evaluate.predictors import EnsembleSource, open_source
from moslens.train import train
from moslens.train.average import average, labelled_photos, load_average, mean_weights, require_same_photos
from moslens.train.config import BranchSection, TrainConfig
from moslens.train.ensemble_folder import Ensemble
from moslens.train.networks import load_run
from moslens.train.predict import predict_run
from moslens.train.quality import dataset_of
from moslens.train.run_folder import Run


@dataclasses.dataclass(frozen=True)
class Trained:
    """Folders ``a``, ``b`` and ``c`` of runs of splits 0 and 1, trained with other rates, and what they are made of."""

    folder: Path
    table: Path

    def config(self, split: int = 0, **optim: Any) -> TrainConfig:
        return with_data(tiny_config(self.table, epochs=1, **optim), split=split)


def with_data(config: TrainConfig, **data: Any) -> TrainConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **data))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    found = Trained(folder, make_labelled(folder / "set"))
    for name, rate in (("a", 1e-3), ("b", 3e-3), ("c", 1e-2)):
        for split in (0, 1):
            train(found.config(split, lr_new=rate), folder / name / f"split-{split}")
    return found


def alone(trained: Trained, name: str, split: int) -> np.ndarray:
    """The predictions of one run for the test part of its split, computed anew."""
    dataset = dataset_of(trained.config().data)
    folder = trained.folder / name / f"split-{split}"
    return np.array(list(predict_run(folder, dataset, make_split(dataset, split).test)))


def test_an_ensemble_predicts_the_mean_of_its_members(trained: Trained, tmp_path: Path) -> None:
    runs = [trained.folder / name for name in "abc"]
    assert average(runs, tmp_path / "mean") == [tmp_path / "mean" / "split-0", tmp_path / "mean" / "split-1"]
    source = open_source(str(tmp_path / "mean"))
    assert isinstance(source, EnsembleSource)
    dataset = load_dataset(str(trained.table))
    parts = source.parts(dataset, range(10))
    assert [part.seed for part in parts] == [0, 1]
    for part in parts:
        expected = np.mean([alone(trained, name, part.seed) for name in "abc"], axis=0)
        found = [one.value for _, one in source.predict(dataset, part.key, part.indices)]
        assert np.allclose(found, expected, rtol=0, atol=1e-9)
    stored = open_source(str(tmp_path / "mean"), reuse=True)
    rows = [Run(run / "split-1").predictions() for run in runs]
    by_hand = {one[0].image: sum(row.prediction for row in one) / 3 for one in zip(*rows, strict=True)}
    found = {dataset.samples[i].name: p.value for i, p in stored.predict(dataset, parts[1].key, parts[1].indices)}
    assert found == pytest.approx(by_hand, abs=1e-9)


def test_an_ensemble_names_its_members_and_may_move_with_them(trained: Trained, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "one").mkdir(exist_ok=True)
        train(trained.config(lr_new=1e-3 if name == "a" else 1e-2), tmp_path / "one" / name)
    average([tmp_path / "one" / "a", tmp_path / "one" / "b"], tmp_path / "one" / "mean")
    record = json.loads((tmp_path / "one" / "mean" / "ensemble.json").read_text())
    assert [(one["name"], one["path"]) for one in record["members"]] == [("a", "../a"), ("b", "../b")]
    assert record["members"][1]["weights_sha256"] == Run(tmp_path / "one" / "b").weights_sha256()
    assert record["photos"]["data.split"] == 0
    assert record["photos"]["data set"] == dataset_of(trained.config().data).data_hash()
    (tmp_path / "one").rename(tmp_path / "two")
    mean, configs = load_average(tmp_path / "two" / "mean")
    windows = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():
        each = [load_run(tmp_path / "two" / name)[0](windows) for name in "ab"]
        assert torch.allclose(mean(windows), (each[0] + each[1]) / 2, atol=1e-4)
    assert [config.optim.lr_new for config in configs] == [1e-3, 1e-2]


def test_members_that_changed_are_not_scored_with(trained: Trained, tmp_path: Path) -> None:
    train(trained.config(lr_new=2e-3), tmp_path / "a")
    average([tmp_path / "a", trained.folder / "b" / "split-0"], tmp_path / "mean")
    weights = load_file(tmp_path / "a" / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, tmp_path / "a" / "model.safetensors")
    for opened in (load_average, lambda folder: open_source(str(folder))):
        with pytest.raises(CheckpointError, match=r"a: has other weights than .*ensemble\.json"):
            opened(tmp_path / "mean")
    (tmp_path / "a" / "model.safetensors").unlink()
    source = open_source(str(tmp_path / "mean"), reuse=True)
    dataset = load_dataset(str(trained.table))
    (part,) = source.parts(dataset, [0])
    assert len(list(source.predict(dataset, part.key, part.indices))) == len(part.indices)


def test_predictions_without_weights_can_be_members_but_not_be_scored_with(trained: Trained, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("config.json", "predictions.csv", "metrics.json"):
        shutil.copyfile(trained.folder / "a" / "split-0" / name, kept / name)
    other = trained.folder / "b" / "split-0"
    average([kept, other], tmp_path / "mean")
    with pytest.raises(CheckpointError, match=r"kept: keeps the predictions of a run without its weights"):
        open_source(str(tmp_path / "mean"))
    source = open_source(str(tmp_path / "mean"), reuse=True)
    dataset = load_dataset(str(trained.table))
    (part,) = source.parts(dataset, [0])
    found = {dataset.samples[i].name: one.value for i, one in source.predict(dataset, part.key, part.indices)}
    rows = zip(Run(kept).predictions(), Run(other).predictions(), strict=True)
    assert found == pytest.approx({a.image: (a.prediction + b.prediction) / 2 for a, b in rows}, abs=1e-9)
    with pytest.raises(CheckpointError, match="there are no weights"):
        average([kept, other], tmp_path / "soup", weights=True)
    (kept / "predictions.csv").unlink()
    with pytest.raises(CheckpointError, match="there are no weights"):
        average([kept, other], tmp_path / "none")


def test_evaluate_and_compare_take_ensembles(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("average", *(str(trained.folder / name) for name in "ab"), "--output", str(tmp_path / "mean")) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{tmp_path / 'mean' / 'split-1'}: the mean of 2 runs"
    report = tmp_path / "mean-report"
    assert call("evaluate", tmp_path / "mean", "--dataset", trained.table, "--output", report) == 0
    result = json.loads((tmp_path / "mean-report.json").read_text())
    assert (result["name"], result["model"]) == ("mean-report", "mean")
    assert result["protocol"].endswith("the mean prediction of 2 runs")
    assert [split["seed"] for split in result["splits"]] == [0, 1]
    assert [one["name"] for one in result["config"]["members"]] == ["a", "b"]
    assert [one["config"]["optim"]["lr_new"] for one in result["config"]["members"]] == [1e-3, 3e-3]
    run = to_result(evaluate(open_source(str(trained.folder / "a")), load_dataset(str(trained.table)), draws=10), "a")
    assert result.keys() == run.keys()
    assert result["splits"][0].keys() == run["splits"][0].keys()
    capsys.readouterr()

    arguments = ["compare", str(trained.folder / "a"), str(tmp_path / "mean")]
    assert call(*arguments, "--dataset", str(trained.table), "--format", "json") == 0
    quality = json.loads(capsys.readouterr().out)["quality"]
    assert quality["second_srcc"] == pytest.approx([split["srcc"] for split in result["splits"]], abs=1e-6)
    both = [tmp_path / "mean" / f"split-{n}" for n in (0, 1)]
    assert call("compare", *both, trained.table.parent, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 20
    assert call(*arguments, trained.table.parent) == 2
    assert "holds 2 runs; name one" in capsys.readouterr().err


def test_a_soup_is_a_run_with_the_mean_of_the_weights(trained: Trained, tmp_path: Path) -> None:
    average([trained.folder / name for name in "abc"], tmp_path / "soup", weights=True)
    for split in (0, 1):
        soup = Run(tmp_path / "soup" / f"split-{split}")
        members = [load_file(trained.folder / name / f"split-{split}" / "model.safetensors") for name in "abc"]
        for name, value in soup.weights().items():
            if value.is_floating_point():
                expected = torch.stack([member[name].double() for member in members]).mean(0)
                assert torch.equal(value, expected.float()), name
        assert soup.config == trained.config(split, lr_new=1e-3)
        assert [one["name"] for one in soup.record["soup"]] == ["a", "b", "c"]
        dataset = dataset_of(soup.config.data)
        test = make_split(dataset, split).test
        assert [row.image for row in soup.predictions()] == [dataset.samples[i].name for i in test]
        assert [row.prediction for row in soup.predictions()] == pytest.approx(
            list(predict_run(soup.folder, dataset, test)), abs=1e-6
        )
        assert soup.metrics()["part"] == "test"
    with pytest.raises(CheckpointError, match="another configuration"):
        train(trained.config(lr_new=1e-3), tmp_path / "soup" / "split-0", resume=True)


def test_a_soup_of_trials_is_measured_on_the_validation_part(trained: Trained, tmp_path: Path) -> None:
    for name, rate in (("a", 1e-3), ("b", 1e-2)):
        train(with_data(trained.config(lr_new=rate), validation=0.5), tmp_path / name)
    average([tmp_path / "a", tmp_path / "b"], tmp_path / "soup", weights=True)
    soup = Run(tmp_path / "soup")
    assert soup.metrics()["part"] == "validation"
    assert {row.image for row in soup.predictions("validation")} == {
        row.image for row in Run(tmp_path / "a").predictions("validation")
    }
    assert soup.predictions("test") == []


def test_mean_weights_by_hand() -> None:
    states = [
        {"w": torch.tensor([1.0, 4.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([2.0, 0.0]), "n": torch.tensor(9)},
    ]
    mean = mean_weights(states)
    assert mean["w"].tolist() == [1.5, 2.0]
    assert mean["n"].item() == 3
    with pytest.raises(CheckpointError, match="different networks"):
        mean_weights([{"w": torch.zeros(2)}, {"w": torch.zeros(3)}])


OTHERS = [
    ({"split": 1}, "data.split is 0 in the one and 1 in the other"),
    ({"validation": 0.25}, "data.validation is 0.0 in the one and 0.25 in the other"),
    ({"fraction": 0.5}, "data.fraction is 1.0 in the one and 0.5 in the other"),
    ({"mos_range": (0.0, 200.0)}, "label scale is"),
]


@pytest.mark.parametrize(("data", "words"), OTHERS)
@pytest.mark.parametrize("weights", [False, True])
def test_members_of_other_photos_are_refused(
    trained: Trained, tmp_path: Path, data: dict[str, Any], words: str, weights: bool
) -> None:
    train(with_data(trained.config(), **data), tmp_path / "other")
    first = trained.folder / "a" / "split-0"
    with pytest.raises(CheckpointError) as caught:
        average([first, tmp_path / "other"], tmp_path / "mean", weights=weights)
    assert f"{first} and {tmp_path / 'other'} did not learn from the same labelled photos: {words}" in str(caught.value)
    assert not (tmp_path / "mean").exists()


def test_members_of_other_labels_are_refused(trained: Trained, tmp_path: Path) -> None:
    table = make_labelled(tmp_path / "set")
    text = table.read_text().replace("00.png,20.0", "00.png,29.0")
    table.write_text(text)
    other = trained.config()
    train(with_data(other, name=str(table), root=str(table.parent)), tmp_path / "other")
    with pytest.raises(CheckpointError, match="data set is"):
        average([trained.folder / "a" / "split-0", tmp_path / "other"], tmp_path / "mean")
    # the table is corrected after training: the run still learned from the old one
    table.write_text(text.replace("00.png,29.0", "00.png,20.0"))
    with pytest.raises(CheckpointError, match="same labelled photos: labels is"):
        average([trained.folder / "a" / "split-0", tmp_path / "other"], tmp_path / "mean")


def test_a_later_student_can_ask_what_its_teacher_saw(trained: Trained, tmp_path: Path) -> None:
    average([trained.folder / "a", trained.folder / "b"], tmp_path / "mean")
    seen = Ensemble(tmp_path / "mean" / "split-1").photos
    scale = Run(trained.folder / "a" / "split-0").label_scale
    assert scale is not None
    own, other = (labelled_photos(trained.config(split), scale.to_record()) for split in (1, 0))
    require_same_photos(own, seen, "student", "teacher")
    with pytest.raises(CheckpointError, match=r"student and teacher did not .* data\.split is 0 in the one and 1"):
        require_same_photos(other, seen, "student", "teacher")


def test_weights_of_other_networks_or_starts_are_refused(trained: Trained, tmp_path: Path) -> None:
    first, config = trained.folder / "a" / "split-0", trained.config()
    changes = config.model.changes | {"pooling": "moments"}
    others = {
        "seed": dataclasses.replace(config, seed=5),
        "model.changes": dataclasses.replace(config, model=dataclasses.replace(config.model, changes=changes)),
        "data.working_size": with_data(config, working_size=256),
    }
    for setting, other in others.items():
        train(other, tmp_path / setting)
        with pytest.raises(CheckpointError, match="cannot be averaged, only their predictions can") as caught:
            average([first, tmp_path / setting], tmp_path / "soup", weights=True)
        assert f": {setting} is " in str(caught.value)
        assert str(first) in str(caught.value)
        assert str(tmp_path / setting) in str(caught.value)
        average([first, tmp_path / setting], tmp_path / f"mean of {setting}")


def test_branches_of_one_run_have_one_start(trained: Trained, tmp_path: Path) -> None:
    trunk = dataclasses.replace(trained.config(), keep_at=0.5)
    train(trunk, tmp_path / "trunk")
    branch = BranchSection(str(tmp_path / "trunk"), 0.5)
    for name, seed, rate in (("one", 3, 1e-3), ("two", 4, 1e-2)):
        train(dataclasses.replace(trained.config(lr_new=rate), seed=seed, branch=branch), tmp_path / name)
    average([tmp_path / "one", tmp_path / "two"], tmp_path / "soup", weights=True)
    average([tmp_path / "trunk", tmp_path / "two"], tmp_path / "with the trunk", weights=True)
    with pytest.raises(CheckpointError, match=": seed is 0 in the one and 4 in the other"):
        average([trained.folder / "a" / "split-0", tmp_path / "two"], tmp_path / "no soup", weights=True)


def test_wrong_calls_are_told(trained: Trained, tmp_path: Path) -> None:
    a, b = trained.folder / "a", trained.folder / "b"
    with pytest.raises(ConfigError, match="two runs or more"):
        average([a], tmp_path / "mean")
    with pytest.raises(ConfigError, match="each named once"):
        average([a, trained.folder / "b" / ".." / "a"], tmp_path / "mean")
    with pytest.raises(ConfigError, match=r"a holds split-0, split-1 and .*split-0 a run"):
        average([a, b / "split-0"], tmp_path / "mean")
    with pytest.raises(CheckpointError, match="holds no run"):
        average([a, tmp_path], tmp_path / "mean")
    with pytest.raises(OutputError, match="is there already"):
        average([a, b], a)
    average([a, b], tmp_path / "mean")
    with pytest.raises(CheckpointError, match="is an ensemble itself"):
        average([a, tmp_path / "mean"], tmp_path / "again")
    (tmp_path / "mean" / "split-0" / "ensemble.json").write_text('{"members": [{}]}')
    with pytest.raises(CheckpointError, match="not the record of an ensemble"):
        open_source(str(tmp_path / "mean"))
