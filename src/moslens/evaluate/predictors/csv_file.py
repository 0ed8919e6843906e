"""A CSV file of predictions, or the JSON lines of ``moslens score``, as a source."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from moslens.bulk import rows as bulk_rows
from moslens.data.csv_set import cell_number, loose_name, raise_problems, read_rows
from moslens.data.records import Dataset
from moslens.errors import DatasetError, OutputError
from moslens.evaluate.predictors.base import Part, Prediction, test_parts
from moslens.system.text import csv_name, path_of_csv_name

_IMAGE_COLUMNS = ("image", "path", "name")
_VALUE_COLUMNS = ("prediction", "score")


class TableSource:
    """A CSV file with columns ``image`` and ``prediction``, and optionally ``low`` and ``high``; or rows as JSON lines.

    ``image`` may also be called path or name, and ``prediction`` score, as ``moslens score --format csv`` writes them.
    Pictures with a row whose ``status`` is error have no prediction, see :meth:`failed`. A picture is named as in the
    data set, by a path that ends in its file name, or by its file name. DatasetError for a file without rows or
    columns, or with values that are wrong.
    """

    made = "given"
    config: Mapping[str, Any] = {}

    def __init__(self, path: Path) -> None:
        self.model = path.name
        self._path = path
        self._rows = _rows_of_lines(path) if path.suffix.lower() == ".jsonl" else read_rows(path, ())
        header = self._rows[0][1] if self._rows else {}
        self._image = self._column(header, _IMAGE_COLUMNS)
        self._value = self._column(header, _VALUE_COLUMNS)
        self.identity = json.dumps([path.name, path.stat().st_size, path.stat().st_mtime])
        self._read: tuple[Dataset, dict[int, Prediction | None]] | None = None

    def _column(self, header: Mapping[str, str], names: Sequence[str]) -> str:
        found = [name for name in names if name in header]
        if not self._rows:
            raise DatasetError("no rows below the header", self._path)
        if not found:
            raise DatasetError(f"row 1: no column {' or '.join(names)}; the header is {', '.join(header)}", self._path)
        return found[0]

    def _predictions(self, dataset: Dataset) -> dict[int, Prediction]:
        return {index: row for index, row in self._matched(dataset).items() if row is not None}

    def failed(self, dataset: Dataset) -> list[int]:
        """The pictures that could not be scored: ``moslens score`` wrote an error into their row."""
        return [index for index, row in self._matched(dataset).items() if row is None]

    def _matched(self, dataset: Dataset) -> dict[int, Prediction | None]:
        """What the row of each picture says, None for an error."""
        if self._read is None or self._read[0] is not dataset:
            self._read = (dataset, self._match(dataset))
        return self._read[1]

    def _match(self, dataset: Dataset) -> dict[int, Prediction | None]:
        places: dict[str, int | None] = {}
        for i, sample in enumerate(dataset.samples):
            names = {sample.path.name, PurePath(sample.name).name}
            for name in (names | {loose_name(name) for name in (*names, sample.name)}) - {sample.name}:
                places[name] = None if name in places else i
        places |= {sample.name: i for i, sample in enumerate(dataset.samples)}
        problems: list[str] = []
        rows: dict[int, int] = {}
        found: dict[int, Prediction | None] = {}
        for n, row in self._rows:
            name = _name(row[self._image])
            loose = loose_name(name)
            ways = (name, PurePath(name).name, loose, PurePath(loose).name)
            index = next((places[way] for way in ways if way in places), None)
            if index is None:
                problems.append(f"row {n}, column {self._image}: {row[self._image]!r} is none of {dataset.name}")
            elif index in rows:
                problems.append(f"row {n}, column {self._image}: {row[self._image]} is already in row {rows[index]}")
            if row.get("status") == "error":
                if index is not None:
                    rows.setdefault(index, n)
                    found[index] = None
                continue
            value = cell_number(row[self._value], f"row {n}, column {self._value}", problems)
            low, high = (
                cell_number(row[name], f"row {n}, column {name}", problems) if row.get(name) else None
                for name in ("low", "high")
            )
            if low is not None and high is not None and low > high:
                problems.append(f"row {n}, column low: {low:g} is above high, {high:g}")
            if index is not None:
                rows.setdefault(index, n)
                found[index] = Prediction(value, low, high)
        raise_problems(problems, self._path)
        return found

    def parts(self, dataset: Dataset, seeds: Sequence[int]) -> list[Part]:
        """The test part of every seed, then all pictures where all have a prediction."""
        found = self._predictions(dataset)
        parts = test_parts(dataset, seeds, "all")
        missing = sorted({i for part in parts for i in part.indices if i not in found})
        if missing:
            first = ", ".join(dataset.samples[i].name for i in missing[:5])
            raise DatasetError(
                f"no prediction for {len(missing)} pictures of the test parts asked for, such as {first}", self._path
            )
        if len(found) == len(dataset.samples):
            parts.append(Part(None, tuple(range(len(dataset.samples))), "all"))
        return parts

    def protocol(self, dataset: Dataset) -> str:
        return f"given predictions on the test parts of splits of {dataset.name}, and on all of it"

    def warnings(self, dataset: Dataset, seeds: Sequence[int]) -> list[str]:
        return ["it is not known whether these pictures were used in training"]

    def predict(self, dataset: Dataset, key: str, indices: Sequence[int]) -> Iterator[tuple[int, Prediction]]:
        """Raises DatasetError for a picture without a row."""
        found = self._predictions(dataset)
        missing = [dataset.samples[i].name for i in indices if i not in found]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DatasetError(f"no row for {missing[0]}{more}", self._path)
        yield from ((i, found[i]) for i in indices)


def _rows_of_lines(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The numbered rows of ``moslens score``, as cells of its CSV. DatasetError where they are no such rows."""
    found: list[tuple[int, dict[str, str]]] = []
    try:
        with path.open("rb") as file:
            for row, _ in bulk_rows.read_rows(file, "jsonl", str(path)):
                values = {name: "" if row[name] is None else str(row[name]) for name in ("score", "low", "high")}
                found.append((len(found) + 1, {"path": str(csv_name(row["path"])), "status": row["status"], **values}))
    except OSError as error:
        raise DatasetError(error.strerror or str(error), path) from None
    except (OutputError, KeyError) as error:
        raise DatasetError(f"row {len(found) + 1} is not a row of moslens score", path) from error
    return found


def _name(cell: str) -> str:
    try:
        return PurePath(path_of_csv_name(cell)).as_posix()
    except ValueError:  # a quote that no row of ours begins with
        return PurePath(cell).as_posix()
