"""``moslens degrade``: parse, check, run, exit code."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moslens.bulk.inputs import find_pictures
from moslens.errors import ConfigError, OutputError
from moslens.system.progress import progress
from moslens.system.text import printable

if TYPE_CHECKING:
    from moslens.bulk.degrade import Job, Settings

LABELS = "labels.jsonl"

# Whoever looks at sheets does not look at more than these; labels.jsonl has every picture.
SHEETS = 5

ANY_CHANGE = 1e-9


class Grid(StrEnum):
    """Blocks a side."""

    two = "2"
    three = "3"
    four = "4"


def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Pictures, folders (with all below them), globs, or - for a list of names on standard input.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for pictures, labels and contact sheets.")],
    grid: Annotated[Grid, typer.Option(help="Blocks a side.")] = Grid.three,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal pictures.")] = 0,
    kinds: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Kinds to draw from (moslens distortions).", show_default="all"),
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=1, max=5, help="One level for all.", show_default="drawn, mostly mild")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pictures in work at once.", show_default="one a core")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse pictures with more pixels.")] = 200_000_000,
) -> None:
    """Degrade pictures block by block, with labels: which distortion, how strong, where.

    Writes OUTPUT/pictures/NAME.png, OUTPUT/labels.jsonl (one line a picture, paths relative to OUTPUT) and contact
    sheets of the first 60 pictures. Exit code: 0 all done, 1 some pictures could not be read, 2 wrong use,
    130 interrupted, 143 by SIGTERM (what was finished is labelled).
    """
    from moslens.blocks import BlockDegradation
    from moslens.bulk.contact_sheet import PER_SHEET, sheet_name
    from moslens.bulk.degrade import PICTURES, Settings, plan
    from moslens.distortions import KINDS
    from moslens.system.cores import available_cores

    names = tuple(kind.name for kind in KINDS)
    if kinds is not None:
        names = tuple(name.strip() for name in kinds.split(",") if name.strip())
    # Who asks for a level gets it, however faint; otherwise a change that cannot be seen is no distortion.
    min_change = BlockDegradation().min_change if level is None else ANY_CHANGE
    bdm = BlockDegradation(grid=int(grid), kinds=names, level=level, min_change=min_change)
    # Read to the end before anything is written: the output may lie in a folder that is walked.
    sources = list(find_pictures(paths, sys.stdin.buffer))
    if not sources:
        raise ConfigError("no picture found")
    for taken in (output / LABELS, output / PICTURES, output / sheet_name(1)):
        if taken.exists():
            raise OutputError("is there already; give another folder", taken)
    jobs = plan(sources, seed, thumbnails=SHEETS * PER_SHEET)
    start = time.monotonic()
    try:
        (output / PICTURES).mkdir(parents=True)
        tally = write(jobs, Settings(output, bdm, max_pixels), min(workers or available_cores(), len(jobs)))
    except OSError as error:
        raise OutputError(error.strerror or str(error), error.filename or output) from error
    word = "interrupted: " if tally.stopped else ""
    pictures = f"{tally.done} picture{'s' if tally.done != 1 else ''}"
    seconds = time.monotonic() - start
    typer.echo(f"{word}{pictures} in {seconds:.1f} s, {tally.errors} of them errors: {output / LABELS}", err=True)
    if tally.stopped:
        raise typer.Exit(128 + tally.stopped)
    if tally.errors:
        raise typer.Exit(1)


@dataclass
class Tally:
    """Pictures that have their row, how many of those rows are errors, and the signal that ended it early."""

    done: int = 0
    errors: int = 0
    stopped: int = 0


def write(jobs: "Sequence[Job]", settings: "Settings", workers: int) -> Tally:
    """Do the jobs, in order, until done or interrupted: pictures, rows, sheets."""
    from moslens.bulk.contact_sheet import Sheets
    from moslens.bulk.degrade import PICTURES, degrade_all
    from moslens.system.interrupts import Interrupts, signal_of

    tally = Tally()
    sheets = Sheets(settings.folder)
    try:
        with (
            (settings.folder / LABELS).open("w", encoding="utf-8") as file,
            progress("degrading", len(jobs)) as advance,
            closing(degrade_all(jobs, settings, workers)) as results,
            Interrupts() as interrupts,
        ):
            for result in results:
                with interrupts.held():
                    tally.done += 1
                    file.write(json.dumps(result.row) + "\n")
                    file.flush()
                if result.thumbnail is not None:
                    sheets.add(result.thumbnail, result.row["source"])
                if "error" in result.row:
                    tally.errors += 1
                    typer.echo(f"moslens: {printable(result.row['error']['message'])}", err=True)
                advance()
    except KeyboardInterrupt as stop:
        tally.stopped = signal_of(stop)
    finally:
        # Workers are ahead of the rows: no picture stays without one.
        for job in jobs[tally.done :]:
            (settings.folder / PICTURES / job.name).unlink(missing_ok=True)
    sheets.close()
    return tally
