"""Groups of near-duplicates: frames of a burst, copies and re-encodings, never a chain of pictures.

Two steps decide whether two pictures show the same. Perceptual hashes choose pairs worth a look; time does too:
pictures that one camera took within seconds. Then the grey copies are compared: each is normalised by the mean and
the standard deviation around every pixel, which takes exposure, vignettes and smooth skies out, and the likeness is
the largest correlation coefficient over shifts of up to a tenth of the side: 1 for equal pictures, about 0 for others.

A group is a picture and those that are like it. The pictures are gone through from best to worst: one that no better
picture has taken starts a group and takes the worse ones that are like it; a picture that is like the first of several
groups goes to the one that it is most like. So every picture of a group was compared with its best one, and a row of
pictures of which only neighbours are alike falls into several groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from moslens.picture.fingerprint import BITS, SIDE, Fingerprint


@dataclass(frozen=True, slots=True)
class Limits:
    """From which likeness two pictures are near-duplicates (docs/pick.md has the measurement).

    ``like`` holds where nothing is known of their times, ``at_once`` for two that one camera took at most
    ``at_once_seconds`` apart, ``apart`` for two that it took more than ``apart_seconds`` apart.
    """

    like: float = 0.55
    at_once: float = 0.45
    apart: float = 0.7
    at_once_seconds: float = 3.0
    apart_seconds: float = 60.0


LIMITS = Limits()

MOST_BITS = 16
"""Hashes with at most so many different bits of 64 make a pair worth a look."""

_STRETCH = 1.05  # sides are compared as width to height: what differs by more is another cut of the scene
_RADIUS = 3  # of the square around a pixel that it is normalised by
_NOISE = 4.0  # levels: a deviation of that size is halved, so that what a flat part has is not magnified
_LEAST_DETAIL = 0.03  # mean square of a normalised copy; black and flat pictures and clear skies have less
_REACH = SIDE // 10
_INSIDE = SIDE - 2 * _REACH
_BLOCK = 256

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Member:
    """A picture of a group: its place in the sequence, and its likeness to the first of the group, 1 for the first."""

    index: int
    likeness: float


def near_duplicates(fingerprints: Sequence[Fingerprint], limits: Limits = LIMITS) -> list[list[Member]]:
    """Groups of two or more near-duplicates among pictures that are given from best to worst.

    Groups are in the order of their first pictures, which are their best, and so are the pictures in each. The order of
    the sequence is all that the result depends on. Memory grows by about 7 KB a picture.
    """
    count = len(fingerprints)
    if count < 2:
        return []
    comparison = _Comparison(fingerprints, limits)
    first = np.full(count, -1)
    likeness = np.zeros(count, np.float32)
    for start in range(0, count, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, count))
        block = block[(first[block] < 0) & comparison.detailed[block]]
        for index, worth in zip(block.tolist(), comparison.worth_a_look(block), strict=True):
            if first[index] >= 0:  # taken by another one of this block
                continue
            first[index], likeness[index] = index, 1.0
            others = index + 1 + np.flatnonzero(worth[index + 1 :])
            found, needed = comparison.likeness(index, others), comparison.needed(index, others)
            taken = (found >= needed) & (found > likeness[others])
            first[others[taken]], likeness[others[taken]] = index, found[taken]
    members: dict[int, list[Member]] = {}
    for index, leader in enumerate(first.tolist()):
        if leader >= 0:
            members.setdefault(leader, []).append(Member(index, float(likeness[index])))
    return [group for group in members.values() if len(group) > 1]


class _Comparison:
    """The fingerprints as arrays, and what is asked of pairs."""

    def __init__(self, fingerprints: Sequence[Fingerprint], limits: Limits) -> None:
        self._limits = limits
        thumbnails = np.stack([one.thumbnail for one in fingerprints])
        self._normal = np.concatenate([_normalised(part) for part in _parts(thumbnails)])
        inside = self._normal[:, _REACH:-_REACH, _REACH:-_REACH].reshape(len(thumbnails), -1)
        self.detailed = np.concatenate(
            [np.square(part, dtype=np.float32).mean(1) >= _LEAST_DETAIL for part in _parts(inside)]
        )
        self._inside = np.concatenate([_unit(part.astype(np.float32)).astype(np.float16) for part in _parts(inside)])
        packed = np.stack([one.hashes for one in fingerprints], 1)
        self._signs = np.unpackbits(packed, axis=2).astype(np.float32) * 2 - 1  # [cuts, pictures, bits]
        self._shape = np.log([one.width / one.height for one in fingerprints])
        cameras = {one.capture.camera for one in fingerprints if one.capture.taken}
        numbers = {camera: number for number, camera in enumerate(sorted(cameras))}
        self._camera = np.array([numbers[one.capture.camera] if one.capture.taken else -1 for one in fingerprints])
        self._clock = np.array([_clock(one) for one in fingerprints])
        self._utc = np.array([_utc(one) for one in fingerprints])

    def worth_a_look(self, block: NDArray[np.intp]) -> NDArray[np.bool_]:
        """For each picture of the block and every picture [b, n]: may they be near-duplicates?"""
        middle, least = self._signs[0], BITS - 2 * MOST_BITS
        near: NDArray[np.bool_] = middle[block] @ middle.T >= least
        for cut in self._signs[1:]:
            near |= middle[block] @ cut.T >= least
            near |= cut[block] @ middle.T >= least
        for row, index in enumerate(block.tolist()):
            near[row] |= self._seconds(index) <= self._limits.at_once_seconds
            near[row] &= np.abs(self._shape - self._shape[index]) <= np.log(_STRETCH)
        near &= self.detailed
        return near

    def likeness(self, index: int, others: NDArray[np.intp]) -> Floats:
        """The largest correlation of the middle of each of the others with the picture at ``index``, over shifts."""
        windows = sliding_window_view(self._normal[index].astype(np.float32), (_INSIDE, _INSIDE))
        shifted = _unit(windows.reshape(-1, _INSIDE * _INSIDE))
        found = [(shifted @ self._inside[part].astype(np.float32).T).max(0) for part in _parts(others)]
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def needed(self, index: int, others: NDArray[np.intp]) -> Floats:
        """How alike the picture at ``index`` and each of the others must be."""
        seconds = self._seconds(index)[others]
        limits = self._limits
        near_or_far = [seconds <= limits.at_once_seconds, seconds > limits.apart_seconds]
        return np.select(near_or_far, [limits.at_once, limits.apart], limits.like).astype(np.float32)

    def _seconds(self, index: int) -> NDArray[np.float64]:
        """:meth:`Capture.seconds_to` every picture; NaN where that is None."""
        if self._camera[index] < 0:
            return np.full(len(self._camera), np.nan)
        by_utc = np.abs(self._utc - self._utc[index])
        seconds = np.where(np.isnan(by_utc), np.abs(self._clock - self._clock[index]), by_utc)
        return np.where(self._camera == self._camera[index], seconds, np.nan)


def _clock(one: Fingerprint) -> float:
    taken = one.capture.taken
    return np.nan if taken is None else taken.replace(tzinfo=UTC).timestamp()


def _utc(one: Fingerprint) -> float:
    taken = one.capture.taken
    return np.nan if taken is None or taken.tzinfo is None else taken.timestamp()


def _parts(array: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Slices of so many rows that what is made of one in float32 stays small."""
    return [array[start : start + 4 * _BLOCK] for start in range(0, len(array), 4 * _BLOCK)]


