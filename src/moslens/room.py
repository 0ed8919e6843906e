"""Room for the pixels of pictures decoded at the same time, so that many giants need no more memory than one."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """``most`` units for all threads together, first come, first served; what asks for more than all gets all."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._empty()
        if hasattr(os, "register_at_fork"):  # what other threads held at a fork is never given back in the child
            os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        self.used = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Hold ``amount`` units, and wait until there are as many. A thread holds one at a time."""
        amount = min(amount, self.most)
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is turn and self.used + amount <= self.most)
                self.used += amount
            finally:  # an interrupt may end the wait
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.used -= amount
                self._changed.notify_all()
