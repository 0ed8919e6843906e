"""From a score to stars."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from moslens.errors import ConfigError

REJECTED = -1


@dataclass(frozen=True)
class Stars:
    """Where ratings begin, on the scale of scores.

    A score below ``reject`` is rejected (-1). The others get one star, and one more for each of the four ``limits``
    that the score reaches. Raises ConfigError for limits that do not ascend within 0 to 100, or a larger ``reject``.
    """

    limits: tuple[float, ...] = (30.0, 50.0, 65.0, 80.0)
    reject: float = 15.0

    def __post_init__(self) -> None:
        ascending = all(low < high for low, high in pairwise(self.limits))
        if len(self.limits) != 4 or not ascending or not 0 <= self.limits[0] <= self.limits[-1] <= 100:
            raise ConfigError("--stars wants four ascending scores from 0 to 100, such as 30,50,65,80")
        if not 0 <= self.reject <= self.limits[0]:
            raise ConfigError(f"--reject wants a score from 0 to the first of --stars ({self.limits[0]:g})")

    def rating(self, score: float) -> int:
        """-1 (rejected), or 1 to 5 stars, for a score from 0 to 100."""
        return REJECTED if score < self.reject else 1 + bisect_right(self.limits, score)


def parse_stars(text: str, reject: float) -> Stars:
    """Limits from ``30,50,65,80``. Raises ConfigError."""
    try:
        limits = tuple(map(float, text.split(",")))
    except ValueError:
        limits = ()
    return Stars(limits, reject)
