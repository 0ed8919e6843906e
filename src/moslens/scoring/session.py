"""A model folder (``model.onnx``, ``card.json``, ``test_vector.png``) and its ONNX session.

The graph takes ``windows`` uint8 [n, 224, 224, 3] and gives ``score`` float32 [n], the raw quality of each
window. Normalisation is part of the graph; preprocessing and calibration are in the card.
A model with maps also gives, for the K blocks of a window, ``block_score`` and ``block_weight`` [n, K],
``kind_logits`` [n, K, kinds + 1] (the last: nothing is wrong) and ``level`` [n, K]; its card has ``explain``.

Every window is run by itself on one thread, so that the score of a picture cannot depend on batch size, thread
count or neighbours. On a CPU a batch of windows costs as much as the same windows one by one.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moslens.errors import ModelError
from moslens.scoring.card import BLOCK_OUTPUTS, Card

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Model:
    """An open, verified model; safe to use from many threads at once."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the model in ``folder``. Raises ModelError where it is missing, broken or altered."""
        self.card = Card.read(folder)
        weights = self.card.verified_weights()
        ort = import_onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise ModelError(f"onnxruntime cannot open it: {error}", self.card.folder / self.card.file) from error
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        inputs = [node.name for node in self._session.get_inputs()]
        if inputs != ["windows"] or "score" not in self.outputs:
            raise ModelError(
                f"needs input 'windows' and output 'score', has {inputs} and {list(self.outputs)}",
                self.card.folder / self.card.file,
            )
        self.has_maps = self.card.explain is not None and set(BLOCK_OUTPUTS) <= set(self.outputs)
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True

    def run(self, window: "NDArray[np.uint8]", outputs: Sequence[str] = ("score",)) -> list["NDArray[np.float32]"]:
        """The named outputs for one window uint8 [224, 224, 3], each without its leading axis of one."""
        results = self._session.run(list(outputs), {"windows": window[None]}, self._run_options)
        return [result[0] for result in results]


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    From 1.32 on, its import writes an identifier and a database into the user's cache and sends usage data. Only an
    environment variable set before the import prevents this. For a module imported earlier, the call stops the sending.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
