"""One run over many pictures: paths in, rows out, in order, each written as soon as those before it are."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from moslens.bulk.rows import RowLine
from moslens.bulk.writers import Writer
from moslens.picture.limits import MAX_PIXELS
from moslens.system.interrupts import Interrupts


class HasRow(Protocol):
    """A ``Score``, a ``Failure`` or a ``RowLine``."""

    def to_row(self) -> dict[str, Any]: ...


class AnyScorer(Protocol):
    """``Scorer``, or the same in a process of its own (``WatchedScorer``)."""

    @property
    def model_id(self) -> str: ...

    def score_many(self, paths: Iterable[str], /, *, workers: int | None, max_pixels: int) -> Generator[HasRow]: ...


@dataclass
class RunCounts:
    """Rows that a run wrote, rows that its output had before (kept), and how many of each are errors."""

    written: int = 0
    written_errors: int = 0
    kept: int = 0
    kept_errors: int = 0


def score_all(
    scorer: AnyScorer,
    paths: Iterable[str],
    writer: Writer,
    counts: RunCounts,
    *,
    done: dict[tuple[str, str], str] | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_row: Callable[[], None] = lambda: None,
) -> None:
    """Score every path and write its row. ``counts`` is up to date also when a KeyboardInterrupt ends this.

    ``done`` is the status of every (path, model id) that the output has a row of. These paths are left out, those with
    an error too, and a path named twice gets one row: the rows are then the same wherever an earlier run stopped.
    Without ``done`` every path gets its row, named twice or not. ``on_row`` is called for every row written or kept,
    perhaps by several threads.
    """
    fresh = paths if done is None else _without_row(paths, scorer.model_id, done, counts, on_row)
    with (
        closing(scorer.score_many(fresh, workers=workers, max_pixels=max_pixels)) as results,
        Interrupts() as interrupts,
    ):
        for result in results:
            row = result if isinstance(result, RowLine) else RowLine.of(result.to_row())
            with interrupts.held():
                writer.write(row)
                counts.written += 1
                counts.written_errors += row.status != "ok"
            on_row()


def _without_row(
    paths: Iterable[str],
    model_id: str,
    done: dict[tuple[str, str], str],
    counts: RunCounts,
    on_row: Callable[[], None],
) -> Iterator[str]:
    queued: set[str] = set()
    for path in paths:
        status = done.get((path, model_id))
        if status is not None:
            counts.kept += 1
            counts.kept_errors += status != "ok"
            on_row()
        elif path not in queued:
            queued.add(path)
            yield path
