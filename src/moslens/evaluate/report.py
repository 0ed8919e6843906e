"""An evaluation as one HTML file that needs nothing beside it: figures, tables, plots, the worst pictures."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from moslens.errors import ImageError
from moslens.evaluate import plots, record
from moslens.evaluate.breakdown import GroupRow, Miss
from moslens.evaluate.measure import Evaluation, cross_row, to_result
from moslens.picture import load
from moslens.system import files

_THUMBNAIL = 200
_SPREAD = (
    "95 % bootstrap intervals over pictures, or over references where pictures share one; the line is the median. "
    "Intervals over a handful of references are too narrow."
)
_SCATTER = "Each dot is a picture; PLCC and RMSE are taken after the fit."
_RESIDUALS = "Dots off zero over a whole range of predictions would mean that the fitted curve has the wrong form."
_RANGES = (
    "Within a narrow range correlations are lower than over all pictures. The lowest scores are predicted too high and "
    "the highest too low by every model that is not perfect: compare a range between models, not ranges of one model."
)
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2125; background: #fff; margin: 0 auto; padding:
1.5rem;
  max-width: 68rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; max-width: 48rem; } .quiet { color: #59606a; }
.warning { border-left: 4px solid #b3402f; background: #fbeeec; padding: .5rem .8rem; }
.headline { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.headline div { border: 1px solid #d9dde2; border-radius: 6px; padding: .5rem 1rem; min-width: 7rem; }
.headline b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #59606a; padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid #e6e8eb; white-space:
nowrap; } th:first-child, td:first-child { text-align: left; } tfoot td, tfoot th { font-weight: 600; }
img { max-width: 100%; height: auto; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem; padding:
0; } .worst figure { margin: 0; } .worst img { width: 100%; aspect-ratio: 1; object-fit: contain; background:
#f2f3f5; } .worst .none { aspect-ratio: 1; background: #f2f3f5; display: grid; place-items: center; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; } code { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dd { margin: 0; }
"""


def write_report(path: Path, evaluation: Evaluation, result: Mapping[str, Any], others: Sequence[Evaluation]) -> None:
    """Write the report of ``evaluation``; ``result`` is its result file, ``others`` further data sets.

    Raises OutputError, and MissingExtra without matplotlib.
    """
    files.write_text(path, render(evaluation, result, others))


