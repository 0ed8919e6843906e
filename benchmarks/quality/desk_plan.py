"""The plan of the desk test, ``desk.toml``, as typed records, and the photos that it is made on."""

import hashlib
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.programs import Pixels
from benchmarks.quality.desk_faults import DETAIL, FAULTS, HARMLESS
from benchmarks.quality.notes import files
from moslens.data.roles import Role, stated_roles
from moslens.distortions import GROUPS
from moslens.errors import ConfigError
from moslens.picture.load import decode, load
from moslens.release.block_labels import halves
from moslens.train.distill.pool import open_pool

PLAN = Path(__file__).with_name("desk.toml")
PROGRAMS = ("imagemagick", "ffmpeg", "scikit-image")
TOP = 5
BLOCK = 16
PRISTINE, LARGE = "pristine", "clic2025"
MOST_PRISTINE = 42
MOSAIC = (3, 4)
"""Rows and columns of a mosaic of 12 megapixels."""
CELL = 1000


@dataclass(frozen=True)
class Fault:
    """A fault; ``levels`` has its parameter from mild to strong, ``groups`` those of which any is a right name."""

    name: str
    program: str
    what: str
    levels: tuple[float, ...]
    groups: tuple[str, ...]
    monotone: bool = True
    optional: bool = False

    @property
    def by_level(self) -> dict[int, float]:
        """The parameter of each level; the last one is level 5."""
        return dict(enumerate(self.levels, TOP + 1 - len(self.levels)))


@dataclass(frozen=True)
class Harmless:
    """A change that leaves a photo as good as it is."""

    name: str
    program: str
    what: str
    value: float = 0.0


@dataclass(frozen=True)
class Targets:
    """What is wanted; ``desk.toml`` says what each is."""

    below_clean: float
    points: float
    lower_by_points: float
    falls: float
    dead: float
    harmless_points: float
    harmless: float
    named_right: float
    clean_named: float
    detail_named: float
    detail_lower: float
    detail_clean_named: float


@dataclass(frozen=True)
class Plan:
    """``desk.toml``; ``sha256`` is the hash of the file."""

    seed: int
    longer_side: int
    strong: tuple[int, ...]
    leave_out: tuple[str, ...]
    targets: Targets
    faults: tuple[Fault, ...]
    harmless: tuple[Harmless, ...]
    detail: tuple[Fault, ...]
    sha256: str


def read_plan(path: Path = PLAN) -> Plan:
    """The plan in a file. ConfigError where an entry has no function, or a program, group or level that is none."""
    data = path.read_bytes()
    try:
        table = tomllib.loads(data.decode("utf-8"))
        return Plan(
            seed=table["seed"],
            longer_side=table["longer_side"],
            strong=tuple(table["strong"]),
            leave_out=tuple(table["leave_out"]),
            targets=Targets(**table["targets"]),
            faults=_faults(table["fault"], FAULTS),
            harmless=tuple(_harmless(name, one) for name, one in _known(table["harmless"], HARMLESS).items()),
            detail=_faults(table["detail"], DETAIL),
            sha256=hashlib.sha256(data).hexdigest(),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{type(error).__name__}: {error}", path) from error
    except ConfigError as error:
        raise ConfigError(error.message, path) from error


def _known(table: dict[str, Any], functions: Collection[str]) -> dict[str, Any]:
    odd = sorted(set(table) ^ set(functions))
    if odd:
        raise ConfigError(f"in the plan or as a function alone: {', '.join(odd)}")
    return table


def _faults(table: dict[str, Any], functions: Collection[str]) -> tuple[Fault, ...]:
    return tuple(_fault(name, one) for name, one in _known(table, functions).items())


def _fault(name: str, table: dict[str, Any]) -> Fault:
    fault = Fault(name, **table | {key: tuple(table[key]) for key in ("levels", "groups")})
    _check_program(fault)
    if not 1 <= len(fault.levels) <= TOP or len(set(fault.levels)) < len(fault.levels):
        raise ConfigError(f"{name} has 1 to {TOP} different levels, not {fault.levels}")
    unknown = [group for group in fault.groups if group not in GROUPS]
    if unknown or not fault.groups:
        raise ConfigError(f"{name} has groups of {', '.join(GROUPS)}, not {', '.join(unknown) or 'none'}")
    return fault


def _harmless(name: str, table: dict[str, Any]) -> Harmless:
    change = Harmless(name, **table)
    _check_program(change)
    return change


def _check_program(entry: Fault | Harmless) -> None:
    if entry.program not in PROGRAMS:
        raise ConfigError(f"{entry.name} is made by one of {', '.join(PROGRAMS)}, not {entry.program!r}")


def clean_photos(data: Path, plan: Plan) -> list[Path]:
    """Clean photos that no training and no calibration used, in an order that the seed draws.

    All of ``clic2025``, which is for tests, and some of the held-out pristine photos that measure. ConfigError where
    roles.toml says otherwise.
    """
    role = _role(PRISTINE)
    if not role.held_out:
        raise ConfigError(f"roles.toml holds out no part of {PRISTINE}")
    pool = open_pool(data / PRISTINE, held_out=role.held_out)
    held_out = [pool.root / name for name in halves(pool)[1] if name not in plan.leave_out]
    return _shuffled(large_photos(data, plan) + _shuffled(held_out, plan)[:MOST_PRISTINE], plan)


def large_photos(data: Path, plan: Plan) -> list[Path]:
    """The photos of about 2 K, in an order that the seed draws. ConfigError where they are no test in roles.toml."""
    if _role(LARGE).role != "tests":
        raise ConfigError(f"roles.toml says that {LARGE} is no test")
    return _shuffled(files(data / LARGE), plan)


def _role(name: str) -> Role:
    return next(role for role in stated_roles() if role.name == name)


def _shuffled(paths: list[Path], plan: Plan) -> list[Path]:
    return sorted(paths, key=lambda path: hashlib.sha256(f"{plan.seed}/{path.name}".encode()).hexdigest())


def clean_picture(path: Path, plan: Plan) -> Pixels:
    """The photo with its longer side at most ``longer_side``; its sides are cut to multiples of 16."""
    pixels = load(path, working_size=plan.longer_side).pixels
    height, width = (side - side % BLOCK for side in pixels.shape[:2])
    return _middle(pixels, height, width)


def mosaics(paths: list[Path], count: int) -> list[tuple[Path, ...]]:
    """The photos of ``count`` mosaics; no two begin with the same one while there are enough photos."""
    large = [path for path in paths if min(decode(path).shape[:2]) >= CELL]
    size = MOSAIC[0] * MOSAIC[1]
    return [tuple(large[(5 * k + i) % len(large)] for i in range(size)) for k in range(count)]


def mosaic(paths: Sequence[Path]) -> Pixels:
    """A picture of 4000 x 3000 px: the middles of the photos at their native size, side by side."""
    cells = [_middle(decode(path), CELL, CELL) for path in paths]
    rows, columns = MOSAIC
    return np.vstack([np.hstack(cells[row * columns : (row + 1) * columns]) for row in range(rows)])


def _middle(pixels: Pixels, height: int, width: int) -> Pixels:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])
