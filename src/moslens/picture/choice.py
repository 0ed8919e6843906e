"""Which names of a folder are pictures to score, and how many are left out."""

import os
import re
from collections.abc import Iterator, Sequence

from moslens.picture.names import (
    DRAWING_SUFFIXES,
    PICTURE_SUFFIXES,
    REFUSED_SUFFIXES,
    is_raw_name,
    raw_doubles,
    suffix_of,
)

# Copies of file attributes by macOS (AppleDouble), caches of small pictures, and what was deleted or is not finished.
_CLUTTER = re.compile(
    r"\._.*|__macosx|\.appledouble|\.thumb(nail)?s?|\.@__thumb|@eadir|thumbs\.db"
    r"|\.trash.*|\.dtrash|\$recycle\.bin|#recycle|\.pending-.*",
    re.IGNORECASE,
)


class Choice:
    """Chooses among names, files and folders (which end in a separator), and counts what it leaves out."""

    def __init__(self) -> None:
        self._files = self._folders = self._raw = self._drawings = 0

    def without_clutter(self, names: Sequence[str], named: str = "") -> list[str]:
        """The names without thumbnails, trash and AppleDouble files, and without what lies in folders of these.

        What the argument ``named`` spells out stays.
        """
        wanted = set(named.split("/"))
        kept = []
        for name in names:
            parts = set(name.replace(os.sep, "/").split("/")) - wanted
            if not any(map(_CLUTTER.fullmatch, parts)):
                kept.append(name)
            elif _is_folder(name):
                self._folders += 1
            else:
                self._files += _is_picture(name)
        return kept

    def leave_out_folder(self) -> None:
        """Count a folder of made pictures that is not walked."""
        self._folders += 1

    def pictures(self, names: Sequence[str]) -> list[str]:
        """Folders, pictures, and raw files without a JPEG or HEIC of the same name beside them."""
        doubles = raw_doubles(names)
        kept = []
        for name in names:
            if name in doubles:
                self._raw += 1
            elif _is_folder(name) or _is_picture(name):
                kept.append(name)
            else:
                self._drawings += suffix_of(name) in DRAWING_SUFFIXES
        return kept

    def left_out(self) -> Iterator[str]:
        """A line for people on each sort of names that was left out."""
        if self._files or self._folders:
            counts = _count(self._files, "file"), _count(self._folders, "folder")
            yield (
                f"left out {' and '.join(filter(None, counts))} of thumbnails, maps, trash or macOS attributes (._*);"
                " what is named itself is scored"
            )
        if self._raw:
            yield f"left out {_count(self._raw, 'raw file')} with a JPEG or HEIC of the same name beside it"
        if self._drawings:
            counted = _count(self._drawings, "drawing or document", "drawings and documents")
            yield f"left out {counted} (such as .psd, .svg, .pdf)"


def _is_folder(name: str) -> bool:
    return name.endswith(("/", os.sep))


def _is_picture(name: str) -> bool:
    return suffix_of(name) in PICTURE_SUFFIXES or suffix_of(name) in REFUSED_SUFFIXES or is_raw_name(name)


def _count(number: int, word: str, plural: str = "") -> str:
    return f"{number:,} {word if number == 1 else plural or word + 's'}" if number else ""
