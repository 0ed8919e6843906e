"""How good a picture is at 100 %: tiles at its native size, each scored like a picture of its own.

What is out of focus on purpose is no fault, so two groups of tiles decide:

- Sharpness (``SHARPNESS``: the kinds of blur and low resolution) is that of the best tiles, the third with the highest
  scores. Blur is named where they have it.
- Noise, compression and all other kinds are those of all tiles. The score is the mean over all tiles but those that are
  blurred and not among the best.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moslens.errors import InternalError
from moslens.picture.tiles import Tile
from moslens.scoring.map_blocks import QualityBlock, summarize_kinds
from moslens.scoring.result import Detail
from moslens.scoring.session import Model

SHARPNESS = ("blur", "resolution")
"""The groups of kinds that the best tiles decide."""

BEST = 3
"""One tile of so many is among the best, at least one."""

BLURRED = 0.5
"""A tile is blurred where a kind of ``SHARPNESS`` is named on more than this share of its area."""

LEAST_SHARE = 0.1
"""A fault on a smaller share of the tiles that decide is not named."""


@dataclass(frozen=True)
class ScoredTile:
    """A tile, its raw quality, and its blocks (none where the model makes no maps)."""

    tile: Tile
    raw: float
    blocks: tuple[QualityBlock, ...] = ()

    @property
    def blurred(self) -> bool:
        """Whether most of it is named as unsharp."""
        area = sum(block.width * block.height for block in self.blocks)
        unsharp = sum(block.width * block.height for block in self.blocks if block.group in SHARPNESS)
        return unsharp > BLURRED * area


def summarize_tiles(tiles: Sequence[ScoredTile], score: Callable[[float], float]) -> Detail:
    """The detail of a picture from its tiles, at least one; ``score`` is the calibration from raw quality to 0-100."""
    ranked = sorted(tiles, key=lambda one: -one.raw)
    best = ranked[: max(1, len(ranked) // BEST)]
    counted = best + [one for one in ranked[len(best) :] if not one.blurred]
    return Detail(
        score=score(math.fsum(one.raw for one in counted) / len(counted)),
        tiles=tuple({**one.tile.box._asdict(), "score": round(score(one.raw), 4)} for one in tiles),
        distortions=_named(tiles, best),
    )


def _named(tiles: Sequence[ScoredTile], best: Sequence[ScoredTile]) -> tuple[Mapping[str, Any], ...]:
    sharpness = [row for row in _summary(best) if row["group"] in SHARPNESS]
    others = [row for row in _summary(tiles) if row["group"] not in SHARPNESS]
    named = [row for row in sharpness + others if row["share"] >= LEAST_SHARE]
    return tuple(sorted(named, key=lambda row: (-row["share"], row["kind"])))


def _summary(tiles: Sequence[ScoredTile]) -> tuple[dict[str, Any], ...]:
    return summarize_kinds([block for one in tiles for block in one.blocks])


def read_tile(
    model: Model, tile: Tile, run: Callable[..., Any], path: str | None, *, maps: bool, monochrome: bool = False
) -> ScoredTile:
    """Score one tile as a picture of its own. ``run`` as for ``read_pieces``, ``monochrome`` as for ``label_blocks``.

    Raises InternalError.
    """
    from moslens.scoring.quality_map import in_batches, label_blocks, read_pieces

    labels = model.card.explain
    blocks: tuple[QualityBlock, ...] = ()
    if maps and labels is not None:
        raws, stitched = read_pieces(model, tile.pixels, labels.temperature, run, path)
        raw = math.fsum(raws) / len(raws)
        size = tile.box.width, tile.box.height
        blocks = label_blocks(stitched, labels, model.card.calibration, *size, raw=raw, monochrome=monochrome)
    else:
        batches = in_batches(model.card.view.pieces(tile.pixels))
        raws = [float(raw) for batch in batches for (raw,) in run(model.run, batch)]
        raw = math.fsum(raws) / len(raws)
    if not math.isfinite(raw):
        raise InternalError("the model gave no finite score", path)
    return ScoredTile(tile, raw, blocks)
