"""Text from file names, made safe to print and to encode."""

from __future__ import annotations


def utf8(text: str) -> str:
    """``text`` that UTF-8 can encode: undecodable bytes become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    """``text`` for a terminal: control characters and undecodable bytes become escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
