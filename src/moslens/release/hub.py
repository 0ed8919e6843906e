"""A model as a Hugging Face repository: the model folder, a model card (``README.md``) and ``config.json``.

``hf upload OWNER/NAME FOLDER`` publishes it, ``hf download OWNER/NAME`` brings it into the cache, where
``Scorer("OWNER/NAME")`` finds it.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from moslens.errors import OutputError
from moslens.scoring.card import CARD, WEIGHTS, Card
from moslens.system.files import write_bytes, write_json, write_text

logger = logging.getLogger(__name__)

LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0")
METRICS = {"srcc": "spearmanr", "plcc": "pearsonr"}
"""What Hugging Face calls our figures, where it has a name of its own."""


def write_repository(model: Path, folder: Path) -> Card:
    """Write the repository of the model folder ``model`` into ``folder``, which is new or empty.

    Raises ModelError where the model is broken or altered, OutputError where ``folder`` has content or cannot be
    written. An interrupted run leaves no ``README.md``, which is written last.
    """
    card = Card.read(model)
    weights = card.verified_weights()
    require_empty(folder)
    try:
        write_bytes(folder / card.file, weights)
        for name in (CARD, card.record.get("test_vector", {}).get("file")):
            if name is not None and Path(name).name == name:
                shutil.copyfile(card.folder / name, folder / name)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", folder) from error
    if notice := _notice(card):
        write_text(folder / "NOTICE", notice)
    write_json(folder / "config.json", config(card))
    write_text(folder / "README.md", model_card(card))
    return card


def require_empty(folder: Path) -> None:
    """Raises OutputError where ``folder`` has content or cannot be listed."""
    try:
        if folder.exists() and any(folder.iterdir()):
            raise OutputError("has content: give another folder", folder)
    except OSError as error:
        raise OutputError(error.strerror or str(error), folder) from error


def config(card: Card) -> dict[str, Any]:
    """What ``config.json`` holds; Hugging Face counts downloads by it, moslens reads the card."""
    return {
        "model_type": "moslens",
        "name": card.name,
        "id": card.id,
        "file": card.file,
        "card": CARD,
        "preprocessing": card.record["preprocessing"],
    }


def model_card(card: Card) -> str:
    """The text of ``README.md``: metadata in YAML with the evaluation, then the card in words."""
    # JSON is YAML: one line a key needs no other writer.
    head = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _metadata(card).items()]
    return "\n".join(["---", *head, "---", "", *_words(card)]) + "\n"


def _metadata(card: Card) -> dict[str, Any]:
    stated = (card.licence or "").partition(";")[0].strip().lower()
    known = stated in LICENCES
    licence = {"license": stated} if known else {"license": "other", "license_name": "stated-in-the-card"}
    return {
        **licence,
        "library_name": "moslens",
        "tags": ["image-quality-assessment", "no-reference", "onnx", "moslens"],
        "model-index": [{"name": card.name, "results": list(_results(card))}],
    }


def _results(card: Card) -> Iterator[dict[str, Any]]:
    for name, metric in card.record.get("metrics", {}).items():
        if not isinstance(metric, Mapping) or not metric.get("median"):
            continue
        dataset = str(metric.get("dataset", name))
        yield {
            "task": {"type": "image-quality-assessment", "name": "Blind image quality assessment"},
            "dataset": {"type": dataset, "name": dataset},
            "metrics": [
                {"type": METRICS.get(figure, figure), "name": f"{figure.upper()}, median of the splits", "value": value}
                for figure, value in metric["median"].items()
            ],
        }


def _words(card: Card) -> Iterator[str]:
    low, high = card.record.get("range", (0, 100))
    calibration = card.calibration
    yield from (
        f"# {card.name}",
        "",
        f"Blind image quality assessment: one photo in, a score from {low} to {high} out,"
        f" {card.record.get('direction', 'higher is better')}. No reference picture is needed.",
        "",
        "With OWNER/NAME for the id of this repository:",
        "",
        "```sh",
        "hf download OWNER/NAME",
        "moslens score photos --model OWNER/NAME",
        "```",
        "",
        "```python",
        "import moslens",
        "",
        'print(moslens.Scorer("OWNER/NAME").score("photo.jpg"))',
        "```",
        "",
        f"`{card.file}` takes pixels and gives the raw quality of each piece of a picture (`score`). The score of a"
        f" picture is 100 / (1 + exp(-({calibration.scale:g} x + {calibration.shift:g}))) of their mean x, +/-"
        f" {calibration.radius:g} at {card.record['calibration'].get('coverage', 0.9):.0%} coverage. `{CARD}` holds the"
        " exact figures and the preprocessing.",
        "",
        f"Id: `{card.id}`, the beginning of the SHA-256 of `{card.file}`: `{card.sha256}`.",
        "",
    )
    if results := [one for one in card.record.get("metrics", {}).items() if isinstance(one[1], Mapping)]:
        yield "## Evaluation"
        for name, metric in results:
            yield from ("", f"{name}: {metric.get('protocol', 'protocol not stated')}. Medians:", "")
            yield "| figure | value |"
            yield "|---|---|"
            for figure, value in metric.get("median", {}).items():
                yield f"| {figure.upper()} | {value:.3f} |"
        yield ""
    yield from ("## Trained on", "", str(card.record.get("trained_on") or "Not stated."), "")
    yield from ("## Limits", "", *(f"- {limit}" for limit in card.record.get("limits", [])), "")
    yield from ("## Licence", "", card.licence or "Not stated.")


def _notice(card: Card) -> str | None:
    """The notice that must travel with a model: the one beside it, or for a shipped model that of the package."""
    beside = card.folder / "NOTICE"
    if beside.is_file():
        return beside.read_text("utf-8")
    if not card.folder.is_relative_to(WEIGHTS):
        return None
    try:
        package = distribution("moslens")
    except PackageNotFoundError:
        package = None
    notice = package and (package.read_text("licenses/NOTICE") or package.read_text("NOTICE"))
    if not notice:
        logger.warning("%s: add the NOTICE of moslens, which must travel with this model", card.id)
    return notice or None
