"""Explain many pictures into a folder: for each a drawn map and its JSON, and the rows of ``moslens score``."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from moslens.bulk.inputs import distinct_names
from moslens.bulk.map_page import Entry
from moslens.bulk.rows import Row, RowLine
from moslens.bulk.writers import FileWriter
from moslens.errors import OutputError
from moslens.picture.limits import MAX_PIXELS
from moslens.scoring.result import Failure, Score
from moslens.scoring.scorer import Scorer
from moslens.system.cores import available_cores
from moslens.system.files import write_bytes
from moslens.system.interrupts import Interrupts
from moslens.system.ordered_pool import ordered

ROWS = "rows.jsonl"


def make_folder(folder: Path) -> None:
    """Make the folder of a run. Raises OutputError where it has content or cannot be made."""
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError("has content: give another folder", folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or str(error), folder) from error


def explain_all(
    scorer: Scorer,
    sources: Sequence[str],
    folder: Path,
    entries: list[Entry],
    *,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_row: Callable[[Row], None] = lambda row: None,
) -> None:
    """Explain every picture into ``folder``. ``entries`` is up to date also when a KeyboardInterrupt ends this.

    Pictures that are finished by then but wait for an earlier one get their row and entry too. Raises OutputError.
    """
    finished: dict[str, Score] = {}  # explained, without a row yet

    def explain(job: tuple[str, str]) -> tuple[Score | Failure, str]:
        source, name = job
        found = scorer.explain_or_failure(source, max_pixels=max_pixels)
        if isinstance(found, Failure):
            return found, name
        picture = io.BytesIO()
        found.overlay().save(picture, "PNG")
        for suffix, data in ((".png", picture.getvalue()), (".json", found.to_json().encode() + b"\n")):
            write_bytes(folder / f"{name}{suffix}", data, durable=False)
        finished[name] = found.to_score()
        return finished[name], name

    def keep(result: Score | Failure, name: str) -> Row:
        finished.pop(name, None)
        row = result.to_row()
        writer.write(RowLine.of(row))
        entries.append(Entry(row, None if isinstance(result, Failure) else name))
        return row

    count = workers or available_cores()
    writer = FileWriter(str(folder / ROWS), "jsonl")
    jobs = list(zip(sources, distinct_names(sources), strict=True))
    try:
        with closing(ordered(explain, jobs, count, 2 * count)) as results, Interrupts() as interrupts:
            for result, name in results:
                with interrupts.held():
                    row = keep(result, name)
                on_row(row)
    except KeyboardInterrupt:
        for _, name in jobs[len(entries) :]:
            if name in finished:
                keep(finished[name], name)
        raise
    finally:
        writer.close()
