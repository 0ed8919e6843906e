"""A page of groups of near-duplicates: the best of each first, what is kept marked, thumbnails as files beside it.

Part of the core install, so templates are those of the standard library; each value is escaped before it goes in.
"""

# ruff: noqa: PTH100, PTH120

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from string import Template
from urllib.parse import quote

from moslens.bulk.page import escaped
from moslens.bulk.pick import Pick
from moslens.bulk.stores import is_url, source
from moslens.bulk.thumbnails import thumbnail
from moslens.errors import ImageError, OutputError
from moslens.picture.limits import MAX_PIXELS
from moslens.picture.load import load
from moslens.scoring.labels import distortion_label
from moslens.system.cores import available_cores
from moslens.system.files import mark_as_made, write_bytes, write_text
from moslens.system.ordered_pool import ordered

_THUMBNAIL = 360
_MARK = '<meta name="generator" content="moslens pick">'

_PAGE = Template(
    """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">"""
    + _MARK
    + """
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>moslens: near-duplicates</title>
<style>
:root { color-scheme: light dark; --text: #111; --ground: #fff; --line: #767676; --kept: #0a6b2d }
@media (prefers-color-scheme: dark) { :root { --text: #eee; --ground: #161616; --line: #8c8c8c; --kept: #6ee79b } }
body { font: 16px/1.4 system-ui, sans-serif; margin: 1rem; color: var(--text); background: var(--ground) }
a { color: inherit }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 1rem }
li { border: 1px solid var(--line); padding: .5rem; width: 15rem; max-width: 100%; box-sizing: border-box;
  overflow-wrap: anywhere }
li.kept { outline: 3px solid var(--kept) }
li.kept strong { color: var(--kept) }
img { max-width: 100%; height: auto; display: block }
table { border-collapse: collapse } td, th { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left }
</style></head><body>
<h1>$title</h1>
<p>$summary</p>
$groups$errors</body></html>
"""
)
_GROUP = Template("""<section><h2>Group $number</h2>
<ul>
$items</ul></section>
""")
_ITEM = Template("""<li class="$kind">$picture<p><strong>$decision</strong> $score ($low to $high)<br>
$path<br>$facts</p></li>
""")
_IMAGE = Template('<a href="$link"><img loading="lazy" width="$width" height="$height" src="$source" alt="$path"></a>')
_ERRORS = Template("""<h2 id="errors">Errors</h2>
<table><tr><th>path</th><th>code</th><th>message</th></tr>
$rows</table>
""")
_ERROR = Template("<tr><td>$path</td><td>$code</td><td>$message</td></tr>\n")


def check_page(page: Path) -> None:
    """Raises OutputError where ``page`` is a file that is no page of this command, or a folder."""
    try:
        with page.open("rb") as file:
            ours = _MARK.encode() in file.read(1000)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", page) from error
    if not ours:
        raise OutputError("is there already and is no page of moslens pick: give another name", page)


def write_page(
    page: Path,
    picks: Sequence[Pick],
    *,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_picture: Callable[[], None] = lambda: None,
) -> None:
    """Write the page over ``picks``, and its thumbnails into the folder ``NAME-thumbnails`` beside it.

    A page of an earlier run is replaced. Raises OutputError.
    """
    check_page(page)
    folder = page.with_name(f"{page.stem}-thumbnails")
    grouped = [one for one in picks if one.group is not None]
    count = workers or available_cores()

    def shrink(job: tuple[int, Pick]) -> tuple[str, int, int] | None:
        number, one = job
        return _thumbnail(one, folder / f"{number:05d}.jpg", max_pixels)

    if grouped:
        mark_as_made(folder)
    thumbnails = []
    with closing(ordered(shrink, list(enumerate(grouped, 1)), count, 2 * count)) as found:
        for thumbnail in found:
            thumbnails.append(thumbnail)
            on_picture()
    groups = []
    pairs = zip(grouped, thumbnails, strict=True)
    for number, members in groupby(pairs, key=lambda pair: pair[0].group):
        items = "".join(_item(one, thumbnail, page) for one, thumbnail in members)
        groups.append(_GROUP.substitute(number=number, items=items))
    bad = [one.row for one in picks if one.row["status"] != "ok"]
    errors = "".join(
        _fill(_ERROR, path=row["path"], code=row["error"]["code"], message=row["error"]["message"]) for row in bad
    )
    kept = sum(one.keep is True for one in picks)
    text = _PAGE.substitute(
        title=f"{len(groups)} {'group' if len(groups) == 1 else 'groups'} of near-duplicates",
        summary=f"{len(picks)} pictures: {kept} kept, {sum(one.keep is False for one in picks)} not, {len(bad)} "
        "could not be read. In each group the best comes first.",
        groups="".join(groups),
        errors=_ERRORS.substitute(rows=errors) if bad else "",
    )
    write_text(page, text)


def _thumbnail(one: Pick, target: Path, max_pixels: int) -> tuple[str, int, int] | None:
    """Write a thumbnail; its address from the page and its size. None where the picture is not readable any more."""
    try:
        picture = load(source(one.moved_to or one.path), working_size=_THUMBNAIL, max_pixels=max_pixels)
    except ImageError:
        return None
    write_bytes(target, thumbnail(picture.pixels), durable=False)
    height, width = picture.pixels.shape[:2]
    return quote(os.fsencode(f"{target.parent.name}/{target.name}")), width, height


def _item(one: Pick, thumbnail: tuple[str, int, int] | None, page: Path) -> str:
    row = one.row
    picture = ""
    if thumbnail is not None:
        address, width, height = thumbnail
        link = escaped(_link(one, page))
        picture = _IMAGE.substitute(link=link, source=address, width=width, height=height, path=escaped(row["path"]))
    taken = one.capture.taken if one.capture else None
    facts = [f"{distortion_label(fault)}: severity {fault['severity']:.1f} of 5" for fault in row["distortions"]]
    facts.append(f"likeness {one.likeness:.2f}" if one.likeness != 1 else "")
    facts.append(f"taken {taken.isoformat(sep=' ')}" if taken else "")
    facts.append(f"now {one.moved_to}" if one.moved_to else "")
    return _ITEM.substitute(
        kind="kept" if one.keep else "other",
        picture=picture,
        decision="keep" if one.keep else "not kept",
        score=f"{row['score']:.1f}",
        low=f"{row['low']:.1f}",
        high=f"{row['high']:.1f}",
        path=escaped(row["path"]),
        facts="<br>".join(escaped(fact) for fact in facts if fact),
    )


def _link(one: Pick, page: Path) -> str:
    """The address of the picture from the page: relative, so that a folder with both can be moved."""
    place = one.moved_to or one.path
    if is_url(place):
        return quote(place, safe=":/?&=%") if place.startswith(("http://", "https://")) else "#"
    try:
        relative = os.path.relpath(place, os.path.dirname(os.path.abspath(page)))
    except ValueError:  # another drive of Windows
        return Path(os.path.abspath(place)).as_uri()
    address = quote(os.fsencode(relative.replace(os.sep, "/")))
    return address if "/" in address else f"./{address}"


def _fill(template: Template, **values: object) -> str:
    """The template with every value escaped."""
    return template.substitute({name: escaped(value) for name, value in values.items()})
