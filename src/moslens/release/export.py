"""Export a trained run as a model folder: ``model.onnx``, ``card.json``, ``test_vector.png``.

The folder is written only if torch and ONNX agree on real photos, to 1e-3 of the public scale.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from moslens.data.records import LabelScale
from moslens.distortions import KINDS
from moslens.errors import ConfigError, ModelError
from moslens.model.block_heads import OUTPUTS, SupervisedHead, WindowDescriber, read_head
from moslens.model.shdiqa import WindowScorer
from moslens.picture.load import load
from moslens.picture.windows import WINDOW, cover
from moslens.release import block_head, score_scale
from moslens.release.block_labels import NOTHING, calibrate_blocks
from moslens.scoring.card import ID_DIGITS, PREPROCESSING, Calibration, Card
from moslens.scoring.session import Model
from moslens.scoring.stitch import softmax
from moslens.system.files import file_sha256, read_json, write_json
from moslens.train.config import TrainConfig
from moslens.train.distill.pool import Pool, pool_of
from moslens.train.networks import load_run
from moslens.train.predict import predict_windows
from moslens.train.quality import dataset_of
from moslens.train.run_folder import Run, split_runs

PARITY = 1e-3
PARITY_PHOTOS = 24
HEADS = ("fitted", "trained", "none")


@dataclass(frozen=True)
class CardText:
    """The parts of a card that a person writes."""

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
    pool: Path | None = None,
    head: str = "fitted",
    labels: LabelScale | None = None,
) -> Card:
    """Export a finished run with its calibration and card, and check the result against torch.

    folds: a folder of ``split-N`` runs whose test predictions calibrate the model, needed where the run itself held
    nothing out. The calibration is fitted on the first half of them; the other half measures its coverage.
    results: result files whose medians go on the card.
    head: a student with BAF also gets outputs for blocks, with kinds and levels from this head: "fitted" on frozen
    block features (:mod:`moslens.release.block_head`), "trained" for that of the run (distilled or supervised), if it
    has one, or "none" for scores alone.
    pool: the folder of the pristine pool, if it is no longer where the run's configuration says. Block labels are
    calibrated on its held-out part.
    labels: what the published labels mean, for a run by version 0.1 on a CSV, which does not say.
    ModelError where ONNX and torch disagree, DatasetError or CheckpointError where a file is missing, ConfigError for
    another head, and where the labels of the run mean nothing or something else than ``labels``.
    """
    scorer, config = load_run(run)
    if head not in HEADS:
        raise ConfigError(f"head is one of {', '.join(HEADS)}, not {head!r}")
    labels = score_scale.label_scale(Run(run), labels)
    scorer = score_scale.in_points(scorer, score_scale.points_of(Run(run), labels))
    calibration, fitted = _calibration(run, folds, labels)
    describer, pristine = None, None
    if head != "none" and config.stage == "student" and scorer.model.baf is not None:
        pristine = pool_of(config.bdm, pool)
        describer = _describer(run, scorer, config, pristine, head)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch)
        write_onnx(describer or scorer, folder / "model.onnx", OUTPUTS if describer else ("score",))
        digest = file_sha256(folder / "model.onnx")
        record: dict[str, Any] = {
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
        if describer is not None:
            record["explain"] = _explain_record(describer, head)
        photos = _photos(config)
        record["test_vector"] = _test_vector(scorer, calibration, photos[0], folder / "test_vector.png", config)
        write_json(folder / "card.json", record)
        worst = parity(scorer, Model(folder), photos)
        if worst > PARITY:
            raise ModelError(f"ONNX and torch differ by {worst:.2g} on the public scale, {PARITY} is allowed", run)
        record["parity"] = {"photos": len(photos), "worst": worst, "allowed": PARITY}
        if describer is not None and pristine is not None:
            blocks = block_parity(describer, Model(folder), photos)
            if blocks > PARITY:
                raise ModelError(f"ONNX and torch differ by {blocks:.2g} in a block, {PARITY} is allowed", run)
            record["parity"]["worst_block"] = blocks
            record["explain"] |= calibrate_blocks(Model(folder), pristine)
        write_json(folder / "card.json", record)
        for name in ("model.onnx", "test_vector.png", "card.json"):
            shutil.move(folder / name, output / name)
    return Card.read(output)


def _describer(run: Path, scorer: WindowScorer, config: TrainConfig, pool: Pool, head: str) -> WindowDescriber | None:
    """The scorer with outputs for blocks; None where the head of the run is wanted and it has none."""
    if head == "fitted":
        material = block_head.block_material(
            scorer.model, pool, pool.train, config.data.working_size, block_head.PICTURES
        )
        return WindowDescriber(scorer, block_head.fit_head(*material)).eval()
    own = read_head(Run(run).embedding(), scorer.model.dim)
    return None if own is None else WindowDescriber(scorer, own).eval()


def _explain_record(describer: WindowDescriber, head: str) -> dict[str, Any]:
    """The ``explain`` record of a card, before calibration."""
    trained = "supervised" if isinstance(describer.head, SupervisedHead) else "distilled"
    return {
        "grid": describer.scorer.model.config.grid,
        "head": "fitted" if head == "fitted" else trained,
        "kinds": [kind.name for kind in KINDS],
        "groups": [kind.group for kind in KINDS],
        "temperature": 1.0,
        "threshold": NOTHING,
        "penalty": 0.0,
    }


def write_onnx(scorer: torch.nn.Module, path: Path, outputs: Sequence[str] = ("score",)) -> None:
    """Write the ONNX graph: ``windows`` uint8 n x 224 x 224 x 3 -> ``outputs``, n x ... float32, with a dynamic n."""
    scorer = scorer.eval().to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, WINDOW, WINDOW, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            scorer,
            (example,),
            dynamo=True,
            input_names=["windows"],
            output_names=list(outputs),
            dynamic_shapes={"windows": {0: torch.export.Dim("n", min=1, max=4096)}},
            verbose=False,
        )
    assert program is not None
    path.write_bytes(_without_traces(program.model_proto).SerializeToString())


def _without_traces(model: Any) -> Any:
    """Remove the exporter's notes about source code, which hold file names of the machine."""
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
        windows = cover(load(path, working_size=card.working_size).pixels)
        ours = card.calibration.score(float(predict_windows(scorer, windows).mean()))
        theirs = card.calibration.score(float(np.mean([model.run(window)[0] for window in windows])))
        worst = max(worst, abs(ours - theirs))
    return worst


