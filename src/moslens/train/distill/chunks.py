"""Banks: folders of large arrays, computed once, in chunks, by several processes.

    BANK/plan.json     what decides the arrays; a bank of another plan is refused
    BANK/parts/        finished chunks, while the arrays are computed
    BANK/NAME.npy      the arrays; a bank is finished when the last of them is there

A killed process loses only the chunks it was computing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from moslens.errors import CheckpointError, ConfigError
from moslens.system.children import without_current_folder
from moslens.system.cores import available_cores
from moslens.system.files import read_json, whole_file, write_json

log = logging.getLogger(__name__)

Arrays = Mapping[str, "NDArray[np.generic]"]
CHUNK = 64


@dataclass(frozen=True)
class BankPlan(ABC):
    """What decides every entry of a bank: entry i is a function of (seed, i) and the photos ``names`` in ``root``."""

    root: Path
    names: tuple[str, ...]
    data_hash: str
    working_size: int
    entries: int
    seed: int

    def __post_init__(self) -> None:
        if self.entries < 1:
            raise ConfigError(f"a bank has at least one entry, not {self.entries}")

    @abstractmethod
    def arrays(self, indices: range) -> Arrays:
        """The arrays of the bank for the entries ``indices``."""

    def to_dict(self) -> dict[str, Any]:
        """What ``plan.json`` holds. Photos are a count and a hash, so the pool may move to another folder."""
        tree = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("root", "names")}
        return tree | {"pictures": len(self.names)}


def build_bank(
    folder: Path, plan: BankPlan, names: Sequence[str], *, entry_bytes: int, processes: int | None = None
) -> None:
    """Build the bank of a plan in ``folder``. An unfinished bank is completed, a finished one is left alone.

    names: the arrays of the plan, in the order in which they are written. entry_bytes: disk space of an entry.
    CheckpointError where the folder holds a bank of another plan, or the disk has no room for this one.
    """
    record, stored = folder / "plan.json", json.loads(json.dumps(plan.to_dict()))
    if not record.is_file():
        write_json(record, stored)
    elif read_json(record) != stored:
        raise CheckpointError("is a bank of other settings or pictures: name another folder or remove it", folder)
    if finished(folder, names):
        return
    count = plan.entries
    free, needed = shutil.disk_usage(folder).free, 2 * count * entry_bytes  # chunks and merged arrays, side by side
    if free < needed:
        raise CheckpointError(f"a bank of {count} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free", folder)
    compute_arrays(folder, count, plan.arrays, names, processes)


def finished(folder: Path, names: Sequence[str]) -> bool:
    """Whether :func:`compute_arrays` has written its arrays, in the order of ``names``."""
    return (folder / f"{names[-1]}.npy").is_file()


def compute_arrays(
    folder: Path, count: int, job: Callable[[range], Arrays], names: Sequence[str], processes: int | None = None
) -> None:
    """Write the arrays ``names`` of ``count`` entries, made by ``job``, into ``folder``; finished ones are left alone.

    A call that was killed is completed by the next. ``job`` and processes: as :func:`build_parts`.
    """
    if finished(folder, names):
        return
    log.info("%s: making %s of %d entries", folder, " and ".join(names), count)
    build_parts(folder / "parts", count, job, processes)
    merge_parts(folder / "parts", count, {name: folder / f"{name}.npy" for name in names})


def key_of(*facts: Any) -> str:
    """A name for what ``facts``, values for JSON, decide: twelve hex digits of their SHA-256."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def build_parts(folder: Path, count: int, job: Callable[[range], Arrays], processes: int | None = None) -> None:
    """Run ``job`` on every chunk of ``range(count)`` that ``folder`` does not hold yet. ``job`` must be picklable.

    processes: None for one per core. An error in ``job`` is raised here; finished chunks stay on disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [chunk for chunk in _chunks(count) if not _path(folder, chunk).is_file()]
    work = _Work(folder, job)
    processes = min(processes or available_cores(), len(todo))
    if processes <= 1:
        for chunk in todo:
            work(chunk)
        return
    with (
        without_current_folder(),
        ProcessPoolExecutor(processes, get_context("spawn"), initializer=_one_thread) as pool,
    ):
        for _ in pool.map(work, todo):
            pass


def merge_parts(folder: Path, count: int, targets: Mapping[str, Path]) -> None:
    """Join the chunks into one ``.npy`` file per array, in the order of ``targets``, and delete the chunks."""
    for name, target in targets.items():
        with whole_file(target) as scratch:
            merged = None
            for chunk in _chunks(count):
                with np.load(_path(folder, chunk)) as part:
                    values = part[name]
                if merged is None:
                    merged = open_memmap(scratch, mode="w+", dtype=values.dtype, shape=(count, *values.shape[1:]))
                merged[chunk.start : chunk.stop] = values
            assert merged is not None
            merged.flush()
    shutil.rmtree(folder)


@dataclass(frozen=True)
class _Work:
    folder: Path
    job: Callable[[range], Arrays]

    def __call__(self, chunk: range) -> None:
        arrays = self.job(chunk)
        with whole_file(_path(self.folder, chunk)) as scratch, scratch.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def _chunks(count: int) -> list[range]:
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _path(folder: Path, chunk: range) -> Path:
    return folder / f"{chunk.start:08d}.npz"


def _one_thread() -> None:
    torch.set_num_threads(1)
