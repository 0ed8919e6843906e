"""What a model says of blocks, made honest on photos it never saw: a temperature and the threshold of "nothing wrong".

Both are fitted on the first half of the pristine pool's held-out photos (:func:`halves`); the second half is left for
measuring (benchmarks/explain.py).
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moslens.blocks import BlockDegradation
from moslens.distill.pool import Pool, pristine_crop
from moslens.errors import DatasetError
from moslens.explain import read_windows
from moslens.image import load
from moslens.mosaic import grid_blocks
from moslens.runtime import Model
from moslens.stitch import softmax
from moslens.views import WINDOW

FALSE_ALARMS = 0.05
"""Share of clean photos that may get a name: half of what is tolerated, since a threshold fitted on a hundred photos
is itself uncertain by some percent."""

COMPOSITES = 200
GRIDS = (2, 3, 4)
NOTHING = 2.0
"""A threshold that no probability reaches: too few clean photos to allow any name."""

_SEED = 9_003

Floats = NDArray[np.float64]


def halves(pool: Pool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The held-out photos by name: a half to calibrate on and a half to examine, by a hash of each name alone."""
    first = tuple(name for name in pool.held_out if _odd(name))
    return first, tuple(name for name in pool.held_out if not _odd(name))


def calibrate_blocks(model: Model, pool: Pool) -> dict[str, Any]:
    """Temperature and threshold for the card's ``explain`` record, with the data they come from.

    DatasetError where the pool holds no photo out for it.
    """
    names, _ = halves(pool)
    if not names:
        raise DatasetError("holds out no photo to calibrate block labels on", pool.root)
    logits, kinds = composite_blocks(model, pool, names, COMPOSITES)
    temperature = fit_temperature(logits, kinds)
    size = model.card.working_size
    peaks = []
    for name in names:
        pixels = load(pool.root / name, working_size=size).pixels
        peaks.append(float(read_windows(model, pixels, temperature)[1].fault.max()))
    return {
        "temperature": temperature,
        "threshold": fit_threshold(peaks, FALSE_ALARMS),
        "false_alarms_allowed": FALSE_ALARMS,
        "loss": {"before": nll(logits, kinds), "after": nll(logits / temperature, kinds)},
        "fitted_on": f"{len(kinds)} blocks of {COMPOSITES} composites and {len(names)} clean photos of the pristine "
        "pool, none of which any training used",
        "data_hash": pool.hash_of(names),
    }


def composite_blocks(
    model: Model, pool: Pool, names: Sequence[str], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Kind logits (N x (kinds + 1)) and true answers (N) of the model's blocks in ``count`` composites.

    Composites have 2, 3 and 4 blocks a side in turn; of the model's own blocks those count that lie in one of them.
    """
    labels = model.card.explain
    assert labels is not None
    own = grid_blocks(WINDOW, WINDOW, labels.grid)
    rows, answers = [], []
    for index in range(count):
        rng = np.random.default_rng((_SEED, index))
        crop = pristine_crop(pool.root, names[index % len(names)], model.card.working_size, rng)
        composite = BlockDegradation(grid=GRIDS[index % len(GRIDS)], feather=0.5)(crop, rng)
        logits = model.run(composite.image, ("kind_logits",))[0]
        for theirs, kind in zip(composite.blocks, composite.kinds.tolist(), strict=True):
            for place, block in enumerate(own):
                inside = (
                    theirs.x <= block.x
                    and theirs.y <= block.y
                    and block.x + block.width <= theirs.x + theirs.width
                    and block.y + block.height <= theirs.y + theirs.height
                )
                if inside:
                    rows.append(logits[place])
                    answers.append(kind if kind >= 0 else len(labels.kinds))
    return np.array(rows), np.array(answers, np.int64)


def fit_temperature(logits: NDArray[np.floating], kinds: NDArray[np.int64]) -> float:
    """The T that makes softmax(logits / T) most likely to give the answers, between 1/10 and 10.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The loss has one minimum in 1 / T, so a golden
    section search on log T finds it.
    """
    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(0.1), math.log(10)
    for _ in range(40):
        span = golden * (high - low)
        left, right = high - span, low + span
        if nll(logits / math.exp(left), kinds) < nll(logits / math.exp(right), kinds):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def nll(logits: NDArray[np.floating], kinds: NDArray[np.int64]) -> float:
    """Mean negative log probability of the right answers."""
    shares = softmax(logits)[np.arange(len(kinds)), kinds]
    return float(-np.log(np.maximum(shares, 1e-12)).mean())


def fit_threshold(peaks: Sequence[float], allowed: float) -> float:
    """The least threshold that a share ``allowed`` of new clean photos is expected to reach at most.

    peaks: of each clean photo the greatest probability of a fault over its whole map, since one named block is enough
    for a false alarm. Split conformal: beyond the ceil((n + 1)(1 - allowed))-th smallest peak; ``NOTHING`` where there
    are too few photos for that.
    """
    rank = math.ceil((len(peaks) + 1) * (1 - allowed) - 1e-9)
    if rank > len(peaks):
        return NOTHING
    return float(np.nextafter(sorted(peaks)[rank - 1], 2.0))


def _odd(name: str) -> bool:
    return bool(hashlib.sha256(f"calibrate/{name}".encode("utf-8", "surrogateescape")).digest()[0] & 1)
