"""SIGINT and SIGTERM as exceptions that can wait for the end of a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """The process got SIGINT (Ctrl-C) or SIGTERM."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def signal_of(stop: KeyboardInterrupt) -> int:
    """The signal behind an interrupt, for the exit code 128 + signal."""
    return stop.signal if isinstance(stop, Stopped) else signal.SIGINT


class Interrupts:
    """SIGINT and SIGTERM raise Stopped, except inside ``held``: a row is both written and counted, or neither."""

    def __enter__(self) -> Interrupts:
        self._holding, self._waiting = False, 0
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number, ours in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == ours:  # a handler that the program has set stays
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
