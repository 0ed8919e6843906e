"""The int8 twin of a model: what becomes integer, what stays, and what its card says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import make_photo
from moslens import Scorer
from moslens.errors import ModelError
from moslens.quantise import agreement, calibration_windows, integer_pixels, quantise, quantise_graph
from moslens.runtime import Card, Model


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    for seed in range(20):
        make_photo(300, 260, seed).save(folder / f"{seed:02d}.png")
    return folder


@pytest.fixture(scope="module")
def windows(pool: Path) -> list[np.ndarray]:
    return list(calibration_windows(pool, 6, 384))


def mobile(mean: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> onnx.ModelProto:
    """Normalise, stem, depthwise, pointwise, a product over 3,136 tokens, and a head over their mean."""
    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> Any:
        scale = float(np.prod(shape[1:])) ** -0.5
        return numpy_helper.from_array(rng.normal(0, scale, shape).astype(np.float32), name)

    constants = [
        numpy_helper.from_array(np.float32(255), "full"),
        numpy_helper.from_array(np.array(mean, np.float32).reshape(1, 3, 1, 1), "mean"),
        numpy_helper.from_array(np.float32(0.5), "deviation"),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(6), "high"),
        tensor("w1", 16, 3, 4, 4), tensor("b1", 16),
        tensor("w2", 16, 1, 3, 3), tensor("b2", 16),
        tensor("w3", 24, 16, 1, 1), tensor("b3", 24),
        numpy_helper.from_array(np.array([0, 24, -1], np.int64), "flat"),
        tensor("w4", 24, 32), tensor("w5", 32, 1),
    ]  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Transpose", ["windows"], ["planes"], perm=[0, 3, 1, 2]),
        node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        node("Div", ["float", "full"], ["unit"]),
        node("Sub", ["unit", "mean"], ["centred"]),
        node("Div", ["centred", "deviation"], ["scaled"]),
        node("Conv", ["scaled", "w1", "b1"], ["c1"], name="stem", strides=[4, 4]),
        node("Clip", ["c1", "low", "high"], ["a1"], name="clip"),
        node("Conv", ["a1", "w2", "b2"], ["c2"], name="depthwise", group=16, pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["a2"], name="relu"),
        node("Conv", ["a2", "w3", "b3"], ["c3"], name="pointwise"),
        node("Reshape", ["c3", "flat"], ["r"], name="reshape"),
        node("Transpose", ["r"], ["tokens"], name="turn", perm=[0, 2, 1]),
        node("MatMul", ["tokens", "w4"], ["m"], name="project"),
        node("ReduceMean", ["m"], ["pooled"], name="pool", axes=[1], keepdims=0),
        node("MatMul", ["pooled", "w5"], ["column"], name="head"),
        node("ReduceMean", ["column"], ["score"], name="squeeze", axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mobile",
        [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["n", 224, 224, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def run(model: bytes, windows: list[np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["score"], {"windows": window[None]})[0] for window in windows])


def assert_follows(small: np.ndarray, full: np.ndarray) -> None:
    """Alike but for a shift, which the card's calibration takes back."""
    assert np.abs(small - full).max() < 0.5 * full.std()
    assert (small - full).std() < 0.05 * full.std()


def quantised(model: onnx.ModelProto, windows: list[np.ndarray], folder: Path) -> onnx.ModelProto:
    onnx.save(model, folder / "float.onnx")
    return onnx.load_from_string(quantise_graph(folder / "float.onnx", windows))


def test_heavy_layers_are_integer_and_follow_the_floats(windows: list[np.ndarray], tmp_path: Path) -> None:
    model = mobile()
    made = quantised(model, windows, tmp_path)
    before, after = run(model.SerializeToString(), windows), run(made.SerializeToString(), windows)
    assert_follows(after, before)
    dequantised = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    for node in made.graph.node:
        if node.op_type == "Conv" or node.name == "project":
            assert set(node.input[:2]) <= dequantised, node.name
        if node.name == "head":
            assert not set(node.input) & dequantised, "one row is not worth it"
    kinds = {node.op_type for node in made.graph.node}
    assert not kinds & {"Clip", "Relu"}, "the range of the next integer is the activation"
    assert not made.metadata_props
    assert str(tmp_path).encode() not in made.SerializeToString()


def test_pixels_enter_as_they_are(windows: list[np.ndarray], tmp_path: Path) -> None:
    made = quantised(mobile(), windows, tmp_path)
    stem = next(node for node in made.graph.node if node.name == "stem")
    source = next(node for node in made.graph.node if node.output[0] == stem.input[0])
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert (source.op_type, source.input[0]) == ("DequantizeLinear", "pixels")
    assert values[source.input[1]] == pytest.approx(1 / 127.5)
    assert values[source.input[2]] == 127
    assert "Cast" not in {node.op_type for node in made.graph.node}


