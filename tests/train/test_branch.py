"""Runs that start from a checkpoint of another run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from helpers.small_task import FACTS, SmallBatches, SmallTask, small_config, small_fit
from moslens.errors import CheckpointError, ConfigError
from moslens.train.branch import config_hash
from moslens.train.checkpoint import latest_checkpoint
from moslens.train.config import TrainConfig, from_dict
from moslens.train.curves import read_log
from moslens.train.run_folder import Run

OPTIM = {"ema": 0.9, "average": 3}


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trunk") / "run"
    small_fit(small_config({"keep_at": 0.7, "checkpoint_every": 2}, **OPTIM), run)
    return run


def branch(trunk: Path, tree: dict[str, Any] | None = None, **optim: Any) -> TrainConfig:
    return small_config({"branch": {"run": str(trunk)}, **(tree or {})}, **OPTIM | optim)


def other(**layout: Any) -> SmallTask:
    torch.manual_seed(99)
    return SmallTask(**layout)


def test_a_branch_without_changes_ends_as_its_trunk(trunk: Path, tmp_path: Path) -> None:
    """Weights, both averages, optimiser, schedule and step are all taken over: the starting weights do not matter."""
    assert {path.name for path in trunk.glob("branch-*")} == {"branch-00000014.json", "branch-00000014.safetensors"}
    assert small_fit(branch(trunk), tmp_path / "run", task=other())
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (trunk / "model.safetensors").read_bytes()
    rows = [
        [{k: v for k, v in r.items() if k != "seconds_a_step"} for r in read_log(Run(p))]
        for p in (trunk, tmp_path / "run")
    ]
    assert rows[1] == rows[0][14:]
    assert Run(tmp_path / "run").record["trunk"] == {"config_sha256": config_hash(Run(trunk)), "at": 0.7}


def test_parameters_of_one_side_only(trunk: Path, tmp_path: Path) -> None:
    config = branch(trunk)
    small_fit(config, tmp_path / "more", task=other(extra=True), stop_after=15)
    found = latest_checkpoint(tmp_path / "more")
    assert found is not None
    assert float(found[1]["optimiser.extra.weight.step"]) == 1
    assert float(found[1]["optimiser.model.head.weight.step"]) == 15
    assert {name: int(found[1][f"count.{name}"]) for name in ("extra.weight", "model.head.weight")} == {
        "extra.weight": 1,
        "model.head.weight": 2,
    }
    start = other(extra=True)
    assert start.extra is not None
    moved = (found[1]["task.extra.weight"] - start.extra.weight.detach()).abs().max()
    assert 0 < float(moved) < 2e-3  # one step from its own start
    # a trunk with more layers than its branch
    rich = tmp_path / "rich"
    small_fit(small_config({"keep_at": 0.7}, **OPTIM), rich, task=other(extra=True))
    assert small_fit(branch(rich), tmp_path / "fewer")
    assert "extra.weight" not in load_file(tmp_path / "fewer" / "model.safetensors")


def test_a_broken_branch_equals_an_unbroken_one_and_needs_its_trunk_no_more(trunk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "trunk"
    shutil.copytree(trunk, copy)
    config = branch(copy)
    small_fit(config, tmp_path / "whole", task=other(extra=True))
    small_fit(config, tmp_path / "parts", task=other(extra=True), stop_after=17)
    shutil.rmtree(copy)
    small_fit(config, tmp_path / "parts", task=other(extra=True))
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_the_trunk_of_the_same_split_is_taken_from_a_folder_of_splits(trunk: Path, tmp_path: Path) -> None:
    (tmp_path / "trunks").mkdir()
    shutil.copytree(trunk, tmp_path / "trunks" / "split-0")
    assert small_fit(branch(tmp_path / "trunks"), tmp_path / "run", task=other())
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (trunk / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("tree", "optim", "facts", "message"),
    [
        ({"data": {"split": 1}}, {}, {}, "trains on split 0, the run that branches off on 1"),
        ({"data": {"fraction": 0.5}}, {}, {}, "learns from other labelled pictures"),
        ({"data": {"name": "koniq10k"}}, {}, {}, "learns from other labelled pictures"),
        ({}, {}, {"train_pictures": 19}, "learns from other labelled pictures"),
        ({}, {}, {"labels": {"mean": 50.0, "std": 10.1}}, "learns from other labelled pictures"),
        ({}, {"epochs": 5}, {}, "trains 20 steps, and the run that branches off 25"),
        ({}, {"average": 1}, {}, "averaged 1 epochs by then, and the run that branches off wants 0"),
    ],
)
def test_a_trunk_of_something_else_is_refused(
    trunk: Path, tmp_path: Path, tree: dict[str, Any], optim: dict[str, Any], facts: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        small_fit(branch(trunk, tree, **optim), tmp_path / "run", facts=FACTS | facts)
    assert error.value.path == str(trunk)


def test_a_layer_of_another_shape_is_named(trunk: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"task\.model\.\S+ has the shape \(8,.*branches off \(6,"):
        small_fit(branch(trunk), tmp_path / "run", task=other(width=6))


def test_a_trunk_that_kept_nothing_there_or_is_gone_is_named(trunk: Path, tmp_path: Path) -> None:
    config = small_config({"branch": {"run": str(trunk), "at": 0.5}}, **OPTIM)
    with pytest.raises(CheckpointError, match=r"keeps no checkpoint after step 10 of 20: train it with keep_at = 0\.5"):
        small_fit(config, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"nowhere/config\.json: cannot be read"):
        small_fit(branch(tmp_path / "nowhere"), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    copy = tmp_path / "broken"
    shutil.copytree(trunk, copy)
    tensors = copy / "branch-00000014.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"branch-00000014\.safetensors: is not whole"):
        small_fit(branch(copy), tmp_path / "third")


def test_a_trunk_that_was_replaced_after_the_start_is_refused(trunk: Path, tmp_path: Path) -> None:
    copy = tmp_path / "trunk"
    shutil.copytree(trunk, copy)

    def stop(epoch: int, step: int, rank: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        small_fit(branch(copy), tmp_path / "run", batches=SmallBatches(before=stop))
    shutil.rmtree(copy)
    small_fit(small_config({"keep_at": 0.7, "seed": 3}, **OPTIM), copy)
    with pytest.raises(CheckpointError, match="is another run than when"):
        small_fit(branch(copy), tmp_path / "run")


@pytest.mark.parametrize("tree", [{"keep_at": 1.0}, {"keep_at": -0.1}, {"branch": {"at": 0.0}}, {"branch": {"at": 1}}])
def test_shares_that_are_none_are_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml: (keep_at|branch\.at) is a share of the steps"):
        from_dict(tree, "c.toml")
