"""Released label files (MATLAB, spreadsheets, plain text), and pictures found by name with the case ignored."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moslens.errors import DatasetError, MissingExtra


def load_mat(path: Path, *names: str) -> list[Any]:
    """Variables of a MATLAB file. Raises DatasetError for a missing or broken file or variable."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise MissingExtra("train", "scipy") from None
    if not path.is_file():
        raise DatasetError("no such file", path)
    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises many types of exception for broken files
        raise DatasetError(f"not a readable MATLAB file: {error}", path) from None
    missing = [name for name in names if name not in content]
    if missing:
        held = ", ".join(name for name in content if not name.startswith("__"))
        raise DatasetError(f"no variable {', '.join(missing)}; it holds {held or 'none'}", path)
    return [content[name] for name in names]


def mat_string(value: Any) -> str:
    """The text in a MATLAB cell, however deep scipy nests it."""
    while isinstance(value, np.ndarray):
        value = value.reshape(-1)[0]
    return str(value).strip()


def mat_strings(cells: Any) -> list[str]:
    """A MATLAB cell array of names."""
    return [mat_string(cell) for cell in np.asarray(cells).reshape(-1)]


def mat_vector(values: Any, count: int, path: Path) -> list[float]:
    """A MATLAB vector of ``count`` finite numbers. Raises DatasetError."""
    vector = np.asarray(values, dtype=np.float64).reshape(-1)
    if vector.size != count or not np.all(np.isfinite(vector)):
        raise DatasetError(f"holds {vector.size} values, expected {count} finite ones", path)
    return [float(value) for value in vector]


def read_sheet(path: Path, required: Sequence[str], sheet: str | None = None) -> list[tuple[int, dict[str, str]]]:
    """The rows of a spreadsheet below its header, each with its row number; cells are text.

    The header is the first row with all columns ``required``. ``sheet`` None is the first sheet.
    Raises DatasetError for a missing or broken file, sheet or header.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MissingExtra("train", "openpyxl") from None
    if not path.is_file():
        raise DatasetError("no such file", path)
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises errors of zip, XML and its own
        raise DatasetError(f"not a readable xlsx file: {error}", path) from None
    try:
        if sheet is not None and sheet not in book.sheetnames:
            raise DatasetError(f"no sheet {sheet!r}; it has {', '.join(book.sheetnames)}", path)
        table = book[sheet if sheet is not None else book.sheetnames[0]]
        rows = [[_plain(cell) for cell in row] for row in table.iter_rows(values_only=True)]
    finally:
        book.close()
    for start, header in enumerate(rows):
        if set(required) <= set(header):
            below = enumerate(rows[start + 1 :], start=start + 2)
            return [(n, dict(zip(header, row, strict=False))) for n, row in below if any(row)]
    raise DatasetError(f"no row with the columns {', '.join(required)}", path)


def _plain(cell: Any) -> str:
    if cell is None:
        return ""
    # Spreadsheets hold whole numbers, such as a picture called 1600, as floats.
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def read_fields(path: Path, count: int, separator: str | None = None) -> list[tuple[int, list[str]]]:
    """The lines of a text file, each with its line number and its ``count`` fields. Raises DatasetError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DatasetError(error.strerror or str(error), path) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"not a text file: {error}", path) from None
    rows = [(n, line.split(separator)) for n, line in enumerate(lines, start=1) if line.strip()]
    for n, fields in rows:
        if len(fields) != count:
            raise DatasetError(f"line {n}: {len(fields)} fields, expected {count}", path)
    return [(n, [field.strip() for field in fields]) for n, fields in rows]


class PictureFinder:
    """Finds pictures by name in a few folders.

    Case and the form of Unicode are ignored, because label files and file names differ in them.
    """

    def __init__(self, root: Path, *folders: str, recursive: bool = False) -> None:
        places = [root / folder for folder in folders if (root / folder).is_dir()]
        self._home = places[0] if places else root / folders[0]
        self._found: dict[str, Path] = {}
        for place in places:
            for path in sorted(place.rglob("*") if recursive else place.iterdir()):
                self._found.setdefault(_folded(path.name), path)

    def __getitem__(self, name: str) -> Path:
        """The picture's path; for a missing picture, where it should be."""
        return self._found.get(_folded(name), self._home / name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.lower())
