"""Does a worse picture get a lower score? Every distortion kind at five levels on clean photos, and empty frames.

    python -m benchmarks.quality.severity [--model NAME|DIR] [--data DIR] [--photos 40] [--kinds a,b] [--output FILE]

Photos of the pristine pool's held-out part, from which nothing learned, are degraded by our own kinds and by Pillow and
OpenCV (foreign.py). For each: the mean score of the clean photos and of their versions at levels 1 to 5,
whether every level lowers it, and the share of photos whose level-5 version scores below its clean twin. Black, flat
grey and uniform noise frames are compared with the lowest decile of LIVEC's opinion scores.
"""

import time
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.common import add_data_option, add_model_option, argument_parser, machine, write_record
from benchmarks.quality.foreign import FOREIGN, Operation
from moslens import Score, Scorer
from moslens.data.sets import load_dataset
from moslens.distortions import KINDS, LEVELS, distort, get_kind
from moslens.picture.load import decode
from moslens.train.distill.pool import open_pool


def main() -> None:
    parser = argument_parser(__doc__, "severity.json")
    add_model_option(parser)
    add_data_option(parser)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--kinds", default=",".join(kind.name for kind in KINDS))
    options = parser.parse_args()
    started = time.time()
    scorer = Scorer(options.model)
    pool = open_pool(options.data / "pristine")
    names = pool.held_out[:: max(1, len(pool.held_out) // options.photos)][: options.photos]
    photos = [decode(pool.root / name) for name in names]
    clean = scores(scorer, iter(photos))
    kinds = {name: own_record(scorer, name, photos, clean) for name in options.kinds.split(",") if name}
    foreign = {name: foreign_record(scorer, name, photos, clean) for name in FOREIGN}
    frames = empty_frames(scorer)
    decile = float(np.quantile([s.mos for s in load_dataset("livec", options.data / "livec").samples], 0.1))
    print(f"frames {frames}, lowest decile of LIVEC {decile:.1f}")
    ordered = [name for name in kinds if get_kind(name).monotone]
    write_record(
        options.output,
        {
            "model": scorer.model_id,
            "photos": list(names),
            "clean_mean": float(clean.mean()),
            "kinds": kinds,
            "foreign": foreign,
            "frames": frames,
            "livec_lowest_decile": decile,
            "passed": verdict(kinds, ordered, foreign, frames, decile, passed=True),
            "failed": verdict(kinds, ordered, foreign, frames, decile, passed=False),
            "seconds": round(time.time() - started, 1),
            "machine": machine(),
        },
    )


def scores(scorer: Scorer, pictures: Iterator[np.ndarray]) -> np.ndarray:
    results = list(scorer.score_many(pictures))
    assert all(isinstance(result, Score) for result in results), results
    return np.array([result.score for result in results if isinstance(result, Score)])


def own_record(scorer: Scorer, name: str, photos: list[np.ndarray], clean: np.ndarray) -> dict[str, Any]:
    """Scores of one of our kinds; a level that leaves every picture as it is takes no part in the ordering."""
    kind = get_kind(name)
    record = ladder(scorer, name, lambda p, level, rng: distort(p, name, level, rng), photos, clean, kind.active_levels)
    return {"group": kind.group, "monotone": kind.monotone, "active_levels": list(kind.active_levels), **record}


def foreign_record(scorer: Scorer, name: str, photos: list[np.ndarray], clean: np.ndarray) -> dict[str, Any]:
    """Scores of a distortion by another program."""
    return ladder(scorer, name, FOREIGN[name], photos, clean, LEVELS)


def ladder(
    scorer: Scorer, name: str, change: Operation, photos: list[np.ndarray], clean: np.ndarray, active: Sequence[int]
) -> dict[str, Any]:
    """Mean score of the clean photos and at every level, whether each active level lowers it, and the top level."""
    table = [clean]
    for level in LEVELS:
        seeds = (zlib.crc32(f"{name}/{level}/{i}".encode()) for i in range(len(photos)))
        worse = (change(p, level, np.random.default_rng(s)) for p, s in zip(photos, seeds, strict=True))
        table.append(scores(scorer, worse))
    means = [float(row.mean()) for row in table]
    ordered = [means[0], *(means[level] for level in active)]
    record = {
        "mean_score": means,
        "every_level_lowers_the_mean": all(low < high for high, low in pairwise(ordered)),
        "top_below_clean": float((table[-1] < clean).mean()),
    }
    marks = " ".join(f"{value:6.1f}" for value in means)
    print(f"{name:24s} {marks}   top below clean {record['top_below_clean']:.0%}", flush=True)
    return record


def verdict(
    kinds: dict[str, Any],
    ordered: list[str],
    foreign: dict[str, Any],
    frames: dict[str, float],
    decile: float,
    *,
    passed: bool,
) -> dict[str, list[str]]:
    """The names that pass each demand, or those that do not."""

    def falls(record: dict[str, Any]) -> bool:
        return bool(record["every_level_lowers_the_mean"]) == passed

    def tops(record: dict[str, Any]) -> bool:
        return (record["top_below_clean"] >= 0.95) == passed

    return {
        "every_level_lowers_the_mean": [n for n in ordered if falls(kinds[n])],
        "top_level_below_clean_in_95_percent": [n for n in ordered if tops(kinds[n])],
        "frames_in_lowest_decile": [n for n, value in frames.items() if (value <= decile) == passed],
        "foreign_every_level_lowers_the_mean": [n for n, record in foreign.items() if falls(record)],
        "foreign_top_level_below_clean_in_95_percent": [n for n, record in foreign.items() if tops(record)],
    }


def empty_frames(scorer: Scorer) -> dict[str, float]:
    """Scores of frames that show nothing: black, grey, noise."""
    noise = np.random.default_rng(0).integers(0, 256, (384, 512, 3), dtype=np.uint8)
    frames = {"black": np.zeros_like(noise), "grey": np.full_like(noise, 128), "uniform_noise": noise}
    return {name: scorer.score(frame).score for name, frame in frames.items()}


if __name__ == "__main__":
    main()
