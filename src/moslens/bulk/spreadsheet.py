"""Rows to an Excel workbook: a sheet with the columns of CSV, a frozen header and a filter on each column."""

import json
import sys
import traceback
from contextlib import closing
from tempfile import TemporaryDirectory
from typing import Any

from moslens.bulk.rows import FLAT_COLUMNS, RowLine, flat
from moslens.bulk.writers import Scratch
from moslens.errors import MissingExtra, OutputError
from moslens.system.text import name_in, readable

MOST_ROWS = (1 << 20) - 1
"""A sheet holds 1,048,576 rows, the header among them."""

_MOST_LETTERS = 32_767
_WIDTHS = {"path": 60, "status": 8, "fault_label": 24, "fault_kind_certain": 18, "model": 24}


class XlsxWriter:
    """Rows to an Excel workbook, one at a time, in constant memory. The file takes its name when the writer is closed.

    Texts are written as texts, whatever they begin with: no cell becomes a formula or a link. Until it is closed the
    file is ``PATH.part``, which one run at a time may write. Raises OutputError, MissingExtra.
    """

    def __init__(self, path: str) -> None:
        try:
            import xlsxwriter
        except ModuleNotFoundError:
            raise MissingExtra("xlsx", "xlsxwriter") from None
        self._path, self._row = path, 0
        self._faults: tuple[type[Exception], ...] = (OSError, xlsxwriter.exceptions.FileCreateError)
        self._scratch = Scratch(path)
        try:
            # Rows wait in a folder beside the output, as the system may have no place for temporary files.
            self._rows = TemporaryDirectory(prefix=".moslens-", dir=self._scratch.path.parent)
        except OSError as error:
            self._scratch.close()
            raise self._refused(error) from error
        try:
            options = {"constant_memory": True, "tmpdir": self._rows.name}
            self._book = xlsxwriter.Workbook(str(self._scratch.path), options)
            self._sheet = self._book.add_worksheet("scores")
            bold = self._book.add_format({"bold": True})
            for column, name in enumerate(FLAT_COLUMNS):
                self._sheet.set_column(column, column, _WIDTHS.get(name, 12))
                self._sheet.write_string(0, column, name, bold)
            self._sheet.freeze_panes(1, 1)
        except self._faults as error:
            self._rows.cleanup()
            self._scratch.close()
            raise self._refused(error) from error

    def write(self, row: RowLine) -> None:
        if self._row == MOST_ROWS:
            raise OutputError(f"a sheet holds {MOST_ROWS:,} rows: write csv or parquet", self._path)
        self._row += 1
        fields = row.to_row()
        name = name_in(fields)
        cells = flat(fields)
        if name is not None and readable(name) != name:
            cells["path"] = json.dumps(name)  # as in CSV: \udcXX in it is byte XX
        try:
            for column, header in enumerate(FLAT_COLUMNS):
                self._put(column, cells[header])
        except self._faults as error:
            raise self._refused(error) from error

    def _put(self, column: int, value: Any) -> None:
        if isinstance(value, bool):
            self._sheet.write_boolean(self._row, column, value)
        elif isinstance(value, int | float):
            self._sheet.write_number(self._row, column, value)
        elif value is not None:
            self._sheet.write_string(self._row, column, str(value)[:_MOST_LETTERS])

    def close(self) -> None:
        with closing(self._scratch), self._rows:
            try:
                self._sheet.autofilter(0, 0, self._row, len(FLAT_COLUMNS) - 1)
                self._book.close()
            except self._faults as error:
                _drop_half_written(error)
                raise self._refused(error) from error
            self._scratch.finish()

    def _refused(self, error: Exception) -> OutputError:
        cause = error if isinstance(error, OSError) else error.args[0] if error.args else error
        return self._scratch.refused(cause if isinstance(cause, OSError) else OSError(str(cause)))


def _drop_half_written(error: BaseException) -> None:
    """Let go of the archive that a failed close holds: its own end fails too, and would print a traceback."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        for each in (error, error.__context__, error.__cause__):
            if each is not None:
                traceback.clear_frames(each.__traceback__)
    finally:
        sys.unraisablehook = hook
