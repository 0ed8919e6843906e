"""Writers of rows: to a stream, to a results file that a killed run leaves whole, to a Parquet file."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol

from moslens.bulk.rows import HEADERS, Row, RowLine, fault_columns, read_rows
from moslens.bulk.selection import Selection
from moslens.errors import MissingExtra, OutputError
from moslens.system.files import whole_file
from moslens.system.lock import lock

Span = tuple[int, int]
"""Where a line of a file begins and ends, in bytes."""


class Writer(Protocol):
    """Takes rows one by one."""

    def write(self, row: RowLine) -> None:
        """Write one row. When the call returns, the system has it and a kill cannot lose it, except with Parquet."""

    def close(self) -> None:
        """Finish the output."""


class StreamWriter:
    """Rows to an open binary stream, each flushed as it is written."""

    def __init__(self, stream: IO[bytes], format: str) -> None:
        self._stream = stream
        self._format = format
        self._put(HEADERS[format])

    def write(self, row: RowLine) -> None:
        self._put(row.encoded(self._format))

    def _put(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except BrokenPipeError:  # the reader has ended, as in "moslens score ... | head": no error
            raise
        except OSError as error:
            raise OutputError(f"the rows cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Do nothing: every row is flushed, and the stream belongs to the caller."""


class FileWriter:
    """Rows to a file that only one run at a time may write. Each row is one append of one whole line.

    A file that has content is refused without ``resume``. With it the rows of the file are read into ``done``
    ((path, model id) to score, None for an error), an unfinished last line is cut off, and new rows are appended.
    Raises OutputError.
    """

    def __init__(self, path: str, format: str, *, resume: bool = False) -> None:
        self.done: dict[tuple[str, str], float | None] = {}
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
                self.done[row["path"], row["model"]] = row["score"]
                end = row_end
            if end == 0:  # without a row only the first bytes tell whether this is a results file
                earlier.seek(0)
                begins = HEADERS["csv"] if self._format == "csv" else b'{"path": '
                head = earlier.read(len(begins))
                if not begins.startswith(head):
                    raise OutputError("not a results file, so nothing was added", self._path)
        self._file.truncate(end)
        return end

    def write(self, row: RowLine) -> None:
        self._append(row.encoded(self._format))

    def _append(self, data: bytes) -> None:
        try:
            while data:  # a write may take only a part of it
                data = data[self._file.write(data) :]
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", self._path) from error

    def select(self, selection: Selection, model_id: str) -> None:
        """Replace the file by the selected rows of this model, in their order; rows of other models stay before them.

        The file is as it was until the new one is whole. Raises OutputError.
        """
        lines = SelectedLines(self._path, self._format, selection, model_id)
        _replace_rows(self._path, self._format, chain(lines.of_other_models(), lines))

    def close(self) -> None:
        self._file.close()


class SelectedLines:
    """The lines of the selected rows of a model in a results file, in their order. Only places are kept in memory.

    ``scored`` and ``failed`` count those with a score and the errors. Raises OutputError.
    """

    def __init__(self, path: str, format: str, selection: Selection, model_id: str) -> None:
        self._path = path
        mine: list[Span] = []
        keys: list[tuple[float | None, str]] = []
        self._others: list[Span] = []
        with Path(path).open("rb") as file:
            for row, span in _spans(file, format, path):
                if row["model"] == model_id:
                    mine.append(span)
                    keys.append((row["score"], row["path"]))
                else:
                    self._others.append(span)
        places = selection.places(keys)
        self._selected = [mine[place] for place in places]
        self.failed = sum(keys[place][0] is None for place in places)
        self.scored = len(places) - self.failed

    def __iter__(self) -> Iterator[bytes]:
        return _lines(self._path, self._selected)

    def of_other_models(self) -> Iterator[bytes]:
        """The lines of the rows of other models, as they stand in the file."""
        return _lines(self._path, self._others)


def drop_errors(path: str, format: str, model_id: str) -> None:
    """Take the errors of this model out of a results file, so that a run that resumes tries these pictures again.

    The file is as it was until the new one is whole; nothing happens where there is none. Raises OutputError, also
    where another run writes it.
    """
    if not Path(path).is_file():
        return
    kept: list[Span] = []
    failed = False
    with Path(path).open("r+b") as file:
        lock(file.fileno(), path)
        for row, span in _spans(file, format, path):
            if row["model"] == model_id and row["score"] is None:
                failed = True
            else:
                kept.append(span)
        if failed:
            _replace_rows(path, format, _lines(path, kept))


def _replace_rows(path: str, format: str, lines: Iterable[bytes]) -> None:
    """Replace a results file by one of these lines. A link stays a link, and what it leads to is replaced."""
    with whole_file(Path(path).resolve()) as scratch, scratch.open("wb") as replaced:
        replaced.write(HEADERS[format])
        replaced.writelines(lines)


