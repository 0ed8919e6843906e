"""``index.html`` over a folder of explained pictures: worst first, a filter by group, no request to any server.

Part of the core install, so templates are those of the standard library; each value is escaped before it goes in.
"""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import quote

from PIL import Image

from moslens.bulk.rows import Row
from moslens.system.files import write_text
from moslens.system.text import printable

EMBEDDED = 500
"""How many of the worst pictures are embedded in the page; the others load their overlay when scrolled to."""

_THUMBNAIL = 360

_PAGE = Template("""<!DOCTYPE html>
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
<h1>$count pictures, worst first</h1>
$unread<p><label for="group">Fault: </label><select id="group"><option value="">all</option>$options</select>
<span id="shown" role="status"></span></p>
<ul>
$items</ul>
$errors<script>
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
</body></html>
""")
_OPTION = Template('<option value="$group">$group</option>')
_ITEM = Template("""<li data-groups="$groups"><a href="$overlay"><img loading="lazy" src="$source" \
alt="quality map of $path"></a><p><strong>$score</strong> ($low to $high) $path<br>$faults<br>\
<a href="$data">JSON</a></p></li>
""")
_UNREAD = Template('<p><a href="#errors">$count could not be read</a></p>\n')
_ERRORS = Template("""<h2 id="errors">Errors</h2>
<table><tr><th>path</th><th>code</th><th>message</th></tr>
$rows</table>
""")
_ERROR = Template("<tr><td>$path</td><td>$code</td><td>$message</td></tr>\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of ``score``; ``name`` is that of its overlay and JSON without suffix, None where the row is an error."""

    row: Row
    name: str | None


def write_index(folder: Path, entries: Sequence[Entry], *, embedded: int = EMBEDDED) -> Path:
    """Write ``folder/index.html`` over overlays that are in the folder; return its path. Raises OutputError."""
    good = sorted((e for e in entries if e.name is not None), key=lambda e: (float(e.row["score"]), str(e.name)))
    bad = [entry for entry in entries if entry.name is None]
    groups = sorted({str(d["group"]) for entry in good for d in entry.row["distortions"]})
    unread = f"{len(bad)} {'picture' if len(bad) == 1 else 'pictures'}"
    errors = "".join(
        _fill(_ERROR, path=e.row["path"], code=e.row["error"]["code"], message=e.row["error"]["message"]) for e in bad
    )
    text = _PAGE.substitute(
        count=len(good),
        unread=_UNREAD.substitute(count=unread) if bad else "",
        options="".join(_fill(_OPTION, group=group) for group in (*groups, "none")),
        items="".join(_item(folder, entry, inside=number < embedded) for number, entry in enumerate(good)),
        errors=_ERRORS.substitute(rows=errors) if bad else "",
    )
    target = folder / "index.html"
    write_text(target, text)
    return target


def _item(folder: Path, entry: Entry, *, inside: bool) -> str:
    row, name = entry.row, str(entry.name)
    overlay, data = (quote(os.fsencode(f"{name}{suffix}")) for suffix in (".png", ".json"))
    found = row["distortions"]
    words = [
        f"{d['kind'].replace('_', ' ')} ({d['group']}): severity {d['severity']:.1f} of 5 on {d['share']:.0%}"
        for d in found
    ]
    return _ITEM.substitute(
        groups=_text(" ".join(sorted({str(d["group"]) for d in found})) or "none"),
        overlay=overlay,
        data=data,
        source=_embedded(folder / f"{name}.png") if inside else overlay,
        path=_text(row["path"]),
        score=f"{row['score']:.1f}",
        low=f"{row['low']:.1f}",
        high=f"{row['high']:.1f}",
        faults="<br>".join(map(_text, words)) or "no fault named",
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


def _fill(template: Template, **values: object) -> str:
    """The template with every value escaped."""
    return template.substitute({name: _text(value) for name, value in values.items()})
