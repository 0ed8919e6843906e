"""Calibrate the block labels of a model: temperature of the kinds, penalty of a fault, thresholds for naming one.

All are fitted on one half of the pristine pool's held-out photos (:func:`halves`). The other half is left for
measurement (benchmarks/quality/explain.py).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moslens.distortions.implementations import ImplementationSet
from moslens.errors import DatasetError
from moslens.picture.load import load
from moslens.picture.notes import is_monochrome
from moslens.picture.windows import Piece, Pixels
from moslens.release.fault_combinations import combine_faults
from moslens.release.planted_crops import planted_crops
from moslens.scoring.labels import fault_label
from moslens.scoring.quality_map import read_pieces
from moslens.scoring.session import Model
from moslens.scoring.stitch import softmax
from moslens.system.progress import tracked
from moslens.train.config import NamingSection
from moslens.train.distill.pool import Pool

FALSE_ALARMS = 0.05
"""Share of clean photos in which a fault may be named. Half of the tolerated share, because a threshold fitted on a
hundred photos is itself uncertain by a few percent."""

PICTURES = 400
ONE_SIDED = 1.2816
"""Standard normal quantile of .9: a precision counts as reached where its one-sided bound of 90 % says so."""

PENALTIES = tuple(range(0, 121, 4))
SLACK = 0.002
TOP_LEVEL = 5
NOTHING = 2.0
"""A threshold that no probability reaches, for when there are too few clean photos to fit one."""

_SEED = 9_003

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockPredictions:
    """Predictions for N blocks with known labels: logits N x C + 1, scores N in MOS units, levels N (1 to 5).

    ``truth``: N x C + 1 bool, the kinds that are there; the last is no distortion.
    """

    logits: Floats
    scores: Floats
    levels: Floats
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class NamedFaults:
    """N names that a map may give a picture: how certain each is (0 to 1), and whether it is right."""

    certainty: Floats
    right: NDArray[np.bool_]


def halves(pool: Pool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The held-out photos to calibrate on, and those to measure on. A hash of the name decides."""
    first = tuple(name for name in pool.held_out if _odd(name))
    return first, tuple(name for name in pool.held_out if not _odd(name))


def calibrate_blocks(
    model: Model, pool: Pool, naming: NamingSection | None = None, implementations: ImplementationSet = "default"
) -> dict[str, Any]:
    """Temperature, penalty and thresholds for the ``explain`` record of a card, and the data they are fitted on.

    DatasetError where the pool has no held-out photo to calibrate on.
    """
    naming = naming or NamingSection()
    names, _ = halves(pool)
    if not names:
        raise DatasetError("holds out no photo to calibrate block labels on", pool.root)
    found = predict_blocks(model, pool, names, PICTURES, naming.faults, implementations)
    temperature = fit_temperature(found.logits, found.truth)
    fault = 1 - softmax(found.logits / temperature)[:, -1]
    penalty = fit_penalty(found.scores, fault * found.levels / TOP_LEVEL, ~found.truth[:, -1])
    peaks = []
    for name in tracked(names, "calibrating on photos", len(names)):
        view = model.card.view
        pixels = load(pool.root / name, working_size=view.working_size, shortest=view.shortest).pixels
        peaks.append(float(read_pieces(model, pixels, temperature)[1].fault.max()))
    threshold = fit_threshold(peaks, FALSE_ALARMS)
    precise: dict[str, Any] = {}
    if naming.precision:
        named = name_faults(model, pool, names, PICTURES, naming.faults, implementations, temperature, threshold)
        precise = precision_record(named, naming.precision)
    return {
        "temperature": temperature,
        "penalty": penalty,
        "threshold": threshold,
        **precise,
        "false_alarms_allowed": FALSE_ALARMS,
        "loss": {
            "before": nll(found.logits, found.truth),
            "after": nll(found.logits / temperature, found.truth),
        },
        "fitted_on": f"{len(fault)} blocks of {PICTURES} degraded and clean crops and {len(names)} clean photos of the "
        "pristine pool, none of which any training used",
        "data_hash": pool.hash_of(names),
    }


