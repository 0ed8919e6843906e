"""Large arrays computed in chunks by several processes, so that a kill costs the chunks in flight and no more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from moslens.system.files import whole_file

Part = Mapping[str, "NDArray[np.generic]"]
CHUNK = 64


def build_parts(folder: Path, count: int, job: Callable[[range], Part], processes: int | None = None) -> None:
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
    job: Callable[[range], Part]

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
