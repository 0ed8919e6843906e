"""Export a trained run as a model folder: ``model.onnx``, ``card.json``, ``test_vector.png``.

The folder is written only if torch and ONNX agree on real photos, to 1e-3 of the public scale.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from PIL import Image

from moslens.data.records import LabelScale
from moslens.distortions import get_kind, kind_names
from moslens.errors import ConfigError, ModelError
from moslens.model.block_heads import OUTPUTS, PictureDescriber, SupervisedHead, read_head
from moslens.model.shdiqa import PictureScorer
from moslens.picture.windows import SHORTEST_PASS, STRIDE, WINDOW
from moslens.release import block_head, score_scale
from moslens.release.block_labels import calibrate_blocks
from moslens.scoring.card import ID_DIGITS, NEVER, PREPROCESSING, Calibration, Card, graph_metadata
from moslens.scoring.session import INPUTS, Model
from moslens.scoring.stitch import softmax
from moslens.system.files import file_sha256, read_json, write_json
from moslens.system.progress import tracked
from moslens.train.config import TrainConfig, apply_changes, from_dict
from moslens.train.distill.pool import Pool, pool_of
from moslens.train.networks import load_run
from moslens.train.predict import load_for, predict_pieces, predict_pixels
from moslens.train.quality import dataset_of
from moslens.train.run_folder import Run, split_runs

PARITY = 1e-3
PARITY_PHOTOS = 24
HEADS = ("fitted", "trained", "none")
WHOLE_MAP_GRID = 6


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
    naming: Sequence[str] = (),
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
    naming: changes ``naming.key=value`` to the settings of the run for the fitted head.
    ModelError where ONNX and torch disagree, DatasetError or CheckpointError where a file is missing, ConfigError for
    another head, and where the labels of the run mean nothing or something else than ``labels``.
    """
    scorer, config = load_run(run)
    config = _with_naming(config, naming)
    if head not in HEADS:
        raise ConfigError(f"head is one of {', '.join(HEADS)}, not {head!r}")
    labels = score_scale.label_scale(Run(run), labels)
    scorer = score_scale.in_points(scorer, score_scale.points_of(Run(run), labels))
    calibration, fitted = _calibration(run, folds, labels)
    photos, metrics = _photos(config), _metrics(results)  # what may be missing is missed before minutes of work
    describer, pristine = None, None
    if head != "none" and config.stage == "student" and scorer.model.baf is not None:
        pristine = pool_of(config.bdm, pool)
        describer = _describer(run, scorer, config, pristine, head)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch)
        record: dict[str, Any] = {
            "name": text.name,
            "preprocessing": {"working_size": config.data.working_size, **PREPROCESSING[config.data.view]},
            "range": [0, 100],
            "direction": "higher is better",
            "calibration": fitted,
            "trained_on": text.trained_on,
            "licence": text.licence,
            "limits": list(text.limits),
            "metrics": metrics,
            "training": config.to_dict(),
        }
        outputs = OUTPUTS if describer else ("score",)
        write_onnx(describer or scorer, folder / "model.onnx", outputs, graph_metadata(record))
        digest = file_sha256(folder / "model.onnx")
        record |= {"id": f"{text.name}@{digest[:ID_DIGITS]}", "sha256": digest, "file": "model.onnx"}
        if describer is not None:
            record["explain"] = _explain_record(describer, head)
        record["test_vector"] = _test_vector(scorer, calibration, photos[0], folder / "test_vector.png")
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
            bdm = config.bdm
            record["explain"] |= calibrate_blocks(Model(folder), pristine, config.naming, bdm.implementations)
        write_json(folder / "card.json", record)
        for name in ("model.onnx", "test_vector.png", "card.json"):
            shutil.move(folder / name, output / name)
    return Card.read(output)


def _describer(run: Path, scorer: PictureScorer, config: TrainConfig, pool: Pool, head: str) -> PictureDescriber | None:
    """The scorer with outputs for blocks; None where the head of the run is wanted and it has none."""
    if head == "fitted":
        names = kind_names(config.bdm.kinds)
        material = block_head.block_material(
            scorer.model,
            pool,
            pool.train,
            scorer.view,
            _map_grid(scorer),
            block_head.PICTURES,
            names,
            config.bdm.implementations,
            config.naming.faults,
        )
        return PictureDescriber(scorer, block_head.fit_head(*material, names=names), _map_grid(scorer)).eval()
    own = read_head(Run(run).embedding(), scorer.model.dim, Run(run).kinds)
    return None if own is None else PictureDescriber(scorer, own, _map_grid(scorer)).eval()


def _with_naming(config: TrainConfig, changes: Sequence[str]) -> TrainConfig:
    """The configuration with ``naming.key=value`` changes; ConfigError for any other setting."""
    if not changes:
        return config
    for change in changes:
        if not change.startswith("naming."):
            raise ConfigError(f"an export changes settings of naming alone, not {change!r}")
    tree = config.to_dict()
    apply_changes(tree, changes)
    return from_dict(tree)


