"""One run over many pictures: paths in, rows out, in order, each written as soon as those before it are."""

import math
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

    def score_many(
        self, paths: Iterable[str], /, *, workers: int | None, max_pixels: int, detail: bool
    ) -> Generator[HasRow]: ...


@dataclass
class RunCounts:
    """Rows that a run wrote, rows that its output had before (kept), and how many of each are errors.

    ``below`` counts the rows of both kinds with a score below the lowest that was asked for.
    """

    written: int = 0
    written_errors: int = 0
    kept: int = 0
    kept_errors: int = 0
    below: int = 0

    @property
    def errors(self) -> int:
        return self.written_errors + self.kept_errors


def score_all(
    scorer: AnyScorer,
    paths: Iterable[str],
    writer: Writer,
    counts: RunCounts,
    *,
    done: dict[tuple[str, str], float | None] | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    min_score: float | None = None,
    detail: bool = False,
    on_row: Callable[[], None] = lambda: None,
) -> None:
    """Score every path and write its row. ``counts`` is up to date also when a KeyboardInterrupt ends this.

    ``done`` is the score (None: an error) of every (path, model id) that the output has a row of. These paths are left
    out, those with an error too, and a path named twice gets one row: the rows are then the same wherever an earlier
    run stopped.
    Without ``done`` every path gets its row, named twice or not. Scores below ``min_score`` are counted. ``on_row`` is
    called for every row written or kept, perhaps by several threads.
    """
    least = -math.inf if min_score is None else min_score
    fresh = paths if done is None else _without_row(paths, scorer.model_id, done, counts, least, on_row)
    with (
        closing(scorer.score_many(fresh, workers=workers, max_pixels=max_pixels, detail=detail)) as results,
        Interrupts() as interrupts,
    ):
        for result in results:
            row = result if isinstance(result, RowLine) else RowLine.of(result.to_row())
            with interrupts.held():
                writer.write(row)
                counts.written += 1
                counts.written_errors += row.status != "ok"
                if min_score is not None:
                    counts.below += _is_below(row.score, least)
            on_row()


def _without_row(
    paths: Iterable[str],
    model_id: str,
    done: dict[tuple[str, str], float | None],
    counts: RunCounts,
    least: float,
    on_row: Callable[[], None],
) -> Iterator[str]:
    queued: set[str] = set()
    for path in paths:
        if (path, model_id) not in done:
            if path not in queued:
                queued.add(path)
                yield path
            continue
        score = done[path, model_id]
        counts.kept += 1
        counts.kept_errors += score is None
        counts.below += _is_below(score, least)
        on_row()


def _is_below(score: float | None, least: float) -> bool:
    return score is not None and score < least
