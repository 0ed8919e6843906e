"""The metrics against scipy and against their definitions."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from moslens import metrics
from moslens.metrics import MetricError, fit_logistic, krcc, pairwise_accuracy, plcc, rmse, srcc

CORRELATIONS = [srcc, krcc, plcc]


def pairs(elements):
    return st.integers(3, 60).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.float64, n, elements=elements), arrays.arrays(np.float64, n, elements=elements)
        )
    )


WIDE = pairs(st.floats(-1e6, 1e6, allow_subnormal=False))
TIED = pairs(st.integers(0, 4).map(float))


def constant(x):
    return np.all(x == x[0])


@settings(deadline=None)
@given(WIDE | TIED)
def test_parity_with_scipy(pair):
    x, y = pair
    if constant(x) or constant(y):
        assert all(math.isnan(metric(x, y)) for metric in CORRELATIONS)
        return
    assert srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert krcc(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    np.testing.assert_array_equal(metrics.average_ranks(x), stats.rankdata(x))


@settings(deadline=None)
@given(st.integers(3, 400), st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.01, 100))
def test_pearson_parity_with_scipy(n, seed, shift, scale):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) * scale + shift
    y = 0.5 * x + rng.normal(size=n)
    assert plcc(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 7, 8, 9, 64, 1000, 4097])
@pytest.mark.parametrize("levels", [3, 50, 10**9])
def test_kendall_at_sizes_around_powers_of_two(n, levels):
    rng = np.random.default_rng(n)
    x, y = rng.integers(0, levels, n).astype(float), rng.integers(0, levels, n).astype(float)
    x[:2], y[:2] = (0, 1), (1, 0)
    assert krcc(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


@settings(deadline=None)
@given(TIED | WIDE)
def test_correlations_are_symmetric_and_bounded(pair):
    x, y = pair
    for metric in CORRELATIONS:
        value = metric(x, y)
        assert math.isnan(value) or (-1 <= value <= 1 and value == pytest.approx(metric(y, x), abs=1e-12))


@settings(deadline=None)
@given(WIDE)
def test_rank_correlations_ignore_increasing_maps(pair):
    x, y = pair
    for metric in (srcc, krcc):
        np.testing.assert_equal(metric(np.cbrt(average := metrics.average_ranks(x)), y), metric(average, y))


def test_known_values():
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    assert srcc(x, y) == pytest.approx(0.8)
    assert krcc(x, y) == pytest.approx(4 / 6)
    assert plcc(x, y) == pytest.approx(0.8)
    assert rmse(x, y) == pytest.approx(math.sqrt(0.5))
    assert pairwise_accuracy(x, y) == pytest.approx(5 / 6)


@pytest.mark.parametrize("metric", CORRELATIONS)
def test_degenerate_inputs_give_nan(metric):
    assert math.isnan(metric([1.0], [2.0]))
    assert math.isnan(metric([5.0, 5.0, 5.0], [1.0, 2.0, 3.0]))
    assert math.isnan(metric([1.0, 2.0, 3.0], [7.0, 7.0, 7.0]))
    assert metric([1.0, 2.0], [3.0, 9.0]) == pytest.approx(1.0, abs=1e-12)
    assert metric([1.0, 2.0], [9.0, 3.0]) == pytest.approx(-1.0, abs=1e-12)


@pytest.mark.parametrize("metric", [*CORRELATIONS, rmse, pairwise_accuracy, fit_logistic])
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([1.0, math.nan, 2.0], [1.0, 2.0, 3.0], "predictions hold nan at position 1"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, math.inf], "opinion scores hold inf at position 2"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 predictions for 3 opinion scores"),
        ([], [], "predictions are empty"),
        ([[1.0, 2.0]], [1.0, 2.0], "shape"),
        (["a", "b"], [1.0, 2.0], "not numbers"),
    ],
)
def test_bad_inputs_are_named(metric, x, y, words):
    with pytest.raises(MetricError, match=words):
        metric(x, y)


def test_extreme_magnitudes_do_not_overflow():
    assert plcc([1e308, -1e308, 5e307], [1e-300, -1e-300, 5e-301]) == pytest.approx(1.0, abs=1e-12)
    assert plcc([0.0, 5e-324], [0.0, 1.0]) == pytest.approx(1.0, abs=1e-12)


@settings(deadline=None)
@given(TIED, st.sampled_from([0.0, 1.0, 2.5]))
def test_pairwise_accuracy_by_definition(pair, margin):
    x, y = pair
    wins = [
        0.5 if x[i] == x[j] else float((x[i] > x[j]) == (y[i] > y[j]))
        for i in range(len(x))
        for j in range(i)
        if abs(y[i] - y[j]) > margin
    ]
    if wins:
        assert pairwise_accuracy(x, y, margin) == pytest.approx(np.mean(wins))
    else:
        assert math.isnan(pairwise_accuracy(x, y, margin))


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (100.0, 0.0), (0.001, 5.0), (1e4, -3e4)])
def test_logistic4_recovers_a_planted_curve(scale, shift):
    x = np.random.default_rng(1).uniform(-3, 3, 300)
    y = 20 + 60 / (1 + np.exp(-(x - 0.4) / 0.7))
    fit = fit_logistic(x * scale + shift, y)
    assert fit.form == "logistic4"
    np.testing.assert_allclose(fit.beta, (80, 20, 0.4 * scale + shift, 0.7 * scale), rtol=1e-4)
    np.testing.assert_allclose(fit(x * scale + shift), y, atol=1e-4)


def test_logistic5_recovers_a_planted_curve():
    x = np.random.default_rng(2).uniform(0, 100, 300)
    y = 40 * (0.5 - 1 / (1 + np.exp(0.12 * (x - 45)))) + 0.2 * x + 10
    fit = fit_logistic(x, y, parameters=5)
    assert fit.form == "logistic5"
    np.testing.assert_allclose(fit(x), y, atol=1e-3)


def test_logistic4_matches_scipy_curve_fit_from_the_published_start():
    from scipy.optimize import curve_fit

    def published(v, b1, b2, b3, b4):
        return b2 + (b1 - b2) / (1 + np.exp(-(v - b3) / np.abs(b4)))

    rng = np.random.default_rng(3)
    x = rng.uniform(0, 1, 400)
    y = published(x, 90, 10, 0.5, 0.15) + rng.normal(0, 8, 400)
    theirs, _ = curve_fit(published, x, y, p0=(y.max(), y.min(), x.mean(), 0.5), maxfev=10_000)
    assert plcc(fit_logistic(x, y)(x), y) == pytest.approx(plcc(published(x, *theirs), y), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(TIED | WIDE, st.sampled_from([4, 5]))
def test_logistic_never_lowers_pearson(pair, parameters):
    x, y = pair
    mapped = fit_logistic(x, y, parameters)(x)
    assert np.all(np.isfinite(mapped))
    raw = plcc(x, y)
    if x.std() < 1e-150:
        assert np.all(mapped == y.mean())
    elif y.std() < 1e-150:
        np.testing.assert_allclose(mapped, y.mean(), atol=1e-140)
    elif constant(mapped):
        assert math.isnan(raw) or abs(raw) < 1e-6  # nothing to follow: the best line is flat
    else:
        assert plcc(mapped, y) >= raw - 1e-6


@given(st.floats(-1e308, 1e308))
def test_the_logistic_function_is_that_of_scipy(z):
    assert metrics.logistic(z) == pytest.approx(special.expit(z), abs=1e-15)


@pytest.mark.parametrize("y", [[0.0, 0.0, 0.0], [1.0, 2.0, 4.0, 3.0, 5.0, 6.0]])
def test_predictions_too_close_for_a_slope_count_as_constant(y):
    fit = fit_logistic([2.3e-308, *[0.0] * (len(y) - 1)], y)
    assert fit.form == "line"
    assert fit([1.0])[0] == np.mean(y)


def test_too_few_points_fall_back_to_a_line():
    fit = fit_logistic([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert fit.form == "line"
    np.testing.assert_allclose(fit([10.0]), [20.0])
    assert fit_logistic([2.0, 2.0], [1.0, 3.0])([2.0])[0] == 2.0


def test_fit_rejects_other_orders():
    with pytest.raises(MetricError, match="4 or 5"):
        fit_logistic([1.0, 2.0], [1.0, 2.0], parameters=3)


def test_correlations_need_neither_scipy_nor_torch():
    code = (
        "import sys; from moslens.metrics import srcc, plcc, krcc, rmse;"
        "assert [round(f([1, 2, 3], [1, 2, 3]), 9) for f in (srcc, plcc, krcc, rmse)] == [1, 1, 1, 0];"
        "assert not {'scipy', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
