"""From rows of scores to ratings in sidecars, never over a rating that a person set."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from moslens.bulk.rows import RowLine
from moslens.errors import OutputError, SidecarError
from moslens.rating.plan import Change, Plan, write_sidecar
from moslens.rating.sidecars import Photo, read_sidecar
from moslens.rating.stars import Stars
from moslens.rating.xmp import (
    MICROSOFT_RATING,
    OUR_MODEL,
    OUR_PHOTO,
    OUR_RATING,
    OUR_SCORE,
    RATING,
    Packet,
    is_unrated,
    same_rating,
)
from moslens.system.text import name_fields, name_in, readable


class Action(StrEnum):
    """What is done to a sidecar."""

    create = "create"
    change = "change"
    same = "same"
    """It has this rating, score and model already."""
    keep = "keep"
    """A person rated the photo: nothing is written."""


@dataclass(frozen=True)
class Rated:
    """What a photo gets: one row of the output.

    ``score`` is 0 to 100, ``rating`` -1 (rejected) or 1 to 5 stars; both are None for an error and where a person rated
    the photo. ``before`` is the rating that was found, and ``where`` the file that it was found in. ``notes`` are those
    of the score; empty where it was taken from the sidecar.
    """

    path: str
    sidecar: str
    action: Action | None
    score: float | None = None
    rating: int | None = None
    before: str | None = None
    where: str | None = None
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    model: str = ""
    written: bool = False
    error: Mapping[str, str] | None = None

    def to_row(self) -> dict[str, Any]:
        """The row, ready for JSON. Bytes of names that are not UTF-8 are as in the rows of scores."""
        return {
            **name_fields("path", self.path),
            "status": "ok" if self.error is None else "error",
            **name_fields("sidecar", self.sidecar),
            "action": self.action,
            "score": self.score,
            "rating": self.rating,
            "before": self.before,
            **name_fields("where", self.where),
            "files": [readable(one) for one in self.files],
            "notes": list(self.notes),
            "model": self.model,
            "written": self.written,
            "error": self.error,
        }


@dataclass(frozen=True)
class _Found:
    """The sidecar of a photo as it is, and the rating of a person, if any, with the file that it is in."""

    data: bytes | None
    packet: Packet
    rating: str | None
    person: str | None
    where: str | None


class Rater:
    """A writer of rows (:class:`moslens.bulk.writers.Writer`) that rates photos.

    :meth:`to_score` gives the files that need a score. Each row goes to :meth:`write` in that order; when a photo has
    the rows of all its files, it is rated and ``on_photo`` gets the result. :meth:`finish` rates what needed no score.

    A photo needs none where a person rated it, and where its sidecar has a score by this model of a file with the same
    size and time. Sidecars change only with a ``plan``, which has each change before it is made; a sidecar that cannot
    be changed costs its photo an error. Raises OutputError where the plan cannot be written.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        stars: Stars,
        model_id: str,
        *,
        plan: Plan | None = None,
        overwrite: bool = False,
        on_photo: Callable[[Rated], None],
    ) -> None:
        self._photos, self._stars, self._model_id = photos, stars, model_id
        self._plan, self._overwrite, self._on_photo = plan, overwrite, on_photo
        self._waiting: deque[tuple[Photo, dict[str, str]]] = deque()  # with the stamps of the files to score
        self._rows: list[dict[str, Any]] = []

    def to_score(self) -> Iterator[str]:
        """The files to score, those of one photo behind each other. Another thread may take them."""
        for photo in self._photos:
            stamps = {path: _stamp(path) for path in photo.files} if self._needs_score(photo) else {}
            self._waiting.append((photo, stamps))
            yield from stamps

    def write(self, row: RowLine) -> None:
        """Take the row of the next file; rate the photos that have all their rows."""
        self._rate_ready()
        self._rows.append(row.to_row())
        self._rate_ready()

    def finish(self) -> None:
        """Rate the last photos, which needed no score."""
        self._rate_ready()

    def close(self) -> None:
        """Close the plan."""
        if self._plan is not None:
            self._plan.close()

    def _rate_ready(self) -> None:
        while self._waiting and len(self._rows) == len(self._waiting[0][1]):
            photo, stamps = self._waiting.popleft()
            rows, self._rows = self._rows, []
            self._on_photo(self._rate(photo, stamps, rows))

    def _needs_score(self, photo: Photo) -> bool:
        try:
            found = self._find(photo)
        except SidecarError:  # once more when it is the turn of the photo, which costs it an error row
            return False
        return found.person is None and self._recorded(photo, found) is None

    def _rate(self, photo: Photo, stamps: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> Rated:
        rated = Rated(photo.files[0], photo.sidecar, None, files=photo.files, model=self._model_id)
        try:
            found = self._find(photo)
            rated = replace(rated, before=found.rating)
            scored = next((row for row in rows if row["status"] == "ok"), None)
            if scored is not None:
                rated = replace(rated, path=name_in(scored), score=scored["score"], notes=tuple(scored["notes"]))
                record = stamps[rated.path]
                found = found if found.person is not None else self._look_inside(photo, found, rows)
            elif rows:
                return replace(rated, error=rows[0]["error"])
            else:
                rated = replace(rated, score=self._recorded(photo, found))
                record = found.packet.get(OUR_PHOTO) or ""
            if found.person is not None:
                return replace(rated, action=Action.keep, score=None, before=found.person, where=found.where)
            if rated.score is None:
                raise SidecarError("changed while this ran: run it once more", photo.sidecar)
            return self._apply(found, rated, record)
        except (SidecarError, OutputError) as error:
            if self._plan is not None and error.path == os.fspath(self._plan.path):
                raise
            return replace(rated, action=None, score=None, error={"code": error.code, "message": str(error)})

    def _apply(self, found: _Found, rated: Rated, record: str) -> Rated:
        assert rated.score is not None
        rating = self._stars.rating(rated.score)
        properties = {
            RATING: str(rating),
            OUR_RATING: str(rating),
            OUR_SCORE: f"{rated.score:.6f}",
            OUR_MODEL: readable(self._model_id),
            OUR_PHOTO: record,
        }
        rated = replace(rated, rating=rating)
        if all(found.packet.get(name) == value for name, value in properties.items()):
            return replace(rated, action=Action.same)
        try:
            data = found.packet.patched(properties)
        except SidecarError as error:
            raise SidecarError(error.message, rated.sidecar) from error
        change = Change.to(rated.sidecar, rated.files[0], found.data, data)
        rated = replace(rated, action=Action.create if found.data is None else Action.change)
        if self._plan is None:
            return rated
        self._plan.add(change)
        write_sidecar(rated.sidecar, data)
        return replace(rated, written=True)

    def _find(self, photo: Photo) -> _Found:
        """What the sidecars say. Raises SidecarError."""
        data = read_sidecar(photo.sidecar)
        packet = _packet(photo.sidecar, data)
        person, where = None, None
        if not self._overwrite:
            person, where = _by_person(packet), photo.sidecar
            ours = packet.get(OUR_RATING) or ""
            for other in photo.others:
                if person is None:
                    person, where = _by_person(_packet(other, read_sidecar(other))), other
                    if same_rating(person, ours):  # a copy of it, as of a duplicate that was made since
                        person = None
        rating = packet.get(RATING)
        return _Found(data, packet, rating, person, where if person is not None else None)

    def _look_inside(self, photo: Photo, found: _Found, rows: Sequence[Mapping[str, Any]]) -> _Found:
        """The same with a rating inside one of the files, which have these rows. Raises SidecarError."""
        if self._overwrite:
            return found
        from moslens.rating.embedded import embedded_rating

        decodes = {name_in(row): row["status"] == "ok" for row in rows}
        for path in (*photo.files, *photo.raws):
            rating = embedded_rating(path, decodes=decodes.get(path, False))
            if rating is not None:
                return replace(found, person=rating, where=path)
        return found

    def _recorded(self, photo: Photo, found: _Found) -> float | None:
        """The score in the sidecar, if it is by this model and of a file as it is now."""
        stamp = _stamp(photo.files[0])
        this_model = found.packet.get(OUR_MODEL) == readable(self._model_id)
        if not this_model or not stamp or found.packet.get(OUR_PHOTO) != stamp:
            return None
        with suppress(TypeError, ValueError):
            score = float(found.packet.get(OUR_SCORE))  # type: ignore[arg-type]
            return score if 0 <= score <= 100 else None
        return None


def _packet(path: str, data: bytes | None) -> Packet:
    try:
        return Packet() if data is None else Packet(data)
    except SidecarError as error:
        raise SidecarError(error.message, path) from error


def _by_person(packet: Packet) -> str | None:
    """The rating that a person set, None where there is none or it is the one that moslens recorded.

    Where moslens recorded a rating, another one is a person's, and so is none: the person removed it.
    """
    rating, ours = packet.get(RATING), packet.get(OUR_RATING)
    if ours is not None:
        return None if same_rating(rating, ours) else rating or "0"
    rating = packet.get(MICROSOFT_RATING) if rating is None else rating
    return None if is_unrated(rating) else rating


def _stamp(path: str) -> str:
    """Size in bytes and time of change in nanoseconds of a file, by which it is known again."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # scoring says what is wrong
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
