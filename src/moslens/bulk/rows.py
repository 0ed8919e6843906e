"""Rows to text and back: JSON lines, CSV, and the table for people."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from moslens.errors import OutputError
from moslens.scoring.labels import detail_words, distortion_label, note_words
from moslens.scoring.result import COLUMNS
from moslens.system.text import csv_name, name_in, path_of_csv_name, printable

Row = Mapping[str, Any]

FAULT_COLUMNS = ("fault", "fault_group", "fault_label", "fault_kind_certain", "fault_severity", "fault_share")
"""Columns that flat formats have beside those of a row, of the first fault: kind, group, label, whether the kind is
certain and no guess within the group, severity (1 to 5) and share."""
FLAT_COLUMNS = (
    *(column for name in COLUMNS for column in (("detail_score", name) if name == "detail" else (name,))),
    *FAULT_COLUMNS,
)
"""The columns of a row, before ``detail`` its score by itself, and those of the first fault."""

HEADERS = {
    "jsonl": b"",
    "csv": (",".join(FLAT_COLUMNS) + "\n").encode(),
    "table": f"{'score':>6}  {'90 % interval':^15}  {'size':>11}  {'faults':<24}  path\n".encode(),
}


@dataclass(frozen=True, slots=True)
class RowLine:
    """A row as its line of ``jsonl``, and its status. It is parsed only where another format is written."""

    status: str
    line: bytes

    @classmethod
    def of(cls, row: Row) -> "RowLine":
        return cls(row["status"], encode(row, "jsonl"))

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(self.line)
        return row

    @property
    def score(self) -> float | None:
        """The score, None in the row of an error."""
        return None if self.status != "ok" else float(json.loads(self.line)["score"])

    def encoded(self, format: str) -> bytes:
        """The row as a line of ``format``."""
        return self.line if format == "jsonl" else encode(self.to_row(), format)


def encode(row: Row, format: str) -> bytes:
    """One row as a line (``jsonl``, ``csv`` or ``table``), its newline included."""
    return {"jsonl": _jsonl, "csv": _csv, "table": _table}[format](row)


def fault_columns(row: Row) -> dict[str, Any]:
    """``FAULT_COLUMNS`` of a row, from the first of its distortions; all None where it has none."""
    if not row.get("distortions"):
        return dict.fromkeys(FAULT_COLUMNS)
    first = row["distortions"][0]
    certain = first.get("kind_certain")  # rows of version 0.1 do not say
    values = first["kind"], first["group"], distortion_label(first), certain, first["severity"], first["share"]
    return dict(zip(FAULT_COLUMNS, values, strict=True))


def flat(row: Row) -> dict[str, Any]:
    """The row by ``FLAT_COLUMNS``; lists and dicts as JSON."""
    cells = {name: json.dumps(row[name]) if isinstance(row[name], list | dict) else row[name] for name in COLUMNS}
    return cells | {"detail_score": row["detail"] and row["detail"]["score"]} | fault_columns(row)


def _jsonl(row: Row) -> bytes:
    # ASCII only: no reader takes U+2028 for the end of a line.
    return json.dumps(row).encode("ascii") + b"\n"


def _csv(row: Row) -> bytes:
    cells = flat(row) | {"path": name_in(row)}
    # A model folder names its model and kinds, so these cells are no safer than names of files.
    for name in ("path", "model", "fault", "fault_group", "fault_label"):
        cells[name] = csv_name(cells[name])
    if cells["fault_kind_certain"] is not None:
        cells["fault_kind_certain"] = json.dumps(cells["fault_kind_certain"])  # true or false, as in JSON
    text = io.StringIO(newline="")
    # The csv module quotes "\r" and "\n" in a cell only where the line terminator has them.
    csv.DictWriter(text, FLAT_COLUMNS, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n").encode("utf-8") + b"\n"


def from_flat(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The row behind the cells of a CSV line as :func:`read_rows` gives them. Raises ValueError or KeyError."""
    row = {name: cells[name] for name in COLUMNS}
    kinds: dict[str, Callable[[Any], Any]] = dict.fromkeys(("low", "high"), float)
    kinds |= dict.fromkeys(("width", "height"), int)
    kinds |= dict.fromkeys(("distortions", "worst_block", "notes", "detail", "error"), json.loads)
    for name, kind in kinds.items():
        row[name] = kind(row[name]) if row[name] else None
    return row


def path_in_parquet(row: Row) -> str:
    """The path in a row of a Parquet file: ours, of an earlier version (no column ``path_base64``), or any list."""
    if "path_base64" in row:
        return str(name_in(row))
    try:
        return path_of_csv_name(str(row["path"]))
    except ValueError:
        return str(row["path"])


def _table(row: Row) -> bytes:
    if row["status"] == "ok":
        interval = f"{row['low']:.1f} - {row['high']:.1f}"
        size = f"{row['width']} x {row['height']}"
        faults = printable(", ".join(map(distortion_label, row["distortions"]))) or "-"
        line = f"{row['score']:6.1f}  {interval:^15}  {size:>11}  {faults:<24}  {printable(name_in(row) or '-')}"
        if beside := beside_score(row):
            line += f"  ({'; '.join(beside)})"
    else:
        line = f"{'-':>6}  {row['error']['code']:^15}  {'':11}  {'':24}  {printable(row['error']['message'])}"
    return line.encode("utf-8") + b"\n"


def beside_score(row: Row) -> list[str]:
    """What tables and pages say beside the score of a row: how good it is at 100 %, and its notes in words."""
    detail = row.get("detail")
    words = [detail_words(detail["score"], detail["distortions"])] if detail else []
    return words + note_words(row.get("notes") or ())


def read_rows(file: IO[bytes], format: str, name: str) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows (path, model, status, score at least) of a results file, each with the byte offset of its end.

    ``path`` is the name as the system has it, its bytes that are not UTF-8 as surrogates.
    A last line without its newline is left out: the run was killed while it wrote it. Raises OutputError, with
    ``name``, for a whole line that is no row of this format.
    """
    lines = _whole_csv_lines(file) if format == "csv" else (line for line in file if line.endswith(b"\n"))
    end = 0
    for number, line in enumerate(lines, 1):
        end += len(line)
        if format == "csv" and number == 1:
            if line != HEADERS["csv"]:
                raise OutputError("not a results file of this version: its first line is another header", name)
            continue
        try:
            row = _parse_csv(line) if format == "csv" else json.loads(line)
            row["path"] = name_in(row)
            row["score"] = float(row["score"]) if row["status"] == "ok" else None
            row["model"] = str(row["model"])
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise OutputError(f"row {number} is not a row of results, so nothing was added", name) from error
        yield row, end


def _whole_csv_lines(file: Iterable[bytes]) -> Iterator[bytes]:
    record = b""
    for line in file:
        record += line
        # An odd number of quotes so far: the newline is inside a quoted cell.
        if record.count(b'"') % 2 == 0 and record.endswith(b"\n"):
            yield record
            record = b""


def _parse_csv(line: bytes) -> dict[str, Any]:
    (cells,) = csv.reader(io.StringIO(line.decode("utf-8"), newline=""))
    row: dict[str, Any] = dict(zip(FLAT_COLUMNS, cells, strict=True))
    row["path"], row["model"] = path_of_csv_name(row["path"]), path_of_csv_name(row["model"])
    return row
