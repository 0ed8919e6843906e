"""Parameters that several commands have, and the values that they parse alike."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from moslens.data.records import LabelScale
from moslens.errors import ConfigError


class Better(Enum):
    """Which labels mean better pictures."""

    higher = "higher"
    lower = "lower"


Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Pictures, folders (with all below them), globs, URLs such as s3://bucket/folder, a Parquet file with a"
        " column path, or - for a list of names on standard input.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A shipped model's name, a model folder, or a repository (owner/name) in the Hugging Face cache.",
        show_default="the released one",
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Pictures in work at once.", show_default="one a core")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Refuse pictures with more pixels.")]
RetryErrors = Annotated[
    bool, typer.Option("--retry-errors", help="With --resume: try pictures again whose row is an error.")
]
TimeLimit = Annotated[float, typer.Option(min=0.1, help="Give up on a picture that takes more seconds: an error row.")]
Detail = Annotated[
    bool,
    typer.Option(
        "--detail/--no-detail",
        help="Judge pictures above twice the working size, 768 px for the shipped model, also at 100 %, on at most"
        " six tiles; takes a full decoding and about as long as six pictures more.",
    ),
]
Root = Annotated[Path | None, typer.Option(help="The folder the data set lies in.")]
MosRange = Annotated[str, typer.Option(help="LOW:HIGH that the scores of a CSV data set lie in.")]
Direction = Annotated[Better, typer.Option(help="Which scores of a CSV data set are better.")]
Reuse = Annotated[
    bool, typer.Option("--reuse", help="Take the test predictions that runs stored instead of computing them.")
]


def parse_seeds(text: str) -> list[int]:
    """Seeds from ``0-9`` or ``0,3,7``; ``official`` is -1. Raises ConfigError."""
    if text == "official":
        return [-1]
    seeds: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"--splits wants seeds such as 0-9 or 0,3,7, or official, not {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--splits {text!r} names no seed, or one twice")
    return seeds


def parse_range(text: str) -> tuple[float, float]:
    """Bounds from ``LOW:HIGH``. Raises ConfigError."""
    low, _, high = text.partition(":")
    try:
        bounds = float(low), float(high)
    except ValueError:
        bounds = (0.0, 0.0)
    if not bounds[0] < bounds[1]:
        raise ConfigError(f"--mos-range wants LOW:HIGH such as 1:5, not {text!r}")
    return bounds


def parse_scale(mos_range: str, direction: Better) -> LabelScale:
    """What the labels of a CSV mean, from ``--mos-range`` and ``--direction``. Raises ConfigError."""
    return LabelScale(*parse_range(mos_range), "higher" if direction is Better.higher else "lower")


def require_resume(retry_errors: bool, resume: bool) -> None:
    """ConfigError where errors are to be tried again in a run that does not go on with another."""
    if retry_errors and not resume:
        raise ConfigError("--retry-errors needs --resume: it tries the errors of an earlier run again")
