"""What all sources of predictions share: a prediction, a part of a data set, the protocol of a source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from moslens.data.records import Dataset
from moslens.data.split import make_split, official_split, split_hash


@dataclass(frozen=True)
class Prediction:
    """The prediction for one picture, higher is better, with bounds on 0 to 100 where the source has them."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Part:
    """Pictures to measure together. Predictions for the same picture may differ between parts of different ``key``.

    ``learned``: the number of other pictures of the data set that the source learned from, where it is known.
    """

    seed: int | None
    indices: tuple[int, ...]
    key: str
    epoch: int | None = None
    split_hash: str | None = None
    learned: int | None = None


class Source(Protocol):
    """A source of predictions.

    ``model`` is its name in reports. ``identity`` changes whenever its predictions may. ``made`` says how they were
    computed. ``config`` goes into the result file.
    """

    model: str
    identity: str
    made: str
    config: Mapping[str, Any]

    def parts(self, dataset: Dataset, seeds: Sequence[int]) -> list[Part]: ...

    def protocol(self, dataset: Dataset) -> str: ...

    def warnings(self, dataset: Dataset, seeds: Sequence[int]) -> list[str]: ...

    def predict(self, dataset: Dataset, key: str, indices: Sequence[int]) -> Iterator[tuple[int, Prediction]]: ...


def test_parts(dataset: Dataset, seeds: Sequence[int], key: str) -> list[Part]:
    """The test part of every seed, for a source with one ``key``; seed -1 is the official split.

    An official split without a test part is tested on its validation part.
    """
    splits = [official_split(dataset) if seed < 0 else make_split(dataset, seed) for seed in seeds]
    return [Part(s.seed, s.test or s.validation, key, split_hash=split_hash(s, dataset)) for s in splits]
