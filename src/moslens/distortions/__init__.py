"""The distortions: 47 kinds in 9 groups at five levels, as pure functions of picture, level and generator.

    from moslens.distortions import KINDS, distort
    blurred = distort(picture, "motion_blur", 4, numpy.random.default_rng(0))

``kinds`` holds the table, ``implementations`` says which programs make which kind, one module per group holds the pixel
operations in numpy, ``with_pillow`` and ``with_opencv`` those of other programs.
"""

from moslens.distortions.apply import distort
from moslens.distortions.implementations import draw_implementation, implementations_of
from moslens.distortions.kinds import (
    GROUPS,
    KIND_BY_NAME,
    KIND_INDEX,
    KINDS,
    LEVELS,
    PAPER_KINDS,
    Kind,
    get_kind,
    kind_names,
)

__all__ = [
    "GROUPS",
    "KINDS",
    "KIND_BY_NAME",
    "KIND_INDEX",
    "LEVELS",
    "PAPER_KINDS",
    "Kind",
    "distort",
    "draw_implementation",
    "get_kind",
    "implementations_of",
    "kind_names",
]
