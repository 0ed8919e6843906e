"""A data set, its samples, what its labels mean, and the card that describes it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from moslens.errors import ConfigError

Direction = Literal["higher", "lower"]


@dataclass(frozen=True)
class PointScale:
    """The straight line from labels to points: ``worst`` becomes 0 and ``best`` 100."""

    worst: float
    best: float

    @property
    def factor(self) -> float:
        """Points for each unit of the labels; below 0 where lower labels are better."""
        return 100 / (self.best - self.worst)

    def points(self, labels: Any) -> Any:
        """Labels, a number or an array, in points; 0 to 100 inside the scale. Labels on 0-100 keep their bits."""
        return (labels - self.worst) * self.factor


@dataclass(frozen=True)
class LabelScale:
    """What published labels mean: the ends of their scale, and whether ``higher`` or ``lower`` labels are better.

    Raises ConfigError for ends that are not finite or not in order, and for another direction.
    """

    low: float
    high: float
    direction: Direction = "higher"

    def __post_init__(self) -> None:
        if fault := scale_fault(self.low, self.high, self.direction):
            raise ConfigError(fault)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} ({self.direction} is better)"

    @property
    def ends(self) -> tuple[float, float]:
        """The lower and the higher end, as published."""
        return self.low, self.high

    @property
    def published(self) -> PointScale:
        """From labels as they are published to points."""
        return PointScale(self.low, self.high) if self.direction == "higher" else PointScale(self.high, self.low)

    @property
    def mos(self) -> PointScale:
        """From ``Sample.mos`` to points."""
        return PointScale(self.low, self.high) if self.direction == "higher" else PointScale(-self.high, -self.low)

    def to_record(self) -> dict[str, Any]:
        """The scale as JSON, the arguments of :meth:`from_record`."""
        return {"mos_range": [self.low, self.high], "direction": self.direction}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "LabelScale":
        """The inverse of :meth:`to_record`. LookupError, TypeError, ValueError or ConfigError for any other record."""
        low, high = record["mos_range"]
        return cls(float(low), float(high), record["direction"])


def scale_fault(low: float, high: float, direction: str, section: str = "") -> str | None:
    """What is wrong with a :class:`LabelScale` of these values, None for a good one; ``section`` as in "data."."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return f"{section}mos_range wants two numbers, the lower one first, not {low:g} and {high:g}"
    if direction not in get_args(Direction):
        return f"{section}direction is higher or lower, not {direction!r}"
    return None


def check_stated_scale(mos_range: Sequence[float], direction: str, path: str | PathLike[str]) -> None:
    """ConfigError where the configuration ``path`` states a scale of labels (``data.mos_range``) that cannot be one.

    What it leaves out, an empty range or direction, is no fault here.
    """
    if not mos_range:
        return
    if len(mos_range) != 2:
        raise ConfigError(f"data.mos_range wants two numbers, the lower one first, not {list(mos_range)}", path)
    low, high = mos_range
    if fault := scale_fault(low, high, direction or "higher", "data."):
        raise ConfigError(fault, path)


POINTS = LabelScale(0.0, 100.0)


@dataclass(frozen=True)
class Sample:
    """One scored picture. ``mos`` is in the data set's own unit and always higher for a better picture: the published
    label, or minus the published label where lower labels are better.

    ``name`` identifies the picture and does not depend on where the data set lies. ``reference`` names the
    pristine picture it was made from, or, for a photo, the group that a split keeps together. ``kind`` and
    ``level`` are the data set's own distortion labels. ``part`` is its part of the official split: train,
    validation or test.
    """

    path: Path
    name: str
    mos: float
    std: float | None = None
    reference: str | None = None
    kind: str | None = None
    level: int | None = None
    part: str | None = None

    @property
    def group(self) -> str:
        """The key that splits keep together."""
        return self.name if self.reference is None else self.reference


@dataclass(frozen=True)
class DatasetCard:
    """The facts of a data set. ``range`` is that of the released scores, before any change of sign.

    No score lies outside ``range``. ``span`` is what the released scores span, given where ``range`` is much wider.
    ``labels`` and ``images`` are the label files and picture folders of the release, ``extra`` patterns of
    other files in those folders, ``kinds`` its distortions in order. ``count`` and ``references`` count the
    labelled pictures and their references. ``unverified`` says which facts have no public source.
    """

    name: str
    title: str
    content: Literal["synthetic", "authentic", "algorithmic", "generated", "custom"]
    count: int | None
    score: Literal["MOS", "DMOS"]
    range: tuple[float, float]
    span: tuple[float, float] | None = None
    references: int | None = None
    aliases: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    official_split: str = ""
    licence: str = ""
    source: str = ""
    citation: str = ""
    note: str = ""
    unverified: str = ""

    @property
    def mos_range(self) -> tuple[float, float]:
        """The range of ``Sample.mos``: the released one, mirrored for DMOS, whose sign is changed."""
        ends = LabelScale(*self.range, self.direction).mos
        return ends.worst, ends.best

    @property
    def direction(self) -> Direction:
        """Whether higher or lower released scores are better."""
        return "higher" if self.score == "MOS" else "lower"

    @property
    def scale(self) -> LabelScale:
        """The scale that becomes 0 to 100 in an exported model: ``span`` where it is given, else ``range``."""
        return LabelScale(*(self.span or self.range), self.direction)


@dataclass(frozen=True)
class Dataset:
    """A data set as read from disk. ``samples`` are sorted by name, so an index means the same everywhere."""

    name: str
    root: Path
    samples: tuple[Sample, ...]
    card: DatasetCard

    def data_hash(self) -> str:
        """SHA-256 over name, MOS and file size of every sample, so relabelled or re-encoded sets differ."""
        digest = hashlib.sha256()
        for sample in self.samples:
            size = sample.path.stat().st_size
            digest.update(f"{sample.name}\t{sample.mos:.6f}\t{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
