"""Harmless changes in training: the loss by hand, the pairs that it sees, and runs that go on where they stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.pictures import picture
from helpers.tiny_distillation import make_pool, student_config
from helpers.tiny_training import make_labelled, same_weights
from moslens.data.labelled_views import LabelledViews
from moslens.data.records import LabelScale
from moslens.distortions.harmless import get_harmless
from moslens.errors import CheckpointError, ConfigError
from moslens.losses import harmless_loss
from moslens.model import build
from moslens.picture.notes import is_monochrome
from moslens.system.interrupts import Stopped
from moslens.train import loop
from moslens.train.config import DistillSection, HarmlessSection, TrainConfig, from_dict
from moslens.train.distill import harmless_pairs
from moslens.train.distill.harmless_pairs import HarmlessBatches, HarmlessPairs
from moslens.train.distill.student_task import StudentTask
from moslens.train.quality import Labels, dataset_of, point_of, split_of, training_labels
from moslens.train.student import rank_in_label_units, train_student


def make_pairs(view: str, implementations: Any = "portable") -> HarmlessPairs:
    photos = [picture(260 + 40 * (n % 2), 330, seed=n) for n in range(6)]
    whole = 256 if view == "whole" else None
    labelled, others = (
        LabelledViews(part, [0.0] * len(part), seed, whole=whole) for seed, part in enumerate((photos[:4], photos[4:]))
    )
    return HarmlessPairs((labelled, others), (4, 2), 256 if view == "whole" else 330, implementations)


# --- the loss --------------------------------------------------------------------------------------------------------


def test_the_loss_by_hand() -> None:
    clean = torch.tensor([0.0, 0.0, 0.0, 0.0])
    changed = torch.tensor([0.1, -0.1, 0.5, -2.2])
    # beyond the dead zone of .2: 0, 0, .3 -> .3^2 / 2, 2.0 -> 2 - 1/2
    assert harmless_loss(changed, clean, 0.2).item() == pytest.approx((0.045 + 1.5) / 4, abs=1e-6)
    assert harmless_loss(clean, changed, 0.2).item() == pytest.approx((0.045 + 1.5) / 4, abs=1e-6)


def test_the_picture_as_it_was_is_the_target() -> None:
    clean, changed = (torch.tensor([start], requires_grad=True) for start in (1.0, 0.0))
    harmless_loss(changed, clean, 0.1).backward()
    assert clean.grad is None
    assert changed.grad is not None
    assert changed.grad.item() < 0, "gradient descent raises the copy towards the picture"
    inside = torch.tensor([0.95], requires_grad=True)
    harmless_loss(inside, clean, 0.1).backward()
    assert inside.grad is not None
    assert inside.grad.item() == 0


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_task_gives_the_loss_of_its_scores_and_a_gradient_for_every_weight(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, dropout=0.3)
    section = HarmlessSection(weight=0.7, dead_zone=2.0)
    task = StudentTask(model, DistillSection(kd="none", ramp=0.0), 1, harmless=section, point=0.01)
    batch = HarmlessBatches(make_pairs("whole"), 3, 0).draw(0, 0)
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        losses = task({"h": batch})
    losses["loss"].backward()
    assert model.training
    assert all(p.grad is not None for p in task.parameters())
    assert losses["loss"].item() == pytest.approx(0.7 * losses["harmless"].item(), rel=1e-6)
    if precision == torch.float32:
        task.eval()
        with torch.no_grad():
            scores = [model(batch[name] / 255.0, batch[f"{name}_sizes"]) for name in ("changed", "clean")]
            expected = harmless_loss(*scores, 0.02)
            assert task({"h": batch})["harmless"].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("scale", "labels", "expected"),
    [
        (LabelScale(0, 100), Labels(58.0, 20.0), 0.05),
        (LabelScale(0, 100), Labels(0.0, 1.0), 1.0),
        (LabelScale(1, 5), Labels(3.0, 0.5), 0.08),
        (LabelScale(1, 5), Labels(0.0, 1.0), 0.04),
        (LabelScale(0, 1, "lower"), Labels(-0.4, 0.1), 0.1),
    ],
)
def test_the_dead_zone_is_in_points_whatever_the_units_of_the_labels(
    scale: LabelScale, labels: Labels, expected: float
) -> None:
    dataset: Any = SimpleNamespace(card=SimpleNamespace(scale=scale))
    assert point_of(dataset, labels) == pytest.approx(expected)


# --- the pairs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["windows", "whole"])
def test_a_step_is_a_function_of_its_address_and_processes_share_it(view: str) -> None:
    stream = HarmlessBatches(make_pairs(view), batch=4, seed=3)
    whole, again = stream.draw(1, 5), HarmlessBatches(make_pairs(view), batch=4, seed=3).draw(1, 5)
    other = [stream.draw(1, 6), stream.draw(2, 5), HarmlessBatches(make_pairs(view), batch=4, seed=4).draw(1, 5)]
    for name in ("clean", "changed"):
        assert torch.equal(whole[name], again[name])
        assert not any(torch.equal(whole[name], each[name]) for each in other)
        assert len(whole[name]) == 4
        assert (whole[f"{name}_sizes"] is None) == (view == "windows")
        parts = [stream.draw(1, 5, rank, 2)[name] for rank in (0, 1)]
        for rank, part in enumerate(parts):
            height, width = part.shape[2:]
            # padding is that of the part's own largest picture
            assert torch.equal(part, whole[name][rank::2, :, :height, :width])
    if view == "whole":
        assert all(side % 32 == 0 for name in ("clean", "changed") for side in whole[name].shape[2:])


def test_every_picture_takes_part() -> None:
    pairs = make_pairs("whole")
    assert len(pairs) == 6
    assert {int(i) for group in HarmlessBatches(pairs, 2, 0).groups for i in group} == set(range(6))
    assert pairs.shape(1) != pairs.shape(0)
    assert pairs.shape(4) == pairs.views[1].shape(0)


@pytest.mark.parametrize("view", ["windows", "whole"])
@pytest.mark.parametrize("name", ["mirror", "black_and_white", "frame", "scaled", "crop"])
def test_both_sides_show_the_same_part(view: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change = get_harmless(name)
    monkeypatch.setattr(harmless_pairs, "draw_harmless", lambda rng, among: (change, next(iter(change.makers))))
    pairs = make_pairs(view)
    for seed in range(6):
        clean, changed = pairs.pair(seed, np.random.default_rng(seed))
        assert view == "whole" or clean.shape == changed.shape == (224, 224, 3)
        assert max(changed.shape) <= 256
        if name == "mirror":
            # the resize of a whole picture rounds its two halves differently
            assert np.abs(changed.astype(int) - clean[:, ::-1]).max() <= (0 if view == "windows" else 2)
        elif name == "black_and_white":
            assert changed.shape == clean.shape
            assert is_monochrome(changed)
            assert np.corrcoef(changed.mean(axis=2).ravel(), clean.mean(axis=2).ravel())[0, 1] > 0.6
        elif name == "frame":
            edges = changed[0], changed[-1], changed[:, 0], changed[:, -1]
            flat = [edge.std(axis=0).max() < 12 for edge in edges]
            # a window that scoring uses lies at an edge, or covers the picture from edge to edge
            assert sum(flat) == 4 if view == "whole" else any(flat)


def test_too_few_photos_and_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"harmless\.batch is 1 to 6"):
        HarmlessBatches(make_pairs("whole"), 7, 0)
    for wrong in ({"weight": -1.0}, {"dead_zone": -0.5}, {"weight": float("nan")}):
        with pytest.raises(ConfigError, match=r"harmless\."):
            from_dict({"harmless": wrong})


# --- the run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("harmless")
    return {"table": make_labelled(folder / "set", 12), "pool": make_pool(folder / "pool", 8)}


def harmless_config(at: dict[str, Path], view: str = "windows", **data: Any) -> TrainConfig:
    nowhere = at["pool"].parent / "nowhere"
    config = student_config(at["table"], at["pool"], nowhere, nowhere, kd="none")
    section = HarmlessSection(weight=0.5, batch=2)
    size = {"working_size": 192} if view == "whole" else {}
    return dataclasses.replace(
        config,
        harmless=section,
        data=dataclasses.replace(config.data, view=view, **size | data),
        bdm=dataclasses.replace(config.bdm, implementations="portable"),
    )


def rows_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("view", ["windows", "whole"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(
    view: str, at: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = harmless_config(at, view)
    train_student(config, tmp_path / "whole")
    step = loop._step
    calls: list[int] = []

    def stops(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise Stopped(15)
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", stops)
    with pytest.raises(Stopped):
        train_student(config, tmp_path / "parts")
    monkeypatch.setattr(loop, "_step", step)
    train_student(config, tmp_path / "parts", resume=True)
    same_weights(tmp_path / "whole", tmp_path / "parts", 0.0)
    logs = [rows_of(tmp_path / name) for name in ("whole", "parts")]
    assert all("harmless" in row and "quality" in row for row in logs[0])
    assert [row["harmless"] for row in logs[0]] == [row["harmless"] for row in logs[1]]
    assert config.to_dict()["harmless"] == {"weight": 0.5, "batch": 2, "dead_zone": 1.0}
    assert "harmless" not in dataclasses.replace(config, harmless=HarmlessSection()).to_dict()


def test_other_photos_cannot_go_on_with_a_run(at: dict[str, Path], tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool", 8)
    config = harmless_config(at | {"pool": pool})
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=1))
    train_student(config, tmp_path / "run")
    train_student(config, tmp_path / "run", resume=True)
    for number in range(4):
        Image.fromarray(picture(240, 250, seed=90 + number)).save(pool / f"more-{number}.png")
    with pytest.raises(CheckpointError, match="another configuration or other data"):
        train_student(config, tmp_path / "run", resume=True)


def test_margins_of_the_ranking_are_in_deviations_of_the_labels_in_any_units(at: dict[str, Path]) -> None:
    config = harmless_config(at)
    config = dataclasses.replace(
        config, rank=dataclasses.replace(config.rank, weight=1.0, margin=0.25, clean_margin=0.5, floor=-2.0)
    )
    dataset = dataset_of(config.data)
    split = split_of(dataset, config.data)
    assert rank_in_label_units(config, dataset, split) is config.rank
    labels = training_labels(config.data, dataset, split)
    raw = dataclasses.replace(config, data=dataclasses.replace(config.data, standardise=False))
    rank = rank_in_label_units(raw, dataset, split)
    assert rank.margin == pytest.approx(0.25 * labels.std)
    assert rank.clean_margin == pytest.approx(0.5 * labels.std)
    assert rank.floor == pytest.approx(labels.mean - 2 * labels.std)
