"""The result of scoring a picture, a score or a failure, and the output row of either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moslens import __version__
from moslens.errors import ImageError, InternalError
from moslens.system.text import name_fields, readable

DECIMALS = 6


@dataclass(frozen=True)
class Detail:
    """How good a picture is at 100 %, from tiles of at most 384 x 384 px at its native size.

    ``score`` is 0 to 100, higher is better. ``tiles`` are the places of the tiles (x, y, width, height in pixels of the
    upright picture) and their scores. ``distortions`` are as in :class:`Score`, each with its share of the tiles.
    """

    score: float
    tiles: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    distortions: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)

    def to_dict(self) -> dict[str, Any]:
        """The entry ``detail`` of an output row, ready for JSON."""
        return {
            "score": round(self.score, DECIMALS),
            "tiles": [dict(tile) for tile in self.tiles],
            "distortions": [dict(distortion) for distortion in self.distortions],
        }


@dataclass(frozen=True)
class Score:
    """One scored picture. ``score`` is 0 to 100, higher is better; ``low`` to ``high`` is its 90 % interval.

    ``width`` and ``height`` are those of the upright picture; ``path`` is None for a picture from memory.
    ``distortions`` and ``worst_block`` are those of :class:`moslens.QualityMap`, empty and None without a map. A
    distortion has its ``kind``, ``group``, ``label`` in plain words, ``kind_certain`` (False where the group alone is
    certain: ``kind`` is then a guess), mean ``severity`` (1 to 5) and ``share`` of the area (0 to 1).
    ``notes`` are codes of what a reader should know: ``hdr``, a PQ or HLG picture brought to the range of a screen;
    ``not_a_photo``; ``monochrome``; ``tiny``, fewer than 0.1 megapixel; ``preview``, that of a raw file. ``detail`` is
    None where it was not asked for, and for pictures up to twice the working size.

    Equal scores have equal hashes, so that results can be kept in sets; the faults and places, which are dicts, count
    for equality alone.
    """

    path: str | None
    score: float
    low: float
    high: float
    width: int
    height: int
    model: str
    distortions: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    worst_block: Mapping[str, Any] | None = field(default=None, hash=False)
    version: str = __version__
    notes: tuple[str, ...] = ()
    detail: Detail | None = None

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
            "notes": list(self.notes),
            "detail": None if self.detail is None else self.detail.to_dict(),
            "model": self.model,
            "version": self.version,
            "error": None,
        }

    def to_dict(self) -> dict[str, Any]:
        """:meth:`to_row`."""
        return self.to_row()

    def _repr_html_(self) -> str:
        from moslens.scoring.notebook import score_html

        return score_html(self)


@dataclass(frozen=True)
class Failure:
    """One picture that could not be scored, and why."""

    path: str | None
    error: ImageError
    model: str
    version: str = __version__

    @classmethod
    def of(cls, path: str | None, error: Exception, model: str) -> Failure:
        """The failure of a picture for any exception: one that is no ImageError becomes an InternalError."""
        if not isinstance(error, ImageError):
            error = InternalError.of(error, path)
        return cls(path, error, model)

    def to_row(self) -> dict[str, Any]:
        """The output row: the columns of a score's row, with ``error`` filled."""
        return {
            **name_fields("path", self.path),
            **dict.fromkeys(COLUMNS[1:]),
            "status": "error",
            "distortions": [],
            "notes": [],
            "model": self.model,
            "version": self.version,
            "error": {"code": self.error.code, "message": readable(self.error.message)},
        }

    def to_dict(self) -> dict[str, Any]:
        """:meth:`to_row`."""
        return self.to_row()


COLUMNS = tuple(Score(None, 0.0, 0.0, 0.0, 0, 0, "").to_row())
