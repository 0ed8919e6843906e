"""Degrade many photos into a folder, by several processes: for each a PNG and a row of labels, and contact sheets."""

import hashlib
import json
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moslens.blocks import BlockDegradation, Composite
from moslens.bulk import stores
from moslens.bulk.contact_sheet import PER_SHEET, Sheets, draw_labels, sheet_name
from moslens.bulk.engine import RunCounts
from moslens.bulk.inputs import distinct_names
from moslens.distortions import KINDS
from moslens.errors import ImageError, InternalError, MoslensError, OutputError
from moslens.picture.load import decode
from moslens.system.children import without_current_folder
from moslens.system.files import whole_file
from moslens.system.interrupts import Interrupts
from moslens.system.text import name_fields, readable

PICTURES = "pictures"
LABELS = "labels.jsonl"

# The contact sheets show the first pictures of a run only; labels.jsonl has all of them.
SHEETS = 5

# Degraded photos are noisy: higher levels of zlib take several times as long for a few percent.
_PNG_LEVEL = 3


@dataclass(frozen=True, slots=True)
class DegradeJob:
    """One picture to degrade: where it is, what its PNG is called, its own seed, whether to draw a thumbnail."""

    source: str
    name: str
    seed: int
    thumbnail: bool


@dataclass(frozen=True, slots=True)
class DegradeSettings:
    """What all jobs of a run share."""

    folder: Path
    bdm: BlockDegradation
    max_pixels: int


@dataclass(frozen=True, slots=True)
class Degraded:
    """The row for ``labels.jsonl`` (with ``error`` where it failed), and the thumbnail that was asked for."""

    row: dict[str, Any]
    thumbnail: Image.Image | None = None


def plan(sources: Sequence[str], seed: int, thumbnails: int = SHEETS * PER_SHEET) -> list[DegradeJob]:
    """One job a source, its PNG named after it (:func:`distinct_names`). The first ``thumbnails`` jobs draw one.

    A picture's seed depends only on the seed of the run and the name of its PNG: it is the same with any number of
    workers, and with other pictures behind it.
    """
    names = distinct_names(sources)
    return [
        DegradeJob(source, f"{name}.png", picture_seed(seed, name), index < thumbnails)
        for index, (source, name) in enumerate(zip(sources, names, strict=True))
    ]


def picture_seed(seed: int, name: str) -> int:
    """The seed of one picture: 48 bits of the SHA-256 of "seed/name"."""
    digest = hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest()
    return int.from_bytes(digest[:6], "big")


def make_folder(folder: Path) -> None:
    """Make the folder of a run. Raises OutputError where it has what a run writes, or cannot be made."""
    for taken in (folder / LABELS, folder / PICTURES, folder / sheet_name(1)):
        if taken.exists():
            raise OutputError("is there already; give another folder", taken)
    try:
        (folder / PICTURES).mkdir(parents=True)
    except OSError as error:
        raise OutputError(error.strerror or str(error), error.filename or folder) from error


