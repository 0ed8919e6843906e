"""A memory budget: only a few large pictures are decoded at once, however many workers there are."""

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from itertools import count

LARGE_PIXELS = 16_000_000
"""Of pictures whose decoders hold more pixels than this, ``MemoryBudget.large`` are decoded at once."""

HUGE_PIXELS = 50_000_000
"""Of pictures whose decoders hold more pixels than this, one is decoded at a time."""


class MemoryBudget:
    """Locks for large pictures: ``large`` for those above ``LARGE_PIXELS``, one for those above ``HUGE_PIXELS``.

    Smaller pictures never wait. These are plain locks, because a ``threading.Semaphore`` is Python code: an interrupt
    in the middle of it would leave it taken.
    """

    def __init__(self, large: int = 4) -> None:
        self._count = large
        self._make_locks()
        if hasattr(os, "register_at_fork"):  # the threads that hold a lock at a fork do not exist in the child
            os.register_at_fork(after_in_child=self._make_locks)

    def _make_locks(self) -> None:
        self._large = [threading.Lock() for _ in range(self._count)]
        self._huge = threading.Lock()
        self._turns = count()

    def reserve(self, pixels: int) -> AbstractContextManager[object]:
        """The context in which a decoder may hold ``pixels`` pixels. Entering it waits until there is room."""
        if pixels <= LARGE_PIXELS:
            return nullcontext()
        return self._huge if pixels > HUGE_PIXELS else self._large[next(self._turns) % self._count]