def render(evaluation: Evaluation, result: Mapping[str, Any] | None = None, others: Sequence[Evaluation] = ()) -> str:
    """The report as HTML text."""
    result = to_result(evaluation, evaluation.dataset.name, others=others) if result is None else result
    splits = evaluation.splits
    shown = (evaluation.whole,) if evaluation.whole else splits
    title = f"{evaluation.model} on {evaluation.dataset.card.title}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=quiet>{escape(_sentence(evaluation.protocol))}</p>",
        *(f"<p class=warning>{escape(_sentence(warning))}</p>" for warning in evaluation.warnings),
        _headline(result, len(splits)),
        "<h2>Splits</h2>",
        _splits(result),
        _picture(plots.spread(splits), "SRCC and PLCC of every split", _SPREAD) if len(splits) > 1 else "",
        "<h2>Predictions and opinion scores</h2>",
        _picture(plots.scatter(shown), "Scatter of predictions and opinion scores with the logistic fit", _SCATTER),
        _picture(plots.residuals(shown), "Residuals after the logistic fit", _RESIDUALS),
        _groups("By range of opinion scores", evaluation.by_range, len(shown), _RANGES),
        _groups("By distortion", evaluation.by_kind, len(shown)),
        _intervals(evaluation),
        _cross([evaluation, *others]) if others else "",
        "<h2>The pictures it gets most wrong</h2>",
        f'<div class=worst>{"".join(_miss(miss) for miss in evaluation.worst)}</div>',
        _provenance(evaluation, result),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>{''.join(sections)}</body></html>\n"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _number(value: Any, digits: int = 3) -> str:
    """Fixed digits, a typographic minus, a dash for what does not exist."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int):
        return str(value)
    return f"{value:.{digits}f}".replace("-", "−")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], foot: Iterable[Sequence[str]] = ()) -> str:
    """Cells are HTML already."""

    def line(cells: Sequence[str]) -> str:
        return f'<tr><th scope="row">{cells[0]}</th>{"".join(f"<td>{cell}</td>" for cell in cells[1:])}</tr>'

    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    return (
        f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(map(line, rows))}</tbody>"
        f"<tfoot>{''.join(map(line, foot))}</tfoot></table></div>"
    )


def _picture(uri: str, alternative: str, caption: str = "") -> str:
    text = f"<figcaption class=quiet>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure style="margin:0"><img src="{uri}" alt="{escape(alternative)}">{text}</figure>'


def _headline(result: Mapping[str, Any], count: int) -> str:
    names = (("srcc", "SRCC"), ("plcc", "PLCC"), ("plcc_raw", "PLCC raw"), ("krcc", "KRCC"), ("rmse", "RMSE"))
    boxes = ""
    for key, label in names:
        note = f"± {_number(result['std'][key])}" if count > 1 else ""
        boxes += f"<div>{label}<b>{_number(result['median'][key])}</b><span class=quiet>{note}</span></div>"
    note = f"<p class=quiet>Median of {count} splits ± standard deviation between them.</p>" if count > 1 else ""
    return f"<div class=headline>{boxes}</div>{note}"


def _splits(result: Mapping[str, Any]) -> str:
    keys = ("srcc", "plcc", "plcc_raw", "krcc", "rmse", "pairs")

    def bounds(split: Mapping[str, Any], name: str) -> str:
        low, high = split[f"{name}_interval"]
        return f"{_number(low)} to {_number(high)}"

    rows = [
        [
            record.split_name(split["seed"]),
            str(split["n"]),
            *(_number(split[key]) for key in keys),
            bounds(split, "srcc"),
            bounds(split, "plcc"),
            _number(split["epoch"]),
        ]
        for split in result["splits"]
    ]
    foot = [
        [word, "", *(_number(result[word][key]) if key in result[word] else "" for key in keys), "", "", ""]
        for word in ("median", "mean", "std")
        if len(rows) > 1
    ]
    whole = result.get("whole")
    if whole:
        foot.append(
            ["all pictures", str(whole["n"]), *(_number(whole[key]) for key in keys), bounds(whole, "srcc"),
             bounds(whole, "plcc"), ""]
        )  # fmt: skip
    header = ["split", "pictures", "SRCC", "PLCC", "PLCC raw", "KRCC", "RMSE", "pairs"]
    header += ["SRCC 95 %", "PLCC 95 %", "epoch"]
    note = (
        "<p class=quiet>PLCC and RMSE are taken after a 4-parameter logistic fit; pairs is the share of "
        "picture pairs put in the right order.</p>"
    )
    return _table(header, rows, foot) + note


def _groups(title: str, rows: Sequence[GroupRow], parts: int, remark: str = "") -> str:
    if not rows:
        return ""
    covered = any(math.isfinite(row.coverage) for row in rows)
    header = ["", "pictures", "SRCC", "PLCC", "KRCC", "RMSE", "bias", *(["in interval"] if covered else [])]
    body = [
        [escape(row.label), str(row.n), *map(_number, (row.srcc, row.plcc, row.krcc, row.rmse, row.bias)),
         *([_number(row.coverage)] if covered else [])]
        for row in rows
    ]  # fmt: skip
    over = "Median over splits. " if parts > 1 else ""
    note = f"<p class=quiet>{over}Bias is mapped prediction minus opinion score. {remark}</p>"
    return f"<h2>{escape(title)}</h2>{_table(header, body)}{note}"


def _intervals(evaluation: Evaluation) -> str:
    found = evaluation.coverage
    if found is None:
        return ""
    return (
        f"<h2>Intervals</h2><p>{_number(100 * found.share, 1)} % of {found.n} opinion scores, brought to the "
        f"0–100 scale, lie within the stated interval; its mean width is {_number(found.width, 1)}.</p>"
    )


def _cross(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for row in map(cross_row, evaluations):
        figures = [_number(row["median"][name]) for name in record.FIGURES]
        rows.append([escape(row["dataset"]), str(row["pictures"]), *figures, escape(row["protocol"])])
    header = ("data set", "pictures", "SRCC", "PLCC", "PLCC raw", "KRCC", "RMSE", "protocol")
    return f"<h2>Over data sets</h2>{_table(header, rows)}"


def _miss(miss: Miss) -> str:
    picture = _thumbnail(miss.sample.path)
    shown = f'<img src="{picture}" alt="{escape(miss.sample.name)}">' if picture else "<div class=none>no picture</div>"
    return (
        f"<figure>{shown}<figcaption>{escape(miss.sample.name)}<br>MOS {_number(miss.sample.mos, 1)}, predicted "
        f"{_number(miss.predicted, 1)} ({'+' if miss.error > 0 else ''}{_number(miss.error, 1)})</figcaption></figure>"
    )


def _thumbnail(path: Path) -> str | None:
    try:
        pixels = load.load(path, working_size=_THUMBNAIL).pixels
    except ImageError:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _provenance(evaluation: Evaluation, result: Mapping[str, Any]) -> str:
    card = evaluation.dataset.card
    facts = {
        "command": result["command"],
        "data set": f"{card.title}: {len(evaluation.dataset.samples)} pictures, {card.content}, {card.score} "
        f"{card.range[0]:g} to {card.range[1]:g}{', sign changed' if card.score == 'DMOS' else ''}",
        "licence": card.licence,
        "cite": card.citation,
        "data hash": result["data_hash"],
        "split hashes": ", ".join((split.get("split_hash") or "–")[:12] for split in result["splits"]),
        "predictions": evaluation.made,
        "git": result["git"] or "–",
        "versions": ", ".join(f"{name} {value}" for name, value in result["versions"].items() if value),
        "seconds": _number(result["seconds"], 1),
    }
    listed = "".join(
        f"<dt>{name}</dt><dd><code>{escape(str(text))}</code></dd>" for name, text in facts.items() if text
    )
    return f"<h2>How this was measured</h2><dl>{listed}</dl>"
