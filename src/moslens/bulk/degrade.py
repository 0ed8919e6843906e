"""Degrade whole photos: one picture in, one PNG, one row of labels and a thumbnail out, over several processes."""

import hashlib
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moslens.blocks import BlockDegradation, Composite
from moslens.bulk.contact_sheet import draw_labels
from moslens.bulk.inputs import distinct_names
from moslens.distortions import KINDS
from moslens.errors import ImageError, InternalError, MoslensError, OutputError
from moslens.picture.load import decode

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
    """One job a source, its PNG named after it (:func:`distinct_names`).

    A picture's seed depends on the seed of the run and its PNG's name alone, so that neither the number of workers
    nor the pictures after it matter.
    """
    names = distinct_names(sources)
    return [
        Job(source, f"{name}.png", picture_seed(seed, name), index < thumbnails)
        for index, (source, name) in enumerate(zip(sources, names, strict=True))
    ]


def picture_seed(seed: int, name: str) -> int:
    """The seed of one picture: 48 bits of the SHA-256 of "seed/name"."""
    digest = hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()
    return int.from_bytes(digest[:6], "big")


def degrade_all(jobs: Sequence[Job], settings: Settings, workers: int) -> Generator[Degraded, None, None]:
    """Do the jobs in ``workers`` processes (in this one if 1); results in order, as soon as it is their turn.

    Closed early, it ends the processes at once, whatever they are doing. Raises ``OutputError`` where a picture
    cannot be written and ``MoslensError`` where a process was killed; a picture that cannot be read is a row.
    """
    if workers == 1:
        yield from (degrade_one(job, settings) for job in jobs)
        return
    # Not a ProcessPoolExecutor: ending its processes early can block it for ever, and they outlive a killed parent.
    with _crew(settings, workers) as crew:
        idle = list(crew)
        started = turn = 0
        ready: dict[int, Degraded] = {}
        while turn < len(jobs):
            while idle and started < min(len(jobs), turn + 2 * workers):
                with suppress(BrokenPipeError):  # a line that is dead says so below
                    idle.pop().send((started, jobs[started]))
                started += 1
            busy = [line for line in crew if line not in idle]
            answered = wait(busy)
            for line in (line for line in busy if line in answered):
                number, result = _receive(line)
                ready[number] = result
                idle.append(line)
            while turn in ready:
                yield ready.pop(turn)
                turn += 1


def degrade_one(job: Job, settings: Settings) -> Degraded:
    """Decode, degrade, write the PNG; the row says where every distortion is."""
    grid = settings.bdm.grid
    row: dict[str, Any] = {"path": None, "source": job.source, "seed": job.seed, "grid": grid, "blocks": []}
    try:
        pixels = decode(job.source, max_pixels=settings.max_pixels)
        result = settings.bdm(pixels, np.random.default_rng(job.seed))
    except ImageError as error:
        return _failed(row, error if error.path else type(error)(error.message, job.source))
    except (MemoryError, OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
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


@contextmanager
def _crew(settings: Settings, workers: int) -> Iterator[Sequence[Connection]]:
    """Lines to ``workers`` processes that take (number, job) and answer (number, ``Degraded`` or an error)."""
    context = get_context("spawn")
    lines: list[Connection] = []
    processes = []
    try:
        for _ in range(workers):
            line, far_end = context.Pipe()
            lines.append(line)
            process = context.Process(target=_serve, args=(far_end, settings), daemon=True)
            with _interrupts_held():
                process.start()
            processes.append(process)
            far_end.close()
        yield lines
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _serve(line: Connection, settings: Settings) -> None:
    """One process of the crew. Control-C is for the parent; where that is gone, its line ends and so does this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            number, job = line.recv()
            try:
                answer: Degraded | MoslensError = degrade_one(job, settings)
            except MoslensError as error:
                answer = error
            line.send((number, answer))


def _receive(line: Connection) -> tuple[int, Degraded]:
    try:
        number, answer = line.recv()
    except (EOFError, ConnectionResetError):
        raise MoslensError("a worker was killed, most likely for want of memory: try fewer --workers") from None
    if isinstance(answer, MoslensError):
        raise answer
    return number, answer


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Control-C waits, here and in processes started meanwhile, which have no handler before they are set up."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The helper that Python starts beside the first process would let interrupts through again; so it starts before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
