"""An evaluation as one HTML file that needs no other file: figures, tables, plots, the pictures it gets most wrong.

The layout is the Jinja2 template ``report.html``; this module gives it the values. Needs Jinja2 and matplotlib.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from moslens.errors import ImageError, MissingExtra
from moslens.evaluate import plots, record
from moslens.evaluate.measure import Evaluation, cross_row, to_result
from moslens.picture import load
from moslens.system import files

_THUMBNAIL = 200


def write_report(path: Path, evaluation: Evaluation, result: Mapping[str, Any], others: Sequence[Evaluation]) -> None:
    """Write the report of ``evaluation``; ``result`` is its result file, ``others`` further data sets.

    Raises OutputError, and MissingExtra without Jinja2 or matplotlib.
    """
    files.write_text(path, render(evaluation, result, others))


def render(evaluation: Evaluation, result: Mapping[str, Any] | None = None, others: Sequence[Evaluation] = ()) -> str:
    """The report as HTML text. Every text that comes from a file is escaped. Raises MissingExtra."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingExtra("train", "jinja2") from None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": _number, "split_name": record.split_name, "thumbnail": _thumbnail}
    result = to_result(evaluation, evaluation.dataset.name, others=others) if result is None else result
    return environment.get_template("report.html").render(
        evaluation=evaluation,
        result=result,
        shown=(evaluation.whole,) if evaluation.whole else evaluation.splits,
        plots=plots,
        cross=[cross_row(one) for one in (evaluation, *others)] if others else [],
        facts=_facts(evaluation, result),
    )


def _number(value: float | None, digits: int = 3) -> str:
    """Fixed digits and a typographic minus; integers as they are, a dash for what does not exist."""
    if value is None or not math.isfinite(value):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}".replace("-", "−")


def _thumbnail(path: Path) -> str | None:
    """A small JPEG of the picture as a data URI; None where the picture cannot be read."""
    try:
        pixels = load.load(path, working_size=_THUMBNAIL).pixels
    except ImageError:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _facts(evaluation: Evaluation, result: Mapping[str, Any]) -> dict[str, str | None]:
    """How the figures came about: name to text."""
    card = evaluation.dataset.card
    low, high = card.range
    return {
        "command": result["command"],
        "data set": f"{card.title}: {len(evaluation.dataset.samples)} pictures, {card.content}, "
        f"{card.score} {low:g} to {high:g}{', sign changed' if card.score == 'DMOS' else ''}",
        "licence": card.licence,
        "cite": card.citation,
        "data hash": result["data_hash"],
        "split hashes": ", ".join((split.get("split_hash") or "–")[:12] for split in result["splits"]),
        "predictions": evaluation.made,
        "git": result["git"] or "–",
        "versions": ", ".join(f"{name} {value}" for name, value in result["versions"].items() if value),
        "seconds": _number(result["seconds"], 1),
    }
