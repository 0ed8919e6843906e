"""Calibrate raw predictions to the public 0-100 scale with a 90 % interval, on held-out predictions.

score  = 100 / (1 + exp(-(scale * raw + shift)))      strictly monotone: no rank changes, nothing is clipped
low/high = score -/+ radius, inside 0 to 100          split conformal (Lei et al., JASA 2018)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moslens.errors import DatasetError
from moslens.metrics import logistic
from moslens.scoring.card import Calibration
from moslens.train.run_folder import Run, StoredPrediction

Vector = NDArray[np.float64]
COVERAGE = 0.9


@dataclass(frozen=True)
class HeldOut:
    """Predictions for pictures that the model was not trained on, one per picture; ``mos`` on 0 to 100."""

    names: tuple[str, ...]
    raw: Vector
    mos: Vector


def read_held_out(runs: Sequence[Run], exclude: frozenset[str] = frozenset()) -> HeldOut:
    """The test predictions of runs, without the names in ``exclude``; of a picture in several runs, the first.

    DatasetError, naming the file, where one is missing or malformed, or where nothing is left.
    """
    rows: dict[str, StoredPrediction] = {}
    for run in runs:
        if not run.predictions_file.is_file():
            raise DatasetError("no held-out predictions", run.predictions_file)
        for row in run.predictions():
            if math.isnan(row.mos):
                raise DatasetError("malformed predictions: there is no column mos", run.predictions_file)
            if row.image not in exclude:
                rows.setdefault(row.image, row)
    if not rows:
        raise DatasetError("no held-out predictions", runs[0].predictions_file if runs else None)
    raw, mos = (np.array([getattr(row, name) for row in rows.values()]) for name in ("prediction", "mos"))
    return HeldOut(tuple(rows), raw, mos)


def fit_calibration(held: HeldOut) -> Calibration:
    """Least-squares logistic from raw predictions to MOS (0-100), and the conformal radius of its absolute residuals.

    The radius is the ceil((n + 1) * 0.9)-th smallest residual. It covers a new picture that is exchangeable with these
    with probability 0.9 or more. DatasetError for too few pictures or a curve that does not rise.
    """
    from scipy.optimize import least_squares

    target = np.clip(held.mos, 1, 99)
    slope, intercept = np.polyfit(held.raw, np.log(target / (100 - target)), 1)
    centre, spread = held.raw.mean(), held.raw.std() or 1.0

    def residuals(p: Vector) -> Vector:
        return 100 * logistic(p[0] / spread * held.raw + (p[1] - p[0] * centre / spread)) - held.mos

    start = [slope * spread, intercept + slope * centre]
    a, b = least_squares(residuals, start).x
    scale, shift = float(a / spread), float(b - a * centre / spread)
    if scale <= 0:
        raise DatasetError("held-out predictions do not rise with the opinion scores: nothing to calibrate")
    errors = np.sort(np.abs(100 * logistic(scale * held.raw + shift) - held.mos))
    rank = math.ceil((len(errors) + 1) * COVERAGE)
    if rank > len(errors):
        raise DatasetError(f"{len(errors)} held-out predictions are too few for {COVERAGE:.0%} coverage")
    return Calibration(scale, shift, float(errors[rank - 1]))


def coverage(calibration: Calibration, held: HeldOut) -> float:
    """Share of pictures whose opinion score lies inside the interval."""
    score = 100 * logistic(calibration.scale * held.raw + calibration.shift)
    inside = np.abs(score - held.mos) <= calibration.radius
    return float(inside.mean())
