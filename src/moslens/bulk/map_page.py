"""``index.html`` for a folder of explained pictures: worst first, a filter by group, no link to anything outside."""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from moslens.bulk.rows import Row
from moslens.system.files import write_text
from moslens.system.text import printable

EMBEDDED = 500
"""How many of the worst pictures have a thumbnail in the page; the others load their overlay when scrolled to."""

_THUMBNAIL = 360

_HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>moslens: where and what</title>
<style>
body { font: 16px/1.4 system-ui, sans-serif; margin: 1rem; color: #111; background: #fff }
ul { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)) }
li { border: 1px solid #767676; padding: .5rem; overflow-wrap: anywhere }
li[hidden] { display: none }
img { max-width: 100%; height: auto; display: block }
table { border-collapse: collapse } td, th { border: 1px solid #767676; padding: .25rem .5rem; text-align: left }
</style></head><body>
"""

_SCRIPT = """<script>
const choice = document.getElementById("group"), shown = document.getElementById("shown");
function filter() {
  let count = 0;
  for (const item of document.querySelectorAll("li[data-groups]")) {
    const groups = item.dataset.groups.split(" ");
    item.hidden = choice.value !== "" && !groups.includes(choice.value);
    count += !item.hidden;
  }
  shown.textContent = count + " shown";
}
choice.addEventListener("change", filter);
filter();
</script>
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of results, and the name (without extension) of its overlay and JSON: None where the row is an error."""

    row: Row
    name: str | None


def write_index(folder: Path, entries: Sequence[Entry], *, embedded: int = EMBEDDED) -> Path:
    """Write ``folder/index.html`` over overlays that are in the folder; return its path. Raises OutputError."""
    good = sorted((e for e in entries if e.name is not None), key=lambda e: (float(e.row["score"]), str(e.name)))
    bad = [entry for entry in entries if entry.name is None]
    groups = sorted({str(d["group"]) for entry in good for d in entry.row["distortions"]})
    parts = [_HEAD, f"<h1>{len(good)} pictures, worst first</h1>\n"]
    if bad:
        word = "picture" if len(bad) == 1 else "pictures"
        parts.append(f'<p><a href="#errors">{len(bad)} {word} could not be read</a></p>\n')
    options = "".join(f'<option value="{group}">{group}</option>' for group in (*groups, "none"))
    parts.append(
        '<p><label for="group">Fault: </label><select id="group"><option value="">all</option>'
        f'{options}</select> <span id="shown" role="status"></span></p>\n<ul>\n'
    )
    parts += [_item(folder, entry, inside=number < embedded) for number, entry in enumerate(good)]
    parts.append("</ul>\n")
    if bad:
        parts.append('<h2 id="errors">Errors</h2>\n<table><tr><th>path</th><th>code</th><th>message</th></tr>\n')
        for entry in bad:
            error = entry.row["error"]
            cells = (entry.row["path"], error["code"], error["message"])
            parts.append("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>\n")
        parts.append("</table>\n")
    parts.append(_SCRIPT + "</body></html>\n")
    target = folder / "index.html"
    write_text(target, "".join(parts))
    return target


def _item(folder: Path, entry: Entry, *, inside: bool) -> str:
    row, name = entry.row, str(entry.name)
    overlay, data = (quote(os.fsencode(f"{name}{suffix}")) for suffix in (".png", ".json"))
    source = _embedded(folder / f"{name}.png") if inside else overlay
    found = row["distortions"]
    groups = " ".join(sorted({str(d["group"]) for d in found})) or "none"
    words = [
        f"{d['kind'].replace('_', ' ')} ({d['group']}): severity {d['severity']:.1f} of 5 on {d['share']:.0%}"
        for d in found
    ]
    faults = "<br>".join(map(_text, words)) or "no fault named"
    shown = _text(row["path"])
    return (
        f'<li data-groups="{html.escape(groups)}"><a href="{overlay}"><img loading="lazy" src="{source}" '
        f'alt="quality map of {shown}"></a><p><strong>{row["score"]:.1f}</strong> '
        f"({row['low']:.1f} to {row['high']:.1f}) {shown}<br>{faults}<br>"
        f'<a href="{data}">JSON</a></p></li>\n'
    )


def _embedded(overlay: Path) -> str:
    """A thumbnail of an overlay as a data URL."""
    with Image.open(overlay) as image:
        image.thumbnail((_THUMBNAIL, 4 * _THUMBNAIL))
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _text(value: object) -> str:
    return html.escape(printable(str(value)))
