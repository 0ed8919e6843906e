"""Distances of blocks to their pristine crop, and the losses that read the crops of a bank."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.tiny_distillation import make_pool, student_config
from helpers.tiny_training import make_labelled
from moslens.distortions.apply import distort
from moslens.errors import ConfigError
from moslens.losses import reference_ranking_loss
from moslens.model import build
from moslens.model.block_heads import block_quality
from moslens.train import train
from moslens.train.config import BdmSection, DistillSection
from moslens.train.distill.bank_references import bank_references, gmsd
from moslens.train.distill.composite_bank import Bank, BankBatches, open_bank, plan_bank
from moslens.train.distill.pool import open_pool
from moslens.train.distill.student_task import CLEARLY_WORSE, REFERENCE_MARGIN, StudentTask


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    folder = tmp_path_factory.mktemp("references")
    pool = open_pool(make_pool(folder / "pool"), held_out=0.25)
    return open_bank(folder / "bank", plan_bank(pool, BdmSection(), 256, 12, 0), processes=1)


def picture(seed: int = 0, side: int = 56) -> Any:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (side // 8, side // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


def blurred(seed: int, level: int) -> Any:
    return distort(picture(seed), "gaussian_blur", level, np.random.default_rng(0))


def slow_gmsd(one: Any, other: Any) -> float:
    """The measure as its paper writes it, place by place."""
    maps = []
    for image in (one, other):
        light = 0.299 * image[..., 0].astype(float) + 0.587 * image[..., 1] + 0.114 * image[..., 2]
        small = np.array(
            [[light[y : y + 2, x : x + 2].mean() for x in range(0, len(light), 2)] for y in range(0, len(light), 2)]
        )
        found = np.empty((len(small) - 2, len(small) - 2))
        for y in range(len(found)):
            for x in range(len(found)):
                part = small[y : y + 3, x : x + 3]
                right, down = part[:, 2] - part[:, 0], part[2] - part[0]
                found[y, x] = np.sqrt((right.sum() / 3) ** 2 + (down.sum() / 3) ** 2)
        maps.append(found)
    similar = (2 * maps[0] * maps[1] + 170) / (maps[0] ** 2 + maps[1] ** 2 + 170)
    return float(np.sqrt(((similar - similar.mean()) ** 2).mean()))


def test_the_distance_is_that_of_the_paper() -> None:
    for seed in range(3):
        one, other = picture(seed), blurred(seed, 1 + seed)
        assert gmsd(other, one) == pytest.approx(slow_gmsd(other, one), rel=1e-9)
        assert gmsd(one, one) == 0
    assert gmsd(blurred(0, 1), picture()) < gmsd(blurred(0, 3), picture())


def test_a_bank_knows_its_crops_and_how_far_each_block_is(bank: Bank) -> None:
    found = bank_references(bank, processes=1)
    assert found.pictures.shape == (12, 3, 224, 224)
    assert found.distances.shape == (12, 16)
    for index in range(12):
        composite = bank.plan.make(index)
        count = len(composite.blocks)
        assert np.array_equal(found.pictures[index], composite.views[0].transpose(2, 0, 1))
        assert np.isnan(found.distances[index, count:]).all()
        for block, distance in zip(composite.blocks, found.distances[index], strict=False):
            same = np.array_equal(composite.image[block.slices], composite.views[0][block.slices])
            assert (distance < 1e-9) if same else (distance >= 0)
    assert (found.distances[:, :4] > CLEARLY_WORSE).any()
    batch = BankBatches(bank, None, 2, 0, references=found).draw(0, 0)
    assert batch["references"].shape == (2, 3, 224, 224)
    assert batch["distances"].shape == (2, batch["grid"] ** 2)
    assert not batch["distances"].isnan().any()


def test_the_worse_block_has_to_be_lower() -> None:
    quality = torch.tensor([[0.0, -1.0, 0.1, 5.0]])
    distances = torch.tensor([[0.0, 0.2, 0.1, torch.nan]])
    # Pairs (better, worse): 0-1 lead 1, 0-2 lead -.1, 2-1 lead 1.1; block 3 counts for none.
    assert float(reference_ranking_loss(quality, distances, 0.25, 0.02)) == pytest.approx(0.35 / 3)
    assert float(reference_ranking_loss(quality, distances, 0.25, 0.15)) == 0
    assert float(reference_ranking_loss(quality, distances, 0.25, 9.0)) == 0


def small_task(**distill: Any) -> StudentTask:
    torch.manual_seed(0)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf="full")
    return StudentTask(model, DistillSection(kd="none", **distill), 2)


def test_both_terms_are_weighed_and_logged(bank: Bank) -> None:
    batch = {"d": BankBatches(bank, None, 2, 0, references=bank_references(bank, processes=1)).draw(0, 1)}
    task = small_task(lambda_f=0.5, preserve=3.0)
    with torch.no_grad():
        next(task.model.backbone.body.parameters()).mul_(1.5)
    for ramp in (0.0, 0.5, 1.0):
        losses = {name: float(value.detach()) for name, value in task(batch | made_labelled()).items()}
        task.eval()
        with torch.no_grad():
            d = batch["d"]
            output = task.model.parts(d["composites"] / 255, d["grid"])
            order = reference_ranking_loss(
                block_quality(task.model, output), d["distances"], REFERENCE_MARGIN, CLEARLY_WORSE
            )
            clean = d["references"] / 255
            pairs = zip(task.model.backbone.maps(clean), task.pretrained.maps(clean), strict=True)
            kept = 1 - np.mean([float(F.cosine_similarity(own, old, 1).mean()) for own, old in pairs])
        task.train()
        assert kept > 1e-4
        assert losses["reference_blocks"] == pytest.approx(float(order), rel=1e-4)
        assert losses["preserve"] == pytest.approx(kept, rel=1e-3)
        expected = losses["quality"] + ramp * (0.5 * float(order) + 3 * kept)
        assert losses["loss"] == pytest.approx(expected, rel=1e-4)
    task(batch | made_labelled())["loss"].backward()
    assert all(p.grad is None for p in task.pretrained.parameters())
    assert all(p.grad is not None for p in task.model.parameters())


def test_at_the_start_nothing_is_lost() -> None:
    task = small_task(preserve=1.0).eval()
    pictures = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert float(task._preserve(pictures).detach()) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lambda_f": -1.0}, "lambda_f is a weight"), ({"preserve": -0.1}, "preserve is a weight")],
)
def test_weights_below_zero_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DistillSection(**settings)


@pytest.mark.parametrize("name", ["lambda_f", "preserve"])
def test_a_schedule_that_ends_with_quality_alone_has_neither(name: str) -> None:
    with pytest.raises(ConfigError, match="two-stage ends with quality alone"):
        DistillSection(schedule="two-stage", warm=1, **{name: 1.0})


def made_labelled() -> dict[str, Any]:
    g = torch.Generator().manual_seed(1)
    return {"q": (torch.randint(0, 256, (2, 3, 224, 224), generator=g, dtype=torch.uint8), torch.ones(2), None)}


def test_the_command_learns_the_order_without_a_teacher(tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool")
    table = make_labelled(tmp_path / "set")
    config = student_config(table, pool, tmp_path / "nobody", tmp_path / "bank", kd="none", lambda_f=0.5, preserve=1.0)
    train(config, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all({"reference_blocks", "preserve"} <= set(row) for row in rows)
    assert all(np.isfinite(row["loss"]) for row in rows)
