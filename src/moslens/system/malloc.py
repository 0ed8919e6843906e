"""How glibc treats freed memory; no effect with another C library."""

import ctypes
import sys

# malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def keep_freed_memory() -> None:
    """Keep freed memory, so that a training step on a CPU need not get it from the system again, page by page."""
    _set((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28))


def give_back_large_blocks() -> None:
    """Return large blocks to the system at once; else every thread that decoded a huge picture keeps its memory."""
    _set((_M_MMAP_THRESHOLD, 2**22))


def _set(*options: tuple[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in options:
            mallopt(option, value)
