"""How far the score of a photo and that of its mirror image lie apart.

    python -m benchmarks.quality.mirror --data DIR [--model NAME|DIR] [--photos 200]
    python -m benchmarks.quality.mirror --data DIR --runs RUN... --output results/mirror-trials.json

``DIR/livec`` has the photos, of which every n-th is taken: for a model of all of them, for a run of those that it was
measured on. Photos are decoded once and mirrored at their full size; for a run they are mirrored at its working size.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import add_data_option, add_model_option, argument_parser, show_targets, write_record
from moslens import Scorer
from moslens.data.records import Sample
from moslens.data.sets import load_dataset
from moslens.picture.load import decode

MEAN, HIGH = 0.5, 1.5


def main() -> None:
    parser = argument_parser(__doc__, "mirror.json")
    add_data_option(parser)
    add_model_option(parser)
    parser.add_argument("--runs", type=Path, nargs="+", help="run folders on LIVEC, instead of a model")
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    samples = load_dataset("livec", options.data / "livec").samples
    if options.runs:
        rows = [{"run": run.as_posix(), **summary(of_run(run, samples, options.photos))} for run in options.runs]
        for row in rows:
            print(f"{row['run']}: {row['mean']:.2f} points apart on average, {row['p95']:.2f} at the 95th percentile")
        write_record(options.output, {"runs": rows}, ("numpy", "pillow", "torch"))
        return
    scorer = Scorer(options.model, maps=False)
    facts = summary(of_model(scorer, spread(samples, options.photos)))
    print(f"mirror image: {facts['mean']:.2f} points apart on average, {facts['p95']:.2f} at the 95th percentile")
    met = {f"mean at most {MEAN}": facts["mean"] <= MEAN, f"95th percentile at most {HIGH}": facts["p95"] <= HIGH}
    show_targets(met)
    write_record(options.output, {"model": scorer.model_id, **facts, "met": met}, ("numpy", "pillow", "onnxruntime"))


def spread(samples: list[Sample], count: int) -> list[Sample]:
    """Every n-th sample, about ``count`` in all."""
    return samples[:: max(1, len(samples) // count)][:count]


def of_model(scorer: Scorer, samples: list[Sample]) -> Iterator[float]:
    """The gap of each photo, in points of 100."""
    for sample in samples:
        photo = Image.fromarray(decode(sample.path))
        one, other = (scorer.score(each).score for each in (photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        yield abs(one - other)


def of_run(run: Path, samples: list[Sample], count: int) -> Iterator[float]:
    """The gap of each photo of the part that a run was measured on, in units of the labels (0 to 100 for LIVEC)."""
    from moslens.train.networks import load_run
    from moslens.train.predict import load_for, predict_pixels
    from moslens.train.run_folder import Run

    scorer, _ = load_run(run)
    measured = {one.image for part in ("test", "validation") for one in Run(run).predictions(part)}
    for sample in spread([each for each in samples if each.name in measured], count):
        pixels = load_for(scorer.view, sample.path)
        yield abs(predict_pixels(scorer, pixels) - predict_pixels(scorer, np.ascontiguousarray(pixels[:, ::-1])))


def summary(gaps: Iterator[float]) -> dict[str, Any]:
    found = list(gaps)
    mean, high = float(np.mean(found)), float(np.quantile(found, 0.95))
    return {"photos": len(found), "mean": mean, "p95": high, "max": max(found)}


if __name__ == "__main__":
    main()
