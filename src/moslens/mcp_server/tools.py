"""The tools: paths within the roots in, rows and pictures for a language model out.

A picture that cannot be used gives a row with its error. What ends a call as a whole is a :class:`Forbidden` or a
NoMapsError; their messages name nothing but what the client has sent. Calls are worked on one after the other.
"""

import io
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from moslens.errors import ImageError, MissingExtra
from moslens.mcp_server.roots import Forbidden, Listing, Roots
from moslens.picture.limits import MAX_PIXELS
from moslens.scoring.card import Card, shipped
from moslens.scoring.scorer import Scorer
from moslens.system.text import name_fields

OVERLAY = 1024
FAULT = "an internal error while the picture was worked on"
MEANING = "0 to 100, higher is better; low and high bound nine of ten mean opinions of people"


class Tools:
    """The tools over one scorer and the folders that may be read."""

    def __init__(self, scorer: Scorer, roots: Roots, *, max_pixels: int = MAX_PIXELS) -> None:
        self.scorer, self.roots, self.max_pixels = scorer, roots, max_pixels
        self._one_at_a_time = threading.Lock()

    def score(self, paths: Sequence[str]) -> dict[str, Any]:
        """The row of every picture, in order."""
        listing = self.roots.pictures(paths)
        return {**self._head(listing), "photos": self._rows(listing)}

    def compare(self, paths: Sequence[str]) -> dict[str, Any]:
        """The rows of all pictures, best first, each with its distance to the best; errors last."""
        listing = self.roots.pictures(paths)
        if len(listing.names) < 2:
            raise Forbidden("a comparison needs two photos or more")
        rows = self._rows(listing)
        ranked = sorted((row for row in rows if row["status"] == "ok"), key=lambda row: -row["score"])
        for row in ranked:
            row["points_below_best"] = round(ranked[0]["score"] - row["score"], 6)
            row["interval_overlaps_best"] = row["high"] >= ranked[0]["low"]
        return {**self._head(listing), "photos": ranked + [row for row in rows if row["status"] != "ok"]}

    def explain(self, path: str) -> tuple[dict[str, Any], bytes]:
        """The row of one picture, and its map drawn over it, with a legend, as a JPEG.

        Raises Forbidden, NoMapsError, and Forbidden for a picture that cannot be used.
        """
        listing = self.roots.pictures([path])
        if listing.names != [path]:
            raise Forbidden(f"{path}: a folder; name one photo")
        self.scorer.need_maps()
        (source,) = self.roots.sources(listing)
        with self._one_at_a_time:
            try:
                found = self.scorer.explain(source, max_pixels=self.max_pixels)
            except ImageError as error:
                raise Forbidden(FAULT if error.code == "internal" else error.message) from error
            file = io.BytesIO()
            found.overlay(OVERLAY).save(file, "JPEG", quality=85)
        return {**self._head(listing), "photo": found.to_score().to_row()}, file.getvalue()

    def pick(self, paths: Sequence[str], keep: int) -> dict[str, Any]:
        """Groups of near-duplicates, best first in each, as rows of ``moslens pick``, in which ``keep`` stay."""
        listing = self.roots.pictures(paths)
        rows = self._rows(listing)
        names = dict(zip(listing.files, listing.names, strict=True))
        files = list(names)  # a file that is named twice, or linked to, is one picture
        by_file = dict(zip(listing.files, rows, strict=True))
        with self._one_at_a_time:
            picks = find_pick()(files, [by_file[file] for file in files], keep=keep, max_pixels=self.max_pixels)
        found = [{**one.to_row(), **name_fields("path", names[one.path])} for one in picks]
        return {**self._head(listing), "photos": [_without_fault(row) for row in found]}

    def models(self) -> dict[str, Any]:
        """The model in use and the shipped ones, without their places."""
        cards = {card.id: card for card in (self.scorer.model.card, *map(Card.read, shipped().values()))}
        return {
            "in_use": self.scorer.model_id,
            "models": [
                {
                    "id": card.id,
                    "range": card.record.get("range", [0, 100]),
                    "direction": card.record.get("direction", "higher is better"),
                    "maps": card.explain is not None,
                    **{key: card.record.get(key) for key in ("licence", "trained_on", "limits", "metrics")},
                }
                for card in cards.values()
            ],
        }

    def _head(self, listing: Listing) -> dict[str, Any]:
        return {"scores": MEANING, **({"left_out": listing.left_out} if listing.left_out else {})}

    def _rows(self, listing: Listing) -> list[dict[str, Any]]:
        with self._one_at_a_time:
            sources: Iterable[Any] = self.roots.sources(listing)
            results = list(self.scorer.score_many(sources, max_pixels=self.max_pixels, folders=False))
        return [_without_fault(result.to_row()) for result in results]


def _without_fault(row: dict[str, Any]) -> dict[str, Any]:
    """The row; the message of an internal error, which may name anything, is replaced."""
    if row["error"] and row["error"]["code"] == "internal":
        return {**row, "error": {"code": "internal", "message": FAULT}}
    return row


def find_pick() -> Any:
    """The function of ``moslens pick``, or None where its extra is not installed."""
    from moslens.bulk.pick import need_image_hash, pick

    try:
        need_image_hash()
    except MissingExtra:
        return None
    return pick