def _map_grid(scorer: PictureScorer) -> int:
    """Blocks a side of the map. Those of a whole picture are about as large as those of a window, 56 px."""
    return WHOLE_MAP_GRID if scorer.view.whole else scorer.model.config.grid


def _explain_record(describer: PictureDescriber, head: str) -> dict[str, Any]:
    """The ``explain`` record of a card, before calibration."""
    trained = "supervised" if isinstance(describer.head, SupervisedHead) else "distilled"
    return {
        "grid": describer.grid,
        "head": "fitted" if head == "fitted" else trained,
        "kinds": list(describer.kinds),
        "groups": [get_kind(name).group for name in describer.kinds],
        "temperature": 1.0,
        "threshold": NEVER,
        "penalty": 0.0,
    }


def write_onnx(
    scorer: PictureScorer | PictureDescriber,
    path: Path,
    outputs: Sequence[str] = ("score",),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the ONNX graph, from the inputs of :mod:`moslens.scoring.session` to ``outputs``, n x ... float32.

    ``metadata`` becomes its ``metadata_props``. The same network and metadata give the same bytes. The number of
    pictures is dynamic and, of whole pictures, height and width, in steps of ``STRIDE``.
    """
    scorer = scorer.eval().to(memory_format=torch.contiguous_format)
    n = torch.export.Dim("n", min=1, max=4096)
    arguments: tuple[torch.Tensor, ...]
    shapes: dict[str, dict[int, Any]]
    if scorer.view.whole:
        sides = [STRIDE * torch.export.Dim(name, min=SHORTEST_PASS // STRIDE, max=2048) for name in ("rows", "columns")]
        arguments = (torch.zeros(3, 256, 384, 3, dtype=torch.uint8), torch.tensor([[256, 384], [250, 380], [241, 370]]))
        shapes = {"pictures": {0: n, 1: sides[0], 2: sides[1]}, "sizes": {0: n}}
    else:
        arguments, shapes = (torch.zeros(2, WINDOW, WINDOW, 3, dtype=torch.uint8),), {"pictures": {0: n}}
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of what it leaves as it is
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            scorer,
            arguments,
            dynamo=True,
            input_names=list(INPUTS["whole" if scorer.view.whole else "windows"]),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    model = _without_traces(program.model_proto)
    for key, value in sorted((metadata or {}).items()):
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def _without_traces(model: Any) -> Any:
    """Remove the exporter's notes about source code, which hold file names of the machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    del model.functions[:]
    return model


def parity(scorer: PictureScorer, model: Model, photos: Sequence[Path]) -> float:
    """Largest difference on the public scale between torch and the exported model over real photos."""
    card = model.card
    worst = 0.0
    for path in tracked(photos, "comparing scores", len(photos)):
        pixels = load_for(card.view, path)
        ours = card.calibration.score(predict_pixels(scorer, pixels))
        theirs = card.calibration.score(fmean(float(model.run(piece)[0]) for piece in card.view.pieces(pixels)))
        worst = max(worst, abs(ours - theirs))
    return worst


def block_parity(describer: PictureDescriber, model: Model, photos: Sequence[Path]) -> float:
    """Largest difference in any output for a block: scores on the public scale, kinds as probabilities."""
    calibration = model.card.calibration
    read: dict[str, Callable[[Any], Any]] = {
        "block_score": np.vectorize(calibration.score, otypes=[np.float64]),
        "kind_logits": softmax,
    }
    worst = 0.0
    for path in tracked(photos, "comparing blocks", len(photos)):
        pieces = list(model.card.view.pieces(load_for(model.card.view, path)))
        for piece, ours in zip(pieces, predict_pieces(describer, pieces), strict=True):
            for name, a, b in zip(OUTPUTS[1:], ours[1:], model.run(piece, OUTPUTS[1:]), strict=True):
                shown = read.get(name, np.asarray)
                worst = max(worst, float(np.abs(shown(a[0].numpy()) - shown(b)).max()))
    return worst


def _photos(config: TrainConfig) -> list[Path]:
    samples = dataset_of(config.data).samples
    step = max(1, len(samples) // PARITY_PHOTOS)
    return [sample.path for sample in samples[::step][:PARITY_PHOTOS]]


def _test_vector(scorer: PictureScorer, calibration: Calibration, photo: Path, target: Path) -> dict[str, Any]:
    """Store a patch of a photo as PNG, which every decoder reads alike, with its raw and public score."""
    pixels = load_for(scorer.view, photo)[:300, :260]
    Image.fromarray(pixels).save(target, optimize=True)
    raw = predict_pixels(scorer, pixels)
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
            **({"dataset": content["dataset"]} if "dataset" in content else {}),
            "source": f"results/{path.name}",
            "protocol": content["protocol"],
            "median": content["median"],
        }
    return metrics