def _spans(file: IO[bytes], format: str, path: str) -> Iterator[tuple[Row, Span]]:
    """Every whole row of a results file, with the place of its line."""
    start = len(HEADERS[format])
    for row, end in read_rows(file, format, path):
        yield row, (start, end)
        start = end


def _lines(path: str, spans: Iterable[Span]) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        for start, end in spans:
            file.seek(start)
            yield file.read(end - start)


def parquet() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises MissingExtra."""
    try:
        import pyarrow as pa  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import pyarrow.parquet as pq  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ModuleNotFoundError:
        raise MissingExtra("bulk", "pyarrow", alone=True) from None
    return pa, pq


def parquet_schema() -> Any:
    """The pyarrow schema of rows."""
    pa, _ = parquet()
    number, text = pa.float64(), pa.string()
    box = {"x": pa.int64(), "y": pa.int64(), "width": pa.int64(), "height": pa.int64(), "score": number}
    names = {"kind": text, "group": text, "label": text, "kind_certain": pa.bool_()}
    kinds = pa.list_(pa.struct({**names, "severity": number, "share": number}))
    detail = {"score": number, "tiles": pa.list_(pa.struct(box)), "distortions": kinds}
    return pa.schema(
        {
            "path": text,
            "path_base64": text,
            "status": text,
            **dict.fromkeys(("score", "low", "high"), number),
            **dict.fromkeys(("width", "height"), pa.int64()),
            "distortions": kinds,
            "worst_block": pa.struct(box),
            "notes": pa.list_(text),
            "detail": pa.struct(detail),
            **dict.fromkeys(("model", "version"), text),
            "error": pa.struct({"code": text, "message": text}),
            **{"fault": text, "fault_group": text, "fault_label": text, "fault_kind_certain": pa.bool_()},
            **{"fault_severity": number, "fault_share": number},
        }
    )


def parquet_table(rows: Iterable[Row]) -> Any:
    """Rows as a pyarrow table, with the columns of the first fault; ``path_base64`` is null in rows without it."""
    return parquet()[0].Table.from_pylist([{**row, **fault_columns(row)} for row in rows], parquet_schema())


class Scratch:
    """``PATH.part``, which one run at a time may write, and which takes the name ``PATH`` when it is finished.

    One that is closed before it is finished is removed. Unlike :func:`~moslens.system.files.whole_file`, a second run
    finds the scratch file locked and leaves it where it is. Raises OutputError where ``PATH`` is there already.
    """

    _locked = False

    def __init__(self, path: str) -> None:
        self._target, self.path = Path(path), Path(f"{path}.part")
        self._refuse_existing()
        try:
            self._held = self.path.open("ab")
        except OSError as error:
            raise self.refused(error) from error
        try:
            lock(self._held.fileno(), path)
            self._locked = True
            self._refuse_existing()  # another run may have finished it since the check above
        except BaseException:
            self.close()
            raise

    def _refuse_existing(self) -> None:
        if os.path.lexists(self._target):
            raise OutputError("is there already: remove it first", self._target)

    def finish(self) -> None:
        try:
            self.path.replace(self._target)
        except OSError as error:
            raise self.refused(error) from error
        self._locked = False

    def close(self) -> None:
        if self._locked:
            self.path.unlink(missing_ok=True)
        self._held.close()

    def refused(self, error: OSError) -> OutputError:
        """The error of the output for one of the system."""
        reason = os.strerror(error.errno) if error.errno else str(error)
        return OutputError(f"cannot be written: {reason}", self._target)


class ParquetWriter:
    """Rows to a Parquet file, in groups of ``GROUP``. The file takes its name when the writer is closed.

    Until then it is ``PATH.part``, which one run at a time may write. Raises OutputError, MissingExtra.
    """

    GROUP = 4096

    def __init__(self, path: str) -> None:
        _, pq = parquet()
        self._rows: list[RowLine] = []
        self._scratch = Scratch(path)
        try:
            self._writer = pq.ParquetWriter(self._scratch.path, parquet_schema())
        except OSError as error:
            self._scratch.close()
            raise self._scratch.refused(error) from error

    def write(self, row: RowLine) -> None:
        self._rows.append(row)
        if len(self._rows) >= self.GROUP:
            self._flush()

    def _flush(self) -> None:
        try:
            self._writer.write_table(parquet_table(row.to_row() for row in self._rows))
        except OSError as error:
            raise self._scratch.refused(error) from error
        self._rows.clear()

    def close(self) -> None:
        with closing(self._scratch):
            self._flush()
            try:
                self._writer.close()
            except OSError as error:
                raise self._scratch.refused(error) from error
            self._scratch.finish()
