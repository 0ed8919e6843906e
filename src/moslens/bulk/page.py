"""The page over scored or explained pictures: thumbnails, orders and filters, no request to any server.

Part of the core install, so templates are those of the standard library; each value is escaped before it goes in. The
pictures are files beside the page and load when they are scrolled to.
"""

import hashlib
import html
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from moslens.bulk.rows import Row, beside_score
from moslens.bulk.selection import Sort
from moslens.errors import OutputError
from moslens.scoring.labels import NO_FAULT, distortion_label
from moslens.system.files import CACHE_TAG, mark_as_made, whole_file
from moslens.system.text import name_in, printable

ROWS = "rows.jsonl"
"""The rows of a page, in its folder of files: what ``--resume`` goes on from."""

_PICTURE = Template("""<li data-score="$score" data-path="$path" data-faults="$labels" data-notes="$notes">
<div class="images">$images</div>
<p><strong>$shown</strong> <span class="quiet">$low to $high · $width x $height</span></p>
<p>$path</p><p>$faults</p>$more</li>
""")
_IMAGE = Template('<img loading="lazy" decoding="async" src="$source" alt="$alt">')
_LINK = Template('<a href="$link">$inside</a>')
_NOTE = Template('<p class="quiet">$note</p>')
_DATA = Template('<p class="quiet"><a href="$data">JSON</a></p>')
_ERRORS = """<h2 id="errors">Errors</h2>
<div class="table" tabindex="0" role="region" aria-labelledby="errors"><table>
<tr><th scope="col">path</th><th scope="col">code</th><th scope="col">message</th></tr>
"""
_ERROR = Template("<tr><td>$path</td><td>$code</td><td>$message</td></tr>\n")


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of ``score`` and the files that belong to it, by their paths from the folder of the page.

    ``thumbnail`` and ``map_thumbnail`` are shown; ``overlay`` is the drawn map and ``data`` the JSON that are linked.
    The thumbnail leads to the picture itself where that is on this disk.
    """

    row: Row
    thumbnail: str | None = None
    map_thumbnail: str | None = None
    overlay: str | None = None
    data: str | None = None


def thumbnail_name(path: str) -> str:
    """The file name of the thumbnail of the picture ``path``: the same in every run, another for every path."""
    return f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.jpg"


def make_folder(folder: Path, *, resume: bool = False) -> None:
    """Make the folder of a page. Raises OutputError where it cannot be made, or has content of another run.

    A walk over pictures leaves it out. With ``resume`` it may have the content of a run before: a folder with its rows.
    """
    try:
        if folder.is_dir() and any(one.name != CACHE_TAG for one in folder.iterdir()):
            if not resume:
                raise OutputError("has content: --resume continues a run, or give another folder", folder)
            if not (folder / ROWS).is_file():
                raise OutputError(f"has content and no {ROWS}, so it is not continued: give another folder", folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or str(error), folder) from error
    mark_as_made(folder)


def write_page(
    target: Path, title: str, entries: Iterable[Entry], *, scored: int, failed: int, sort: Sort, maps: bool = False
) -> None:
    """Write the page ``target`` over ``entries``, which come in the order of ``sort`` and are read one by one.

    ``scored`` of them have a score, ``failed`` are errors. ``maps`` makes room for two images a picture. Raises
    OutputError.
    """
    template = files("moslens.bulk").joinpath("page.html").read_text("utf-8")
    unread = f'<a href="#errors">{failed:,} could not be read</a>' if failed else "all could be read"
    text = Template(template).substitute(
        title=escaped(title), summary=f"{scored:,} scored, {unread}", pairs=' class="pairs"' if maps else "", order=sort
    )
    above, rest = text.split("<!-- pictures -->\n")
    between, below = rest.split("<!-- errors -->\n")
    folder = target.resolve().parent
    with whole_file(target) as scratch, scratch.open("w", encoding="utf-8") as page:
        page.write(above)
        errors = []
        for entry in entries:
            if entry.row["status"] == "ok":
                page.write(_picture(entry, folder))
            else:
                errors.append(_error(entry.row))
        page.write(between)
        if errors:
            page.writelines((_ERRORS, *errors, "</table></div>\n"))
        page.write(below)


def _picture(entry: Entry, folder: Path) -> str:
    row = entry.row
    name = name_in(row)
    images = [
        _image(source, f"{kind} {name}", link)
        for source, kind, link in (
            (entry.thumbnail, "photo", _original(name, folder)),
            (entry.map_thumbnail, "quality map of", _link(entry.overlay)),
        )
        if source is not None
    ]
    found = row["distortions"]
    words = [f"{distortion_label(d)}: severity {d['severity']:.1f} of 5 on {d['share']:.0%}" for d in found]
    more = "".join(_NOTE.substitute(note=escaped(words)) for words in beside_score(row))
    if entry.data is not None:
        more += _DATA.substitute(data=_link(entry.data))
    return _PICTURE.substitute(
        score=row["score"],
        path=escaped(name),
        labels=_list([distortion_label(d) for d in found]),
        notes=_list(row["notes"]),
        images="".join(images),
        shown=f"{row['score']:.1f}",
        low=f"{row['low']:.1f}",
        high=f"{row['high']:.1f}",
        width=row["width"],
        height=row["height"],
        faults="<br>".join(map(escaped, words)) or (NO_FAULT if row["worst_block"] else "this model names no faults"),
        more=more,
    )


def _image(source: str, alt: str, link: str | None) -> str:
    image = _IMAGE.substitute(source=_link(source), alt=escaped(alt))
    return image if link is None else _LINK.substitute(link=link, inside=image)


def _error(row: Row) -> str:
    error = row["error"]
    return _ERROR.substitute(path=escaped(name_in(row)), code=escaped(error["code"]), message=escaped(error["message"]))


def _original(name: str, folder: Path) -> str | None:
    """The link to a picture on this disk, from the folder of the page."""
    if not os.path.lexists(name):
        return None
    return _link(os.path.relpath(Path(name).resolve(), folder))


def _link(path: str | None) -> str | None:
    return None if path is None else quote(os.fsencode(path))


def escaped(value: object) -> str:
    return html.escape(printable(str(value)))


def _list(words: list[str]) -> str:
    return html.escape(json.dumps([printable(word) for word in words]))
