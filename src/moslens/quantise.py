"""An fp32 model folder becomes an int8 one: static quantisation, for processors that multiply integers faster.

Convolutions with the activation behind them, and matrix products over many tokens, run on integers; attention, norms
and the head stay in float32. Weights have eight bits and a scale a channel, wide enough that no pair of products
overflows the 16-bit sums of processors without VNNI: one model must not give two scores. Pixels are integers already,
and where the normalisation is the same for all channels they enter the first convolution as they are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from moslens import views
from moslens.blocks import BlockDegradation
from moslens.data.records import Dataset
from moslens.data.split import make_split
from moslens.distill.pool import open_pool, pristine_crop
from moslens.errors import ModelError
from moslens.image import load
from moslens.metrics import srcc
from moslens.ordered import ordered
from moslens.runtime import ID_DIGITS, Card, Model, available_cores, import_onnxruntime

PICTURES = 64
MANY_TOKENS = 64
LEAST_AGREEMENT = 0.998
MOST_LOSS = 0.002
_ACTIVATIONS = ("Relu", "Clip")


def quantise(source: Path, output: Path, pool: Path, *, pictures: int = PICTURES) -> Card:
    """Write the int8 twin of the model folder ``source`` to ``output``: a folder of its own, with its own id.

    ``pool``: the folder of pristine photos; as many crops of its training part, and as many composites degraded block
    by block, set the ranges of the activations. Limits, labels and calibration are the twin's, but for the mean shift
    of the scores, which is taken back. Raises ModelError where the graph is none that can be quantised, DatasetError
    for a pool without pictures.
    """
    card = Card.read(source)
    weights = card.verified_weights()
    windows = list(calibration_windows(pool, pictures, card.working_size))
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch)
        (folder / "float.onnx").write_bytes(weights)
        data = quantise_graph(folder / "float.onnx", windows)
        (folder / "model.onnx").write_bytes(data)
        shutil.copyfile(card.folder / card.record["test_vector"]["file"], folder / "test_vector.png")
        record = _record(card, data, len(windows))
        _write(folder / "card.json", record)
        small = Model(folder)
        # Rounding shifts all scores alike by a little; the scale takes that back.
        full = Model(source)
        gap = np.mean([_raw(full, window[None]) - _raw(small, window[None]) for window in windows])
        record["calibration"] |= {"shift": card.calibration.shift + card.calibration.scale * float(gap)}
        _write(folder / "card.json", record)
        record["test_vector"] = _test_vector(Model(folder), folder / "test_vector.png")
        _write(folder / "card.json", record)
        for name in ("model.onnx", "test_vector.png", "card.json"):
            shutil.move(folder / name, output / name)
    return Card.read(output)


def calibration_windows(pool: Path, pictures: int, working_size: int) -> Iterator[NDArray[np.uint8]]:
    """Windows uint8 [224, 224, 3] of the pool's training part: pristine and block-wise degraded in turn, seeded."""
    names = open_pool(pool).train
    for i in range(pictures):
        rng = np.random.default_rng(i)
        crop = pristine_crop(pool, names[i * len(names) // pictures], working_size, rng)
        yield crop
        yield BlockDegradation(grid=2 + i % 3)(crop, rng).image


def quantise_graph(path: Path, windows: Sequence[NDArray[np.uint8]]) -> bytes:
    """The ONNX file ``path`` with its heavy layers in int8, ranges set by the ``windows``."""
    import_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._windows = iter(windows)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            window = next(self._windows, None)
            return None if window is None else {"windows": window[None]}

    plain, made = path.with_name("plain.onnx"), path.with_name("made.onnx")
    # Of the optimised graph: constants are folded, so that weights are seen to be weights.
    quant_pre_process(str(path), str(plain), skip_symbolic_shape=True)
    model = onnx.load(plain)
    nodes = heavy_nodes(model)
    if not nodes:
        raise ModelError("nothing in this graph is worth quantising")
    pixels = integer_pixels(model)
    overrides = weight_scales(model, nodes)
    if pixels is not None:
        overrides[pixels.tensor] = [{"scale": pixels.scale, "zero_point": pixels.zero_point}]
    else:
        first = next(node for node in model.graph.node if node.op_type == "Conv")
        nodes = [name for name in nodes if name != first.name]
    onnx.save(model, plain)
    quantize_static(
        plain,
        made,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul", *_ACTIVATIONS],
        nodes_to_quantize=nodes,
        extra_options={"TensorQuantOverrides": overrides},
    )
    model = onnx.load(made)
    if pixels is not None:
        pixels.feed(model)
    return without_traces(model)


def heavy_nodes(model: onnx.ModelProto) -> list[str]:
    """Convolutions, their activations, and products of many tokens with constant weights: names of nodes."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    rows = {info.name: _rows(info) for info in graph.value_info}
    from_conv = {output for node in graph.node if node.op_type == "Conv" for output in node.output}
    return [
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        or (node.op_type in _ACTIVATIONS and node.input[0] in from_conv)
        or (node.op_type == "MatMul" and node.input[1] in constants and rows.get(node.output[0], 0) >= MANY_TOKENS)
    ]


def weight_scales(model: onnx.ModelProto, nodes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The scale of every output channel of the weights in ``nodes``, as onnxruntime takes it.

    An 8-bit activation times two neighbouring weights must stay below 2^15: two of one sign may reach 128 together, one
    alone 127. Seven bits would see to that as well, at the cost of half the precision; few channels have their largest
    weights side by side. Depthwise weights, one input a channel, go into no such sum.
    """
    from onnxruntime.quantization import QuantType

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    scales: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        if node.name not in nodes or node.op_type not in ("Conv", "MatMul") or node.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        axis = 0 if node.op_type == "Conv" else weight.ndim - 1
        # Channels last, as convolutions of integers are computed; one row an output channel.
        rows = (
            np.moveaxis(weight, 1, -1).reshape(len(weight), -1) if axis == 0 else weight.reshape(-1, weight.shape[-1]).T
        )
        wanted = np.abs(rows).max(axis=1) / 127
        if axis or weight.shape[1] > 1:
            for sign in (1, -1):
                one = np.maximum(sign * rows, 0)
                wanted = np.maximum(wanted, (one[:, :-1] + one[:, 1:]).max(axis=1, initial=0) / 127)
        wanted = np.maximum(wanted, 1e-12).astype(np.float32)
        scales[node.input[1]] = [
            {"axis": axis, "quant_type": QuantType.QInt8, "scale": np.array(value), "zero_point": np.array(0, np.int8)}
            for value in wanted
        ]
    return scales


def _rows(info: onnx.ValueInfoProto) -> int:
    sizes = [dimension.dim_value for dimension in info.type.tensor_type.shape.dim[:-1]]
    return int(np.prod([size for size in sizes if size > 0], dtype=np.int64))


class IntegerPixels:
    """The input of the first convolution as ``scale * (pixel - zero_point)``: no float between file and sum."""

    def __init__(self, tensor: str, scale: float, zero_point: int) -> None:
        self.tensor = tensor
        self.scale = np.array(scale, np.float32)
        self.zero_point = np.array(zero_point, np.uint8)

    def feed(self, model: onnx.ModelProto) -> None:
        """Dequantise the pixels themselves in a quantised graph, in place of their normalised floats."""
        graph = model.graph
        quantised = next(
            node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == self.tensor
        )
        (user,) = (node for node in graph.node if quantised.output[0] in node.input)
        user.input[0] = "pixels"
        graph.node.insert(0, helper.make_node("Transpose", ["windows"], ["pixels"], "pixels", perm=[0, 3, 1, 2]))


def integer_pixels(model: onnx.ModelProto) -> IntegerPixels | None:
    """Rewrite the normalisation to have a whole zero point; None, and nothing changed, where it differs by channel.

    What rounding the zero point shifts goes into the bias of the convolution. That is exact but for its padding, which
    is then the nearest grey instead of the mean.
    """
    ort = import_onnxruntime()
    graph = model.graph
    conv = next(node for node in graph.node if node.op_type == "Conv")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    tensor = conv.input[0]
    prefix = onnx.utils.Extractor(model).extract_model(["windows"], [tensor])
    session = ort.InferenceSession(prefix.SerializeToString(), providers=["CPUExecutionProvider"])
    window = np.zeros((1, views.WINDOW, views.WINDOW, 3), np.uint8)
    black, white = (session.run(None, {"windows": window + value})[0] for value in (np.uint8(0), np.uint8(255)))
    users = [node for node in graph.node if tensor in node.input]
    if len(users) > 1 or len(conv.input) < 3 or black.ndim != 4 or max(np.ptp(black), np.ptp(white)) > 1e-6:
        return None
    scale = float(white.flat[0] - black.flat[0]) / 255
    middle = -float(black.flat[0]) / scale
    if not 0 <= middle <= 255:
        return None
    zero_point = int(middle)
    weight, bias = (numpy_helper.to_array(constants[name]) for name in conv.input[1:3])
    shifted = bias - scale * (middle - zero_point) * weight.sum(axis=(1, 2, 3))
    constants[conv.input[2]].CopyFrom(numpy_helper.from_array(shifted.astype(np.float32), conv.input[2]))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(zero_point, np.float32), "pixel_zero_point"),
            numpy_helper.from_array(np.array(scale, np.float32), "pixel_scale"),
        ]
    )
    conv.input[0] = "normalised"
    for node in (
        helper.make_node("Mul", ["centred_pixels", "pixel_scale"], ["normalised"], "normalised"),
        helper.make_node("Sub", ["float_pixels", "pixel_zero_point"], ["centred_pixels"], "centred_pixels"),
        helper.make_node("Cast", ["planes_of_pixels"], ["float_pixels"], "float_pixels", to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["windows"], ["planes_of_pixels"], "planes_of_pixels", perm=[0, 3, 1, 2]),
    ):
        graph.node.insert(0, node)
    return IntegerPixels("normalised", scale, zero_point)


