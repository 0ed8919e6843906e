"""Data sets by name or CSV file: ``load_dataset`` to use one, ``check_dataset`` to see what a copy lacks."""

import os
from dataclasses import dataclass
from pathlib import Path

from moslens.data.cards import all_cards, find_card
from moslens.data.readers import READERS
from moslens.data.records import Card, Dataset, Sample
from moslens.data.table import raise_problems, read_csv
from moslens.errors import DatasetError

__all__ = ["Card", "Check", "Dataset", "Sample", "all_cards", "check_dataset", "find_card", "load_dataset"]


def load_dataset(
    name_or_csv: str, root: Path | None = None, *, mos_range: tuple[float, float] = (0.0, 100.0)
) -> Dataset:
    """The data set ``name_or_csv``: a card's name with the folder it lies in, or a CSV file.

    ``root`` is the folder as released for a card; for a CSV the folder its pictures are relative to, by
    default its own. ``mos_range`` bounds the scores of a CSV; a card has its own. Raises DatasetError, which
    names every label file, row, column or picture that is wrong.
    """
    if name_or_csv.lower().endswith(".csv") or os.sep in name_or_csv:
        return read_csv(Path(name_or_csv), root, mos_range)
    card = find_card(name_or_csv)
    if root is None:
        raise DatasetError(f"data set {card.name} needs the folder it lies in (--root)")
    samples = _read(card, root)
    raise_problems(_label_problems(card, samples) + _missing(samples), root)
    return Dataset(card.name, root, samples, card)


def _read(card: Card, root: Path) -> tuple[Sample, ...]:
    if not root.is_dir():
        raise DatasetError("no such folder", root)
    return tuple(sorted(READERS[card.name](root), key=lambda sample: sample.name))


def _label_problems(card: Card, samples: tuple[Sample, ...]) -> list[str]:
    problems = []
    if card.count is not None and len(samples) != card.count:
        problems.append(f"{len(samples)} labelled pictures where {card.count} belong")
    names: set[str] = set()
    low, high = card.mos_range
    for sample in samples:
        if sample.name in names:
            problems.append(f"{sample.name} is labelled twice")
        if not low <= sample.mos <= high:
            problems.append(f"{sample.name}: score {sample.mos:g} is outside {low:g}..{high:g}")
        names.add(sample.name)
    groups = {sample.reference for sample in samples if sample.reference is not None}
    if card.references is not None and len(groups) != card.references:
        problems.append(f"{len(groups)} references where {card.references} belong")
    return problems


def _missing(samples: tuple[Sample, ...]) -> list[str]:
    return [f"missing picture {sample.path}" for sample in samples if not sample.path.is_file()]


@dataclass(frozen=True)
class Check:
    """What ``check_dataset`` found. ``missing`` and ``surplus`` are paths below the root."""

    card: Card
    root: Path
    labelled: int
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Nothing missing and nothing wrong; surplus files do no harm."""
        return not self.missing and not self.problems


def check_dataset(name: str, root: Path) -> Check:
    """Compare the folder ``root`` with the card ``name``: labels, counts, every missing and surplus picture.

    Raises DatasetError where there is no such card or folder; a wrong content is reported, not raised.
    """
    card = find_card(name)
    try:
        samples = _read(card, root)
    except DatasetError as error:
        if not root.is_dir():
            raise
        missing = tuple(label for label in card.labels if not (root / label).is_file())
        return Check(card, root, 0, missing, (), (error.message,))
    missing = tuple(str(s.path.relative_to(root)) for s in samples if not s.path.is_file())
    known = {s.path for s in samples}
    folders = sorted({s.path.parent for s in samples})
    surplus = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]
    return Check(
        card,
        root,
        len(samples),
        missing,
        tuple(sorted(str(path.relative_to(root)) for path in surplus if path not in known)),
        tuple(_label_problems(card, samples)),
    )
