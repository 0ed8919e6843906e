"""The H stream: photos before and after a harmless change, which must not move the score (method.md 15, extension).

A picture is changed before it is brought to the network, as people change files. Both sides then take the way of every
picture: the working size, never enlarged, and a pass over the whole, or one of the windows that scoring uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moslens.data.labelled_views import LabelledViews, alike, decode_all, draw_alike, stack_padded
from moslens.distortions.harmless import change_harmlessly, draw_harmless
from moslens.distortions.implementations import ImplementationSet, require_implementations
from moslens.errors import ConfigError
from moslens.picture.windows import SHORTEST, SHORTEST_PASS, WINDOW, fit, pad, window_origins
from moslens.train.config import TrainConfig
from moslens.train.quality import decoded_size

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class HarmlessPairs:
    """Pictures and how they are brought to the network: ``views`` whole or as windows at ``working_size``.

    ``counts``: how many pictures of each of the ``views``, from the first on, take part.
    """

    views: Sequence[LabelledViews]
    counts: Sequence[int]
    working_size: int
    implementations: ImplementationSet = "default"

    def __len__(self) -> int:
        return sum(self.counts)

    def shape(self, index: int) -> tuple[int, int]:
        """(height, width) that most views of a picture have, padded."""
        views, place = self._find(index)
        return views.shape(place)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """A view of picture ``index`` and the same view after a harmless change, each H x W x 3, not padded."""
        views, place = self._find(index)
        picture = np.ascontiguousarray(views.pictures[place].permute(1, 2, 0).cpu().numpy())
        change, implementation = draw_harmless(rng, self.implementations)
        if views.whole is None:
            changed = change_harmlessly(picture, change, rng, implementation=implementation)
            return self._windows(picture, pad(fit(changed, self.working_size, SHORTEST)), change.mirrors, rng)
        part = _part(picture, rng.uniform(*views.shares), rng)
        changed = change_harmlessly(part, change, rng, implementation=implementation)
        return self._whole(part), self._whole(changed)

    def _whole(self, picture: Pixels) -> Pixels:
        return pad(fit(picture, self.working_size, SHORTEST_PASS), SHORTEST_PASS)

    @staticmethod
    def _windows(picture: Pixels, changed: Pixels, mirrored: bool, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """One of the windows that cover ``picture``, and that at the same relative place of ``changed``."""
        origins = window_origins(*picture.shape[:2])
        origin = origins[int(rng.integers(len(origins)))]
        sides = zip(origin, picture.shape[:2], changed.shape[:2], strict=True)
        down, across = (round(start * (new - WINDOW) / max(1, old - WINDOW)) for start, old, new in sides)
        if mirrored:
            across = changed.shape[1] - WINDOW - across
        return _window(picture, *origin), _window(changed, down, across)

    def _find(self, index: int) -> tuple[LabelledViews, int]:
        for views, count in zip(self.views, self.counts, strict=True):
            if index < count:
                return views, index
            index -= count
        raise IndexError(index)


class HarmlessBatches:
    """Each step draws ``batch`` pairs of pictures of like shape, decided by (seed, epoch, step) alone.

    ConfigError where there are fewer pictures than a batch, MissingExtra where the implementations need OpenCV and that
    is not installed.
    """

    def __init__(self, pairs: HarmlessPairs, batch: int, seed: int) -> None:
        require_implementations(pairs.implementations)
        if not 1 <= batch <= len(pairs):
            raise ConfigError(f"harmless.batch is 1 to {len(pairs)}, the photos that there are, not {batch}")
        self.pairs = pairs
        self.batch = batch
        self.seed = seed
        self.groups = alike([pairs.shape(index) for index in range(len(pairs))], batch)

    def draw(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> dict[str, Any]:
        """The part of a batch that process ``rank`` of ``world`` trains on.

        ``clean`` and ``changed``: uint8 B x 3 x H x W, of shapes of their own; ``clean_sizes`` and ``changed_sizes``:
        B x 2 rows and columns of what is not padding, None for windows.
        """
        rng = np.random.default_rng((self.seed, 10, epoch, step))
        chosen = draw_alike(self.groups, self.batch, rng)
        pairs = [
            self.pairs.pair(int(index), np.random.default_rng((self.seed, 11, epoch, step, place)))
            for place, index in list(enumerate(chosen))[rank::world]
        ]
        whole = self.pairs.views[0].whole is not None
        batch: dict[str, Any] = {}
        for name, pictures in zip(("clean", "changed"), zip(*pairs, strict=True), strict=True):
            planes = [torch.from_numpy(np.ascontiguousarray(each.transpose(2, 0, 1))) for each in pictures]
            batch[name], batch[f"{name}_sizes"] = stack_padded(planes) if whole else (torch.stack(planes), None)
        return batch


def open_harmless(
    config: TrainConfig, labelled: LabelledViews, photos: Sequence[Path], known: LabelledViews | None
) -> HarmlessBatches:
    """The H stream of a configuration: training pictures, and ``photos`` without scores.

    known: views whose first pictures are these photos, if they are in memory; otherwise they are decoded.
    """
    views = known or LabelledViews(
        decode_all(photos, decoded_size(config.data)),
        [0.0] * len(photos),
        config.seed,
        whole=labelled.whole,
        shares=labelled.shares,
    )
    counts = len(labelled), len(photos)
    pairs = HarmlessPairs((labelled, views), counts, config.data.working_size, config.bdm.implementations)
    return HarmlessBatches(pairs, config.harmless.batch, config.seed)


def _window(picture: Pixels, y: int, x: int) -> Pixels:
    return picture[y : y + WINDOW, x : x + WINDOW]


def _part(picture: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """A rectangle anywhere, with ``share`` of the sides but at least ``SHORTEST_PASS`` px of each."""
    places = []
    for side in picture.shape[:2]:
        length = max(SHORTEST_PASS, round(share * side))
        start = int(rng.integers(side - length + 1))
        places.append(slice(start, start + length))
    return np.ascontiguousarray(picture[places[0], places[1]])
