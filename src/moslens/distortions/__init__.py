"""The distortions: 26 kinds in 7 groups at five levels, as pure functions of picture, level and generator.

    from moslens.distortions import KINDS, distort
    blurred = distort(picture, "motion_blur", 4, numpy.random.default_rng(0))

``kinds`` holds the table, one module per group holds the pixel operations.
"""

from moslens.distortions.apply import distort
from moslens.distortions.kinds import GROUPS, KIND_BY_NAME, KIND_INDEX, KINDS, LEVELS, Kind, get_kind

__all__ = ["GROUPS", "KINDS", "KIND_BY_NAME", "KIND_INDEX", "LEVELS", "Kind", "distort", "get_kind"]
