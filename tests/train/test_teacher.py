"""The teacher: pooling, heads, labelled views, learning, exact resume, its card, and what it hands to a student."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.processes import run_in_two_processes
from helpers.tiny_distillation import run_teacher_fit
from helpers.tiny_model import make_photo
from helpers.tiny_training import TINY_MODEL
from moslens.blocks import MIN_CHANGE, BlockDegradation
from moslens.distortions import GROUPS, KINDS, PAPER_KINDS
from moslens.distortions.kinds import GROUP_OF, NO_DISTORTION
from moslens.errors import CheckpointError, ConfigError, DatasetError
from moslens.model.baf import TokenGrid, mean_pool
from moslens.model.teacher import (
    EMBEDDING,
    Heads,
    Regions,
    Teacher,
    TeacherConfig,
    box_masks,
    class_kinds,
    kind_classes,
)
from moslens.picture.grid import grid_blocks
from moslens.train import train
from moslens.train.config import BdmSection, TeacherSection, TeacherView, TrainConfig, from_dict
from moslens.train.distill.pool import open_pool
from moslens.train.distill.region_views import (
    DegradedViews,
    ViewBatches,
    block_box,
    changed,
    isolate,
)
from moslens.train.distill.targets import block_targets
from moslens.train.distill.teacher_exam import RegionAnswers, among_paper, measure_views
from moslens.train.distill.teacher_task import TeacherTask
from moslens.train.networks import load_teacher
from moslens.train.teacher import build_task

CLASSES = len(PAPER_KINDS) + 1
TINY = TeacherConfig(backbone="test_efficientnet", dim=24)


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    for number in range(24):
        make_photo(240 + number, 260, seed=number).save(folder / f"{number:02d}.png")
    return folder


def tiny_teacher(pool_folder: Path, **teacher: Any) -> TrainConfig:
    return from_dict(
        {
            "stage": "teacher",
            "checkpoint_every": 2,
            "model": TINY_MODEL,
            "bdm": {"root": str(pool_folder)},
            "teacher": {"views": 16, "regions": 2, "siblings": 2, "examined": 1, **teacher},
            "optim": {"epochs": 2, "batch": 4},
        }
    )


def make_views(folder: Path, seed: int = 0, **teacher: Any) -> DegradedViews:
    pool = open_pool(folder)
    return DegradedViews(pool.root, pool.train, TeacherSection(**teacher), BdmSection(), 512, seed)


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_boxes_of_blocks_are_their_masks(grid: int) -> None:
    boxes = torch.from_numpy(np.stack([block_box(b) for b in grid_blocks(224, 224, grid)]))[None]
    assert torch.equal(box_masks(boxes, 14, 14)[0], TokenGrid(14, 14).masks(grid)[0])


@torch.no_grad()
def test_regions_are_pooled_from_their_own_tokens() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(2, 3, 224, 224)
    boxes = torch.tensor([[[0, 0, 5, 5], [3, 2, 14, 9]], [[1, 1, 4, 4], [0, 0, 14, 14]]])
    teacher = Teacher(dataclasses.replace(TINY, statistics="mean-std")).eval()
    _, tokens, _ = teacher.backbone(pictures)
    pooled = teacher.pool(pictures, boxes)
    grid = tokens.view(2, 14, 14, 24)
    for b in range(2):
        for r, (top, left, bottom, right) in enumerate(boxes[b].tolist()):
            part = grid[b, top:bottom, left:right].reshape(-1, 24)
            assert torch.allclose(pooled[b, r, :24], part.mean(0), atol=1e-5)
            assert torch.allclose(pooled[b, r, 24:], (part.var(0, unbiased=False) + 1e-4).sqrt(), atol=1e-4)
    plain = Teacher(TINY).eval()
    _, tokens, _ = plain.backbone(pictures)
    assert torch.allclose(plain.pool(pictures, boxes)[1], mean_pool(tokens, box_masks(boxes, 14, 14))[1], atol=1e-6)


@torch.no_grad()
def test_heads_read_the_embedding_alone() -> None:
    teacher = Teacher(TINY).eval()
    seen = teacher(torch.rand(2, 3, 224, 224), torch.tensor([[[0, 0, 7, 7]] * 3] * 2))
    assert seen.embedding.shape == (2, 3, EMBEDDING)
    assert seen.kinds.shape == (2, 3, CLASSES) == (2, 3, 27)
    assert seen.levels.shape == (2, 3)
    assert torch.allclose(seen.embedding.norm(dim=-1), torch.ones(2, 3), atol=1e-5)
    kinds, levels = teacher.heads(seen.embedding)
    assert torch.equal(kinds, seen.kinds)
    assert torch.equal(levels, seen.levels)


@torch.no_grad()
def test_a_reference_teacher_sees_nothing_in_equal_pictures() -> None:
    teacher = Teacher(dataclasses.replace(TINY, reference=True)).eval()
    boxes = torch.tensor([[[0, 0, 7, 7]]])
    x, y = torch.rand(1, 3, 224, 224), torch.rand(1, 3, 224, 224)
    assert torch.allclose(teacher(x, boxes, x).pooled, torch.zeros(1, 1, 24), atol=1e-6)
    assert torch.allclose(teacher(x, boxes, x).embedding, teacher(y, boxes, y).embedding, atol=1e-5)
    with pytest.raises(ValueError, match="needs the pristine"):
        teacher(x, boxes)


def test_items_are_what_their_address_says(pool_folder: Path) -> None:
    views, again, other = make_views(pool_folder), make_views(pool_folder), make_views(pool_folder, seed=1)
    for key in [(0, 0), (0, 5), (3, 5)]:
        a, b = views[key], again[key]
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert not torch.equal(a["picture"], other[key]["picture"])
    assert not torch.equal(views[0, 5]["picture"], views[1, 5]["picture"])


@pytest.mark.parametrize("view", get_args(TeacherView))
def test_labels_and_boxes_are_in_range(pool_folder: Path, view: str) -> None:
    views = make_views(pool_folder, view=view, pristine=0.2)
    count = 1 if view == "isolated" else 4
    seen = set()
    for index in range(30):
        item = views[0, index]
        assert item["picture"].shape == (3, 224, 224)
        assert item["picture"].dtype == torch.uint8
        assert item["boxes"].shape == (count, 4)
        assert ("pristine" in item) == (view == "reference")
        assert item["labelled"].shape == (count,)
        for (top, left, bottom, right), kind, level in zip(
            item["boxes"].tolist(), item["kinds"].tolist(), item["levels"].tolist(), strict=True
        ):
            assert 0 <= top < top + 3 <= bottom <= 14
            assert 0 <= left < left + 3 <= right <= 14
            seen.add(kind)
            if kind == NO_DISTORTION:
                assert level == 0
            else:
                assert level in KINDS[kind].active_levels
    assert NO_DISTORTION in seen
    assert len(seen) > 8


def test_labels_are_true_of_the_pixels(pool_folder: Path) -> None:
    """With the pristine twin at hand: what is called degraded changed, what is called pristine did not."""
    views = make_views(pool_folder, view="reference", pristine=0.2)
    told = {"pristine": 0, "degraded": 0}
    for index in range(40):
        item = views[0, index]
        picture, clean = (item[k].permute(1, 2, 0).numpy() for k in ("picture", "pristine"))
        for box, kind, labelled in zip(item["boxes"].numpy(), item["kinds"], item["labelled"], strict=True):
            if kind == NO_DISTORTION:
                assert labelled
                assert np.array_equal(picture, clean)
            else:
                assert changed(picture, clean, box) == bool(labelled)
            told["pristine" if kind == NO_DISTORTION else "degraded"] += 1
    assert min(told.values()) > 10


def test_siblings_share_their_crop_and_differ_in_kind(pool_folder: Path) -> None:
    views = make_views(pool_folder, view="reference", siblings=4, pristine=0.0)
    items = [views[2, index] for index in range(8)]
    for family in (items[:4], items[4:]):
        assert all(torch.equal(item["pristine"], family[0]["pristine"]) for item in family)
        kinds = [int(k) for item in family for k in item["kinds"].unique()]
        assert len(set(kinds)) == len(kinds)
    assert not torch.equal(items[0]["pristine"], items[4]["pristine"])


def test_processes_and_resumed_runs_share_the_stream(pool_folder: Path) -> None:
    batches = ViewBatches(make_views(pool_folder, views=12), batch=4)
    whole = list(batches.epoch(1))
    assert batches.steps == len(whole) == 3
    late = list(batches.epoch(1, start=2))
    assert len(late) == 1
    assert torch.equal(late[0]["picture"], whole[2]["picture"])
    halves = [list(batches.epoch(1, rank=r, world=2)) for r in (0, 1)]
    for step in range(3):
        joined = torch.stack([halves[0][step]["picture"], halves[1][step]["picture"]], dim=1).flatten(0, 1)
        assert torch.equal(joined, whole[step]["picture"])
    pictures = torch.cat([b["picture"] for b in whole])
    assert len({p.numpy().tobytes() for p in pictures}) == 12


def test_workers_repeat_no_stream(pool_folder: Path) -> None:
    plain = ViewBatches(make_views(pool_folder, views=8), batch=2)
    spread = ViewBatches(make_views(pool_folder, views=8), batch=2, workers=2)
    for a, b in zip(plain.epoch(0), spread.epoch(0), strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_signal_to_the_whole_process_group_leaves_the_batches_whole(pool_folder: Path) -> None:
    batches = iter(ViewBatches(make_views(pool_folder, views=24), batch=2, workers=1).epoch(0))
    first = next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(worker.pid, number)
    time.sleep(0.2)
    assert worker.is_alive()
    assert len([first, *batches]) == 12
    assert not worker.is_alive()


def test_loss_by_hand() -> None:
    """Two regions with a label, one ignored, one pristine; the smoothed cross entropy and the level term."""
    torch.manual_seed(1)
    task = TeacherTask(Teacher(TINY), smoothing=0.1, level_weight=0.5).eval()
    batch = {
        "picture": torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8),
        "boxes": torch.tensor([[[0, 0, 5, 5], [3, 3, 9, 9]], [[0, 0, 14, 14], [7, 7, 14, 14]]]),
        "kinds": torch.tensor([[3, 7], [NO_DISTORTION, 25]]),
        "levels": torch.tensor([[2, 2], [0, 5]]),
        "labelled": torch.tensor([[True, False], [True, True]]),
    }
    with torch.no_grad():
        got = task(batch)
        seen = task.model(batch["picture"] / 255.0, batch["boxes"])
    cross, level = 0.0, 0.0
    for i, j in [(0, 0), (1, 0), (1, 1)]:
        p = seen.kinds[i, j].log_softmax(0)
        kind, wanted = int(batch["kinds"][i, j]), int(batch["levels"][i, j])
        cross -= float(0.9 * p[kind] + 0.1 * p.mean())
        if kind != NO_DISTORTION:
            gap = abs(float(seen.levels[i, j]) - wanted) / 4
            level += 0.5 * gap**2 if gap < 1 else gap - 0.5
    assert float(got["loss"]) == pytest.approx((cross + 0.5 * level) / 4, abs=1e-5)
    assert float(got["kind"]) == pytest.approx(cross / 4, abs=1e-5)


def test_it_learns_a_batch_by_heart(pool_folder: Path) -> None:
    task = build_task(tiny_teacher(pool_folder))
    batch = next(iter(ViewBatches(make_views(pool_folder, views=8, siblings=4), batch=8).epoch(0)))
    optimiser = torch.optim.AdamW(task.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        terms = task(batch)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        losses.append(float(terms["kind"].detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert float(terms["accuracy"]) > 0.6


@pytest.mark.parametrize("stop", [3, 6])
def test_interrupted_equals_uninterrupted(pool_folder: Path, tmp_path: Path, stop: int) -> None:
    config = tiny_teacher(pool_folder)
    run_teacher_fit(config, tmp_path / "whole")
    run_teacher_fit(config, tmp_path / "parts", stop_after=stop)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    run_teacher_fit(config, tmp_path / "parts")
    whole, parts = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.allclose(whole[k], parts[k], atol=1e-6, rtol=0) for k in whole)


@pytest.mark.slow
def test_two_processes_equal_one(pool_folder: Path, tmp_path: Path) -> None:
    run_teacher_fit(tiny_teacher(pool_folder), tmp_path / "one")
    run_in_two_processes(run_teacher_fit, tiny_teacher(pool_folder), tmp_path / "two")
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("one", "two"))
    assert all(torch.allclose(one[k], two[k], atol=2e-5, rtol=0) for k in one)


@pytest.mark.slow
def test_the_stage_leaves_a_card_that_names_its_data(pool_folder: Path, tmp_path: Path) -> None:
    config = tiny_teacher(pool_folder)
    train(config, tmp_path / "run")
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    pool = open_pool(pool_folder)
    assert card["pool"]["held_out_hash"] == pool.hash_of(pool.held_out)
    assert card["pool"]["train_pictures"] + card["pool"]["held_out_pictures"] == 24
    assert card["view"] == "uniform"
    assert 0 <= card["held_out"]["kind_accuracy"] <= card["held_out"]["group_accuracy"] <= 1
    assert set(card["composites"]) == {"composite", "uniform_view"}
    assert card["composites"]["composite"]["regions"] == card["composites"]["uniform_view"]["regions"]
    teacher, again = load_teacher(tmp_path / "run")
    assert again == config
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher.training
    with pytest.raises(CheckpointError):
        load_teacher(tmp_path / "none")


def test_held_out_photos_are_never_learned_from(pool_folder: Path) -> None:
    pool = open_pool(pool_folder)
    assert not set(pool.train) & set(pool.held_out)
    assert set(make_views(pool_folder).names) == set(pool.train)
    with pytest.raises(DatasetError):
        open_pool(pool_folder / "none")


@pytest.mark.parametrize("grid", [2, 3])
def test_targets_read_each_block_where_it_was_cut(pool_folder: Path, grid: int) -> None:
    """uniform: a block's target comes from its own view, and equals what the teacher says of that view there."""
    teacher = Teacher(TINY).eval()
    crop = np.array(make_photo(224, 224, seed=3))
    composite = BlockDegradation(grid=grid, feather=0)(crop, np.random.default_rng(5))
    got = block_targets(teacher, composite, "uniform", "embedding")
    assert got.shape == (grid * grid, EMBEDDING)
    assert got.dtype == np.float32
    boxes = torch.from_numpy(np.stack([block_box(b) for b in composite.blocks]))[None]
    with torch.inference_mode():
        for k, view in enumerate(composite.assignment):
            picture = torch.from_numpy(composite.views[view]).permute(2, 0, 1)[None] / 255.0
            assert np.allclose(got[k], teacher(picture, boxes).embedding[0, k].numpy(), atol=1e-5)
    residual = block_targets(teacher, composite, "uniform", "residual")
    assert np.allclose(residual[composite.assignment == 0], 0, atol=1e-5)
    assert np.abs(residual[composite.assignment != 0]).max(1).min() > 1e-4


