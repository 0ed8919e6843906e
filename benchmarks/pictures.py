"""Pictures for the benchmarks: JPEGs of any size made from the example photos, and crops of pristine photos."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import ROOT

PHOTOS = sorted((ROOT / "examples" / "photos").glob("*.jpg"))
CROP = 224


def make_photos(folder: Path, shape: tuple[int, int], number: int, **how: Any) -> list[Path]:
    """``number`` pictures, JPEGs of quality 90 unless ``how`` differs, from the example photos; no two are alike."""
    folder.mkdir()
    how = {"format": "JPEG", "quality": 90} | how
    paths = []
    for i in range(number):
        with Image.open(PHOTOS[i % len(PHOTOS)]) as photo:
            enlarged = photo.convert("RGB").resize(shape, Image.Resampling.BICUBIC)
        shifted = Image.fromarray(np.roll(np.asarray(enlarged), 7 * i, axis=1))
        paths.append(folder / f"{i:03d}.{how['format'].lower()}")
        shifted.save(paths[-1], **how)
    return paths


def pristine_crops(folder: Path, count: int) -> tuple[list[str], list[np.ndarray]]:
    """``count`` photos evenly spread over the sorted names, those with a side below the crop left out."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    large = []
    for path in paths:
        with Image.open(path) as image:
            if min(image.size) >= CROP:
                large.append(path)
    chosen = [large[index * len(large) // count] for index in range(count)]
    crops = []
    for path in chosen:
        with Image.open(path) as image:
            left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
            crops.append(np.asarray(image.convert("RGB").crop((left, top, left + CROP, top + CROP))))
    return [path.name for path in chosen], crops
