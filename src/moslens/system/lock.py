"""Locks that keep a second run from writing to the same file or folder."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from moslens.errors import OutputError

logger = logging.getLogger(__name__)


def lock(descriptor: int, path: str) -> None:
    """Lock an open file or folder until it is closed or the process ends. Raises OutputError if another run has it."""
    try:
        import fcntl
    except ImportError:  # no such lock on Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError("another run is writing to it", path) from None
    except OSError as error:
        logger.warning("%s: cannot be locked (%s); make sure that only one run writes to it", path, error.strerror)


@contextmanager
def locked_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock an existing folder for the block. Raises OutputError where another run has it."""
    if os.name == "nt":  # folders cannot be opened there
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, os.fspath(folder))
        yield
    finally:
        os.close(descriptor)
