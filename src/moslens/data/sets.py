"""Data sets by name or CSV file: ``load_dataset`` reads one, ``check_dataset`` reports what a copy lacks."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moslens.data import authentic, synthetic
from moslens.data.cards import all_cards, find_card
from moslens.data.csv_set import raise_problems, read_csv
from moslens.data.records import Dataset, DatasetCard, Direction, LabelScale, Sample
from moslens.errors import DatasetError

__all__ = ["DatasetCheck", "all_cards", "check_dataset", "find_card", "is_csv", "load_dataset"]

READERS: dict[str, Callable[[Path], list[Sample]]] = {
    "live": synthetic.live,
    "csiq": synthetic.csiq,
    "tid2013": synthetic.tid2013,
    "kadid10k": synthetic.kadid10k,
    "livec": authentic.livec,
    "koniq10k": authentic.koniq10k,
    "livefb": authentic.livefb,
    "spaq": authentic.spaq,
    "cid2013": authentic.cid2013,
    "bid": authentic.bid,
    "pipal": synthetic.pipal,
    "agiqa3k": authentic.agiqa3k,
}

_log = logging.getLogger(__name__)


def is_csv(name_or_csv: str) -> bool:
    """Whether the name of a data set means a CSV file and not a card."""
    return name_or_csv.lower().endswith(".csv") or os.sep in name_or_csv


def load_dataset(
    name_or_csv: str,
    root: Path | None = None,
    *,
    mos_range: tuple[float, float] = (0.0, 100.0),
    direction: Direction = "higher",
) -> Dataset:
    """The data set ``name_or_csv``: a card's name with the folder it lies in, or a CSV file.

    ``root`` is the folder of the release. For a CSV file it is the folder that its pictures are relative to, by
    default the file's own. ``mos_range`` bounds the scores of a CSV file, and ``direction`` says which of them are
    better; a card has its own. A copy with fewer or more labels than the card says is used with a warning. Raises
    DatasetError, which names every label file, row, column or picture that is wrong, and ConfigError for a range or
    direction that is none.
    """
    if is_csv(name_or_csv):
        return read_csv(Path(name_or_csv), root, LabelScale(*mos_range, direction))
    card = find_card(name_or_csv)
    if root is None:
        raise DatasetError(f"data set {card.name} needs its folder (--root)")
    samples = _read(card, root)
    missing = [f"missing picture {sample.path}" for sample in samples if not sample.path.is_file()]
    raise_problems(_label_problems(card, samples) + missing, root)
    for problem in _count_problems(card, samples):
        _log.warning("%s: %s: %s", root, card.name, problem)
    return Dataset(card.name, root, samples, card)


def _read(card: DatasetCard, root: Path) -> tuple[Sample, ...]:
    if not root.is_dir():
        raise DatasetError("no such folder", root)
    return tuple(sorted(READERS[card.name](root), key=lambda sample: sample.name))


def _count_problems(card: DatasetCard, samples: tuple[Sample, ...]) -> list[str]:
    problems = []
    if card.count is not None and len(samples) != card.count:
        problems.append(f"{len(samples)} labelled pictures, expected {card.count}")
    references = {sample.reference for sample in samples if sample.reference is not None}
    if card.references is not None and len(references) != card.references:
        problems.append(f"{len(references)} references, expected {card.references}")
    return problems


def _label_problems(card: DatasetCard, samples: tuple[Sample, ...]) -> list[str]:
    problems = []
    names: set[str] = set()
    low, high = card.mos_range
    for sample in samples:
        if sample.name in names:
            problems.append(f"{sample.name} is labelled twice")
        if not low <= sample.mos <= high:
            problems.append(f"{sample.name}: score {sample.mos:g} is outside {low:g}..{high:g}")
        names.add(sample.name)
    return problems


@dataclass(frozen=True)
class DatasetCheck:
    """What :func:`check_dataset` found. ``missing`` and ``surplus`` are paths below the root."""

    card: DatasetCard
    root: Path
    labelled: int
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing or wrong; surplus files are allowed."""
        return not self.missing and not self.problems


def check_dataset(name: str, root: Path) -> DatasetCheck:
    """Compare the folder ``root`` with the card ``name``: labels, counts, every missing and surplus file.

    Raises DatasetError where there is no such card or folder; wrong content is reported, not raised.
    """
    card = find_card(name)
    try:
        samples = _read(card, root)
    except DatasetError as error:
        if not root.is_dir():
            raise
        absent = tuple(label for label in card.labels if not (root / label).exists())
        return DatasetCheck(card, root, 0, absent, (), (error.message,))
    known = {sample.path for sample in samples}
    references = {sample.reference for sample in samples}
    folders = {path.parent for path in known if path.parent.is_dir()}
    surplus = [
        path.relative_to(root)
        for folder in folders
        for path in folder.iterdir()
        if path.is_file() and path not in known and path.name not in references
    ]
    return DatasetCheck(
        card,
        root,
        len(samples),
        tuple(sorted(path.relative_to(root).as_posix() for path in known if not path.is_file())),
        tuple(
            sorted(
                path.as_posix()
                for path in surplus
                if path.as_posix() not in card.labels and not any(path.match(pattern) for pattern in card.extra)
            )
        ),
        tuple(_count_problems(card, samples) + _label_problems(card, samples)),
    )
