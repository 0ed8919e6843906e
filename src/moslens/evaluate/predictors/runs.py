"""Finished training runs as a source."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from moslens.data.cards import find_card
from moslens.data.records import Dataset
from moslens.data.split import make_split, split_hash
from moslens.errors import CheckpointError, DatasetError
from moslens.evaluate.predictors.base import Part, Prediction
from moslens.train.run_folder import Run


class RunSource:
    """Finished training runs, each measured on its own test part, or on all of another data set."""

    def __init__(self, name: str, folders: Sequence[Path], reuse: bool = False) -> None:
        self.model = name
        self.made = "stored by the runs" if reuse else "recomputed"
        self._reuse = reuse
        self._runs: dict[str, Run] = {}
        for run in map(Run, folders):
            run.require_scores()
            key = f"split {run.stored_config['data']['split']}"
            if key in self._runs:
                raise CheckpointError(f"is a second run of {key}", run.folder)
            self._runs[key] = run
        self._configs = [run.stored_config for run in self._runs.values()]
        self.config: Mapping[str, Any] = self._configs[0]
        self.identity = json.dumps([name, self.made, self._configs, _stamps(self._runs.values())])

    @property
    def keys(self) -> tuple[str, ...]:
        """The runs, as :meth:`predict` tells them apart."""
        return tuple(self._runs)

    def _same_data(self, dataset: Dataset) -> bool:
        trained = str(self.config["data"]["name"])
        known = PurePath(trained).stem if trained.lower().endswith(".csv") else find_card(trained).name
        return known == dataset.name

    def parts(self, dataset: Dataset, seeds: Sequence[int]) -> list[Part]:
        """One part for each run of one of the seeds, and for runs without a test part (split -1).

        CheckpointError where there is no such run or one is not finished, DatasetError where a run was tested on
        other pictures.
        """
        parts = []
        for key, run in self._runs.items():
            data, epoch = run.stored_config["data"], run.stored_config["optim"]["epochs"]
            seed = data["split"]
            if seed >= 0 and seed not in seeds:
                continue
            if not run.finished and not run.predictions_file.is_file():
                raise CheckpointError("the run is not finished", run.folder)
            if seed < 0 or not self._same_data(dataset):
                everything = tuple(range(len(dataset.samples)))
                parts.append(Part(seed if seed >= 0 else None, everything, key, epoch))
                continue
            shares = {name: data[name] for name in ("validation", "fraction") if name in data}
            split = make_split(dataset, seed, **shares)
            parts.append(Part(seed, split.test, key, epoch, split_hash(split, dataset), len(split.train)))
            self._check_split(run, dataset, split.test)
        if not parts:
            raise CheckpointError(f"{self.model} has no run of split {', '.join(map(str, seeds))}")
        return parts

    def _check_split(self, run: Run, dataset: Dataset, test: Sequence[int]) -> None:
        stored = {row.image for row in run.predictions()}
        if stored and stored != {dataset.samples[i].name for i in test}:
            raise DatasetError("the run was tested on other pictures than this split's test part", run.folder)

    def protocol(self, dataset: Dataset) -> str:
        epochs = "the last epoch of each run" + self._kept()
        if not self._same_data(dataset):
            return f"trained on a split of {self.config['data']['name']}, tested on all of {dataset.name}; {epochs}"
        if any(config["data"]["split"] < 0 for config in self._configs):
            return f"trained on all of {dataset.name} and measured on the same pictures: no test"
        return f"seeded 80/20 splits by group, each run measured on the test part of its own split; {epochs}"

    def _kept(self) -> str:
        """What the runs left out of the training part, for the protocol."""
        data = self.config["data"]
        held, fraction = data.get("validation", 0.0), data.get("fraction", 1.0)
        words = f"; {100 * held:.0f} % of the training part held out for validation" if held > 0 else ""
        return words + (f"; {100 * fraction:.0f} % of the training groups used" if fraction < 1 else "")

    def warnings(self, dataset: Dataset, seeds: Sequence[int]) -> list[str]:
        found = []
        if self._same_data(dataset) and any(config["data"]["split"] < 0 for config in self._configs):
            found.append("the run was trained on the pictures it is measured on: these figures are not a test")
        have = {config["data"]["split"] for config in self._configs}
        absent = [seed for seed in seeds if seed not in have]
        if len(self._runs) > 1 and absent:
            found.append(f"there is no run of split {', '.join(map(str, absent))}: the result lacks it")
        differing = sorted({name for config in self._configs for name in _differing(self.config, config)})
        if differing:
            found.append(f"the runs were not trained alike, they differ in {', '.join(differing)}")
        return found

    def predict(self, dataset: Dataset, key: str, indices: Sequence[int]) -> Iterator[tuple[int, Prediction]]:
        run = self._runs[key]
        if self._reuse:
            stored = {row.image: row.prediction for row in run.predictions()}
            missing = [dataset.samples[i].name for i in indices if dataset.samples[i].name not in stored]
            if missing:
                raise CheckpointError(f"stored no prediction for {missing[0]} and {len(missing) - 1} more", run.folder)
            yield from ((i, Prediction(stored[dataset.samples[i].name])) for i in indices)
            return
        from moslens.train.predict import predict_run

        for i, value in zip(indices, predict_run(run.folder, dataset, indices), strict=True):
            yield i, Prediction(float(value))


def _differing(first: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Settings that differ between two runs, other than the split, the seed and how files are read."""
    one, two = _flat(first), _flat(other)
    differing = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    free = ("seed", "split", "root", "bank", "workers", "checkpoint_every")
    return {key for key in differing if key.rpartition(".")[2] not in free}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _stamps(runs: Iterable[Run]) -> list[list[float]]:
    files = [file for run in runs for file in (run.weights_file, run.predictions_file)]
    return [[path.stat().st_size, path.stat().st_mtime] for path in files if path.is_file()]
