"""What the commands over many pictures show on standard error, and their exit codes."""

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import typer

from moslens.bulk.engine import RunCounts
from moslens.errors import OutputError
from moslens.system.progress import progress
from moslens.system.text import printable


def counted(number: int, word: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{number} {word}{'s' if number != 1 else ''}"


def log_training() -> None:
    """Print what training logs: how far it is, away from a terminal."""
    logging.getLogger("moslens.train").setLevel(logging.INFO)


@contextmanager
def show_rows(word: str, total: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that takes each row: it moves a progress bar on and prints the message of an error."""
    with progress(word, total) as advance:

        def show(row: Mapping[str, Any]) -> None:
            error = row.get("error")
            if error:
                typer.echo(f"moslens: {printable(error['message'])}", err=True)
            advance()

        yield show


def kept_rows(counts: RunCounts, hint: str = ", which --retry-errors tries again") -> str:
    """``, 9 had their row (1 of them an error, ...)``, or nothing where a run kept no rows. ``hint``: what to do."""
    what = "an error" if counts.kept_errors == 1 else "errors"
    errors = f" ({counts.kept_errors} of them {what}{hint})"
    return f", {counts.kept} had their row{errors if counts.kept_errors else ''}" if counts.kept else ""


@contextmanager
def quiet_end() -> Iterator[None]:
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


def end_run(
    done: str, counts: RunCounts, seconds: float, stopped: int, rest: str = "", min_score: float | None = None
) -> None:
    """Print the summary of a run; exit with its code where that is not 0.

    ``stopped`` is the signal that ended the run (0: none). Exit code: 128 + signal, or 1 where a row is an error or
    a score is below ``min_score``.
    """
    word = "interrupted: " if stopped else ""
    typer.echo(f"{word}{done} in {seconds:.1f} s, {counts.written_errors} of them errors{rest}", err=True)
    if min_score is not None:
        below = counted(counts.below, "picture")
        typer.echo(f"{below} below {min_score:g}, {counts.errors} could not be read", err=True)
    if stopped:
        raise typer.Exit(128 + stopped)
    if counts.errors or counts.below:
        raise typer.Exit(1)
