"""NIQE, BRISQUE and PIQE beside moslens: how well each follows opinion scores, on the same pictures.

    python -m venv build/classical
    build/classical/bin/pip install 'numpy<2.4' 'brisque[opencv-python-headless]==0.2.0' \\
        scikit-video==1.1.11 pypiqe==1.2
    python -m benchmarks.quality.classical --data DIR [--model NAME|DIR] [--python FILE] [--work DIR] [--photos 700]

``DIR/livec`` is measured on the test parts of ten random splits, ``DIR/flive_voc`` (700 photos, or every n-th of them)
as a whole, with 95 % bootstrap intervals. The classical metrics come from packages with their weights inside, and run
in the Python of ``--python`` on the pixels that moslens decodes, at full size. None of them was trained on these
photos. On livec ours are the test predictions that runs left in ``results/predictions``: no run saw its test part. The
shipped model learned from all of livec, so it is measured on flive_voc alone.

Lower is better for the classical metrics, so their sign is changed: a higher correlation is better for all. PLCC is
after the logistic fit, which may fall, so SRCC tells the direction. A picture that a metric cannot score is left out of
the figures of that metric, counted and named. The classical scores of each picture are kept in a file of ``--work``, so
that a second run only scores ours; ``--ours`` does so from the record alone.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, add_data_option, add_model_option, argument_parser, machine, write_record
from benchmarks.quality.desk import Checkpoint
from benchmarks.quality.mirror import spread
from moslens import Scorer, metrics
from moslens.data.records import Dataset, Sample
from moslens.data.sets import load_dataset
from moslens.data.split import make_split, split_hash
from moslens.evaluate.predictors import open_source
from moslens.evaluate.record import split_figures, summary
from moslens.evaluate.significance import bootstrap_interval
from moslens.picture.load import decode
from moslens.system.files import file_sha256, read_json

CHILD = Path(__file__).with_name("classical_metrics.py")
CLASSICAL = ("NIQE", "BRISQUE", "PIQE")
RUNS = {"livec-quality-lite": "moslens, quality only", "livec-shdiqa-lite": "moslens, SHDIQA"}
SHIPPED = "moslens, shipped model"
SEEDS = tuple(range(10))
Scores = Mapping[str, float | None]


def main() -> None:
    parser = argument_parser(__doc__, "classical.json")
    add_data_option(parser)
    add_model_option(parser)
    python = ROOT / "build" / "classical" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=python, help="the Python that has the classical metrics")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "moslens-classical", help="scores")
    text = "measure moslens alone, and keep the classical figures of the record at --output"
    parser.add_argument("--ours", action="store_true", help=text)
    parser.add_argument("--photos", type=int, default=700, help="of flive_voc, every n-th where fewer; default: 700")
    options = parser.parse_args()
    state = machine()
    livec = load_dataset("livec", options.data / "livec")
    flive = load_dataset(str(options.data / "flive_voc" / "labels.csv"), options.data / "flive_voc" / "images")
    wanted = {"livec": tested(livec), "flive_voc": spread(list(flive.samples), options.photos)}
    hashes = {"livec": livec.data_hash(), "flive_voc": flive.data_hash()}
    datasets = {name: {"pictures": len(some), "data_hash": hashes[name]} for name, some in wanted.items()}
    of_classical = earlier(options.output, datasets) if options.ours else measured(options, hashes, wanted, livec)
    scorer = Scorer(options.model, maps=False, threads=1)
    started = time.time()
    ours = {one.name: scorer.score(one.path).score for one in wanted["flive_voc"]}
    splits = of_classical["livec"] | {
        label: of_runs(ROOT / "results" / "predictions" / name, livec)
        for name, label in RUNS.items()
        if (ROOT / "results" / "predictions" / name).is_dir()
    }
    whole = of_classical["flive_voc"] | {SHIPPED: on_all(ours, wanted["flive_voc"])}
    for name, found in (("livec", {key: one["median"] for key, one in splits.items()}), ("flive_voc", whole)):
        for metric, one in found.items():
            print(f"{name:9s} {metric:22s} SRCC {one['srcc']:.3f}  PLCC {one['plcc']:.3f}")
    write_record(
        options.output,
        {
            "protocol": " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
            "model": scorer.model_id,
            "datasets": datasets,
            "livec": splits,
            "flive_voc": whole,
            "failed": of_classical["failed"],
            "classical_versions": of_classical["classical_versions"],
            "classical_seconds": of_classical["classical_seconds"],
            "seconds": round(time.time() - started, 1),
            "machine": state,
        },
        ("numpy", "scipy", "pillow", "onnxruntime"),
    )


def measured(
    options: argparse.Namespace, hashes: Mapping[str, str], wanted: Mapping[str, Sequence[Sample]], livec: Dataset
) -> dict[str, Any]:
    """What the record holds of the classical metrics, measured now or in earlier calls."""
    with Classical(options.python) as classical:
        settings = {"data": dict(hashes), "metrics_sha256": file_sha256(CHILD), "versions": classical.versions}
        kept = Checkpoint(options.work, settings, name="classical", show=False)
        rows = {name: [kept_row(kept, name, one, classical) for one in some] for name, some in wanted.items()}
    flive = wanted["flive_voc"]
    return {
        "livec": {metric: on_splits(scores_of(rows["livec"], metric), livec, -1) for metric in CLASSICAL},
        "flive_voc": {metric: on_all(scores_of(rows["flive_voc"], metric), flive, -1) for metric in CLASSICAL},
        "failed": {metric: failed(rows, metric) for metric in CLASSICAL},
        "classical_versions": classical.versions,
        "classical_seconds": round(sum(row["seconds"] for part in rows.values() for row in part), 1),
    }


def earlier(record: Path, datasets: Mapping[str, Any]) -> dict[str, Any]:
    """What a record of the same pictures holds of the classical metrics. SystemExit where it is of others."""
    found = read_json(record)
    if found["datasets"] != datasets:
        raise SystemExit(f"{record}: is of other pictures; measure all without --ours")
    parts = {name: {metric: found[name][metric] for metric in CLASSICAL} for name in ("livec", "flive_voc")}
    rest = {name: found[name] for name in ("failed", "classical_versions")}
    return parts | rest | {"classical_seconds": found.get("classical_seconds", found["seconds"])}


class Classical:
    """The classical metrics in a process of another Python. ``versions`` are those of its packages."""

    def __init__(self, python: Path) -> None:
        """SystemExit where there is no such Python or it lacks a package."""
        try:
            self._process = subprocess.Popen(
                [str(python), "-I", "-W", "ignore", str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise SystemExit(f"{python}: {error.strerror}; --help says how to install it") from None
        self.versions: dict[str, str] = self._answer()

    def __enter__(self) -> "Classical":
        return self

    def __exit__(self, *ended: object) -> None:
        self._process.communicate()

    def score(self, sample: Sample) -> dict[str, Any]:
        """By metric ``score`` and ``seconds``; a score of None comes with ``why``."""
        pixels = decode(sample.path)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer that does not come tells it
            self._process.stdin.write(json.dumps(pixels.shape).encode() + b"\n" + pixels.tobytes())
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            raise SystemExit(f"the classical metrics ended with code {self._process.returncode}")
        found: dict[str, Any] = json.loads(line)
        return found


def tested(dataset: Dataset) -> list[Sample]:
    """The pictures that are in the test part of some split: no other is measured."""
    indices = {index for seed in SEEDS for index in make_split(dataset, seed).test}
    return [dataset.samples[index] for index in sorted(indices)]


def kept_row(kept: Checkpoint, name: str, sample: Sample, classical: Classical) -> dict[str, Any]:
    """The classical scores of a picture, from the file or made now."""
    return kept.row(f"{name}/{sample.name}", partial(classical.score, sample))


def scores_of(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float | None]:
    """The scores of a metric by the name of the picture."""
    return {row["photo"].partition("/")[2]: row[metric]["score"] for row in rows}


def failed(rows: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> dict[str, str]:
    """Every picture that the metric could not score, with the reason."""
    every = [row for part in rows.values() for row in part]
    return {row["photo"]: row[metric]["why"] for row in every if row[metric]["score"] is None}


def figures(scores: Scores, samples: Sequence[Sample], sign: int = 1) -> dict[str, Any]:
    """The figures of evaluate on the pictures with a score, ``n`` of these, and how many ``failed``.

    ``sign`` is -1 where lower scores are better.
    """
    values, mos = scored(scores, samples, sign)
    return {**split_figures(values, mos), "n": len(values), "failed": len(samples) - len(values)}


def scored(scores: Scores, samples: Sequence[Sample], sign: int) -> tuple[list[float], list[float]]:
    """The scores that exist, times ``sign``, and their opinion scores."""
    pairs = [(sign * score, one.mos) for one in samples if (score := scores[one.name]) is not None]
    return [score for score, _ in pairs], [mos for _, mos in pairs]


def on_splits(scores: Scores, dataset: Dataset, sign: int = 1) -> dict[str, Any]:
    """The figures on the test part of every split, and their medians."""
    found = []
    for split in (make_split(dataset, seed) for seed in SEEDS):
        row = figures(scores, [dataset.samples[i] for i in split.test], sign)
        found.append({"seed": split.seed, **row, "split_hash": split_hash(split, dataset)})
    return {"splits": found, "median": summary(found, statistics.median)}


def of_runs(folder: Path, dataset: Dataset) -> dict[str, Any]:
    """The figures of the predictions that runs stored, each on the test part of its own split, and their medians."""
    source = open_source(str(folder), reuse=True)
    found = []
    for part in source.parts(dataset, SEEDS):
        scores = {dataset.samples[i].name: one.value for i, one in source.predict(dataset, part.key, part.indices)}
        row = figures(scores, [dataset.samples[i] for i in part.indices])
        found.append({"seed": part.seed, **row, "split_hash": part.split_hash})
    return {"predictions": folder.name, "splits": found, "median": summary(found, statistics.median)}


def on_all(scores: Scores, samples: Sequence[Sample], sign: int = 1) -> dict[str, Any]:
    """The figures on all pictures, with 95 % bootstrap intervals over pictures; the fit is held, as evaluate does."""
    values, mos = scored(scores, samples, sign)
    rng = np.random.default_rng(0)
    mapped = metrics.fit_logistic(values, mos)(values)
    srcc = bootstrap_interval(metrics.srcc, values, mos, rng)
    plcc = bootstrap_interval(metrics.plcc, mapped, mos, rng)
    intervals = {"srcc_interval": [srcc.low, srcc.high], "plcc_interval": [plcc.low, plcc.high]}
    return {**figures(scores, samples, sign), **intervals}


if __name__ == "__main__":
    main()
