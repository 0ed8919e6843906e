"""The heterogeneity probe: chance for noise, everything for planted knowledge, no photo on both sides, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.command import call
from helpers.tiny_distillation import make_pool, make_teacher, student_config
from helpers.tiny_training import make_labelled, tiny_config
from moslens.distortions.kinds import NO_DISTORTION
from moslens.errors import CheckpointError, ConfigError
from moslens.evaluate import probe as module
from moslens.evaluate.linear_probe import logistic_probe, ridge_probe
from moslens.evaluate.probe import ProbeSet, chance, describe_run, make_composites, probe, read_tokens
from moslens.evaluate.record import FIGURES
from moslens.system.files import write_json
from moslens.train import checkpoint
from moslens.train.config import TrainConfig, from_dict
from moslens.train.distill.pool import open_pool
from moslens.train.networks import build_model
from moslens.train.run_folder import Run

CLASSES = 27


def finished(config: TrainConfig, run: Path) -> Path:
    """The folder of a run that never learned anything."""
    run.mkdir(parents=True)
    torch.manual_seed(0)
    content = {"config": config.to_dict(), "labels": {"mean": 50.0, "std": 10.0}}
    write_json(run / "config.json", content)
    checkpoint.save_tensors(run / "model.safetensors", build_model(config.model, pretrained=False).state_dict())
    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of forty pictures, a teacher, a quality run, and a folder with two student runs."""
    root = tmp_path_factory.mktemp("probe")
    pool, table = make_pool(root / "pool", 40), make_labelled(root / "set", 4)
    teacher = make_teacher(pool, root / "teacher")
    finished(tiny_config(table), root / "quality")
    for split in (0, 1):
        config = student_config(table, pool, teacher, root / "bank")
        tree = config.to_dict()
        tree["data"]["split"] = split
        finished(from_dict(tree), root / "students" / f"split-{split}")
    return root


def made(kinds: np.ndarray, levels: np.ndarray, photos: np.ndarray, targets: Tensor | None = None) -> list[ProbeSet]:
    """Composites without pictures, for tokens made by hand."""
    return [ProbeSet(2, torch.empty(0), photos, kinds, levels, targets)]


