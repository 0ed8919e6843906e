"""The pictures of a folder and of all folders below it, in a fixed order.

Paths stay the strings they came as: rows repeat them as given, and ``pathlib`` would tidy them.
"""

# ruff: noqa: PTH116, PTH118

import logging
import os
from collections.abc import Callable, Iterator

from moslens.picture.choice import Choice
from moslens.system.files import CACHE_TAG, is_marked_as_made

logger = logging.getLogger(__name__)


def walk(
    folder: str, choice: Choice | None = None, *, may_enter: Callable[[str], bool] = lambda folder: True
) -> Iterator[str]:
    """Every picture in and below the folder that ``choice`` takes, as ``sorted`` would order the full paths.

    A folder reached twice (a link, a loop) is walked once; one below it that ``may_enter`` declines, or that is
    marked as made from other files, not at all. A folder that cannot be listed is given as a path itself, so that it
    gets an error row.
    """
    choice = choice or Choice()
    seen: set[tuple[int, int]] = set()
    # With the separator behind its name a folder sorts where the full paths of its members would.
    top = os.path.join(folder, "")
    pending = [top]
    while pending:
        path = pending.pop()
        if not path.endswith(os.sep):
            yield path
            continue
        try:
            if not may_enter(path) or not first_time(path, seen):
                continue
            names = [_name_in_walk(entry) for entry in os.scandir(path)]
            if path != top and CACHE_TAG in names and is_marked_as_made(path):
                choice.leave_out_folder()
                continue
            names = choice.pictures(choice.without_clutter(names))
        except OSError as error:
            logger.warning("cannot list %r: %s", path, error.strerror)
            yield path
            continue
        pending.extend(path + name for name in sorted(names, reverse=True))


def first_time(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Whether the folder, by any name or link, is not in ``seen``; it is added."""
    status = os.stat(folder)
    identity = status.st_dev, status.st_ino
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _name_in_walk(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return entry.name + os.sep
    except OSError:  # a link to itself is no folder; as a picture it gets an error row
        pass
    return entry.name
