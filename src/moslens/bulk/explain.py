"""Explain many pictures into a folder: a drawn map and its JSON for each, and the rows of ``moslens score``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from moslens.bulk.inputs import distinct_names
from moslens.system.progress import progress
from moslens.system.text import printable

if TYPE_CHECKING:
    from moslens.bulk.map_page import Entry
    from moslens.scoring.scorer import Scorer


ROWS = "rows.jsonl"


def explain_all(
    scorer: Scorer,
    sources: Sequence[str],
    folder: Path,
    entries: list[Entry],
    workers: int | None,
    max_pixels: int,
) -> None:
    """Explain every picture into ``folder``; ``entries`` is up to date also when this is interrupted.

    Pictures that were finished before it was their turn have their row then, too.
    """
    from moslens.bulk.map_page import Entry
    from moslens.bulk.writers import FileWriter
    from moslens.scoring.result import Failure, Score
    from moslens.system.cores import available_cores
    from moslens.system.files import write_bytes
    from moslens.system.interrupts import Interrupts
    from moslens.system.ordered_pool import ordered

    finished: dict[str, Score] = {}  # whose turn has not come

    def one(job: tuple[str, str]) -> tuple[Score | Failure, str]:
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

    def keep(result: Score | Failure, name: str) -> None:
        finished.pop(name, None)
        row = result.to_row()
        writer.write(row)
        entries.append(Entry(row, None if isinstance(result, Failure) else name))

    count = workers or available_cores()
    writer = FileWriter(str(folder / ROWS), "jsonl")
    jobs = list(zip(sources, distinct_names(sources), strict=True))
    try:
        with (
            progress("explaining", len(jobs)) as advance,
            closing(ordered(one, jobs, count, 2 * count)) as results,
            Interrupts() as interrupts,
        ):
            for result, name in results:
                with interrupts.held():
                    keep(result, name)
                if isinstance(result, Failure):
                    typer.echo(f"moslens: {printable(result.error.message)}", err=True)
                advance()
    except KeyboardInterrupt:
        for _, name in jobs[len(entries) :]:
            if name in finished:
                keep(finished[name], name)
        raise
    finally:
        writer.close()
