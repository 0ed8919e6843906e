"""Changes of a photo that are no faults: they must not move its score (``docs/method.md`` 15).

Each is a function of a picture, H x W x 3 uint8, and a generator; the result is such a picture, at times of another
size. What is a fault instead is a :class:`moslens.distortions.Kind`: a cast on a colour photo, a watermark across the
picture, enlargement from 1.7 up, JPEG at 50 and less. As with kinds, several programs make the same change.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moslens.distortions import framing, reencoding, toning
from moslens.distortions.apply import check_image
from moslens.distortions.implementations import ImplementationSet
from moslens.distortions.planes import Array
from moslens.errors import ConfigError
from moslens.system.text import did_you_mean


@dataclass(frozen=True, slots=True)
class HarmlessChange:
    """``label``: plain words for it. ``makers``: implementations by name, the default first.

    ``mirrors``: left and right change places. ``turns``: how often it is drawn, beside one for the plainest.
    """

    name: str
    label: str
    makers: dict[str, Callable[[Array, np.random.Generator], Array]]
    mirrors: bool = False
    turns: int = 1

    def implementations(self, among: ImplementationSet) -> tuple[str, ...]:
        """The names of its implementations in a set, as :func:`moslens.distortions.implementations_of` for a kind."""
        names = tuple(self.makers)
        if among == "default":
            return names[:1]
        return names if among == "all" else tuple(name for name in names if not name.startswith("opencv"))


HARMLESS: tuple[HarmlessChange, ...] = (
    HarmlessChange(
        "black_and_white",
        "black and white",
        {"numpy": toning.mixed_grey, "pillow": toning.pillow_grey, "opencv": toning.opencv_grey},
        turns=2,
    ),
    HarmlessChange(
        "toned",
        "toned grey",
        {
            "numpy": toning.tinted,
            "numpy-ink": toning.inked,
            "pillow": toning.colorized,
            "opencv": toning.split_by_gamma,
        },
        turns=3,
    ),
    HarmlessChange("mirror", "mirror image", {"numpy": framing.mirror}, mirrors=True),
    HarmlessChange("crop", "a tenth cut off", {"numpy": framing.crop}),
    HarmlessChange("frame", "thin frame", {"numpy": framing.frame}),
    HarmlessChange(
        "reencoded",
        "encoded again at high quality",
        {
            "pillow": reencoding.pillow_jpeg,
            "pillow-webp": reencoding.pillow_webp,
            "opencv": reencoding.opencv_reencoded,
        },
    ),
    HarmlessChange(
        "scaled",
        "another size",
        {
            "pillow": reencoding.pillow_scaled,
            "numpy": reencoding.averaged_or_drawn,
            "opencv": reencoding.opencv_scaled,
        },
        turns=2,
    ),
    HarmlessChange(
        "corner_mark",
        "small mark in a corner",
        {
            "pillow": framing.pillow_corner_mark,
            "numpy": framing.logo_corner_mark,
            "opencv": framing.opencv_corner_mark,
        },
    ),
)

TURNS_GREY: tuple[str, ...] = ("hsv_saturation",)
"""Kinds whose higher levels leave no colours: what they make is black and white, which is harmless."""

_DRAWN = tuple(change for change in HARMLESS for _ in range(change.turns))

HARMLESS_BY_NAME = {change.name: change for change in HARMLESS}


def change_harmlessly(
    picture: Array, change: HarmlessChange | str, rng: np.random.Generator, *, implementation: str | None = None
) -> Array:
    """``picture``, H x W x 3 uint8 with sides of at least 16 px, after a harmless change; the input is not touched.

    The same generator state gives the same result. ``implementation``: by default the first of the change.
    ConfigError for an unknown change or implementation, MissingExtra where it needs OpenCV and that is not installed,
    TypeError or ValueError for what is no such picture.
    """
    change = get_harmless(change) if isinstance(change, str) else change
    check_image(picture)
    if picture.dtype != np.uint8:
        raise TypeError(f"a picture is a uint8 array here, not {picture.dtype}")
    name = next(iter(change.makers)) if implementation is None else implementation
    if name not in change.makers:
        hint = did_you_mean(name, change.makers)
        raise ConfigError(f"{change.name} has no implementation {name!r}; {hint}it has {', '.join(change.makers)}")
    return change.makers[name](picture, rng)


def draw_harmless(rng: np.random.Generator, among: ImplementationSet) -> tuple[HarmlessChange, str]:
    """A harmless change, by its turns, and one of its implementations. What is installed plays no part."""
    change = _DRAWN[int(rng.integers(len(_DRAWN)))]
    names = change.implementations(among)
    return change, names[int(rng.integers(len(names)))]


def get_harmless(name: str) -> HarmlessChange:
    """The harmless change called ``name``. ConfigError, which suggests similar names, where there is none."""
    change = HARMLESS_BY_NAME.get(name)
    if change is None:
        hint = did_you_mean(name, HARMLESS_BY_NAME)
        raise ConfigError(f"no harmless change is called {name!r}; {hint}there are {', '.join(HARMLESS_BY_NAME)}")
    return change
