"""Two models on the same pictures: how far scores move, which pictures move most, which model follows MOS better."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moslens import metrics
from moslens.bulk import stores
from moslens.data.records import Dataset, DatasetCard, Sample
from moslens.errors import ConfigError
from moslens.evaluate.predictors import EnsembleSource, ModelSource, Part, RunSource, Source, Store, TableSource
from moslens.evaluate.record import split_name
from moslens.evaluate.significance import (
    PairedBootstrap,
    SignTest,
    TTest,
    corrected_t_test,
    paired_bootstrap,
    sign_test,
)
from moslens.metrics import Vector


@dataclass(frozen=True)
class Move:
    """One picture's scores by both models, averaged where several splits test it."""

    name: str
    first: float
    second: float

    @property
    def change(self) -> float:
        """Second minus first."""
        return self.second - self.first


@dataclass(frozen=True)
class Quality:
    """Both models against opinion scores, split by split: SRCC and PLCC of each, and paired tests on SRCC.

    Differences are second minus first.
    """

    seeds: tuple[int | None, ...]
    first_srcc: tuple[float, ...]
    second_srcc: tuple[float, ...]
    first_plcc: tuple[float, ...]
    second_plcc: tuple[float, ...]
    sign: SignTest
    t: TTest
    bootstrap: PairedBootstrap

    @property
    def loss(self) -> float:
        """How much lower the median SRCC of the second model is."""
        return statistics.median(self.first_srcc) - statistics.median(self.second_srcc)


@dataclass(frozen=True)
class Comparison:
    """Scores of two models on the same pictures. ``moves`` are sorted by size of the change, largest first.

    ``failures`` name the pictures that a model could not score. ``warnings`` say why figures against opinion scores may
    be too good. ``quality`` is None where there are no opinion scores.
    """

    first: str
    second: str
    moves: tuple[Move, ...]
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    quality: Quality | None = None

    def _column(self, name: str) -> Vector:
        return np.array([getattr(move, name) for move in self.moves])

    @property
    def mean_change(self) -> float:
        return float(self._column("change").mean())

    @property
    def mean_absolute_change(self) -> float:
        return float(np.abs(self._column("change")).mean())

    @property
    def largest_change(self) -> float:
        return float(np.abs(self._column("change")).max())

    @property
    def srcc(self) -> float:
        """Rank correlation between the two models."""
        return metrics.srcc(self._column("first"), self._column("second"))

    @property
    def krcc(self) -> float:
        return metrics.krcc(self._column("first"), self._column("second"))


@dataclass(frozen=True)
class Bounds:
    """Limits of a comparison, None for no limit. Changes are in the unit of the scores, ``max_loss`` is of SRCC."""

    max_change: float | None = None
    max_mean_change: float | None = None
    min_srcc: float | None = None
    max_loss: float | None = None

    def broken(self, comparison: Comparison) -> list[str]:
        """A sentence for each limit that is exceeded. A value of nan exceeds every limit."""
        loss = math.nan if comparison.quality is None else comparison.quality.loss
        at_most = (
            ("largest change", comparison.largest_change, self.max_change),
            ("mean absolute change", comparison.mean_absolute_change, self.max_mean_change),
            ("loss of SRCC against opinion scores", loss, self.max_loss),
        )
        found = [
            f"{name} is {value:.4g}, more than {bound:g}"
            for name, value, bound in at_most
            if bound is not None and not value <= bound
        ]
        if self.min_srcc is not None and not comparison.srcc >= self.min_srcc:
            found.append(f"rank correlation is {comparison.srcc:.4g}, less than {self.min_srcc:g}")
        return found


def compare_pictures(first: Source, second: Source, paths: Sequence[str]) -> Comparison:
    """Both models on any pictures. Pictures that a model, or the run that wrote a CSV, cannot decode are not compared.

    Raises ConfigError where no picture is left, and what the sources raise.
    """
    samples = tuple(Sample(Path(path), path, 0.0) for path in paths)
    card = DatasetCard("the pictures given", "pictures at hand", "custom", len(samples), "MOS", (0.0, 100.0))
    dataset = Dataset("the pictures given", Path(), samples, card)
    failures: dict[str, None] = {}
    one, two = _scores(first, dataset, failures), _scores(second, dataset, failures)
    moves = [Move(samples[i].name, one[i], two[i]) for i in sorted(one.keys() & two.keys())]
    if not moves:
        raise ConfigError("no picture was scored by both models" + "".join(f"\n  {name}" for name in failures))
    return Comparison(first.model, second.model, _sorted(moves), tuple(failures))


def _scores(source: Source, dataset: Dataset, failures: dict[str, None]) -> dict[int, float]:
    everything: Sequence[int] = range(len(dataset.samples))
    if isinstance(source, ModelSource):
        from moslens.scoring.result import Score

        found = {}
        paths = (stores.source(sample.name) for sample in dataset.samples)
        for i, result in enumerate(source.scorer.score_many(paths, folders=False)):
            if isinstance(result, Score):
                found[i] = result.score
            else:
                failures[result.error.message] = None
        return found
    if isinstance(source, RunSource | EnsembleSource) and len(source.keys) > 1:
        raise ConfigError(f"{source.model} holds {len(source.keys)} runs; name one of them to score pictures with")
    if isinstance(source, TableSource):
        failed = source.failed(dataset)
        failures |= {f"{dataset.samples[index].name}: its row in {source.model} is an error": None for index in failed}
        everything = sorted(set(everything) - set(failed))
    key = source.keys[0] if isinstance(source, RunSource | EnsembleSource) else "all"
    return {i: prediction.value for i, prediction in source.predict(dataset, key, everything)}


