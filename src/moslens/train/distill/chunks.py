"""Banks: folders of large arrays, computed in chunks by several processes.

    BANK/plan.json     what the arrays are made of
    BANK/parts/        chunks that are done, while the arrays are computed
    BANK/NAME.npy      the arrays; the last of them is the mark of a whole bank

A kill costs the chunks in flight and no more.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
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

from moslens.errors import CheckpointError
from moslens.system.files import read_json, whole_file, write_json

log = logging.getLogger(__name__)

Arrays = Mapping[str, "NDArray[np.generic]"]
CHUNK = 64


def build_bank(
    folder: Path,
    plan: Mapping[str, Any],
    names: Sequence[str],
    job: Callable[[range], Arrays],
    *,
    entry_bytes: int,
    processes: int | None = None,
) -> None:
    """Make the bank of a plan in ``folder`` unless it is there; a bank that was begun is finished.

    ``plan["entries"]`` is the number of entries, ``names`` are the arrays of ``job`` in the order in which they are
    written. CheckpointError where the folder holds a bank of another plan, or the disk has no room for this one.
    """
    record, plan = folder / "plan.json", json.loads(json.dumps(plan))
    if not record.is_file():
        write_json(record, plan)
    elif read_json(record) != plan:
        raise CheckpointError("is a bank of other settings or pictures: name another folder or remove it", folder)
    if (folder / f"{names[-1]}.npy").is_file():
        return
    count = plan["entries"]
    free, needed = shutil.disk_usage(folder).free, 2 * count * entry_bytes  # the chunks, then the arrays beside them
    if free < needed:
        raise CheckpointError(f"a bank of {count} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free", folder)
    log.info("%s: making %d entries", folder, count)
    build_parts(folder / "parts", count, job, processes)
    merge_parts(folder / "parts", count, {name: folder / f"{name}.npy" for name in names})


def build_parts(folder: Path, count: int, job: Callable[[range], Arrays], processes: int | None = None) -> None:
    """``job`` on every chunk of ``range(count)`` that ``folder`` does not hold yet; ``job`` must pickle.

    processes: None for one a core. An error of the job ends the work; chunks that are done stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [chunk for chunk in _chunks(count) if not _path(folder, chunk).is_file()]
    work = _Work(folder, job)
    processes = min(processes or os.cpu_count() or 1, len(todo))
    if processes <= 1:
        for chunk in todo:
            work(chunk)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_one_thread) as pool:
        for _ in pool.map(work, todo):
            pass


def merge_parts(folder: Path, count: int, targets: Mapping[str, Path]) -> None:
    """Join the arrays of all chunks into one ``.npy`` each, in the order of ``targets``, and drop the chunks."""
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
