"""What one pass over a whole picture costs beside the 224 windows that cover it, through exported graphs on one core.

    python -m benchmarks.speed.view_cost [--rounds 15]

One network with random weights, with maps, exported for both views. Both run the same pictures in turn in one process;
processor time, so that a busy machine blurs the ratio little. Windows also need their maps stitched, which is counted.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.common import argument_parser, machine, show_targets, spread, write_record
from moslens.model import build
from moslens.model.block_heads import OUTPUTS, FittedHead, PictureDescriber, feature_count
from moslens.model.shdiqa import PictureScorer
from moslens.picture.windows import View
from moslens.release.export import WHOLE_MAP_GRID, write_onnx
from moslens.scoring.session import graph_inputs
from moslens.scoring.stitch import Stitcher

SIZE = 384
SHAPES = {"1:1": (384, 384), "4:3": (288, 384), "3:2": (256, 384), "16:9": (216, 384)}
MOST = {"1:1": 0.8, "3:2": 0.6}


def runner(view: View, grid: int, folder: Path) -> Callable[[np.ndarray], None]:
    """A function that scores and maps pixels at the working size with an exported network."""
    torch.manual_seed(0)
    model = build("lite", baf="full", pooling="moments").eval()
    describer = PictureDescriber(PictureScorer(model, 50.0, 20.0, view), FittedHead(feature_count(model)), grid).eval()
    path = folder / f"{grid}.onnx"
    write_onnx(describer, path, OUTPUTS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray) -> None:
        height, width = pixels.shape[:2]
        stitcher = Stitcher(height, width, view, grid)
        for piece in view.pieces(pixels):
            _, *blocks = session.run(list(OUTPUTS), graph_inputs(view, piece))
            stitcher.add(piece, *(values[0] for values in blocks))
        stitcher.result()

    return run


def main() -> None:
    parser = argument_parser(__doc__, "view-cost.json")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        views = {
            "windows": runner(View(whole=False, working_size=SIZE), 4, Path(scratch)),
            "whole": runner(View(whole=True, working_size=SIZE), WHOLE_MAP_GRID, Path(scratch)),
        }
    rng = np.random.default_rng(0)
    result = {}
    for name, shape in SHAPES.items():
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        seconds: dict[str, list[float]] = {view: [] for view in views}
        for number in range(options.rounds + 1):
            for view, run in views.items():
                start = time.process_time()
                run(pixels)
                if number:  # the first round warms up
                    seconds[view].append(time.process_time() - start)
        ratio = spread([a / b for a, b in zip(seconds["whole"], seconds["windows"], strict=True)])
        result[name] = {"ratio": ratio, "seconds": {view: spread(values) for view, values in seconds.items()}}
        print(f"{name:5s} {ratio['median']:.2f} times the windows")
    met = {f"{name} at most {most}": result[name]["ratio"]["median"] <= most for name, most in MOST.items()}
    show_targets(met)
    facts = {"working_size": SIZE, "rounds": options.rounds, "shapes": result, "met": met, "machine": machine()}
    write_record(options.output, facts, ("torch", "timm", "onnxruntime"))


if __name__ == "__main__":
    main()
