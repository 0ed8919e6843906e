"""A model folder (``model.onnx``, ``card.json``, ``test_vector.png``) and its ONNX session.

The graph takes ``windows`` uint8 [n, 224, 224, 3], or ``pictures`` uint8 [n, h, w, 3], h and w multiples of 32, with
their ``sizes`` int64 [n, 2], the rows and columns that are not padding. It gives ``score`` float32 [n], the raw quality
of each. Normalisation is part of the graph; preprocessing and calibration are in the card.
A model with maps also gives, for K blocks of each, ``block_score`` and ``block_weight`` [n, K],
``kind_logits`` [n, K, kinds + 1] (the last: nothing is wrong) and ``level`` [n, K]; its card has ``explain``.

Every piece of a picture is run by itself on one thread, so that its score cannot depend on batch size, thread count or
neighbours. On a CPU a batch costs as much as its members one by one.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moslens.errors import ModelError
from moslens.scoring.card import BLOCK_OUTPUTS, Card
from moslens.scoring.providers import session_providers, short_name, warn_of_fallback

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moslens.picture.windows import Piece, View

INPUTS = {"windows": ("windows",), "whole": ("pictures", "sizes")}
"""The inputs of a graph, by view."""


class Model:
    """An open, verified model; safe to use from many threads at once."""

    def __init__(self, folder: str | os.PathLike[str], providers: Sequence[str] | None = None) -> None:
        """Open the model in ``folder``, to run on the first of ``providers`` that works, at the end on the CPU.

        Raises ModelError where the model is missing, broken or altered, ConfigError for an unknown provider.
        """
        self.card = Card.read(folder)
        weights = self.card.verified_weights()
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        asked = session_providers(providers, ort)
        try:
            self._session = ort.InferenceSession(
                weights, options, providers=[name for name, _ in asked], provider_options=[one for _, one in asked]
            )
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise ModelError(f"onnxruntime cannot open it: {error}", self.card.folder / self.card.file) from error
        in_use = self._session.get_providers()
        warn_of_fallback(asked, in_use)
        self.providers = tuple(map(short_name, in_use))
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        inputs = [node.name for node in self._session.get_inputs()]
        wanted = list(INPUTS["whole" if self.card.view.whole else "windows"])
        if inputs != wanted or "score" not in self.outputs:
            raise ModelError(
                f"needs {' and '.join(wanted)} as input and 'score' as output, has {inputs} and {list(self.outputs)}",
                self.card.folder / self.card.file,
            )
        self.has_maps = self.card.explain is not None and set(BLOCK_OUTPUTS) <= set(self.outputs)
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True

    def run(self, piece: "Piece", outputs: Sequence[str] = ("score",)) -> list["NDArray[np.float32]"]:
        """The named outputs for one piece of a picture, each without its leading axis of one."""
        results = self._session.run(list(outputs), graph_inputs(self.card.view, piece), self._run_options)
        return [result[0] for result in results]


def graph_inputs(view: "View", piece: "Piece") -> dict[str, "NDArray[Any]"]:
    """The inputs of a graph for one piece of a picture."""
    import numpy as np

    if not view.whole:
        return {"windows": piece.pixels[None]}
    return {"pictures": piece.pixels[None], "sizes": np.array([[piece.height, piece.width]], np.int64)}


def available_providers() -> list[str]:
    """The providers that this onnxruntime is built with, by their short names."""
    return [short_name(name) for name in import_onnxruntime().get_available_providers()]


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    From 1.32 on, its import writes an identifier and a database into the user's cache and sends usage data. Only an
    environment variable set before the import prevents this. For a module imported earlier, the call stops the sending.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
