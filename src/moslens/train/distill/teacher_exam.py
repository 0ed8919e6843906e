"""Measure a teacher on held-out photos (method.md 9.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from moslens.blocks import MIN_CHANGE, BlockDegradation
from moslens.distortions import KINDS, PAPER_KINDS, distort
from moslens.distortions.kinds import GROUP_OF, NO_DISTORTION
from moslens.model.pixels import as_float
from moslens.model.teacher import Regions, Teacher, class_kinds
from moslens.picture.grid import CELL, grid_blocks
from moslens.train.distill.pool import Pool, pristine_crop
from moslens.train.distill.region_views import TOKENS, block_box, changed, isolate, planes


class RegionAnswers:
    """What a teacher answered for regions of known kind and level."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, float]] = []

    def add(self, kinds: Tensor, levels: Tensor, answer: Regions) -> None:
        """Add true kinds and levels (R) and the answer for these regions (1 x R)."""
        top = class_kinds(answer.kinds[0].topk(3, dim=1).indices, answer.kinds.shape[-1] - 1)
        for kind, level, guesses, guess in zip(kinds, levels, top, answer.levels[0], strict=True):
            rank = (guesses == kind).nonzero().flatten().tolist()
            self.rows.append((int(kind), int(level), int(guesses[0]), rank[0] if rank else 3, float(guess)))

    def figures(self) -> dict[str, Any]:
        """Accuracies (0 to 1) and mean absolute level error over degraded regions, recall over pristine ones."""
        rows = np.array(self.rows)
        degraded = rows[rows[:, 0] != NO_DISTORTION]
        clean = rows[rows[:, 0] == NO_DISTORTION]
        kinds, guesses = degraded[:, 0].astype(int), degraded[:, 2].astype(int)
        figures: dict[str, Any] = {
            "regions": len(degraded),
            "kind_accuracy": round(float((kinds == guesses).mean()), 4),
            "kind_top3": round(float((degraded[:, 3] < 3).mean()), 4),
            "group_accuracy": round(float((GROUP_OF[kinds] == GROUP_OF[guesses]).mean()), 4),
            "level_error": round(float(np.abs(degraded[:, 4].clip(1, 5) - degraded[:, 1]).mean()), 4),
        }
        if len(clean):
            figures["pristine_recall"] = round(float((clean[:, 2] == NO_DISTORTION).mean()), 4)
        figures["by_kind"] = {
            KINDS[number].name: round(float((guesses[kinds == number] == number).mean()), 3)
            for number in sorted(set(kinds.tolist()))
        }
        figures["by_level"] = {
            str(level): round(float((guesses == kinds)[degraded[:, 1] == level].mean()), 3)
            for level in sorted(set(degraded[:, 1].astype(int).tolist()))
        }
        return figures


@torch.inference_mode()
def measure_views(teacher: Teacher, pool: Pool, working_size: int, view: str, repeats: int) -> dict[str, Any]:
    """Figures on held-out photos: the teacher's kinds at every level that changes a picture, ``repeats`` photos each.

    The teacher describes one random block of a random grid in each picture. Kinds and levels are thus balanced. A
    twentieth as many pictures are pristine. For a teacher of more kinds than the paper's, the same over the pictures
    with the paper's: ``paper``, where an answer may be any kind, and ``among_paper``, where it is one of the paper's.
    """
    answers, paper, among = RegionAnswers(), RegionAnswers(), RegionAnswers()
    known = range(len(teacher.config.kinds))
    wanted = [(kind, level) for kind in known for level in KINDS[kind].active_levels] * repeats
    wanted += [(NO_DISTORTION, 0)] * (len(wanted) // 20)
    for index, (kind, level) in enumerate(wanted):
        rng = np.random.default_rng((9_001, index))
        name = pool.held_out[int(rng.integers(len(pool.held_out)))]
        crop = pristine_crop(pool.root, name, working_size, rng)
        blocks = grid_blocks(TOKENS * CELL, TOKENS * CELL, int(rng.choice([2, 3, 4])))
        box = block_box(blocks[int(rng.integers(len(blocks)))])
        picture = crop
        if kind != NO_DISTORTION:
            regions = [(b.x, b.y, b.width, b.height) for b in blocks]
            picture = distort(crop, KINDS[kind], level, rng, regions=regions)
            if not changed(picture, crop, box):
                continue
        if view == "isolated":
            picture = isolate(picture, box)
        answer = teacher(
            as_float(planes(picture)[None]), torch.from_numpy(box)[None, None], as_float(planes(crop)[None])
        )
        labels = torch.tensor([kind]), torch.tensor([level])
        answers.add(*labels, answer)
        if kind < len(PAPER_KINDS):
            paper.add(*labels, answer)
            among.add(*labels, among_paper(answer))
    figures = answers.figures()
    if len(known) > len(PAPER_KINDS):
        figures |= {"paper": paper.figures(), "among_paper": among.figures()}
    return figures


def among_paper(answer: Regions) -> Regions:
    """The answer of a teacher that has no other kinds than the paper's."""
    logits = answer.kinds
    return answer._replace(kinds=torch.cat([logits[..., : len(PAPER_KINDS)], logits[..., -1:]], dim=-1))


@torch.inference_mode()
def measure_composites(teacher: Teacher, pool: Pool, working_size: int, count: int) -> dict[str, Any]:
    """Figures on the blocks of held-out composites, seen in the composite and in their uniform view (R-A).

    Levels are drawn half-Gaussian, as in distillation. The difference is how much better targets R-A gives.
    """
    mixed, uniform = RegionAnswers(), RegionAnswers()
    for index in range(count):
        rng = np.random.default_rng((9_002, index))
        name = pool.held_out[int(rng.integers(len(pool.held_out)))]
        crop = pristine_crop(pool.root, name, working_size, rng)
        degrade = BlockDegradation(grid=int(rng.choice([2, 3, 4])), kinds=teacher.config.kinds, min_change=MIN_CHANGE)
        composite = degrade(crop, rng)
        boxes = torch.from_numpy(np.stack([block_box(b) for b in composite.blocks]))[None]
        kinds = torch.from_numpy(composite.kinds)
        levels = torch.from_numpy(composite.levels)
        clean = as_float(planes(crop)[None])
        mixed.add(kinds, levels, teacher(as_float(planes(composite.image)[None]), boxes, clean))
        for number, view in enumerate(composite.views):
            mine = torch.from_numpy(composite.assignment == number)
            if mine.any():
                answer = teacher(as_float(planes(view)[None]), boxes[:, mine], clean)
                uniform.add(kinds[mine], levels[mine], answer)
    return {"composite": mixed.figures(), "uniform_view": uniform.figures()}
