"""Sources of predictions: trained runs, ensembles of them, a model folder or shipped model, or a file of predictions.

Each source says on which parts of a data set it is to be measured, and predicts the pictures.
"""

from pathlib import Path

from moslens.errors import CheckpointError
from moslens.evaluate.predictors.averages import EnsembleSource
from moslens.evaluate.predictors.base import Part, Prediction, Source
from moslens.evaluate.predictors.csv_file import TableSource
from moslens.evaluate.predictors.kept import Store
from moslens.evaluate.predictors.model import ModelSource
from moslens.evaluate.predictors.runs import RunSource
from moslens.train.ensemble_folder import find_ensembles
from moslens.train.run_folder import find_runs

__all__ = [
    "EnsembleSource",
    "ModelSource",
    "Part",
    "Prediction",
    "RunSource",
    "Source",
    "Store",
    "TableSource",
    "open_source",
]


def open_source(argument: str, *, reuse: bool = False) -> Source:
    """Open a file of predictions, a run, an ensemble (or a folder of ``split-N``), a model folder or a shipped model.

    A file is a CSV or the JSON lines of ``moslens score``.

    ``reuse`` takes the predictions that finished runs stored instead of computing them again. DatasetError,
    CheckpointError or ModelError where it cannot be opened, by what ``argument`` looks like.
    """
    path = Path(argument)
    if path.suffix.lower() in (".csv", ".jsonl"):
        return TableSource(path)
    if path.is_dir() and not (path / "card.json").is_file():
        ensembles = find_ensembles(path)
        if ensembles:
            return EnsembleSource(path.resolve().name, [ensemble.folder for ensemble in ensembles], reuse)
        runs = find_runs(path)
        if not runs:
            raise CheckpointError("neither a run (config.json, split-N/config.json) nor a model (card.json)", path)
        return RunSource(path.resolve().name, [run.folder for run in runs], reuse)
    return ModelSource(argument)
