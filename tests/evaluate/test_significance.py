"""Bootstrap intervals and paired tests against closed forms and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from moslens.evaluate.significance import (
    bootstrap_interval,
    corrected_t_test,
    paired_bootstrap,
    paired_interval,
    sign_test,
)
from moslens.metrics import MetricError, plcc, srcc


def test_bootstrap_interval_covers_and_repeats():
    rng = np.random.default_rng(4)
    x = rng.normal(size=300)
    y = x + rng.normal(size=300)
    one = bootstrap_interval(plcc, x, y, np.random.default_rng(0), draws=500)
    assert one == bootstrap_interval(plcc, x, y, np.random.default_rng(0), draws=500)
    assert one.low < plcc(x, y) < one.high
    # Fisher's interval for r is the independent yardstick.
    centre, half = np.arctanh(plcc(x, y)), 1.96 / math.sqrt(297)
    assert one.low == pytest.approx(np.tanh(centre - half), abs=0.03)
    assert one.high == pytest.approx(np.tanh(centre + half), abs=0.03)


def test_bootstrap_over_groups_is_wider_when_groups_are_copies():
    rng = np.random.default_rng(5)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    many_x, many_y, groups = np.repeat(x, 20), np.repeat(y, 20), np.repeat(np.arange(40), 20)
    free = bootstrap_interval(plcc, many_x, many_y, np.random.default_rng(0), draws=300)
    kept = bootstrap_interval(plcc, many_x, many_y, np.random.default_rng(0), draws=300, groups=list(groups))
    assert kept.high - kept.low > 2 * (free.high - free.low)
    with pytest.raises(MetricError, match="2 groups"):
        bootstrap_interval(plcc, x, y, rng, groups=[1, 2])


def test_few_groups_widen_the_interval_as_students_t_does():
    rng = np.random.default_rng(7)
    values = rng.normal(size=6)

    def mean(x, y):
        return float(x.mean())

    found = bootstrap_interval(mean, values, values, np.random.default_rng(0), draws=20_000)
    half = stats.t.ppf(0.975, 5) * values.std(ddof=1) / math.sqrt(6)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)  # a plain percentile interval: 0.66 of it
    one = bootstrap_interval(mean, values, values, np.random.default_rng(0), draws=50, groups=["same"] * 6)
    assert math.isnan(one.low)


def test_corrected_t_test_against_its_formula_and_scipy():
    rng = np.random.default_rng(8)
    a, b = rng.normal(0.02, 0.02, 10), rng.normal(0, 0.02, 10)
    assert corrected_t_test(a, b, 0.0).p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    gaps = a - b
    t = gaps.mean() / math.sqrt((1 / 10 + 0.25) * gaps.var(ddof=1))
    found = corrected_t_test(a, b, 0.25)
    assert found.difference == pytest.approx(gaps.mean())
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 9), rel=1e-9)
    assert corrected_t_test(a, a, 0.25).p == 1
    assert corrected_t_test([2.0, 3.0], [1.0, 2.0], 0.25).p == 0
    assert math.isnan(corrected_t_test([1.0], [2.0], 0.25).p)
    assert math.isnan(corrected_t_test(a, b, math.inf).p)


def test_bootstrap_of_an_undefined_metric_is_nan():
    interval = bootstrap_interval(srcc, [1.0, 1.0], [1.0, 2.0], np.random.default_rng(0), draws=10)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=30))
def test_sign_test_against_scipy(signs):
    result = sign_test(signs, [0.0] * len(signs))
    assert (result.wins, result.losses, result.ties) == (
        signs.count(1.0),
        signs.count(-1.0),
        signs.count(0.0),
    )
    n = result.wins + result.losses
    assert result.p == pytest.approx(stats.binomtest(result.wins, n).pvalue if n else 1.0)


def test_paired_bootstrap_sees_a_real_difference_and_no_false_one():
    rng = np.random.default_rng(6)
    target = [rng.normal(size=200) for _ in range(3)]
    good = [y + 0.3 * rng.normal(size=200) for y in target]
    bad = [y + 1.5 * rng.normal(size=200) for y in target]
    real = paired_bootstrap(srcc, good, bad, target, np.random.default_rng(0), draws=200)
    assert real.low > 0
    assert real.p == pytest.approx(2 / 201)
    assert real.low < real.difference < real.high
    none = paired_bootstrap(srcc, good, good, target, np.random.default_rng(0), draws=50)
    assert (none.difference, none.low, none.high, none.p) == (0, 0, 0, 1)
    with pytest.raises(MetricError, match="splits"):
        paired_bootstrap(srcc, good, bad[:2], target, rng)
    with pytest.raises(MetricError, match=r"groups of \[200\] pictures for splits of \[200, 200, 200\]"):
        paired_bootstrap(srcc, good, bad, target, rng, groups=[range(200)])


def test_paired_bootstrap_keeps_its_size_on_overlapping_splits():
    """Two equally good models on ten test parts of one data set: at 5 % few are called different."""
    wrong = {"joint": 0, "apart": 0}
    for repeat in range(60):
        rng = np.random.default_rng((3, repeat))
        target = rng.normal(size=120)
        models = [target + 0.6 * rng.normal(size=120) for _ in range(2)]
        tests = [rng.permutation(120)[:60] for _ in range(6)]
        one, two, mos = ([values[test] for test in tests] for values in (*models, target))
        for name, groups in (("joint", [test.tolist() for test in tests]), ("apart", None)):
            wrong[name] += paired_bootstrap(plcc, one, two, mos, rng, groups=groups, draws=60).p < 0.05
    assert wrong["joint"] <= 8  # 3 expected, 9 or more have a probability of 0.004
    assert wrong["apart"] > wrong["joint"]


def test_the_interval_of_a_mean_difference_is_that_of_scipy():
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(2, 10))
    low, high = stats.ttest_rel(first, second).confidence_interval(0.9)
    found = paired_interval(first, second, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.error == pytest.approx(stats.sem(first - second), rel=1e-12)
    assert found.difference == pytest.approx((first - second).mean(), abs=1e-15)


@pytest.mark.parametrize("shift", np.linspace(-1, 1, 9))
def test_the_corrected_interval_agrees_with_the_corrected_test(shift):
    first, second = np.random.default_rng(8).normal(size=(2, 10))
    found = paired_interval(first + shift, second, ratio=0.25)
    assert (found.low <= 0 <= found.high) == (corrected_t_test(first + shift, second, 0.25).p >= 0.05)
    plain = paired_interval(first + shift, second)
    assert found.high - found.low == pytest.approx((plain.high - plain.low) * math.sqrt(1 + 10 * 0.25))


def test_one_split_has_a_difference_and_no_interval():
    found = paired_interval([0.9], [0.8])
    assert found.difference == pytest.approx(0.1)
    assert math.isnan(found.error)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
