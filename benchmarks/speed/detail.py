"""How much longer does a picture take with detail?

    python -m benchmarks.speed.detail [--rounds N] [--output FILE]

One process and thread, processor seconds of each picture with detail and without, in turns. The bound is what detail is
made of: a full decoding and six pictures of the size of a tile.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import add_model_option, argument_parser, machine, show_targets, spread, write_record
from benchmarks.pictures import make_photos
from moslens import Scorer
from moslens.picture.load import decode
from moslens.picture.tiles import TILE, TILES

SHAPES = {"1 megapixel": (1224, 816), "12 megapixels": (4000, 3000)}
SLACK = 1.15  # choosing and cutting the tiles, and the noise of the measurement


def seconds_of(task: Callable[[], Any]) -> float:
    start = time.process_time()
    task()
    return time.process_time() - start


def main() -> None:
    parser = argument_parser(__doc__, "detail-cost.json")
    add_model_option(parser)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    scorer = Scorer(options.model, threads=1)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        (small,) = make_photos(Path(scratch) / "tile", (TILE, TILE), 1)
        for name, shape in SHAPES.items():
            (path,) = make_photos(Path(scratch) / name.replace(" ", "-"), shape, 1)
            found = scorer.score(path, detail=True).detail
            tiles = 0 if found is None else len(found.tiles)
            tasks: dict[str, Callable[[], Any]] = {
                "without": lambda path=path: scorer.score(path),
                "with": lambda path=path: scorer.score(path, detail=True),
                "full decoding": lambda path=path: decode(path),
                "a tile": lambda: scorer.score(small),
            }
            seconds: dict[str, list[float]] = {task: [] for task in tasks}
            for number in range(options.rounds + 1):
                for task, run in tasks.items():
                    taken = seconds_of(run)
                    if number:  # the first round warms up
                        seconds[task].append(taken)
            medians = {task: spread(values)["median"] for task, values in seconds.items()}
            extra = medians["with"] - medians["without"]
            result[name] = {
                "tiles": tiles,
                "seconds": {task: spread(values) for task, values in seconds.items()},
                "ratio": spread([a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]),
                "extra_over_bound": extra / (medians["full decoding"] + TILES * medians["a tile"]),
            }
            print(f"{name}: {result[name]['ratio']['median']:.1f} times as long, {tiles} tiles")
    met = {f"{name}: a full decoding and six tiles": one["extra_over_bound"] <= SLACK for name, one in result.items()}
    show_targets(met)
    facts = {"model": scorer.model_id, "rounds": options.rounds, "sizes": result, "met": met, "machine": machine()}
    write_record(options.output, facts, ("onnxruntime", "pillow", "numpy"))


if __name__ == "__main__":
    main()
