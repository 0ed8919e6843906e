"""Which rows are written and in which order: ``--sort`` and ``--worst``. Rows are kept, never pictures."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from moslens.system.text import name_in

if TYPE_CHECKING:
    from moslens.bulk.rows import RowLine
    from moslens.bulk.writers import Writer

_SPARE_ROWS = 1024


class Sort(StrEnum):
    """By what rows are ordered: the score, worst first and errors last, or the path."""

    score = "score"
    path = "path"


@dataclass(frozen=True, slots=True)
class Selection:
    """The ``worst`` rows with the lowest scores (None: all) and every error row, ordered by ``sort``.

    Without ``sort`` the worst rows are ordered by score. A selection of neither is false, and keeps rows as they are.
    """

    sort: Sort | None = None
    worst: int | None = None

    def __bool__(self) -> bool:
        return self.sort is not None or self.worst is not None

    def places(self, keys: Sequence[tuple[float | None, str]]) -> list[int]:
        """Which rows, by their places, are written one after the other. A key is score (None: an error) and path."""
        scored = [(score, place) for place, (score, _) in enumerate(keys) if score is not None]
        errors = [place for place, (score, _) in enumerate(keys) if score is None]
        lowest = sorted(scored) if self.worst is None else heapq.nsmallest(self.worst, scored)
        chosen = [place for _, place in lowest] + errors
        if self.sort is Sort.path:
            return sorted(chosen, key=lambda place: (keys[place][1], place))
        return chosen if self else sorted(chosen)


class SelectingWriter:
    """Takes rows like another writer and gives that one the selected rows, in their order, when it is closed.

    It keeps all rows for ``sort``, and about twice as many as asked for ``worst``.
    """

    def __init__(self, writer: "Writer", selection: Selection) -> None:
        self._writer, self._selection = writer, selection
        self._rows: list[RowLine] = []
        self._keys: list[tuple[float | None, str]] = []
        self._scored = 0

    def write(self, row: "RowLine") -> None:
        fields = row.to_row()
        self._rows.append(row)
        self._keys.append((fields["score"], str(name_in(fields))))
        self._scored += row.status == "ok"
        worst = self._selection.worst
        if worst is not None and self._scored >= 2 * worst + _SPARE_ROWS:
            kept = sorted(Selection(worst=worst).places(self._keys))
            self._rows = [self._rows[place] for place in kept]
            self._keys = [self._keys[place] for place in kept]
            self._scored = worst

    def close(self) -> None:
        try:
            for place in self._selection.places(self._keys):
                self._writer.write(self._rows[place])
        finally:
            self._writer.close()
