"""Calibrate the block labels of a model: temperature of the kinds, penalty of a fault, thresholds for naming one.

All are fitted on one half of the pristine pool's held-out photos (:func:`halves`). The other half is left for
measurement (benchmarks/quality/explain.py).
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moslens.distortions import get_kind
from moslens.distortions.implementations import ImplementationSet
from moslens.errors import DatasetError
from moslens.picture.load import load
from moslens.picture.notes import is_monochrome
from moslens.picture.windows import Piece, Pixels
from moslens.release.fault_combinations import combine_faults
from moslens.release.planted_crops import planted_crops
from moslens.scoring.card import BLOCK_OUTPUTS, NEVER, BlockLabels
from moslens.scoring.labels import fault_label, group_label
from moslens.scoring.quality_map import read_pieces, with_mean
from moslens.scoring.session import Model
from moslens.scoring.stitch import softmax
from moslens.system.progress import tracked
from moslens.train.config import NamingSection
from moslens.train.distill.pool import Pool

FALSE_ALARMS = 0.05
"""Share of clean photos in which a fault may be named. Half of the tolerated share, because a threshold fitted on a
hundred photos is itself uncertain by a few percent."""

FAULTY_BELOW = 40.0
"""Something is wrong with a picture whose score is below this, in the words of a five-point scale poor or bad."""

PICTURES = 400
ONE_SIDED = 1.2816
"""Standard normal quantile of .9: a precision counts as reached where its one-sided bound of 90 % says so."""

PENALTIES = tuple(range(0, 401, 4))
SLACK = 0.002
TOP_LEVEL = 5
_SEED = 9_003

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockPredictions:
    """Predictions for N blocks with known labels: logits N x C + 1, levels N (1 to 5), by crop.

    ``truth``: N x C + 1 bool, the kinds that are there; the last is no distortion.
    """

    crops: tuple["CropBlocks", ...]

    @property
    def logits(self) -> Floats:
        return np.concatenate([crop.logits[crop.known] for crop in self.crops])

    @property
    def truth(self) -> NDArray[np.bool_]:
        return np.concatenate([crop.truth for crop in self.crops])

    def fit_penalty(self, temperature: float) -> float:
        """:func:`fit_penalty` on the crops that have clean and degraded blocks: maps compare blocks of one picture.

        As in a map the scores have the raw score of their crop as weighted mean.
        """
        quality: list[Floats] = []
        damage: list[Floats] = []
        degraded = []
        for crop in self.crops:
            faulty = ~crop.truth[:, -1]
            if faulty.all() or not faulty.any():
                continue
            harm = (1 - softmax(crop.logits / temperature)[:, -1]) * crop.levels / TOP_LEVEL
            share = crop.weights / crop.weights.sum()
            quality.append(with_mean(crop.scores, share, crop.raw)[crop.known])
            damage.append(with_mean(harm, share, 0.0)[crop.known])
            degraded.append(faulty)
        if not quality:
            return 0.0
        return fit_penalty(np.concatenate(quality), np.concatenate(damage), np.concatenate(degraded))


@dataclass(frozen=True)
class CropBlocks:
    """What a model says of a crop (``raw``, MOS units) and of its K blocks; ``truth`` of those that are ``known``."""

    raw: float
    scores: NDArray[np.floating]
    weights: NDArray[np.floating]
    logits: NDArray[np.floating]
    levels: NDArray[np.floating]
    known: NDArray[np.bool_]
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class FaultyMap:
    """The probabilities of a map, cells x kinds + 1, and the kinds of the faults that are in the picture."""

    cells: Floats
    kinds: tuple[str, ...]


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
    assert model.card.explain is not None
    names, _ = halves(pool)
    if not names:
        raise DatasetError("holds out no photo to calibrate block labels on", pool.root)
    found = predict_blocks(model, pool, names, PICTURES, naming.faults, implementations)
    temperature = fit_temperature(found.logits, found.truth)
    penalty = found.fit_penalty(temperature)
    peaks = []
    for name in tracked(names, "calibrating on photos", len(names)):
        view = model.card.view
        pixels = load(pool.root / name, working_size=view.working_size, shortest=view.shortest).pixels
        peaks.append(float(read_pieces(model, pixels, temperature)[1].fault.max()))
    threshold = fit_threshold(peaks, FALSE_ALARMS)
    precise: dict[str, Any] = {}
    if naming.precision:
        maps = list(read_faulty(model, pool, names, PICTURES, naming.faults, implementations, temperature))
        labels = replace(model.card.explain, temperature=temperature, threshold=threshold)
        precise = precision_record(maps, labels, naming.precision)
    return {
        "temperature": temperature,
        "penalty": penalty,
        "threshold": threshold,
        **precise,
        "false_alarms_allowed": FALSE_ALARMS,
        "faulty_below": FAULTY_BELOW,
        "loss": {
            "before": nll(found.logits, found.truth),
            "after": nll(found.logits / temperature, found.truth),
        },
        "fitted_on": f"{len(found.truth)} blocks of {PICTURES} degraded and clean crops and {len(names)} clean photos "
        "of the pristine pool, none of which any training used",
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
    blocks = []
    view, kinds = model.card.view, labels.kinds
    crops = planted_crops(pool, names, view, labels.grid, count, _SEED, kinds, implementations, combined)
    for crop in tracked(crops, "calibrating blocks", count):
        piece = Piece(crop.picture, 0, 0, *crop.picture.shape[:2])
        raw, scores, weights, logits, levels = model.run(piece, ("score", *BLOCK_OUTPUTS))
        there = crop.faults[:, : len(kinds)] > 0
        truth = np.column_stack([there, ~there.any(axis=1)])[crop.labelled]
        levels = levels.clip(1, TOP_LEVEL)
        blocks.append(CropBlocks(float(raw), scores, weights, logits, levels, crop.labelled, truth))
    return BlockPredictions(tuple(blocks))


def read_faulty(
    model: Model,
    pool: Pool,
    names: Sequence[str],
    count: int,
    combined: int,
    implementations: ImplementationSet,
    temperature: float,
) -> Iterator[FaultyMap]:
    """The maps of ``count`` pictures: of the named photos, of which three in four have one to ``combined`` faults."""
    labels = model.card.explain
    assert labels is not None
    view = model.card.view
    for number in tracked(range(count), "calibrating names", count):
        rng = np.random.default_rng((_SEED, 1, number))
        path = pool.root / names[int(rng.integers(len(names)))]
        pixels: Pixels = load(path, working_size=view.working_size, shortest=view.shortest).pixels
        there: tuple[str, ...] = ()
        if number % 4:
            made = combine_faults(pixels, combined, rng, labels.kinds, implementations)
            pixels, there = made.picture, tuple(fault.kind.name for fault in made.faults)
        stitched = read_pieces(model, pixels, temperature)[1]
        if is_monochrome(pixels):
            stitched = stitched.without(labels.of_colour)
        yield FaultyMap(stitched.probabilities.reshape(-1, len(labels.kinds) + 1), there)


def name_kinds(maps: Sequence[FaultyMap], labels: BlockLabels) -> NamedFaults:
    """Every name of a kind that the maps may give. It is right where a fault with the same label is in the picture.

    A kind is as certain as in its best cell among those where it is the likeliest and the probability of a fault
    reaches the threshold.
    """
    pictures = ((picture.cells, {fault_label(kind) for kind in picture.kinds}) for picture in maps)
    return _judge(pictures, [fault_label(kind) for kind in labels.kinds], labels.threshold)


def name_groups(maps: Sequence[FaultyMap], labels: BlockLabels) -> NamedFaults:
    """Every name of a group that the maps may give where no kind is certain, as :func:`name_kinds`."""

    def pictures() -> Iterator[tuple[Floats, set[str]]]:
        for picture in maps:
            unsure = picture.cells[picture.cells[:, :-1].max(axis=1) < labels.certainty]
            shares = [unsure[:, members].sum(axis=1) for members in labels.members.values()]
            there = {group_label(get_kind(kind).group) for kind in picture.kinds}
            yield np.column_stack([*shares, unsure[:, -1]]), there

    return _judge(pictures(), [group_label(group) for group in labels.members], labels.threshold)


def _judge(pictures: Iterable[tuple[Floats, set[str]]], words: Sequence[str], threshold: float) -> NamedFaults:
    """The names that maps (cells x words + 1) give at ``threshold``; right are those among the labels beside a map."""
    certainty: list[float] = []
    right: list[bool] = []
    for cells, there in pictures:
        for name, best in named_peaks(cells, threshold).items():
            certainty.append(best)
            right.append(words[name] in there)
    return NamedFaults(np.array(certainty), np.array(right, np.bool_))


def named_peaks(cells: Floats, threshold: float) -> dict[int, float]:
    """Of each name that a map (cells x names + 1) gives at ``threshold``, its greatest probability where given."""
    peaks: dict[int, float] = {}
    for cell in cells:
        if 1.0 - cell[-1] >= threshold:
            name = int(cell[:-1].argmax())
            peaks[name] = max(peaks.get(name, 0.0), float(cell[name]))
    return peaks


def precision_record(maps: Sequence[FaultyMap], labels: BlockLabels, wanted: float) -> dict[str, Any]:
    """``certainty`` and ``group_certainty`` for the record of a card, and what the names at or above them are worth."""
    kinds = name_kinds(maps, labels)
    certainty = fit_certainty(kinds.certainty, kinds.right, wanted)
    groups = name_groups(maps, replace(labels, certainty=certainty))
    group_certainty = fit_certainty(groups.certainty, groups.right, wanted)
    return {
        "certainty": certainty,
        "group_certainty": group_certainty,
        "precision": {
            "wanted": wanted,
            "kinds": _reached(kinds, certainty),
            "groups": _reached(groups, group_certainty),
        },
    }


def _reached(named: NamedFaults, certainty: float) -> dict[str, Any]:
    kept = named.right[named.certainty >= certainty]
    return {"reached": float(kept.mean()) if len(kept) else None, "names": len(kept), "of": len(named.right)}


def fit_certainty(certainty: Floats, right: NDArray[np.bool_], wanted: float) -> float:
    """The smallest certainty at which names are right as often as ``wanted``, by a one-sided 90 % bound.

    The bound is Wilson's on the share of right ones among the names at or above it. ``NEVER`` where there is none:
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
    return float(certainty[order][enough[-1]]) if len(enough) else NEVER


def fit_penalty(scores: Floats, damage: Floats, degraded: NDArray[np.bool_]) -> float:
    """MOS units to subtract from the quality of a block with a certain fault of the highest level.

    scores (MOS units), damage (probability of a fault times level / 5, both as :class:`BlockPredictions` has them)
    and labels of N blocks. Returns the smallest
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
    false alarm. Split conformal: just above the ceil((n + 1)(1 - allowed))-th smallest peak; ``NEVER`` where there
    are too few photos for that.
    """
    rank = math.ceil((len(peaks) + 1) * (1 - allowed) - 1e-9)
    if rank > len(peaks):
        return NEVER
    return float(np.nextafter(sorted(peaks)[rank - 1], 2.0))


def _odd(name: str) -> bool:
    return bool(hashlib.sha256(f"calibrate/{name}".encode("utf-8", "surrogateescape")).digest()[0] & 1)
