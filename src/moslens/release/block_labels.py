"""Calibrate the block labels of a model: temperature of the kinds, penalty of a fault, threshold for naming one.

All three are fitted on one half of the pristine pool's held-out photos (:func:`halves`). The other half is left for
measurement (benchmarks/quality/explain.py).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moslens.errors import DatasetError
from moslens.picture.load import load
from moslens.release.planted_crops import planted_crops
from moslens.scoring.quality_map import read_windows
from moslens.scoring.session import Model
from moslens.scoring.stitch import softmax
from moslens.train.distill.pool import Pool

FALSE_ALARMS = 0.05
"""Share of clean photos in which a fault may be named. Half of the tolerated share, because a threshold fitted on a
hundred photos is itself uncertain by a few percent."""

PICTURES = 400
PENALTIES = tuple(range(0, 121, 4))
SLACK = 0.002
TOP_LEVEL = 5
NOTHING = 2.0
"""A threshold that no probability reaches, for when there are too few clean photos to fit one."""

_SEED = 9_003

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockPredictions:
    """Predictions for N blocks with known labels: logits N x 27, scores N in MOS units, levels N (1 to 5).

    Labels: true_classes N (the last is no distortion) and true_levels N (0 for no distortion).
    """

    logits: Floats
    scores: Floats
    levels: Floats
    true_classes: NDArray[np.int64]
    true_levels: NDArray[np.int64]


def halves(pool: Pool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The held-out photos to calibrate on, and those to measure on. A hash of the name decides."""
    first = tuple(name for name in pool.held_out if _odd(name))
    return first, tuple(name for name in pool.held_out if not _odd(name))


def calibrate_blocks(model: Model, pool: Pool) -> dict[str, Any]:
    """Temperature, penalty and threshold for the ``explain`` record of a card, and the data they are fitted on.

    DatasetError where the pool has no held-out photo to calibrate on.
    """
    names, _ = halves(pool)
    if not names:
        raise DatasetError("holds out no photo to calibrate block labels on", pool.root)
    found = predict_blocks(model, pool, names, PICTURES)
    temperature = fit_temperature(found.logits, found.true_classes)
    fault = 1 - softmax(found.logits / temperature)[:, -1]
    penalty = fit_penalty(found.scores, fault * found.levels / TOP_LEVEL, found.true_levels > 0)
    peaks = []
    for name in names:
        pixels = load(pool.root / name, working_size=model.card.working_size).pixels
        peaks.append(float(read_windows(model, pixels, temperature)[1].fault.max()))
    return {
        "temperature": temperature,
        "penalty": penalty,
        "threshold": fit_threshold(peaks, FALSE_ALARMS),
        "false_alarms_allowed": FALSE_ALARMS,
        "loss": {
            "before": nll(found.logits, found.true_classes),
            "after": nll(found.logits / temperature, found.true_classes),
        },
        "fitted_on": f"{len(fault)} blocks of {PICTURES} degraded and clean crops and {len(names)} clean photos of the "
        "pristine pool, none of which any training used",
        "data_hash": pool.hash_of(names),
    }


def predict_blocks(model: Model, pool: Pool, names: Sequence[str], count: int) -> BlockPredictions:
    """Predictions for the labelled blocks of ``count`` crops of the named photos, see planted_crops."""
    labels = model.card.explain
    assert labels is not None
    rows = []
    for crop in planted_crops(pool, names, model.card.working_size, labels.grid, count, _SEED):
        scores, logits, levels = model.run(crop.picture, ("block_score", "kind_logits", "level"))
        known = crop.labelled
        classes = crop.kinds % (len(labels.kinds) + 1)  # -1, no distortion, is the last class
        rows.append(
            (logits[known], scores[known], levels[known].clip(1, TOP_LEVEL), classes[known], crop.levels[known])
        )
    return BlockPredictions(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def fit_penalty(scores: Floats, damage: Floats, degraded: NDArray[np.bool_]) -> float:
    """MOS units to subtract from the quality of a block with a certain fault of the highest level.

    scores (MOS units), damage (probability of a fault times level / 5) and labels of N blocks. Returns the smallest
    penalty for which the AUC of "score - penalty * damage", degraded against clean blocks, is within ``SLACK`` of the
    best in ``PENALTIES``.
    """
    areas = [auc(penalty * damage - scores, degraded) for penalty in PENALTIES]
    best = max(areas)
    return float(next(p for p, area in zip(PENALTIES, areas, strict=True) if area >= best - SLACK))


def auc(values: Floats, positive: NDArray[np.bool_]) -> float:
    """Probability that a positive has the greater value, ties counting half; 0.5 where one class is missing."""
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return 0.5
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def fit_temperature(logits: NDArray[np.floating], kinds: NDArray[np.int64]) -> float:
    """The T between 0.1 and 10 that minimises the negative log-likelihood of softmax(logits / T); N x 27 and N classes.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The loss is convex in 1 / T, so a golden-section
    search on log T finds the minimum.
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
    """Mean negative log-likelihood of the true classes."""
    shares = softmax(logits)[np.arange(len(kinds)), kinds]
    return float(-np.log(np.maximum(shares, 1e-12)).mean())


def fit_threshold(peaks: Sequence[float], allowed: float) -> float:
    """The smallest threshold that at most a share ``allowed`` of new clean photos is expected to reach.

    peaks: the greatest probability of a fault in the map of each clean photo, since one named block is enough for a
    false alarm. Split conformal: just above the ceil((n + 1)(1 - allowed))-th smallest peak; ``NOTHING`` where there
    are too few photos for that.
    """
    rank = math.ceil((len(peaks) + 1) * (1 - allowed) - 1e-9)
    if rank > len(peaks):
        return NOTHING
    return float(np.nextafter(sorted(peaks)[rank - 1], 2.0))


def _odd(name: str) -> bool:
    return bool(hashlib.sha256(f"calibrate/{name}".encode("utf-8", "surrogateescape")).digest()[0] & 1)