def _normalised(grey: NDArray[np.generic]) -> NDArray[np.float16]:
    """(value - mean) / (deviation + noise) of every pixel, by the square of 7 x 7 around it, in [n, 40, 40]."""
    values = grey.astype(np.float32)
    mean = _box(values)
    deviation = np.sqrt(np.maximum(_box(values * values) - mean * mean, 0))
    return ((values - mean) / (deviation + _NOISE)).astype(np.float16)


def _box(values: Floats) -> Floats:
    """The mean of the square around each pixel; edges are repeated."""
    side = 2 * _RADIUS + 1
    for axis in (1, 2):
        widths = [(0, 0)] * 3
        widths[axis] = (_RADIUS + 1, _RADIUS)
        sums = np.cumsum(np.pad(values, widths, "edge"), axis, np.float64)
        high, low = (np.take(sums, np.arange(start, start + SIDE), axis) for start in (side, 0))
        values = ((high - low) / side).astype(np.float32)
    return values


def _unit(rows: Floats) -> Floats:
    """Rows with mean 0 and length 1; a row without any detail stays 0."""
    centred = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    least = np.sqrt(_LEAST_DETAIL * rows.shape[1])  # a cut of little detail must not look like another by chance
    unit: Floats = centred / np.maximum(length, least / 2)
    return unit
