"""``moslens explain``: parse, check, run, exit code."""

import io
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moslens.bulk.formats import printable
from moslens.bulk.inputs import distinct_names, find_pictures
from moslens.commands.progress import progress
from moslens.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from moslens.page import Entry
    from moslens.score import Scorer

ROWS = "rows.jsonl"


def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Pictures, folders (with all below them), globs, or - for a list of names on standard input.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="A new or empty folder for maps and index.html.")],
    model: Annotated[
        str | None,
        typer.Option(help="A shipped model's name or a model folder.", show_default="the released one"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pictures in work at once.", show_default="one a core")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse pictures with more pixels.")] = 200_000_000,
) -> None:
    """Show where each picture is bad and what is wrong there.

    Writes OUTPUT/NAME.png (the map over the picture, with a legend) and OUTPUT/NAME.json for each picture as soon as
    it is done, OUTPUT/rows.jsonl (the rows of moslens score) and at the end OUTPUT/index.html, worst first. Exit code:
    0 all done, 1 some pictures could not be read, 2 wrong use, 130 interrupted, 143 by SIGTERM (index.html shows what
    was finished).
    """
    from moslens.bulk.engine import signal_of
    from moslens.memory import give_back_large_blocks
    from moslens.page import write_index
    from moslens.score import Scorer

    give_back_large_blocks()
    # Read to the end before anything is written: the output may lie in a folder that is walked.
    sources = list(find_pictures(paths, sys.stdin.buffer))
    if not sources:
        raise ConfigError("no picture found")
    scorer = Scorer(model, threads=1)
    scorer.need_maps()
    try:
        if output.is_dir() and any(output.iterdir()):
            raise OutputError("has content: give another folder", output)
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or str(error), output) from error
    start = time.monotonic()
    entries: list[Entry] = []
    stopped = 0
    try:
        explain_all(scorer, sources, output, entries, workers, max_pixels)
    except KeyboardInterrupt as stop:
        stopped = signal_of(stop)
    finally:
        index = write_index(output, entries)
    errors = sum(entry.name is None for entry in entries)
    word = "interrupted: " if stopped else ""
    pictures = f"{len(entries)} picture{'s' if len(entries) != 1 else ''}"
    typer.echo(f"{word}{pictures} in {time.monotonic() - start:.1f} s, {errors} of them errors: {index}", err=True)
    if stopped:
        raise typer.Exit(128 + stopped)
    if errors:
        raise typer.Exit(1)


def explain_all(
    scorer: "Scorer",
    sources: Sequence[str],
    folder: Path,
    entries: "list[Entry]",
    workers: int | None,
    max_pixels: int,
) -> None:
    """Explain every picture into ``folder``; ``entries`` is up to date also when this is interrupted.

    Pictures that were finished before it was their turn have their row then, too.
    """
    from moslens.bulk.engine import Interrupts
    from moslens.bulk.results import FileWriter
    from moslens.ordered import ordered
    from moslens.page import Entry, write_whole
    from moslens.runtime import available_cores
    from moslens.score import Failure, Score

    finished: dict[str, Score] = {}  # whose turn has not come

    def one(job: tuple[str, str]) -> tuple[Score | Failure, str]:
        source, name = job
        found = scorer.explain_or_failure(source, max_pixels=max_pixels)
        if isinstance(found, Failure):
            return found, name
        picture = io.BytesIO()
        found.overlay().save(picture, "PNG")
        for suffix, data in ((".png", picture.getvalue()), (".json", found.to_json().encode() + b"\n")):
            write_whole(folder / f"{name}{suffix}", data)
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
