"""One block of a quality map, and summaries over its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moslens.scoring.labels import fault_label, group_label


@dataclass(frozen=True, slots=True)
class QualityBlock:
    """A rectangle of the upright picture, in its pixels, with its quality and distortion.

    ``score``: 0 to 100, the quality of this block alone; a likely fault lowers it by up to the card's ``penalty``.
    ``weight``: its share in the picture's score; all weights sum to 1. ``kind`` and ``group``: None where no
    fault that the model knows was found. ``severity``: 1 to 5 as in ``moslens distortions``, or None. ``confidence``:
    the calibrated probability of ``kind``, or, where it is None, that there is no fault that the model knows.
    ``kind_certain``: False where the group alone is certain. Then ``kind`` is the likeliest of the group,
    ``confidence`` is that of the group, and ``label`` names the group. In :meth:`to_dict` it is None without a kind.
    """

    x: int
    y: int
    width: int
    height: int
    score: float
    weight: float
    kind: str | None
    group: str | None
    severity: float | None
    confidence: float
    kind_certain: bool = True

    @property
    def label(self) -> str | None:
        """Plain words for the fault: for its kind, or for its group where no more than that is certain."""
        if self.kind is None or self.group is None:
            return None
        return fault_label(self.kind) if self.kind_certain else group_label(self.group)

    def to_dict(self) -> dict[str, Any]:
        return {
            "x": self.x,
            "y": self.y,
            "width": self.width,
            "height": self.height,
            "score": round(self.score, 4),
            "weight": round(self.weight, 6),
            "kind": self.kind,
            "group": self.group,
            "label": self.label,
            "kind_certain": None if self.kind is None else self.kind_certain,
            "severity": None if self.severity is None else round(self.severity, 2),
            "confidence": round(self.confidence, 4),
        }


def summarize_kinds(blocks: Iterable[QualityBlock]) -> tuple[dict[str, Any], ...]:
    """One row per named kind, as in :attr:`moslens.QualityMap.distortions`; severity is a mean weighted by area.

    Blocks of which the group alone is certain count for the kind that has the largest area of their group, a certain
    one before others. So maps of several tiles of a picture give one row where each has its own guess. ``kind_certain``
    of a row: whether its kind is certain in one of its blocks. Where it is not, the group alone is.
    """
    blocks = tuple(blocks)
    total = sum(block.width * block.height for block in blocks)
    named = [block for block in blocks if block.kind is not None]
    areas: dict[tuple[str | None, bool, str | None], int] = {}
    for block in named:
        key = block.group, block.kind_certain, block.kind
        areas[key] = areas.get(key, 0) + block.width * block.height
    main: dict[str | None, str | None] = {}
    for group, _, kind in sorted(areas, key=lambda key: (not key[1], -areas[key], str(key[2]))):
        main.setdefault(group, kind)
    found: dict[str | None, list[QualityBlock]] = {}
    for block in named:
        found.setdefault(block.kind if block.kind_certain else main[block.group], []).append(block)
    rows = []
    for kind, members in found.items():
        sizes = [block.width * block.height for block in members]
        severity = math.fsum(a * (b.severity or 0.0) for a, b in zip(sizes, members, strict=True)) / sum(sizes)
        rows.append(
            {
                "kind": kind,
                "group": members[0].group,
                "label": next((one.label for one in members if one.kind_certain), members[0].label),
                "kind_certain": any(one.kind_certain for one in members),
                "severity": round(severity, 2),
                "share": round(sum(sizes) / total, 4),
            }
        )
    return tuple(sorted(rows, key=lambda row: (-float(str(row["share"])), str(row["kind"]))))


def lowest_block(blocks: Iterable[QualityBlock]) -> dict[str, Any]:
    """Place and score of the block with the lowest score, as in :attr:`moslens.QualityMap.worst_block`."""
    block = min(blocks, key=lambda one: one.score)
    row: Mapping[str, Any] = block.to_dict()
    return {key: row[key] for key in ("x", "y", "width", "height", "score")}
