"""The result of scoring a picture, a score or a failure, and the output row of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moslens import __version__
from moslens.errors import ImageError
from moslens.system.text import name_fields, readable

DECIMALS = 6


@dataclass(frozen=True)
class Score:
    """One scored picture. ``score`` is 0 to 100, higher is better; ``low`` to ``high`` is its 90 % interval.

    ``width`` and ``height`` are those of the upright picture; ``path`` is None for a picture from memory.
    ``distortions`` and ``worst_block`` are those of :class:`moslens.QualityMap`, empty and None without a map.
    """

    path: str | None
    score: float
    low: float
    high: float
    width: int
    height: int
    model: str
    distortions: tuple[Mapping[str, Any], ...] = ()
    worst_block: Mapping[str, Any] | None = None
    version: str = __version__

    def to_row(self) -> dict[str, Any]:
        """The output row, ready for JSON; scores to six decimals.

        In a path that is not UTF-8, U+FFFD stands for each byte that cannot be read, and ``path_base64`` has the bytes.
        """
        return {
            **name_fields("path", self.path),
            "status": "ok",
            "score": round(self.score, DECIMALS),
            "low": round(self.low, DECIMALS),
            "high": round(self.high, DECIMALS),
            "width": self.width,
            "height": self.height,
            "distortions": [dict(distortion) for distortion in self.distortions],
            "worst_block": None if self.worst_block is None else dict(self.worst_block),
            "model": self.model,
            "version": self.version,
            "error": None,
        }


@dataclass(frozen=True)
class Failure:
    """One picture that could not be scored, and why."""

    path: str | None
    error: ImageError
    model: str
    version: str = __version__

    def to_row(self) -> dict[str, Any]:
        """The output row: the columns of a score's row, with ``error`` filled."""
        return {
            **name_fields("path", self.path),
            **dict.fromkeys(COLUMNS[1:]),
            "status": "error",
            "distortions": [],
            "model": self.model,
            "version": self.version,
            "error": {"code": self.error.code, "message": readable(self.error.message)},
        }


COLUMNS = tuple(Score(None, 0.0, 0.0, 0.0, 0, 0, "").to_row())