def block_parity(describer: WindowDescriber, model: Model, photos: Sequence[Path]) -> float:
    """Largest difference in any output for a block: scores on the public scale, kinds as probabilities."""
    calibration = model.card.calibration
    read: dict[str, Callable[[Any], Any]] = {
        "block_score": np.vectorize(calibration.score, otypes=[np.float64]),
        "kind_logits": softmax,
    }
    worst = 0.0
    for path in photos:
        windows = cover(load(path, working_size=model.card.working_size).pixels)
        with torch.inference_mode():
            ours = [output.numpy() for output in describer(torch.from_numpy(windows))[1:]]
        theirs = [np.stack(output) for output in zip(*(model.run(w, OUTPUTS[1:]) for w in windows), strict=True)]
        for name, a, b in zip(OUTPUTS[1:], ours, theirs, strict=True):
            shown = read.get(name, np.asarray)
            worst = max(worst, float(np.abs(shown(a) - shown(b)).max()))
    return worst


def _photos(config: TrainConfig) -> list[Path]:
    samples = dataset_of(config.data).samples
    step = max(1, len(samples) // PARITY_PHOTOS)
    return [sample.path for sample in samples[::step][:PARITY_PHOTOS]]


def _test_vector(
    scorer: WindowScorer, calibration: Calibration, photo: Path, target: Path, config: TrainConfig
) -> dict[str, Any]:
    """Store a patch of a photo as PNG, which every decoder reads alike, with its raw and public score."""
    pixels = load(photo, working_size=config.data.working_size).pixels[:300, :260]
    Image.fromarray(pixels).save(target, optimize=True)
    raw = float(predict_windows(scorer, cover(pixels)).mean())
    return {"file": target.name, "raw": raw, "score": calibration.score(raw)}


def _calibration(run: Path, folds: Path | None, labels: LabelScale) -> tuple[Calibration, dict[str, Any]]:
    if folds is None:
        fit, check = [Run(run)], []
        if not fit[0].predictions_file.is_file():
            raise ConfigError("held nothing out to calibrate on: name a folder of split runs with --folds", run)
    else:
        runs = split_runs(folds)
        if len(runs) < 2:
            raise ConfigError("needs at least two split-N runs", folds)
        fit, check = runs[: len(runs) // 2], runs[len(runs) // 2 :]
    held = score_scale.read_held_out(fit, stated=labels)
    calibration = score_scale.fit_calibration(held)
    record: dict[str, Any] = {
        "kind": "logistic",
        "scale": calibration.scale,
        "shift": calibration.shift,
        "radius": calibration.radius,
        "coverage": score_scale.COVERAGE,
        "labels": labels.to_record(),
        "fitted_on": f"{len(held.raw)} pictures held out from training in {_names(fit)}",
    }
    if check:
        others = score_scale.read_held_out(check, exclude=frozenset(held.names), stated=labels)
        record["measured_coverage"] = round(score_scale.coverage(calibration, others), 4)
        record["measured_on"] = f"{len(others.raw)} other pictures held out in {_names(check)}"
    return calibration, record


def _names(runs: Sequence[Run]) -> str:
    names = [run.folder.name for run in runs]
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
