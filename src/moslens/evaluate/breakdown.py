"""Figures by distortion and by range of scores, the worst pictures, and the coverage of stated intervals."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moslens import metrics
from moslens.data.records import Dataset, Sample
from moslens.evaluate.predictors import Part
from moslens.metrics import Vector

WORST = 20
RANGES = 5


@dataclass(frozen=True)
class Measured:
    """A part of N pictures: opinion scores, predictions (raw, and ``mapped`` by the logistic fit), bounds, figures.

    All vectors are N long. ``low`` and ``high`` are on the 0-100 scale, None where the predictor states no interval.
    ``figures`` is the part's entry in the result file.
    """

    part: Part
    mos: Vector
    prediction: Vector
    mapped: Vector
    low: Vector | None
    high: Vector | None
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class GroupRow:
    """Figures of a group of pictures, the median over splits; ``n`` counts the pictures of all splits.

    ``bias`` is the mean of mapped prediction minus MOS, ``coverage`` the share of MOS within the bounds (nan without
    bounds).
    """

    label: str
    n: int
    srcc: float
    plcc: float
    krcc: float
    rmse: float
    bias: float
    coverage: float


@dataclass(frozen=True)
class Miss:
    """A picture predicted far from its opinion score; ``predicted`` is the mapped prediction, averaged over splits."""

    sample: Sample
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted - self.sample.mos


@dataclass(frozen=True)
class Coverage:
    """Share (0 to 1) of ``n`` opinion scores within their bounds; mean ``width`` of the bounds on the 0-100 scale."""

    n: int
    share: float
    width: float


def coverage(dataset: Dataset, measured: Sequence[Measured]) -> Coverage | None:
    """Coverage over all parts that have bounds; None where no part has."""
    inside, widths = [], []
    for one in measured:
        held = _inside(dataset, one)
        if held is not None and one.low is not None and one.high is not None:
            inside.append(held)
            widths.append(one.high - one.low)
    if not inside:
        return None
    flat = np.concatenate(inside)
    return Coverage(flat.size, float(flat.mean()), float(np.concatenate(widths).mean()))


def _inside(dataset: Dataset, one: Measured) -> NDArray[np.bool_] | None:
    """Whether each opinion score, scaled from the range of the data set to 0-100, lies within its bounds."""
    if one.low is None or one.high is None:
        return None
    target = dataset.card.scale.mos.points(one.mos)
    return np.asarray((one.low <= target) & (target <= one.high))


def by_kind(dataset: Dataset, measured: Sequence[Measured]) -> tuple[GroupRow, ...]:
    """One row for each distortion label, in the order of the data set's card; empty where there are no labels."""
    kinds = {sample.kind for sample in dataset.samples if sample.kind is not None}
    listed = [kind for kind in dataset.card.kinds if kind in kinds]
    listed += sorted(kinds - set(listed))
    members = {kind: [i for i, s in enumerate(dataset.samples) if s.kind == kind] for kind in listed}
    return _rows(dataset, measured, members)


def by_range(dataset: Dataset, measured: Sequence[Measured]) -> tuple[GroupRow, ...]:
    """One row for each of five ranges of equal width between the lowest and the highest opinion score."""
    mos = np.array([sample.mos for sample in dataset.samples])
    edges = np.linspace(mos.min(), mos.max(), RANGES + 1)
    place = np.clip(np.searchsorted(edges, mos, side="right") - 1, 0, RANGES - 1)
    members = {
        f"{bottom:.4g} to {top:.4g}": [int(i) for i in np.flatnonzero(place == k)]
        for k, (bottom, top) in enumerate(pairwise(edges))
    }
    return _rows(dataset, measured, members)


def _rows(dataset: Dataset, measured: Sequence[Measured], members: Mapping[str, Iterable[int]]) -> tuple[GroupRow, ...]:
    rows = []
    for label, indices in members.items():
        chosen = set(indices)
        tested = {i for one in measured for i in one.part.indices if i in chosen}
        if tested:
            found = [_figures(dataset, one, chosen) for one in measured]
            middle = {
                name: _median([one[name] for one in found if one])
                for name in ("srcc", "plcc", "krcc", "rmse", "bias", "coverage")
            }
            rows.append(GroupRow(label, len(tested), **middle))
    return tuple(rows)


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan


def _figures(dataset: Dataset, one: Measured, chosen: set[int]) -> dict[str, float]:
    here = np.array([i in chosen for i in one.part.indices])
    if not here.any():
        return {}
    prediction, mapped, mos = one.prediction[here], one.mapped[here], one.mos[here]
    held = _inside(dataset, one)
    return {
        "srcc": metrics.srcc(prediction, mos),
        "plcc": metrics.plcc(mapped, mos),
        "krcc": metrics.krcc(prediction, mos),
        "rmse": metrics.rmse(mapped, mos),
        "bias": float(np.mean(mapped - mos)),
        "coverage": math.nan if held is None else float(held[here].mean()),
    }


def worst(dataset: Dataset, measured: Sequence[Measured]) -> tuple[Miss, ...]:
    """The twenty pictures whose mapped prediction, averaged over splits, is farthest from their score."""
    mapped: dict[int, list[float]] = {}
    for one in measured:
        for i, value in zip(one.part.indices, one.mapped, strict=True):
            mapped.setdefault(i, []).append(float(value))
    misses = [Miss(dataset.samples[i], statistics.fmean(values)) for i, values in mapped.items()]
    return tuple(sorted(misses, key=lambda miss: (-abs(miss.error), miss.sample.name))[:WORST])
