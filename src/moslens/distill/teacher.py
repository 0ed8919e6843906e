"""Teaching the teacher, and measuring it on photos it never saw (method.md 9.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from moslens.blocks import BlockDegradation, Composite
from moslens.distill.pool import Pool, pristine_crop
from moslens.distill.views import IGNORE, LEAST_CHANGE, TOKENS, block_box, changed, isolate, planes
from moslens.distortions import GROUPS, KINDS, distort
from moslens.errors import ConfigError
from moslens.model.teacher import PRISTINE, VIEWS, Regions, Teacher
from moslens.mosaic import CELL, grid_blocks

TARGETS = ("embedding", "roi", "residual")
GROUP_OF = np.array([GROUPS.index(kind.group) for kind in KINDS] + [len(GROUPS)])


class TeacherTask(nn.Module):
    """One batch of labelled regions in, a dict of losses out.

    L_T = CE(kind, smoothing s) + weight * SmoothL1((level - 1) / 4), the level term on degraded regions only. Both are
    sums over the regions that have a label divided by all regions, so that processes can average them.
    """

    def __init__(self, model: Teacher, smoothing: float, level_weight: float) -> None:
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.level_weight = level_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        pristine = as_float(batch["pristine"]) if "pristine" in batch else None
        regions: Regions = self.model(as_float(batch["picture"]), batch["boxes"], pristine)
        kinds, levels = batch["kinds"], batch["levels"]
        labelled = kinds != IGNORE
        logits = regions.kinds.float().flatten(0, 1)
        kind_loss = F.cross_entropy(
            logits, kinds.flatten(), ignore_index=IGNORE, label_smoothing=self.smoothing, reduction="sum"
        )
        degraded = labelled & (kinds != PRISTINE)
        gaps = F.smooth_l1_loss((regions.levels.float() - 1) / 4, (levels.float() - 1) / 4, reduction="none")
        level_loss = (gaps * degraded).sum()
        loss = (kind_loss + self.level_weight * level_loss) / kinds.numel()
        with torch.no_grad():
            right = (logits.argmax(1) == kinds.flatten()).sum() / labelled.sum().clamp_min(1)
            error = ((regions.levels - levels).abs() * degraded).sum() / degraded.sum().clamp_min(1)
        return {
            "loss": loss,
            "kind": kind_loss.detach() / kinds.numel(),
            "level": level_loss.detach() / kinds.numel(),
            "accuracy": right,
            "level_error": error,
        }


def as_float(pictures: Tensor) -> Tensor:
    """uint8 B x 3 x H x W -> float in [0, 1], channels last."""
    return pictures.to(memory_format=torch.channels_last).float() / 255.0


class Tally:
    """Right and wrong of regions with known kind and level."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int, int, float]] = []

    def add(self, kinds: Tensor, levels: Tensor, answer: Regions) -> None:
        """True kinds and levels (R), and what was answered for them (1 x R)."""
        top = answer.kinds[0].topk(3, dim=1).indices
        for kind, level, guesses, guess in zip(kinds, levels, top, answer.levels[0], strict=True):
            rank = (guesses == kind).nonzero().flatten().tolist()
            self.rows.append((int(kind), int(level), int(guesses[0]), rank[0] if rank else 3, float(guess)))

    def figures(self) -> dict[str, Any]:
        """Accuracies over degraded regions, share of pristine regions called so, level error in levels."""
        rows = np.array(self.rows)
        degraded = rows[rows[:, 0] != PRISTINE]
        clean = rows[rows[:, 0] == PRISTINE]
        kinds, guesses = degraded[:, 0].astype(int), degraded[:, 2].astype(int)
        figures: dict[str, Any] = {
            "regions": len(degraded),
            "kind_accuracy": round(float((kinds == guesses).mean()), 4),
            "kind_top3": round(float((degraded[:, 3] < 3).mean()), 4),
            "group_accuracy": round(float((GROUP_OF[kinds] == GROUP_OF[guesses]).mean()), 4),
            "level_error": round(float(np.abs(degraded[:, 4].clip(1, 5) - degraded[:, 1]).mean()), 4),
        }
        if len(clean):
            figures["pristine_recall"] = round(float((clean[:, 2] == PRISTINE).mean()), 4)
        figures["by_kind"] = {
            KINDS[number].name: round(float((guesses[kinds == number] == number).mean()), 3)
            for number in sorted(set(kinds.tolist()))
        }
        return figures


