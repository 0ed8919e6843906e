"""A model folder with maps whose answers can be foretold: it reads the colours of its blocks.

Red is jpeg, blue is white noise, green is nothing wrong: logits 20 (share of the colour - 1/3), the other kinds at -20.
The level is 1 + 4 (brightest of red and blue), the block's score is green minus the mean of red and blue, from -1 to 1,
its weight 1/16, the window's score the mean over all pixels.
"""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moslens.distortions import KIND_INDEX, KINDS
from moslens.picture.grid import CELL, cell_cuts
from moslens.scoring.card import PREPROCESSING

GRID = 4
RED, GREEN, BLUE = (220, 10, 10), (10, 220, 10), (10, 10, 220)


def plain(width: int, height: int, colour: tuple[int, int, int] = GREEN) -> np.ndarray:
    """A picture of one colour, uint8 height x width x 3."""
    return np.full((height, width, 3), colour, np.uint8)


def make_map_model(folder: Path, *, threshold: float = 0.5, temperature: float = 1.0) -> Path:
    """Write model and card into ``folder`` and return it."""
    folder.mkdir(parents=True)
    data = _network()
    (folder / "model.onnx").write_bytes(data)
    Image.fromarray(plain(64, 64)).save(folder / "test_vector.png")
    digest = hashlib.sha256(data).hexdigest()
    card = {
        "name": "colours",
        "id": f"colours@{digest[:12]}",
        "sha256": digest,
        "file": "model.onnx",
        "preprocessing": {"working_size": 512, **PREPROCESSING["windows"]},
        "calibration": {"kind": "logistic", "scale": 2.0, "shift": 0.0, "radius": 9.0},
        "explain": {
            "grid": GRID,
            "kinds": [kind.name for kind in KINDS],
            "groups": [kind.group for kind in KINDS],
            "temperature": temperature,
            "threshold": threshold,
        },
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def _network() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.asarray(values), name)

    edges = [CELL * cut for cut in cell_cuts(14, GRID)]
    pool = np.zeros((GRID, 224), np.float32)
    for row, (start, end) in enumerate(itertools.pairwise(edges)):
        pool[row, start:end] = 1 / (end - start)
    to_logits = np.zeros((3, len(KINDS) + 1), np.float32)
    offset = np.full(len(KINDS) + 1, -20, np.float32)
    for colour, kind in ((0, KIND_INDEX["jpeg"]), (2, KIND_INDEX["white_noise"]), (1, len(KINDS))):
        to_logits[colour, kind] = 20
        offset[kind] = -20 / 3
    node = helper.make_node
    nodes = [
        node("Cast", ["windows"], ["float"], to=TensorProto.FLOAT),
        node("Div", ["float", "white"], ["unit"]),
        node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        node("MatMul", ["pool", "planes"], ["by_row"]),
        node("MatMul", ["by_row", "across"], ["cells"]),
        node("Reshape", ["cells", "flat"], ["listed"]),
        node("Transpose", ["listed"], ["means"], perm=[0, 2, 1]),
        node("ReduceSum", ["means", "last"], ["total"], keepdims=1),
        node("Max", ["total", "tiny"], ["safe"]),
        node("Div", ["means", "safe"], ["shares"]),
        node("MatMul", ["shares", "to_logits"], ["raw_logits"]),
        node("Add", ["raw_logits", "offset"], ["kind_logits"]),
        node("MatMul", ["means", "to_score"], ["block_score_3"]),
        node("Squeeze", ["block_score_3", "last"], ["block_score"]),
        node("Mul", ["block_score", "zero"], ["zeros"]),
        node("Add", ["zeros", "sixteenth"], ["block_weight"]),
        node("Gather", ["means", "red_and_blue"], ["bad"], axis=2),
        node("ReduceMax", ["bad"], ["worst"], axes=[2], keepdims=0),
        node("Mul", ["worst", "four"], ["scaled"]),
        node("Add", ["scaled", "one"], ["level"]),
        node("ReduceMean", ["planes"], ["by_plane"], axes=[2, 3], keepdims=0),
        node("MatMul", ["by_plane", "to_score"], ["score_2"]),
        node("Squeeze", ["score_2", "score_axis"], ["score"]),
    ]
    constants = [
        constant("white", np.float32(255)),
        constant("pool", pool),
        constant("across", np.ascontiguousarray(pool.T)),
        constant("flat", np.array([0, 3, GRID * GRID], np.int64)),
        constant("last", np.array([2], np.int64)),
        constant("tiny", np.float32(1e-6)),
        constant("to_logits", to_logits),
        constant("offset", offset),
        constant("to_score", np.array([[-0.5], [1], [-0.5]], np.float32)),
        constant("zero", np.float32(0)),
        constant("sixteenth", np.float32(1 / 16)),
        constant("red_and_blue", np.array([0, 2], np.int64)),
        constant("four", np.float32(4)),
        constant("one", np.float32(1)),
        constant("score_axis", np.array([1], np.int64)),
    ]
    blocks = GRID * GRID

    def output(name: str, *shape: Any) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])

    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["n", 224, 224, 3])],
        [
            output("score"),
            output("block_score", blocks),
            output("block_weight", blocks),
            output("kind_logits", blocks, len(KINDS) + 1),
            output("level", blocks),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
