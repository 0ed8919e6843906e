"""The tables of the first pages: what ``moslens score`` prints, a row of it as JSON, and moslens beside other tools."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.common import ROOT
from tools.docs import cost_tables

PHOTOS = "examples/photos"
PHOTO = f"{PHOTOS}/livec_724.jpg"
RESULTS = ROOT / "results"

_PYIQA = "https://github.com/chaofengc/IQA-PyTorch"
_CLEANVISION = "https://github.com/cleanlab/cleanvision"
_BRISQUE = "https://docs.opencv.org/4.x/d8/d99/classcv_1_1quality_1_1QualityBRISQUE.html"
_HEAD = (
    "",
    "moslens",
    f"[pyiqa]({_PYIQA}) 0.1.16",
    f"[cleanvision]({_CLEANVISION}) 0.3.7",
    f"BRISQUE in [OpenCV]({_BRISQUE})",
)


def score() -> str:
    """What ``moslens score`` prints for the example photos on a terminal."""
    return _session(f"moslens score {PHOTOS}", ["score", PHOTOS, "--format", "table"])


def row() -> str:
    """The row of one example photo as JSON."""
    command = ["score", PHOTO, "--format", "jsonl"]
    return _session(f"moslens {' '.join(command)}", command)


def peers() -> str:
    """moslens beside other tools in eight rows; the speeds are those of results/peers-benchmark.json."""
    record: dict[str, Any] = json.loads((RESULTS / "peers-benchmark.json").read_text("utf-8"))
    speed = {name: f"{value:.2g}" for name, value in record["pictures_per_second"].items()}
    networks = ", ".join(f"{name} {speed[name]}" for name in ("MUSIQ", "TOPIQ-NR", "HyperIQA"))
    rows = (
        (
            "agreement with people",
            "[below](#how-good-it-is)",
            "**larger networks are ahead** ([published figures](docs/evaluation.md))",
            "gives no opinion score",
            f"learned from laboratory distortions of the LIVE set ([docs]({_BRISQUE}))",
        ),
        (
            "choice",
            "one model inside, or your own",
            f"**over a hundred named metrics, with and without reference, many also as losses** "
            f"([cards]({_PYIQA}/blob/main/docs/ModelCard.md))",
            "nine checks",
            "one metric",
        ),
        (
            "result for a photo",
            "score, 90 % interval, map, named faults",
            "a number, whose range and direction depend on the metric",
            "for each check a score and whether it is an issue",
            "a number, 0 is best",
        ),
        (
            f"photos a second, {record['threads']} threads",
            speed["moslens"],
            networks,
            "not measured; no network, only statistics of pixels",
            "not measured",
        ),
        (
            "what has to be there",
            "no torch; weights are inside the package",
            "torch and transformers; weights are downloaded on first use",
            "**pandas and matplotlib, no weights at all**",
            "OpenCV with contrib modules, two model files",
        ),
        (
            "a broken file in a folder",
            "a row with an error code; the run goes on",
            f"not caught ([source]({_PYIQA}/blob/main/pyiqa/pyiqa_cmd.py))",
            f"not caught ([source]({_CLEANVISION}/blob/main/src/cleanvision/dataset/fsspec_dataset.py))",
            "you decode it yourself",
        ),
        (
            "checks of a whole data set",
            "worst first, near-duplicates (`pick`), notes such as grey or no photo",
            "none",
            "**exact and near duplicates, odd sizes and shapes; Hugging Face and torchvision data sets**",
            "none",
        ),
        (
            "licence",
            "Apache-2.0; weights with the notice of LIVE In the Wild",
            f"[PolyForm Noncommercial]({_PYIQA}#scroll-license)",
            "Apache-2.0",
            "Apache-2.0",
        ),
    )
    lines = [_line(_HEAD), "|---" * len(_HEAD) + "|", *map(_line, rows)]
    size = f"{record['protocol']}; {cost_tables.model_words(record['model'])}; `results/peers-benchmark.json`."
    return "\n".join([*lines, "", f"Speed: {size}"])


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _session(shown: str, arguments: list[str]) -> str:
    """A command and what it prints in the project's folder, as a fenced block. CalledProcessError where it fails."""
    command = [sys.executable, "-m", "moslens", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return f"```console\n$ {shown}\n{done.stdout.rstrip()}\n```"


README: dict[str, Callable[[], str]] = {"score": score, "peers": peers}
READING: dict[str, Callable[[], str]] = {"row": row}
