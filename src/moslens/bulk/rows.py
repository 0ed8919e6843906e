"""Rows to text and back: JSON lines, CSV, and the table for people."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from moslens.errors import OutputError
from moslens.scoring.result import COLUMNS
from moslens.system.text import name_in, printable

Row = Mapping[str, Any]

HEADERS = {
    "jsonl": b"",
    "csv": (",".join(COLUMNS) + "\n").encode(),
    "table": f"{'score':>6}  {'90 % interval':^15}  {'size':>11}  path\n".encode(),
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

    def encoded(self, format: str) -> bytes:
        """The row as a line of ``format``."""
        return self.line if format == "jsonl" else encode(self.to_row(), format)


def encode(row: Row, format: str) -> bytes:
    """One row as a line (``jsonl``, ``csv`` or ``table``), its newline included."""
    return {"jsonl": _jsonl, "csv": _csv, "table": _table}[format](row)


def _jsonl(row: Row) -> bytes:
    # ASCII only: no reader takes U+2028 for the end of a line.
    return json.dumps(row).encode("ascii") + b"\n"


def _csv(row: Row) -> bytes:
    cells = {name: json.dumps(row[name]) if isinstance(row[name], list | dict) else row[name] for name in COLUMNS}
    cells["path"] = csv_name(name_in(row))
    text = io.StringIO(newline="")
    # The csv module quotes "\r" and "\n" in a cell only where the line terminator has them.
    csv.DictWriter(text, COLUMNS, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n").encode("utf-8") + b"\n"


def csv_name(path: str | None) -> str | None:
    """A path for a CSV cell: itself; as JSON, in ASCII, where it is not UTF-8 or starts with ``"``.

    All rows of a CSV file have the same columns, so there is no ``path_base64``: ``\\udcXX`` in the JSON is byte XX.
    """
    if path is None:
        return None
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(path)
    return json.dumps(path) if path.startswith('"') else path


def path_of_csv_name(cell: str) -> str:
    """The path in a cell that :func:`csv_name` wrote. Raises ValueError for a cell that it cannot have written."""
    return str(json.loads(cell)) if cell.startswith('"') else cell


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
        line = f"{row['score']:6.1f}  {interval:^15}  {size:>11}  {printable(name_in(row) or '-')}"
    else:
        line = f"{'-':>6}  {row['error']['code']:^15}  {'':11}  {printable(row['error']['message'])}"
    return line.encode("utf-8") + b"\n"


def read_rows(file: IO[bytes], format: str, name: str) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows (path, model, status at least) of a results file, each with the byte offset of its end.

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
            row["model"], row["status"]
        except (ValueError, KeyError, TypeError) as error:
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
    row: dict[str, Any] = dict(zip(COLUMNS, cells, strict=True))
    row["path"] = path_of_csv_name(row["path"])
    return row
