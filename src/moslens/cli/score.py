"""``moslens score``: options, run, exit code."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moslens.bulk.engine import RunCounts, score_all
from moslens.bulk.inputs import outside, require_pictures
from moslens.bulk.selection import SelectingWriter, Selection, Sort
from moslens.cli.options import Detail, MaxPixels, Model, RetryErrors, TimeLimit, Workers, require_resume
from moslens.cli.terminal import counted, end_run, kept_rows, quiet_end
from moslens.errors import ConfigError
from moslens.picture.limits import MAX_PIXELS
from moslens.system.progress import progress

if TYPE_CHECKING:
    from moslens.bulk.writers import Writer

MOST_COUNTED = 1_000_000
"""A longer list is not counted for the bar: its paths would take more than about 100 MB."""


class Engine(StrEnum):
    """What runs the scoring."""

    local = "local"
    ray = "ray"


class RowFormat(StrEnum):
    """How rows are written."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    html = "html"
    xlsx = "xlsx"


FORMAT_OF = {
    ".jsonl": RowFormat.jsonl,
    ".ndjson": RowFormat.jsonl,
    ".csv": RowFormat.csv,
    ".parquet": RowFormat.parquet,
    ".html": RowFormat.html,
    ".htm": RowFormat.html,
    ".xlsx": RowFormat.xlsx,
}
"""The format that an extension of --output means."""

NEED_OUTPUT = (RowFormat.parquet, RowFormat.html, RowFormat.xlsx)
RESUMABLE = (RowFormat.jsonl, RowFormat.csv, RowFormat.html)


def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Pictures, folders (with all below them), globs, URLs such as s3://bucket/folder, a Parquet file with"
            " a column path, or - for a list on standard input.",
        ),
    ],
    *,
    format: Annotated[
        RowFormat | None,
        typer.Option(
            help="How to write rows. Without it: by the extension of --output (.jsonl, .csv, .parquet, .html, .xlsx;"
            " jsonl where it has none), else a table on a terminal and jsonl elsewhere. html is a page with thumbnails"
            " in a folder beside it."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Write rows to this file. One that has content is only touched with --resume."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where a run into --output was stopped: pictures that have a row by this model are"
            " left out, new rows go behind, rows by other models stay. jsonl, csv and html only.",
        ),
    ] = False,
    retry_errors: RetryErrors = False,
    sort: Annotated[
        Sort | None,
        typer.Option(
            help="Order rows at the end: by score, worst first and errors last, or by path.", show_default="as given"
        ),
    ] = None,
    worst: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Write only the N lowest scores, worst first, and all errors."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Count pictures that score below this; the exit code is 1 if there are any."),
    ] = None,
    model: Model = None,
    workers: Workers = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    detail: Detail = False,
    time_limit: TimeLimit = 120.0,
    engine: Annotated[
        Engine,
        typer.Option(
            help="local: this process. ray: Ray Data, here or on the cluster of RAY_ADDRESS; --output is"
            " then a folder or URL that gets Parquet parts, and --resume goes on in it."
        ),
    ] = Engine.local,
) -> None:
    """Score pictures: one row each, in order, 0 (worst) to 100 (best), with a 90 % interval.

    Rows go to standard output or --output, everything else to standard error. Exit code: 0 all scored,
    1 some rows are errors or below --min-score, 2 wrong use, 130 interrupted, 143 terminated (what was finished is
    written).
    """
    # Unbuffered: names are taken as they come, and no buffer's lock is held when the program ends.
    listing = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    if engine == Engine.ray:
        if output is None or format not in (None, RowFormat.parquet):
            raise ConfigError("--engine ray writes Parquet parts: --output names the folder or URL for them")
        if sort is not None or worst is not None or min_score is not None or retry_errors:
            raise ConfigError("--sort, --worst, --min-score and --retry-errors are for --engine local")
        pictures = require_pictures(paths, listing)
        from moslens.bulk.on_ray import score_on_ray

        start = time.monotonic()
        counts, stopped = score_on_ray(
            pictures,
            output,
            resume=resume,
            model=model,
            workers=workers,
            max_pixels=max_pixels,
            time_limit=time_limit,
            detail=detail,
        )
        _end(counts, start, stopped, kept_rows(counts, hint=""))
        return
    chosen = _format(format, output)
    if resume and (output is None or chosen not in RESUMABLE):
        raise ConfigError("--resume needs --output with a jsonl, csv or html file")
    require_resume(retry_errors, resume)
    if chosen in NEED_OUTPUT and output is None:
        raise ConfigError(f"{chosen} needs --output")
    selection = Selection(sort, worst)
    pictures = require_pictures(paths, listing)

    from moslens.bulk.score_page import ScorePage, folder_of
    from moslens.bulk.watched import WatchedScorer
    from moslens.bulk.writers import FileWriter
    from moslens.system.interrupts import signal_of

    counts = RunCounts()
    stopped = 0
    thumbnails = None
    if chosen == RowFormat.html and output is not None:
        thumbnails = folder_of(output)
        pictures = outside(pictures, str(thumbnails))
    with quiet_end(), WatchedScorer(model, time_limit=time_limit, thumbnails=thumbnails) as scorer:
        start = time.monotonic()
        retried = scorer.model_id if retry_errors else None
        writer = _open_writer(output, chosen, selection, resume, retried)
        try:
            try:
                shown = output is None and sys.stdout.isatty()
                with _bar(pictures, on_terminal=shown, countable="-" not in paths) as (counted, advance):
                    score_all(
                        scorer,
                        counted,
                        writer,
                        counts,
                        done=writer.done if resume and isinstance(writer, FileWriter | ScorePage) else None,
                        workers=workers,
                        max_pixels=max_pixels,
                        detail=detail,
                        min_score=min_score,
                        on_row=advance,
                    )
            except KeyboardInterrupt as stop:
                stopped = signal_of(stop)
            if isinstance(writer, ScorePage):
                writer.write_page(selection, scorer.model_id)
            elif isinstance(writer, FileWriter) and selection and not stopped:
                writer.select(selection, scorer.model_id)
        finally:
            writer.close()
    _end(counts, start, stopped, kept_rows(counts), min_score)