def compare_on_dataset(
    first: Source,
    second: Source,
    dataset: Dataset,
    seeds: Sequence[int],
    rng: np.random.Generator,
    *,
    work: Path | None = None,
    draws: int = 1000,
) -> Comparison:
    """Both models on the test parts that they share, with opinion scores. Raises ConfigError where they share none.

    ``work`` keeps predictions and ``draws`` counts bootstrap draws, as in :func:`~moslens.evaluate.measure.evaluate`.
    """
    parts = [{part.seed: part for part in source.parts(dataset, seeds)} for source in (first, second)]
    shared = [seed for seed in parts[0] if seed is not None and seed in parts[1]]
    shared = [seed for seed in shared if parts[0][seed].indices == parts[1][seed].indices]
    if not shared:
        raise ConfigError(f"{first.model} and {second.model} share no test part of {dataset.name}")
    predicted = [
        [_values(source, dataset, own[seed], work, label) for seed in shared]
        for source, own, label in zip((first, second), parts, ("first", "second"), strict=True)
    ]
    mos = [np.array([dataset.samples[i].mos for i in parts[0][seed].indices]) for seed in shared]
    groups = [[dataset.samples[i].group for i in parts[0][seed].indices] for seed in shared]
    learned = statistics.fmean(_learned(parts[0][seed], parts[1][seed], dataset) for seed in shared)
    quality = _quality(shared, predicted[0], predicted[1], mos, groups, learned, rng, draws)
    by_picture: dict[int, list[tuple[float, float]]] = {}
    for seed, one, two in zip(shared, *predicted, strict=True):
        for i, a, b in zip(parts[0][seed].indices, one, two, strict=True):
            by_picture.setdefault(i, []).append((float(a), float(b)))
    moves = [
        Move(dataset.samples[i].name, *(statistics.fmean(column) for column in zip(*pairs, strict=True)))
        for i, pairs in by_picture.items()
    ]
    # A model that was trained on these pictures looks better than one that was not.
    warnings = tuple(f"{one.model}: {text}" for one in (first, second) for text in one.warnings(dataset, shared))
    return Comparison(first.model, second.model, _sorted(moves), warnings=warnings, quality=quality)


def _values(source: Source, dataset: Dataset, part: Part, work: Path | None, label: str) -> Vector:
    folder = None if work is None else work / label
    store = Store(folder, f"{source.identity} {dataset.name} {dataset.data_hash()}")
    return np.array([prediction.value for prediction in store.fill(source, dataset, part)])


def _learned(first: Part, second: Part, dataset: Dataset) -> int:
    """How many pictures the source that saw fewer learned from: all that are not tested, where neither says."""
    told = [part.learned for part in (first, second) if part.learned is not None]
    return min(told, default=len(dataset.samples) - len(first.indices))


def _quality(
    seeds: Sequence[int | None],
    first: Sequence[Vector],
    second: Sequence[Vector],
    mos: Sequence[Vector],
    groups: Sequence[Sequence[str]],
    learned: float,
    rng: np.random.Generator,
    draws: int,
) -> Quality:
    def each(metric: metrics.Metric, values: Sequence[Vector]) -> tuple[float, ...]:
        return tuple(metric(x, y) for x, y in zip(values, mos, strict=True))

    def mapped(x: Vector, y: Vector) -> float:
        return metrics.plcc(metrics.fit_logistic(x, y)(x), y)

    one, two = each(metrics.srcc, first), each(metrics.srcc, second)
    for seed, pair in zip(seeds, zip(one, two, strict=True), strict=True):
        if not all(map(math.isfinite, pair)):
            raise ConfigError(f"split {split_name(seed)}: predictions or scores are all the same and rank nothing")
    tested = statistics.fmean(y.size for y in mos)
    # Where a split tests all pictures, splits are the same pictures again and the t-test does not apply.
    ratio = tested / learned if learned else math.inf
    return Quality(
        tuple(seeds),
        one,
        two,
        each(mapped, first),
        each(mapped, second),
        sign_test(two, one),
        corrected_t_test(two, one, ratio),
        paired_bootstrap(metrics.srcc, second, first, mos, rng, groups=groups, draws=draws),
    )


def _sorted(moves: Sequence[Move]) -> tuple[Move, ...]:
    return tuple(sorted(moves, key=lambda move: (-abs(move.change), move.name)))


def to_record(comparison: Comparison, broken: Sequence[str], top: int) -> dict[str, Any]:
    """The comparison as plain values for JSON, with the ``top`` pictures that moved most, none that did not move."""
    moved = [move for move in comparison.moves if move.change]
    return {
        "first": comparison.first,
        "second": comparison.second,
        "pictures": len(comparison.moves),
        "failures": list(comparison.failures),
        "warnings": list(comparison.warnings),
        "mean_change": comparison.mean_change,
        "mean_absolute_change": comparison.mean_absolute_change,
        "largest_change": comparison.largest_change,
        "srcc": comparison.srcc,
        "krcc": comparison.krcc,
        "quality": None if comparison.quality is None else asdict(comparison.quality),
        "moved": [{**asdict(move), "change": move.change} for move in moved[:top]],
        "broken": list(broken),
    }
