"""How far every kind moves a picture at every level: PSNR, SSIM and mean change over 20 pristine photos.

    python -m benchmarks.quality.distortions [--data DIR]

prints the table and writes ``results/distortion-severity.json``. A kind is monotone in PSNR (SSIM) where the mean
falls from every level to the next, levels that change nothing left out.
"""

import time
from itertools import pairwise
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from benchmarks.common import add_data_option, argument_parser, write_record
from benchmarks.pictures import CROP, pristine_crops
from moslens.distortions import KINDS, Kind, distort

PHOTOS = 20


def main() -> None:
    parser = argument_parser(__doc__, "distortion-severity.json")
    add_data_option(parser)
    options = parser.parse_args()
    start = time.perf_counter()
    names, crops = pristine_crops(options.data / "pristine", PHOTOS)
    print(f"{'kind':21s} {'level':>5s} {'parameter':>9s} {'PSNR':>6s} {'SSIM':>6s} {'change':>7s}")
    kinds = [measure(kind, crops) for kind in KINDS]
    odd = {by: [kind["kind"] for kind in kinds if not kind[f"{by}_falls"]] for by in ("psnr", "ssim")}
    for by, names_of_odd in odd.items():
        print(f"not monotone in {by.upper()}: {', '.join(names_of_odd)}")
    record = {
        "protocol": f"centre {CROP} x {CROP} crops of {PHOTOS} pristine photos; PSNR in dB and SSIM (Gaussian window, "
        "mean of the channels) against the clean crop, mean absolute change in grey levels of 255; means over photos",
        "photos": names,
        "kinds": kinds,
        "not_monotone": odd,
        "seconds": time.perf_counter() - start,
    }
    print(write_record(options.output, record, ("numpy", "pillow", "scikit-image")))


def measure(kind: Kind, crops: list[np.ndarray]) -> dict[str, Any]:
    levels = []
    for level in kind.active_levels:
        figures = [
            compare(distort(crop, kind, level, np.random.default_rng(index)), crop) for index, crop in enumerate(crops)
        ]
        psnr, ssim, change = np.mean(figures, axis=0).tolist()
        row = {"level": level, "parameter": kind.levels[level - 1], "psnr": psnr, "ssim": ssim, "change": change}
        print(f"{kind.name:21s} {level:5d} {row['parameter']:9g} {psnr:6.2f} {ssim:6.3f} {change:7.2f}")
        levels.append(row)
    return {
        "kind": kind.name,
        "group": kind.group,
        "signed": kind.signed,
        "no_op_levels": sorted(kind.no_op_levels),
        "levels": levels,
        "psnr_falls": falls([row["psnr"] for row in levels]),
        "ssim_falls": falls([row["ssim"] for row in levels]),
    }


def compare(changed: np.ndarray, clean: np.ndarray) -> tuple[float, float, float]:
    difference = changed.astype(float) - clean
    psnr = 10 * np.log10(255**2 / max(float((difference**2).mean()), 1e-9))
    ssim = structural_similarity(clean, changed, channel_axis=2, data_range=255, gaussian_weights=True)
    return psnr, float(ssim), float(np.abs(difference).mean())


def falls(values: list[float]) -> bool:
    return all(later < earlier for earlier, later in pairwise(values))


if __name__ == "__main__":
    main()
