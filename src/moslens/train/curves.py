"""``curves.png`` of a run: its losses, learning rate and gradient norm by step."""

from __future__ import annotations

import json
import math
from typing import Any

from moslens.system.files import whole_file
from moslens.train.run_folder import Run

_OTHER = ("step", "of", "epoch", "gradient", "rate", "seconds_a_step")
_MOST_POINTS = 2000


def read_log(run: Run) -> list[dict[str, Any]]:
    """The rows of ``log.jsonl``; none where there is no log."""
    if not run.log_file.is_file():
        return []
    return [json.loads(line) for line in run.log_file.read_text("utf-8").splitlines()]


def draw_curves(run: Run) -> None:
    """Write ``curves.png``, 1200 x 360 pixels; nothing where the log is empty."""
    rows = read_log(run)
    if not rows:
        return
    from matplotlib.figure import Figure

    rows = rows[:: -(-len(rows) // _MOST_POINTS)]
    steps = [row["step"] for row in rows]
    losses = [name for name in rows[-1] if name not in _OTHER]
    figure = Figure(figsize=(12, 3.6), dpi=100, layout="constrained")
    for place, (title, names) in enumerate(
        (("loss", losses), ("learning rate", ["rate"]), ("gradient norm", ["gradient"]))
    ):
        axis = figure.add_subplot(1, 3, place + 1)
        for name in names:
            axis.plot(steps, [row.get(name, math.nan) for row in rows], linewidth=1, label=name)
        axis.set(xlabel="step", ylabel="share of the highest rate" if names == ["rate"] else title, title=title)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e8eb", linewidth=0.7)
        if len(names) > 1:
            axis.legend(frameon=False, fontsize="small")
    with whole_file(run.curves_file) as scratch:
        figure.savefig(scratch, format="png")
