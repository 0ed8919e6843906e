"""Clean photos with distortions at known places, for benchmarks/quality/explain.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.programs import decoded, imagemagick, magick
from benchmarks.quality.foreign import FOREIGN
from moslens.distortions import Kind, distort, get_kind

Pixels = NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]
LEAST, MOST = 1 / 9, 1 / 4
LEAST_CHANGE = 1 / 255
TRIES = 8


@dataclass(frozen=True)
class Planted:
    """What is wrong in ``box`` (x, y, width, height): any of ``kinds`` is a right name for it."""

    box: Rectangle
    kinds: tuple[str, ...]
    group: str
    level: int


# What Pillow, OpenCV and ImageMagick call by other names than ours. Left out of FOREIGN: median filter, WebP and
# quantisation without dithering, which are no kind of ours.
NAMES: dict[str, tuple[str, ...]] = {
    "pillow_gaussian_blur": ("gaussian_blur", "lens_blur"),
    "pillow_box_blur": ("gaussian_blur", "lens_blur"),
    "opencv_motion_blur": ("motion_blur",),
    "pillow_jpeg": ("jpeg",),
    "pillow_jpeg2000": ("jpeg2000",),
    "opencv_gaussian_noise": ("white_noise", "color_noise", "multiplicative_noise"),
    "opencv_salt_and_pepper": ("impulse_noise",),
    "pillow_darken": ("darken", "mean_shift"),
    "pillow_brighten": ("brighten", "mean_shift"),
    "pillow_desaturate": ("hsv_saturation",),
    "pillow_oversaturate": ("lab_saturation",),
    "pillow_sharpen": ("high_sharpen",),
    "opencv_pixelate": ("pixelate",),
    "imagemagick_blur": ("gaussian_blur", "lens_blur"),
    "imagemagick_jpeg": ("jpeg",),
    "imagemagick_gaussian_noise": ("white_noise", "color_noise", "multiplicative_noise"),
}
_MAGICK: dict[str, tuple[list[list[str]], str]] = {
    "imagemagick_blur": ([["-blur", f"0x{s}"] for s in (1, 1.5, 2.5, 4, 6)], "png"),
    "imagemagick_jpeg": ([["-quality", str(q)] for q in (45, 30, 18, 10, 4)], "jpg"),
    "imagemagick_gaussian_noise": (
        [["-seed", "1", "-attenuate", str(a), "+noise", "Gaussian"] for a in (0.3, 0.5, 0.8, 1.2, 2)],
        "png",
    ),
}


def foreign_operation(name: str) -> Callable[[Pixels, int, np.random.Generator], Pixels] | None:
    """An operation of another program, or None where that is not installed."""
    if name in FOREIGN:
        return FOREIGN[name]
    if magick() is None:
        return None
    options, format = _MAGICK[name]
    return lambda pixels, level, rng: decoded(imagemagick(pixels, *options[level - 1], format=format))


def tiles(width: int, height: int, count: int) -> list[Rectangle]:
    """The picture cut into ``count`` tiles, 1, 2 (across the longer side) or 4: one planted region goes into each."""
    across, down = {1: (1, 1), 2: (2, 1) if width >= height else (1, 2), 4: (2, 2)}[count]
    x = [round(i * width / across) for i in range(across + 1)]
    y = [round(i * height / down) for i in range(down + 1)]
    return [(x[i], y[j], x[i + 1] - x[i], y[j + 1] - y[j]) for j in range(down) for i in range(across)]


def region(tile: Rectangle, area: float, rng: np.random.Generator) -> Rectangle:
    """A rectangle of a ninth to a quarter of ``area`` px, less if the tile is smaller, somewhere in the tile."""
    x, y, width, height = tile
    wanted = rng.uniform(LEAST, MOST) * area
    ratio = width / height * np.exp(rng.uniform(-0.4, 0.4))
    columns = int(min(np.sqrt(wanted * ratio), 0.95 * width))
    rows = int(min(wanted / columns, 0.95 * height))
    return int(x + rng.integers(width - columns + 1)), int(y + rng.integers(height - rows + 1)), columns, rows


def plant(picture: Pixels, change: Callable[[Pixels, Rectangle], Pixels], box: Rectangle) -> bool:
    """Change the box of ``picture``, in place; False (and no change) where less than 1/255 would change on average."""
    x, y, width, height = box
    inside = np.s_[y : y + height, x : x + width]
    changed = change(picture, box)[inside]
    if np.abs(changed.astype(np.int16) - picture[inside]).mean() / 255 < LEAST_CHANGE:
        return False
    picture[inside] = changed
    return True


def plant_kind(clean: Pixels, kind: Kind, level: int, rng: np.random.Generator) -> tuple[Pixels, list[Planted]] | None:
    """One of our kinds at a level somewhere in the picture; None where it does not show in any of ``TRIES`` places."""
    height, width = clean.shape[:2]
    for _ in range(TRIES):
        picture = clean.copy()
        box = region((0, 0, width, height), width * height, rng)
        if plant(picture, lambda p, b: distort(p, kind, level, rng, regions=[b]), box):
            return picture, [Planted(box, (kind.name,), kind.group, level)]
    return None


def plant_foreign(
    clean: Pixels, name: str, level: int, rng: np.random.Generator
) -> tuple[Pixels, list[Planted]] | None:
    """An operation of another program; None where that is not installed or the change does not show."""
    operation = foreign_operation(name)
    if operation is None:
        return None
    height, width = clean.shape[:2]
    for _ in range(TRIES):
        picture = clean.copy()
        box = region((0, 0, width, height), width * height, rng)
        if plant(picture, lambda p, b: operation(p, level, rng), box):
            return picture, [Planted(box, NAMES[name], get_kind(NAMES[name][0]).group, level)]
    return None


def plant_several(
    clean: Pixels, count: int, names: Sequence[str], levels: Sequence[int], rng: np.random.Generator
) -> tuple[Pixels, list[Planted]]:
    """``count`` (2 or 4) of the kinds ``names``, of different groups, each in its own tile of the picture."""
    height, width = clean.shape[:2]
    picture = clean.copy()
    planted: list[Planted] = []
    kinds = [get_kind(name) for name in names]
    groups = [str(group) for group in rng.permutation(list(dict.fromkeys(kind.group for kind in kinds)))]
    for tile in tiles(width, height, count):
        group = groups.pop()
        members = [kind for kind in kinds if kind.group == group]
        for _ in range(TRIES):
            kind, level = members[int(rng.integers(len(members)))], int(rng.choice(levels))
            box = region(tile, width * height, rng)
            if plant(picture, lambda p, b, k=kind, n=level: distort(p, k, n, rng, regions=[b]), box):  # type: ignore[misc]
                planted.append(Planted(box, (kind.name,), kind.group, level))
                break
    return picture, planted