@torch.inference_mode()
def measure_views(teacher: Teacher, pool: Pool, working_size: int, view: str, repeats: int) -> dict[str, Any]:
    """Accuracies on held-out photos: every kind at every level that changes a picture, ``repeats`` photos each.

    One random block of a random grid is asked for in each picture. Kinds and levels are thus balanced; pristine crops
    are a further 1 in 20.
    """
    tally = Tally()
    wanted = [(kind, level) for kind in range(PRISTINE) for level in KINDS[kind].active_levels] * repeats
    wanted += [(PRISTINE, 0)] * (len(wanted) // 20)
    for index, (kind, level) in enumerate(wanted):
        rng = np.random.default_rng((9_001, index))
        name = pool.held_out[int(rng.integers(len(pool.held_out)))]
        crop = pristine_crop(pool.root, name, working_size, rng)
        blocks = grid_blocks(TOKENS * CELL, TOKENS * CELL, int(rng.choice([2, 3, 4])))
        box = block_box(blocks[int(rng.integers(len(blocks)))])
        picture = crop
        if kind != PRISTINE:
            regions = [(b.x, b.y, b.width, b.height) for b in blocks]
            picture = distort(crop, KINDS[kind], level, rng, regions=regions)
            if not changed(picture, crop, box):
                continue
        if view == "isolated":
            picture = isolate(picture, box)
        answer = teacher(
            as_float(planes(picture)[None]), torch.from_numpy(box)[None, None], as_float(planes(crop)[None])
        )
        tally.add(torch.tensor([kind]), torch.tensor([level]), answer)
    return tally.figures()


@torch.inference_mode()
def measure_composites(teacher: Teacher, pool: Pool, working_size: int, count: int) -> dict[str, Any]:
    """The same blocks of held-out composites asked for twice: in the composite, and in the uniform view (R-A).

    Levels are drawn half-Gaussian, as in distillation. The gap is what reading R-A saves the student from.
    """
    mixed, uniform = Tally(), Tally()
    for index in range(count):
        rng = np.random.default_rng((9_002, index))
        name = pool.held_out[int(rng.integers(len(pool.held_out)))]
        crop = pristine_crop(pool.root, name, working_size, rng)
        composite = BlockDegradation(grid=int(rng.choice([2, 3, 4])), min_change=LEAST_CHANGE)(crop, rng)
        boxes = torch.from_numpy(np.stack([block_box(b) for b in composite.blocks]))[None]
        kinds = torch.from_numpy(np.where(composite.kinds < 0, PRISTINE, composite.kinds))
        levels = torch.from_numpy(composite.levels)
        clean = as_float(planes(crop)[None])
        mixed.add(kinds, levels, teacher(as_float(planes(composite.image)[None]), boxes, clean))
        for number, view in enumerate(composite.views):
            mine = torch.from_numpy(composite.assignment == number)
            if mine.any():
                answer = teacher(as_float(planes(view)[None]), boxes[:, mine], clean)
                uniform.add(kinds[mine], levels[mine], answer)
    return {"composite": mixed.figures(), "uniform_view": uniform.figures()}


@torch.inference_mode()
def block_targets(teacher: Teacher, composite: Composite, view: str, target: str) -> NDArray[np.float32]:
    """What the student is taught of every block of a composite: K x D.

    view: ``uniform`` (R-A) region k of the view that block k is cut from; ``reference`` (R-B) region k of the
    composite against the pristine crop; ``composite`` (R-C) region k of the composite; ``isolated`` the same with
    the rest in grey. target: ``embedding`` e, ``roi`` p, or ``residual``, p minus p of the pristine crop.
    ConfigError for another view or target.
    """
    if view not in VIEWS[:-1]:
        raise ConfigError(f"teacher blocks are read from {', '.join(VIEWS[:-1])}, not {view!r}")
    if (view == "reference") != teacher.config.reference:
        trained = "with" if teacher.config.reference else "without"
        raise ConfigError(f"view {view!r} does not fit a teacher that was trained {trained} a reference")
    if target not in TARGETS:
        raise ConfigError(f"target is one of {', '.join(TARGETS)}, not {target!r}")
    boxes = torch.from_numpy(np.stack([block_box(block) for block in composite.blocks]))
    count = len(boxes)
    if view == "uniform":
        used, place = np.unique(composite.assignment, return_inverse=True)
        pictures, asked = [composite.views[j] for j in used], boxes.expand(len(used), count, 4)
        pick = (torch.from_numpy(place.reshape(-1)), torch.arange(count))
    elif view == "isolated":
        pictures, asked = [isolate(composite.image, box.numpy()) for box in boxes], boxes[:, None]
        pick = (torch.arange(count), torch.zeros(count, dtype=torch.int64))
    else:
        pictures, asked = [composite.image], boxes[None]
        pick = (torch.zeros(count, dtype=torch.int64), torch.arange(count))
    device = next(teacher.parameters()).device
    seen = as_float(torch.stack([planes(p) for p in pictures]).to(device))
    clean = as_float(planes(composite.views[0])[None].to(device))
    asked = asked.to(device)
    if target == "embedding":
        values = teacher(seen, asked, clean.expand_as(seen)).embedding[pick]
    else:
        values = teacher.pool(seen, asked)[pick]
        if target == "residual" or teacher.config.reference:
            values = values - teacher.pool(clean, boxes[None].to(device))[0]
    targets: NDArray[np.float32] = values.float().cpu().numpy()
    return targets
