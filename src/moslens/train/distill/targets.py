"""The teacher's description of every block of a composite: the targets of distillation (method.md 9.4, 9.9)."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from moslens.blocks import Composite
from moslens.errors import ConfigError
from moslens.model.pixels import as_float
from moslens.model.teacher import Teacher
from moslens.train.config import Target, TeacherView
from moslens.train.distill.chunks import Arrays, build_parts, merge_parts
from moslens.train.distill.composite_bank import Bank, CompositePlan, made_again
from moslens.train.distill.region_views import block_box, isolate, planes
from moslens.train.networks import load_teacher
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)


@torch.inference_mode()
def block_targets(teacher: Teacher, composite: Composite, view: TeacherView, target: Target) -> NDArray[np.float32]:
    """The target of every block of a composite, K x D float32.

    view, what the teacher sees when it describes block k: ``uniform`` (R-A) the view that block k is cut from;
    ``reference`` (R-B) the composite beside the pristine crop; ``composite`` (R-C) the composite; ``isolated`` the
    composite with everything but block k in grey. target: ``embedding`` e; ``roi`` p; ``residual`` p minus p of the
    pristine crop. ConfigError for a view that the teacher was not trained for.
    """
    if (view == "reference") != teacher.config.reference:
        trained = "with" if teacher.config.reference else "without"
        raise ConfigError(f"view {view!r} does not fit a teacher that was trained {trained} a reference")
    boxes = torch.from_numpy(np.stack([block_box(block) for block in composite.blocks]))
    count = len(boxes)
    if view == "uniform":
        used, place = np.unique(composite.assignment, return_inverse=True)
        pictures, regions = [composite.views[j] for j in used], boxes.expand(len(used), count, 4)
        pick = (torch.from_numpy(place.reshape(-1)), torch.arange(count))
    elif view == "isolated":
        pictures, regions = [isolate(composite.image, box.numpy()) for box in boxes], boxes[:, None]
        pick = (torch.arange(count), torch.zeros(count, dtype=torch.int64))
    else:
        pictures, regions = [composite.image], boxes[None]
        pick = (torch.zeros(count, dtype=torch.int64), torch.arange(count))
    device = next(teacher.parameters()).device
    seen = as_float(torch.stack([planes(p) for p in pictures]).to(device))
    clean = as_float(planes(composite.views[0])[None].to(device))
    regions = regions.to(device)
    if target == "embedding":
        values = teacher(seen, regions, clean.expand_as(seen)).embedding[pick]
    else:
        values = teacher.pool(seen, regions)[pick]
        if target == "residual" or teacher.config.reference:
            values = values - teacher.pool(clean, boxes[None].to(device))[0]
    targets: NDArray[np.float32] = values.float().cpu().numpy()
    return targets


def bank_targets(
    bank: Bank, teacher: Path, view: TeacherView, target: Target, *, processes: int | None = None
) -> NDArray[np.float32]:
    """Targets of every block of a bank by the teacher in a run folder, n x 16 x D float32.

    Computed at the first call and stored in the bank. CheckpointError where the teacher is not finished, or a
    composite that is made again differs from the stored one.
    """
    digest = Run(teacher).weights_sha256()
    path = bank.folder / "targets" / f"{view}-{target}-{digest[:12]}.npy"
    if not path.is_file():
        log.info("%s: computing the teacher's targets of %d composites", bank.folder, bank.plan.entries)
        scratch = path.with_suffix(".parts")
        job = partial(_targets_of_entries, bank.plan, bank.folder, teacher, view, target)
        build_parts(scratch, bank.plan.entries, job, processes)
        merge_parts(scratch, bank.plan.entries, {"targets": path})
    targets: NDArray[np.float32] = np.load(path)
    return targets


def _targets_of_entries(
    plan: CompositePlan, folder: Path, run: Path, view: TeacherView, target: Target, indices: range
) -> Arrays:
    teacher, _ = load_teacher(run)
    stored = np.load(folder / "composites.npy", mmap_mode="r")
    rows = []
    for index in indices:
        rows.append(block_targets(teacher, made_again(plan, index, stored, folder), view, target))
    targets = np.zeros((len(indices), plan.width, rows[0].shape[1]), np.float32)
    for place, row in enumerate(rows):
        targets[place, : len(row)] = row
    return {"targets": targets}
