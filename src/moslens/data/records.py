"""A data set, its samples, and the card that describes it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Sample:
    """One scored picture. ``mos`` is in the data set's own unit and always higher for a better picture.

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
        low, high = self.range
        return (low, high) if self.score == "MOS" else (-high, -low)


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
