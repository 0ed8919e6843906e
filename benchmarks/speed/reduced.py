"""How decoding large JPEGs at a reduced size changes the score and the time.

    python -m benchmarks.speed.reduced [--data DIR] [--model NAME|DIR]

prints a table and writes ``results/reduced-decoding.json``. Each picture is scored twice, as ``picture.load`` reads it
and decoded in full. Two kinds of large JPEG are made from LIVEC photos: *enlarged* eight times (no detail at full
size), and *mosaics* of photos at their own size (full detail, more than a single large photo has). The bound is one
point of 100.
"""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import add_data_option, add_model_option, argument_parser, machine, write_record
from moslens import Scorer
from moslens.data.sets import load_dataset
from moslens.picture.load import REDUCED_TO, load

BOUND = 1.0
SIDES = (3, 4, 6, 8, 10)


def main() -> None:
    parser = argument_parser(__doc__, "reduced-decoding.json")
    add_data_option(parser)
    add_model_option(parser)
    parser.add_argument("--pictures", type=int, default=40, help="of each kind")
    options = parser.parse_args()
    started = time.time()
    scorer = Scorer(options.model)
    photos = [sample.path for sample in load_dataset("livec", options.data / "livec").samples]
    kinds = {
        "enlarged": measure(scorer, enlarged(photos, options.pictures)),
        "mosaic": measure(scorer, mosaics(photos, options.pictures)),
    }
    for name, row in kinds.items():
        print(
            f"{name:9s} score moved {row['moved_mean']:.3f} on average, {row['moved_most']:.3f} at most; "
            f"{row['time_ratio']:.2f} of the time to decode"
        )
    worst = max(row["moved_most"] for row in kinds.values())
    print(f"bound {BOUND}: {'kept' if worst < BOUND else 'BROKEN'}")
    write_record(
        options.output,
        {
            "model": scorer.model_id,
            "protocol": f"JPEG quality 92; decoded at 1/2, 1/4 or 1/8, never below {REDUCED_TO} times the working size "
            f"of {scorer.model.card.working_size}; points of the public scale; processor time",
            "kinds": kinds,
            "bound": BOUND,
            "kept": worst < BOUND,
            "seconds": round(time.time() - started, 1),
            "machine": machine(),
        },
    )


def enlarged(photos: list[Path], count: int) -> Iterator[Image.Image]:
    for path in photos[:: len(photos) // count][:count]:
        with Image.open(path) as photo:
            size = (8 * photo.width, 8 * photo.height)
            yield photo.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def mosaics(photos: list[Path], count: int) -> Iterator[Image.Image]:
    rng = np.random.default_rng(0)
    for number in range(count):
        side = SIDES[number % len(SIDES)]
        canvas = Image.new("RGB", (500 * side, 375 * side))
        for cell in range(side * side):
            with Image.open(photos[rng.integers(len(photos))]) as tile:
                canvas.paste(tile.convert("RGB").crop((0, 0, 500, 375)), (500 * (cell % side), 375 * (cell // side)))
        yield canvas


def measure(scorer: Scorer, pictures: Iterator[Image.Image]) -> dict[str, Any]:
    moved, ratios = [], []
    size = scorer.model.card.working_size
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=92)
        data = file.getvalue()
        start = time.process_time()
        reduced = load(data, working_size=size)
        middle = time.process_time()
        full = load(Image.open(io.BytesIO(data)), working_size=size)
        ratios.append((middle - start) / (time.process_time() - middle))
        moved.append(abs(scorer.score(reduced.pixels).score - scorer.score(full.pixels).score))
    return {
        "pictures": len(moved),
        "moved_mean": float(np.mean(moved)),
        "moved_95": float(np.quantile(moved, 0.95)),
        "moved_most": max(moved),
        "time_ratio": float(np.median(ratios)),
    }


if __name__ == "__main__":
    main()
