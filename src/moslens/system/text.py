"""Text from file names, made safe to print and to encode."""

from __future__ import annotations


def utf8(text: str) -> str:
    """Text that UTF-8 can hold: broken bytes as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    """Text that can be shown on a terminal: control characters and broken bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
