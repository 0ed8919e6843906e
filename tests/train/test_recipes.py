"""Recipes: the lineage's learning rates, raw labels, settings added later, and every committed configuration."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.tiny_training import make_labelled, tiny_config
from moslens.data.sets import load_dataset
from moslens.errors import CheckpointError, ConfigError
from moslens.train import train
from moslens.train.config import DataSection, OptimSection, from_dict, load_config
from moslens.train.loop import open_run, rate, rate_of
from moslens.train.networks import build_model
from moslens.train.quality import labelled_stream, split_of

CONFIGS = ROOT / "configs"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (False, [1e-3, 0.334, 0.667, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]),
        (True, [1e-3, 0.334, 0.667, 1, 1, 1, 0.1, 0.1, 0.1]),
    ],
)
def test_lineage_steps_count_from_the_start_or_from_the_warm_up(prefix: bool, expected: list[float]) -> None:
    """Warm-up from 2e-7 to 2e-4 over three of nine epochs, as the lineage's schedulers give it epoch by epoch."""
    optim = OptimSection(epochs=9, rule="lineage", warmup_prefix=prefix)
    rates = [rate_of(optim, step, 5) for step in range(45)]
    assert rates[::5] == pytest.approx(expected, abs=1e-12)
    assert all(rates[i] == rates[i - i % 5] for i in range(45))


def test_cosine_is_the_default_rule() -> None:
    optim = OptimSection(epochs=4, warmup=0.2)
    assert [rate_of(optim, s, 10) for s in range(40)] == [rate(s, 40, 0.2) for s in range(40)]
    with pytest.raises(ConfigError, match=r"optim\.rule is one of cosine, lineage, not 'steps'"):
        from_dict({"optim": {"rule": "steps"}})


def test_raw_labels_are_learned_as_they_are(tmp_path: Path) -> None:
    config = tiny_config(make_labelled(tmp_path / "set"))
    raw = dataclasses.replace(config, data=dataclasses.replace(config.data, standardise=False))
    dataset = load_dataset(config.data.name, Path(config.data.root))
    split = split_of(dataset, config.data)
    batches, labels = labelled_stream(raw, dataset, split)
    assert (labels.mean, labels.std) == (0, 1)
    assert batches.stream.labels.tolist() == [dataset.samples[i].mos for i in split.train]
    train(raw, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["labels"] == {"mean": 0.0, "std": 1.0}


def test_a_run_from_before_a_setting_existed_still_goes_on(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "set.csv")
    open_run(tmp_path / "run", config, {"labels": 1}, resume=False)
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["optim"]["rule"]
    del content["config"]["data"]["standardise"]
    path.write_text(json.dumps(content))
    open_run(tmp_path / "run", config, {"labels": 1}, resume=True)
    other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, rule="lineage"))
    with pytest.raises(
        CheckpointError, match=r"another configuration or other data: optim\.rule was 'cosine' and is 'lineage'"
    ):
        open_run(tmp_path / "run", other, {"labels": 1}, resume=True)
    with pytest.raises(CheckpointError, match="other data"):
        open_run(tmp_path / "run", config, {"labels": 2}, resume=True)


@pytest.mark.parametrize(
    ("name", "stage", "network"),
    [
        ("lite", "quality", "lite"),
        ("teacher-lite", "teacher", "lite"),
        ("shdiqa-lite", "student", "lite"),
        ("release-lite", "student", "lite"),
        ("teacher-paper", "teacher", "paper"),
        ("paper", "student", "paper"),
    ],
)
def test_committed_configurations_load(name: str, stage: str, network: str) -> None:
    config = load_config(CONFIGS / f"{name}.toml")
    assert (config.stage, config.model.config) == (stage, network)
    if name == "paper":
        assert config.optim.rule == "lineage"
        assert not config.optim.warmup_prefix
        assert config.data == DataSection(repeats=10, workers=4)
        assert config.distill.batch == 32
        with pytest.raises(CheckpointError, match="no such weights file"):
            build_model(config.model, pretrained=True)


@pytest.mark.parametrize(
    ("card", "recipe"),
    [("card-quality-lite.toml", "lite.toml"), ("card-shdiqa-lite.toml", "release-lite.toml")],
)
def test_a_card_states_the_size_that_its_recipe_trains_at(card: str, recipe: str) -> None:
    size = load_config(CONFIGS / recipe).data.working_size
    assert f"at most {size} pixels" in (CONFIGS / card).read_text("utf-8")