def _open_writer(
    output: str | None, format: RowFormat, selection: Selection, resume: bool, retried: str | None
) -> "Writer":
    """The writer of rows in ``format``. Rows of jsonl and csv files are selected in the file, by its ``select``.

    ``retried``: the model whose errors are taken out of the output first.
    """
    from moslens.bulk.page import ROWS
    from moslens.bulk.score_page import ScorePage, folder_of
    from moslens.bulk.spreadsheet import XlsxWriter
    from moslens.bulk.writers import FileWriter, ParquetWriter, StreamWriter, drop_errors

    if retried is not None and output is not None:
        page = format == RowFormat.html
        drop_errors(str(folder_of(output) / ROWS) if page else output, "jsonl" if page else format, retried)
    writer: Writer
    if output is None:
        writer = StreamWriter(sys.stdout.buffer, format)
    elif format == RowFormat.html:
        return ScorePage(output, resume=resume)
    elif format == RowFormat.parquet:
        writer = ParquetWriter(output)
    elif format == RowFormat.xlsx:
        writer = XlsxWriter(output)
    else:
        writer = FileWriter(output, format, resume=resume)
        if format in RESUMABLE and Path(output).is_file():
            return writer
    return SelectingWriter(writer, selection) if selection else writer


def _end(counts: RunCounts, start: float, stopped: int, kept: str, min_score: float | None = None) -> None:
    end_run(counted(counts.written, "row"), counts, time.monotonic() - start, stopped, kept, min_score)


@contextmanager
def _bar(
    pictures: Iterator[str], *, on_terminal: bool, countable: bool
) -> Iterator[tuple[Iterator[str], Callable[[], None]]]:
    """Show a bar on standard error; yield the pictures, and a function that moves it one picture on.

    There is no bar where standard error is no terminal, or where the rows are ``on_terminal`` themselves. Its total
    needs the whole list, so that is read first, unless it is on standard input (not ``countable``) or very long.
    """
    if on_terminal or not sys.stderr.isatty():
        yield pictures, lambda: None
        return
    first = list(islice(pictures, MOST_COUNTED)) if countable else []
    total = len(first) if countable and len(first) < MOST_COUNTED else None
    with progress("scoring", total) as advance:
        yield chain(first, pictures), advance


def _format(format: RowFormat | None, output: str | None) -> RowFormat:
    if format is not None:
        return format
    if output is None:
        return RowFormat.table if sys.stdout.isatty() else RowFormat.jsonl
    ending = Path(output).suffix.lower()
    if ending and ending not in FORMAT_OF:
        raise ConfigError(
            f"no format has the ending {ending}: end it in {', '.join(FORMAT_OF)}, or give --format", output
        )
    return FORMAT_OF.get(ending, RowFormat.jsonl)
