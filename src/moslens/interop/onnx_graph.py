"""An ONNX graph as a torch module, so that the released weights have gradients.

Each node is run by the torch function in ``OPERATORS``, so neither the code that built the network nor the names of its
weights are needed. The table covers the operators that moslens exports; ModelError names an operator that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from moslens.errors import ModelError

Attributes = dict[str, Any]


class OnnxModule(nn.Module):
    """The nodes of an ONNX model (``data``: its bytes) that ``output`` depends on. Float weights are frozen buffers.

    forward: the graph's inputs in their order -> the output. An integer input may be given as floats of the same
    values, and then has a gradient. Raises ModelError for an operator, or an option of one, that is not supported.
    """

    def __init__(self, data: bytes, output: str) -> None:
        super().__init__()
        model = onnx.load_from_string(data)
        graph = model.graph
        self.output = output
        self.inputs = [entry.name for entry in graph.input]
        self._nodes: list[tuple[str, list[str], list[str], Attributes]] = []
        self._integers: dict[str, Tensor] = {}
        self._weights: dict[str, str] = {}
        nodes = _nodes_before(graph.node, output)
        needed = {name for node in nodes for name in node.input}
        for entry in graph.initializer:
            if entry.name in needed:
                self._keep(entry.name, torch.from_numpy(numpy_helper.to_array(entry).copy()))
        for node in nodes:
            attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            if node.op_type == "Constant":
                value = numpy_helper.to_array(attributes["value"])
                self._keep(node.output[0], torch.from_numpy(value.copy()))
                continue
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                raise ModelError(f"the graph has the operator {node.op_type}, which has no gradient here")
            self._nodes.append((node.op_type, list(node.input), list(node.output), attributes))

    def _keep(self, name: str, value: Tensor) -> None:
        if value.is_floating_point():
            self._weights[name] = f"weight_{len(self._weights)}"
            self.register_buffer(self._weights[name], value, persistent=False)
        else:
            self._integers[name] = value

    def forward(self, *given: Tensor) -> Tensor:
        values: dict[str, Any] = {"": None, **dict(zip(self.inputs, given, strict=True)), **self._integers}
        values |= {name: self.get_buffer(buffer) for name, buffer in self._weights.items()}
        for name, inputs, outputs, attributes in self._nodes:
            found = OPERATORS[name](attributes, *(values[each] for each in inputs))
            if len(outputs) == 1:
                values[outputs[0]] = found
            else:
                values.update(zip(outputs, found, strict=True))
        result: Tensor = values[self.output]
        return result


def _nodes_before(nodes: Sequence[Any], output: str) -> list[Any]:
    """The nodes that ``output`` depends on, in their order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _cast(at: Attributes, x: Tensor) -> Tensor:
    wanted = onnx.helper.tensor_dtype_to_np_dtype(at["to"])
    if x.is_floating_point() and wanted.kind == "f":
        return x
    return x.to(getattr(torch, wanted.name))


