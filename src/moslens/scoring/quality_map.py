"""The quality map of a picture, from the same pieces and the same forward pass as its score.

windows or a whole picture -> blocks of each -> one map (stitch.py) -> kind, group, severity, confidence of every cell
-> QualityMap
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moslens.errors import InternalError, OutputError
from moslens.picture.windows import Piece, Pixels
from moslens.scoring.card import BLOCK_OUTPUTS, LIKELY, PRESUMED_SHARE, BlockLabels, Calibration
from moslens.scoring.map_blocks import QualityBlock, lowest_block, summarize_kinds
from moslens.scoring.result import Detail, Score
from moslens.scoring.session import Model
from moslens.scoring.stitch import Stitched, Stitcher, pixel_cuts
from moslens.system.text import name_fields

if TYPE_CHECKING:
    from PIL import Image

Runner = Callable[[Callable[[Piece], Any], Iterable[Piece]], Iterable[Any]]


@dataclass(frozen=True)
class QualityMap:
    """A picture's score, and the quality and distortion of each of its blocks in reading order.

    ``width`` and ``height`` are those of the upright picture, which the blocks tile exactly. ``pixels`` is the picture
    at the working size, H x W x 3, for drawing. ``score``, ``low``, ``high``, ``notes`` and ``detail`` are those of
    :class:`moslens.Score`.
    """

    path: str | None
    score: float
    low: float
    high: float
    model: str
    width: int
    height: int
    rows: int
    columns: int
    blocks: tuple[QualityBlock, ...] = field(repr=False)
    pixels: Pixels = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()
    detail: Detail | None = None

    @property
    def distortions(self) -> tuple[dict[str, Any], ...]:
        """A row for each named kind, the largest share of the area first: see :class:`moslens.Score`."""
        return summarize_kinds(self.blocks)

    @property
    def worst_block(self) -> dict[str, Any]:
        """Place and score of the block with the lowest score."""
        return lowest_block(self.blocks)

    def to_dict(self) -> dict[str, Any]:
        """The map as ``moslens explain`` writes it, ready for JSON."""
        return {
            **name_fields("path", self.path),
            "score": round(self.score, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "model": self.model,
            "width": self.width,
            "height": self.height,
            "distortions": [dict(distortion) for distortion in self.distortions],
            "notes": list(self.notes),
            "detail": None if self.detail is None else self.detail.to_dict(),
            "grid": {
                "rows": self.rows,
                "columns": self.columns,
                "blocks": [block.to_dict() for block in self.blocks],
            },
        }

    def to_score(self) -> Score:
        """The result that :meth:`moslens.Scorer.score` gives for this picture."""
        return Score(
            self.path,
            self.score,
            self.low,
            self.high,
            self.width,
            self.height,
            self.model,
            self.distortions,
            self.worst_block,
            notes=self.notes,
            detail=self.detail,
        )

    def to_json(self) -> str:
        """``to_dict`` as ASCII text, on one line."""
        return json.dumps(self.to_dict())

    def _repr_html_(self) -> str:
        from moslens.scoring.notebook import map_html

        return map_html(self)

    def overlay(self, size: int = 1024, *, legend: bool = True) -> "Image.Image":
        """The map drawn over the picture, RGB, the longer side ``size`` px; ``legend`` adds a legend below.

        With a legend it is never narrower than the legend. Raises ValueError for a ``size`` below 1.
        """
        if size < 1:
            raise ValueError(f"size is the longer side in pixels, from 1 up, not {size}")
        from moslens.scoring.draw_map import draw

        return draw(self, size, legend=legend)

    def save_overlay(self, path: str | os.PathLike[str], size: int = 1024) -> None:
        """Write :meth:`overlay`, in the format that the extension names. OutputError where it cannot be written."""
        try:
            self.overlay(size).save(Path(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise OutputError(f"cannot be written: {reason}", path) from error


def read_pieces(
    model: Model, pixels: Pixels, temperature: float, run: Runner = map, path: str | None = None
) -> tuple[list[float], Stitched]:
    """The raw score of every piece of a picture at the working size, and the picture's stitched map.

    ``run`` maps a function over pieces, as ``map`` or a pool's ``map`` does. Raises InternalError, which names
    ``path``, where the model gives a map that is not finite.
    """
    labels = model.card.explain
    assert labels is not None
    view = model.card.view
    height, width = pixels.shape[:2]
    stitcher = Stitcher(height, width, view, labels.grid, temperature)
    raws: list[float] = []

    def outputs(piece: Piece) -> tuple[Piece, list[NDArray[np.float32]]]:
        return piece, model.run(piece, ("score", *BLOCK_OUTPUTS))

    for pieces in in_batches(view.pieces(pixels)):
        for piece, (score, *blocks) in run(outputs, pieces):
            if not all(np.isfinite(values).all() for values in blocks):
                raise InternalError("the model gave a map that is not finite", path)
            raws.append(float(score))
            stitcher.add(piece, *blocks)
    return raws, stitcher.result()


def in_batches(pieces: Iterator[Piece], batch: int = 16) -> Iterator[list[Piece]]:
    """Lists of at most ``batch`` pieces: bounded memory for pictures of any length."""
    while found := list(islice(pieces, batch)):
        yield found


def label_blocks(
    stitched: Stitched,
    labels: BlockLabels,
    calibration: Calibration,
    width: int,
    height: int,
    *,
    raw: float,
    score: float | None = None,
    monochrome: bool = False,
) -> tuple[QualityBlock, ...]:
    """The cells of a map as blocks of a picture of ``width`` x ``height`` px, in reading order.

    ``raw``: the raw score of the picture, the mean of its blocks by their weights. ``score``: its score, which says
    whether something is wrong with it for certain; None where it is part of a picture. In a ``monochrome`` picture no
    kind of colour is named.
    """
    if monochrome:
        stitched = stitched.without(labels.of_colour)
    rows, columns = stitched.score.shape
    down, across = pixel_cuts(height, rows), pixel_cuts(width, columns)
    quality = stitched.score - labels.penalty * stitched.fault * stitched.level / 5
    quality = with_mean(quality, stitched.weight, raw)
    bad = score is not None and score < labels.faulty_below
    names = name_cells(stitched.probabilities.reshape(rows * columns, -1), labels, bad=bad)
    blocks = []
    for place, (number, confidence) in enumerate(zip(names.kinds, names.confidence, strict=True)):
        row, column = divmod(place, columns)
        named = number >= 0
        blocks.append(
            QualityBlock(
                x=across[column],
                y=down[row],
                width=across[column + 1] - across[column],
                height=down[row + 1] - down[row],
                score=calibration.score(float(quality[row, column])),
                weight=float(stitched.weight[row, column]),
                kind=labels.kinds[number] if named else None,
                group=labels.groups[number] if named else None,
                severity=float(stitched.level[row, column]) if named else None,
                confidence=float(confidence),
                kind_certain=not named or int(number) in names.certain,
            )
        )
    return tuple(blocks)


def with_mean(values: NDArray[np.floating], weights: NDArray[np.floating], mean: float) -> NDArray[np.float64]:
    """``values`` moved by one amount, so that ``mean`` is their mean by ``weights`` (sum 1, of the same shape)."""
    moved: NDArray[np.float64] = values + (mean - (weights * values).sum())
    return moved


class CellNames(NamedTuple):
    """``kinds``: for each cell of a picture the place of the kind that names it, -1 for none. ``confidence``: of the
    name, or that there is no fault. ``certain``: the kinds that are certain themselves, not their group alone."""

    kinds: NDArray[np.int64]
    confidence: NDArray[np.float64]
    certain: frozenset[int]


def name_cells(cells: NDArray[np.float64], labels: BlockLabels, *, bad: bool = False) -> CellNames:
    """Names for the cells of one picture (cells x kinds + 1 probabilities), see :class:`BlockLabels`.

    Where a group alone is certain, all its cells get the same kind: the one that most cells of the picture have for
    certain or, where none has, the likeliest in these cells together. ``bad``: the score of the picture is below
    ``faulty_below``. A group whose names rest on that alone has to be named in ``PRESUMED_SHARE`` of the cells.
    """
    names = _named_where(cells, labels, labels.threshold)
    if not bad:
        return names
    sound = cells[:, -1]
    likely = 1.0 - sound >= LIKELY
    presumed = _named_where(cells / np.where(likely, 1.0 - sound, 1.0)[:, None], labels, LIKELY, sound)
    groups = np.array([*labels.groups, ""])  # -1, no name, is the last
    wide = {g for g in labels.groups if (groups[presumed.kinds] == g).mean() >= PRESUMED_SHARE}
    kept = np.isin(groups[presumed.kinds], sorted(wide))
    return CellNames(
        np.where(kept, presumed.kinds, names.kinds),
        np.where(kept, presumed.confidence, names.confidence),
        names.certain | frozenset(kind for kind in presumed.certain if labels.groups[kind] in wide),
    )


def _named_where(
    cells: NDArray[np.float64], labels: BlockLabels, threshold: float, sound: NDArray[np.float64] | None = None
) -> CellNames:
    """Names for the cells where a fault has a probability of ``threshold``; ``sound``: that of none, else the last."""
    sound = cells[:, -1] if sound is None else sound
    faulty = 1.0 - sound >= threshold
    best = cells[:, :-1].argmax(axis=1)
    chance = cells[np.arange(len(cells)), best]
    sure = faulty & (chance >= labels.certainty)
    kinds = np.where(sure, best, -1)
    confidence = np.where(sure, chance, sound)
    certain = frozenset(map(int, kinds[sure]))
    groups = np.array(labels.groups)
    for group, members in labels.members.items():
        shares = cells[:, members].sum(axis=1)
        here = faulty & ~sure & (shares >= labels.group_certainty) & (kinds < 0)
        if here.any():
            known = kinds[sure & (groups[best] == group)]
            if len(known):
                kind = int(np.bincount(known).argmax())
            else:
                kind = members[int(cells[here][:, members].sum(axis=0).argmax())]
            kinds[here], confidence[here] = kind, shares[here]
    return CellNames(kinds, confidence, certain)
