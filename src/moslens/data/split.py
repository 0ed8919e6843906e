"""Splits into training, validation and test pictures: drawn by a seed over whole groups, written as text, hashed.

The draw, in full: the groups (``Sample.group``) are sorted by name and shuffled by
``numpy.random.default_rng(seed).permutation``. The first ``round(test * groups)`` of the shuffled groups are
the test part. The validation part is ``round(validation * rest)`` groups from the end of the rest. Of what
remains the first ``round(fraction * remaining)`` groups are the training part. So the test part depends on
the seed alone, the validation part not on the fraction, and a smaller fraction lies inside a larger one.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moslens.data.records import Dataset, Sample
from moslens.errors import DatasetError

_PARTS = ("train", "validation", "test")
_HEADER = "# moslens split 1"


@dataclass(frozen=True)
class Split:
    """Indices into ``dataset.samples``, ascending in each part. ``seed`` is -1 for an official split."""

    seed: int
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def make_split(
    dataset: Dataset, seed: int, *, test: float = 0.2, validation: float = 0.0, fraction: float = 1.0
) -> Split:
    """The split ``seed`` of a data set, as the module describes.

    ``test`` is a share of all groups, ``validation`` a share of the groups that are not tested, ``fraction``
    the share of the remaining training groups that is kept. Raises DatasetError for shares outside [0, 1]
    and where the training part or a requested part is empty.
    """
    for name, share in (("test", test), ("validation", validation), ("fraction", fraction)):
        if not 0 <= share <= 1:
            raise DatasetError(f"{name} is a share from 0 to 1, not {share}")
    order = _shuffled(range(len(dataset.samples)), dataset, seed)
    cut = round(test * len(order))
    rest = order[cut:]
    held = round(validation * len(rest))
    train = rest[: len(rest) - held]
    kept = train[: round(fraction * len(train))]
    split = Split(seed, _flat(kept), _flat(rest[len(rest) - held :]), _flat(order[:cut]))
    if not split.train or (test > 0 and not split.test) or (validation > 0 and not split.validation):
        raise DatasetError(f"{len(order)} groups of pictures are too few for this split", dataset.root)
    return split


def official_split(dataset: Dataset, *, validation: float = 0.0, fraction: float = 1.0, seed: int = 0) -> Split:
    """The split that the data set was released with (``Sample.part``).

    If it has no validation part, ``validation`` takes one out of its training part by ``seed``. ``fraction`` then
    keeps a share of the training groups. Both work as in :func:`make_split`. Raises DatasetError where the data
    set has no official split.
    """
    parts: dict[str | None, list[int]] = {}
    for index, sample in enumerate(dataset.samples):
        parts.setdefault(sample.part, []).append(index)
    if not parts.get("train") or not (parts.get("test") or parts.get("validation")):
        raise DatasetError(f"data set {dataset.name} has no official split", dataset.root)
    train = _shuffled(parts["train"], dataset, seed)
    own = parts.get("validation", [])
    held = 0 if own else round(validation * len(train))
    pool = train[: len(train) - held]
    kept = pool[: round(fraction * len(pool))]
    return Split(-1, _flat(kept), tuple(own) or _flat(train[len(train) - held :]), tuple(parts.get("test", ())))


def copies_across(dataset: Dataset, split: Split) -> list[tuple[str, str]]:
    """The held-out pictures whose file is also a training picture, byte for byte: (held out, training) names.

    Only files of one size are read. A file that cannot be read has no copies here: whoever opens it says why.
    """
    learned = _by_size(dataset, split.train)
    held = _by_size(dataset, (*split.validation, *split.test))
    found = []
    for size in learned.keys() & held.keys():
        digests = {digest: sample.name for sample in learned[size] if (digest := _digest(sample.path))}
        found += [(sample.name, digests[own]) for sample in held[size] if (own := _digest(sample.path)) in digests]
    return sorted(found)


def _by_size(dataset: Dataset, indices: Iterable[int]) -> dict[int, list[Sample]]:
    """The pictures whose file is there, by its size in bytes."""
    sizes: dict[int, list[Sample]] = {}
    for index in indices:
        sample = dataset.samples[index]
        with suppress(OSError):
            sizes.setdefault(sample.path.stat().st_size, []).append(sample)
    return sizes


def _digest(path: Path) -> bytes:
    """SHA-256 of a file, empty where it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
    return b""


def _shuffled(indices: Iterable[int], dataset: Dataset, seed: int) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(dataset.samples[index].group, []).append(index)
    names = sorted(groups)
    return [groups[names[i]] for i in np.random.default_rng(seed).permutation(len(names))]


def _flat(groups: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(sorted(index for group in groups for index in group))


def split_text(split: Split, dataset: Dataset) -> str:
    """The split as text, one line ``part<TAB>picture`` per picture."""
    lines = [_HEADER, f"# dataset {dataset.name}", f"# seed {split.seed}"]
    for part in _PARTS:
        lines += [f"{part}\t{dataset.samples[index].name}" for index in getattr(split, part)]
    return "\n".join(lines) + "\n"


def parse_split(text: str, dataset: Dataset) -> Split:
    """The inverse of :func:`split_text` on the same data set. Raises DatasetError naming the line."""
    lines = text.splitlines()
    if lines[:1] != [_HEADER]:
        raise DatasetError(f"not a split: the first line is not {_HEADER!r}")
    index = {sample.name: i for i, sample in enumerate(dataset.samples)}
    seed: int | None = None
    found: dict[str, list[int]] = {part: [] for part in _PARTS}
    used: set[str] = set()
    for number, line in enumerate(lines[1:], start=2):
        if line.startswith("# seed "):
            seed = _seed(line, number)
        if line.startswith("#"):
            continue
        part, _, name = line.partition("\t")
        if part not in found or name not in index or name in used:
            fault = "no such part" if part not in found else "listed twice" if name in used else "not in the data set"
            raise DatasetError(f"split line {number}: {line!r}: {fault}")
        used.add(name)
        found[part].append(index[name])
    if seed is None:
        raise DatasetError("not a split: no line gives the seed")
    return Split(seed, *(tuple(sorted(found[part])) for part in _PARTS))


def _seed(line: str, number: int) -> int:
    try:
        return int(line.removeprefix("# seed "))
    except ValueError:
        raise DatasetError(f"split line {number}: {line!r}: the seed is not a whole number") from None


def split_hash(split: Split, dataset: Dataset) -> str:
    """SHA-256 of :func:`split_text`: the same hash means the same pictures in the same parts."""
    return hashlib.sha256(split_text(split, dataset).encode("utf-8", "surrogateescape")).hexdigest()
