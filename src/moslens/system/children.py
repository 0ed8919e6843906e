"""Child processes that import nothing from the current folder: pictures may lie beside a ``json.py``.

Python puts the current folder first on the import path of ``python -c`` and ``python -m``, which is how programs start
Python. ``PYTHONSAFEPATH`` and ``-P`` leave it out (https://docs.python.org/3/using/cmdline.html#cmdoption-P).
"""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import moslens

_VARIABLE = "PYTHONSAFEPATH"


def leave_out_current_folder() -> None:
    """Every Python that this process starts from now on has no current folder on its import path."""
    os.environ[_VARIABLE] = "1"


@contextmanager
def without_current_folder() -> Iterator[None]:
    """The same for a block, in which multiprocessing or another library starts Python."""
    before = os.environ.get(_VARIABLE)
    leave_out_current_folder()
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


class PathWithoutCurrentFolder(list[str]):
    """An import path that ``extend`` keeps free of the current folder."""

    def extend(self, entries: Iterable[str]) -> None:
        super().extend(entry for entry in entries if not _is_current_folder(entry))


def import_path() -> list[str]:
    """``sys.path`` without the current folder, for a child. The place of moslens comes last, so that it is found."""
    kept = [entry for entry in sys.path if not _is_current_folder(entry)]
    place = str(Path(moslens.__path__[0]).parent)
    return kept if place in kept else [*kept, place]


def end_with_parent(parent: int) -> None:
    """Have this process killed when ``parent`` ends, also while a library holds the interpreter's lock (Linux)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def _is_current_folder(entry: str) -> bool:
    return os.path.realpath(entry or os.curdir) == os.path.realpath(os.curdir)
