"""Store predictions as they are made, so that an interrupted evaluation can continue."""

import json
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from moslens.data.records import Dataset
from moslens.errors import DatasetError
from moslens.evaluate.predictors.base import Part, Prediction, Source

_log = logging.getLogger(__name__)


class Store:
    """Stores predictions in ``folder/predictions.jsonl``, one per line, as they are made.

    ``folder/identity`` holds the identity of their source; a store of another identity is emptied. An incomplete last
    line is dropped. With ``folder`` None nothing is stored.
    """

    def __init__(self, folder: Path | None, identity: str) -> None:
        self._known: dict[tuple[str, str], Prediction] = {}
        self._path = None if folder is None else folder / "predictions.jsonl"
        if folder is None or self._path is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / "identity"
        if self._path.is_file() and mark.is_file() and mark.read_text("utf-8") == identity:
            self._load(self._path)
            return
        if self._path.is_file():
            _log.warning("%s: holds predictions of another model, data or command; starting again", folder)
        self._path.write_bytes(b"")
        mark.write_text(identity, encoding="utf-8")

    def missing(self, dataset: Dataset, parts: Iterable[Part]) -> int:
        """How many predictions of the parts are not known yet."""
        return len({(p.key, dataset.samples[i].name) for p in parts for i in p.indices} - self._known.keys())

    def _load(self, path: Path) -> None:
        whole, end, _ = path.read_bytes().rpartition(b"\n")
        path.write_bytes(whole + end)
        for line in whole.splitlines():
            key, name, *values = json.loads(line)
            self._known[key, name] = Prediction(*values)
        _log.warning("continuing with %d predictions of an earlier run", len(self._known))

    def fill(
        self, source: Source, dataset: Dataset, part: Part, on_each: Callable[[], None] = lambda: None
    ) -> list[Prediction]:
        """The predictions of a part, in its order. Those not known yet are made by the source.

        ``on_each`` is called after every prediction that is made. DatasetError for one that is not finite.
        """
        wanted = [i for i in part.indices if (part.key, dataset.samples[i].name) not in self._known]
        for i, prediction in source.predict(dataset, part.key, wanted) if wanted else ():
            name = dataset.samples[i].name
            if not math.isfinite(prediction.value):
                raise DatasetError(f"the prediction for {name} is {prediction.value}", dataset.root)
            self._known[part.key, name] = prediction
            self._keep([part.key, name, prediction.value, prediction.low, prediction.high])
            on_each()
        return [self._known[part.key, dataset.samples[i].name] for i in part.indices]

    def _keep(self, line: list[object]) -> None:
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(json.dumps(line).encode("utf-8") + b"\n")
