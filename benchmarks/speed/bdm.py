"""Speed of the distortions and of Block-wise Degradation Modelling on 224 x 224 crops, in one thread.

    python -m benchmarks.speed.bdm [--data DIR]

prints milliseconds per kind and composites per second and writes ``results/bdm-benchmark.json``. Where another
library does the same work, its time on the same crops in the same rounds stands beside ours. Processor seconds are
counted, so that a core shared with other programs is charged for our share only.
"""

import io
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import lab2rgb, rgb2lab

from benchmarks.common import add_data_option, argument_parser, machine, spread, write_record
from benchmarks.pictures import pristine_crops
from moslens.blocks import BlockDegradation
from moslens.distortions import KINDS, Kind, distort
from moslens.distortions.filters import disk

TARGET_COMPOSITES = 60
TARGET_MILLISECONDS = 25


def main() -> None:
    parser = argument_parser(__doc__, "bdm-benchmark.json")
    add_data_option(parser)
    parser.add_argument("--crops", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    start = time.perf_counter()
    where = machine()
    cv2.setNumThreads(1)
    _, crops = pristine_crops(options.data / "pristine", options.crops)
    kinds = [time_kind(kind, crops) for kind in KINDS]
    kinds.sort(key=lambda row: -row["milliseconds"]["median"])
    print(f"{'kind':21s} {'median':>7s} {'slowest level':>14s} {'worst crop':>11s}  reference")
    for row in kinds:
        reference = row.get("reference")
        beside = f"{reference['milliseconds']['median']:.2f} ms {reference['name']}" if reference else ""
        print(
            f"{row['kind']:21s} {row['milliseconds']['median']:7.2f} {max(row['by_level'].values()):14.2f} "
            f"{row['milliseconds']['max']:11.2f}  {beside}"
        )
    composites = [time_composites(grid, crops, options.rounds) for grid in (2, 3, 4)]
    for row in composites:
        print(
            f"grid {row['grid']}, {row['views']} views: {row['per_second']:.1f} composites a second a core, "
            f"median {row['milliseconds']['median']:.1f} ms"
        )
    per_second = composites[1]["per_second"]
    slow = [row["kind"] for row in kinds if row["milliseconds"]["median"] > TARGET_MILLISECONDS]
    print(f"target {TARGET_COMPOSITES} composites a second at grid 3: {'met' if per_second >= 60 else 'missed'}")
    print(f"kinds above {TARGET_MILLISECONDS} ms: {', '.join(slow) or 'none'}")
    record = {
        "protocol": f"{len(crops)} pristine 224 x 224 uint8 crops; processor milliseconds in one thread; per kind the "
        "median over crops and all levels that change a picture; composites with 4 views, half of them feathered",
        "machine": where,
        "kinds": kinds,
        "slowest": [row["kind"] for row in kinds[:5]],
        "composites": composites,
        "targets": {
            "composites_per_second": TARGET_COMPOSITES,
            "met": per_second >= TARGET_COMPOSITES,
            "milliseconds_per_kind": TARGET_MILLISECONDS,
            "kinds_above": slow,
        },
        "seconds": time.perf_counter() - start,
    }
    packages = ("numpy", "pillow", "scipy", "scikit-image", "opencv-python-headless")
    print(write_record(options.output, record, packages))


def time_kind(kind: Kind, crops: list[np.ndarray]) -> dict[str, Any]:
    level = kind.active_levels[-1]
    distort(crops[0], kind, level, np.random.default_rng(0))
    milliseconds: dict[int, list[float]] = {level: [] for level in kind.active_levels}
    name, reference = REFERENCES.get(kind.name, ("", None))
    theirs = []
    for index, crop in enumerate(crops):
        for level, times in milliseconds.items():
            rng = np.random.default_rng(index)
            times.append(spent(partial(distort, crop, kind, level, rng)))
            if reference is not None:
                theirs.append(spent(partial(reference, crop, kind.levels[level - 1])))
    row = {
        "kind": kind.name,
        "milliseconds": spread([each for times in milliseconds.values() for each in times]),
        "by_level": {str(level): spread(times)["median"] for level, times in milliseconds.items()},
    }
    if reference is not None:
        row["reference"] = {"name": name, "milliseconds": spread(theirs)}
    return row


def time_composites(grid: int, crops: list[np.ndarray], rounds: int) -> dict[str, Any]:
    bdm = BlockDegradation(grid=grid, types=4)
    rng = np.random.default_rng(grid)
    milliseconds = [spent(partial(bdm, crop, rng)) for _ in range(rounds) for crop in crops]
    return {
        "grid": grid,
        "views": 4,
        "composites": len(milliseconds),
        "per_second": 1000 * len(milliseconds) / sum(milliseconds),
        "milliseconds": spread(milliseconds),
    }


def spent(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def through_pillow(crop: np.ndarray, codec: str, **settings: Any) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(crop).save(file, codec, **settings)
    return np.asarray(Image.open(file))


def lab_roundtrip(crop: np.ndarray, gain: float) -> np.ndarray:
    lab = rgb2lab(crop)
    lab[..., 1:] *= gain
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of colors outside the gamut, which are meant here
        return np.asarray(lab2rgb(lab))


REFERENCES: dict[str, tuple[str, Callable[[np.ndarray, float], Any]]] = {
    "gaussian_blur": (
        "scipy.ndimage.gaussian_filter",
        lambda crop, sigma: gaussian_filter(crop.astype(np.float32), (sigma, sigma, 0), truncate=2),
    ),
    "lens_blur": ("cv2.filter2D", lambda crop, radius: cv2.filter2D(crop, -1, disk(radius))),
    "lab_saturation": ("skimage rgb2lab and lab2rgb", lab_roundtrip),
    "jpeg": ("the codec alone", lambda crop, quality: through_pillow(crop, "JPEG", quality=int(quality))),
    "jpeg2000": (
        "the codec alone",
        lambda crop, ratio: through_pillow(
            crop, "JPEG2000", quality_mode="rates", quality_layers=[ratio], irreversible=True, no_jp2=True
        ),
    ),
}


if __name__ == "__main__":
    main()
