"""A bank of composites beside its pristine crops: the crops, and how far each block is from its own.

BANK/references/pictures.npy    n x 3 x 224 x 224 uint8, the pristine crop of each entry
BANK/references/distances.npy   n x 16 float32, GMSD of each block of the composite; nan for padding
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from moslens.picture.grid import grid_blocks
from moslens.picture.windows import WINDOW
from moslens.train.distill.chunks import Arrays, compute_arrays
from moslens.train.distill.composite_bank import Bank, BankReferences, CompositePlan

_LIGHT = (0.299, 0.587, 0.114)
_STABLE = 170.0
"""The constant of the published measure, for light from 0 to 255."""


def bank_references(bank: Bank, *, processes: int | None = None) -> BankReferences:
    """The references of a bank. Computed at the first call and stored in it."""
    folder = bank.folder / "references"
    job = partial(_references_of_entries, bank.plan, bank.folder)
    compute_arrays(folder, bank.plan.entries, job, ("pictures", "distances"), processes)
    return BankReferences(np.load(folder / "pictures.npy", mmap_mode="r"), np.load(folder / "distances.npy"))


def gmsd(picture: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Gradient magnitude similarity deviation of two H x W x 3 pictures, 0 where they are equal.

    Sides are of 6 px and more. It sees light alone: a change of colours has none. W. Xue, L. Zhang, X. Mou, A. C.
    Bovik: Gradient magnitude similarity deviation, IEEE TIP 23(2), 2014.
    """
    one, other = _gradients(picture), _gradients(reference)
    similarity = (2 * one * other + _STABLE) / (one**2 + other**2 + _STABLE)
    return float(similarity.std())


def _gradients(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Prewitt gradient magnitudes of the light of a picture at half its size."""
    light = picture.astype(np.float64) @ np.array(_LIGHT)
    height, width = (side // 2 * 2 for side in light.shape)
    light = light[:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
    around = sliding_window_view(light, (3, 3))
    across = (around[..., 2] - around[..., 0]).sum(-1) / 3
    down = (around[..., 2, :] - around[..., 0, :]).sum(-1) / 3
    found: NDArray[np.float64] = np.hypot(across, down)
    return found


def _references_of_entries(plan: CompositePlan, folder: Path, indices: range) -> Arrays:
    stored = np.load(folder / "composites.npy", mmap_mode="r")
    pictures = np.empty((len(indices), *stored.shape[1:]), np.uint8)
    distances = np.full((len(indices), plan.width), np.nan, np.float32)
    for place, index in enumerate(indices):
        clean = plan.crop(index)
        pictures[place] = clean.transpose(2, 0, 1)
        composite = stored[index].transpose(1, 2, 0)
        grid = int(plan.grids[index])
        for k, block in enumerate(grid_blocks(WINDOW, WINDOW, grid)):
            distances[place, k] = gmsd(composite[block.slices], clean[block.slices])
    return {"pictures": pictures, "distances": distances}
