"""The table of distortion kinds: 47 kinds in 9 groups, five levels each, as data.

The first 26 are the *paper's*: the 25 of KADID-10k and ARNIQA's non-linear contrast change, with the levels of the
published tables (``docs/method.md`` 5). Where the two sources disagree, ``docs/decisions.md`` gives the choice
and the reason. The others are *photographic*: faults that people's photos have (``docs/method.md`` 14), with levels of
our own.

The position of a kind in ``KINDS`` is its id in labels, teacher heads and stored banks: append new kinds, never
reorder. A head knows the first n kinds, and the card or run that it belongs to names them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from moslens.errors import ConfigError
from moslens.system.text import did_you_mean

LEVELS = (1, 2, 3, 4, 5)

NO_DISTORTION = -1
"""The kind of a clean region in every label and bank; its level is 0. A classifier puts it into its last class."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of distortion.

    ``label`` says in plain words what is wrong with the picture.
    ``levels`` holds the parameter at levels 1 to 5, ``parameter`` its name and ``unit`` its unit.
    ``signed`` kinds move the picture in two opposite directions as the level changes.
    ``monotone`` is False where the published levels are not ordered by strength.
    ``no_op_levels`` change no picture, so they must not be used as labels.
    ``sparse`` kinds place separate patches and can be confined to rectangles.
    ``source`` names the table the levels come from.
    """

    name: str
    label: str
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
_OWN = "moslens"

KINDS: tuple[Kind, ...] = (
    Kind("gaussian_blur", "blurred", "blur", "sigma", "px", (0.1, 0.5, 1, 2, 5), no_op_levels=_FIRST),
    Kind("lens_blur", "out of focus", "blur", "radius", "px", (1, 2, 4, 6, 8)),
    Kind("motion_blur", "motion blur", "blur", "length", "px", (1, 2, 4, 6, 10), no_op_levels=_FIRST),
    Kind("color_diffusion", "bleeding colours", "color", "amount", "gain of Lab a, b", (1, 3, 6, 8, 12)),
    Kind("color_shift", "colour fringes", "color", "shift of green", "px", (1, 3, 6, 8, 12)),
    Kind(
        "color_quantization", "too few colours", "color", "palette", "colors", (64, 48, 32, 16, 8), source="KADID-10k"
    ),
    Kind("hsv_saturation", "washed-out colours", "color", "gain", "of HSV saturation", (0.4, 0.2, 0.1, 0, -0.4)),
    Kind("lab_saturation", "oversaturated", "color", "gain", "of Lab a, b", (1, 2, 3, 6, 9), no_op_levels=_FIRST),
    Kind(
        "jpeg2000",
        "JPEG 2000 artefacts",
        "compression",
        "ratio",
        "raw bytes per byte",
        (16, 32, 45, 120, 170),
        source="ARNIQA",
    ),
    Kind("jpeg", "JPEG artefacts", "compression", "quality", "1-100", (43, 36, 24, 7, 4)),
    Kind("white_noise", "noise", "noise", "variance", "of RGB in [0, 1]", (0.001, 0.002, 0.003, 0.005, 0.01)),
    Kind(
        "color_noise",
        "coloured noise",
        "noise",
        "variance",
        "of YCbCr in [0, 1]",
        (0.0001, 0.0005, 0.001, 0.002, 0.003),
    ),
    Kind("impulse_noise", "salt-and-pepper noise", "noise", "density", "of samples", (0.001, 0.005, 0.01, 0.02, 0.03)),
    Kind("multiplicative_noise", "speckle noise", "noise", "variance", "of the gain", (0.001, 0.005, 0.01, 0.02, 0.05)),
    Kind(
        "denoise",
        "smeared by denoising",
        "noise",
        "variance",
        "of the noise removed",
        (0.01, 0.03, 0.05, 0.1, 0.15),
        source="KADID-10k",
    ),
    Kind("brighten", "too bright", "brightness", "amount", "of the curve", (0.1, 0.2, 0.4, 0.7, 1.1)),
    Kind("darken", "too dark", "brightness", "amount", "of the curve", (0.05, 0.1, 0.2, 0.4, 0.8)),
    Kind(
        "mean_shift",
        "wrong brightness",
        "brightness",
        "shift",
        "of RGB in [0, 1]",
        (0, 0.08, -0.08, 0.15, -0.15),
        source="ARNIQA",
        signed=True,
        monotone=False,
        no_op_levels=_FIRST,
    ),
    Kind("jitter", "jittered pixels", "spatial", "displacement", "px, five times", (0.05, 0.1, 0.2, 0.5, 1)),
    Kind(
        "non_eccentricity",
        "misplaced patches",
        "spatial",
        "patches",
        "of 16 x 16 px in 224 x 224",
        (20, 40, 60, 80, 100),
        sparse=True,
    ),
    Kind("pixelate", "pixelated", "spatial", "strength", "scale 0.95 - s^0.6", (0.01, 0.05, 0.1, 0.2, 0.5)),
    Kind("quantization", "posterized", "spatial", "values", "per channel", (20, 16, 13, 10, 7)),
    Kind(
        "color_block",
        "blocks of flat colour",
        "spatial",
        "blocks",
        "of 32 x 32 px in 224 x 224",
        (2, 4, 6, 8, 10),
        sparse=True,
    ),
    Kind("high_sharpen", "over-sharpened", "sharpness", "amount", "of the unsharp mask", (1, 2, 3, 6, 12)),
    Kind(
        "contrast_change",
        "wrong contrast",
        "sharpness",
        "amount",
        "of the curve",
        (0, 0.15, -0.4, 0.3, -0.6),
        source="ARNIQA",
        signed=True,
        monotone=False,
    ),
    Kind(
        "nonlinear_contrast",
        "flat contrast",
        "sharpness",
        "range",
        "half width",
        (0.4, 0.3, 0.2, 0.1, 0.05),
        source="ARNIQA",
    ),
    Kind("under_exposure", "too dark", "exposure", "exposure", "EV", (-1, -1.75, -2.5, -3.25, -4), source=_OWN),
    Kind("over_exposure", "too bright", "exposure", "exposure", "EV", (1, 1.75, 2.5, 3.25, 4), source=_OWN),
    Kind("haze", "haze", "exposure", "veil", "share of linear light", (0.05, 0.12, 0.22, 0.36, 0.55), source=_OWN),
    Kind("color_cast", "colour cast", "color", "gains", "stops apart", (0.3, 0.6, 1, 1.5, 2.1), source=_OWN),
    Kind("negative", "negative", "color", "inversion", "share", (0.6, 0.7, 0.8, 0.9, 1), source=_OWN),
    Kind("banding", "banding", "color", "tones", "of luma", (20, 14, 10, 7, 4), source=_OWN),
    Kind("sensor_noise", "sensor noise", "noise", "deviation", "at mid-grey, of 255", (5, 9, 15, 24, 38), source=_OWN),
    Kind("luminance_noise", "grain", "noise", "deviation", "of luma, of 255", (4, 8, 13, 20, 30), source=_OWN),
    Kind("chroma_noise", "colour blotches", "noise", "deviation", "of Cb, Cr, of 255", (4, 7, 11, 17, 26), source=_OWN),
    Kind(
        "noise_reduction",
        "smeared by noise reduction",
        "noise",
        "deviation",
        "of the noise removed, of 255",
        (8, 14, 22, 34, 50),
        source=_OWN,
    ),
    Kind("camera_shake", "camera shake", "blur", "path", "px long", (4, 7, 12, 18, 26), source=_OWN),
    Kind("defocus", "out of focus", "blur", "aperture radius", "px", (1.5, 2.5, 4, 6, 9), source=_OWN),
    Kind("recompressed_jpeg", "re-encoded JPEG", "compression", "quality", "1-100", (50, 32, 20, 11, 5), source=_OWN),
    Kind("block_codec", "video or WebP artefacts", "compression", "quantizer", "QP", (30, 34, 38, 43, 48), source=_OWN),
    Kind("low_resolution", "low resolution", "resolution", "reduction", "times", (1.7, 2.5, 3.5, 5, 7), source=_OWN),
    Kind("thumbnail", "enlarged thumbnail", "resolution", "reduction", "times", (2.5, 3.5, 5, 7, 10), source=_OWN),
    Kind("moire", "moire", "spatial", "amplitude", "of RGB in [0, 1]", (0.04, 0.08, 0.13, 0.2, 0.3), source=_OWN),
    Kind(
        "lost_blocks",
        "lost picture blocks",
        "spatial",
        "blocks",
        "of 16 x 16 px in 224 x 224",
        (6, 12, 20, 32, 50),
        source=_OWN,
        sparse=True,
    ),
    Kind("watermark", "watermark", "spatial", "opacity", "share", (0.12, 0.22, 0.35, 0.52, 0.75), source=_OWN),
    Kind(
        "rolling_lines", "rolling lines", "spatial", "amplitude", "of light", (0.08, 0.15, 0.25, 0.4, 0.6), source=_OWN
    ),
    Kind("sharpening_halos", "halos", "sharpness", "amount", "of the unsharp mask", (0.5, 1, 1.7, 2.7, 4), source=_OWN),
)

PAPER_KINDS: tuple[str, ...] = tuple(kind.name for kind in KINDS[:26])
"""Names of the kinds of KADID-10k and ARNIQA. A head, card or run that names no kinds has these."""

KindSet = Literal["paper", "all"]


def kind_names(kinds: KindSet) -> tuple[str, ...]:
    """The names of the paper's kinds, or of all."""
    return PAPER_KINDS if kinds == "paper" else tuple(kind.name for kind in KINDS)


GROUPS: tuple[str, ...] = tuple(dict.fromkeys(kind.group for kind in KINDS))

GROUP_LABELS: dict[str, str] = {
    "blur": "blurred",
    "color": "wrong colours",
    "compression": "compression artefacts",
    "noise": "noise",
    "brightness": "wrong brightness",
    "spatial": "picture errors",
    "sharpness": "wrong contrast or sharpness",
    "exposure": "wrong brightness",
    "resolution": "low resolution",
}
"""What is wrong with a picture, in plain words, where no more than the group is known."""

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
