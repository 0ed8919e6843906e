"""``moslens degrade``: options, run, exit code."""

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moslens.bulk.engine import RunCounts
from moslens.bulk.inputs import require_pictures
from moslens.cli.options import MaxPixels, Pictures, Workers
from moslens.cli.terminal import counted, end_run, show_rows
from moslens.picture.limits import MAX_PIXELS

ANY_CHANGE = 1e-9


class BlocksASide(StrEnum):
    """Blocks a side."""

    two = "2"
    three = "3"
    four = "4"


class Implementations(StrEnum):
    """What to draw the implementation of a kind from."""

    default = "default"
    portable = "portable"
    all = "all"


def run(
    paths: Pictures,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for pictures, labels and contact sheets.")],
    grid: Annotated[BlocksASide, typer.Option(help="Blocks a side.")] = BlocksASide.three,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal pictures.")] = 0,
    kinds: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...|paper",
            help="Kinds to draw from (moslens distortions); paper: the first 26.",
            show_default="all",
        ),
    ] = None,
    implementations: Annotated[
        Implementations,
        typer.Option(help="default: one way to make each kind. all: draw one of several, which needs OpenCV."),
    ] = Implementations.default,
    level: Annotated[
        int | None, typer.Option(min=1, max=5, help="One level for all.", show_default="drawn, mostly mild")
    ] = None,
    workers: Workers = None,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Degrade pictures block by block, with labels: which distortion, how strong, where.

    Writes OUTPUT/pictures/NAME.png, OUTPUT/labels.jsonl (one line a picture, paths relative to OUTPUT) and contact
    sheets of the first 60 pictures. Exit code: 0 all done, 1 some pictures could not be read, 2 wrong use,
    130 interrupted, 143 terminated (what was finished is labelled).
    """
    from moslens.blocks import BlockDegradation
    from moslens.bulk.degrade import LABELS, DegradeSettings, degrade_into_folder, make_folder, plan
    from moslens.distortions import kind_names
    from moslens.system.cores import available_cores
    from moslens.system.interrupts import signal_of

    names = kind_names("paper" if kinds == "paper" else "all")
    if kinds not in (None, "paper"):
        names = tuple(name.strip() for name in kinds.split(",") if name.strip())
    # A change too small to see is no distortion, unless the user asked for its level.
    min_change = BlockDegradation().min_change if level is None else ANY_CHANGE
    bdm = BlockDegradation(
        grid=int(grid), kinds=names, level=level, min_change=min_change, implementations=implementations.value
    )
    # Read to the end before anything is written: the output may lie in a folder that is walked.
    jobs = plan(list(require_pictures(paths, sys.stdin.buffer)), seed)
    make_folder(output)
    start = time.monotonic()
    counts = RunCounts()
    stopped = 0
    try:
        with show_rows("degrading", len(jobs)) as show:
            settings = DegradeSettings(output, bdm, max_pixels)
            degrade_into_folder(jobs, settings, min(workers or available_cores(), len(jobs)), counts, show)
    except KeyboardInterrupt as stop:
        stopped = signal_of(stop)
    end_run(counted(counts.written, "picture"), counts, time.monotonic() - start, stopped, f": {output / LABELS}")
