"""SIGINT and SIGTERM as exceptions that can wait for the end of a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """SIGINT (Ctrl-C) or SIGTERM arrived."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def signal_of(stop: KeyboardInterrupt) -> int:
    """The signal behind an interrupt, for the exit code 128 + signal."""
    return stop.signal if isinstance(stop, Stopped) else signal.SIGINT


class Interrupts:
    """A context in which SIGINT and SIGTERM raise Stopped, or wait for the end of a block in :meth:`held`.

    Holding them keeps a row from being written but not counted.
    """

    def __enter__(self) -> Interrupts:
        self._holding, self._waiting = False, 0
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number, ours in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == ours:  # a handler of the embedding program stays
                    self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @property
    def waiting(self) -> int:
        """The signal that arrived in a block of :meth:`held`; 0 where none did."""
        return self._waiting

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if not self._holding:
            raise Stopped(number)
        self._waiting = number

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay the signals until the block ends; raise Stopped then if one arrived."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting:
            raise Stopped(self._waiting)
