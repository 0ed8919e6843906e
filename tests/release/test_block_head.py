"""The head that is fitted on frozen block features: what it learns from, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.pictures import picture
from helpers.tiny_distillation import make_pool
from moslens.distortions import KINDS
from moslens.model import build
from moslens.picture.grid import grid_blocks
from moslens.release.block_head import block_material, fit_head
from moslens.release.planted_crops import COVERED, plant
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
    first, again, other = (block_material(model, pool, names, 384, 9, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1][:50], other[1][:50])
    features, kinds, levels = first
    assert features.shape == (len(kinds), 4 * 24)
    assert len(levels) == len(kinds) <= 9 * 16
    assert kinds.min() >= -1
    assert not features.requires_grad


def test_a_head_learns_kinds_and_levels_and_is_the_same_for_the_same_features() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(-1, 26, (1500,), generator=generator)
    levels = torch.where(kinds < 0, 0, torch.randint(1, 6, (1500,), generator=generator))
    tokens = 0.3 * torch.randn(1500, 32, generator=generator)
    tokens[torch.arange(1500), kinds + 1] += 4
    tokens[:, 30] += levels
    head = fit_head(tokens[:1200], kinds[:1200], levels[:1200], epochs=150)
    answers, strengths = head(tokens[1200:])
    truth = kinds[1200:]
    named = torch.where(truth < 0, 26, truth)
    assert (answers.argmax(1) == named).float().mean() > 0.95
    degraded = truth >= 0
    assert (strengths - levels[1200:])[degraded].abs().mean() < 0.6
    again = fit_head(tokens[:1200], kinds[:1200], levels[:1200], epochs=150)
    assert torch.equal(head.kind.weight, again.kind.weight)
