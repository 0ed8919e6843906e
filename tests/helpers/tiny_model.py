"""Made photos, and a model folder in the released format around a tiny network with fixed random weights."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def make_photo(width: int, height: int, seed: int) -> Image.Image:
    """A smooth colour picture with some noise, the same for the same arguments."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + generator.integers(-8 * (seed % 4) - 1, 8 * (seed % 4) + 1, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def make_tiny_model(folder: Path, *, name: str = "tiny", seed: int = 0) -> Path:
    """Write ``model.onnx``, ``card.json`` and ``test_vector.png`` into ``folder`` and return it."""
    from moslens.picture import load
    from moslens.picture.windows import cover
    from moslens.scoring.card import PREPROCESSING

    folder.mkdir(parents=True)
    data = tiny_network(seed)
    (folder / "model.onnx").write_bytes(data)
    make_photo(320, 240, seed=5).save(folder / "test_vector.png")
    windows = cover(load.load(folder / "test_vector.png", working_size=512).pixels)
    raw = float(np.mean([run_onnx(data, window[None])[0] for window in windows]))
    digest = hashlib.sha256(data).hexdigest()
    card = {
        "name": name,
        "id": f"{name}@{digest[:12]}",
        "sha256": digest,
        "file": "model.onnx",
        "preprocessing": {"working_size": 512, **PREPROCESSING["windows"]},
        "range": [0, 100],
        "direction": "higher is better",
        "calibration": {
            "kind": "logistic", "scale": 1.5, "shift": 0.2, "radius": 9.0, "coverage": 0.9,
            "fitted_on": "nothing: a model for tests",
        },
        "trained_on": "nothing",
        "licence": "Apache-2.0",
        "limits": ["its weights are random"],
        "metrics": {},
        "test_vector": {
            "file": "test_vector.png", "raw": raw, "score": 100 / (1 + math.exp(-(1.5 * raw + 0.2))),
        },
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
    return folder


def tiny_network(seed: int) -> bytes:
    """uint8 windows [n, 224, 224, 3] -> normalise, two convolutions, a map of blocks -> score [n]."""
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(seed)

    def weights(label: str, *shape: int) -> Any:
        fan_in = math.prod(shape[1:])
        values = generator.normal(0, fan_in**-0.5, shape).astype(np.float32)
        return numpy_helper.from_array(values, label)

    constants = [
        numpy_helper.from_array(np.float32(127.5), "half"),
        weights("w1", 8, 3, 8, 8),
        weights("w2", 16, 8, 3, 3),
        weights("w3", 1, 16, 1, 1),
    ]
    nodes = [
        helper.make_node("Cast", ["windows"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["as_float", "half"], ["centred"]),
        helper.make_node("Div", ["centred", "half"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w1"], ["c1"], strides=[8, 8]),
        helper.make_node("Abs", ["c1"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2"], ["c2"], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["a2"]),
        helper.make_node("Conv", ["a2", "w3"], ["block_map"]),
        helper.make_node("ReduceMean", ["block_map"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["n", 224, 224, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("block_map", TensorProto.FLOAT, ["n", 1, 13, 13]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def run_onnx(data: bytes, windows: np.ndarray) -> np.ndarray:
    """The raw scores of windows by a plain session, as a reference for the runtime's own."""
    import onnxruntime as ort

    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["score"], {"windows": windows})[0])
