"""What a released model must keep doing: the golden scores, the photos that watch over drift, and how they react.

``python -m tools.golden --write`` measures it for the model at hand and stores it by model id in
``tests/scoring/golden.json``; ``tests/scoring/test_golden_scores.py`` measures again and compares.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.paths import ROOT
from moslens.distortions import distort
from moslens.picture.load import decode
from moslens.scoring.scorer import Scorer

RECORD = ROOT / "tests" / "scoring" / "golden.json"
EXAMPLES = ROOT / "examples" / "photos"
LIVEC = ROOT.parent / "shared" / "data" / "livec"
GOLDEN_PHOTOS = 24
DRIFT_PHOTOS = 100

Pixels = NDArray[np.uint8]


def stored(model_id: str) -> dict[str, Any]:
    """The record of a model; a KeyError that says what to do where there is none."""
    models = json.loads(RECORD.read_text("utf-8"))["models"]
    if model_id not in models:
        raise KeyError(f"no golden record of {model_id}: run python -m tools.golden --write")
    record: dict[str, Any] = models[model_id]
    return record


def labelled(count: int) -> dict[str, tuple[Path, float]]:
    """``count`` LIVEC photos, evenly from the list sorted by name, with their opinion scores; empty without the set."""
    if not (LIVEC / "labels.csv").is_file():
        return {}
    with (LIVEC / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image"])
    chosen = [rows[round(at)] for at in np.linspace(0, len(rows) - 1, count)]
    return {row["image"]: (LIVEC / "images" / row["image"], float(row["mos"])) for row in chosen}


def golden_photos() -> dict[str, Path]:
    """The committed photos, and LIVEC photos up to 24 where the set is beside the project."""
    photos = {path.name: path for path in sorted(EXAMPLES.glob("*.jpg"))}
    more = labelled(GOLDEN_PHOTOS - len(photos))
    return photos | {f"livec/{name}": path for name, (path, _) in more.items()}


def golden_scores(scorer: Scorer) -> dict[str, float]:
    return {name: scorer.score(path).score for name, path in golden_photos().items()}


def drift(scorer: Scorer) -> dict[str, Any]:
    """Scores of the drift photos, how they rank against people, and how their intervals hold."""
    from moslens.metrics import srcc

    photos = labelled(DRIFT_PHOTOS)
    results = {name: scorer.score(path) for name, (path, _) in photos.items()}
    mos = [value for _, value in photos.values()]
    scores = [result.score for result in results.values()]
    inside = [r.low <= value <= r.high for r, value in zip(results.values(), mos, strict=True)]
    return {
        "scores": {name: round(result.score, 4) for name, result in results.items()},
        "srcc": round(srcc(scores, mos), 4),
        "bias": round(statistics.fmean(scores) - statistics.fmean(mos), 3),
        "coverage": sum(inside) / len(inside),
    }


def mirrored(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, ::-1])


def encoded_again(pixels: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=0)
    return decode(file.getvalue())


def bordered(pixels: Pixels) -> Pixels:
    return np.pad(pixels, ((8, 8), (8, 8), (0, 0)))


def padded(pixels: Pixels) -> Pixels:
    return np.pad(pixels, ((8, 8), (8, 8), (0, 0)), mode="reflect")


def one_pixel_less(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[1:, 1:])


# What should hardly matter, and what a person sees at once.
HARMLESS: dict[str, Callable[[Pixels], Pixels]] = {
    "mirror": mirrored,
    "re-encoding at quality 100": encoded_again,
    "a black border of 8 px": bordered,
    "8 px of mirrored padding": padded,
    "one row and column less": one_pixel_less,
}
HARMFUL = ("gaussian_blur", "jpeg", "pixelate", "motion_blur", "jpeg2000")


def reactions(scorer: Scorer) -> dict[str, dict[str, float]]:
    """Mean and greatest change of the score by each harmless change, over the golden photos at hand."""
    found = {}
    photos = [decode(path) for path in golden_photos().values()]
    before = [scorer.score(pixels).score for pixels in photos]
    for name, change in HARMLESS.items():
        changes = [abs(scorer.score(change(p)).score - b) for p, b in zip(photos, before, strict=True)]
        found[name] = {"mean": round(statistics.fmean(changes), 3), "max": round(max(changes), 3)}
    return found


def losses(scorer: Scorer) -> dict[str, float]:
    """Mean loss of score of the six committed photos by harmful kinds at level 4."""
    photos = [decode(path) for path in sorted(EXAMPLES.glob("*.jpg"))]
    before = [scorer.score(pixels).score for pixels in photos]
    found = {}
    for kind in HARMFUL:
        after = [scorer.score(distort(p, kind, 4, np.random.default_rng(0))).score for p in photos]
        found[kind] = round(statistics.fmean(b - a for a, b in zip(after, before, strict=True)), 3)
    return found


def measure(scorer: Scorer) -> dict[str, Any]:
    """Everything that is stored of a model."""
    return {
        "scores": {name: round(value, 6) for name, value in golden_scores(scorer).items()},
        "drift": drift(scorer),
        "reactions": reactions(scorer),
        "losses": losses(scorer),
    }