def test_no_pair_of_products_overflows_sixteen_bits(windows: list[np.ndarray], tmp_path: Path) -> None:
    """What a processor without VNNI adds up in 16 bits: two neighbouring inputs of up to 255 times their weights."""
    made = quantised(mobile(), windows, tmp_path)
    whole = {t.name[:2]: numpy_helper.to_array(t) for t in made.graph.initializer if t.data_type == TensorProto.INT8}
    rows = {
        "w1": np.moveaxis(whole["w1"], 1, -1).reshape(16, -1),
        "w3": whole["w3"].reshape(24, 16),
        "w4": whole["w4"].T,
    }
    for name, weight in rows.items():
        products = 255 * weight.astype(int)
        for sign in (1, -1):
            one = np.maximum(sign * products, 0)
            pairs = one[:, :-1] + one[:, 1:]
            assert pairs.max() <= 2**15 - 1, name
            assert pairs.max() > 0.9 * 2**15 or one.max() > 0.9 * 255 * 127, "no precision is given away"
    assert np.abs(whole["w2"].astype(int)).reshape(16, -1).max(axis=1).min() == 127, "depthwise weights use it all"


def test_a_whole_zero_point_changes_no_score(windows: list[np.ndarray]) -> None:
    model = mobile()
    before = run(model.SerializeToString(), windows)
    pixels = integer_pixels(model)
    assert pixels is not None
    assert (float(pixels.scale), int(pixels.zero_point)) == (pytest.approx(1 / 127.5), 127)
    assert run(model.SerializeToString(), windows) == pytest.approx(before, abs=1e-5)


def test_another_mean_a_channel_keeps_the_first_convolution_in_floats(
    windows: list[np.ndarray], tmp_path: Path
) -> None:
    model = mobile(mean=(0.4, 0.5, 0.6))
    bytes_before = model.SerializeToString()
    assert integer_pixels(model) is None
    assert model.SerializeToString() == bytes_before
    made = quantised(model, windows, tmp_path)
    stem = next(node for node in made.graph.node if node.op_type == "Conv")
    assert "w1" in stem.input
    before, after = run(bytes_before, windows), run(made.SerializeToString(), windows)
    assert_follows(after, before)


def test_nothing_to_quantise_is_said(windows: list[np.ndarray], tmp_path: Path) -> None:
    model = mobile()
    normalised = list(model.graph.node)[:5]
    mean = helper.make_node("ReduceMean", ["scaled"], ["score"], axes=[1, 2, 3], keepdims=0)
    del model.graph.node[:]
    model.graph.node.extend([*normalised, mean])
    onnx.save(model, tmp_path / "float.onnx")
    with pytest.raises(ModelError, match="nothing in this graph"):
        quantise_graph(tmp_path / "float.onnx", windows)


def test_calibration_sees_the_training_part_pristine_and_degraded(pool: Path, windows: list[np.ndarray]) -> None:
    assert len(windows) == 12
    assert all(window.shape == (224, 224, 3) and window.dtype == np.uint8 for window in windows)
    assert all(np.any(degraded != clean) for clean, degraded in zip(windows[::2], windows[1::2], strict=True))
    again = list(calibration_windows(pool, 6, 384))
    assert all(np.array_equal(a, b) for a, b in zip(windows, again, strict=True))


@pytest.fixture(scope="module")
def twin(tiny_model: Path, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins") / "small"
    quantise(tiny_model, folder, pool, pictures=4)
    return folder


def test_the_twin_is_a_model_of_its_own(tiny_model: Path, twin: Path) -> None:
    full, small = Card.read(tiny_model), Card.read(twin)
    assert small.name == "tiny-int8"
    assert small.id != full.id
    assert small.calibration.scale == full.calibration.scale
    assert 0 < abs(small.calibration.shift - full.calibration.shift) < 0.1
    assert small.record["quantised"]["from"] == full.id
    scorer = Scorer(twin)
    vector = small.record["test_vector"]
    assert scorer.score(twin / vector["file"]).score == pytest.approx(vector["score"], abs=1e-4)
    photo = np.asarray(make_photo(500, 400, 3))
    assert scorer.score(photo).score == pytest.approx(Scorer(tiny_model).score(photo).score, abs=3)


def test_agreement_of_a_model_with_itself_is_perfect(tiny_model: Path, pool: Path) -> None:
    photos = sorted(pool.iterdir())
    mos = list(np.random.default_rng(0).uniform(0, 100, len(photos)))
    found = agreement(Model(tiny_model), Model(tiny_model), photos, mos)
    assert found["srcc_to_full"] == pytest.approx(1)
    assert found["srcc_loss"] == found["difference_most"] == 0
    assert found["accepted"]


def test_the_command_compares_and_writes_it_on_the_card(tiny_model: Path, pool: Path, tmp_path: Path) -> None:
    rows = [f"{path.name},{5 * i}" for i, path in enumerate(sorted(pool.iterdir()))]
    (pool / "labels.csv").write_text("\n".join(["image,mos", *rows]) + "\n")
    start = [sys.executable, "-m", "moslens", "export", str(tiny_model), "--output", str(tmp_path / "out")]
    refused = subprocess.run(start, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--int8" in refused.stderr
    more = ["--int8", "--pool", str(pool), "--dataset", str(pool / "labels.csv")]
    done = subprocess.run([*start, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["quantised"]["agreement"]["pictures"] == 20
    assert f"{card['quantised']['agreement']['srcc_to_full']:.4f}" in done.stderr
