"""``moslens doctor``: is this installation able to give the scores its model card promises?"""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import typer

import moslens
from moslens.cli.options import Model
from moslens.errors import ImageError, ModelError
from moslens.scoring.card import graph_metadata
from moslens.scoring.session import available_providers
from moslens.system.cores import available_cores

if TYPE_CHECKING:
    from moslens.scoring.session import Model as OpenModel

PACKAGES = ("numpy", "pillow", "onnxruntime", "typer", "rich")
EXTRAS = {
    "formats": "pillow-heif",
    "raw": "rawpy",
    "bulk": "pyarrow",
    "frames": "pandas",
    "xlsx": "xlsxwriter",
    "pick": "imagehash",
    "serve": "fastapi",
    "mcp": "mcp",
    "train": "torch",
}
TOLERANCE = 1e-3


def run(
    model: Model = None,
) -> None:
    """Check this installation: versions, cores, the model's hash, and a score against the card's.

    Exit code: 0 all is well, 1 something is not.
    """
    _say("moslens", moslens.__version__)
    _say("python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        _say(package, _version(package) or "not installed")
    _say("extras", ", ".join(f"{name} {'yes' if _version(EXTRAS[name]) else 'no'}" for name in EXTRAS))
    _say("cores", f"{os.cpu_count()} in the machine, {available_cores()} for this process")
    from moslens.scoring.scorer import Scorer

    try:
        start = time.perf_counter()
        scorer = Scorer(model)
        card = scorer.model.card
        _say("model", f"{card.id}, opened in {time.perf_counter() - start:.2f} s, {scorer.threads} threads")
        _say("provider", f"{scorer.providers[0]}; this onnxruntime has {', '.join(available_providers())}")
        _say("weights", f"SHA-256 {card.sha256} as on the card")
        _say("graph", _graph_words(scorer.model))
        vector = card.record["test_vector"]
        found = scorer.score(card.folder / vector["file"]).score
        expected = float(vector["score"])
    except (ModelError, ImageError) as error:
        _say("FAILED", str(error))
        raise typer.Exit(1) from error
    except (KeyError, TypeError, ValueError) as error:
        _say("FAILED", f"the card's test vector is malformed: {error!r}")
        raise typer.Exit(1) from error
    difference = abs(found - expected)
    if difference > TOLERANCE:
        _say("FAILED", f"the test picture scores {found:.4f}, the card says {expected:.4f}")
        raise typer.Exit(1)
    _say("self-test", f"{found:.4f}, the card says {expected:.4f}: within {TOLERANCE:g}")
    _say("result", "all is well")


def _graph_words(model: "OpenModel") -> str:
    """What the graph says of itself, beside its card. Raises ModelError where the two differ."""
    if not model.metadata:
        return "says nothing of itself, as those exported by version 0.1"
    expected = graph_metadata(model.card.record)
    differing = [key for key, value in model.metadata.items() if expected.get(key, value) != value]
    if differing:
        raise ModelError(f"the graph and its card differ in: {', '.join(differing)}", model.card.folder)
    return f"states {', '.join(model.metadata)} as the card does"


def _say(name: str, text: str) -> None:
    typer.echo(f"{name:<12}{text}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