def without_traces(model: onnx.ModelProto) -> bytes:
    """The file, without shapes and notes of the making, and without what nothing reads."""
    graph = model.graph
    read = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    del graph.value_info[:], model.metadata_props[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def agreement(full: Model, small: Model, photos: Sequence[Path], mos: Sequence[float]) -> dict[str, Any]:
    """How the scores of an int8 model follow those of its twin over labelled photos.

    Gives ``pictures``, ``srcc_to_full``, the SRCC to the opinion scores of both, ``srcc_loss``, the mean and largest
    difference on the public scale, and whether the bounds (.998 and .002) are kept.
    """

    def both(path: Path) -> tuple[float, float]:
        windows = views.cover(load(path, working_size=full.card.working_size).pixels)
        return _raw(full, windows), _raw(small, windows)

    cores = available_cores()
    raw = np.array(list(ordered(both, photos, cores, 4 * cores)))
    scores = np.stack([np.vectorize(model.card.calibration.score)(raw[:, i]) for i, model in enumerate((full, small))])
    to_full, of_full, of_small = srcc(raw[:, 1], raw[:, 0]), srcc(raw[:, 0], mos), srcc(raw[:, 1], mos)
    return {
        "pictures": len(photos),
        "srcc_to_full": to_full,
        "srcc_full": of_full,
        "srcc": of_small,
        "srcc_loss": of_full - of_small,
        "difference_mean": float(np.abs(scores[1] - scores[0]).mean()),
        "difference_most": float(np.abs(scores[1] - scores[0]).max()),
        "accepted": bool(to_full >= LEAST_AGREEMENT and of_full - of_small <= MOST_LOSS),
    }


def compare(full: Path, small: Path, dataset: Dataset) -> dict[str, Any]:
    """:func:`agreement` of two model folders, put on the card of ``small``, with the pictures it was measured on.

    Where the model was trained on a split of this data set these are the pictures held out, else all.
    """
    card = Card.read(full)
    data = card.record.get("training", {}).get("data", {})
    indices: Sequence[int] = range(len(dataset.samples))
    words = f"all of {dataset.name}"
    if data.get("name") == dataset.name and data.get("split", -1) >= 0:
        indices = make_split(dataset, data["split"]).test
        words = f"the test part of split {data['split']} of {dataset.name}"
    elif data.get("name") == dataset.name:
        words += ", on which the model was trained"
    samples = [dataset.samples[i] for i in indices]
    found = agreement(Model(full), Model(small), [s.path for s in samples], [s.mos for s in samples])
    path = small / "card.json"
    record = json.loads(path.read_bytes())
    record["quantised"]["agreement"] = {"data": words, **found}
    _write(path, record)
    return found


def _raw(model: Model, windows: NDArray[np.uint8]) -> float:
    return float(np.mean([model.run(window)[0] for window in windows]))


def _record(card: Card, data: bytes, windows: int) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    name = f"{card.name}-int8"
    record = dict(card.record) | {"calibration": dict(card.record["calibration"])}
    for gone in ("parity", "metrics"):
        record.pop(gone, None)
    return record | {
        "name": name,
        "id": f"{name}@{digest[:ID_DIGITS]}",
        "sha256": digest,
        "file": "model.onnx",
        "quantised": {
            "from": card.id,
            "method": "static, 8-bit weights a channel, 8-bit activations, float32 attention and head",
            "ranges": f"{windows} windows of pristine photos, half of them degraded block by block",
        },
    }


def _test_vector(model: Model, picture: Path) -> dict[str, Any]:
    windows = views.cover(load(picture, working_size=model.card.working_size).pixels)
    raw = _raw(model, windows)
    return {"file": picture.name, "raw": raw, "score": model.card.calibration.score(raw)}


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
