"""The severity ranking: ladders get worse version by version, the loss ranks them, training runs and resumes."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny_distillation import make_pool, student_config
from helpers.tiny_training import make_labelled
from moslens.data.split import make_split
from moslens.distortions import KINDS, PAPER_KINDS
from moslens.errors import CheckpointError, ConfigError
from moslens.losses import block_ranking_loss, ranking_loss
from moslens.model import build
from moslens.model.baf import TokenGrid
from moslens.train.config import DistillSection, HarmlessSection, RankSection
from moslens.train.distill.ladder_bank import (
    MAX_VERSIONS,
    LadderBank,
    LadderBatches,
    LadderPlan,
    blank_frame,
    open_ladders,
    plan_ladders,
)
from moslens.train.distill.pool import open_pool
from moslens.train.distill.student_task import StudentTask, changed_blocks
from moslens.train.quality import dataset_of
from moslens.train.student import labelled_ladders, open_rank, rank_kinds, train_student


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("pristine") / "pool")


def make_plan(folder: Path, entries: int = 2 * len(KINDS), seed: int = 0) -> LadderPlan:
    return plan_ladders(open_pool(folder, held_out=0.25), 512, entries, seed)


@pytest.fixture(scope="module")
def bank(pool_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_ladders(tmp_path_factory.mktemp("ladders"), make_plan(pool_folder), processes=1)


def test_versions_differ_more_and_more_from_the_clean_crop(pool_folder: Path) -> None:
    plan = make_plan(pool_folder)
    rises = []
    for index in range(plan.entries):
        ladder = plan.make(index)
        assert 2 <= len(ladder) <= MAX_VERSIONS
        errors = [float(((version.astype(float) - ladder[0]) ** 2).mean()) for version in ladder]
        assert errors[0] == 0
        assert errors[1] > 0
        rises += [low < high for low, high in pairwise(errors)]
    # a kind that is monotone on photos may not be on every made-up texture
    assert np.mean(rises) > 0.95


def test_ladders_by_area_add_a_quarter_a_version(pool_folder: Path) -> None:
    plan = make_plan(pool_folder, entries=200)
    seen = 0
    for index in range(0, 200, 3):
        ladder = plan.make(index)
        changed = [(version != ladder[0]).any(axis=-1) for version in ladder]
        half = changed[1][:112, :112], changed[1][:112, 112:], changed[1][112:, :112], changed[1][112:, 112:]
        if len(ladder) == 5 and sum(quarter.any() for quarter in half) == 1:
            seen += 1
            shares = [float(mask.mean()) for mask in changed]
            assert all(a < b for a, b in pairwise(shares))
            assert shares[1] <= 0.25
    assert seen >= 5


def test_a_negative_is_one_step_below_the_clean_crop(pool_folder: Path) -> None:
    names = open_pool(pool_folder, held_out=0.25)
    plan = plan_ladders(names, 384, 24, 0, ("negative", "darken"), "all")
    assert plan.kinds == ("darken", "negative")
    assert {len(plan.make(index)) for index in range(0, 24, 2)} == {6, 5}, "by level and by area"
    assert {len(plan.make(index)) for index in range(1, 24, 2)} == {2, 5}
    assert plan.to_dict()["steps"] == {"negative": ((1, 2, 3, 4, 5),)}
    assert "steps" not in plan_ladders(names, 384, 24, 0, ("darken",), "all").to_dict()


def test_a_kind_that_comes_often_has_three_times_as_many_ladders(pool_folder: Path) -> None:
    pool = open_pool(pool_folder, held_out=0.25)
    plan = plan_ladders(pool, 384, 10, 0, ("negative", "darken"), "all", often=("color", "blur"))
    assert plan.kinds == ("darken", "negative", "negative", "negative")
    with pytest.raises(ConfigError, match=r"rank\.often"):
        plan_ladders(pool, 384, 10, 0, often=("no-such-kind",))


def test_a_bank_is_its_plan_and_refuses_another(pool_folder: Path, bank: Path) -> None:
    plan = make_plan(pool_folder)
    pictures, counts = np.load(bank / "pictures.npy"), np.load(bank / "rungs.npy")
    assert pictures.shape == (plan.entries, MAX_VERSIONS, 3, 224, 224)
    for index in (0, 17, 51):
        ladder = plan.make(index)
        assert counts[index] == len(ladder)
        np.testing.assert_array_equal(pictures[index, : len(ladder)], np.stack(ladder).transpose(0, 3, 1, 2))
    with pytest.raises(CheckpointError, match="other settings"):
        open_ladders(bank, make_plan(pool_folder, seed=1), processes=1)
    with pytest.raises(ConfigError, match="at least one"):
        make_plan(pool_folder, entries=0)


def test_a_step_is_a_function_of_its_address_and_processes_share_it(bank: Path) -> None:
    stream = LadderBatches(LadderBank(bank), batch=4, versions=3, seed=3)
    whole = stream.draw(1, 5)
    again = LadderBatches(LadderBank(bank), batch=4, versions=3, seed=3).draw(1, 5)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert not torch.equal(whole["pictures"], stream.draw(1, 6)["pictures"])
    parts = [stream.draw(1, 5, rank, 2) for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert torch.equal(part["pictures"], whole["pictures"][rank::2])
        assert torch.equal(part["places"], whole["places"][rank::2])
    assert whole["places"].diff(dim=1).min() >= 0
    with pytest.raises(ConfigError, match=r"rank\.versions"):
        LadderBatches(LadderBank(bank), batch=4, versions=1, seed=0)
    with pytest.raises(ConfigError, match=r"rank\.batch"):
        LadderBatches(LadderBank(bank), batch=1000, versions=3, seed=0)


def test_the_clean_version_is_drawn_where_it_has_a_margin(bank: Path) -> None:
    drawn = [LadderBatches(LadderBank(bank), 8, 3, 3, with_clean=clean).draw(0, 0)["places"] for clean in (False, True)]
    assert (drawn[0][:, 0] > 0).any()
    assert (drawn[1][:, 0] == 0).all()
    assert (drawn[1].diff(dim=1) >= 0).all()
    assert torch.equal(drawn[0][:, 1:], drawn[1][:, 1:])


def test_ladders_of_all_kinds_for_whole_pictures(pool_folder: Path, tmp_path: Path) -> None:
    pool = open_pool(pool_folder, held_out=0.25)
    plan = plan_ladders(pool, 256, len(KINDS), 0, kinds="all", implementations="all", size=256)
    assert plan.to_dict()["size"] == 256
    assert "size" not in plan_ladders(pool, 256, 4, 0).to_dict()
    for index in range(0, len(KINDS), 5):
        ladder = plan.make(index)
        assert {version.shape for version in ladder} == {(256, 256, 3)}
        assert all((version != ladder[0]).any() for version in ladder[1:])
    few = plan_ladders(pool, 256, 4, 0, ("sensor_noise",), "all", "all", 256)
    batch = LadderBatches(LadderBank(open_ladders(tmp_path / "bank", few, processes=1)), 2, 3, 0).draw(0, 0)
    assert batch["pictures"].shape == (2, 3, 3, 256, 256)
    assert batch["blank"].shape == (1, 3, 256, 256)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf="full")
    section = RankSection(weight=1.0, blocks=0.5, clean_margin=0.5)
    losses = StudentTask(model, DistillSection(kd="none", ramp=0.0), 1, rank=section)({"r": batch})
    assert losses["loss"].isfinite()
    assert losses["rank_blocks"] > 0
    for size in (192, 240):
        with pytest.raises(ConfigError, match=r"rank\.size"):
            plan_ladders(pool, 256, 4, 0, size=size)


def test_a_whole_view_trains_with_ladders_of_its_size(pool_folder: Path, tmp_path: Path) -> None:
    config = student_config(
        make_labelled(tmp_path / "set", 8), pool_folder, tmp_path / "none", tmp_path / "none", kd="none"
    )
    rank = RankSection(weight=0.5, clean_margin=0.25, size=256, batch=1, bank=str(tmp_path / "ladders"), entries=2)
    config = dataclasses.replace(
        config,
        rank=rank,
        bdm=dataclasses.replace(config.bdm, kinds="all", implementations="all"),
        data=dataclasses.replace(config.data, view="whole", working_size=256),
        optim=dataclasses.replace(config.optim, epochs=1),
    )
    train_student(config, tmp_path / "run")
    assert '"rank"' in (tmp_path / "run" / "log.jsonl").read_text()
    windows = dataclasses.replace(config, data=dataclasses.replace(config.data, view="windows"))
    with pytest.raises(ConfigError, match=r"rank\.size 256 is for data\.view whole"):
        train_student(windows, tmp_path / "other")


def test_half_of_the_ladders_are_of_the_better_training_photos(pool_folder: Path, bank: Path, tmp_path: Path) -> None:
    table = make_labelled(tmp_path / "set", 12)
    rank = RankSection(
        weight=0.5, batch=4, bank=str(bank), entries=2 * len(KINDS), labelled=30, labelled_bank=str(tmp_path / "own")
    )
    base = student_config(table, pool_folder, tmp_path / "none", tmp_path / "none", kd="none")
    config = dataclasses.replace(base, rank=rank, data=dataclasses.replace(base.data, working_size=512))
    dataset = dataset_of(config.data)
    seen = []
    for seed in (0, 1):
        split = make_split(dataset, seed)
        stream = open_rank(config, dataset, split)
        plan = labelled_ladders(make_plan(pool_folder), dataset, 30)
        assert stream.labelled is not None
        names = {plan.photo(int(entry)) for entry in stream.labelled.entries}
        mean = np.mean([dataset.samples[i].mos for i in split.train])
        assert names == {str(dataset.samples[i].path) for i in split.train if dataset.samples[i].mos >= mean}
        seen.append(names)
        drawn = stream.draw(0, 3)["pictures"].numpy()
        assert len(drawn) == 4
        own = stream.labelled.pictures[stream.labelled.entries]
        for number, ladder in enumerate(drawn):
            there = any((version == other).all() for version in ladder[:1] for other in own.reshape(-1, 3, 224, 224))
            assert there == (number >= 2)
    assert seen[0] != seen[1]
    one = dataclasses.replace(config, rank=dataclasses.replace(rank, batch=1))
    with pytest.raises(ConfigError, match=r"rank\.batch 1 takes 0 ladders"):
        open_rank(one, dataset, make_split(dataset, 0))


def test_where_black_and_white_is_harmless_no_ladder_ends_in_it(pool_folder: Path, tmp_path: Path) -> None:
    config = student_config(tmp_path / "labels.csv", pool_folder, tmp_path, tmp_path, kd="none")
    assert rank_kinds(config) == ()
    harmless = dataclasses.replace(config, harmless=HarmlessSection(weight=0.1))
    assert set(PAPER_KINDS) - set(rank_kinds(harmless)) == {"hsv_saturation"}
    colours = dataclasses.replace(harmless, rank=RankSection(kinds=("color",)))
    assert "color_shift" in rank_kinds(colours)
    assert "hsv_saturation" not in rank_kinds(colours)
    with pytest.raises(ConfigError, match="ends in black and white"):
        rank_kinds(dataclasses.replace(harmless, rank=RankSection(kinds=("hsv_saturation",))))


def test_blank_frames_show_nothing() -> None:
    frames = [blank_frame(np.random.default_rng(seed)) for seed in range(40)]
    assert all(frame.shape == (3, 224, 224) and frame.dtype == np.uint8 for frame in frames)
    assert any(frame.max() < 10 for frame in frames)
    assert any(frame.std() > 40 for frame in frames)
    # no content: what is left after the mean over 16 x 16 px patches is flat
    for frame in frames:
        coarse = frame.reshape(3, 14, 16, 14, 16).mean(axis=(2, 4))
        assert coarse.std(axis=(1, 2)).max() < 10


def test_the_loss_by_hand() -> None:
    places = torch.tensor([[0, 1, 3]])
    # pairs: gap 1 lead 0.1, gap 3 lead 1.0, gap 2 lead 0.9; margin 0.25 wants 0.25, 0.75, 0.5
    loss = ranking_loss(torch.tensor([[1.0, 0.9, 0.0]]), places, 0.25)
    assert loss.item() == pytest.approx(0.15 / 3, abs=1e-6)
    assert ranking_loss(torch.tensor([[3.0, 2.0, 0.0]]), places, 0.25).item() == 0
    # upside down: every pair falls short by its margin and its lead
    assert ranking_loss(torch.tensor([[0.0, 0.5, 1.0]]), places, 0.25).item() == pytest.approx(
        (0.75 + 1.75 + 1.0) / 3, abs=1e-6
    )


def test_the_clean_version_lies_above_by_a_margin_of_its_own() -> None:
    scores, places = torch.tensor([[1.0, 0.9, 0.0]]), torch.tensor([[0, 1, 3]])
    # the pairs with the clean version want .5 more: .75 of .1, 1.25 of 1.0, and the third pair as before
    assert ranking_loss(scores, places, 0.25, 0.5).item() == pytest.approx((0.65 + 0.25) / 3, abs=1e-6)
    worse = torch.tensor([[1, 2, 3]])
    assert ranking_loss(scores, worse, 0.25, 9.0).item() == ranking_loss(scores, worse, 0.25).item()


def test_equal_places_do_not_count_and_the_gradient_points_down_the_ladder() -> None:
    scores = torch.zeros(1, 3, requires_grad=True)
    ranking_loss(scores, torch.tensor([[0, 2, 2]]), 0.25).backward()
    assert scores.grad is not None
    assert scores.grad[0, 0] < 0 < scores.grad[0, 1]
    assert ranking_loss(torch.randn(2, 3), torch.ones(2, 3, dtype=torch.int64), 0.25).item() == 0


def test_blocks_fall_where_they_changed_and_stay_where_they_did_not() -> None:
    places = torch.tensor([[0, 1]])
    changed = torch.zeros(1, 2, 2, 3, dtype=torch.bool)
    changed[0, 0, 1] = torch.tensor([True, True, False])
    # block 0 falls by enough, block 1 by 0.1 of 0.25, block 2 moves by 0.3 though nothing changed
    quality = torch.tensor([[[1.0, 0.5, 0.2], [0.5, 0.4, 0.5]]], requires_grad=True)
    loss = block_ranking_loss(quality, places, changed, 0.25)
    assert loss.item() == pytest.approx((0 + 0.15 + 0.3) / 3, abs=1e-6)
    loss.backward()
    assert quality.grad is not None
    assert quality.grad[0, :, 0].abs().sum() == 0
    assert quality.grad[0, 0, 1] < 0 < quality.grad[0, 1, 1]
    assert quality.grad[0, 0, 2] < 0 < quality.grad[0, 1, 2]


def test_changed_blocks_are_those_of_the_quarter_that_was_degraded() -> None:
    pictures = torch.full((1, 2, 3, 224, 224), 0.5)
    pictures[0, 1, :, :112, 112:] = 0.6
    changed = changed_blocks(pictures, TokenGrid(14, 14).masks(4)[0])
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:2, 2:] = True
    assert torch.equal(changed[0, 0, 1].view(4, 4), expected)
    assert torch.equal(changed[0, 1, 0], changed[0, 0, 1])
    assert not changed[0, 0, 0].any()


def test_block_ranking_needs_blocks() -> None:
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2)
    with pytest.raises(ConfigError, match="needs a model with it"):
        StudentTask(model, DistillSection(kd="none"), 1, rank=RankSection(weight=1.0, blocks=0.5))


def test_steps_on_ladders_put_them_in_order(bank: Path) -> None:
    torch.manual_seed(0)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2)
    section = RankSection(weight=1.0, margin=0.25, batch=4)
    task = StudentTask(model, DistillSection(kd="none", ramp=0.0), 1, rank=section)
    stream = LadderBatches(LadderBank(bank), section.batch, section.versions, 0)
    optimiser = torch.optim.AdamW(task.parameters(), 2e-3)
    batch = {"r": stream.draw(0, 0)}
    first = task(batch)
    for _ in range(15):
        losses = task(batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    assert losses["rank"] < 0.6 * first["rank"]
    assert losses["blank"] < first["blank"]


def test_a_student_trains_with_ladders_and_its_config_says_so(pool_folder: Path, tmp_path: Path) -> None:
    table = make_labelled(tmp_path / "set")
    config = student_config(table, pool_folder, tmp_path / "no-teacher", tmp_path / "no-bank", kd="none")
    rank = RankSection(weight=0.5, blocks=0.5, bank=str(tmp_path / "ladders"), entries=8)
    config = dataclasses.replace(config, rank=rank)
    train_student(config, tmp_path / "run")
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert '"rank"' in log
    assert '"blank"' in log
    assert '"rank_blocks"' in log
    assert (tmp_path / "run" / "predictions.csv").is_file()
    assert config.to_dict()["rank"]["weight"] == 0.5
    assert "rank" not in dataclasses.replace(config, rank=RankSection()).to_dict()


def test_ladders_of_some_kinds_or_groups_alone(pool_folder: Path) -> None:
    pool = open_pool(pool_folder, held_out=0.25)
    every, blind, dark = (plan_ladders(pool, 512, 6, 0, kinds) for kinds in ((), ("brightness", "jpeg"), ("darken",)))
    assert blind.kinds == ("jpeg", "brighten", "darken", "mean_shift")
    assert blind.to_dict()["kinds"] == list(blind.kinds)
    assert "kinds" not in every.to_dict()  # banks from before there was a choice are still those of their plan
    for index in range(dark.entries):
        means = [float(version.mean()) for version in dark.make(index)]
        assert all(low < high for high, low in pairwise(means))
    with pytest.raises(ConfigError, match=r"rank\.kinds: .*'exposures'"):
        plan_ladders(pool, 512, 6, 0, ("exposures",))
