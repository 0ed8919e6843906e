"""One bulk run: pictures in, rows out, in order, each handed to the writer as soon as it is its turn."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType

from moslens.bulk.results import Writer
from moslens.score import MAX_PIXELS, Failure, Scorer


@dataclass
class Tally:
    """Rows written by a run, rows it found there already, and how many of each are errors."""

    written: int = 0
    written_errors: int = 0
    kept: int = 0
    kept_errors: int = 0


def score_all(
    scorer: Scorer,
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
            with interrupts.held():
                writer.write(result.to_row())
                tally.written += 1
                tally.written_errors += isinstance(result, Failure)
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


class Interrupts:
    """Ctrl-C as ever, but while they are held it waits: a row is written and counted, or neither."""

    def __enter__(self) -> "Interrupts":
        self._holding = self._waiting = False
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGINT)
            if self._before is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._arrived)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if not self._holding:
            raise KeyboardInterrupt
        self._waiting = True

    @contextmanager
    def held(self) -> Iterator[None]:
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting:
            raise KeyboardInterrupt