def degrade_into_folder(
    jobs: Sequence[DegradeJob],
    settings: DegradeSettings,
    workers: int,
    counts: RunCounts,
    on_row: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> None:
    """Do the jobs, in order: pictures, labels and contact sheets in ``settings.folder``, from :func:`make_folder`.

    ``counts`` is up to date, and every picture in the folder has its row, also when a KeyboardInterrupt ends this.
    Raises OutputError, and MoslensError where a process was killed.
    """
    sheets = Sheets(settings.folder)
    labels = settings.folder / LABELS
    try:
        with (
            labels.open("w", encoding="utf-8") as file,
            closing(degrade_all(jobs, settings, workers)) as results,
            Interrupts() as interrupts,
        ):
            for result in results:
                with interrupts.held():
                    counts.written += 1
                    counts.written_errors += "error" in result.row
                    file.write(json.dumps(result.row) + "\n")
                    file.flush()
                if result.thumbnail is not None:
                    sheets.add(result.thumbnail, result.row["source"])
                on_row(result.row)
    except OSError as error:
        raise OutputError(error.strerror or str(error), error.filename or labels) from error
    except KeyboardInterrupt:
        sheets.close()
        raise
    finally:
        # The processes are ahead of the rows, and ending them may leave a picture half-written.
        for job in jobs[counts.written :]:
            (settings.folder / PICTURES / job.name).unlink(missing_ok=True)
        for scratch in (settings.folder / PICTURES).glob("*.partial"):
            scratch.unlink()
    sheets.close()


def degrade_all(jobs: Sequence[DegradeJob], settings: DegradeSettings, workers: int) -> Generator[Degraded, None, None]:
    """Do the jobs in ``workers`` processes (in this one if 1). Gives results in order, each as soon as it is next.

    Closing it early ends the processes at once. Raises OutputError where a picture cannot be written and MoslensError
    where a process was killed. A picture that cannot be read is a result with an error.
    """
    if workers == 1:
        yield from (degrade_one(job, settings) for job in jobs)
        return
    # Not a ProcessPoolExecutor: ending its processes early can block it for ever, and they outlive a killed parent.
    with _processes(settings, workers) as lines:
        idle = list(lines)
        started = turn = 0
        ready: dict[int, Degraded] = {}
        while turn < len(jobs):
            while idle and started < min(len(jobs), turn + 2 * workers):
                with suppress(BrokenPipeError):  # a process that was killed: _receive raises for it
                    idle.pop().send((started, jobs[started]))
                started += 1
            busy = [line for line in lines if line not in idle]
            answered = wait(busy)
            for line in (line for line in busy if line in answered):
                number, result = _receive(line)
                ready[number] = result
                idle.append(line)
            while turn in ready:
                yield ready.pop(turn)
                turn += 1


def degrade_one(job: DegradeJob, settings: DegradeSettings) -> Degraded:
    """Decode, degrade and write one picture. Raises OutputError where it cannot be written."""
    grid = settings.bdm.grid
    facts = {**name_fields("source", job.source), "seed": job.seed, "grid": grid}
    try:
        pixels = decode(stores.source(job.source), max_pixels=settings.max_pixels)
        result = settings.bdm(pixels, np.random.default_rng(job.seed))
    except ImageError as error:
        return _failed(facts, error if error.path else type(error)(error.message, job.source))
    except (MemoryError, OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return _failed(facts, InternalError.of(error, job.source))
    with whole_file(settings.folder / PICTURES / job.name, durable=False) as scratch:
        Image.fromarray(result.image).save(scratch, format="PNG", compress_level=_PNG_LEVEL)
    row = {**name_fields("path", f"{PICTURES}/{job.name}"), **facts, "blocks": block_rows(result)}
    return Degraded(row, draw_labels(result) if job.thumbnail else None)


def block_rows(result: Composite) -> list[dict[str, Any]]:
    """The blocks of a composite as in ``labels.jsonl``. A clean block has level 0, and kind and group None."""
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


def _failed(facts: dict[str, Any], error: ImageError) -> Degraded:
    problem = {"code": error.code, "message": readable(str(error))}
    return Degraded({"path": None, **facts, "blocks": [], "error": problem})


@contextmanager
def _processes(settings: DegradeSettings, workers: int) -> Iterator[Sequence[Connection]]:
    """Connections to ``workers`` processes that take (number, job) and answer (number, ``Degraded`` or an error)."""
    context = get_context("spawn")
    lines: list[Connection] = []
    processes = []
    try:
        for _ in range(workers):
            line, far_end = context.Pipe()
            lines.append(line)
            process = context.Process(target=_serve, args=(far_end, settings), daemon=True)
            with without_current_folder(), _interrupts_held():
                process.start()
            processes.append(process)
            far_end.close()
        yield lines
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _serve(line: Connection, settings: DegradeSettings) -> None:
    """One of the processes. The parent handles Ctrl-C; when the parent ends, the connection does, and then this."""
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
    except (EOFError, OSError):  # OSError where it was killed in the middle of an answer
        raise MoslensError("a worker was killed, most likely for want of memory: try fewer --workers") from None
    if isinstance(answer, MoslensError):
        raise answer
    return number, answer


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits, here and in processes that start meanwhile, until ``_serve`` in them ignores it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Python starts its resource tracker with the first process, and that lets interrupts through: so start it before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
