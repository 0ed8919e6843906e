"""moslens: blind image quality assessment, with a map of where a picture is bad and what is wrong there.

The public names below are imported on first use, so that ``import moslens`` costs almost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_PUBLIC = {
    "CorruptImage": "moslens.errors",
    "Detail": "moslens.scoring.result",
    "EmptyImage": "moslens.errors",
    "Failure": "moslens.scoring.result",
    "ImageError": "moslens.errors",
    "ImageTooLarge": "moslens.errors",
    "ImageTooSmall": "moslens.errors",
    "InternalError": "moslens.errors",
    "MoslensError": "moslens.errors",
    "NoMapsError": "moslens.errors",
    "NotAnImage": "moslens.errors",
    "QualityMap": "moslens.scoring.quality_map",
    "Score": "moslens.scoring.result",
    "Scorer": "moslens.scoring.scorer",
    "TruncatedImage": "moslens.errors",
    "UnreadableImage": "moslens.errors",
    "UnsupportedImage": "moslens.errors",
    "score": "moslens.scoring.scorer",
    "to_pandas": "moslens.scoring.frames",
}

__all__ = [
    "CorruptImage",
    "Detail",
    "EmptyImage",
    "Failure",
    "ImageError",
    "ImageTooLarge",
    "ImageTooSmall",
    "InternalError",
    "MoslensError",
    "NoMapsError",
    "NotAnImage",
    "QualityMap",
    "Score",
    "Scorer",
    "TruncatedImage",
    "UnreadableImage",
    "UnsupportedImage",
    "__version__",
    "score",
    "to_pandas",
]

if TYPE_CHECKING:
    from moslens.errors import (
        CorruptImage,
        EmptyImage,
        ImageError,
        ImageTooLarge,
        ImageTooSmall,
        InternalError,
        MoslensError,
        NoMapsError,
        NotAnImage,
        TruncatedImage,
        UnreadableImage,
        UnsupportedImage,
    )
    from moslens.scoring.frames import to_pandas
    from moslens.scoring.quality_map import QualityMap
    from moslens.scoring.result import Detail, Failure, Score
    from moslens.scoring.scorer import Scorer, score


def __getattr__(name: str) -> Any:
    if name == "interop":
        return import_module("moslens.interop")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'moslens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
