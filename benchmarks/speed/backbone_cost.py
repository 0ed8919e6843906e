"""What a window costs beyond its backbone: the shipped graph beside the bare network it stands on, on one core.

    python -m benchmarks.speed.backbone_cost [--model NAME|DIR] [--rounds 15]

The bare backbone is the same timm body, exported the same way, with nothing behind its three maps. Both run the same
windows in turn in one process; processor time, so that a busy machine blurs the ratio little.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.common import add_model_option, argument_parser, machine, spread, write_record
from benchmarks.pictures import PHOTOS
from moslens.model import build
from moslens.model.shdiqa import WindowScorer
from moslens.picture.load import load
from moslens.picture.windows import cover
from moslens.release.export import write_onnx
from moslens.scoring.card import BLOCK_OUTPUTS, Card, find_model

MOST = 1.5
MOST_MB = 25


class Bare(torch.nn.Module):
    """uint8 windows -> the means of the backbone's maps, so that no map is optimised away."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        pictures = WindowScorer.pictures(windows)
        maps = self.backbone.body(self.backbone.normalise(pictures))
        return sum(each.mean(dim=(1, 2, 3)) for each in maps)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argument_parser(__doc__, "backbone-cost.json")
    add_model_option(parser)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    card = Card.read(find_model(options.model))
    section = card.record["training"]["model"]
    model = build(section["config"], **section.get("changes", {}))
    windows = np.concatenate([cover(load(p, working_size=card.working_size).pixels) for p in PHOTOS])
    weights = card.folder / card.file
    with tempfile.TemporaryDirectory() as scratch:
        write_onnx(Bare(model.backbone.eval()), Path(scratch) / "bare.onnx")
        bare, full = session(Path(scratch) / "bare.onnx"), session(weights)
    tasks = {
        "backbone": (bare, ["score"]),
        "score": (full, ["score"]),
        "score and map": (full, ["score", *BLOCK_OUTPUTS]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(options.rounds + 1):
        for name, (network, outputs) in tasks.items():
            start = time.process_time()
            for window in windows:
                network.run(outputs, {"windows": window[None]})
            if number:  # the first round warms up
                seconds[name].append((time.process_time() - start) / len(windows))
    ratios = {
        name: spread([a / b for a, b in zip(seconds[name], seconds["backbone"], strict=True)])
        for name in ("score", "score and map")
    }
    megabytes = weights.stat().st_size / 1e6
    for name, ratio in ratios.items():
        print(f"{name:14s} {ratio['median']:.2f} times the backbone (at most {MOST})")
    print(f"weights {megabytes:.1f} MB (at most {MOST_MB})")
    write_record(
        options.output,
        {
            "model": card.id,
            "windows": len(windows),
            "ratio_to_backbone": ratios,
            "seconds_a_window": {name: spread(values) for name, values in seconds.items()},
            "megabytes": megabytes,
            "met": {
                "cost": ratios["score and map"]["median"] <= MOST,
                "size": megabytes <= MOST_MB,
            },
            "machine": machine(),
        },
        ("torch", "timm", "onnxruntime"),
    )


if __name__ == "__main__":
    main()
