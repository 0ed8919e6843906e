"""The format of measured figures, ``results/NAME.json``: figures per split, and statistics over splits.

    {"name", "command", "config", "dataset", "protocol", "model",
     "splits": [{"seed", "srcc", "plcc", "plcc_raw", "krcc", "rmse", "epoch", ...}],
     "median", "mean", "std", "seconds", "versions", "git", "data_hash", ...}

``plcc`` and ``rmse`` are computed after a 4-parameter logistic fit on the same pictures, ``rmse`` in the unit of the
scores. A figure that is not defined is null. ``std`` is the population standard deviation over splits.
"""

import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

import moslens
from moslens import __version__, metrics
from moslens.errors import OutputError
from moslens.system.files import read_json, write_json

FIGURES = ("srcc", "plcc", "plcc_raw", "krcc", "rmse")
_PACKAGES = ("numpy", "scipy", "pillow", "onnxruntime", "torch", "timm")


def split_figures(prediction: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """The five figures of one split: SRCC, PLCC after the logistic fit and raw, KRCC, RMSE after the fit.

    Raises MetricError for inputs that cannot be compared, MissingExtra without scipy.
    """
    mapped = metrics.fit_logistic(prediction, target)(prediction)
    return {
        "srcc": metrics.srcc(prediction, target),
        "plcc": metrics.plcc(mapped, target),
        "plcc_raw": metrics.plcc(prediction, target),
        "krcc": metrics.krcc(prediction, target),
        "rmse": metrics.rmse(mapped, target),
    }


def summary(
    splits: Sequence[Mapping[str, Any]], statistic: Callable[[list[float]], float], figures: Sequence[str] = FIGURES
) -> dict[str, float]:
    """``statistic`` of each figure over the splits that have it; nan where none has."""
    values = {name: [float(s[name]) for s in splits if _is_number(s.get(name))] for name in figures}
    return {name: statistic(found) if found else math.nan for name, found in values.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def split_name(seed: int | None) -> str:
    """The name of a split in reports: None is the whole data set, a negative seed the official split."""
    return "all" if seed is None else "official" if seed < 0 else str(seed)


def make_result(
    *,
    name: str,
    config: Mapping[str, Any],
    dataset: str,
    protocol: str,
    model: str,
    splits: Sequence[Mapping[str, Any]],
    seconds: float,
    data_hash: str,
    command: str | None = None,
    figures: Sequence[str] = FIGURES,
    **extra: Any,
) -> dict[str, Any]:
    """A result in the format above.

    splits: one mapping per split with ``seed`` and the ``figures``; ``epoch`` is null where it is missing.
    seconds: the time that measuring took. command: by default the one that started this process. extra: further keys.
    """
    return {
        "name": name,
        "command": command_line() if command is None else command,
        "config": dict(config),
        "dataset": dataset,
        "protocol": protocol,
        "model": model,
        "splits": [{"epoch": None, **split} for split in splits],
        "median": summary(splits, statistics.median, figures),
        "mean": summary(splits, statistics.fmean, figures),
        "std": summary(splits, statistics.pstdev, figures),
        "seconds": round(seconds, 2),
        "versions": versions(),
        "git": git_revision(),
        "data_hash": data_hash,
        **extra,
    }


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, all or nothing; floats get six decimals, nan becomes null. Raises OutputError."""
    write_json(path, _plain(result), indent=1)


def read_result(path: Path) -> dict[str, Any]:
    """Read a result. Raises OutputError for a missing or broken file."""
    result: dict[str, Any] = read_json(path, OutputError)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def command_line() -> str:
    """The command line of this process, as a user would type it."""
    program = Path(sys.argv[0])
    shown = "moslens" if program.name in ("moslens", "__main__.py") else f"python {program.name}"
    return " ".join([shown, shlex.join(sys.argv[1:])]).strip()


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str | None]:
    """Versions of Python, moslens and ``packages``; None where a package is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "moslens": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_revision() -> str | None:
    """The commit of the checkout that this package runs from, with a ``+`` where tracked files differ.

    None for an installed package, even in a folder of another repository.
    """
    folder = Path(moslens.__file__).parent

    def git(*words: str) -> str:
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        done = subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
