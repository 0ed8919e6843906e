"""What a window or whole picture costs beyond its backbone: the shipped graph beside the bare network, on one core.

    python -m benchmarks.speed.backbone_cost [--model NAME|DIR] [--rounds 15]

The bare backbone is the same timm body, exported the same way, with nothing behind its three maps. Both run the same
pieces of pictures in turn in one process; processor time, so that a busy machine blurs the ratio little.
"""

import tempfile
import time
from pathlib import Path

import onnxruntime
import torch

from benchmarks.common import add_model_option, argument_parser, machine, spread, write_record
from benchmarks.pictures import PHOTOS
from moslens.model import build
from moslens.model.shdiqa import PictureScorer
from moslens.picture.load import load
from moslens.picture.windows import View
from moslens.release.export import write_onnx
from moslens.scoring.card import BLOCK_OUTPUTS, Card, find_model
from moslens.scoring.session import graph_inputs

MOST = 1.5
MOST_MB = 25


class Bare(torch.nn.Module):
    """uint8 pictures -> the means of the backbone's maps, so that no map is optimised away."""

    def __init__(self, backbone: torch.nn.Module, view: View) -> None:
        super().__init__()
        self.backbone = backbone
        self.view = view

    def forward(self, pictures: torch.Tensor, sizes: torch.Tensor | None = None) -> torch.Tensor:
        maps = self.backbone.body(self.backbone.normalise(PictureScorer.planes(pictures)))
        found = sum(each.mean(dim=(1, 2, 3)) for each in maps)
        return found if sizes is None else found + 0.0 * sizes.sum(1)  # a graph keeps no input that it does not read


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
    view = card.view
    loaded = (load(p, working_size=view.working_size, shortest=view.shortest).pixels for p in PHOTOS)
    pieces = [graph_inputs(view, piece) for pixels in loaded for piece in view.pieces(pixels)]
    weights = card.folder / card.file
    with tempfile.TemporaryDirectory() as scratch:
        write_onnx(Bare(model.backbone.eval(), view), Path(scratch) / "bare.onnx")
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
            for inputs in pieces:
                network.run(outputs, inputs)
            if number:  # the first round warms up
                seconds[name].append((time.process_time() - start) / len(pieces))
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
            "pieces": len(pieces),
            "ratio_to_backbone": ratios,
            "seconds_a_piece": {name: spread(values) for name, values in seconds.items()},
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
