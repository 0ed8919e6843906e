"""Text from file names, made safe to print and to write as JSON, and the name that is closest to a wrong one."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

_NOT_PLAIN = ('"', "=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")


def readable(text: str) -> str:
    """``text`` that every reader of UTF-8 and JSON takes: U+FFFD for each byte that is not UTF-8."""
    return _NOT_UTF8.sub("\ufffd", text)


def name_fields(key: str, name: str | None) -> dict[str, str | None]:
    """``name`` as rows hold it: {``key``: name}, with U+FFFD for each byte that is not UTF-8.

    Where there is such a byte, ``key_base64`` holds the bytes of the name. :func:`name_in` gives the name back.
    """
    if name is None or (text := readable(name)) == name:
        return {key: name}
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair, which comes from no file system
        data = name.encode("utf-8", "surrogatepass")
    return {key: text, f"{key}_base64": base64.b64encode(data).decode("ascii")}


def name_in(row: Mapping[str, Any], key: str = "path") -> Any:
    """The name that :func:`name_fields` wrote into a row. Raises KeyError, ValueError or TypeError for another row."""
    shown, data = row[key], row.get(f"{key}_base64")
    return shown if data is None else os.fsdecode(base64.b64decode(data, validate=True))


def csv_name(path: str | None) -> str | None:
    """A path for a CSV cell: itself; as JSON, in ASCII, where it is not UTF-8 or begins like no plain name.

    All rows of a CSV file have the same columns, so there is no ``path_base64``: ``\\udcXX`` in the JSON is byte XX.
    A cell that begins with ``=`` or its like would be a formula in a spreadsheet, which could send or run something.
    """
    if path is None:
        return None
    plain = readable(path) == path and not path.startswith(_NOT_PLAIN)
    return path if plain else json.dumps(path)


def path_of_csv_name(cell: str) -> str:
    """The path in a cell that :func:`csv_name` wrote. Raises ValueError for a cell that it cannot have written."""
    return str(json.loads(cell)) if cell.startswith('"') else cell


def printable(text: str) -> str:
    """``text`` for a terminal: control characters and undecodable bytes become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str, name: str | None = None) -> str:
    """``text`` of several lines for a terminal, each as of :func:`printable`; newlines in ``name`` become escapes."""
    lines = text.replace(name, printable(name)) if name else text
    return "\n".join(map(printable, lines.split("\n")))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The names that are spelled alike, as a question with a space behind it; "" where there is none."""
    near = get_close_matches(name, list(known), n=3)
    return f"did you mean {', '.join(near)}? " if near else ""
