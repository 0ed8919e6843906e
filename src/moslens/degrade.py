"""Degrade whole photos: one picture in, one PNG, one row of labels and a thumbnail out, over several processes."""

import hashlib
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moslens.blocks import BlockDegradation, Composite
from moslens.distortions import KINDS
from moslens.errors import ImageError, InternalError, OutputError
from moslens.image import decode
from moslens.sheet import draw_labels

PICTURES = "pictures"

# Degraded photos are noisy: higher levels of zlib take several times as long for a few percent.
_PNG_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to degrade: where it is, what its PNG is called, its own seed, whether to draw a thumbnail."""

    source: str
    name: str
    seed: int
    thumbnail: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """What all jobs of a run share."""

    folder: Path
    bdm: BlockDegradation
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Degraded:
    """The row for ``labels.jsonl`` (with ``error`` where it failed), and the thumbnail that was asked for."""

    row: dict[str, Any]
    thumbnail: Image.Image | None = None


def plan(sources: Sequence[str], seed: int, thumbnails: int) -> list[Job]:
    """One job a source: the PNG has the name of the source, with -2, -3 ... where that is taken.

    A picture's seed depends on the seed of the run and its PNG's name alone, so that neither the number of workers
    nor the pictures after it matter.
    """
    jobs = []
    taken: set[str] = set()
    for index, source in enumerate(sources):
        stem = Path(source).stem
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        jobs.append(Job(source, f"{name}.png", picture_seed(seed, name), index < thumbnails))
    return jobs


def picture_seed(seed: int, name: str) -> int:
    """The seed of one picture: 48 bits of the SHA-256 of "seed/name"."""
    digest = hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()
    return int.from_bytes(digest[:6], "big")


def degrade_all(jobs: Iterable[Job], settings: Settings, workers: int) -> Iterator[Degraded]:
    """Do the jobs in ``workers`` processes (in this one if 1); results in order, as soon as it is their turn.

    Raises ``OutputError`` where a picture cannot be written; a picture that cannot be read is a row.
    """
    if workers == 1:
        yield from (degrade_one(job, settings) for job in jobs)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt)
    waiting: deque[Future[Degraded]] = deque()
    remaining = iter(jobs)
    try:
        waiting.extend(pool.submit(degrade_one, job, settings) for job in islice(remaining, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(degrade_one, job, settings) for job in islice(remaining, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def degrade_one(job: Job, settings: Settings) -> Degraded:
    """Decode, degrade, write the PNG; the row says where every distortion is."""
    grid = settings.bdm.grid
    row: dict[str, Any] = {"path": None, "source": job.source, "seed": job.seed, "grid": grid, "blocks": []}
    try:
        pixels = decode(job.source, max_pixels=settings.max_pixels)
        result = settings.bdm(pixels, np.random.default_rng(job.seed))
    except ImageError as error:
        return _failed(row, error if error.path else type(error)(error.message, job.source))
    except (MemoryError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return _failed(row, InternalError(f"{type(error).__name__}: {error}", job.source))
    target = settings.folder / PICTURES / job.name
    try:
        Image.fromarray(result.image).save(target, compress_level=_PNG_LEVEL)
    except OSError as error:
        raise OutputError(error.strerror or str(error), target) from error
    row |= {"path": f"{PICTURES}/{job.name}", "blocks": block_rows(result)}
    return Degraded(row, draw_labels(result) if job.thumbnail else None)


def block_rows(result: Composite) -> list[dict[str, Any]]:
    """The blocks of a composite as rows of ``labels.jsonl``: kind and group null, level 0 where it is clean."""
    rows = []
    for block, kind, level in zip(result.blocks, result.kinds.tolist(), result.levels.tolist(), strict=True):
        rows.append(
            {
                "row": block.row,
                "column": block.column,
                "x": block.x,
                "y": block.y,
                "width": block.width,
                "height": block.height,
                "kind": KINDS[kind].name if level else None,
                "group": KINDS[kind].group if level else None,
                "level": level,
            }
        )
    return rows


def _failed(row: dict[str, Any], error: ImageError) -> Degraded:
    return Degraded(row | {"error": {"code": error.code, "message": str(error)}})


def _ignore_interrupt() -> None:
    """Control-C is for the parent, which then stops the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