def predict_blocks(
    model: Model,
    pool: Pool,
    names: Sequence[str],
    count: int,
    combined: int = 1,
    implementations: ImplementationSet = "default",
) -> BlockPredictions:
    """Predictions for the labelled blocks of ``count`` crops of the named photos, see planted_crops."""
    labels = model.card.explain
    assert labels is not None
    rows = []
    view, kinds = model.card.view, labels.kinds
    crops = planted_crops(pool, names, view, labels.grid, count, _SEED, kinds, implementations, combined)
    for crop in tracked(crops, "calibrating blocks", count):
        piece = Piece(crop.picture, 0, 0, *crop.picture.shape[:2])
        scores, logits, levels = model.run(piece, ("block_score", "kind_logits", "level"))
        known = crop.labelled
        there = crop.faults[:, : len(kinds)] > 0
        truth = np.column_stack([there, ~there.any(axis=1)])
        rows.append((logits[known], scores[known], levels[known].clip(1, TOP_LEVEL), truth[known]))
    return BlockPredictions(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def name_faults(
    model: Model,
    pool: Pool,
    names: Sequence[str],
    count: int,
    combined: int,
    implementations: ImplementationSet,
    temperature: float,
    threshold: float,
) -> NamedFaults:
    """Every name that the maps of ``count`` pictures may give: the named photos, of which three in four have faults.

    A name is right where a fault with the same label is in the picture. A kind is as certain as in its best cell among
    those where it is the likeliest and the probability of a fault reaches ``threshold``.
    """
    labels = model.card.explain
    assert labels is not None
    view = model.card.view
    certainty: list[float] = []
    right: list[bool] = []
    for number in tracked(range(count), "calibrating names", count):
        rng = np.random.default_rng((_SEED, 1, number))
        path = pool.root / names[int(rng.integers(len(names)))]
        pixels: Pixels = load(path, working_size=view.working_size, shortest=view.shortest).pixels
        there: set[str] = set()
        if number % 4:
            made = combine_faults(pixels, combined, rng, labels.kinds, implementations)
            pixels, there = made.picture, {fault.kind.label for fault in made.faults}
        stitched = read_pieces(model, pixels, temperature)[1]
        if is_monochrome(pixels):
            stitched = stitched.without(labels.of_colour)
        for kind, best in named_peaks(stitched.probabilities, threshold).items():
            certainty.append(best)
            right.append(fault_label(labels.kinds[kind]) in there)
    return NamedFaults(np.array(certainty), np.array(right, np.bool_))


def named_peaks(probabilities: Floats, threshold: float) -> dict[int, float]:
    """Of each kind that a map (R x C x kinds + 1) names at ``threshold``, its greatest probability where named."""
    peaks: dict[int, float] = {}
    for cell in probabilities.reshape(-1, probabilities.shape[-1]):
        if 1.0 - cell[-1] >= threshold:
            kind = int(cell[:-1].argmax())
            peaks[kind] = max(peaks.get(kind, 0.0), float(cell[kind]))
    return peaks


def precision_record(named: NamedFaults, wanted: float) -> dict[str, Any]:
    """``certainty`` for the record of a card, and what the names at or above it are worth."""
    certainty = fit_certainty(named.certainty, named.right, wanted)
    kept = named.right[named.certainty >= certainty]
    reached = float(kept.mean()) if len(kept) else None
    return {
        "certainty": certainty,
        "precision": {"wanted": wanted, "reached": reached, "names": len(kept), "of": len(named.right)},
    }


def fit_certainty(certainty: Floats, right: NDArray[np.bool_], wanted: float) -> float:
    """The smallest certainty at which names are right as often as ``wanted``, by a one-sided 90 % bound.

    The bound is Wilson's on the share of right ones among the names at or above it. ``NOTHING`` where there is none:
    then nothing is named.
    """
    order = np.argsort(-certainty, kind="stable")
    count = np.arange(1, len(order) + 1)
    share = right[order].cumsum() / count
    square = ONE_SIDED**2 / count
    bound = (share + square / 2 - np.sqrt(square * share * (1 - share) + square**2 / 4)) / (1 + square)
    # Names of one certainty stand or fall together.
    last = np.append(np.diff(certainty[order]) < 0, True)[: len(order)]
    enough = np.flatnonzero((bound >= wanted) & last)
    return float(certainty[order][enough[-1]]) if len(enough) else NOTHING


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


def fit_temperature(logits: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """The T between 0.1 and 10 that minimises :func:`nll` of logits / T; both N x C + 1.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. With one true class the loss is convex in 1 / T,
    so a golden-section search on log T finds the minimum.
    """
    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(0.1), math.log(10)
    for _ in range(40):
        span = golden * (high - low)
        left, right = high - span, low + span
        if nll(logits / math.exp(left), truth) < nll(logits / math.exp(right), truth):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def nll(logits: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Mean of -log of the probability of the true classes, of which a row of ``truth`` may have several: N x C + 1."""
    shares = (softmax(logits) * truth).sum(axis=1)
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
