"""A progress bar on the terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def progress(word: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error if that is a terminal. Yields a function that moves it one of ``total`` steps on.

    ``total`` is None where nobody knows it.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(word, total=total)
        yield lambda: bar.advance(task)


def tracked(items: Iterable[T], word: str, total: int | None) -> Iterator[T]:
    """Yield the items while a bar of :func:`progress` moves on with them."""
    with progress(word, total) as advance:
        for item in items:
            yield item
            advance()
