"""One to several faults on one picture, as real photos have them: each with its area, level and implementation.

Faults come from different groups, at most one of them is about brightness, and they are applied in the order in which
they come about: light, optics, sensor, processing, file. A fault is there where taking it away, and nothing else, would
change the picture: noise under a strong blur is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moslens.distortions import Kind, distort, draw_implementation, get_kind
from moslens.distortions.implementations import ImplementationSet

Pixels = NDArray[np.uint8]

_ORDER = ("exposure", "brightness", "blur", "noise", "color", "sharpness", "resolution", "spatial", "compression")
_ALIKE = {"brightness": "exposure"}
"""Groups that count as one: too dark and too bright on one area would leave neither."""
_EVERYWHERE = 0.5
"""The share of faults that are on the whole picture."""
_LEAST_SIDE = 4
"""A fault on a part of the picture has at least one part in so many of its width and height."""


@dataclass(frozen=True)
class Fault:
    """A kind at a level inside ``area`` (rows, columns); ``seed``: of its own generator."""

    kind: Kind
    level: int
    area: tuple[slice, slice]
    implementation: str
    seed: int

    def on(self, picture: Pixels) -> Pixels:
        """The picture, H x W x 3, with this fault."""
        rows, columns = self.area
        region = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        rng = np.random.default_rng(self.seed)
        worse = distort(picture, self.kind, self.level, rng, regions=[region], implementation=self.implementation)
        result = picture.copy()
        result[self.area] = worse[self.area]
        return result


@dataclass(frozen=True)
class FaultyPicture:
    """A picture, H x W x 3, its faults in the order of their making, and what each changes: H x W in [0, 1]."""

    picture: Pixels
    faults: tuple[Fault, ...]
    changes: tuple[NDArray[np.float64], ...]


def combine_faults(
    picture: Pixels,
    most: int,
    rng: np.random.Generator,
    kinds: Sequence[str],
    implementations: ImplementationSet = "default",
) -> FaultyPicture:
    """``picture`` with 1 to ``most`` faults, each number as likely. The same generator state gives the same result."""
    faults = draw_faults(picture.shape[:2], int(rng.integers(1, most + 1)), rng, kinds, implementations)
    stages = [picture]
    for fault in faults:
        stages.append(fault.on(stages[-1]))
    changes = []
    for place in range(len(faults)):
        without = stages[place]
        for later in faults[place + 1 :]:
            without = later.on(without)
        changes.append(np.abs(stages[-1].astype(np.int16) - without).mean(axis=2) / 255)
    return FaultyPicture(stages[-1], faults, tuple(changes))


def draw_faults(
    size: tuple[int, int],
    count: int,
    rng: np.random.Generator,
    kinds: Sequence[str],
    implementations: ImplementationSet,
) -> tuple[Fault, ...]:
    """``count`` faults, or as many as there are groups, for a picture of ``size`` (height, width), in their order."""
    by_group: dict[str, list[Kind]] = {}
    for kind in map(get_kind, kinds):
        by_group.setdefault(_ALIKE.get(kind.group, kind.group), []).append(kind)
    groups = list(by_group)
    faults = []
    for number in rng.permutation(len(groups))[:count]:
        members = by_group[groups[number]]
        kind = members[int(rng.integers(len(members)))]
        level = int(rng.choice(kind.active_levels))
        implementation = draw_implementation(kind, rng, implementations)
        faults.append(Fault(kind, level, _draw_area(size, rng), implementation, int(rng.integers(2**32))))
    return tuple(sorted(faults, key=lambda fault: _ORDER.index(fault.kind.group)))


def _draw_area(size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    if rng.random() < _EVERYWHERE:
        return slice(0, size[0]), slice(0, size[1])
    parts = []
    for side in size:
        length = int(rng.integers(side // _LEAST_SIDE, side + 1))
        start = int(rng.integers(side - length + 1))
        parts.append(slice(start, start + length))
    return parts[0], parts[1]
