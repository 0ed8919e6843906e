"""``moslens degrade``: parse, check, run, exit code."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moslens.bulk.inputs import find_pictures
from moslens.errors import ConfigError, OutputError

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
    130 interrupted (what was finished is labelled).
    """
    from moslens.blocks import BlockDegradation
    from moslens.degrade import PICTURES, Settings, degrade_all, plan
    from moslens.distortions import KINDS
    from moslens.sheet import PER_SHEET, Sheets

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
    labels = output / LABELS
    if labels.exists():
        raise OutputError("is there already; give another folder", labels)
    jobs = plan(sources, seed, thumbnails=SHEETS * PER_SHEET)
    count = min(workers or os.cpu_count() or 1, len(jobs))
    start = time.monotonic()
    done = errors = 0
    stopped = False
    try:
        (output / PICTURES).mkdir(parents=True, exist_ok=True)
        sheets = Sheets(output)
        with labels.open("w", encoding="utf-8") as file, _progress(len(jobs)) as advance:
            try:
                for result in degrade_all(jobs, Settings(output, bdm, max_pixels), count):
                    file.write(json.dumps(result.row) + "\n")
                    file.flush()
                    if result.thumbnail is not None:
                        sheets.add(result.thumbnail, result.row["source"])
                    done += 1
                    errors += "error" in result.row
                    advance()
            except KeyboardInterrupt:
                stopped = True
        sheets.close()
    except OSError as error:
        raise OutputError(error.strerror or str(error), error.filename or output) from error
    word = "interrupted: " if stopped else ""
    seconds = time.monotonic() - start
    typer.echo(f"{word}{done} pictures in {seconds:.1f} s, {errors} of them errors: {labels}", err=True)
    if stopped:
        raise typer.Exit(130)
    if errors:
        raise typer.Exit(1)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error; none where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("degrading", total=total)
        yield lambda: bar.advance(task)
