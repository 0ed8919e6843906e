"""A released model as a source."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moslens.data.records import Dataset
from moslens.errors import DatasetError
from moslens.evaluate.predictors.base import Part, Prediction, test_parts


class ModelSource:
    """A released model, measured on the test part of every seed and on the whole data set."""

    made = "recomputed"

    def __init__(self, model: str) -> None:
        """Open a model folder or shipped model. Raises ModelError."""
        from moslens.scoring.scorer import Scorer

        self.scorer = scorer = Scorer(model)
        self.model = self.identity = scorer.model_id
        self._trained_on = str(scorer.model.card.record.get("trained_on", ""))
        self.config: Mapping[str, Any] = {"trained_on": self._trained_on}

    def parts(self, dataset: Dataset, seeds: Sequence[int]) -> list[Part]:
        """The test part of every seed, then all pictures (seed None)."""
        return [*test_parts(dataset, seeds, "all"), Part(None, tuple(range(len(dataset.samples))), "all")]

    def protocol(self, dataset: Dataset) -> str:
        return f"one fixed model on the test parts of splits of {dataset.name}, and on all of it"

    def warnings(self, dataset: Dataset, seeds: Sequence[int]) -> list[str]:
        said = self._trained_on.lower()
        names = (dataset.name, dataset.card.title, *dataset.card.aliases)
        if any(name.lower() in said for name in names):
            return [f"not a test, for the model's card says it was trained on {self._trained_on}"]
        return []

    def predict(self, dataset: Dataset, key: str, indices: Sequence[int]) -> Iterator[tuple[int, Prediction]]:
        """Yield (index, prediction). DatasetError for a picture that cannot be scored: it must not be left out."""
        from moslens.scoring.result import Failure

        results = self.scorer.score_many((dataset.samples[i].path for i in indices), folders=False)
        for i, result in zip(indices, results, strict=True):
            if isinstance(result, Failure):
                raise DatasetError(f"a picture cannot be scored: {result.error.message}", dataset.root)
            yield i, Prediction(result.score, result.low, result.high)
