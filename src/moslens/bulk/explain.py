"""Explain many pictures into a folder: for each a drawn map and its JSON, the rows of ``moslens score``, and a page."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from moslens.bulk import stores
from moslens.bulk.engine import RunCounts
from moslens.bulk.inputs import distinct_names
from moslens.bulk.page import ROWS, Entry, write_page
from moslens.bulk.rows import Row, RowLine
from moslens.bulk.selection import Selection, Sort
from moslens.bulk.thumbnails import thumbnail
from moslens.bulk.writers import FileWriter, SelectedLines
from moslens.errors import OutputError
from moslens.picture.limits import MAX_PIXELS
from moslens.scoring.quality_map import QualityMap
from moslens.scoring.result import Failure, Score
from moslens.scoring.scorer import Scorer
from moslens.system.cores import available_cores
from moslens.system.files import read_json, write_bytes
from moslens.system.interrupts import Interrupts
from moslens.system.ordered_pool import ordered
from moslens.system.text import name_in

THUMBNAILS = "thumbnails"


def explain_all(
    scorer: Scorer,
    sources: Sequence[str],
    folder: Path,
    counts: RunCounts,
    *,
    resume: bool = False,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    detail: bool = False,
    on_row: Callable[[Row], None] = lambda row: None,
) -> None:
    """Explain every picture into ``folder``, each once, and write the page over them, worst first.

    ``counts`` and the page are up to date also when a KeyboardInterrupt ends this. Pictures that are finished by then
    but wait for an earlier one get their row too. With ``resume`` pictures that have a row are left out; their maps
    keep their names. ``on_row`` gets each row, and {} for a row that was there. Raises OutputError.
    """
    finished: dict[str, Score] = {}  # explained, without a row yet

    def explain(job: tuple[str, str]) -> tuple[Score | Failure, str]:
        path, name = job
        found = scorer.explain_or_failure(stores.source(path), max_pixels=max_pixels, detail=detail)
        if isinstance(found, Failure):
            return found, name
        try:
            files = _files(found, name)
        except Exception as error:  # as in scoring: one picture must not end the run
            return Failure.of(found.path, error, scorer.model_id), name
        for file, data in files.items():
            write_bytes(folder / file, data, durable=False)
        finished[name] = found.to_score()
        return finished[name], name

    def keep(result: Score | Failure, name: str) -> Row:
        finished.pop(name, None)
        row = result.to_row()
        writer.write(RowLine.of(row))
        counts.written += 1
        counts.written_errors += isinstance(result, Failure)
        return row

    count = workers or available_cores()
    writer = FileWriter(str(folder / ROWS), "jsonl", resume=resume)
    names: dict[str, str] = {}
    try:
        others = {model for _, model in writer.done} - {scorer.model_id}
        if others:
            raise OutputError(f"has maps by {min(others)}: give another folder", folder)
        names |= _names_in(folder) if resume else {}
        done = {path: score for (path, _), score in writer.done.items()}
        distinct = list(dict.fromkeys(sources))
        for source in distinct:
            if source in done:
                counts.kept += 1
                counts.kept_errors += done[source] is None
                on_row({})
        fresh = [source for source in distinct if source not in done]
        unnamed = [source for source in fresh if source not in names]
        names |= zip(unnamed, distinct_names(unnamed, names.values()), strict=True)
        jobs = [(source, names[source]) for source in fresh]
        try:
            with closing(ordered(explain, jobs, count, 2 * count)) as results, Interrupts() as interrupts:
                for result, name in results:
                    with interrupts.held():
                        row = keep(result, name)
                    on_row(row)
        except KeyboardInterrupt:
            for _, name in jobs[counts.written :]:
                if name in finished:
                    keep(finished[name], name)
            raise
        finally:
            _write_page(folder, names, scorer.model_id)
    finally:
        writer.close()


def _files(found: QualityMap, name: str) -> dict[str, bytes]:
    """What is written for a picture, by the name of the file."""
    picture = io.BytesIO()
    found.overlay().save(picture, "PNG")
    return {
        f"{THUMBNAILS}/{name}.jpg": thumbnail(found.pixels),
        f"{THUMBNAILS}/{name}-map.jpg": thumbnail(found.overlay(legend=False)),
        f"{name}.png": picture.getvalue(),
        f"{name}.json": found.to_json().encode() + b"\n",
    }


def _names_in(folder: Path) -> dict[str, str]:
    """The name of each picture that has a map in the folder, by its path."""
    found = {}
    for file in folder.glob("*.json"):
        written = read_json(file, OutputError)
        if isinstance(written, Mapping) and "path" in written:
            found[str(name_in(written))] = file.stem
    return found


def _write_page(folder: Path, names: Mapping[str, str], model_id: str) -> None:
    lines = SelectedLines(str(folder / ROWS), "jsonl", Selection(Sort.score), model_id)

    def entry(row: Row) -> Entry:
        name = names.get(name_in(row))
        if row["status"] != "ok" or name is None:
            return Entry(row)
        small = f"{THUMBNAILS}/{name}"
        return Entry(row, f"{small}.jpg", f"{small}-map.jpg", f"{name}.png", f"{name}.json")

    write_page(
        folder / "index.html",
        "Where and what is wrong",
        map(entry, map(json.loads, lines)),
        scored=lines.scored,
        failed=lines.failed,
        sort=Sort.score,
        maps=True,
    )
