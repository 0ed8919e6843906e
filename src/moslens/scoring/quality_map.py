"""The quality map of a picture, from the same windows and the same forward pass as its score.

windows -> blocks of each -> one map (stitch.py) -> kind, group, severity, confidence of every cell -> QualityMap
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moslens.errors import InternalError, OutputError
from moslens.picture.windows import Pixels, iter_cover, window_origins
from moslens.scoring.card import BLOCK_OUTPUTS, BlockLabels, Calibration
from moslens.scoring.map_blocks import QualityBlock, lowest_block, summarize_kinds
from moslens.scoring.result import Score
from moslens.scoring.session import Model
from moslens.scoring.stitch import Stitched, Stitcher, pixel_cuts
from moslens.system.text import name_fields

if TYPE_CHECKING:
    from PIL import Image

Runner = Callable[[Callable[[Pixels], Any], Iterable[Pixels]], Iterable[Any]]


@dataclass(frozen=True)
class QualityMap:
    """A picture's score, and the quality and distortion of each of its blocks in reading order.

    ``width`` and ``height`` are those of the upright picture, which the blocks tile exactly. ``pixels`` is the picture
    at the working size, H x W x 3, for drawing. ``score``, ``low`` and ``high`` are those of :class:`moslens.Score`.
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
    blocks: tuple[QualityBlock, ...]
    pixels: Pixels = field(repr=False, compare=False)

    @property
    def distortions(self) -> tuple[dict[str, Any], ...]:
        """One row per named kind: kind, group, mean severity, share of the picture's area; largest share first."""
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
        )

    def to_json(self) -> str:
        """``to_dict`` as ASCII text, on one line."""
        return json.dumps(self.to_dict())

    def overlay(self, size: int = 1024, *, legend: bool = True) -> "Image.Image":
        """The map drawn over the picture, RGB, the longer side ``size`` px; ``legend`` adds a legend below."""
        from moslens.scoring.draw_map import draw

        return draw(self, size, legend=legend)

    def save_overlay(self, path: str | os.PathLike[str], size: int = 1024) -> None:
        """Write :meth:`overlay`, in the format that the extension names. OutputError where it cannot be written."""
        try:
            self.overlay(size).save(Path(path))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise OutputError(f"cannot be written: {reason}", path) from error


def read_windows(
    model: Model, pixels: Pixels, temperature: float, run: Runner = map, path: str | None = None
) -> tuple[list[float], Stitched]:
    """The raw score of every window of a picture at the working size, and the picture's stitched map.

    ``run`` maps a function over windows, as ``map`` or a pool's ``map`` does. Raises InternalError, which names
    ``path``, where the model gives a map that is not finite.
    """
    labels = model.card.explain
    assert labels is not None
    height, width = pixels.shape[:2]
    stitcher = Stitcher(height, width, labels.grid, temperature)
    origins = iter(window_origins(height, width))
    raws: list[float] = []

    def outputs(window: Pixels) -> list[NDArray[np.float32]]:
        return model.run(window, ("score", *BLOCK_OUTPUTS))

    for windows in iter_cover(pixels):
        scores, *blocks = (np.stack(values) for values in zip(*run(outputs, windows), strict=True))
        if not all(np.isfinite(values).all() for values in blocks):
            raise InternalError("the model gave a map that is not finite", path)
        raws += scores.tolist()
        stitcher.add(list(islice(origins, len(scores))), *blocks)
    return raws, stitcher.result()


def label_blocks(
    stitched: Stitched, labels: BlockLabels, calibration: Calibration, width: int, height: int
) -> tuple[QualityBlock, ...]:
    """The cells of a map as blocks of a picture of ``width`` x ``height`` px, in reading order."""
    rows, columns = stitched.score.shape
    down, across = pixel_cuts(height, rows), pixel_cuts(width, columns)
    fault = stitched.fault
    quality = stitched.score - labels.penalty * fault * stitched.level / 5
    blocks = []
    for row in range(rows):
        for column in range(columns):
            cell = stitched.probabilities[row, column]
            number = int(cell[:-1].argmax())
            named = bool(fault[row, column] >= labels.threshold)
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
                    confidence=float(cell[number] if named else cell[-1]),
                )
            )
    return tuple(blocks)
