"""Distillation losses against slow loop-written references, and their properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moslens.errors import ConfigError
from moslens.losses import (
    AFFINITIES,
    NEGATIVES,
    Candidates,
    affinity_distillation,
    batch_candidates,
    contrast,
    contrastive_distillation,
    imitation_loss,
    quality_loss,
)


def blocks(seed: int, batch: int = 3, count: int = 4, dim: int = 8, student_dim: int = 8) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(-1, 3, (batch, count), generator=generator)
    levels = torch.randint(1, 6, (batch, count), generator=generator).where(kinds >= 0, 0)
    return {
        "student": torch.randn(batch, count, student_dim, generator=generator, dtype=torch.float64).float(),
        "teacher": torch.randn(batch, count, dim, generator=generator, dtype=torch.float64).float(),
        "kinds": kinds,
        "levels": levels,
    }


def make_queue(seed: int, dim: int = 8) -> Candidates:
    part = blocks(seed + 1000, batch=2, dim=dim)
    queue = batch_candidates(part["teacher"], part["kinds"], part["levels"])
    levels = queue.levels.clone()
    levels[-3:] = -1
    return Candidates(queue.embeddings, queue.kinds, levels, torch.full_like(queue.pictures, -1))


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def slow_contrastive(
    part: dict[str, Any], tau: float, negatives: str, exclude: bool, queue: Candidates | None
) -> float:
    """The equation, one block and one candidate at a time, in Python floats."""
    entries = [
        (i, k, part["teacher"][i, k].tolist(), int(part["kinds"][i, k]), int(part["levels"][i, k]))
        for i in range(len(part["kinds"]))
        for k in range(part["kinds"].shape[1])
    ]
    old = []
    if negatives == "queue" and queue is not None:
        old = [
            (-1, -1, queue.embeddings[j].tolist(), int(queue.kinds[j]), int(queue.levels[j]))
            for j in range(len(queue.kinds))
            if queue.levels[j] >= 0
        ]
    total = 0.0
    for i, k, target, kind, level in entries:
        anchor = part["student"][i, k].tolist()
        good = math.exp(cosine(anchor, target) / tau)
        bad = 0.0
        for i2, k2, other, kind2, level2 in entries + old:
            if (i2, k2) == (i, k) or (negatives == "in-image" and i2 != i):
                continue
            if exclude and kind == kind2 and abs(level - level2) <= 1:
                continue
            bad += math.exp(cosine(anchor, other) / tau)
        total -= math.log(good / (good + bad))
    return total / len(entries)


def slow_affinity(student: Tensor, teacher: Tensor, mode: str, tau: float) -> float:
    if mode == "cross":
        student, teacher = student.flatten(0, 1)[None], teacher.flatten(0, 1)[None]
    terms = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        for k in range(len(s)):
            others = [j for j in range(len(s)) if j != k]
            ours, theirs = [cosine(s[k], s[j]) for j in others], [cosine(t[k], t[j]) for j in others]
            if mode == "kl":
                p = [math.exp(a / tau) for a in theirs]
                q = [math.exp(a / tau) for a in ours]
                terms.append(sum(x / sum(p) * math.log((x / sum(p)) / (y / sum(q))) for x, y in zip(p, q, strict=True)))
            else:
                terms += [(a - b) ** 2 for a, b in zip(ours, theirs, strict=True)]
    return sum(terms) / len(terms)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(NEGATIVES), st.booleans(), st.sampled_from([0.07, 0.2, 1.0]))
def test_contrastive_equals_its_slow_reference(seed: int, negatives: str, exclude: bool, tau: float) -> None:
    part, queue = blocks(seed), make_queue(seed)
    got = contrastive_distillation(**part, tau=tau, negatives=negatives, exclude=exclude, queue=queue)
    expected = slow_contrastive(part, tau, negatives, exclude, queue)
    assert float(got) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(AFFINITIES), st.sampled_from([0.1, 0.5]))
def test_affinity_equals_its_slow_reference(seed: int, mode: str, tau: float) -> None:
    part = blocks(seed, student_dim=12)
    got = affinity_distillation(part["student"], part["teacher"], mode=mode, tau=tau)
    assert float(got) == pytest.approx(slow_affinity(part["student"], part["teacher"], mode, tau), abs=1e-6)


def test_contrastive_tends_to_zero_for_matched_pairs_of_distinct_kinds() -> None:
    embeddings = torch.eye(8).view(2, 4, 8)
    kinds, levels = torch.arange(8).view(2, 4), torch.full((2, 4), 3)
    values = [float(contrastive_distillation(embeddings, embeddings, kinds, levels, tau=t)) for t in (1.0, 0.2, 0.07)]
    assert values[0] > values[1] > values[2]
    assert values[2] < 1e-5
    shuffled = embeddings.flatten(0, 1).roll(1, 0).view(2, 4, 8)
    assert float(contrastive_distillation(shuffled, embeddings, kinds, levels)) > 10


def test_an_excluded_pair_has_no_gradient_and_a_gap_of_two_levels_has() -> None:
    kinds = torch.tensor([[0, 0, 0]])
    levels = torch.tensor([[1, 2, 4]])
    part = blocks(0, batch=1, count=3)
    student, teacher = part["student"], part["teacher"]
    candidates = batch_candidates(teacher, kinds, levels)
    view = contrast(student.flatten(0, 1), torch.arange(3), candidates)
    scores = view.scores.detach().requires_grad_(True)
    type(view)(scores, view.positive, view.negative, view.same_picture).loss().backward()
    assert scores.grad is not None
    expected = torch.tensor([[True, False, True], [False, True, True], [True, True, True]])
    assert torch.equal(scores.grad != 0, expected)
    everything = contrast(student.flatten(0, 1), torch.arange(3), candidates, exclude=False)
    assert bool(everything.negative.sum() == 6)


def test_pristine_blocks_are_one_kind() -> None:
    part = blocks(1, batch=1)
    part["kinds"], part["levels"] = torch.full((1, 4), -1), torch.zeros(1, 4, dtype=torch.int64)
    assert float(contrastive_distillation(**part)) == 0


def test_an_anchor_without_negatives_costs_nothing_and_stays_finite() -> None:
    part = blocks(3)
    part["kinds"], part["levels"] = torch.zeros(3, 4, dtype=torch.int64), torch.full((3, 4), 2)
    student = part["student"].requires_grad_(True)
    loss = contrastive_distillation(**part)
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert torch.all(student.grad == 0)


@pytest.mark.parametrize("mode", AFFINITIES)
def test_affinity_is_zero_for_equal_affinities_and_positive_else(mode: str) -> None:
    teacher = blocks(5)["teacher"]
    rotation, _ = torch.linalg.qr(torch.randn(8, 8))
    rotated = 3.0 * teacher @ rotation
    assert float(affinity_distillation(rotated, teacher, mode=mode)) == pytest.approx(0, abs=1e-7)
    assert float(affinity_distillation(torch.randn(3, 4, 5), teacher, mode=mode)) > 1e-3


def test_the_teacher_gets_no_gradient() -> None:
    part = blocks(6)
    student, teacher = part["student"].requires_grad_(True), part["teacher"].requires_grad_(True)
    loss = contrastive_distillation(student, teacher, part["kinds"], part["levels"])
    loss = loss + affinity_distillation(student, teacher) + imitation_loss(student, teacher)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert float(student.grad.norm()) > 0


def test_imitation_is_the_squared_distance_of_directions() -> None:
    part = blocks(7)
    expected = (2 - 2 * F.cosine_similarity(part["student"], part["teacher"], dim=-1)).mean()
    assert float(imitation_loss(part["student"], part["teacher"])) == pytest.approx(float(expected), abs=1e-6)
    assert float(imitation_loss(part["teacher"] * 9, part["teacher"])) == pytest.approx(0, abs=1e-7)


def test_accuracies_look_at_their_own_negatives() -> None:
    """Two pictures of the same content with different kinds: right across pictures, wrong inside."""
    targets = torch.eye(8).view(2, 4, 8)
    kinds, levels = torch.arange(8).view(2, 4), torch.full((2, 4), 3)
    confused = targets.mean(1, keepdim=True).expand(2, 4, 8) + 0.1 * targets.roll(1, 1)
    candidates = batch_candidates(targets, kinds, levels)
    view = contrast(confused.flatten(0, 1), torch.arange(8), candidates)
    assert float(view.accuracy(in_image=True)) == 0
    assert float(view.accuracy(in_image=False)) == 1
    assert float(view.chance(in_image=True)) == pytest.approx(1 / 4)
    assert float(view.chance(in_image=False)) == pytest.approx(1 / 5)
    perfect = contrast(targets.flatten(0, 1), torch.arange(8), candidates)
    assert float(perfect.accuracy(in_image=True)) == 1


@pytest.mark.parametrize("name", ["ckd", "akd", "kl", "mse"])
def test_losses_are_computed_in_float32_under_autocast(name: str) -> None:
    part = blocks(8)
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in part.items()}
    whole = {k: v.float() if v.is_floating_point() else v for k, v in half.items()}

    def value(p: dict[str, Any]) -> Tensor:
        if name == "ckd":
            return contrastive_distillation(**p)
        if name == "mse":
            return imitation_loss(p["student"], p["teacher"])
        return affinity_distillation(p["student"], p["teacher"], mode="kl" if name == "kl" else "mse")

    expected = value(whole)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = value(half)
    assert got.dtype == torch.float32
    assert float(got) == pytest.approx(float(expected), abs=1e-6)


def test_quality_loss_is_quadratic_then_linear() -> None:
    zero = torch.zeros(1)
    assert float(quality_loss(torch.tensor([0.5]), zero)) == pytest.approx(0.125)
    assert float(quality_loss(torch.tensor([3.0]), zero)) == pytest.approx(2.5)


def test_correlation_is_asked_for_beside_the_values() -> None:
    label = torch.tensor([0.1, -0.4, 1.2, 0.3])
    for prediction in (label, 3 * label + 1, -label, torch.randn(4)):
        pearson = float(torch.corrcoef(torch.stack([prediction, label]))[0, 1])
        added = quality_loss(prediction, label, 0.5) - quality_loss(prediction, label)
        assert float(added) == pytest.approx(0.5 * (1 - pearson), abs=1e-6)
    flat = torch.zeros(4, requires_grad=True)
    quality_loss(flat, label, 0.5).backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_unknown_variants_are_named() -> None:
    part = blocks(9)
    with pytest.raises(ConfigError, match="negatives are one of"):
        contrastive_distillation(**part, negatives="all")
    with pytest.raises(ConfigError, match="need a queue"):
        contrastive_distillation(**part, negatives="queue")
    with pytest.raises(ConfigError, match="akd is one of"):
        affinity_distillation(part["student"], part["teacher"], mode="l1")
