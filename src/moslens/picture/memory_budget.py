"""Lanes for the few pictures whose decoders hold very many pixels: more workers need no more memory for them."""

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from itertools import count

LARGE = 16_000_000
HUGE = 50_000_000
"""Pixels from which a picture shares a lane with others of its like, or the one lane of the huge."""


class Lanes:
    """``large`` lanes for pictures above ``LARGE`` pixels and one for those above ``HUGE``; the others never wait.

    A lane is a plain lock: entering and leaving it cannot be torn by an interrupt.
    """

    def __init__(self, large: int = 4) -> None:
        self._count = large
        self._open()
        if hasattr(os, "register_at_fork"):  # what other threads held at a fork is never given back in the child
            os.register_at_fork(after_in_child=self._open)

    def _open(self) -> None:
        self._large = [threading.Lock() for _ in range(self._count)]
        self._huge = threading.Lock()
        self._turns = count()

    def of(self, pixels: int) -> AbstractContextManager[object]:
        """What to hold while a decoder holds so many pixels."""
        if pixels <= LARGE:
            return nullcontext()
        return self._huge if pixels > HUGE else self._large[next(self._turns) % self._count]
