"""The card of a model (``card.json`` in its folder), and how a model is found by name or path."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import moslens
from moslens.errors import ModelError
from moslens.scoring.hub_cache import hub_folder, is_hub_id
from moslens.system.text import did_you_mean

if TYPE_CHECKING:
    from moslens.picture.windows import View

DEFAULT_MODEL = "shdiqa-lite"
CARD = "card.json"
WEIGHTS = Path(moslens.__file__).with_name("weights")
ID_DIGITS = 12
BLOCK_OUTPUTS = ("block_score", "block_weight", "kind_logits", "level")
_PIXELS = {"resample": "bicubic", "layout": "uint8 NHWC RGB, normalised inside the graph"}
PREPROCESSING = {
    "windows": {"window": 224, **_PIXELS},
    "whole": {"view": "whole", "shortest": 128, "multiple": 32, **_PIXELS},
}
"""What a card says of the two views, beside the working size. It does not name windows as its view."""


@dataclass(frozen=True)
class Calibration:
    """From the raw output to a score, ``100 / (1 + exp(-(scale * raw + shift)))``, and its interval, +/- ``radius``."""

    scale: float
    shift: float
    radius: float

    def score(self, raw: float) -> float:
        """The score of a raw value: 0 to 100, higher is better."""
        return 50.0 * (1.0 + math.tanh(0.5 * (self.scale * raw + self.shift)))

    def interval(self, score: float) -> tuple[float, float]:
        """The interval (low, high) around a score, clipped to 0 to 100."""
        return max(0.0, score - self.radius), min(100.0, score + self.radius)


COLOUR_KINDS = ("color_noise", "chroma_noise", "color_cast")
"""Kinds of other groups than ``color`` that are faults of colours."""


NEVER = 2.0
"""A threshold that no probability reaches."""
LIKELY = 0.5
"""Of a fault in a cell: in a photo that something is wrong with."""
PRESUMED_SHARE = 0.25
"""Of the cells of such a photo: what makes its score so low is no matter of single cells."""


@dataclass(frozen=True)
class BlockLabels:
    """How the block outputs of a model become labels: the entry ``explain`` of its card.

    ``grid``: blocks per side of a window or whole picture. ``kinds`` and ``groups``: names, in the order of the logits.
    ``temperature`` divides the logits. A cell of the map gets a kind where the probability that something is wrong
    reaches ``threshold`` and that of the kind reaches ``certainty``, or else the name of a group where that of all its
    kinds together reaches ``group_certainty``. A certain fault of level 5 lowers the quality of its cell by ``penalty``
    raw units. Something is wrong with a photo whose score is below ``faulty_below``: there the probability of a fault
    need only be ``LIKELY``, and those of kinds are taken given that there is one, for a group that is named in at least
    ``PRESUMED_SHARE`` of the cells.
    """

    grid: int
    kinds: tuple[str, ...]
    groups: tuple[str, ...]
    temperature: float
    threshold: float
    penalty: float = 0.0
    certainty: float = 0.0
    group_certainty: float = NEVER
    faulty_below: float = 0.0

    @property
    def members(self) -> dict[str, list[int]]:
        """The places of the kinds of each group."""
        found: dict[str, list[int]] = {}
        for place, group in enumerate(self.groups):
            found.setdefault(group, []).append(place)
        return found

    @property
    def of_colour(self) -> list[int]:
        """The places of the kinds that a picture without colours cannot have."""
        pairs = enumerate(zip(self.kinds, self.groups, strict=True))
        return [place for place, (kind, group) in pairs if group == "color" or kind in COLOUR_KINDS]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> BlockLabels:
        """Labels from the card's entry. Raises KeyError, TypeError or ValueError where it is malformed."""
        labels = cls(
            grid=int(record["grid"]),
            kinds=tuple(str(name) for name in record["kinds"]),
            groups=tuple(str(name) for name in record["groups"]),
            temperature=float(record["temperature"]),
            threshold=float(record["threshold"]),
            penalty=float(record.get("penalty", 0.0)),
            certainty=float(record.get("certainty", 0.0)),
            group_certainty=float(record.get("group_certainty", NEVER)),
            faulty_below=float(record.get("faulty_below", 0.0)),
        )
        if len(labels.kinds) != len(labels.groups) or not labels.temperature > 0:
            raise ValueError("explain needs a group for every kind and a temperature above 0")
        return labels


@dataclass(frozen=True)
class Card:
    """The card of the model in ``folder``; ``record`` is the whole of ``card.json``."""

    folder: Path
    name: str
    id: str
    sha256: str
    file: str
    working_size: int
    calibration: Calibration
    record: Mapping[str, Any]
    explain: BlockLabels | None = None

    @property
    def licence(self) -> str | None:
        """The licence of the weights, as a person wrote it."""
        return self.record.get("licence")

    @property
    def whole(self) -> bool:
        """Whether the model sees whole pictures, not windows."""
        return bool(self.record["preprocessing"].get("view") == "whole")

    @property
    def view(self) -> View:
        """How a picture is brought to the model."""
        from moslens.picture.windows import View  # needs numpy, which the process that writes rows does without

        return View(self.whole, self.working_size)

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Card:
        """Read ``folder/card.json``; ModelError where it is missing, malformed or not for this version."""
        folder = Path(folder)
        path = folder / CARD
        try:
            record = json.loads(path.read_bytes())
            if record.get("training", {}).get("stage") == "teacher":
                raise ModelError("a teacher, not a quality model: it names distortions and gives no score", path)
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"the card is malformed: {error!r}", path) from error
        if calibration.get("kind") != "logistic":
            raise ModelError(f"unknown calibration {calibration.get('kind')!r}", path)
        for key, ours in PREPROCESSING["whole" if card.whole else "windows"].items():
            if preprocessing.get(key) != ours:
                raise ModelError(f"needs {key} = {preprocessing.get(key)!r}, this version has {ours!r}", path)
        if Path(card.file).name != card.file:
            raise ModelError(f"the file {card.file!r} must be a name in this folder", path)
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


def graph_metadata(record: Mapping[str, Any]) -> dict[str, str]:
    """What an exported graph says of itself in ``metadata_props``: entries of its card, those that are no text as JSON.

    ``range`` is that of the score that ``calibration`` makes of the output ``score``. The id is not among them: it is
    the hash of the file.
    """
    calibration = record["calibration"]
    said = {key: record.get(key) for key in ("name", "range", "direction", "preprocessing", "licence")}
    said["calibration"] = {key: calibration[key] for key in ("kind", "scale", "shift")}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items() if value}


def shipped() -> dict[str, Path]:
    """The models inside the installed package, name to folder, sorted by name."""
    return {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/card.json"))}


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a model. Raises ModelError where there is none. Nothing is downloaded.

    ``model`` is None for the default, a shipped name, a folder, or the id of a Hugging Face repository, ``owner/name``,
    in the local cache.
    """
    if model is not None and not isinstance(model, str | os.PathLike):
        raise ModelError(f"a model is a name or a folder, not {type(model).__name__}")
    wanted = DEFAULT_MODEL if model is None else os.fspath(model)
    models = shipped()
    if wanted in models:
        return models[wanted]
    if model is not None and Path(wanted).is_dir():
        return Path(wanted)
    if is_hub_id(wanted):
        return hub_folder(wanted)
    names = ", ".join(models) or "none"
    hint = did_you_mean(wanted, models)
    raise ModelError(f"no model {wanted!r}: {hint}neither a folder nor one of the shipped models ({names})")
