"""Train a few steps, export, score: the whole path, and what the exported folder promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from PIL import Image

from helpers.tiny_student import make_folds
from helpers.tiny_training import make_labelled, tiny_config
from moslens import Scorer
from moslens.errors import CheckpointError, ConfigError, ModelError
from moslens.release.card_template import write_card_template
from moslens.release.export import CardText, export, parity, read_card_text, write_onnx
from moslens.scoring.card import Calibration
from moslens.scoring.session import Model
from moslens.train import train
from moslens.train.networks import load_run
from moslens.train.predict import predict

TEXT = CardText("tiny", "Apache-2.0", "twenty made pictures", ("good for nothing",))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    table = make_labelled(folder / "set")
    train(tiny_config(table, epochs=4), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def model_folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    make_folds(folder / "folds", 4)
    result = folder / "some-result.json"
    result.write_text(json.dumps({"name": "some-result", "protocol": "p", "median": {"srcc": 0.5}}))
    export(run, folder / "tiny", TEXT, folds=folder / "folds", results=[result])
    return folder / "tiny"


def test_the_card_says_what_it_must(model_folder: Path) -> None:
    card = json.loads((model_folder / "card.json").read_text())
    digest = hashlib.sha256((model_folder / "model.onnx").read_bytes()).hexdigest()
    assert card["sha256"] == digest
    assert card["id"] == f"tiny@{digest[:12]}"
    assert card["range"] == [0, 100]
    assert card["direction"] == "higher is better"
    assert card["preprocessing"]["working_size"] == 512
    assert card["calibration"]["coverage"] == 0.9
    assert "split-0 to split-1" in card["calibration"]["fitted_on"]
    assert "split-2 to split-3" in card["calibration"]["measured_on"]
    assert 0.7 <= card["calibration"]["measured_coverage"] <= 1
    assert card["limits"] == ["good for nothing"]
    assert card["metrics"]["some-result"] == {
        "source": "results/some-result.json", "protocol": "p", "median": {"srcc": 0.5},
    }  # fmt: skip
    assert card["parity"]["worst"] <= card["parity"]["allowed"] == 1e-3


def test_the_graph_tells_nothing_of_the_machine_it_was_made_on(model_folder: Path) -> None:
    data = (model_folder / "model.onnx").read_bytes()
    assert str(Path(__file__).parent.parent).encode() not in data
    assert b"site-packages" not in data
    assert b"stack_trace" not in data


def test_the_graph_says_what_the_card_says_and_two_exports_are_the_same_bytes(
    run: Path, model_folder: Path, tmp_path: Path
) -> None:
    card = json.loads((model_folder / "card.json").read_text())
    found = Model(model_folder).metadata
    assert found["name"] == "tiny"
    assert json.loads(found["range"]) == [0, 100]
    assert found["direction"] == "higher is better"
    assert json.loads(found["preprocessing"]) == card["preprocessing"]
    assert found["licence"] == "Apache-2.0"
    assert json.loads(found["calibration"])["scale"] == card["calibration"]["scale"]
    assert card["id"] not in "".join(found.values())
    scorer, _ = load_run(run)
    write_onnx(scorer, tmp_path / "again.onnx", metadata=found)
    assert (tmp_path / "again.onnx").read_bytes() == (model_folder / "model.onnx").read_bytes()


def test_onnx_equals_torch_on_any_batch(run: Path, model_folder: Path) -> None:
    scorer, _ = load_run(run)
    session = ort.InferenceSession(model_folder / "model.onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    for batch in (1, 2, 7):
        windows = rng.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
        theirs = session.run(["score"], {"windows": windows})[0]
        assert theirs.shape == (batch,)
        with torch.inference_mode():
            ours = scorer(torch.from_numpy(windows)).numpy()
        assert theirs == pytest.approx(ours, abs=1e-3)


def test_the_exported_folder_scores_as_the_run_predicts(run: Path, model_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (300, 700, 3), dtype=np.uint8)).save(picture)
    scorer, _ = load_run(run)
    (raw,) = predict(scorer, [picture])
    assert Scorer(model_folder).score(picture).score == pytest.approx(
        Model(model_folder).card.calibration.score(raw), abs=1e-3
    )


def test_the_test_vector_gives_the_score_on_the_card(model_folder: Path) -> None:
    vector = json.loads((model_folder / "card.json").read_text())["test_vector"]
    assert Scorer(model_folder).score(model_folder / vector["file"]).score == pytest.approx(vector["score"], abs=1e-3)


def test_parity_notices_other_weights(run: Path, model_folder: Path, tmp_path: Path) -> None:
    scorer, _ = load_run(run)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(6).integers(0, 256, (240, 240, 3), dtype=np.uint8)).save(photo)
    model = Model(model_folder)
    assert parity(scorer, model, [photo]) < 1e-3
    object.__setattr__(model.card, "calibration", Calibration(0.1, -5.0, 1.0))
    scorer.mean += 0.5
    assert parity(scorer, model, [photo]) > 1e-3


def test_without_anything_held_out_there_is_no_calibration(run: Path, tmp_path: Path) -> None:
    make_folds(tmp_path / "one", 1)
    with pytest.raises(ConfigError, match="at least two"):
        export(run, tmp_path / "out", TEXT, folds=tmp_path / "one")
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        export(tmp_path / "nothing", tmp_path / "out", TEXT)


def test_card_text_is_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    file.write_text('name = "n"\nlicence = "l"\ntrained_on = "t"\nlimits = ["a", "b"]\n')
    assert read_card_text(file) == CardText("n", "l", "t", ("a", "b"))
    file.write_text('name = "n"\n')
    with pytest.raises(ConfigError, match=r"card\.toml.*licence"):
        read_card_text(file)
    with pytest.raises(ConfigError, match=r"no\.toml"):
        read_card_text(tmp_path / "no.toml")


def test_a_template_says_what_the_run_knows_and_is_a_card(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    write_card_template(run, file)
    text = read_card_text(file)
    assert (text.name, text.licence) == (run.name, "not stated")
    assert (
        text.trained_on
        == "labels.csv: 16 pictures with opinion scores from 0 to 100 (higher is better); started at random weights"
    )
    assert text.limits == ("Learned from 16 pictures of labels.csv: other pictures are outside what it knows.",)


def test_a_template_never_replaces_a_file_and_needs_a_run(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="never replaces"):
        write_card_template(run, file)
    assert file.read_text() == "mine"
    with pytest.raises(CheckpointError, match=r"config\.json"):
        write_card_template(tmp_path / "nothing", tmp_path / "other.toml")
    assert not (tmp_path / "other.toml").exists()


def test_altered_weights_are_refused(model_folder: Path, tmp_path: Path) -> None:
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="altered weights"):
        Scorer(tmp_path)
