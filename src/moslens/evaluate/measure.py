"""Measure a predictor on a data set: figures of every split, tables, worst pictures, coverage.

source -> parts (splits) -> predictions, kept on disk as they come -> figures -> :class:`Evaluation`
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moslens import metrics
from moslens.data.records import Dataset
from moslens.evaluate import record
from moslens.evaluate.breakdown import Coverage, GroupRow, Measured, Miss, by_kind, by_range, coverage, worst
from moslens.evaluate.predictors import Part, Prediction, Source, Store
from moslens.evaluate.significance import bootstrap_interval
from moslens.metrics import Vector

Watch = Callable[[int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Evaluation:
    """All that was measured. ``splits`` are the parts with a seed; ``whole`` is all pictures, None where not measured.

    ``made`` says how the predictions came about, ``config`` how the model was configured, ``seconds`` is wall time.
    """

    dataset: Dataset
    model: str
    made: str
    config: Mapping[str, Any]
    protocol: str
    warnings: tuple[str, ...]
    splits: tuple[Measured, ...]
    whole: Measured | None
    by_kind: tuple[GroupRow, ...]
    by_range: tuple[GroupRow, ...]
    worst: tuple[Miss, ...]
    coverage: Coverage | None
    seconds: float


def evaluate(
    source: Source,
    dataset: Dataset,
    seeds: Sequence[int] = tuple(range(10)),
    *,
    work: Path | None = None,
    draws: int = 1000,
    bootstrap_seed: int = 0,
    watch: Watch = lambda total: nullcontext(lambda: None),
) -> Evaluation:
    """Measure ``source`` on the parts of ``dataset`` that it names for ``seeds``.

    ``work`` is a folder that keeps predictions, so that the same call goes on after a kill. ``draws`` is the number of
    bootstrap draws over pictures, or over references where pictures share one. ``watch`` gets the number of predictions
    to make and returns a context manager, whose value is called after each prediction. Raises what the source raises,
    and MissingExtra without scipy.
    """
    start = time.monotonic()
    store = Store(work, f"{source.identity} {dataset.name} {dataset.data_hash()}")
    parts = source.parts(dataset, seeds)
    with watch(store.missing(dataset, parts)) as on_each:
        predictions = [store.fill(source, dataset, part, on_each) for part in parts]
    measured = []
    for part, made in zip(parts, predictions, strict=True):
        rng = np.random.default_rng([bootstrap_seed, 0 if part.seed is None else part.seed + 2])
        measured.append(_measure(dataset, part, made, draws, rng))
    splits = tuple(one for one in measured if one.part.seed is not None)
    whole = next((one for one in measured if one.part.seed is None), None)
    shown = (whole,) if whole else splits
    return Evaluation(
        dataset=dataset,
        model=source.model,
        made=source.made,
        config=source.config,
        protocol=source.protocol(dataset),
        warnings=tuple(source.warnings(dataset, seeds)),
        splits=splits,
        whole=whole,
        by_kind=by_kind(dataset, shown),
        by_range=by_range(dataset, shown),
        worst=worst(dataset, shown),
        coverage=coverage(dataset, shown),
        seconds=time.monotonic() - start,
    )


def _measure(
    dataset: Dataset, part: Part, predictions: Sequence[Prediction], draws: int, rng: np.random.Generator
) -> Measured:
    samples = [dataset.samples[i] for i in part.indices]
    mos = np.array([sample.mos for sample in samples])
    prediction = np.array([one.value for one in predictions])
    low, high = _bound(one.low for one in predictions), _bound(one.high for one in predictions)
    fit = metrics.fit_logistic(prediction, mos)
    mapped = fit(prediction)
    shared = any(sample.reference is not None for sample in samples)
    groups = [sample.group for sample in samples] if shared else None
    intervals = {
        "srcc": bootstrap_interval(metrics.srcc, prediction, mos, rng, draws=draws, groups=groups),
        "plcc": bootstrap_interval(metrics.plcc, mapped, mos, rng, draws=draws, groups=groups),
    }
    five = metrics.fit_logistic(prediction, mos, parameters=5)
    figures = {
        "seed": part.seed,
        **record.split_figures(prediction, mos),
        "epoch": part.epoch,
        "n": len(samples),
        "plcc_5": metrics.plcc(five(prediction), mos),
        "pairs": metrics.pairwise_accuracy(prediction, mos),
        "srcc_interval": [intervals["srcc"].low, intervals["srcc"].high],
        "plcc_interval": [intervals["plcc"].low, intervals["plcc"].high],
        "fit": {"form": fit.form, "beta": list(fit.beta)},
        "split_hash": part.split_hash,
    }
    return Measured(part, mos, prediction, mapped, low, high, figures)


def _bound(values: Any) -> Vector | None:
    listed = list(values)
    return None if any(value is None for value in listed) else np.array(listed, dtype=np.float64)


def to_result(
    evaluation: Evaluation, name: str, *, others: Sequence[Evaluation] = (), command: str | None = None
) -> dict[str, Any]:
    """The evaluation in the format of :mod:`.record`; ``cross`` gets one row for each data set of ``others``."""
    shown = evaluation.splits or ((evaluation.whole,) if evaluation.whole else ())
    extra: dict[str, Any] = {
        "predictions": evaluation.made,
        "warnings": list(evaluation.warnings),
        "pictures": len(evaluation.dataset.samples),
        "whole": None if evaluation.whole is None else dict(evaluation.whole.figures),
        "by_kind": [vars(row) for row in evaluation.by_kind],
        "by_range": [vars(row) for row in evaluation.by_range],
        "coverage": None if evaluation.coverage is None else vars(evaluation.coverage),
        "worst": [
            {"image": miss.sample.name, "mos": miss.sample.mos, "predicted": miss.predicted, "error": miss.error}
            for miss in evaluation.worst
        ],
        "cross": [cross_row(other) for other in others],
    }
    return record.make_result(
        name=name,
        config=evaluation.config,
        dataset=evaluation.dataset.name,
        protocol=evaluation.protocol,
        model=evaluation.model,
        splits=[one.figures for one in shown],
        seconds=evaluation.seconds + sum(other.seconds for other in others),
        data_hash=evaluation.dataset.data_hash(),
        command=command,
        **extra,
    )


def cross_row(evaluation: Evaluation) -> dict[str, Any]:
    """The row of the table over data sets: figures of the whole set where measured, else the median over splits."""
    splits = [evaluation.whole.figures] if evaluation.whole else [one.figures for one in evaluation.splits]
    return {
        "dataset": evaluation.dataset.name,
        "protocol": evaluation.protocol,
        "pictures": len(evaluation.dataset.samples),
        "splits": len(splits),
        "median": record.summary(splits, statistics.median),
        "data_hash": evaluation.dataset.data_hash(),
    }
