"""The public scale: strictly monotone, inside 0-100, with intervals that cover what they promise."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moslens.errors import DatasetError
from moslens.release.score_scale import HeldOut, coverage, fit_calibration, read_held_out
from moslens.train.run_folder import Run


def held_out(seed: int, count: int, noise: float = 8.0) -> HeldOut:
    rng = np.random.default_rng(seed)
    mos = rng.uniform(5, 92, count)
    return HeldOut(tuple(f"{seed}-{i}" for i in range(count)), 0.8 * mos + 9 + rng.normal(0, noise, count), mos)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(30, 300))
def test_scores_are_monotone_and_inside_the_range(seed: int, count: int) -> None:
    calibration = fit_calibration(held_out(seed, count))
    scores = [calibration.score(raw) for raw in np.linspace(-100, 200, 400)]
    assert all(0 <= s <= 100 for s in scores)
    assert all(a < b for a, b in itertools.pairwise(scores))
    low, high = calibration.interval(scores[200])
    assert 0 <= low <= scores[200] <= high <= 100


def test_intervals_cover_ninety_per_cent_of_new_pictures() -> None:
    shares = [coverage(fit_calibration(held_out(s, 400)), held_out(s + 1000, 2000)) for s in range(20)]
    assert 0.89 <= float(np.mean(shares)) <= 0.925
    assert min(shares) > 0.84


def test_the_radius_is_the_conformal_quantile() -> None:
    held = held_out(1, 99)
    calibration = fit_calibration(held)
    errors = sorted(abs(calibration.score(r) - m) for r, m in zip(held.raw, held.mos, strict=True))
    assert calibration.radius == pytest.approx(errors[90 - 1])  # ceil(100 * 0.9)


def test_a_biased_and_stretched_prediction_is_put_right() -> None:
    mos = np.linspace(5, 95, 200)
    raw = -4 + 0.01 * np.log(mos / (100 - mos))
    calibration = fit_calibration(HeldOut(tuple(map(str, range(200))), raw, mos))
    assert [calibration.score(r) for r in raw] == pytest.approx(mos.tolist(), abs=0.01)


def test_predictions_that_do_not_rise_cannot_be_calibrated() -> None:
    held = held_out(2, 100)
    with pytest.raises(DatasetError, match="do not rise"):
        fit_calibration(HeldOut(held.names, -held.raw, held.mos))
    with pytest.raises(DatasetError, match="too few"):
        fit_calibration(held_out(3, 8, noise=1.0))


def test_held_out_rows_are_test_rows_once_each(tmp_path: Path) -> None:
    first, second = Run(tmp_path / "a"), Run(tmp_path / "b")
    for run in (first, second):
        run.folder.mkdir()
    first.predictions_file.write_text("image,mos,prediction,part\nx,50,51,test\ny,60,61,validation\nz,70,71,test\n")
    second.predictions_file.write_text("image,mos,prediction,part\nx,50,99,test\nw,10,12,test\n")
    held = read_held_out([first, second])
    assert held.names == ("x", "z", "w")
    assert held.raw.tolist() == [51, 71, 12]
    assert held.mos.tolist() == [50, 70, 10]
    assert read_held_out([first, second], exclude=frozenset({"x", "z"})).names == ("w",)
    with pytest.raises(DatasetError, match=r"no/predictions\.csv"):
        read_held_out([Run(tmp_path / "no")])
    second.predictions_file.write_text("image,mos,prediction,part\nx,50,much,test\n")
    with pytest.raises(DatasetError, match=r"b/predictions\.csv.*\n.*row 2, column prediction: 'much' is not a number"):
        read_held_out([second])
    with pytest.raises(DatasetError, match="no held-out"):
        read_held_out([first], exclude=frozenset({"x", "z"}))
