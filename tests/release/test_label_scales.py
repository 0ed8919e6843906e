"""Labels on any scale, in either direction, become scores from 0 to 100; labels that nobody explained are refused."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers.command import call
from helpers.tiny_training import make_labelled, tiny_config
from moslens import Scorer
from moslens.data.records import POINTS, DatasetCard, LabelScale
from moslens.data.sets import all_cards, find_card, load_dataset
from moslens.errors import CheckpointError, ConfigError
from moslens.interop import QualityNetwork, create_metric
from moslens.release.export import CardText, export
from moslens.release.score_scale import fit_calibration, in_points, points_of, read_held_out
from moslens.train import train
from moslens.train.config import TrainConfig, from_dict
from moslens.train.loop import open_run
from moslens.train.networks import load_run
from moslens.train.quality import dataset_of
from moslens.train.run_folder import Run

TEXT = CardText("tiny", "Apache-2.0", "made pictures", ("good for nothing",))

# About the lowest and the highest label that each data set published.
PUBLISHED = {
    "live": (-2.6, 111.8),
    "csiq": (0.0, 1.0),
    "tid2013": (0.24, 7.21),
    "kadid10k": (1.0, 4.93),
    "livec": (3.4, 92.4),
    "koniq10k": (3.9, 88.4),
    "livefb": (2.0, 93.0),
    "spaq": (3.9, 92.7),
    "cid2013": (1.0, 93.0),
    "bid": (0.1, 4.8),
    "pipal": (868.0, 1857.0),
    "agiqa3k": (0.1, 4.8),
}


def made_run(folder: Path, card: DatasetCard, *, of_version_1: bool) -> Run:
    """A run with held-out predictions near labels that are spread as published."""
    rng = np.random.default_rng(7)
    labels = np.linspace(*PUBLISHED[card.name], 200)
    mos = labels if card.direction == "higher" else -labels
    predictions = mos + rng.normal(0, 0.03 * np.ptp(mos), mos.size)
    run = Run(folder)
    folder.mkdir(parents=True)
    scale = {} if of_version_1 else {"label_scale": card.scale.to_record()}
    config = TrainConfig(data=dataclasses.replace(TrainConfig().data, name=card.name)).to_dict()
    run.config_file.write_text(json.dumps({"config": config, "labels": {"mean": 0, "std": 1}, **scale}))
    run.store_predictions("test", [f"{i}.png" for i in range(mos.size)], list(mos), list(predictions))
    return run


@pytest.mark.parametrize("of_version_1", [True, False])
@pytest.mark.parametrize("card", all_cards(), ids=lambda card: card.name)
def test_the_best_and_the_worst_of_every_card_are_at_the_ends(
    card: DatasetCard, of_version_1: bool, tmp_path: Path
) -> None:
    run = made_run(tmp_path / "run", card, of_version_1=of_version_1)
    held = read_held_out([run], stated=None)
    calibration = fit_calibration(held)
    scores = np.array([calibration.score(raw) for raw in held.raw])
    best, worst = scores[held.mos.argmax()], scores[held.mos.argmin()]
    assert best > 80
    assert worst < 20
    assert calibration.radius < 15
    low, high = card.range
    assert low <= PUBLISHED[card.name][0] <= PUBLISHED[card.name][1] <= high


@pytest.mark.parametrize("name", ["livec", "koniq10k", "livefb", "spaq"])
def test_labels_on_points_keep_every_bit(name: str, tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", find_card(name), of_version_1=True)
    held = read_held_out([run], stated=None)
    assert held.raw.tolist() == [row.prediction for row in run.predictions()]
    assert held.mos.tolist() == [row.mos for row in run.predictions()]


def write_set(folder: Path, low: float, high: float, direction: str, count: int = 60) -> Path:
    """Flat pictures whose brightness is their quality, with labels from ``low`` to ``high``, as a CSV."""
    folder.mkdir(parents=True)
    with (folder / "set.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mos"])
        for i in range(count):
            quality = i / (count - 1)
            Image.new("RGB", (232, 232), (int(20 + 215 * quality),) * 3).save(folder / f"{i:02d}.png")
            share = quality if direction == "higher" else 1 - quality
            writer.writerow([f"{i:02d}.png", low + (high - low) * share])
    return folder / "set.csv"


def learnable(table: Path, mos_range: tuple[float, float], direction: str) -> TrainConfig:
    config = tiny_config(table, epochs=12, batch=8, lr_body=2e-3, lr_new=4e-3)
    return dataclasses.replace(
        config, data=dataclasses.replace(config.data, mos_range=mos_range, direction=direction), checkpoint_every=1000
    )


def as_version_1(run: Path) -> None:
    """Take out of the run of a CSV what version 0.1 did not store."""
    record = json.loads((run / "config.json").read_text())
    del record["label_scale"], record["config"]["data"]["mos_range"], record["config"]["data"]["direction"]
    (run / "config.json").write_text(json.dumps(record))


@pytest.mark.slow
@pytest.mark.parametrize(("low", "high", "direction"), [(1.0, 5.0, "higher"), (0.0, 1.0, "lower")])
def test_a_real_run_exports_scores_over_the_whole_range(
    low: float, high: float, direction: str, tmp_path: Path
) -> None:
    table = write_set(tmp_path / "set", low, high, direction)
    run = tmp_path / "run"
    train(learnable(table, (low, high), direction), run)
    record = json.loads((run / "config.json").read_text())
    assert record["label_scale"] == {"mos_range": [low, high], "direction": direction}
    stored = [row.mos for row in Run(run).predictions()]
    assert all(low <= (mos if direction == "higher" else -mos) <= high for mos in stored)
    export(run, tmp_path / "model", TEXT)
    scorer = Scorer(tmp_path / "model")
    assert scorer.score(table.parent / "59.png").score > 80
    assert scorer.score(table.parent / "00.png").score < 20
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["calibration"]["labels"] == record["label_scale"]
    assert card["calibration"]["radius"] < 50
    found = float(QualityNetwork(run).score_file(table.parent / "59.png"))
    assert found == pytest.approx(scorer.score(table.parent / "59.png").score, abs=0.01)
    # too few held-out pictures to calibrate on: the opinion score itself, in points
    path = run / "predictions.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n")
    assert float(QualityNetwork(run).score_file(table.parent / "59.png")) > 60
    assert float(QualityNetwork(run).score_file(table.parent / "00.png")) < 40


@pytest.mark.slow
def test_a_dmos_that_version_1_learned_as_it_was_is_turned_round(tmp_path: Path) -> None:
    """Version 0.1 took labels in 0-100 for higher is better, whatever they were."""
    table = write_set(tmp_path / "set", 0, 100, "lower")
    run = tmp_path / "run"
    train(learnable(table, (0, 100), "higher"), run)
    as_version_1(run)
    with pytest.raises(ConfigError, match="--mos-range 1:5 --direction higher"):
        export(run, tmp_path / "model", TEXT)
    assert not (tmp_path / "model").exists()
    export(run, tmp_path / "model", TEXT, labels=LabelScale(0, 100, "lower"))
    scorer = Scorer(tmp_path / "model")
    assert scorer.score(table.parent / "59.png").score > 80
    assert scorer.score(table.parent / "00.png").score < 20
    assert json.loads((tmp_path / "model" / "card.json").read_text())["calibration"]["scale"] > 0
    with pytest.raises(ConfigError, match=r"mos_range=\(1, 5\), direction=\"higher\""):
        QualityNetwork(run)
    metric = create_metric(run, mos_range=(0, 100), direction="lower")
    assert float(metric(str(table.parent / "59.png"))) > 80


@pytest.fixture(scope="module")
def csv_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """A finished run on labels from 0 to 100, which its CSV does not explain."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny_config(make_labelled(folder / "set"))
    train(config, folder / "run")
    return config, folder / "run"


