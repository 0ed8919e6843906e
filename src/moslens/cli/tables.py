"""Tables as aligned text."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Rows of cells as lines of columns of equal width: the first ``left`` columns aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_cells(row, widths, left)).rstrip() for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int], left: int) -> list[str]:
    return [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
