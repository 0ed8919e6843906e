"""``distort``: one kind at one level on one picture."""

from collections.abc import Sequence

import numpy as np

from moslens.distortions import spatial
from moslens.distortions.implementations import get_operation
from moslens.distortions.kinds import LEVELS, Kind, get_kind
from moslens.distortions.planes import Array, from_planes, to_planes

SMALLEST_SIDE = 16


def distort(
    image: Array,
    kind: Kind | str,
    level: int,
    rng: np.random.Generator,
    *,
    regions: Sequence[spatial.Region] | None = None,
    implementation: str | None = None,
) -> Array:
    """``image`` with one kind of distortion at ``level`` 1 to 5; the input is not touched.

    ``image`` is H x W x 3 RGB, uint8 or float32 / float64 in [0, 1], both sides at least 16 px. The result
    has the same shape and dtype and stays in the range; the work is done in float32. ``rng`` is the only
    source of randomness: the same generator state gives the same picture. ``regions`` are rectangles (x, y,
    width, height) in px; sparse kinds place separate patches in each of them, other kinds ignore them.
    ``implementation`` names one of :func:`moslens.distortions.implementations_of`; by default it is the kind's first.

    Raises ``ConfigError`` for an unknown kind or implementation, ``MissingExtra`` where an implementation needs OpenCV
    and that is not installed, ``ValueError`` or ``TypeError`` for a wrong level, shape or
    dtype.
    """
    kind = get_kind(kind) if isinstance(kind, str) else kind
    if level not in LEVELS:
        raise ValueError(f"a level is 1 to 5, not {level!r}")
    check_image(image)
    return from_planes(distort_planes(to_planes(image), kind, level, rng, regions, implementation), image.dtype)


def distort_planes(
    stack: Array,
    kind: Kind,
    level: int,
    rng: np.random.Generator,
    regions: Sequence[spatial.Region] | None = None,
    implementation: str | None = None,
) -> Array:
    """``distort`` on 3 x H x W float32 planes in [0, 1], unchecked, for many views of one picture."""
    where = {"regions": regions} if kind.sparse else {}
    out = get_operation(kind, implementation)(stack, kind.levels[level - 1], rng, **where)
    return np.clip(out, 0, 1, out=out)


def check_image(image: Array) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``image`` is a picture that ``distort`` takes."""
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.float32, np.float64):
        got = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"a picture is a uint8, float32 or float64 array, not {got}")
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SMALLEST_SIDE:
        raise ValueError(f"a picture is H x W x 3 with sides of at least 16 px, not {image.shape}")
    if image.dtype != np.uint8 and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"a float picture is in [0, 1], not {image.min():g} to {image.max():g}")
