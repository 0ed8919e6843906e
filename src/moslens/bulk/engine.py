"""One bulk run: pictures in, rows out, in order, each handed to the writer as soon as it is its turn."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from moslens.bulk.writers import Writer
from moslens.picture.limits import MAX_PIXELS
from moslens.system.interrupts import Interrupts


class HasRow(Protocol):
    """A score or a failure."""

    def to_row(self) -> dict[str, Any]: ...


class AnyScorer(Protocol):
    """``Scorer``, or the same in a process of its own (``guard.GuardedScorer``)."""

    @property
    def model_id(self) -> str: ...

    def score_many(self, paths: Iterable[str], /, *, workers: int | None, max_pixels: int) -> Generator[HasRow]: ...


@dataclass
class Tally:
    """Rows written by a run, rows it found there already, and how many of each are errors."""

    written: int = 0
    written_errors: int = 0
    kept: int = 0
    kept_errors: int = 0


def score_all(
    scorer: AnyScorer,
    paths: Iterable[str],
    writer: Writer,
    tally: Tally,
    *,
    done: dict[tuple[str, str], str] | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_row: Callable[[], None] = lambda: None,
) -> None:
    """Score every path and write its row; ``tally`` is up to date also when this is interrupted.

    ``done`` is given by a run that may be resumed: the status of every (path, model id) that has its row.
    Such a path is left out, errors included, and so is one named twice: the rows are then the same
    wherever an earlier run was stopped. Without ``done`` every path gets its row, named twice or not.
    """
    fresh = paths if done is None else _without_row(paths, scorer.model_id, done, tally)
    with (
        closing(scorer.score_many(fresh, workers=workers, max_pixels=max_pixels)) as results,
        Interrupts() as interrupts,
    ):
        for result in results:
            row = result.to_row()
            with interrupts.held():
                writer.write(row)
                tally.written += 1
                tally.written_errors += row["status"] != "ok"
            on_row()


def _without_row(paths: Iterable[str], model_id: str, done: dict[tuple[str, str], str], tally: Tally) -> Iterator[str]:
    queued: set[str] = set()
    for path in paths:
        status = done.get((path, model_id))
        if status is not None:
            tally.kept += 1
            tally.kept_errors += status != "ok"
        elif path not in queued:
            queued.add(path)
            yield path
