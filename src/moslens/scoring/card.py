"""``card.json``: what a model folder says of its model, and how a shipped model or a folder is found."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moslens
from moslens.errors import ModelError

DEFAULT_MODEL = "shdiqa-lite"
WEIGHTS = Path(moslens.__file__).with_name("weights")
ID_DIGITS = 12
BLOCK_OUTPUTS = ("block_score", "block_weight", "kind_logits", "level")
PREPROCESSING = {
    "window": 224,
    "resample": "bicubic",
    "layout": "uint8 NHWC RGB, normalised inside the graph",
}


@dataclass(frozen=True)
class Calibration:
    """Raw output to the public scale, ``100 / (1 + exp(-(scale * raw + shift)))``, +/- ``radius``."""

    scale: float
    shift: float
    radius: float

    def score(self, raw: float) -> float:
        """The score, 0 to 100, higher is better, of a picture's raw value."""
        return 50.0 * (1.0 + math.tanh(0.5 * (self.scale * raw + self.shift)))

    def interval(self, score: float) -> tuple[float, float]:
        """The bounds (low, high) around a score, inside 0 to 100."""
        return max(0.0, score - self.radius), min(100.0, score + self.radius)


@dataclass(frozen=True)
class BlockLabels:
    """How the outputs for blocks are read: what the card records under ``explain``.

    ``grid`` blocks a side of a window; names and groups of the kinds in the order of the logits; ``temperature``
    divides the logits; a cell of the map is given a kind where the probability that something is wrong reaches
    ``threshold``; a certain fault of the highest level takes ``penalty`` raw units off the quality of its cell.
    """

    grid: int
    kinds: tuple[str, ...]
    groups: tuple[str, ...]
    temperature: float
    threshold: float
    penalty: float = 0.0

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BlockLabels:
        """Raises KeyError, TypeError or ValueError for a malformed record."""
        labels = cls(
            grid=int(record["grid"]),
            kinds=tuple(str(name) for name in record["kinds"]),
            groups=tuple(str(name) for name in record["groups"]),
            temperature=float(record["temperature"]),
            threshold=float(record["threshold"]),
            penalty=float(record.get("penalty", 0.0)),
        )
        if len(labels.kinds) != len(labels.groups) or not labels.temperature > 0:
            raise ValueError("explain needs a group for every kind and a temperature above 0")
        return labels


@dataclass(frozen=True)
class Card:
    """What ``card.json`` says of the model beside it; ``record`` is the whole file."""

    folder: Path
    name: str
    id: str
    sha256: str
    file: str
    working_size: int
    calibration: Calibration
    record: Mapping[str, Any]
    explain: BlockLabels | None = None

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Card:
        """Read ``folder/card.json``; ModelError where it is missing, malformed or not for this version."""
        folder = Path(folder)
        path = folder / "card.json"
        try:
            record = json.loads(path.read_bytes())
            calibration, preprocessing = record["calibration"], record["preprocessing"]
            card = cls(
                folder=folder,
                name=str(record["name"]),
                id=str(record["id"]),
                sha256=str(record["sha256"]),
                file=str(record["file"]),
                working_size=int(preprocessing["working_size"]),
                calibration=Calibration(*(float(calibration[key]) for key in ("scale", "shift", "radius"))),
                record=record,
                explain=BlockLabels.from_record(record["explain"]) if record.get("explain") else None,
            )
        except OSError as error:
            raise ModelError(f"no model here: {error.strerror}", path) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"the card is malformed: {error!r}", path) from error
        if calibration.get("kind") != "logistic":
            raise ModelError(f"unknown calibration {calibration.get('kind')!r}", path)
        for key, ours in PREPROCESSING.items():
            if preprocessing.get(key) != ours:
                raise ModelError(f"needs {key} = {preprocessing.get(key)!r}, this version has {ours!r}", path)
        if card.id != f"{card.name}@{card.sha256[:ID_DIGITS]}":
            raise ModelError(f"the id {card.id} does not match the hash {card.sha256}", path)
        return card

    def verified_weights(self) -> bytes:
        """The bytes of the ONNX file. Raises ModelError where their SHA-256 is not the one on the card."""
        path = self.folder / self.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"the weights cannot be read: {error.strerror}", path) from error
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ModelError(f"altered weights: SHA-256 is {found}, the card says {self.sha256}", path)
        return data


def shipped() -> dict[str, Path]:
    """Name to folder of every model inside the installed package, sorted by name."""
    return {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/card.json"))}


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a shipped name, of a path, or (None) of the default model; else raises ModelError."""
    wanted = DEFAULT_MODEL if model is None else os.fspath(model)
    at_hand = shipped()
    if wanted in at_hand:
        return at_hand[wanted]
    if model is not None and Path(wanted).is_dir():
        return Path(wanted)
    names = ", ".join(at_hand) or "none"
    raise ModelError(f"no model {wanted!r}: neither a folder nor one of the shipped models ({names})")
