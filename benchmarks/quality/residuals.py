"""Do the distortions of a photo explain the errors of the quality-only model on LIVEC?

    python -m benchmarks.quality.residuals [--data DIR] [--teacher teachers/photographic-lite] [--predictions DIR]

The teacher, which never saw an opinion score, describes every photo: for the 16 blocks of each of its windows the
probability of each kind and the strength, as mean, greatest value and spread over blocks. A ridge regression from these
to the residuals of the quality-only model (stored test predictions of ten splits) says how much of its error they
explain. For split s it is fitted on photos that s does not test, with their residuals in the other splits, its penalty
chosen on a fifth of them, and judged on the test photos of s. ``scores`` is the control: the same regression from the
same features to the opinion scores themselves. ``results/residuals-photographic.json`` is of the defaults,
``results/residuals.json`` of ``--teacher teachers/lite`` and the predictions in ``results/0.1``.
"""

import csv
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import ROOT, add_data_option, argument_parser, machine, write_record
from moslens.data.sets import load_dataset
from moslens.evaluate.linear_probe import ridge_probe
from moslens.metrics import srcc
from moslens.model.pixels import as_float
from moslens.model.teacher import Teacher
from moslens.picture.grid import grid_blocks
from moslens.picture.load import load
from moslens.picture.windows import WINDOW, cover
from moslens.train.distill.region_views import block_box
from moslens.train.networks import load_teacher

PREDICTIONS = ROOT / "results" / "predictions" / "livec-quality-lite"
WORKING_SIZE = 384
GRID = 4
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)


def main() -> None:
    parser = argument_parser(__doc__, "residuals-photographic.json")
    add_data_option(parser)
    parser.add_argument("--teacher", type=Path, default=ROOT / "teachers" / "photographic-lite")
    parser.add_argument("--predictions", type=Path, default=PREDICTIONS, help="test predictions, split-0 to split-9")
    options = parser.parse_args()
    started, state = time.time(), machine()
    dataset = load_dataset("livec", options.data / "livec")
    teacher, _ = load_teacher(options.teacher)
    described = {sample.name: describe(teacher, sample.path) for sample in dataset.samples}
    tests = [read(folder / "predictions.csv") for folder in sorted(options.predictions.glob("split-*"))]
    splits = [one_split(seed, tests, described) for seed in range(len(tests))]
    summary = {
        key: statistics.fmean(split[key] for split in splits) for key in splits[0] if isinstance(splits[0][key], float)
    }
    for key, value in summary.items():
        print(f"{value:8.4f}  {key}")
    write_record(
        options.output,
        {
            "teacher": str(options.teacher.relative_to(ROOT)) if options.teacher.is_relative_to(ROOT) else "another",
            "features": len(next(iter(described.values()))),
            "mean": summary,
            "splits": splits,
            "seconds": round(time.time() - started, 1),
            "data_hash": dataset.data_hash(),
            "machine": state,
        },
        ("torch", "timm", "numpy"),
    )


def read(path: Path) -> dict[str, tuple[float, float]]:
    """(prediction, opinion score) of each test photo of a split."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["image"]: (float(row["prediction"]), float(row["mos"])) for row in csv.DictReader(file)}


@torch.inference_mode()
def describe(teacher: Teacher, path: Path) -> NDArray[np.float64]:
    """The teacher's features of a photo: mean, maximum, deviation over blocks of probabilities and two strengths."""
    windows = cover(load(path, working_size=WORKING_SIZE).pixels)
    boxes = np.stack([block_box(block) for block in grid_blocks(WINDOW, WINDOW, GRID)])
    pictures = as_float(torch.from_numpy(windows).permute(0, 3, 1, 2))
    found = teacher(pictures, torch.from_numpy(boxes).expand(len(windows), -1, -1))
    probabilities = found.kinds.softmax(-1).flatten(0, 1).double()
    levels = found.levels.flatten().double()
    faults = 1 - probabilities[:, -1]
    blocks = torch.cat([probabilities, levels[:, None], (faults * levels)[:, None]], dim=1)
    return torch.cat([blocks.mean(0), blocks.amax(0), blocks.std(0, correction=0)]).numpy()


def one_split(
    seed: int, tests: list[dict[str, tuple[float, float]]], described: dict[str, NDArray[np.float64]]
) -> dict[str, Any]:
    """Figures of one split: what the residual regression explains, and SRCC with and without it."""
    test = tests[seed]
    others: dict[str, list[float]] = {}
    scores: dict[str, float] = {}
    for number, predictions in enumerate(tests):
        for name, (prediction, mos) in predictions.items():
            if number != seed and name not in test:
                others.setdefault(name, []).append(mos - prediction)
                scores[name] = mos
    names = sorted(others)
    x = np.stack([described[name] for name in names])
    x_test = np.stack([described[name] for name in test])
    predicted, mos = (np.array(values) for values in zip(*test.values(), strict=True))
    residuals = np.array([statistics.fmean(others[name]) for name in names])
    correction = regress(x, residuals, x_test, seed)
    from_kinds = regress(x, np.array([scores[name] for name in names]), x_test, seed)
    left = mos - predicted
    return {
        "seed": seed,
        "n": len(test),
        "residual_r2": 1 - float(np.square(left - correction).sum() / np.square(left - left.mean()).sum()),
        "residual_srcc": srcc(correction, left),
        "srcc": srcc(predicted, mos),
        "srcc_corrected": srcc(predicted + correction, mos),
        "scores_srcc": srcc(from_kinds, mos),
    }


def regress(
    x: NDArray[np.float64], y: NDArray[np.float64], x_test: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Ridge with the penalty that does best on a fifth held out, fitted again on everything."""
    order = np.random.default_rng(seed).permutation(len(x))
    held, rest = order[: len(x) // 5], order[len(x) // 5 :]
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    tried = ridge_probe(tensors[0][rest], tensors[1][rest], PENALTIES)
    errors = [float((probe(tensors[0][held])[:, 0] - tensors[1][held]).square().mean()) for probe in tried]
    (best,) = ridge_probe(*tensors, [PENALTIES[int(np.argmin(errors))]])
    answer: NDArray[np.float64] = best(torch.from_numpy(x_test))[:, 0].numpy()
    return answer


if __name__ == "__main__":
    main()