def test_isolated_targets_do_not_see_the_neighbours() -> None:
    teacher = Teacher(TINY).eval()
    crop = np.array(make_photo(224, 224, seed=3))
    composite = BlockDegradation(grid=2, feather=0)(crop, np.random.default_rng(5))
    changed_image = composite.image.copy()
    changed_image[composite.blocks[3].slices] = 0
    other = dataclasses.replace(composite, image=changed_image)
    for view, same in (("isolated", True), ("composite", False)):
        a, b = (block_targets(teacher, c, view, "embedding")[:3] for c in (composite, other))
        assert np.array_equal(a, b) == same
    box = block_box(composite.blocks[1])
    alone = isolate(composite.image, box)
    assert np.array_equal(alone[composite.blocks[1].slices], composite.image[composite.blocks[1].slices])
    assert np.all(alone[composite.blocks[2].slices] == 128)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("view", "logits"), ("target", "view"), ("kd", "akd+ckd"), ("schedule", "one"), ("head", "own")],
)
def test_unknown_choices_of_a_configuration_are_named(setting: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"distill\.{setting} is one of .*, not '{re.escape(value)}'"):
        from_dict({"distill": {setting: value}})


def test_a_view_that_the_teacher_was_not_trained_for_is_refused() -> None:
    composite = BlockDegradation(grid=2)(np.array(make_photo(224, 224, seed=3)), np.random.default_rng(5))
    with pytest.raises(ConfigError, match="does not fit"):
        block_targets(Teacher(TINY), composite, "reference", "embedding")


