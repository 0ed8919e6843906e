"""The plots of a report as SVG data URIs: scatter with fit, residuals, spread over splits. Needs matplotlib."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moslens.errors import MissingExtra
from moslens.evaluate.breakdown import Measured
from moslens.evaluate.record import split_name
from moslens.metrics import LogisticFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINT = "#2f6db3"
_LINE = "#b3402f"
_SOFT = "#8a8f98"
_MANY = 3000


def _figure(width: float, height: float, columns: int = 1) -> tuple["Figure", list["Axes"]]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("train", "matplotlib") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, k + 1) for k in range(columns)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e8eb", linewidth=0.7)
        axis.set_axisbelow(True)
    return figure, axes


def _uri(figure: "Figure") -> str:
    """The figure as a data URI of an SVG; equal figures give equal bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "moslens"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=150)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _points(axis: "Axes", x: Any, y: Any) -> None:
    # As vectors, thousands of points would make the report many megabytes large.
    faint = 0.55 if len(x) <= 500 else 0.25
    axis.scatter(x, y, s=9, color=_POINT, alpha=faint, linewidths=0, rasterized=len(x) > _MANY)


def scatter(measured: Sequence[Measured]) -> str:
    """Predictions against opinion scores, all parts in one plot, with the logistic fit of each."""
    figure, (axis,) = _figure(5.2, 4.4)
    _points(axis, _all(measured, "prediction"), _all(measured, "mos"))
    for k, one in enumerate(measured):
        fit = LogisticFit(one.figures["fit"]["form"], tuple(one.figures["fit"]["beta"]))
        x = np.linspace(one.prediction.min(), one.prediction.max(), 200)
        label = "logistic fit" + (" of each split" if len(measured) > 1 else "")
        axis.plot(x, fit(x), color=_LINE, linewidth=1.1, alpha=0.9, label=None if k else label)
    axis.set_xlabel("prediction")
    axis.set_ylabel("opinion score (MOS)")
    axis.legend(frameon=False, loc="upper left")
    return _uri(figure)


def residuals(measured: Sequence[Measured]) -> str:
    """Mapped prediction minus opinion score: against the mapped prediction, and as a histogram.

    Not against the opinion score: there the residuals of every imperfect model fall, whatever the fit.
    """
    figure, (left, right) = _figure(8.2, 4.0, columns=2)
    mapped = _all(measured, "mapped")
    error = mapped - _all(measured, "mos")
    _points(left, mapped, error)
    left.axhline(0, color=_SOFT, linewidth=1)
    left.set_xlabel("mapped prediction")
    left.set_ylabel("mapped prediction − MOS")
    right.hist(error, bins=40, color=_POINT, alpha=0.8)
    right.axvline(0, color=_SOFT, linewidth=1)
    right.set_xlabel("mapped prediction − MOS")
    right.set_ylabel("pictures")
    return _uri(figure)


def spread(measured: Sequence[Measured]) -> str:
    """SRCC and PLCC of every split with 95 % bootstrap intervals; the line is the median."""
    figure, axes = _figure(8.2, 3.6, columns=2)
    places = np.arange(len(measured))
    for axis, name in zip(axes, ("srcc", "plcc"), strict=True):
        value = np.array([one.figures[name] for one in measured], dtype=np.float64)
        bounds = np.array([one.figures[f"{name}_interval"] for one in measured], dtype=np.float64)
        axis.vlines(places, bounds[:, 0], bounds[:, 1], color=_SOFT, linewidth=1.6)
        axis.scatter(places, value, s=34, color=_POINT, zorder=3)
        axis.set_xticks(places, [split_name(one.figures["seed"]) for one in measured])
        if np.isfinite(value).any():
            axis.axhline(float(np.nanmedian(value)), color=_LINE, linewidth=1.1)
        axis.set_title(name.upper())
        axis.set_xlabel("split")
    return _uri(figure)


def _all(measured: Sequence[Measured], name: str) -> Any:
    return np.concatenate([getattr(one, name) for one in measured])
