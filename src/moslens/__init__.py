"""moslens: blind image quality assessment, with a map of where a picture is bad and what is wrong there.

The public names below are imported on first use, so that ``import moslens`` costs almost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Failure": "moslens.scoring.result",
    "ImageTooLarge": "moslens.errors",
    "ImageTooSmall": "moslens.errors",
    "MoslensError": "moslens.errors",
    "NoMapsError": "moslens.errors",
    "QualityMap": "moslens.scoring.quality_map",
    "Score": "moslens.scoring.result",
    "Scorer": "moslens.scoring.scorer",
    "UnreadableImage": "moslens.errors",
    "UnsupportedImage": "moslens.errors",
}

__all__ = [
    "Failure",
    "ImageTooLarge",
    "ImageTooSmall",
    "MoslensError",
    "NoMapsError",
    "QualityMap",
    "Score",
    "Scorer",
    "UnreadableImage",
    "UnsupportedImage",
    "__version__",
]

if TYPE_CHECKING:
    from moslens.errors import (
        ImageTooLarge,
        ImageTooSmall,
        MoslensError,
        NoMapsError,
        UnreadableImage,
        UnsupportedImage,
    )
    from moslens.scoring.quality_map import QualityMap
    from moslens.scoring.result import Failure, Score
    from moslens.scoring.scorer import Scorer


def __getattr__(name: str) -> Any:
    if name == "interop":
        return import_module("moslens.interop")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'moslens' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
