"""Bootstrap intervals and paired tests against closed forms and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from moslens.metrics import MetricError, plcc, srcc
from moslens.significance import bootstrap_interval, paired_bootstrap, sign_test


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
