"""How sure a figure is: bootstrap intervals, and paired tests between two models on the same splits."""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moslens.errors import MissingExtra
from moslens.metrics import Metric, MetricError, as_pair


@dataclass(frozen=True)
class Interval:
    """A percentile interval of a statistic."""

    low: float
    high: float


def _draws(
    size: int, groups: Sequence[object] | None, rng: np.random.Generator, draws: int
) -> Iterator[NDArray[np.int64]]:
    """Index arrays of ``draws`` resamples with replacement, of whole groups where groups are given."""
    if groups is None:
        for _ in range(draws):
            yield rng.integers(0, size, size)
        return
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    blocks = [np.asarray(block, dtype=np.int64) for block in members.values()]
    for _ in range(draws):
        yield np.concatenate([blocks[i] for i in rng.integers(0, len(blocks), len(blocks))])


def bootstrap_interval(
    metric: Metric,
    prediction: ArrayLike,
    target: ArrayLike,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    groups: Sequence[object] | None = None,
) -> Interval:
    """Bootstrap interval of ``metric`` over pictures.

    With ``groups`` (one label a picture, such as its reference) whole groups are drawn, since distorted
    versions of one picture are not independent. The interval is widened for few pictures or groups, not enough for a
    handful of groups (measured: docs/evaluation.md). Draws where the metric does not exist are left out; ``nan``
    where it never does, and for a single picture or group. Raises MetricError, and MissingExtra without scipy.
    """
    x, y = as_pair(prediction, target)
    if groups is not None and len(groups) != x.size:
        raise MetricError(f"{len(groups)} groups for {x.size} values")
    values = np.array([metric(x[index], y[index]) for index in _draws(x.size, groups, rng, draws)])
    return _interval(values, x.size if groups is None else len(set(groups)), confidence)


def _interval(values: NDArray[np.float64], units: int, confidence: float) -> Interval:
    """The quantiles of the finite draws that stand for ``confidence`` where ``units`` things were drawn from.

    A bootstrap of n units is too narrow as a normal quantile and the divisor n are for a mean of n values; the levels
    are moved by as much as Student's t and the divisor n - 1 would (Hesterberg 2015). For hundreds it makes no odds.
    """
    values = values[np.isfinite(values)]
    if not values.size or units < 2:
        return Interval(math.nan, math.nan)
    try:
        from scipy.special import ndtr, stdtrit
    except ImportError:
        raise MissingExtra("train", "scipy") from None
    tail = float(ndtr(-stdtrit(units - 1, (1 + confidence) / 2) * math.sqrt(units / (units - 1))))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class SignTest:
    """Splits won, lost and tied by the first model, and the exact two-sided p-value (ties left out)."""

    wins: int
    losses: int
    ties: int
    p: float


def sign_test(first: ArrayLike, second: ArrayLike) -> SignTest:
    """Sign test on paired figures, one pair a split (higher is better); exact where splits are independent.

    Random splits of one data set are not: they share pictures, and the test then finds too much.
    """
    a, b = as_pair(first, second)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(max(wins, losses), n + 1)) / 2**n
    return SignTest(wins, losses, a.size - n, min(1.0, 2 * tail))


@dataclass(frozen=True)
class TTest:
    """Mean over splits of first - second, and the two-sided p-value; nan where no test holds."""

    difference: float
    p: float


def corrected_t_test(first: ArrayLike, second: ArrayLike, ratio: float) -> TTest:
    """Resampled t-test of Nadeau and Bengio (2003) on paired figures, one pair a split (higher is better).

    Random splits of one data set share pictures in training and in test, so their figures are not independent and a
    plain t-test or sign test finds too much. The variance of the mean over J splits is taken as (1 / J + ``ratio``)
    instead of 1 / J times that of the differences; ``ratio`` is the number of test pictures over that of the others.
    No p-value for fewer than two splits or where no pictures are left untested (``ratio`` infinite). Raises
    MetricError, and MissingExtra without scipy.
    """
    a, b = as_pair(first, second)
    gaps = a - b
    difference = float(gaps.mean())
    if gaps.size < 2 or not math.isfinite(ratio):
        return TTest(difference, math.nan)
    spread = float(gaps.std(ddof=1)) * math.sqrt(1 / gaps.size + ratio)
    if spread == 0:
        return TTest(difference, 1.0 if difference == 0 else 0.0)
    try:
        from scipy.special import stdtr
    except ImportError:
        raise MissingExtra("train", "scipy") from None
    return TTest(difference, float(2 * stdtr(gaps.size - 1, -abs(difference / spread))))


@dataclass(frozen=True)
class PairedBootstrap:
    """Mean over splits of metric(first) - metric(second), its percentile interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    metric: Metric,
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    target: Sequence[ArrayLike],
    rng: np.random.Generator,
    *,
    groups: Sequence[Sequence[Hashable]] | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
) -> PairedBootstrap:
    """Bootstrap of the difference between two models on the same pictures of the same splits.

    Each argument holds one array a split. ``groups`` names the pictures (or the references that they were made
    from): a draw takes these names with replacement, once for all splits and both models, and averages the
    difference over splits. Splits of one data set test many pictures twice; drawn apart they would count as
    new evidence. Without ``groups`` no picture is taken to be in two splits. The p-value is twice the smaller
    share of draws on either side of zero, never below 2 / (draws + 1). It speaks of pictures: another training
    run of the same two methods may differ by more. Raises MetricError.
    """
    if not len(first) == len(second) == len(target) > 0:
        raise MetricError(f"{len(first)}, {len(second)} and {len(target)} splits cannot be paired")
    splits = [(*as_pair(a, y), as_pair(b, y)[0]) for a, b, y in zip(first, second, target, strict=True)]
    sizes = [y.size for _, y, _ in splits]
    if groups is None:
        names: Sequence[Sequence[Hashable]] = [[(k, i) for i in range(size)] for k, size in enumerate(sizes)]
    else:
        names = groups
    if [len(one) for one in names] != sizes:
        raise MetricError(f"groups of {[len(one) for one in names]} pictures for splits of {sizes}")
    number: dict[Hashable, int] = {}
    places = [np.array([number.setdefault(name, len(number)) for name in one]) for one in names]
    observed = float(np.mean([metric(a, y) - metric(b, y) for a, y, b in splits]))
    values = np.full(draws, math.nan)
    for draw in range(draws):
        times = np.bincount(rng.integers(0, len(number), len(number)), minlength=len(number))
        drawn = [np.repeat(np.arange(place.size), times[place]) for place in places]
        if all(index.size for index in drawn):
            gaps = [
                metric(a[index], y[index]) - metric(b[index], y[index])
                for (a, y, b), index in zip(splits, drawn, strict=True)
            ]
            values[draw] = np.mean(gaps)
    values = values[np.isfinite(values)]
    if not values.size or not math.isfinite(observed):
        return PairedBootstrap(observed, math.nan, math.nan, math.nan)
    interval = _interval(values, len(number), confidence)
    smaller = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return PairedBootstrap(observed, interval.low, interval.high, min(1.0, 2 * (smaller + 1) / (values.size + 1)))
