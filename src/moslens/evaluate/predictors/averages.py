"""Ensembles of runs as a source."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from moslens.data.records import Dataset
from moslens.errors import CheckpointError
from moslens.evaluate.predictors.base import Part, Prediction
from moslens.evaluate.predictors.runs import RunSource
from moslens.train.ensemble_folder import Ensemble


class EnsembleSource:
    """Ensembles of one split each: the mean of what their members predict, in MOS units.

    ``reuse`` takes the predictions that the members stored; their weights need not be there.
    """

    def __init__(self, name: str, folders: Sequence[Path], reuse: bool = False) -> None:
        """CheckpointError where a member is missing or altered, or where ensembles have other numbers of members."""
        ensembles = [Ensemble(folder) for folder in folders]
        for ensemble in ensembles:
            if len(ensemble.members) != len(ensembles[0].members):
                raise CheckpointError(f"has another number of members than {ensembles[0].folder}", ensemble.folder)
            if not reuse:
                ensemble.verify()
        columns = zip(*(ensemble.members for ensemble in ensembles), strict=True)
        self._columns = [
            RunSource(members[0].name, [member.run.folder for member in members], reuse) for members in columns
        ]
        first = self._columns[0]
        for column in self._columns[1:]:
            if column.keys != first.keys:
                raise CheckpointError(f"has members of {first.keys[0]} and of {column.keys[0]}", folders[0])
        self.model = name
        self.made = f"the mean of {len(self._columns)} runs, {first.made}"
        members = [{"name": column.model, "config": column.config} for column in self._columns]
        self.config: Mapping[str, Any] = {**first.config, "members": members}
        self.identity = json.dumps([name, [column.identity for column in self._columns]])

    @property
    def keys(self) -> tuple[str, ...]:
        """The ensembles, as :meth:`predict` tells them apart."""
        return self._columns[0].keys

    def parts(self, dataset: Dataset, seeds: Sequence[int]) -> list[Part]:
        """As :meth:`RunSource.parts`, checked for every member."""
        parts, *_ = [column.parts(dataset, seeds) for column in self._columns]
        return parts

    def protocol(self, dataset: Dataset) -> str:
        return f"{self._columns[0].protocol(dataset)}; the mean prediction of {len(self._columns)} runs"

    def warnings(self, dataset: Dataset, seeds: Sequence[int]) -> list[str]:
        return list(dict.fromkeys(text for column in self._columns for text in column.warnings(dataset, seeds)))

    def predict(self, dataset: Dataset, key: str, indices: Sequence[int]) -> Iterator[tuple[int, Prediction]]:
        streams = [column.predict(dataset, key, indices) for column in self._columns]
        for row in zip(*streams, strict=True):
            yield row[0][0], Prediction(fmean(prediction.value for _, prediction in row))
