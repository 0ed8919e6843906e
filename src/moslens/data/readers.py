"""One reader a data set: the official layout on disk -> its samples, pictures not opened nor looked for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moslens.data.records import Sample
from moslens.data.table import cell_number, raise_problems, read_rows
from moslens.errors import DatasetError, MissingExtra

Reader = Callable[[Path], list[Sample]]

# 246.bmp and 333.bmp of LIVEC are byte for byte the same picture.
_LIVEC_TWINS = {"246.bmp": "246.bmp", "333.bmp": "246.bmp"}
_LIVEC_TRAINING = 7


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
    except Exception as error:  # scipy raises a dozen kinds for broken files
        raise DatasetError(f"not a readable MATLAB file: {error}", path) from None
    missing = [name for name in names if name not in content]
    if missing:
        held = ", ".join(name for name in content if not name.startswith("__"))
        raise DatasetError(f"no variable {', '.join(missing)}; it holds {held or 'none'}", path)
    return [content[name] for name in names]


def cell_text(value: Any) -> str:
    """The text in a MATLAB cell, however deep scipy nests it."""
    while isinstance(value, np.ndarray):
        value = value.reshape(-1)[0]
    return str(value).strip()


def numbers(values: Any, count: int, path: Path) -> list[float]:
    """A MATLAB vector of ``count`` finite numbers. Raises DatasetError."""
    vector = np.asarray(values, dtype=np.float64).reshape(-1)
    if vector.size != count or not np.all(np.isfinite(vector)):
        raise DatasetError(f"holds {vector.size} values where {count} finite ones belong", path)
    return [float(value) for value in vector]


def livec(root: Path) -> list[Sample]:
    """LIVEC as released, or repacked as images/ and labels.csv; both give the released names."""
    rows = _livec_repacked(root) if (root / "labels.csv").is_file() else _livec_released(root)
    return [Sample(path, name, mos, std, reference=_LIVEC_TWINS.get(name)) for path, name, mos, std in rows]


def _livec_released(root: Path) -> Iterator[tuple[Path, str, float, float]]:
    data = root / "Data"
    (names,) = load_mat(data / "AllImages_release.mat", "AllImages_release")
    (mos,) = load_mat(data / "AllMOS_release.mat", "AllMOS_release")
    (std,) = load_mat(data / "AllStdDev_release.mat", "AllStdDev_release")
    listed = [cell_text(cell) for cell in np.asarray(names).reshape(-1)]
    scores = numbers(mos, len(listed), data / "AllMOS_release.mat")
    spreads = numbers(std, len(listed), data / "AllStdDev_release.mat")
    for name, score, spread in list(zip(listed, scores, spreads, strict=True))[_LIVEC_TRAINING:]:
        yield root / "Images" / name, name, score, spread


def _livec_repacked(root: Path) -> Iterator[tuple[Path, str, float, float]]:
    path = root / "labels.csv"
    problems: list[str] = []
    for n, row in read_rows(path, ("image", "mos", "std", "part", "orig")):
        if row["part"] == "test":
            score = cell_number(row["mos"], f"row {n}, column mos", problems)
            spread = cell_number(row["std"], f"row {n}, column std", problems, 0.0)
            yield root / "images" / row["image"], row["orig"], score, spread
    raise_problems(problems, path)


READERS: dict[str, Reader] = {"livec": livec}