def test_reference_targets_of_a_clean_composite_are_nothing() -> None:
    teacher = Teacher(dataclasses.replace(TINY, reference=True)).eval()
    composite = BlockDegradation(grid=2, mode="none")(np.array(make_photo(224, 224, seed=3)), np.random.default_rng(5))
    assert np.allclose(block_targets(teacher, composite, "reference", "roi"), 0, atol=1e-5)
    got = block_targets(teacher, composite, "reference", "embedding")
    assert np.allclose(got, got[:1], atol=1e-5)


def test_figures_of_answers_are_counted_by_hand() -> None:
    answers = RegionAnswers()
    logits = torch.full((1, 4, CLASSES), -9.0)
    for place, answer in enumerate((0, 1, 25, CLASSES - 1)):
        logits[0, place, answer] = 9.0
    levels = torch.tensor([[1.0, 3.0, 9.0, 2.0]])
    kinds = torch.tensor([0, 2, 25, NO_DISTORTION])
    answers.add(kinds, torch.tensor([2, 3, 4, 0]), Regions(logits, logits, logits, levels))
    figures = answers.figures()
    assert figures["regions"] == 3
    assert figures["kind_accuracy"] == pytest.approx(2 / 3, abs=1e-3)
    assert figures["group_accuracy"] == 1
    assert figures["level_error"] == pytest.approx((1 + 0 + 1) / 3, abs=1e-3)
    assert figures["pristine_recall"] == 1
    assert figures["by_kind"] == {"gaussian_blur": 1, "motion_blur": 0, "nonlinear_contrast": 1}
    assert figures["by_level"] == {"2": 1, "3": 0, "4": 1}


