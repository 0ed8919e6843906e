"""Block-wise Degradation Modelling (BDM): different distortions on different blocks of one picture.

``BlockDegradation`` implements ``docs/method.md`` 9.3. A pristine picture I gives m views V_1 .. V_m. Each view is
the whole picture under one distortion; no two come from the same group. Block k of the composite C is taken from
view s_k, or from I where s_k = 0. Teacher and student thus see the same pixels inside a block.

Conventions of every label here:

- blocks are in reading order, K = rows x columns;
- ``assignment`` s: K integers, 0 = pristine, j = view j;
- kind: index into ``moslens.distortions.KINDS``, -1 = clean;
- level: 1 to 5, 0 = clean.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from moslens.distortions import KIND_INDEX, KINDS, LEVELS, Kind, draw_implementation, get_kind
from moslens.distortions.apply import check_image, distort_planes
from moslens.distortions.implementations import ImplementationSet, require_implementations
from moslens.distortions.planes import Array, from_planes, to_planes
from moslens.errors import ConfigError
from moslens.picture.grid import CELL, Block, Ints, grid_blocks, rows_columns

__all__ = ["CELL", "FEATHER", "Block", "BlockDegradation", "Composite", "draw_grid", "grid_blocks"]

Mode = Literal["block", "global-chain", "global-single", "none"]
Levels = Literal["half-gaussian", "uniform"]
Recipe = tuple[tuple[int, int], ...]
"""The distortions of a view, (kind, level) in order: none for the pristine view, several for a chain."""

MIN_CHANGE = 1 / 255
"""Mean absolute change in [0, 1] below which a region is not labelled degraded."""

FEATHER = 4
"""Feathered seams blend over this many px on either side of a cut."""

_LEVEL_DEVIATION = 2.5
_LONGEST_CHAIN = 4
_GRID_SHARES = {2: 0.5, 3: 0.3, 4: 0.2}


@dataclass(frozen=True, slots=True)
class Composite:
    """A degraded picture with exact labels.

    ``image`` and every view are H x W x 3 of the input's dtype. ``views[0]`` is the pristine picture;
    ``recipes[j]`` lists the distortions of view j. Inside a block the image equals the block's view, except
    within 4 px of a cut if the seams are ``feathered``.
    """

    image: Array
    views: tuple[Array, ...]
    recipes: tuple[Recipe, ...]
    assignment: Ints
    blocks: tuple[Block, ...]
    feathered: bool

    @property
    def kinds(self) -> Ints:
        """K kind indices, -1 for clean; a chain counts as its step with the highest level."""
        return np.array([self._label(view)[0] for view in self.assignment], np.int64)

    @property
    def levels(self) -> Ints:
        """K levels, 0 for clean."""
        return np.array([self._label(view)[1] for view in self.assignment], np.int64)

    def flip(self) -> "Composite":
        """The composite mirrored left to right: image, views, blocks and labels."""
        width = self.image.shape[1]
        columns = 1 + max(block.column for block in self.blocks)
        mirrored = [
            replace(block, column=columns - 1 - block.column, x=width - block.x - block.width) for block in self.blocks
        ]
        order = sorted(range(len(mirrored)), key=lambda index: (mirrored[index].row, mirrored[index].column))
        return replace(
            self,
            image=np.ascontiguousarray(self.image[:, ::-1]),
            views=tuple(np.ascontiguousarray(view[:, ::-1]) for view in self.views),
            assignment=self.assignment[order],
            blocks=tuple(mirrored[index] for index in order),
        )

    def _label(self, view: int) -> tuple[int, int]:
        return max(self.recipes[view], key=lambda step: step[1], default=(-1, 0))


@dataclass(frozen=True, slots=True)
class BlockDegradation:
    """The settings of BDM; calling it degrades a picture.

    ``grid``: blocks per side, or (rows, columns). ``mode``: ``block``; ``global-chain``, one chain of 1 to 4
    distortions over the whole picture as in ARNIQA; ``global-single``, one distortion over the whole
    picture; ``none``. ``kinds``: names to draw from; ``implementations``: what to draw their implementation from, see
    :func:`moslens.distortions.draw_implementation`. ``types``: number of distinct distortions in one picture,
    by default 4 on 4 blocks and otherwise 3 or 4, never more than there are blocks or groups. ``p_clean``:
    probability that a block (in the global modes: the picture) stays pristine. ``levels``: ``half-gaussian``
    favours mild levels as in ARNIQA; ``level`` fixes the level. ``feather``: probability of blended seams.
    ``min_change``: mean absolute change in [0, 1] below which a block counts as undegraded. Its view is then
    drawn again, at most ``max_tries`` times in all; a block that still fails is left pristine and labelled so.

    Raises ``ConfigError`` for settings that cannot be met, ``MissingExtra`` where they need OpenCV and that is not
    installed.
    """

    grid: int | tuple[int, int] = 3
    mode: Mode = "block"
    kinds: tuple[str, ...] = tuple(kind.name for kind in KINDS)
    types: int | None = None
    p_clean: float = 0.1
    levels: Levels = "half-gaussian"
    level: int | None = None
    feather: float = 0.5
    min_change: float = MIN_CHANGE
    max_tries: int = 5
    implementations: ImplementationSet = "default"

    def __post_init__(self) -> None:
        rows_columns(self.grid)
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode is one of {', '.join(get_args(Mode))}, not {self.mode!r}")
        if self.levels not in get_args(Levels):
            raise ConfigError(f"levels is one of {', '.join(get_args(Levels))}, not {self.levels!r}")
        if self.level is not None and self.level not in LEVELS:
            raise ConfigError(f"level is 1 to 5, not {self.level}")
        if self.types is not None and self.types < 1:
            raise ConfigError(f"types is at least 1, not {self.types}")
        if not (0 <= self.p_clean <= 1 and 0 <= self.feather <= 1):
            raise ConfigError("p_clean and feather are probabilities from 0 to 1")
        if not self.min_change >= 0:
            raise ConfigError(f"min_change is at least 0, not {self.min_change}")
        if self.max_tries < 1:
            raise ConfigError(f"max_tries is at least 1, not {self.max_tries}")
        require_implementations(self.implementations)
        self._by_group()

    def __call__(self, image: Array, rng: np.random.Generator) -> Composite:
        """Degrade ``image``: H x W x 3 RGB, uint8 or float in [0, 1]. The same generator state gives the same result.

        Raises ``ImageTooSmall`` where the grid does not fit, and ``TypeError`` or ``ValueError`` as ``distort`` does.
        """
        check_image(image)
        blocks = grid_blocks(image.shape[1], image.shape[0], self.grid)
        if self.mode == "block":
            return self._block_composite(image, blocks, rng)
        recipe: Recipe = ()
        view = image
        if self.mode != "none" and rng.random() >= self.p_clean:
            recipe, view = self._global_view(image, rng)
        if not recipe:
            clean = np.zeros(len(blocks), np.int64)
            return Composite(image.copy(), (image,), ((),), clean, blocks, False)
        return Composite(view.copy(), (image, view), ((), recipe), np.ones(len(blocks), np.int64), blocks, False)

    def _block_composite(self, image: Array, blocks: tuple[Block, ...], rng: np.random.Generator) -> Composite:
        by_group = self._by_group()
        types = self.types or (4 if len(blocks) == 4 else int(rng.integers(3, 5)))
        types = min(types, len(blocks), len(by_group))
        groups = rng.permutation(len(by_group))[:types]
        assignment = _surjection(len(blocks), types, rng)
        assignment[rng.random(len(blocks)) < self.p_clean] = 0
        views: list[Array] = [image]
        recipes: list[Recipe] = [()]
        stack = to_planes(image)
        for number, group in enumerate(groups, start=1):
            own_blocks = [blocks[k] for k in np.flatnonzero(assignment == number)]
            view, recipe, undegraded = self._view(image, stack, by_group[group], blocks, own_blocks, rng)
            views.append(view)
            recipes.append(recipe)
            assignment[[blocks.index(block) for block in undegraded]] = 0
        feathered = bool(rng.random() < self.feather)
        composite = compose(views, assignment, blocks, feathered)
        if feathered and self._undegraded(composite, image, [b for b, s in zip(blocks, assignment, strict=True) if s]):
            # Blending took a barely visible block below the threshold: keep the label true, drop the blend.
            feathered, composite = False, compose(views, assignment, blocks, False)
        return Composite(composite, tuple(views), tuple(recipes), assignment, blocks, feathered)

    def _view(
        self,
        image: Array,
        stack: Array,
        kinds: Sequence[Kind],
        blocks: Sequence[Block],
        own_blocks: Sequence[Block],
        rng: np.random.Generator,
    ) -> tuple[Array, Recipe, Sequence[Block]]:
        """One view, its recipe, and which of ``own_blocks``, the blocks to be taken from it, it leaves undegraded."""
        regions = [(block.x, block.y, block.width, block.height) for block in blocks]
        for _ in range(self.max_tries):
            kind = kinds[int(rng.integers(len(kinds)))]
            level = self._draw_level(kind, rng)
            implementation = draw_implementation(kind, rng, self.implementations)
            view = from_planes(distort_planes(stack, kind, level, rng, regions, implementation), image.dtype)
            undegraded = self._undegraded(view, image, own_blocks)
            if not undegraded:
                break
        return view, ((KIND_INDEX[kind.name], level),), undegraded

    def _global_view(self, image: Array, rng: np.random.Generator) -> tuple[Recipe, Array]:
        by_group = self._by_group()
        longest = min(_LONGEST_CHAIN, len(by_group)) if self.mode == "global-chain" else 1
        for _ in range(self.max_tries):
            steps = []
            stack = to_planes(image)
            for group in rng.permutation(len(by_group))[: int(rng.integers(1, longest + 1))]:
                kind = by_group[group][int(rng.integers(len(by_group[group])))]
                level = self._draw_level(kind, rng)
                implementation = draw_implementation(kind, rng, self.implementations)
                stack = distort_planes(stack, kind, level, rng, implementation=implementation)
                steps.append((KIND_INDEX[kind.name], level))
            view = from_planes(stack, image.dtype)
            if _mean_change(view, image) >= self.min_change:
                return tuple(steps), view
        return (), image

    def _undegraded(self, changed: Array, image: Array, blocks: Sequence[Block]) -> list[Block]:
        return [block for block in blocks if _mean_change(changed[block.slices], image[block.slices]) < self.min_change]

    def _by_group(self) -> list[list[Kind]]:
        """The kinds to draw from, one list a group, without those that do nothing at the fixed level."""
        groups: dict[str, list[Kind]] = {}
        for name in dict.fromkeys(self.kinds):
            kind = get_kind(name)
            if self.level not in kind.no_op_levels:
                groups.setdefault(kind.group, []).append(kind)
        if not groups and self.mode != "none":
            raise ConfigError(f"no kind in {', '.join(self.kinds) or 'an empty list'} changes a picture at this level")
        return list(groups.values())

    def _draw_level(self, kind: Kind, rng: np.random.Generator) -> int:
        if self.level is not None:
            return self.level
        active = np.array(kind.active_levels)
        if self.levels == "uniform":
            return int(rng.choice(active))
        weight = np.exp(-((active - 1) ** 2) / (2 * _LEVEL_DEVIATION**2))
        return int(rng.choice(active, p=weight / weight.sum()))


def draw_grid(rng: np.random.Generator) -> int:
    """A grid for one batch: 2, 3 or 4 blocks per side with probabilities 0.5, 0.3 and 0.2."""
    return int(rng.choice(list(_GRID_SHARES), p=list(_GRID_SHARES.values())))


def _surjection(blocks: int, views: int, rng: np.random.Generator) -> Ints:
    """A view 1 .. ``views`` for every block, each view at least once."""
    assignment = rng.integers(1, views + 1, blocks)
    assignment[rng.permutation(blocks)[:views]] = np.arange(1, views + 1)
    return assignment


def _mean_change(changed: Array, image: Array) -> float:
    if image.dtype == np.uint8:
        return float(np.abs(np.subtract(changed, image, dtype=np.int16)).mean()) / 255
    return float(np.abs(changed - image).mean())


def compose(views: Sequence[Array], assignment: Ints, blocks: Sequence[Block], feathered: bool) -> Array:
    """The composite: block k from view ``assignment[k]``, with hard seams or blended over 4 px either side of a cut."""
    image = np.empty_like(views[0])
    if not feathered:
        for block, view in zip(blocks, assignment, strict=True):
            image[block.slices] = views[view][block.slices]
        return image
    height, width = image.shape[:2]
    # Rows of 3 x width samples, because broadcasting over a last axis of three takes five times as long.
    total = np.zeros((height, 3 * width), np.float32)
    samples = [view.reshape(height, 3 * width) for view in views]
    for block, view in zip(blocks, assignment, strict=True):
        top, bottom = max(block.y - FEATHER, 0), min(block.y + block.height + FEATHER, height)
        left, right = max(block.x - FEATHER, 0), min(block.x + block.width + FEATHER, width)
        weight = _ramp(block.y, block.height, height)[:, None] * _ramp(block.x, block.width, width).repeat(3)
        total[top:bottom, 3 * left : 3 * right] += weight * samples[view][top:bottom, 3 * left : 3 * right]
    if image.dtype == np.uint8:
        total += 0.5
    image[:] = total.reshape(image.shape)
    return image


def _ramp(start: int, size: int, side: int) -> Array:
    """The weight of a block along one axis: 1 inside, rising over 8 px about each cut; blocks sum to one."""
    place = np.arange(max(start - FEATHER, 0), min(start + size + FEATHER, side)) + 0.5
    rise = (place - start + FEATHER) / (2 * FEATHER) if start > 0 else np.inf
    fall = (start + size + FEATHER - place) / (2 * FEATHER) if start + size < side else np.inf
    weight: Array = np.minimum(rise, fall) * np.ones_like(place)
    return weight.clip(0, 1).astype(np.float32)