def unexplained(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, mos_range=(), direction=""))


def with_labels(config: TrainConfig, **labels: Any) -> TrainConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **labels))


def test_training_on_a_csv_asks_what_its_labels_mean(csv_run: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    config, _ = csv_run
    for half in ({}, {"mos_range": (0.0, 100.0)}, {"direction": "higher"}, {"mos_range": (1.0,), "direction": "lower"}):
        with pytest.raises(ConfigError) as caught:
            train(with_labels(unexplained(config), **half), tmp_path / "run")
        assert str(caught.value).startswith(f"{config.data.name}: ")
        assert 'mos_range = [1, 5] and direction = "higher" (or "lower")' in str(caught.value)
    with pytest.raises(ConfigError, match="not 5 and 1"):
        train(with_labels(config, mos_range=(5.0, 1.0)), tmp_path / "run")
    with pytest.raises(ConfigError, match="kadid10k has its own"):
        train(with_labels(config, name="kadid10k", root=str(tmp_path)), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"data\.direction is one of"):
        from_dict({"data": {"direction": "better"}})
    assert not (tmp_path / "run").exists()


def test_the_command_says_which_lines_to_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_labelled(tmp_path / "set", count=2)
    (tmp_path / "run.toml").write_text(f'[data]\nname = "{table}"\n')
    assert call("train", str(tmp_path / "run.toml"), "--output", str(tmp_path / "run")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"moslens: {table}: ")
    assert 'mos_range = [1, 5] and direction = "higher"' in line
    stated = ["--set", "data.mos_range=[0,100]", "--set", "data.direction=up"]
    assert call("train", str(tmp_path / "run.toml"), "--output", str(tmp_path / "run"), *stated) == 2
    assert "data.direction is one of" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--splits", "0-9")])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            'mos_range = [5, 1]\ndirection = "higher"',
            "data.mos_range wants two numbers, the lower one first, not 5 and 1",
        ),
        ("mos_range = [0, inf]", "data.mos_range wants two numbers, the lower one first, not 0 and inf"),
        ("mos_range = [1]", "data.mos_range wants two numbers, the lower one first, not [1.0]"),
        ('name = "livec"\nmos_range = [0, 1]\ndirection = "lower"', "data.mos_range and data.direction are for a CSV"),
    ],
)
def test_a_wrong_scale_is_said_once_with_its_setting_and_its_file(
    labels: str, message: str, more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    name = "" if "name" in labels else 'name = "set.csv"\n'
    file.write_text(f"[data]\n{name}{labels}\n")
    assert call("train", str(file), "--output", str(tmp_path / "run"), *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"moslens: {file}: {message}")
    assert not (tmp_path / "run").exists()


def test_a_run_of_version_1_on_a_csv_goes_on_and_keeps_its_predictions(
    csv_run: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    config, finished = csv_run
    run = tmp_path / "run"
    run.mkdir()
    for path in finished.iterdir():
        if path.name not in ("predictions.csv", "metrics.json", "model.safetensors"):
            (run / path.name).write_bytes(path.read_bytes())
    as_version_1(run)
    before = (run / "config.json").read_text()
    train(unexplained(config), run, resume=True)
    assert (run / "config.json").read_text() == before
    assert (run / "predictions.csv").read_text() == (finished / "predictions.csv").read_text()
    assert Run(run).label_scale is None
    with pytest.raises(CheckpointError, match="--resume"):
        train(unexplained(config), run)


def test_a_run_goes_on_where_its_scale_was_not_stored_or_a_card_was_corrected(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "set.csv")
    facts = {"labels": 1, "label_scale": LabelScale(1, 5).to_record()}
    open_run(tmp_path / "old", config, {"labels": 1}, resume=False)
    open_run(tmp_path / "old", config, facts, resume=True)
    open_run(tmp_path / "new", config, facts, resume=False)
    open_run(tmp_path / "new", config, facts | {"label_scale": LabelScale(0, 5).to_record()}, resume=True)
    assert Run(tmp_path / "new").label_scale == LabelScale(1, 5)
    with pytest.raises(CheckpointError, match="other data"):
        open_run(tmp_path / "new", config, facts | {"labels": 2}, resume=True)
    with pytest.raises(CheckpointError, match="another configuration"):
        open_run(tmp_path / "new", with_labels(config, mos_range=(0.0, 5.0)), facts, resume=True)


def test_a_run_that_says_what_its_labels_mean_is_believed(csv_run: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    _, run = csv_run
    with pytest.raises(ConfigError, match=r"has labels of 0 to 100 \(higher is better\), not of 1 to 5"):
        export(run, tmp_path / "model", TEXT, labels=LabelScale(1, 5))
    with pytest.raises(ConfigError, match="has labels of"):
        QualityNetwork(run, mos_range=(0, 100), direction="lower")
    with pytest.raises(ConfigError, match="state both"):
        QualityNetwork(run, mos_range=(0, 100))
    with pytest.raises(ConfigError, match="a model scores on 0-100 already"):
        QualityNetwork(mos_range=(0, 100), direction="lower")
    assert QualityNetwork(run, mos_range=(0, 100), direction="higher").calibration is None
    scorer, _ = load_run(run)
    ours = in_points(scorer, points_of(Run(run)))
    assert (ours.mean, ours.std) == (scorer.mean, scorer.std)


def test_folds_have_the_labels_of_the_run(csv_run: tuple[TrainConfig, Path], tmp_path: Path) -> None:
    _, run = csv_run
    for number, name in enumerate(("livec", "bid")):
        made_run(tmp_path / "folds" / f"split-{number}", find_card(name), of_version_1=True)
    with pytest.raises(ConfigError, match=r"split-1: has labels of 0 to 5 .* not of 0 to 100"):
        export(run, tmp_path / "model", TEXT, folds=tmp_path / "folds")


def test_a_malformed_scale_names_the_file(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", find_card("bid"), of_version_1=False)
    for record in ({"mos_range": [5, 1], "direction": "higher"}, {"mos_range": [1]}, 7, {"direction": "higher"}):
        content = json.loads(run.config_file.read_text()) | {"label_scale": record}
        run.config_file.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=r"config\.json: malformed label_scale"):
            Run(run.folder).label_scale  # noqa: B018


def test_the_export_command_takes_both_options_or_none(
    csv_run: tuple[TrainConfig, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = csv_run
    card = tmp_path / "card.toml"
    card.write_text('name = "n"\nlicence = "l"\ntrained_on = "t"\nlimits = []\n')
    command = ["export", str(run), "--card", str(card), "--output", str(tmp_path / "model")]
    assert call(*command, "--mos-range", "0:100") == 2
    assert "state both" in capsys.readouterr().err
    assert call(*command, "--mos-range", "0:5", "--direction", "lower") == 2
    assert "has labels of 0 to 100" in capsys.readouterr().err


def test_a_csv_where_lower_is_better_changes_its_sign(tmp_path: Path) -> None:
    table = make_labelled(tmp_path / "set", count=4)
    plain = load_dataset(str(table))
    turned = load_dataset(str(table), direction="lower")
    assert [s.mos for s in turned.samples] == [-s.mos for s in plain.samples]
    assert (turned.card.score, turned.card.range, turned.card.mos_range) == ("DMOS", (0, 100), (-100, 0))
    assert turned.card.scale.mos.points(np.array([-100.0, -25.0, 0.0])).tolist() == [0, 75, 100]
    assert turned.card.scale.published.points(np.array([100.0, 25.0, 0.0])).tolist() == [0, 75, 100]
    config = with_labels(tiny_config(table), direction="lower")
    assert [s.mos for s in dataset_of(config.data).samples] == [s.mos for s in turned.samples]
    with pytest.raises(ConfigError, match="direction is higher or lower, not 'up'"):
        load_dataset(str(table), direction="up")  # type: ignore[arg-type]


def test_evaluate_reads_a_dmos_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = make_labelled(tmp_path / "set", count=20)
    rows = [(s.name, -s.mos) for s in load_dataset(str(table)).samples]
    predictions = tmp_path / "predictions.csv"
    predictions.write_text("\n".join(["image,prediction", *(f"{name},{value}" for name, value in rows)]) + "\n")
    command = ["evaluate", str(predictions), "--dataset", str(table), "--splits", "0"]
    assert call(*command, "--output", str(tmp_path / "plain")) == 0
    assert call(*command, "--direction", "lower", "--output", str(tmp_path / "turned")) == 0
    found = [json.loads((tmp_path / f"{n}.json").read_text())["median"]["srcc"] for n in ("plain", "turned")]
    assert found == [-1, 1]
    capsys.readouterr()


def test_points_multiply_by_exactly_one() -> None:
    labels = np.random.default_rng(0).uniform(0, 100, 1000)
    assert (POINTS.mos.points(labels) == labels).all()
