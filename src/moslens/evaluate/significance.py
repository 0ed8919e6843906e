"""Confidence of a figure: bootstrap intervals, and paired tests between two models on the same splits."""

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moslens.errors import MissingExtra
from moslens.metrics import Metric, MetricError, as_pair


@dataclass(frozen=True)
class Interval:
    """A percentile interval of a metric, in the metric's unit."""

    low: float
    high: float


def _draws(
    size: int, groups: Sequence[object] | None, rng: np.random.Generator, draws: int
) -> Iterator[NDArray[np.int64]]:
    """Index arrays of ``draws`` resamples with replacement; with ``groups``, whole groups are drawn."""
    if groups is None:
        for _ in range(draws):
            yield rng.integers(0, size, size)
        return
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    indices = [np.asarray(group, dtype=np.int64) for group in members.values()]
    for _ in range(draws):
        yield np.concatenate([indices[i] for i in rng.integers(0, len(indices), len(indices))])


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

    ``groups`` holds one label for each picture, such as its reference. Whole groups are then drawn, since distorted
    versions of one picture are not independent. The interval is widened for few pictures or groups; for fewer than
    about ten groups it is still too narrow (docs/evaluation.md). Draws for which the metric is nan are left out. The
    bounds are nan where every draw is, and for a single picture or group. Raises MetricError, and MissingExtra without
    scipy.
    """
    x, y = as_pair(prediction, target)
    if groups is not None and len(groups) != x.size:
        raise MetricError(f"{len(groups)} groups for {x.size} values")
    values = np.array([metric(x[index], y[index]) for index in _draws(x.size, groups, rng, draws)])
    return _interval(values, x.size if groups is None else len(set(groups)), confidence)


def _interval(values: NDArray[np.float64], units: int, confidence: float) -> Interval:
    """The interval of the finite ``values`` at ``confidence``, where each draw took ``units`` pictures or groups.

    A plain percentile interval of n units is too narrow, as an interval of a mean is with a normal quantile and the
    divisor n. The percentiles are moved as far as Student's t and the divisor n - 1 would (Hesterberg 2015); for
    hundreds of units that changes nothing.
    """
    values = values[np.isfinite(values)]
    if not values.size or units < 2:
        return Interval(math.nan, math.nan)
    special = _special()
    t = special.stdtrit(units - 1, (1 + confidence) / 2)
    tail = float(special.ndtr(-t * math.sqrt(units / (units - 1))))
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _special() -> Any:
    try:
        import scipy.special
    except ImportError:
        raise MissingExtra("train", "scipy") from None
    return scipy.special


@dataclass(frozen=True)
class SignTest:
    """Splits won, lost and tied by the first model, and the exact two-sided p-value without the ties."""

    wins: int
    losses: int
    ties: int
    p: float


def sign_test(first: ArrayLike, second: ArrayLike) -> SignTest:
    """Sign test on paired figures, one pair for each split, higher is better. Raises MetricError.

    Exact where splits are independent. Random splits of one data set share pictures, so there its p-value is too small.
    """
    a, b = as_pair(first, second)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(max(wins, losses), n + 1)) / 2**n
    return SignTest(wins, losses, a.size - n, min(1.0, 2 * tail))


@dataclass(frozen=True)
class TTest:
    """Mean over splits of first - second, and the two-sided p-value; nan where the test does not apply."""

    difference: float
    p: float


def corrected_t_test(first: ArrayLike, second: ArrayLike, ratio: float) -> TTest:
    """Corrected resampled t-test of Nadeau and Bengio (2003) on paired figures, one pair for each split.

    Random splits of one data set share pictures in training and in test, so their figures are not independent, and the
    p-value of a plain t-test or sign test is too small. The variance of the mean over J splits is taken as
    (1 / J + ``ratio``) times the variance of the differences instead of 1 / J times; ``ratio`` is the number of test
    pictures over the number of the others. The p-value is nan for fewer than two splits, and where every picture is a
    test picture (``ratio`` infinite). Raises MetricError, and MissingExtra without scipy.
    """
    difference, spread, size = _paired(first, second, ratio)
    if math.isnan(spread):
        return TTest(difference, math.nan)
    if spread == 0:
        return TTest(difference, 1.0 if difference == 0 else 0.0)
    return TTest(difference, float(2 * _special().stdtr(size - 1, -abs(difference / spread))))


@dataclass(frozen=True)
class PairedInterval:
    """Mean over splits of first - second, its standard error and Student's t interval; nan where they do not apply."""

    difference: float
    error: float
    low: float
    high: float


def paired_interval(
    first: ArrayLike, second: ArrayLike, *, ratio: float = 0.0, confidence: float = 0.95
) -> PairedInterval:
    """The t interval of the mean difference of paired figures, one pair for each split.

    ``ratio`` 0 takes splits as independent, which random splits of one data set are not: the interval is too narrow.
    Another ``ratio`` widens it as in :func:`corrected_t_test`, and then it leaves 0 out exactly where the p-value of
    that test is below 1 - ``confidence``. Raises MetricError, and MissingExtra without scipy.
    """
    difference, error, size = _paired(first, second, ratio)
    if math.isnan(error):
        return PairedInterval(difference, math.nan, math.nan, math.nan)
    reach = float(_special().stdtrit(size - 1, (1 + confidence) / 2)) * error
    return PairedInterval(difference, error, difference - reach, difference + reach)


def _paired(first: ArrayLike, second: ArrayLike, ratio: float) -> tuple[float, float, int]:
    """Mean of first - second, its standard error (nan for fewer than two pairs), and the number of pairs."""
    a, b = as_pair(first, second)
    gaps = a - b
    applies = gaps.size >= 2 and math.isfinite(ratio)
    error = float(gaps.std(ddof=1)) * math.sqrt(1 / gaps.size + ratio) if applies else math.nan
    return float(gaps.mean()), error, gaps.size


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

    ``first``, ``second`` (predictions) and ``target`` (scores) hold one array for each split. ``groups`` holds the
    names of the pictures, or of the references that they were made from, in the same order. Each draw takes names with
    replacement, once for all splits and both models, and averages the difference over splits: splits of one data set
    test many pictures twice, and drawn apart these would count as new evidence. Without ``groups`` all pictures of all
    splits count as different. The p-value is twice the smaller share of draws on either side of zero, never below
    2 / (draws + 1). It says nothing of the spread between training runs: other runs of the same two methods may differ
    by more. Raises MetricError, and MissingExtra without scipy.
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