def _conv(at: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    sides = weight.ndim - 2
    x, padding = _padded(x, at, sides)
    return F.conv2d(x, weight, bias, at.get("strides", 1), padding, at.get("dilations", 1), at.get("group", 1))


def _average_pool(at: Attributes, x: Tensor) -> Tensor:
    if not at.get("count_include_pad", 0) and any(at.get("pads", [])):
        raise ModelError("average pooling that leaves padding out is not known here")
    x, padding = _padded(x, at, 2)
    return F.avg_pool2d(x, at["kernel_shape"], at.get("strides", 1), padding, bool(at.get("ceil_mode", 0)))


def _padded(x: Tensor, at: Attributes, sides: int) -> tuple[Tensor, list[int]]:
    """``x`` and the padding to give to torch, which pads both ends alike: padding that differs is added to ``x``."""
    if at.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ModelError("automatic padding is not known here")
    pads = list(at.get("pads", [0] * (2 * sides)))
    before, after = pads[:sides], pads[sides:]
    if before == after:
        return x, before
    return F.pad(x, [pad for side in reversed(range(sides)) for pad in (before[side], after[side])]), [0] * sides


def _resize(at: Attributes, x: Tensor, roi: Any, scales: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
    modes = {b"linear": "bilinear", b"nearest": "nearest"}
    if at.get("mode", b"nearest") not in modes or at.get("coordinate_transformation_mode", b"half_pixel") not in (
        b"half_pixel",
        b"pytorch_half_pixel",
        b"asymmetric",
    ):
        raise ModelError(f"resizing by {at.get('mode')} is not known here")
    mode = modes[at.get("mode", b"nearest")]
    options: dict[str, Any] = {} if mode == "nearest" else {"align_corners": False}
    if sizes is not None:
        return F.interpolate(x, size=[int(n) for n in sizes[2:]], mode=mode, **options)
    assert scales is not None
    return F.interpolate(x, scale_factor=[float(n) for n in scales[2:]], mode=mode, **options)


def _reshape(at: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = [int(n) for n in shape]
    if not at.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


def _reduce(work: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduce(at: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        chosen = at.get("axes") if axes is None else [int(n) for n in axes]
        if not chosen:
            chosen = list(range(x.ndim))
        return work(x, dim=chosen, keepdim=bool(at.get("keepdims", 1)))

    return reduce


def _gemm(at: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.T if at.get("transA", 0) else a
    b = b.T if at.get("transB", 0) else b
    found: Tensor = at.get("alpha", 1.0) * (a @ b)
    return found if c is None else found + at.get("beta", 1.0) * c


def _slice(
    at: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    chosen = range(len(starts)) if axes is None else [int(n) for n in axes]
    strides = [1] * len(starts) if steps is None else [int(n) for n in steps]
    if min(strides) < 1:
        raise ModelError("slices with a negative step are not known here")
    cut: list[slice] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(chosen, starts, ends, strides, strict=True):
        length = x.shape[axis]  # ONNX writes "to the end" as the largest integer, which torch warns of
        cut[axis] = slice(max(int(start), -length), min(int(end), length), step)
    return x[tuple(cut)]


def _unsqueeze(at: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = at["axes"] if axes is None else [int(n) for n in axes]
    rank = x.ndim + len(chosen)
    for axis in sorted(n % rank for n in chosen):
        x = x.unsqueeze(axis)
    return x


def _squeeze(at: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = at.get("axes") if axes is None else [int(n) for n in axes]
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


def _gather_nd(at: Attributes, data: Tensor, indices: Tensor) -> Tensor:
    """The last axis of ``indices`` addresses the first axes of ``data``."""
    if at.get("batch_dims", 0):
        raise ModelError("the graph has a GatherND with batch_dims, which has no gradient here")
    return data[tuple(indices.unbind(-1))]


def _gather(at: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = at.get("axis", 0) % x.ndim
    indices = indices.to(x.device)
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    found = x.index_select(axis, indices.reshape(-1))
    return found.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _split(at: Attributes, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = at.get("axis", 0)
    if sizes is None:
        return torch.chunk(x, at["num_outputs"], axis)
    return torch.split(x, [int(n) for n in sizes], axis)


def _layer_norm(at: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = x.shape[at.get("axis", -1) % x.ndim :]
    return F.layer_norm(x, shape, scale.reshape(shape), None if bias is None else bias.reshape(shape), at["epsilon"])


def _gelu(at: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=at.get("approximate", b"none").decode())


def _expand(at: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(int(n) for n in shape)))


def _constant_of_shape(at: Attributes, shape: Tensor) -> Tensor:
    value = numpy_helper.to_array(at["value"]).item() if "value" in at else 0.0
    return torch.full([int(n) for n in shape], value)


def _divide(at: Attributes, a: Tensor, b: Tensor) -> Tensor:
    whole = not a.is_floating_point() and not b.is_floating_point()
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": lambda at, x: x.abs(),
    "Add": lambda at, a, b: a + b,
    "And": lambda at, a, b: a & b,
    "AveragePool": _average_pool,
    "Cast": _cast,
    "Clip": lambda at, x, low=None, high=None: x.clamp(low, high),
    "Concat": lambda at, *parts: torch.cat(parts, at["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _divide,
    "Equal": lambda at, a, b: a == b,
    "Erf": lambda at, x: torch.erf(x),
    "Cos": lambda at, x: x.cos(),
    "Exp": lambda at, x: x.exp(),
    "Expand": _expand,
    "Floor": lambda at, x: x.floor(),
    "Flatten": lambda at, x: x.flatten(at.get("axis", 1)),
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda at, x: x.mean((2, 3), keepdim=True),
    "Greater": lambda at, a, b: a > b,
    "GreaterOrEqual": lambda at, a, b: a >= b,
    "Identity": lambda at, x: x,
    "LayerNormalization": _layer_norm,
    "Less": lambda at, a, b: a < b,
    "LessOrEqual": lambda at, a, b: a <= b,
    "MatMul": lambda at, a, b: a @ b,
    "Max": lambda at, a, b: torch.maximum(a, b),
    "Min": lambda at, a, b: torch.minimum(a, b),
    "Mul": lambda at, a, b: a * b,
    "Neg": lambda at, x: -x,
    "Not": lambda at, x: ~x,
    "Pow": lambda at, a, b: a**b,
    "Range": lambda at, start, limit, step: torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype),
    "Reciprocal": lambda at, x: x.reciprocal(),
    "ReduceL2": _reduce(lambda x, dim, keepdim: x.square().sum(dim, keepdim).sqrt()),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda at, x: x.relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Round": lambda at, x: x.round(),
    "Shape": lambda at, x: torch.tensor(x.shape)[at.get("start", 0) : at.get("end")],
    "Sigmoid": lambda at, x: x.sigmoid(),
    "Sin": lambda at, x: x.sin(),
    "Slice": _slice,
    "Softmax": lambda at, x: x.softmax(at.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda at, x: x.sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda at, a, b: a - b,
    "Tanh": lambda at, x: x.tanh(),
    "Transpose": lambda at, x: x.permute(at["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": lambda at, condition, a, b: torch.where(condition, a, b),
}
