"""``moslens score``: parse, check, run, exit code."""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moslens.bulk.inputs import find_pictures
from moslens.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from moslens.bulk.engine import Tally


class Engine(StrEnum):
    """What runs the scoring."""

    local = "local"
    ray = "ray"


class Format(StrEnum):
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
        Format | None,
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
    model: Annotated[
        str | None,
        typer.Option(help="A shipped model's name or a model folder.", show_default="the released one"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pictures in work at once.", show_default="one a core")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse pictures with more pixels.")] = 200_000_000,
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
    if engine == Engine.ray:
        if output is None or format not in (None, Format.parquet):
            raise ConfigError("--engine ray writes Parquet parts: --output names the folder or URL for them")
        pictures = _pictures(paths)
        from moslens.bulk.on_ray import score_on_ray

        begin = time.monotonic()
        tally, stopped = score_on_ray(
            pictures,
            output,
            resume=resume,
            model=model,
            workers=workers,
            max_pixels=max_pixels,
            time_limit=time_limit,
        )
        _leave(tally, time.monotonic() - begin, stopped)
        return
    chosen = _format(format, output)
    if resume and (output is None or chosen not in (Format.jsonl, Format.csv)):
        raise ConfigError("--resume needs --output with a jsonl or csv file")
    if chosen == Format.parquet and output is None:
        raise ConfigError("parquet needs --output")
    pictures = _pictures(paths)

    from moslens.bulk.engine import Tally, score_all
    from moslens.bulk.watched import GuardedScorer
    from moslens.bulk.writers import FileWriter, ParquetWriter, StreamWriter, Writer
    from moslens.system.interrupts import signal_of

    tally = Tally()
    stopped = 0
    with _quiet_end(), GuardedScorer(model, time_limit=time_limit) as scorer:
        start = time.monotonic()
        done = None
        writer: Writer
        if output is None:
            writer = StreamWriter(sys.stdout.buffer, chosen)
        elif chosen == Format.parquet:
            writer = ParquetWriter(output)
        else:
            writer = file = FileWriter(output, chosen, resume=resume)
            done = file.done if resume else None
        try:
            with _progress(paths, on_terminal=output is None and sys.stdout.isatty()) as show:
                score_all(
                    scorer,
                    pictures,
                    writer,
                    tally,
                    done=done,
                    workers=workers,
                    max_pixels=max_pixels,
                    on_row=lambda: show(tally.written + tally.kept),
                )
        except KeyboardInterrupt as stop:
            stopped = signal_of(stop)
        finally:
            writer.close()
    _leave(tally, time.monotonic() - start, stopped)


def _pictures(paths: Sequence[str]) -> Iterator[str]:
    """The pictures that the arguments name. Raises ConfigError if there is none."""
    # Unbuffered: names are taken as they come, and no buffer's lock is held when the program ends.
    pictures = find_pictures(paths, open(0, "rb", buffering=0, closefd=False))  # noqa: SIM115
    first = next(pictures, None)
    if first is None:
        raise ConfigError("no picture found")
    return chain([first], pictures)


def _leave(tally: "Tally", seconds: float, stopped: int) -> None:
    """Say what was done; end with the exit code where it is not 0. ``stopped`` is the signal that ended the run."""
    kept = f", {tally.kept} had their row" if tally.kept else ""
    word = "interrupted: " if stopped else ""
    typer.echo(
        f"{word}{tally.written} rows in {seconds:.1f} s, {tally.written_errors} of them errors{kept}",
        err=True,
    )
    if stopped:
        raise typer.Exit(128 + stopped)
    if tally.written_errors or tally.kept_errors:
        raise typer.Exit(1)


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Leave in peace where nobody takes the rows; what Python flushes when it ends must then go nowhere."""
    try:
        yield
    except (BrokenPipeError, OutputError) as error:
        with suppress(io.UnsupportedOperation):  # a stream without a descriptor keeps nothing back
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read them has enough
            raise typer.Exit(0) from None
        raise


def _format(format: Format | None, output: str | None) -> Format:
    if format is not None:
        return format
    if output is None:
        return Format.table if sys.stdout.isatty() else Format.jsonl
    by_suffix = {".csv": Format.csv, ".parquet": Format.parquet}
    return by_suffix.get(Path(output).suffix.lower(), Format.jsonl)


@contextmanager
def _progress(paths: Sequence[str], *, on_terminal: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; none where that is no terminal, or where the rows themselves show up."""
    if on_terminal or not sys.stderr.isatty():
        yield lambda completed: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    total = None if "-" in paths else sum(1 for _ in find_pictures(paths, sys.stdin.buffer))
    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("scoring", total=total)
        yield lambda completed: bar.update(task, completed=completed)
