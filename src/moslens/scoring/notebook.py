"""Results as notebooks show them: HTML in which everything that comes from a file or model is escaped."""

import base64
import io
from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from moslens.scoring.labels import NO_FAULT, detail_words, distortion_label, note_words
from moslens.system.text import readable

if TYPE_CHECKING:
    from moslens.scoring.quality_map import QualityMap
    from moslens.scoring.result import Score

OVERLAY = 640


def score_html(score: "Score") -> str:
    """A table of one score: interval, size, faults, notes."""
    beside = note_words(score.notes)
    if score.detail is not None:
        beside.insert(0, detail_words(score.detail.score, score.detail.distortions))
    rows = {
        "score": f"<strong>{score.score:.1f}</strong> of 100, higher is better",
        "90 % interval": f"{score.low:.1f} to {score.high:.1f}",
        "size": f"{score.width} x {score.height} px",
        "faults": ", ".join(map(_fault, score.distortions)) or (NO_FAULT if score.worst_block else ""),
        "notes": escape("; ".join(beside)),
        "model": escape(score.model),
    }
    title = escape(readable(score.path)) if score.path else "picture"
    return f"<table><caption>{title}</caption>{''.join(_lines(rows))}</table>"


def map_html(quality_map: "QualityMap") -> str:
    """The table of its score, and the map drawn over the picture."""
    file = io.BytesIO()
    quality_map.overlay(OVERLAY).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'{score_html(quality_map.to_score())}<img alt="quality map" src="data:image/png;base64,{data}">'


def _lines(rows: Mapping[str, str]) -> Iterator[str]:
    for name, text in rows.items():
        if text:
            yield f'<tr><th scope="row">{name}</th><td>{text}</td></tr>'


def _fault(distortion: Mapping[str, Any]) -> str:
    label = escape(distortion_label(distortion))
    return f"{label} (severity {distortion['severity']:.1f}, {distortion['share']:.0%} of the area)"