def labelled(count: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Random kinds (five, and pristine) and levels of ``count`` composites of sixty photos."""
    rng = np.random.default_rng(5)
    kinds = rng.choice([0, 4, 9, 13, 20, NO_DISTORTION], (count, 4))
    levels = np.where(kinds == NO_DISTORTION, 0, rng.integers(1, 6, (count, 4)))
    return kinds, levels, np.arange(count) % 60, rng


def test_tokens_that_say_nothing_reach_chance() -> None:
    kinds, levels, photos, rng = labelled()
    figures = probe([torch.from_numpy(rng.normal(size=(300, 4, 16)))], made(kinds, levels, photos))
    assert figures["kind_accuracy"] == pytest.approx(0.2, abs=0.07)
    low, high = figures["kind_accuracy_interval"]
    assert low < figures["kind_accuracy"] < high < low + 0.15
    assert figures["level_error"] == pytest.approx(1.2, abs=0.1)
    assert np.isnan(figures["affinity_error"])
    assert chance(made(kinds, levels, photos))["level_error"] == pytest.approx(1.2, abs=0.1)


def test_planted_knowledge_is_found_whatever_its_offset_and_scale() -> None:
    kinds, levels, photos, rng = labelled()
    tokens = 0.1 * rng.normal(size=(300, 4, CLASSES + 2))
    tokens[..., :CLASSES] += np.eye(CLASSES)[kinds]
    tokens[..., CLASSES] += levels
    tokens = 1e3 * tokens @ rng.normal(size=(CLASSES + 2, CLASSES + 2)) - 7e4
    figures = probe([torch.from_numpy(tokens)], made(kinds, levels, photos))
    assert figures["kind_accuracy"] > 0.99
    assert figures["group_accuracy"] >= figures["kind_accuracy"]
    assert figures["pristine_recall"] > 0.97
    assert figures["level_error"] < 0.25
    assert figures["blocks"] == (kinds != NO_DISTORTION).sum()
    assert len(figures["by_kind"]) == 5
    assert figures["by_kind"]["gaussian_blur"] > 0.97


def test_knowing_the_photo_does_not_help() -> None:
    photos = np.arange(300) % 60
    kinds = np.random.default_rng(0).choice([0, 4, 9, 13, 20], 60)[photos][:, None].repeat(4, 1)
    tokens = torch.eye(60)[photos][:, None].expand(-1, 4, -1)
    figures = probe([tokens], made(kinds, np.full((300, 4), 2), photos))
    assert figures["kind_accuracy"] < 0.4
    assert np.isnan(figures["pristine_recall"])


def test_affinities_are_compared_up_to_rotation() -> None:
    kinds, levels, photos, rng = labelled(60)
    targets = torch.from_numpy(rng.normal(size=(60, 4, 8)))
    rotation = torch.from_numpy(np.linalg.qr(rng.normal(size=(8, 8)))[0])
    asked = made(kinds, levels, photos, targets)
    same = probe([5 * targets @ rotation], asked)
    assert same["affinity_error"] == pytest.approx(0, abs=1e-9)
    assert same["affinity_srcc"] == pytest.approx(1, abs=1e-3)
    other = probe([torch.from_numpy(rng.normal(size=(60, 4, 8)))], asked)
    assert other["affinity_error"] > 0.1
    assert abs(other["affinity_srcc"]) < 0.2
    cosines = torch.nn.functional.cosine_similarity(targets[:, :, None], targets[:, None], dim=-1)
    pairs = cosines[:, ~torch.eye(4, dtype=torch.bool)]
    assert chance(asked)["affinity_error"] == pytest.approx(float(pairs.var(correction=0)), rel=1e-5)


def test_probes_stand_at_the_minimum_of_what_they_say() -> None:
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(3, 2, (200, 6)))
    x[:, 5] = 4.0
    labels = torch.from_numpy(rng.integers(0, 3, 200))
    for one in logistic_probe(x, labels, 4, (0.1, 0.01)):
        weight = one.weight.clone().requires_grad_()
        logits = (x - one.mean) / one.std @ weight.T + one.bias
        loss = torch.nn.functional.cross_entropy(logits, labels) + one.penalty / 2 * weight.square().sum()
        loss.backward()
        assert weight.grad is not None
        assert weight.grad.abs().max() < 1e-4
        assert torch.equal(one(x).argmax(1), logits.argmax(1))
    values = torch.from_numpy(rng.normal(size=200)) + x[:, 0]
    for one in ridge_probe(x, values, (0.3, 1e-3)):
        unit = (x - one.mean) / one.std
        gradient = unit.T @ (one(x)[:, 0] - values) / len(x) + one.penalty * one.weight[0]
        assert gradient.abs().max() < 1e-9
        assert one.weight[0, 5] == 0


def test_composites_are_of_held_out_photos_and_made_again_alike(world: Path) -> None:
    pool = open_pool(world / "pool", held_out=0.25)
    first, again = (make_composites(pool, 512, 30, teacher=world / "teacher") for _ in range(2))
    assert [one.grid for one in first] == [2, 3, 4]
    assert [len(one.photos) for one in first] == [15, 9, 6]
    assert set(np.concatenate([one.photos for one in first])) == set(range(len(pool.held_out)))
    for one, same in zip(first, again, strict=True):
        assert torch.equal(one.pictures, same.pictures)
        assert one.targets is not None
        assert same.targets is not None
        assert torch.equal(one.targets, same.targets)
        assert one.targets.shape == (len(one.photos), one.grid**2, 128)
        assert ((one.kinds == NO_DISTORTION) == (one.levels == 0)).all()
    other = make_composites(pool, 512, 30, seed=1)
    assert not torch.equal(first[0].pictures, other[0].pictures)


def test_too_little_is_refused(world: Path) -> None:
    pool = open_pool(world / "pool", held_out=0.25)
    with pytest.raises(ConfigError, match="3 composites of 6 held-out photos are too few"):
        make_composites(pool, 512, 3)
    with pytest.raises(ConfigError, match="too few"):
        make_composites(open_pool(world / "pool", held_out=0.05), 512, 60)


def test_every_stage_has_block_tokens(world: Path) -> None:
    pool = open_pool(world / "pool", held_out=0.25)
    asked = make_composites(pool, 512, 12)
    shapes = {"quality": 24, "students/split-0": 24, "teacher": 128}
    for name, width in shapes.items():
        tokens = read_tokens(describe_run(world / name), asked)
        assert [tuple(one.shape) for one in tokens] == [(len(c.photos), c.grid**2, width) for c in asked]
        assert all(bool(one.isfinite().all()) for one in tokens)


def test_a_teacher_that_needs_the_pristine_picture_is_refused(world: Path, tmp_path: Path) -> None:
    run = make_teacher(world / "pool", tmp_path / "reference", view="reference")
    with pytest.raises(ConfigError, match="does not read a composite alone"):
        describe_run(run)
    # but its affinities can be asked for
    pool = open_pool(world / "pool", held_out=0.25)
    assert make_composites(pool, 512, 12, teacher=run)[0].targets is not None


def test_a_teacher_is_refused_where_scores_are_wanted(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(world / "set" / "labels.csv")
    assert call("evaluate", world / "teacher", "--dataset", table, "--splits", "0") == 2
    assert "is a run of the stage teacher, which gives no scores" in capsys.readouterr().err


def test_an_unfinished_run_is_named(world: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_bytes((world / "quality" / "config.json").read_bytes())
    assert Run(run).config.stage == "quality"
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no such file"):
        describe_run(run)


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    return call("probe", *words), *capsys.readouterr()


def test_the_command_compares_runs_in_the_format_of_results(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "heterogeneity.json"
    settings = ["--pool", world / "pool", "--teacher", world / "teacher", "--composites", 24, "--output", output]
    code, out, err = command(capsys, world / "students", world / "quality", *settings)
    assert (code, err) == (0, "")
    result = json.loads(output.read_text("utf-8"))
    assert result["name"] == "heterogeneity"
    assert result["model"] == "students"
    assert [split["seed"] for split in result["splits"]] == [0, 1]
    assert [row["model"] for row in result["models"]] == ["students", "quality"]
    assert result["models"][0]["splits"] == result["splits"]
    assert set(result["median"]) == set(module.FIGURES)
    assert not set(result["median"]) & set(FIGURES)
    held_out = open_pool(world / "pool", held_out=0.25).held_out
    assert result["dataset"] == f"composites of {len(held_out)} held-out pristine photos"
    lines = out.splitlines()
    assert lines[1].split()[:2] == ["model", "runs"]
    assert lines[2].startswith("students")
    assert f"{result['median']['kind_accuracy']:.4f}" in lines[2]
    assert lines[4].startswith("best constant answer")
    # the same runs asked again answer the same, alone or in company
    command(capsys, world / "quality", *settings[:-1], tmp_path / "again.json")
    alone = json.loads((tmp_path / "again.json").read_text("utf-8"))
    assert alone["splits"] == result["models"][1]["splits"]


def test_wrong_use_is_one_line(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = ["--pool", world / "pool"]
    cases = {
        (tmp_path / "none", *pool): "neither config.json nor split-N/config.json",
        (world / "students", *pool, "--splits", "7"): "no run of split 7",
        (world / "students", *pool, "--splits", "x"): "--splits wants seeds",
        (world / "quality", "--pool", tmp_path / "none"): "no such folder of pristine pictures",
        (world / "quality", *pool, "--output", tmp_path): "is a folder; --output names a JSON file",
        (world / "quality", *pool, "--teacher", tmp_path / "none"): "config.json: cannot be read: No such file",
        (world / "quality", *pool, "--teacher", world / "students" / "split-0"): "is not the run of a teacher",
    }
    for words, message in cases.items():
        code, _, err = command(capsys, *words)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1
