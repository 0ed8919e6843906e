"""Calibrate raw predictions to the public 0-100 scale with a 90 % interval, on held-out predictions.

Labels and predictions of a run are first put in points, by the straight line from the scale of the published labels to
0-100 (:func:`points_of`); labels on 0-100 stay what they are.

score  = 100 / (1 + exp(-(scale * raw + shift)))      strictly monotone: no rank changes, nothing is clipped
low/high = score -/+ radius, inside 0 to 100          split conformal (Lei et al., JASA 2018)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moslens.data.records import POINTS, LabelScale, PointScale
from moslens.errors import ConfigError, DatasetError
from moslens.metrics import logistic
from moslens.model.shdiqa import PictureScorer
from moslens.scoring.card import Calibration
from moslens.train.run_folder import Run

Vector = NDArray[np.float64]
COVERAGE = 0.9


@dataclass(frozen=True)
class HeldOut:
    """Predictions for pictures that the model was not trained on, one per picture; ``raw`` and ``mos`` in points."""

    names: tuple[str, ...]
    raw: Vector
    mos: Vector


def label_scale(run: Run, stated: LabelScale | None = None) -> LabelScale:
    """What the published labels of a run mean, which ``stated`` says where the run does not.

    ConfigError where neither says it, and where they differ.
    """
    own = run.label_scale if run.config_file.is_file() else None
    known = own or stated
    if known is None:
        raise ConfigError(
            "was trained on a CSV by version 0.1, which did not ask what its labels mean: state the ends of their scale"
            " and which are better, for instance --mos-range 1:5 --direction higher"
            ' (in Python: mos_range=(1, 5), direction="higher")',
            run.folder,
        )
    if stated not in (None, known):
        raise ConfigError(f"has labels of {known}, not of {stated}", run.folder)
    return known


def points_of(run: Run, stated: LabelScale | None = None) -> PointScale:
    """From the labels and predictions of a run, as it stores them, to points. ConfigError as :func:`label_scale`.

    A run stores ``Sample.mos``. Version 0.1 did not change the sign of a CSV's labels, so where it is a run of 0.1 that
    does not say what they mean, they are as published.
    """
    scale = label_scale(run, stated)
    stores_mos = run.config_file.is_file() and run.label_scale is not None
    return scale.mos if stores_mos else scale.published


def in_points(scorer: PictureScorer, points: PointScale) -> PictureScorer:
    """The scorer of a run with its scores in points."""
    return PictureScorer(scorer.model, points.points(scorer.mean), scorer.std * points.factor, scorer.view).eval()


def read_held_out(
    runs: Sequence[Run], exclude: frozenset[str] = frozenset(), stated: LabelScale | None = POINTS
) -> HeldOut:
    """The test predictions of runs, without the names in ``exclude``; of a picture in several runs, the first.

    ``stated`` is the scale of their labels, as in :func:`label_scale`.
    DatasetError, naming the file, where one is missing or malformed, or where nothing is left. ConfigError for a run
    with labels of another scale.
    """
    rows: dict[str, tuple[float, float]] = {}
    for run in runs:
        if not run.predictions_file.is_file():
            raise DatasetError("no held-out predictions", run.predictions_file)
        points = points_of(run, stated)
        for row in run.predictions():
            if math.isnan(row.mos):
                raise DatasetError("malformed predictions: there is no column mos", run.predictions_file)
            if row.image not in exclude:
                rows.setdefault(row.image, (points.points(row.prediction), points.points(row.mos)))
    if not rows:
        raise DatasetError("no held-out predictions", runs[0].predictions_file if runs else None)
    raw, mos = (np.array(column) for column in zip(*rows.values(), strict=True))
    return HeldOut(tuple(rows), raw, mos)


def fit_calibration(held: HeldOut) -> Calibration:
    """Least-squares logistic from raw predictions to labels, both in points, and the conformal radius of its residuals.

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
        least = math.ceil(COVERAGE / (1 - COVERAGE) - 1e-9)
        raise DatasetError(
            f"{len(errors)} held-out predictions to calibrate on are too few: {COVERAGE:.0%} coverage needs {least}"
            " (of several runs the first half is used, the others measure the interval)"
        )
    return Calibration(scale, shift, float(errors[rank - 1]))


def coverage(calibration: Calibration, held: HeldOut) -> float:
    """Share of pictures whose opinion score lies inside the interval."""
    score = 100 * logistic(calibration.scale * held.raw + calibration.shift)
    inside = np.abs(score - held.mos) <= calibration.radius
    return float(inside.mean())
