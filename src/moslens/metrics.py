"""How well predictions follow opinion scores: SRCC, KRCC, PLCC, RMSE, pairwise accuracy and the logistic fit.

Every function takes predictions first and opinion scores second, both one-dimensional, finite and of equal length;
any other input raises a :class:`MetricError` that names the first bad position. A correlation that does not exist
(fewer than two values, or one side constant) is ``nan`` and no exception, so that a small group of pictures cannot end
an evaluation.

Only :func:`fit_logistic` needs scipy. The correlations are numpy alone because ``moslens compare`` ranks models in the
core install; the tests hold them to scipy.stats within 1e-12.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moslens.errors import MissingExtra, MoslensError

Vector = NDArray[np.float64]
# Below this standard deviation a slope would overflow a float.
_LEAST_DEVIATION = 1e-150
Metric = Callable[[Vector, Vector], float]


class MetricError(MoslensError, ValueError):
    """The numbers given to a metric cannot be compared."""

    code = "metric"


def as_vector(values: ArrayLike, what: str) -> Vector:
    """``values`` as a finite, non-empty float64 vector; ``what`` names them in the MetricError."""
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MetricError(f"{what} are not numbers: {error}") from None
    if vector.ndim != 1:
        raise MetricError(f"{what} must be one-dimensional, not of shape {vector.shape}")
    if vector.size == 0:
        raise MetricError(f"{what} are empty")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise MetricError(f"{what} hold {vector[bad[0]]} at position {bad[0]}")
    return vector


def as_pair(prediction: ArrayLike, target: ArrayLike) -> tuple[Vector, Vector]:
    """Both as float64 vectors, checked as the module says. Raises MetricError."""
    x, y = as_vector(prediction, "predictions"), as_vector(target, "opinion scores")
    if x.size != y.size:
        raise MetricError(f"{x.size} predictions for {y.size} opinion scores")
    return x, y


def _unit(values: Vector) -> Vector | None:
    """Values with mean 0 and norm 1; None for a constant. Scaled first, so that no finite input overflows."""
    if values.size < 2 or np.all(values == values[0]):
        return None
    scaled = values / np.max(np.abs(values))
    centred = scaled - scaled.mean()
    centred /= np.max(np.abs(centred))
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


def average_ranks(values: ArrayLike) -> Vector:
    """Ranks from 1; tied values get the mean of their ranks, as in ``scipy.stats.rankdata``. Raises MetricError."""
    vector = as_vector(values, "values")
    _, place, count = np.unique(vector, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place], dtype=np.float64)


def plcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Pearson's linear correlation of the raw values, -1 to 1; nan where there is none. Raises MetricError."""
    x, y = as_pair(prediction, target)
    unit_x, unit_y = _unit(x), _unit(y)
    if unit_x is None or unit_y is None:
        return math.nan
    return float(np.clip(unit_x @ unit_y, -1.0, 1.0))


def srcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Spearman's rank correlation, -1 to 1: Pearson's correlation of the average ranks. Raises MetricError."""
    x, y = as_pair(prediction, target)
    return plcc(average_ranks(x), average_ranks(y))


def _inversions(values: NDArray[np.int64]) -> int:
    """The number of pairs i < j with values[i] > values[j], counted by a merge sort in numpy: O(n log^2 n)."""
    size = 1 << max(values.size - 1, 1).bit_length()
    ceiling = int(values.max()) + 1
    padded = np.full(size, ceiling, dtype=np.int64)
    padded[: values.size] = values
    total, width = 0, 1
    while width < size:
        halves = padded.reshape(-1, 2, width)
        before = np.repeat(np.arange(halves.shape[0]) * width, width)
        # An offset for each pair of halves makes all left halves one sorted array, so one search serves them all.
        offset = np.arange(halves.shape[0], dtype=np.int64)[:, None] * (ceiling + 1)
        left, right = (halves[:, 0] + offset).ravel(), (halves[:, 1] + offset).ravel()
        not_above = np.searchsorted(left, right, side="right") - before
        total += int((width - not_above).sum())
        padded = np.sort(padded.reshape(-1, 2 * width), axis=1).ravel()
        width *= 2
    return total


def krcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Kendall's tau-b, -1 to 1, corrected for ties on either side. O(n log^2 n). Raises MetricError."""
    x, y = as_pair(prediction, target)
    rank_x = np.unique(x, return_inverse=True)[1].astype(np.int64)
    rank_y = np.unique(y, return_inverse=True)[1].astype(np.int64)

    def tied(ranks: NDArray[np.int64]) -> int:
        count = np.unique(ranks, return_counts=True)[1]
        return int((count * (count - 1) // 2).sum())

    pairs = x.size * (x.size - 1) // 2
    tied_x, tied_y = tied(rank_x), tied(rank_y)
    if pairs in (tied_x, tied_y):
        return math.nan
    tied_both = tied(rank_x * (int(rank_y.max()) + 1) + rank_y)
    discordant = _inversions(rank_y[np.lexsort((rank_y, rank_x))])
    agreement = pairs - tied_x - tied_y + tied_both - 2 * discordant
    tau = agreement / math.sqrt(pairs - tied_x) / math.sqrt(pairs - tied_y)
    return min(1.0, max(-1.0, tau))


def rmse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Root mean square error in the unit of the scores; map raw outputs with :func:`fit_logistic` first.

    Raises MetricError.
    """
    x, y = as_pair(prediction, target)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def pairwise_accuracy(prediction: ArrayLike, target: ArrayLike, margin: float = 0.0) -> float:
    """Share, 0 to 1, of pairs of pictures in the right order, among pairs whose scores differ by more than ``margin``.

    A pair with equal predictions counts one half. nan where no pair differs by that much. O(n^2). Raises MetricError.
    """
    x, y = as_pair(prediction, target)
    right, pairs = 0.0, 0
    for i in range(1, x.size):
        gap = y[i] - y[:i]
        apart = np.abs(gap) > margin
        order = np.sign(x[i] - x[:i][apart]) * np.sign(gap[apart])
        right += float((order + 1).sum()) / 2
        pairs += int(apart.sum())
    return right / pairs if pairs else math.nan


@dataclass(frozen=True)
class LogisticFit:
    """A fitted map from predictions to the unit of the scores; call it with predictions, N -> N.

    ``form`` says which function of x the parameters b1, b2, ... in ``beta`` belong to:

    - ``logistic4``: b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|));
    - ``logistic5``: b1 (1/2 - 1 / (1 + exp(b2 (x - b3)))) + b4 x + b5;
    - ``line``: b1 x + b2, used when the logistic function does not fit.
    """

    form: Literal["logistic4", "logistic5", "line"]
    beta: tuple[float, ...]

    def __call__(self, prediction: ArrayLike) -> Vector:
        x = np.asarray(prediction, dtype=np.float64)
        return _curve(self.form, x, np.asarray(self.beta))


def logistic(z: ArrayLike) -> Vector:
    """The logistic function 1 / (1 + exp(-z)), elementwise; written with tanh, which does not overflow."""
    z = np.asarray(z, dtype=np.float64)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)), dtype=np.float64)


def _curve(form: str, x: Vector, b: Vector) -> Vector:
    if form == "logistic4":
        value = b[1] + (b[0] - b[1]) * logistic((x - b[2]) / max(abs(b[3]), 1e-12))
    elif form == "logistic5":
        value = b[0] * (logistic(b[1] * (x - b[2])) - 0.5) + b[3] * x + b[4]
    else:
        value = b[0] * x + b[1]
    return np.asarray(value, dtype=np.float64)


def fit_logistic(prediction: ArrayLike, target: ArrayLike, parameters: Literal[4, 5] = 4) -> LogisticFit:
    """Least-squares logistic map from predictions to scores, the customary step before PLCC and RMSE.

    The 4-parameter form and its start values are those of published evaluation code (docs/method.md 4). Those start
    values assume outputs near 0 to 1, so starts scaled to the standard deviation of the predictions are tried too, and
    the best fit is kept. A fit that fails, or that correlates less with the scores than the raw predictions do, is
    replaced by the least-squares line, so PLCC after the fit is never below raw PLCC (within 1e-6). Predictions or
    scores with a standard deviation below 1e-150 count as constant. Where predictions fall as scores rise the map is
    decreasing: read SRCC for the direction.

    Raises MissingExtra without scipy, MetricError for inputs that no metric takes.
    """
    x, y = as_pair(prediction, target)
    if parameters not in (4, 5):
        raise MetricError(f"a logistic fit has 4 or 5 parameters, not {parameters}")
    line = _line(x, y)
    if x.size <= parameters or min(x.std(), y.std()) < _LEAST_DEVIATION or _unit(x) is None or _unit(y) is None:
        return line
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtra("train", "scipy") from None

    form: Literal["logistic4", "logistic5"] = "logistic4" if parameters == 4 else "logistic5"
    # Standardised values keep the optimiser's numbers near 1, whatever the units are.
    mean_x, std_x, mean_y, std_y = x.mean(), x.std(), y.mean(), y.std()
    z, t = (x - mean_x) / std_x, (y - mean_y) / std_y
    high, low = float(t.max()), float(t.min())
    slope = line.beta[0] * std_x / std_y
    starts: list[tuple[float, ...]]
    if parameters == 4:
        starts = [(high, low, 0.0, 0.5 / std_x), (high, low, 0.0, 1.0)]
        starts.append((high, low, 0.0, 0.25) if slope >= 0 else (low, high, 0.0, 0.25))
    else:
        starts = [(high - low, 1.0, 0.0, 0.0, 0.0), (0.1, 1.0, 0.0, slope, 0.0)]
    best: LogisticFit | None = None
    best_cost = math.inf
    for start in starts:
        try:
            with np.errstate(all="ignore"):
                found = least_squares(lambda b: _curve(form, z, b) - t, start, method="lm", max_nfev=1000)
        except (ValueError, np.linalg.LinAlgError):
            continue
        if np.all(np.isfinite(found.x)) and found.cost < best_cost:
            b, best_cost = found.x, float(found.cost)
            centre = mean_x + std_x * b[2]
            if parameters == 4:
                beta = [mean_y + std_y * b[0], mean_y + std_y * b[1], centre, std_x * abs(b[3])]
            else:
                gain = std_y * b[3] / std_x
                beta = [std_y * b[0], b[1] / std_x, centre, gain, mean_y + std_y * b[4] - gain * mean_x]
            best = LogisticFit(form, tuple(float(value) for value in beta))
    if best is None:
        return line
    mapped = best(x)
    if not np.all(np.isfinite(mapped)) or not plcc(mapped, y) >= plcc(x, y):
        return line
    return best


def _line(x: Vector, y: Vector) -> LogisticFit:
    if x.std() < _LEAST_DEVIATION:
        return LogisticFit("line", (0.0, float(y.mean())))
    slope = float(((x - x.mean()) / x.std()) @ (y - y.mean())) / x.size / float(x.std())
    return LogisticFit("line", (slope, float(y.mean()) - slope * float(x.mean())))
