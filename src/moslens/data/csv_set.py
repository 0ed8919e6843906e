"""A data set as a CSV file: image,mos and optionally std, reference, kind, level and part."""

import csv
import logging
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath, PureWindowsPath
from typing import Literal

from moslens.data.records import POINTS, Dataset, DatasetCard, LabelScale, Sample
from moslens.errors import DatasetError

log = logging.getLogger(__name__)

_SHOWN = 20
_LONGEST_CELL = 1 << 24
_FEW = 5
_LEAST_FILLED = 0.1
PARTS = ("train", "validation", "test")


def raise_problems(problems: Sequence[str], path: Path) -> None:
    """Raise one DatasetError that lists the first 20 problems; do nothing where there are none."""
    if problems:
        rest = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        raise DatasetError(f"{len(problems)} problem{'s' * (len(problems) > 1)}:{listed}{rest}", path)


def read_rows(path: Path, required: Sequence[str], delimiter: str = ",") -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its line number (the header is row 1).

    Cells are stripped and missing cells are empty. Raises DatasetError for a file that cannot be read, lacks
    a required column, names a column twice or has a row longer than its header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, _long_cells():
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except OSError as error:
        raise DatasetError(error.strerror or str(error), path) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"not a UTF-8 CSV file: {error}", path) from None
    missing = [name for name in required if name not in header]
    if missing:
        wanted, found = " and no column ".join(missing), ", ".join(header) or "empty"
        raise DatasetError(f"row 1: no column {wanted}; the header is {found}", path)
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DatasetError(f"row 1: column {twice} appears twice", path)
    raise_problems(
        [f"row {n}: {len(row)} cells for {len(header)} columns" for n, row in rows if len(row) > len(header)],
        path,
    )
    return [(n, dict(zip(header, row + [""] * (len(header) - len(row)), strict=True))) for n, row in rows]


def cell_number(text: str, where: str, problems: list[str], low: float = -math.inf, high: float = math.inf) -> float:
    """``text`` as a float. A cell that is not a finite number within [low, high] is added to ``problems``."""
    try:
        value = float(text)
        if "_" in text:
            raise ValueError("Python takes 7_5 for 75")
    except ValueError:
        problems.append(f"{where}: {text!r} is not a number" if text else f"{where}: empty")
        return math.nan
    if not math.isfinite(value):
        problems.append(f"{where}: {text} is not a finite number")
    elif not low <= value <= high:
        problems.append(f"{where}: {text} is outside {low:g}..{high:g}")
    return value


def read_csv(path: Path, root: Path | None = None, scale: LabelScale = POINTS) -> Dataset:
    """The data set in a CSV file, pictures relative to ``root`` (default: the folder of the file).

    Columns ``image,mos`` are required; ``std,reference,kind,level,part`` are used where present and others
    are ignored. ``mos`` lies within ``scale``; its sign is changed where lower is better, as in every data set.
    Every wrong cell is listed by row and column in one DatasetError.
    """
    root = path.parent if root is None else root
    rows = read_rows(path, ("image", "mos"))
    if not rows:
        raise DatasetError("no rows below the header", path)
    problems: list[str] = []
    seen: dict[str, int] = {}
    samples = []
    for n, row in rows:
        sample = _sample(row, f"row {n}, column ", root, scale, problems)
        place = os.path.abspath(sample.path)  # noqa: PTH100 - links stay: two of them may lead to copies
        if place in seen:
            problems.append(f"row {n}, column image: {sample.name} is already in row {seen[place]}")
        seen.setdefault(place, n)
        samples.append(sample)
    raise_problems(problems, path)
    _warn_of_scale(samples, scale, path)
    title = f"{path.name}, a data set of the user's own"
    score: Literal["MOS", "DMOS"] = "MOS" if scale.direction == "higher" else "DMOS"
    card = DatasetCard(path.stem, title, "custom", len(samples), score, scale.ends)
    return Dataset(path.stem, root, tuple(sorted(samples, key=lambda sample: sample.name)), card)


def _warn_of_scale(samples: Sequence[Sample], scale: LabelScale, path: Path) -> None:
    """A line in the log where the labels fill so little of their scale that it is hardly the right one."""
    labels = [sample.mos if scale.direction == "higher" else -sample.mos for sample in samples]
    low, high = scale.ends
    if len(labels) >= _FEW and max(labels) - min(labels) < _LEAST_FILLED * (high - low):
        log.warning(
            "%s: the labels lie between %g and %g, which is little of the stated %g to %g: is this their range?",
            path, min(labels), max(labels), low, high,
        )  # fmt: skip


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells, such as those of columns that are not read, be longer than the csv module's 131,072 characters."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def loose_name(text: str) -> str:
    """The same for all ways to write a path: from Windows with ``\\``, accents in either form of Unicode."""
    return unicodedata.normalize("NFC", PureWindowsPath(text).as_posix())


def _name_on_disk(root: Path, text: str) -> str:
    """A picture's path below ``root`` as the disk has it; as ``text`` has it where there is none."""
    name, loose = PurePath(text).as_posix(), loose_name(text)
    ways = (name, PureWindowsPath(text).as_posix(), loose, unicodedata.normalize("NFD", loose))
    return next((way for way in ways if (root / way).is_file()), name)


def _sample(row: dict[str, str], where: str, root: Path, scale: LabelScale, problems: list[str]) -> Sample:
    name = _name_on_disk(root, row["image"])
    if not row["image"]:
        problems.append(f"{where}image: empty")
    elif not (root / name).is_file():
        problems.append(f"{where}image: no file {name} in {root}")
    mos = cell_number(row["mos"], f"{where}mos", problems, *scale.ends)
    std = cell_number(row["std"], f"{where}std", problems, 0.0) if row.get("std") else None
    part = row.get("part") or None
    if part is not None and part not in PARTS:
        problems.append(f"{where}part: {part!r} is none of {', '.join(PARTS)}")
    level = row.get("level") or None
    if level is not None and not level.isdecimal():
        problems.append(f"{where}level: {level!r} is not a whole number")
        level = None
    return Sample(
        path=root / name,
        name=name,
        mos=mos if scale.direction == "higher" else -mos,
        std=std,
        reference=row.get("reference") or None,
        kind=row.get("kind") or None,
        level=None if level is None else int(level),
        part=part,
    )
