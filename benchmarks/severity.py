"""Does a worse picture get a lower score? Every distortion kind at five rising levels on clean photos, and dead frames.

    python benchmarks/severity.py [--model NAME|DIR] [--photos 40] [--kinds a,b] [--output results/severity.json]

For each kind: the mean score of the clean photos and of their versions at levels 1 to 5, the mean change from one level
to the next, and the share of photos whose level-5 version scores below its clean twin. Black, flat grey and uniform
noise frames are compared with the lowest decile of LIVEC's opinion scores.
"""

import argparse
import time
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from _common import ROOT, command_line, git_revision, machine, versions, write_json
from moslens import Score, Scorer
from moslens.data.sets import load_dataset
from moslens.distortions import KINDS, LEVELS, distort, get_kind
from moslens.image import decode

DATA = ROOT.parent / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--kinds", default=",".join(kind.name for kind in KINDS))
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "severity.json")
    options = parser.parse_args()
    started = time.time()
    scorer = Scorer(options.model)
    files = sorted((DATA / "pristine").iterdir())
    photos = [decode(path) for path in files[:: len(files) // options.photos][: options.photos]]
    clean = scores(scorer, iter(photos))
    kinds = {}
    for name in options.kinds.split(","):
        kinds[name] = kind_record(scorer, name, photos, clean)
        row = kinds[name]
        marks = " ".join(f"{value:6.1f}" for value in row["mean_score"])
        print(f"{name:24s} {marks}   top below clean {row['top_below_clean']:.0%}", flush=True)
    frames = dead_frames(scorer)
    decile = float(np.quantile([s.mos for s in load_dataset("livec", DATA / "livec").samples], 0.1))
    print(f"frames {frames}, lowest decile of LIVEC {decile:.1f}")
    ordered = [name for name in kinds if get_kind(name).monotone]
    write_json(
        options.output,
        {
            "name": "severity",
            "command": command_line(),
            "model": scorer.model_id,
            "photos": [path.name for path in files[:: len(files) // options.photos][: options.photos]],
            "clean_mean": float(clean.mean()),
            "kinds": kinds,
            "frames": frames,
            "livec_lowest_decile": decile,
            "passed": {
                "every_level_lowers_the_mean": [n for n in ordered if kinds[n]["every_level_lowers_the_mean"]],
                "top_level_below_clean_in_95_percent": [n for n in ordered if kinds[n]["top_below_clean"] >= 0.95],
                "frames_in_lowest_decile": [n for n, value in frames.items() if value <= decile],
            },
            "failed": {
                "every_level_lowers_the_mean": [n for n in ordered if not kinds[n]["every_level_lowers_the_mean"]],
                "top_level_below_clean_in_95_percent": [n for n in ordered if kinds[n]["top_below_clean"] < 0.95],
                "frames_in_lowest_decile": [n for n, value in frames.items() if value > decile],
            },
            "seconds": round(time.time() - started, 1),
            "machine": machine(),
            "versions": versions(),
            "git": git_revision(),
        },
    )


def scores(scorer: Scorer, pictures: Iterator[np.ndarray]) -> np.ndarray:
    results = list(scorer.score_many(pictures))
    assert all(isinstance(result, Score) for result in results), results
    return np.array([result.score for result in results if isinstance(result, Score)])


def kind_record(scorer: Scorer, name: str, photos: list[np.ndarray], clean: np.ndarray) -> dict[str, object]:
    """Scores of one kind; a level that leaves every picture as it is takes no part in the ordering."""
    active = get_kind(name).active_levels
    table = [clean]
    for level in LEVELS:
        seeds = (zlib.crc32(f"{name}/{level}/{i}".encode()) for i in range(len(photos)))
        versions_ = (distort(p, name, level, np.random.default_rng(s)) for p, s in zip(photos, seeds, strict=True))
        table.append(scores(scorer, versions_))
    means = [float(row.mean()) for row in table]
    ordered = [means[0], *(means[level] for level in active)]
    return {
        "group": get_kind(name).group,
        "monotone": get_kind(name).monotone,
        "active_levels": list(active),
        "mean_score": means,
        "every_level_lowers_the_mean": all(low < high for high, low in pairwise(ordered)),
        "top_below_clean": float((table[-1] < clean).mean()),
    }


def dead_frames(scorer: Scorer) -> dict[str, float]:
    """Scores of pictures that show nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (384, 512, 3), dtype=np.uint8)
    frames = {"black": np.zeros_like(noise), "grey": np.full_like(noise, 128), "uniform_noise": noise}
    return {name: scorer.score(frame).score for name, frame in frames.items()}


if __name__ == "__main__":
    main()
