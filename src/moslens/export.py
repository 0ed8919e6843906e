"""A trained run becomes a model folder: ``model.onnx``, ``card.json``, ``test_vector.png`` (see runtime.py).

Nothing is written until torch and ONNX agree on real photos to 1e-3 of the public scale.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from moslens import calibrate, views
from moslens.data.sets import load_dataset
from moslens.errors import ConfigError, ModelError
from moslens.image import load
from moslens.model.shdiqa import WindowScorer
from moslens.runtime import ID_DIGITS, PREPROCESSING, Calibration, Card, Model
from moslens.train.checkpoint import file_sha256, read_json, write_json
from moslens.train.config import TrainConfig
from moslens.train.predict import load_run, predict_windows

PARITY = 1e-3
PARITY_PHOTOS = 24


@dataclass(frozen=True)
class CardText:
    """What only a person can say of a model: the words of its card."""

    name: str
    licence: str
    trained_on: str
    limits: tuple[str, ...]


def read_card_text(path: Path) -> CardText:
    """Name, licence, training data and limits from a TOML file; ConfigError where one is missing."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
        return CardText(tree["name"], tree["licence"], tree["trained_on"], tuple(tree["limits"]))
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", path) from error
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ConfigError(f"the card text lacks or breaks {error}", path) from error


def export(
    run: Path,
    output: Path,
    text: CardText,
    *,
    folds: Path | None = None,
    results: Sequence[Path] = (),
) -> Card:
    """Export a finished run with its calibration and card, and check the result against torch.

    folds: a folder of ``split-N`` runs whose test predictions calibrate the model, needed where the run itself held
    nothing out; the first half of them fits, the other half measures the coverage. results: committed result files
    whose medians go on the card. Raises ModelError where ONNX and torch disagree, DatasetError or CheckpointError
    where something to read is missing.
    """
    scorer, config = load_run(run)
    calibration, fitted = _calibration(run, folds)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch)
        write_onnx(scorer, folder / "model.onnx")
        digest = file_sha256(folder / "model.onnx")
        record = {
            "name": text.name,
            "id": f"{text.name}@{digest[:ID_DIGITS]}",
            "sha256": digest,
            "file": "model.onnx",
            "preprocessing": {"working_size": config.data.working_size, **PREPROCESSING},
            "range": [0, 100],
            "direction": "higher is better",
            "calibration": fitted,
            "trained_on": text.trained_on,
            "licence": text.licence,
            "limits": list(text.limits),
            "metrics": _metrics(results),
            "training": config.to_dict(),
        }
        photos = _photos(config)
        record["test_vector"] = _test_vector(scorer, calibration, photos[0], folder / "test_vector.png", config)
        write_json(folder / "card.json", record)
        worst = parity(scorer, Model(folder), photos)
        if worst > PARITY:
            raise ModelError(f"ONNX and torch differ by {worst:.2g} on the public scale, {PARITY} is allowed", run)
        record["parity"] = {"photos": len(photos), "worst": worst, "allowed": PARITY}
        write_json(folder / "card.json", record)
        for name in ("model.onnx", "test_vector.png", "card.json"):
            shutil.move(folder / name, output / name)
    return Card.read(output)


def write_onnx(scorer: WindowScorer, path: Path) -> None:
    """Write the graph: ``windows`` uint8 [n, 224, 224, 3] -> ``score`` float32 [n], n free."""
    scorer = scorer.eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, views.WINDOW, views.WINDOW, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            scorer,
            (example,),
            dynamo=True,
            input_names=["windows"],
            output_names=["score"],
            dynamic_shapes={"windows": {0: torch.export.Dim("n", min=1, max=4096)}},
            verbose=False,
        )
    assert program is not None
    path.write_bytes(_without_traces(program.model_proto).SerializeToString())


def _without_traces(model: Any) -> Any:
    """Drop what the exporter notes of its source code, file names of this machine among it."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    del model.functions[:]
    return model


def parity(scorer: WindowScorer, model: Model, photos: Sequence[Path]) -> float:
    """Largest difference on the public scale between torch and the exported model over real photos."""
    card = model.card
    worst = 0.0
    for path in photos:
        windows = views.cover(load(path, working_size=card.working_size).pixels)
        ours = card.calibration.score(float(predict_windows(scorer, windows).mean()))
        theirs = card.calibration.score(float(np.mean([model.run(window)[0] for window in windows])))
        worst = max(worst, abs(ours - theirs))
    return worst


def _photos(config: TrainConfig) -> list[Path]:
    samples = load_dataset(config.data.name, Path(config.data.root)).samples
    step = max(1, len(samples) // PARITY_PHOTOS)
    return [sample.path for sample in samples[::step][:PARITY_PHOTOS]]


def _test_vector(
    scorer: WindowScorer, calibration: Calibration, photo: Path, target: Path, config: TrainConfig
) -> dict[str, Any]:
    """Store a lossless patch of a photo, so that no decoder but PNG's is between the file and its score."""
    pixels = load(photo, working_size=config.data.working_size).pixels[:300, :260]
    Image.fromarray(pixels).save(target, optimize=True)
    raw = float(predict_windows(scorer, views.cover(pixels)).mean())
    return {"file": target.name, "raw": raw, "score": calibration.score(raw)}


def _calibration(run: Path, folds: Path | None) -> tuple[Calibration, dict[str, Any]]:
    if folds is None:
        files = [run / "predictions.csv"]
        fit, check = files, []
        if not files[0].is_file():
            raise ConfigError("held nothing out to calibrate on: name a folder of split runs with --folds", run)
    else:
        runs = sorted((path for path in folds.glob("split-*") if path.is_dir()), key=_number)
        files = [path / "predictions.csv" for path in runs]
        if len(files) < 2:
            raise ConfigError("needs at least two split-N runs", folds)
        fit, check = files[: len(files) // 2], files[len(files) // 2 :]
    held = calibrate.read_held_out(fit)
    calibration = calibrate.fit_calibration(held)
    record: dict[str, Any] = {
        "kind": "logistic",
        "scale": calibration.scale,
        "shift": calibration.shift,
        "radius": calibration.radius,
        "coverage": calibrate.COVERAGE,
        "fitted_on": f"{len(held.raw)} pictures held out from training in {_names(fit)}",
    }
    if check:
        others = calibrate.read_held_out(check, exclude=frozenset(held.names))
        record["measured_coverage"] = round(calibrate.coverage(calibration, others), 4)
        record["measured_on"] = f"{len(others.raw)} other pictures held out in {_names(check)}"
    return calibration, record


def _number(path: Path) -> tuple[int, str]:
    digits = path.name.rpartition("-")[2]
    return (int(digits) if digits.isdigit() else -1, path.name)


def _names(files: Sequence[Path]) -> str:
    names = [path.parent.name for path in files]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _metrics(results: Sequence[Path]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for path in results:
        content = read_json(path)
        metrics[content["name"]] = {
            "source": f"results/{path.name}",
            "protocol": content["protocol"],
            "median": content["median"],
        }
    return metrics
