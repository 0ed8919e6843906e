"""``moslens score``: options, run, exit code."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from moslens.bulk.engine import RunCounts, score_all
from moslens.bulk.inputs import require_pictures
from moslens.cli.options import MaxPixels, Model, Workers
from moslens.cli.terminal import end_run
from moslens.errors import ConfigError, OutputError
from moslens.picture.limits import MAX_PIXELS
from moslens.system.progress import progress

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
            help="How to write rows. Without it: by the extension of --output (.csv, .parquet),"
            " else a table on a terminal and jsonl elsewhere."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="Write rows to this file. One that has content is only touched with --resume."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where a run into --output was stopped: pictures that have a row by this model are"
            " left out, new rows go behind, rows by other models stay. jsonl and csv only.",
        ),
    ] = False,
    model: Model = None,
    workers: Workers = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Give up on a picture that takes more seconds: an error row.")
    ] = 120.0,
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
    1 some rows are errors, 2 wrong use, 130 interrupted, 143 terminated (what was finished is written).
    """
    # Unbuffered: names are taken as they come, and no buffer's lock is held when the program ends.
    listing = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    if engine == Engine.ray:
        if output is None or format not in (None, RowFormat.parquet):
            raise ConfigError("--engine ray writes Parquet parts: --output names the folder or URL for them")
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
        )
        _end(counts, start, stopped)
        return
    chosen = _format(format, output)
    if resume and (output is None or chosen not in (RowFormat.jsonl, RowFormat.csv)):
        raise ConfigError("--resume needs --output with a jsonl or csv file")
    if chosen == RowFormat.parquet and output is None:
        raise ConfigError("parquet needs --output")
    pictures = require_pictures(paths, listing)

    from moslens.bulk.watched import WatchedScorer
    from moslens.bulk.writers import FileWriter, ParquetWriter, StreamWriter, Writer
    from moslens.system.interrupts import signal_of

    counts = RunCounts()
    stopped = 0
    with _quiet_end(), WatchedScorer(model, time_limit=time_limit) as scorer:
        start = time.monotonic()
        done = None
        writer: Writer
        if output is None:
            writer = StreamWriter(sys.stdout.buffer, chosen)
        elif chosen == RowFormat.parquet:
            writer = ParquetWriter(output)
        else:
            writer = file = FileWriter(output, chosen, resume=resume)
            done = file.done if resume else None
        try:
            shown = output is None and sys.stdout.isatty()
            with _bar(pictures, on_terminal=shown, countable="-" not in paths) as (counted, advance):
                score_all(
                    scorer,
                    counted,
                    writer,
                    counts,
                    done=done,
                    workers=workers,
                    max_pixels=max_pixels,
                    on_row=advance,
                )
        except KeyboardInterrupt as stop:
            stopped = signal_of(stop)
        finally:
            writer.close()
    _end(counts, start, stopped)


def _end(counts: RunCounts, start: float, stopped: int) -> None:
    kept = f", {counts.kept} had their row" if counts.kept else ""
    end_run(f"{counts.written} rows", counts, time.monotonic() - start, stopped, kept)


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


@contextmanager
def _quiet_end() -> Iterator[None]:
    """End without a message where the reader of the rows has closed its end."""
    try:
        yield
    except (BrokenPipeError, OutputError) as error:
        # Python flushes standard output at exit, which would fail again.
        with suppress(io.UnsupportedOperation):  # a stream without a descriptor has no buffer to flush
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(0) from None
        raise


def _format(format: RowFormat | None, output: str | None) -> RowFormat:
    if format is not None:
        return format
    if output is None:
        return RowFormat.table if sys.stdout.isatty() else RowFormat.jsonl
    by_suffix = {".csv": RowFormat.csv, ".parquet": RowFormat.parquet}
    return by_suffix.get(Path(output).suffix.lower(), RowFormat.jsonl)
