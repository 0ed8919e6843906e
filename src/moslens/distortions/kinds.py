"""The table of distortion kinds: 26 kinds in 7 groups, five levels each, as data.

The kinds are the 25 of KADID-10k and ARNIQA's non-linear contrast change; the levels are those of the
published tables (``docs/method.md`` 5). Where the two sources disagree, ``docs/decisions.md`` gives the choice
and the reason.

The position of a kind in ``KINDS`` is its class id in labels, teacher heads and stored banks: append new kinds,
never reorder.
"""

from dataclasses import dataclass

import numpy as np

from moslens.errors import ConfigError
from moslens.system.text import did_you_mean

LEVELS = (1, 2, 3, 4, 5)

NO_DISTORTION = -1
"""The kind of a clean region in every label and bank; its level is 0. A classifier puts it into its last class."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of distortion.

    ``levels`` holds the parameter at levels 1 to 5, ``parameter`` its name and ``unit`` its unit.
    ``signed`` kinds move the picture in two opposite directions as the level changes.
    ``monotone`` is False where the published levels are not ordered by strength.
    ``no_op_levels`` change no picture, so they must not be used as labels.
    ``sparse`` kinds place separate patches and can be confined to rectangles.
    ``source`` names the table the levels come from.
    """

    name: str
    group: str
    parameter: str
    unit: str
    levels: tuple[float, float, float, float, float]
    source: str = "KADID-10k, ARNIQA"
    signed: bool = False
    monotone: bool = True
    no_op_levels: frozenset[int] = frozenset()
    sparse: bool = False

    @property
    def active_levels(self) -> tuple[int, ...]:
        """The levels that change a picture."""
        return tuple(level for level in LEVELS if level not in self.no_op_levels)


_FIRST = frozenset({1})

KINDS: tuple[Kind, ...] = (
    Kind("gaussian_blur", "blur", "sigma", "px", (0.1, 0.5, 1, 2, 5), no_op_levels=_FIRST),
    Kind("lens_blur", "blur", "radius", "px", (1, 2, 4, 6, 8)),
    Kind("motion_blur", "blur", "length", "px", (1, 2, 4, 6, 10), no_op_levels=_FIRST),
    Kind("color_diffusion", "color", "amount", "gain of Lab a, b", (1, 3, 6, 8, 12)),
    Kind("color_shift", "color", "shift of green", "px", (1, 3, 6, 8, 12)),
    Kind("color_quantization", "color", "palette", "colors", (64, 48, 32, 16, 8), source="KADID-10k"),
    Kind("hsv_saturation", "color", "gain", "of HSV saturation", (0.4, 0.2, 0.1, 0, -0.4)),
    Kind("lab_saturation", "color", "gain", "of Lab a, b", (1, 2, 3, 6, 9), no_op_levels=_FIRST),
    Kind("jpeg2000", "compression", "ratio", "raw bytes per byte", (16, 32, 45, 120, 170), source="ARNIQA"),
    Kind("jpeg", "compression", "quality", "1-100", (43, 36, 24, 7, 4)),
    Kind("white_noise", "noise", "variance", "of RGB in [0, 1]", (0.001, 0.002, 0.003, 0.005, 0.01)),
    Kind("color_noise", "noise", "variance", "of YCbCr in [0, 1]", (0.0001, 0.0005, 0.001, 0.002, 0.003)),
    Kind("impulse_noise", "noise", "density", "of samples", (0.001, 0.005, 0.01, 0.02, 0.03)),
    Kind("multiplicative_noise", "noise", "variance", "of the gain", (0.001, 0.005, 0.01, 0.02, 0.05)),
    Kind(
        "denoise",
        "noise",
        "variance",
        "of the noise removed",
        (0.01, 0.03, 0.05, 0.1, 0.15),
        source="KADID-10k",
    ),
    Kind("brighten", "brightness", "amount", "of the curve", (0.1, 0.2, 0.4, 0.7, 1.1)),
    Kind("darken", "brightness", "amount", "of the curve", (0.05, 0.1, 0.2, 0.4, 0.8)),
    Kind(
        "mean_shift",
        "brightness",
        "shift",
        "of RGB in [0, 1]",
        (0, 0.08, -0.08, 0.15, -0.15),
        source="ARNIQA",
        signed=True,
        monotone=False,
        no_op_levels=_FIRST,
    ),
    Kind("jitter", "spatial", "displacement", "px, five times", (0.05, 0.1, 0.2, 0.5, 1)),
    Kind(
        "non_eccentricity",
        "spatial",
        "patches",
        "of 16 x 16 px in 224 x 224",
        (20, 40, 60, 80, 100),
        sparse=True,
    ),
    Kind("pixelate", "spatial", "strength", "scale 0.95 - s^0.6", (0.01, 0.05, 0.1, 0.2, 0.5)),
    Kind("quantization", "spatial", "values", "per channel", (20, 16, 13, 10, 7)),
    Kind("color_block", "spatial", "blocks", "of 32 x 32 px in 224 x 224", (2, 4, 6, 8, 10), sparse=True),
    Kind("high_sharpen", "sharpness", "amount", "of the unsharp mask", (1, 2, 3, 6, 12)),
    Kind(
        "contrast_change",
        "sharpness",
        "amount",
        "of the curve",
        (0, 0.15, -0.4, 0.3, -0.6),
        source="ARNIQA",
        signed=True,
        monotone=False,
    ),
    Kind("nonlinear_contrast", "sharpness", "range", "half width", (0.4, 0.3, 0.2, 0.1, 0.05), source="ARNIQA"),
)

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(kind.group for kind in KINDS))

KIND_BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}

KIND_INDEX: dict[str, int] = {kind.name: index for index, kind in enumerate(KINDS)}


def get_kind(name: str) -> Kind:
    """The kind called ``name``. Raises ``ConfigError``, which suggests similar names, where there is none."""
    kind = KIND_BY_NAME.get(name)
    if kind is None:
        hint = did_you_mean(name, KIND_BY_NAME)
        raise ConfigError(f"no distortion is called {name!r}; {hint}`moslens distortions` lists them")
    return kind


GROUP_OF = np.array([GROUPS.index(kind.group) for kind in KINDS] + [len(GROUPS)])
"""The group of each class id; the class after the last kind, "no distortion", is a group of its own."""
