"""One bulk run: pictures in, rows out, in order, each handed to the writer as soon as it is its turn."""

import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from moslens.bulk.results import Writer
from moslens.score import MAX_PIXELS


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


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or a polite request to end."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def signal_of(stop: KeyboardInterrupt) -> int:
    """The signal behind an interrupt, for the exit code 128 + signal."""
    return stop.signal if isinstance(stop, Stopped) else signal.SIGINT


class Interrupts:
    """SIGINT and SIGTERM raise Stopped, but while they are held they wait: a row is written and counted, or neither."""

    def __enter__(self) -> "Interrupts":
        self._holding, self._waiting = False, 0
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number, ours in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == ours:  # whoever embeds this and has a way of ending keeps it
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if not self._holding:
            raise Stopped(number)
        self._waiting = number

    @contextmanager
    def held(self) -> Iterator[None]:
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting:
            raise Stopped(self._waiting)
