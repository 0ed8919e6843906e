"""What the commands over many pictures show on standard error, and their exit codes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from moslens.bulk.engine import RunCounts
from moslens.system.progress import progress
from moslens.system.text import printable


def count_pictures(number: int) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{number} picture{'s' if number != 1 else ''}"


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


def end_run(done: str, counts: RunCounts, seconds: float, stopped: int, rest: str = "") -> None:
    """Print the summary of a run; exit with its code where that is not 0.

    ``stopped`` is the signal that ended the run (0: none). Exit code: 128 + signal, or 1 where a row is an error.
    """
    word = "interrupted: " if stopped else ""
    typer.echo(f"{word}{done} in {seconds:.1f} s, {counts.written_errors} of them errors{rest}", err=True)
    if stopped:
        raise typer.Exit(128 + stopped)
    if counts.written_errors or counts.kept_errors:
        raise typer.Exit(1)
