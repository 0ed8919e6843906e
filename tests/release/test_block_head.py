"""The head that is fitted on frozen block features: what it learns from, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.pictures import picture
from helpers.tiny_distillation import make_pool
from moslens.distortions import KIND_INDEX, KINDS, kind_names
from moslens.model import build
from moslens.model.block_heads import block_features, faults_loss, feature_count, naming_loss
from moslens.picture.grid import grid_blocks
from moslens.picture.windows import WINDOWS, View
from moslens.release.block_head import block_material, fit_head
from moslens.release.fault_combinations import combine_faults, draw_faults
from moslens.release.planted_crops import COVERED, WHOLE_SIZE, plant, planted_crops
from moslens.train.distill.pool import Pool


@pytest.mark.parametrize("number", range(12))
def test_labels_of_blocks_agree_with_what_was_changed(number: int) -> None:
    crop = picture(224, 224, seed=number)
    sample = plant(crop, 4, number, np.random.default_rng(number))
    assert sample.picture.shape == crop.shape
    assert (crop == picture(224, 224, seed=number)).all()
    changed = np.abs(sample.picture.astype(int) - crop).max(axis=2) > 0
    labels = zip(sample.kinds, sample.levels, sample.labelled, strict=True)
    for block, (kind, level, labelled) in zip(grid_blocks(224, 224, 4), labels, strict=True):
        share = changed[block.slices].mean()
        if labelled and kind == -1:
            assert level == 0
            # a feathered seam may reach four pixels into a clean block
            assert share <= 1 - COVERED + 0.25 * (number % 4 == 1)
        elif labelled:
            assert level in KINDS[kind].active_levels
            assert share > 0
    if number % 4 == 0:
        assert not changed.any()
        assert (sample.kinds == -1).all()
        assert sample.labelled.all()


def test_the_material_has_clean_blocks_and_every_kind() -> None:
    made = [plant(picture(224, 224, seed=n), 4, n, np.random.default_rng(n)) for n in range(160)]
    told = np.concatenate([sample.kinds[sample.labelled] for sample in made])
    assert len(told) < 160 * 16, "some blocks are mixtures and have no label"
    assert 0.35 < (told == -1).mean() < 0.75
    assert len(np.unique(told[told >= 0])) >= 24


def test_material_is_a_function_of_its_seed(tmp_path: Path) -> None:
    root = make_pool(tmp_path / "pool", count=4)
    names = tuple(sorted(path.name for path in root.iterdir()))
    torch.manual_seed(0)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf="full").eval()
    pool = Pool(root, names, ())
    first, again, other = (block_material(model, pool, names, WINDOWS, 4, 9, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1][:50], other[1][:50])
    features, faults = first
    assert features.shape == (len(faults), feature_count(model))
    assert faults.shape[1] == 26
    assert len(faults) <= 9 * 16
    assert set(faults.unique().tolist()) <= {0, 1, 2, 3, 4, 5}
    assert not features.requires_grad
    several = block_material(model, pool, names, WINDOWS, 4, 24, kind_names("all"), "portable", 3, seed=1)[1]
    assert several.shape[1] == len(KINDS)
    assert (several > 0).sum(1).max() > 1 == (faults > 0).sum(1).max()


def test_a_picture_that_is_seen_whole_gives_the_blocks_of_its_map(tmp_path: Path) -> None:
    root = make_pool(tmp_path / "pool", count=4)
    names = tuple(sorted(path.name for path in root.iterdir()))
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf="full").eval()
    made = list(planted_crops(Pool(root, names, ()), names, View(True, 384), 6, 8, 1))
    assert {crop.picture.shape for crop in made} == {(WHOLE_SIZE, WHOLE_SIZE, 3)}
    assert {crop.faults.shape for crop in made} == {(36, len(KINDS))}
    features, faults = block_material(model, Pool(root, names, ()), names, View(True, 384), 6, 8, seed=1)
    assert len(features) == sum(crop.labelled.sum() for crop in made)
    assert (faults.numpy() == np.concatenate([crop.faults[crop.labelled, :26] for crop in made])).all()


def test_the_head_sees_the_pixels_of_a_block_and_of_the_picture() -> None:
    """Mean and deviation of red stand where T begins; texture has no gradient."""
    torch.manual_seed(0)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf="full").eval()
    pictures = torch.rand(1, 3, 128, 192)
    sizes = torch.tensor([[96, 192]])
    output = model.parts(pictures, 3, sizes=sizes)
    features = block_features(output).detach()
    assert features.shape == (1, 9, feature_count(model))
    assert not output.texture.requires_grad
    red = pictures[0, 0]
    channels = model.backbone.texture_channels
    for start, block, part in ((3 * 24, 4, red[32:64, 64:128]), (4 * 24 + 2 * channels, 0, red[:96])):
        assert features[0, block, start] == pytest.approx(float(part.mean()), abs=1e-4)
        assert features[0, block, start + channels] == pytest.approx(float(part.std(correction=0)), abs=1e-3)


def test_a_head_learns_kinds_and_levels_and_is_the_same_for_the_same_features() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(-1, 26, (1500,), generator=generator)
    levels = torch.where(kinds < 0, 0, torch.randint(1, 6, (1500,), generator=generator))
    tokens = 0.3 * torch.randn(1500, 32, generator=generator)
    tokens[torch.arange(1500), kinds + 1] += 4
    tokens[:, 30] += levels
    faults = torch.zeros(1500, 27, dtype=torch.int64)
    faults[torch.arange(1500), kinds] = levels  # -1, clean, is the last column, which is dropped
    faults = faults[:, :26]
    head = fit_head(tokens[:1200], faults[:1200], epochs=150)
    answers, strengths = head(tokens[1200:])
    truth = kinds[1200:]
    named = torch.where(truth < 0, 26, truth)
    assert (answers.argmax(1) == named).float().mean() > 0.95
    degraded = truth >= 0
    assert (strengths - levels[1200:])[degraded].abs().mean() < 0.6
    again = fit_head(tokens[:1200], faults[:1200], epochs=150)
    assert torch.equal(head.kind.weight, again.kind.weight)


# --- several faults at once ------------------------------------------------------------------------------------------


def test_one_fault_a_block_is_the_loss_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(3)
    kinds = torch.tensor([2, -1, 0, 1])
    levels = torch.tensor([4, 0, 1, 5])
    faults = torch.zeros(4, 4, dtype=torch.int64)
    faults[torch.arange(4), kinds] = levels
    predicted = torch.randn(4, 4, generator=generator), 5 * torch.rand(4, generator=generator)
    assert faults_loss(predicted, faults[:, :3]).item() == pytest.approx(
        naming_loss(predicted, kinds, levels).item(), rel=1e-6
    )


def test_any_fault_that_is_there_is_a_right_answer() -> None:
    faults = torch.tensor([[5, 0, 1], [5, 0, 1]])
    # the first block is called kind 0, the second kind 2; both are there, at levels 5 and 1
    logits = torch.tensor([[9.0, -9, -9, -9], [-9.0, -9, 9, -9]], requires_grad=True)
    right = faults_loss((logits, torch.tensor([5.0, 1.0])), faults)
    assert right.item() == pytest.approx(0, abs=1e-4)
    assert faults_loss((logits, torch.tensor([1.0, 5.0])), faults).item() > 3
    wrong = faults_loss((torch.tensor([[-9.0, 9, -9, -9], [-9.0, -9, -9, 9]]), torch.tensor([3.0, 3.0])), faults)
    assert wrong.item() > 15
    faults_loss((logits, torch.tensor([5.0, 1.0], requires_grad=True)), torch.zeros(2, 3)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_faults_of_one_picture_differ_in_group_and_none_undoes_another() -> None:
    counts = set()
    for seed in range(60):
        drawn = draw_faults((240, 320), 1 + seed % 3, np.random.default_rng(seed), kind_names("all"), "portable")
        groups = [fault.kind.group for fault in drawn]
        counts.add(len(drawn))
        assert len(set(groups)) == len(groups)
        assert not {"brightness", "exposure"} <= set(groups)
        assert all(fault.level in fault.kind.active_levels for fault in drawn)
        assert groups == sorted(groups, key=lambda group: group == "compression"), "the file comes last"
    assert counts == {1, 2, 3}
    assert len(draw_faults((64, 64), 3, np.random.default_rng(0), ("jpeg", "jpeg2000"), "default")) == 1


def test_a_combination_changes_what_its_faults_say() -> None:
    crop = picture(240, 300, seed=1)
    before = crop.copy()
    several = 0
    for seed in range(12):
        made = combine_faults(crop, 3, np.random.default_rng(seed), kind_names("all"), "portable")
        again = combine_faults(crop, 3, np.random.default_rng(seed), kind_names("all"), "portable")
        assert (made.picture == again.picture).all()
        inside = np.zeros(crop.shape[:2], bool)
        for fault in made.faults:
            inside[fault.area] = True
        assert (made.picture[~inside] == crop[~inside]).all()
        if len(made.faults) == 1:
            assert made.changes[0] == pytest.approx(np.abs(made.picture.astype(int) - crop).mean(axis=2) / 255)
        if len(made.faults) == 2:
            several += 1
            # what a fault changes is what would not be there without it
            first, second = made.faults
            assert (second.on(first.on(crop)) == made.picture).all()
            assert made.changes[0] == pytest.approx(
                np.abs(made.picture.astype(int) - second.on(crop)).mean(axis=2) / 255
            )
            assert made.changes[1] == pytest.approx(
                np.abs(made.picture.astype(int) - first.on(crop)).mean(axis=2) / 255
            )
    assert several >= 2
    assert (crop == before).all()


def test_a_block_has_every_fault_that_covers_it_and_is_seen() -> None:
    names = ("darken", "jpeg", "white_noise", "gaussian_blur")
    seen = set()
    for number in range(3, 35, 4):
        sample = plant(picture(224, 224, seed=number), 4, number, np.random.default_rng(number), names, combined=3)
        assert sample.faults.shape == (16, len(KINDS))
        known = sample.faults[sample.labelled]
        assert not np.delete(known, [KIND_INDEX[name] for name in names], axis=1).any()
        seen |= set((known > 0).sum(axis=1).tolist())
        strongest = sample.kinds[sample.labelled]
        assert (sample.levels[sample.labelled] == known.max(axis=1)).all()
        assert ((strongest == -1) == ~known.any(axis=1)).all()
    assert {1, 2} <= seen
    assert max(seen) <= 3


def test_without_combinations_crops_are_those_of_before() -> None:
    for number in range(8):
        crop = picture(224, 224, seed=number)
        alone = plant(crop, 4, number, np.random.default_rng(number))
        assert (alone.faults > 0).sum(axis=1).max() <= 1
        if number % 4 < 3:
            combined = plant(crop, 4, number, np.random.default_rng(number), combined=3)
            assert (combined.picture == alone.picture).all()