def test_answers_among_the_papers_kinds_leave_the_others_out() -> None:
    logits = torch.full((1, 3, len(KINDS) + 1), -9.0)
    for place, answers in enumerate(((30, 4), (5,), (40, len(KINDS)))):  # the best, then the next best
        for rank, answer in enumerate(answers):
            logits[0, place, answer] = 9.0 - rank
    answer = among_paper(Regions(logits, logits, logits, torch.ones(1, 3)))
    found = RegionAnswers()
    found.add(torch.tensor([4, 5, NO_DISTORTION]), torch.tensor([1, 1, 0]), answer)
    assert found.figures()["kind_accuracy"] == 1
    assert found.figures()["pristine_recall"] == 1


def test_a_teacher_of_all_kinds_is_measured_over_the_papers_too(pool_folder: Path) -> None:
    teacher = Teacher(dataclasses.replace(TINY, kinds=tuple(kind.name for kind in KINDS))).eval()
    figures = measure_views(teacher, open_pool(pool_folder), 256, "uniform", 1)
    assert len(figures["by_kind"]) > 40
    for name in ("paper", "among_paper"):
        assert set(figures[name]["by_kind"]) <= set(PAPER_KINDS)
        assert figures[name]["regions"] < figures["regions"]
    assert "paper" not in measure_views(Teacher(TINY).eval(), open_pool(pool_folder), 256, "uniform", 1)
    assert len(GROUP_OF) == len(KINDS) + 1
    assert GROUP_OF[NO_DISTORTION] == len(GROUPS)


def test_no_distortion_is_minus_one_in_labels_and_the_last_class_of_a_classifier() -> None:
    kinds = np.array([NO_DISTORTION, 0, 25])
    assert kind_classes(kinds, 26).tolist() == [26, 0, 25]
    assert kind_classes(kinds, 47).tolist() == [47, 0, 25]
    for count in (26, 47):
        for labels in (kinds, torch.from_numpy(kinds)):
            assert class_kinds(kind_classes(labels, count), count).tolist() == kinds.tolist()
    with pytest.raises(ValueError, match="26 kinds cannot learn kind 26"):
        kind_classes(np.array([26]), 26)


def test_wrong_settings_are_named(pool_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher\.view"):
        build_task(tiny_teacher(pool_folder, view="ema"))
    with pytest.raises(ConfigError, match="statistics"):
        Teacher(dataclasses.replace(TINY, statistics="max"))
    assert isinstance(Heads()(torch.rand(2, EMBEDDING))[0], torch.Tensor)
    assert MIN_CHANGE == 1 / 255
