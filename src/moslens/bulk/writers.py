"""Where rows go: a stream, a results file that survives being killed, or a Parquet file."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Protocol

from moslens.bulk.rows import HEADERS, Row, csv_name, encode, read_rows
from moslens.errors import MissingExtra, OutputError
from moslens.system.lock import lock
from moslens.system.text import utf8


class Writer(Protocol):
    """Takes rows one by one."""

    def write(self, row: Row) -> None:
        """Take one row; it is out of this process's hands when the call returns, except with Parquet."""

    def close(self) -> None:
        """Finish what was written."""


class StreamWriter:
    """Rows to an open binary stream, each flushed as it is written."""

    def __init__(self, stream: IO[bytes], format: str) -> None:
        self._stream = stream
        self._format = format
        self._put(HEADERS[format])

    def write(self, row: Row) -> None:
        self._put(encode(row, self._format))

    def _put(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except BrokenPipeError:  # whoever read the rows has enough: no fault
            raise
        except OSError as error:
            raise OutputError(f"the rows cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is left to do."""


class FileWriter:
    """Rows to a file that one run at a time may write; each row is one append of one whole line.

    A file that already has content is refused, unless ``resume``: then its rows are read into ``done``,
    (path and model id to status), a half-written last line is cut off, and new rows go behind.
    """

    def __init__(self, path: str, format: str, *, resume: bool = False) -> None:
        self.done: dict[tuple[str, str], str] = {}
        self._path, self._format = path, format
        try:
            self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115 (closed in close)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", path) from error
        try:
            self._claim(resume)
        except BaseException:
            self._file.close()
            raise

    def _claim(self, resume: bool) -> None:
        status = os.fstat(self._file.fileno())
        if stat.S_ISREG(status.st_mode):
            lock(self._file.fileno(), self._path)
            if os.fstat(self._file.fileno()).st_size and not resume:
                raise OutputError("has content: --resume continues it, or remove it first", self._path)
        elif resume:
            raise OutputError("--resume needs a regular file", self._path)
        end = self._read_done() if resume else 0
        if end == 0:
            self._append(HEADERS[self._format])

    def _read_done(self) -> int:
        end = 0
        with Path(self._path).open("rb") as earlier:
            for row, row_end in read_rows(earlier, self._format, self._path):
                self.done[row["path"], row["model"]] = row["status"]
                end = row_end
            if end == 0:  # no row says yet whose file this is
                earlier.seek(0)
                begins = HEADERS["csv"] if self._format == "csv" else b'{"path": '
                head = earlier.read(len(begins))
                if not begins.startswith(head):
                    raise OutputError("not a results file, so nothing was added", self._path)
        self._file.truncate(end)
        return end

    def write(self, row: Row) -> None:
        self._append(encode(row, self._format))

    def _append(self, data: bytes) -> None:
        try:
            while data:  # a write may take only a part
                data = data[self._file.write(data) :]
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", self._path) from error

    def close(self) -> None:
        self._file.close()


def parquet() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises MissingExtra."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import pyarrow.parquet as pq  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtra("bulk", "pyarrow") from None
    return pa, pq


def parquet_schema() -> Any:
    """The pyarrow schema of rows."""
    pa, _ = parquet()
    number, text = pa.float64(), pa.string()
    box = {"x": pa.int64(), "y": pa.int64(), "width": pa.int64(), "height": pa.int64(), "score": number}
    kind = {"kind": text, "group": text, "severity": number, "share": number}
    return pa.schema(
        {
            "path": text,
            "status": text,
            **dict.fromkeys(("score", "low", "high"), number),
            **dict.fromkeys(("width", "height"), pa.int64()),
            "distortions": pa.list_(pa.struct(kind)),
            "worst_block": pa.struct(box),
            **dict.fromkeys(("model", "version"), text),
            "error": pa.struct({"code": text, "message": text}),
        }
    )


def parquet_table(rows: Iterable[Row]) -> Any:
    """Rows as a pyarrow table; paths as in CSV, broken bytes of messages as escapes."""
    cells = []
    for row in rows:
        error = row["error"] and {key: utf8(text) for key, text in row["error"].items()}
        cells.append({**row, "path": csv_name(row["path"]), "error": error})
    return parquet()[0].Table.from_pylist(cells, parquet_schema())


class ParquetWriter:
    """Rows to a Parquet file, by one run at a time, in groups of ``GROUP``; it takes its name when it is closed."""

    GROUP = 4096

    def __init__(self, path: str) -> None:
        _, pq = parquet()
        if os.path.lexists(path):
            raise OutputError("is there already: remove it first", path)
        self._rows: list[Row] = []
        self._path, self._scratch = Path(path), Path(f"{path}.part")
        try:
            self._held = self._scratch.open("ab")
            try:
                lock(self._held.fileno(), path)
                if os.path.lexists(path):  # another run has finished it meanwhile
                    raise OutputError("is there already: remove it first", path)
                self._writer = pq.ParquetWriter(self._scratch, parquet_schema())
            except BaseException:
                self._held.close()
                raise
        except OSError as error:
            raise self._refused(error) from error

    def write(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= self.GROUP:
            self._flush()

    def _flush(self) -> None:
        try:
            self._writer.write_table(parquet_table(self._rows))
        except OSError as error:
            raise self._refused(error) from error
        self._rows.clear()

    def close(self) -> None:
        with self._held:
            self._flush()
            try:
                self._writer.close()
                self._scratch.replace(self._path)
            except OSError as error:
                raise self._refused(error) from error

    def _refused(self, error: OSError) -> OutputError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return OutputError(f"cannot be written: {reason}", self._path)
