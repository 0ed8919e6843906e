"""The heterogeneity probe: how well block tokens encode local distortions, measured without opinion scores.

On composites of held-out photos (method.md 9.8.7) it measures for the block tokens a~ of any model

- how well linear probes predict the kind, the group and the level of a block;
- how far the affinities of blocks are from those of a teacher, as L_AKD measures it.

A probe is fitted on some photos, its penalty is chosen on others, and it predicts on the rest. This is cross-validated
over folds of photos, so every block is predicted once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from moslens import metrics
from moslens.distortions import KINDS, PAPER_KINDS
from moslens.distortions.kinds import GROUP_OF, NO_DISTORTION
from moslens.errors import ConfigError
from moslens.evaluate.linear_probe import logistic_probe, ridge_probe
from moslens.evaluate.significance import bootstrap_interval
from moslens.losses import affinities, affinity_distillation
from moslens.model.pixels import as_float
from moslens.model.teacher import Regions, class_kinds, kind_classes
from moslens.picture.grid import grid_blocks
from moslens.picture.windows import WINDOW
from moslens.train.config import BdmSection, TeacherSection
from moslens.train.distill.composite_bank import CompositePlan
from moslens.train.distill.pool import Pool
from moslens.train.distill.region_views import block_box, planes
from moslens.train.distill.targets import block_targets
from moslens.train.networks import load_network, load_teacher
from moslens.train.run_folder import Run

FIGURES = ("kind_accuracy", "group_accuracy", "pristine_recall", "level_error", "affinity_error", "affinity_srcc")
FOLDS = 3
_SEED = 9_003
_BATCH = 16
Ints = NDArray[np.int64]
Describe = Callable[[Tensor, int], Tensor]
"""Pictures (uint8 B x 3 x 224 x 224) and blocks a side g -> block tokens, B x g^2 x d."""


@dataclass(frozen=True)
class ProbeSet:
    """The composites of one grid: pictures uint8 n x 3 x 224 x 224, photo numbers n, kinds and levels n x K.

    A clean block has kind -1 and level 0. ``targets``: a teacher's block embeddings, n x K x D.
    """

    grid: int
    pictures: Tensor
    photos: Ints
    kinds: Ints
    levels: Ints
    targets: Tensor | None = None


@dataclass(frozen=True)
class BlockTable:
    """All blocks, one per row: tokens N x d; photo, kind and level N."""

    tokens: Tensor
    photos: Ints
    kinds: Ints
    levels: Ints


def make_composites(
    pool: Pool,
    working_size: int,
    count: int,
    seed: int = 0,
    teacher: Path | None = None,
    on_each: Callable[[], None] = lambda: None,
) -> list[ProbeSet]:
    """``count`` composites of the pool's held-out photos, as one set for each grid of 2, 3 and 4 blocks a side.

    BDM has its defaults and the paper's kinds, whatever a model was trained with, so that models can be compared.
    teacher: a run folder; the sets then have its block embeddings, in the view that it was trained on. on_each: called
    after every composite.
    ConfigError for too few photos or composites.
    """
    bdm = BdmSection(root=str(pool.root))
    names, data_hash = pool.held_out, pool.hash_of(pool.held_out)
    plan = CompositePlan(pool.root, names, data_hash, working_size, count, _SEED + seed, bdm)
    if min(count, len(pool.held_out)) < 2 * FOLDS or len(np.unique(plan.grids)) < len(bdm.grids):
        raise ConfigError(
            f"{count} composites of {len(pool.held_out)} held-out photos are too few for a probe", pool.root
        )
    numbers = {name: number for number, name in enumerate(pool.held_out)}
    network, view = None, TeacherSection().view
    if teacher is not None:
        network, trained = load_teacher(teacher)
        view = trained.teacher.view
    found = []
    for grid in bdm.grids:
        members = [int(index) for index in np.flatnonzero(plan.grids == grid)]
        pictures, kinds, levels, targets = [], [], [], []
        for index in members:
            one = plan.make(index)
            pictures.append(planes(one.image))
            kinds.append(one.kinds)
            levels.append(one.levels)
            if network is not None:
                with torch.inference_mode():
                    targets.append(torch.from_numpy(block_targets(network, one, view, "embedding")))
            on_each()
        photos = np.array([numbers[plan.photo(index)] for index in members])
        embedded = torch.stack(targets) if targets else None
        found.append(ProbeSet(grid, torch.stack(pictures), photos, np.stack(kinds), np.stack(levels), embedded))
    return found


def describe_run(run: Path) -> Describe:
    """The function that gives block tokens of a finished run: a~ (mean tokens without BAF), or e of a teacher.

    CheckpointError for a run that is not finished, ConfigError for a teacher that needs the pristine picture.
    """
    if Run(run).config.stage == "teacher":
        teacher, config = load_teacher(run)
        if teacher.config.reference:
            raise ConfigError(f"{run}: a teacher of view {config.teacher.view!r} does not read a composite alone")

        def embed(pictures: Tensor, grid: int) -> Tensor:
            boxes = torch.from_numpy(np.stack([block_box(block) for block in grid_blocks(WINDOW, WINDOW, grid)]))
            regions: Regions = teacher(as_float(pictures), boxes.expand(len(pictures), *boxes.shape))
            return regions.embedding

        return embed
    model = load_network(Run(run))
    return lambda pictures, grid: model.parts(as_float(pictures), grid).blocks.gated


@torch.inference_mode()
def read_tokens(describe: Describe, composites: Sequence[ProbeSet]) -> list[Tensor]:
    """Block tokens of every grid, n x K x d."""
    return [
        torch.cat([describe(pictures, one.grid).float() for pictures in torch.split(one.pictures, _BATCH)])
        for one in composites
    ]


def probe(tokens: Sequence[Tensor], composites: Sequence[ProbeSet], seed: int = 0) -> dict[str, Any]:
    """The figures of one model, from its ``tokens`` as :func:`read_tokens` returns them.

    ``kind_accuracy``, ``group_accuracy`` and ``level_error`` (mean, in levels) over degraded blocks,
    ``pristine_recall`` over pristine ones; ``affinity_error``, the mean squared difference from the teacher's
    affinities, and ``affinity_srcc``, their rank correlation over pairs of blocks, both nan without a teacher;
    ``kind_accuracy_interval``, 95 %, by bootstrap over photos; ``by_kind``, the accuracy of each kind.
    """
    blocks = BlockTable(
        torch.cat([one.flatten(0, 1) for one in tokens]),
        np.concatenate([np.repeat(one.photos, one.kinds.shape[1]) for one in composites]),
        np.concatenate([one.kinds.ravel() for one in composites]),
        np.concatenate([one.levels.ravel() for one in composites]),
    )
    named, guessed = _cross_validated(blocks, seed)
    degraded = blocks.kinds != NO_DISTORTION
    kinds, names = blocks.kinds[degraded], named[degraded]
    interval = bootstrap_interval(
        _agreement, names, kinds, np.random.default_rng(seed), groups=blocks.photos[degraded].tolist()
    )
    return {
        "blocks": len(kinds),
        "kind_accuracy": _agreement(names, kinds),
        "kind_accuracy_interval": [interval.low, interval.high],
        "group_accuracy": _agreement(GROUP_OF[names], GROUP_OF[kinds]),
        "pristine_recall": _agreement(named[~degraded], blocks.kinds[~degraded]),
        "level_error": float(np.abs(guessed - blocks.levels)[degraded].mean()),
        **_affinity_figures(tokens, composites),
        "by_kind": {KINDS[k].name: _agreement(names[kinds == k], kinds[kinds == k]) for k in np.unique(kinds)},
    }


def chance(composites: Sequence[ProbeSet]) -> dict[str, float]:
    """The figures of the best constant prediction on the same blocks: one kind, group, level and affinity."""
    kinds = np.concatenate([one.kinds.ravel() for one in composites])
    levels = np.concatenate([one.levels.ravel() for one in composites])[kinds != NO_DISTORTION]
    kinds = kinds[kinds != NO_DISTORTION]
    targets = [affinities(one.targets) for one in composites if one.targets is not None]
    # Every composite has the same weight, as in affinity_error.
    means = torch.cat([one.flatten(1).mean(1) for one in targets]) if targets else torch.tensor([math.nan])
    gaps = [(one - means.mean()).square().flatten(1).mean(1) for one in targets]
    return {
        "kind_accuracy": float(np.bincount(kinds).max() / len(kinds)),
        "group_accuracy": float(np.bincount(GROUP_OF[kinds]).max() / len(kinds)),
        "level_error": float(np.abs(levels - np.median(levels)).mean()),
        "affinity_error": float(torch.cat(gaps).mean()) if gaps else math.nan,
    }


def _cross_validated(blocks: BlockTable, seed: int) -> tuple[Ints, NDArray[np.float64]]:
    """Predicted kind and level of every block, by probes that were fitted on other photos."""
    rng = np.random.default_rng((_SEED, seed))
    photos = rng.permutation(np.unique(blocks.photos))
    count = len(PAPER_KINDS)
    named = np.empty(len(blocks.kinds), np.int64)
    guessed = np.empty(len(blocks.kinds))
    for test in np.array_split(photos, FOLDS):
        others = photos[~np.isin(photos, test)]
        tested = np.isin(blocks.photos, test)
        chosen = np.isin(blocks.photos, others[: len(others) // 4])
        learned = ~tested & ~chosen
        x = blocks.tokens
        classes = kind_classes(torch.from_numpy(blocks.kinds), count)
        tried = logistic_probe(x[learned], classes[learned], count + 1)
        right = [_agreement(one(x[chosen]).argmax(1), classes[chosen]) for one in tried]
        best = tried[int(np.argmax(right))]
        named[tested] = class_kinds(best(x[tested]).argmax(1), count).numpy()
        degraded = blocks.kinds != NO_DISTORTION
        levels = torch.from_numpy(blocks.levels).double()
        lines = ridge_probe(x[learned & degraded], levels[learned & degraded])
        wrong = [float((_level(one, x) - levels).abs()[chosen & degraded].mean()) for one in lines]
        guessed[tested] = _level(lines[int(np.argmin(wrong))], x)[tested].numpy()
    return named, guessed


def _level(line: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    return line(tokens)[:, 0].clamp(1, 5)


def _affinity_figures(tokens: Sequence[Tensor], composites: Sequence[ProbeSet]) -> dict[str, float]:
    pairs = [(mine, one.targets) for mine, one in zip(tokens, composites, strict=True) if one.targets is not None]
    if not pairs:
        return {"affinity_error": math.nan, "affinity_srcc": math.nan}
    errors = [float(affinity_distillation(mine, theirs)) * len(mine) for mine, theirs in pairs]
    ours = torch.cat([affinities(mine).flatten() for mine, _ in pairs])
    targets = torch.cat([affinities(theirs).flatten() for _, theirs in pairs])
    return {
        "affinity_error": sum(errors) / sum(len(mine) for mine, _ in pairs),
        "affinity_srcc": metrics.srcc(ours.numpy(), targets.numpy()),
    }


def _agreement(named: ArrayLike, true: ArrayLike) -> float:
    same = np.asarray(named) == np.asarray(true)
    return float(same.mean()) if same.size else math.nan
