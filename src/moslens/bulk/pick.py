"""Pick the best of near-duplicates: scored pictures, their fingerprints, groups, and which to keep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslens.bulk.engine import AnyScorer, RunCounts, score_all
from moslens.bulk.rows import Row, RowLine, from_flat, path_in_parquet, read_rows
from moslens.bulk.stores import is_url, source
from moslens.bulk.writers import FileWriter, parquet
from moslens.errors import ImageError, InternalError, MissingExtra, OutputError
from moslens.picture.limits import MAX_PIXELS
from moslens.picture.names import raw_doubles
from moslens.scoring.result import COLUMNS, Failure
from moslens.system.cores import available_cores
from moslens.system.interrupts import Interrupts
from moslens.system.ordered_pool import ordered
from moslens.system.text import name_fields, name_in

if TYPE_CHECKING:
    from moslens.picture.capture import Capture
    from moslens.picture.fingerprint import Fingerprint

LIKENESS_DECIMALS = 3


@dataclass(slots=True)
class Pick:
    """A picture with its row of ``score``. ``group`` and ``place`` count from 1, None outside groups.

    ``keep`` is None where the picture could not be read. ``likeness`` is to the one with the best score
    of the group. ``moved_to`` is where it was moved or copied.
    """

    path: str
    row: Row
    capture: Capture | None = None
    group: int | None = None
    place: int | None = None
    keep: bool | None = None
    likeness: float | None = None
    moved_to: str | None = None

    def to_row(self) -> dict[str, Any]:
        """The output row: what was picked, and the columns of ``score``."""
        taken = self.capture.taken if self.capture else None
        return {
            "group": self.group,
            "place": self.place,
            "keep": self.keep,
            "likeness": None if self.likeness is None else round(self.likeness, LIKENESS_DECIMALS),
            "taken": None if taken is None else taken.isoformat(),
            **name_fields("moved_to", self.moved_to),
            **self.row,
        }


def need_image_hash() -> None:
    """Raises MissingExtra where the package of the perceptual hashes is not installed."""
    try:
        import imagehash  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra("pick", error.name or "imagehash") from None


def distinct_files(paths: Iterable[str]) -> list[str]:
    """The paths without those that lead to a file that is among them already: the first name of a file stays."""
    seen: set[str] = set()
    kept = []
    for path in paths:
        real = path if is_url(path) else os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            kept.append(path)
    return kept


def one_of_each_photo(paths: Sequence[str]) -> list[str]:
    """The paths without raw files whose JPEG or HEIC is among them too."""
    doubles = raw_doubles(paths)
    return [path for path in paths if path not in doubles]


def score_rows(
    scorer: AnyScorer,
    paths: Sequence[str],
    counts: RunCounts,
    *,
    scores: str | None = None,
    format: str = "jsonl",
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_row: Callable[[], None] = lambda: None,
) -> list[Row]:
    """The row of ``score`` of every path, in order.

    ``scores`` is a file of rows in ``format``. Pictures that have a row in it are not scored again. In ``jsonl`` and
    ``csv`` rows of others go behind, as with ``score --output --resume``; ``parquet`` is only read. Raises OutputError.
    """
    wanted = set(paths)
    found: dict[str, Row] = {}
    writer: FileWriter | _Rows
    if scores is None or format == "parquet":
        rows = () if scores is None else _parquet_rows(scores)
        found = {path: row for path, row in rows if path in wanted and row["model"] == scorer.model_id}
        writer = _Rows({(path, scorer.model_id): row["score"] for path, row in found.items()})
    else:
        writer = FileWriter(scores, format, resume=True)
    try:
        score_all(
            scorer, paths, writer, counts, done=writer.done, workers=workers, max_pixels=max_pixels, on_row=on_row
        )
    finally:
        writer.close()
    for path, row in _file_rows(str(scores), format) if isinstance(writer, FileWriter) else writer.rows():
        if path in wanted and row["model"] == scorer.model_id:
            found[path] = row
    return [found[path] for path in paths]


def _file_rows(scores: str, format: str) -> Iterator[tuple[str, Row]]:
    """The rows of a jsonl or csv file with their paths. Raises OutputError."""
    with Path(scores).open("rb") as file:
        for row, _ in read_rows(file, format, scores):
            path = row["path"]
            try:
                yield path, {**(from_flat(row) if format == "csv" else row), **name_fields("path", path)}
            except (ValueError, KeyError) as error:
                raise OutputError(f"the row of {path} is not a row of results", scores) from error


def _parquet_rows(scores: str) -> Iterator[tuple[str, Row]]:
    """The rows of a Parquet file with their paths. Raises OutputError."""
    _, pq = parquet()
    try:
        batches = pq.ParquetFile(scores).iter_batches()
        for row in (row for batch in batches for row in batch.to_pylist()):
            path = path_in_parquet(row)
            yield path, {**{name: row[name] for name in COLUMNS}, **name_fields("path", path)}
    except FileNotFoundError as error:
        raise OutputError("no such file; new rows are kept in jsonl and csv files only", scores) from error
    except (OSError, ValueError, KeyError) as error:  # of pyarrow, whose errors are ValueErrors
        raise OutputError(f"not a file of results ({error})", scores) from error


class _Rows:
    """A writer that keeps the rows. ``done`` is that of :class:`~moslens.bulk.writers.FileWriter`."""

    def __init__(self, done: dict[tuple[str, str], float | None]) -> None:
        self.done = done
        self._lines: list[RowLine] = []

    def write(self, row: RowLine) -> None:
        self._lines.append(row)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """The rows with their paths."""
        return ((str(name_in(row)), row) for row in (line.to_row() for line in self._lines))

    def close(self) -> None:
        """Do nothing."""


def pick(
    paths: Sequence[str],
    rows: Sequence[Row],
    *,
    keep: int = 1,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_picture: Callable[[], None] = lambda: None,
) -> list[Pick]:
    """Group near-duplicates among scored pictures: the groups, each best first, then all others in the order given.

    ``rows`` are those of the paths. ``keep`` of each group are kept, and every picture outside the groups.
    Copies of less than half the pixels of the largest in their group come behind the others. Groups are
    in the order in which their first member was given. A row with an error stays as it is; a picture that is not
    readable any more becomes one. Raises MissingExtra.
    """
    from moslens.bulk.near_duplicates import near_duplicates

    need_image_hash()
    picks = [Pick(path, row) for path, row in zip(paths, rows, strict=True)]
    prints: dict[str, Fingerprint] = {}
    good = [one for one in picks if one.row["status"] == "ok"]
    for one, found in zip(good, _fingerprints(good, workers, max_pixels, on_picture), strict=True):
        if isinstance(found, ImageError):
            one.row = Failure(one.path, found, one.row["model"]).to_row()
            continue
        one.capture, one.keep = found.capture, True
        prints[one.path] = found
    given = {one.path: number for number, one in enumerate(picks)}
    ranked = sorted((one for one in picks if one.path in prints), key=lambda one: (*rank(one.row), one.path))
    groups = near_duplicates([prints[one.path] for one in ranked])
    groups.sort(key=lambda group: min(given[ranked[member.index].path] for member in group))
    for number, group in enumerate(groups, 1):
        sizes = {member.index: pixels_of(ranked[member.index].row) for member in group}
        group.sort(key=lambda member: 2 * sizes[member.index] < max(sizes.values()))
        for place, member in enumerate(group, 1):
            one = ranked[member.index]
            one.group, one.place, one.likeness, one.keep = number, place, member.likeness, place <= keep
    inside = sorted((one for one in picks if one.group is not None), key=lambda one: (one.group, one.place))
    return inside + [one for one in picks if one.group is None]


def pixels_of(row: Row) -> int:
    """How many pixels the picture of a row has."""
    return int(row["width"]) * int(row["height"])


def rank(row: Row) -> tuple[float, ...]:
    """What a picture is ranked by, the best first: its score, its detail, its faults.

    A difference of less than a point of the score says nothing, so scores are taken to the whole point. Then comes the
    score of the detail, for which a picture without one has its own score, then the severity of the named faults times
    their share of the picture, then the score to all its digits.
    """
    score = float(row["score"])
    detail = row.get("detail")
    faults = sum(float(fault["severity"]) * float(fault["share"]) for fault in row["distortions"])
    return (-round(score), -(float(detail["score"]) if detail else score), faults, -score)


def _fingerprints(
    picks: Sequence[Pick], workers: int | None, max_pixels: int, on_picture: Callable[[], None]
) -> Iterator[Fingerprint | ImageError]:
    from moslens.picture.fingerprint import fingerprint

    def attempt(one: Pick) -> Fingerprint | ImageError:
        try:
            return fingerprint(source(one.path), max_pixels=max_pixels)
        except ImageError as error:
            return error
        except Exception as error:  # one bad picture must not end the run; its row reports the error
            return InternalError.of(error, one.path)

    count = workers or available_cores()
    with closing(ordered(attempt, picks, count, 2 * count)) as found, Interrupts():
        for result in found:
            yield result
            on_picture()


def refuse_urls(paths: Iterable[str]) -> None:
    """Raises OutputError for a picture that is not on a disk of this machine: only files are moved and copied."""
    for path in paths:
        if is_url(path):
            raise OutputError("only files on this machine can be moved or copied", path)
