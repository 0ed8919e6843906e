"""How sure a figure is: bootstrap intervals, and paired tests between two models on the same splits."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    """Percentile bootstrap of ``metric`` over pictures.

    With ``groups`` (one label a picture, such as its reference) whole groups are drawn, since distorted
    versions of one picture are not independent. Draws where the metric does not exist are left out; ``nan``
    where it never does. Raises MetricError.
    """
    x, y = as_pair(prediction, target)
    if groups is not None and len(groups) != x.size:
        raise MetricError(f"{len(groups)} groups for {x.size} values")
    values = np.array([metric(x[index], y[index]) for index in _draws(x.size, groups, rng, draws)])
    values = values[np.isfinite(values)]
    if not values.size:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class SignTest:
    """Splits won, lost and tied by the first model, and the exact two-sided p-value (ties left out)."""

    wins: int
    losses: int
    ties: int
    p: float


def sign_test(first: ArrayLike, second: ArrayLike) -> SignTest:
    """Exact sign test on paired figures, one pair a split (higher is better)."""
    a, b = as_pair(first, second)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(max(wins, losses), n + 1)) / 2**n
    return SignTest(wins, losses, a.size - n, min(1.0, 2 * tail))


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
    draws: int = 1000,
    confidence: float = 0.95,
) -> PairedBootstrap:
    """Bootstrap of the difference between two models on the same pictures of the same splits.

    Each argument holds one array a split. Every draw resamples the pictures of each split, the same ones for
    both models, and averages the difference over splits. The p-value is twice the smaller share of draws on
    either side of zero, never below 2 / (draws + 1). Overlapping test splits share pictures, so over repeated
    splits of one data set it is optimistic: report it beside the sign test. Raises MetricError.
    """
    if not len(first) == len(second) == len(target) > 0:
        raise MetricError(f"{len(first)}, {len(second)} and {len(target)} splits cannot be paired")
    splits = [(*as_pair(a, y), as_pair(b, y)[0]) for a, b, y in zip(first, second, target, strict=True)]
    observed = float(np.mean([metric(a, y) - metric(b, y) for a, y, b in splits]))
    values = np.empty(draws)
    for draw in range(draws):
        gaps = []
        for a, y, b in splits:
            index = rng.integers(0, y.size, y.size)
            gaps.append(metric(a[index], y[index]) - metric(b[index], y[index]))
        values[draw] = np.mean(gaps)
    values = values[np.isfinite(values)]
    if not values.size or not math.isfinite(observed):
        return PairedBootstrap(observed, math.nan, math.nan, math.nan)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    smaller = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return PairedBootstrap(observed, float(low), float(high), min(1.0, 2 * (smaller + 1) / (values.size + 1)))
