"""``moslens explain``: parse, check, run, exit code."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moslens.bulk.explain import explain_all
from moslens.bulk.inputs import find_pictures
from moslens.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from moslens.bulk.map_page import Entry


def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Pictures, folders (with all below them), globs, or - for a list of names on standard input.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="A new or empty folder for maps and index.html.")],
    model: Annotated[
        str | None,
        typer.Option(help="A shipped model's name or a model folder.", show_default="the released one"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Pictures in work at once.", show_default="one a core")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse pictures with more pixels.")] = 200_000_000,
) -> None:
    """Show where each picture is bad and what is wrong there.

    Writes OUTPUT/NAME.png (the map over the picture, with a legend) and OUTPUT/NAME.json for each picture as soon as
    it is done, OUTPUT/rows.jsonl (the rows of moslens score) and at the end OUTPUT/index.html, worst first. Exit code:
    0 all done, 1 some pictures could not be read, 2 wrong use, 130 interrupted, 143 by SIGTERM (index.html shows what
    was finished).
    """
    from moslens.bulk.map_page import write_index
    from moslens.scoring.scorer import Scorer
    from moslens.system.interrupts import signal_of
    from moslens.system.malloc import give_back_large_blocks

    give_back_large_blocks()
    # Read to the end before anything is written: the output may lie in a folder that is walked.
    sources = list(find_pictures(paths, sys.stdin.buffer))
    if not sources:
        raise ConfigError("no picture found")
    scorer = Scorer(model, threads=1)
    scorer.need_maps()
    try:
        if output.is_dir() and any(output.iterdir()):
            raise OutputError("has content: give another folder", output)
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.strerror or str(error), output) from error
    start = time.monotonic()
    entries: list[Entry] = []
    stopped = 0
    try:
        explain_all(scorer, sources, output, entries, workers, max_pixels)
    except KeyboardInterrupt as stop:
        stopped = signal_of(stop)
    finally:
        index = write_index(output, entries)
    errors = sum(entry.name is None for entry in entries)
    word = "interrupted: " if stopped else ""
    pictures = f"{len(entries)} picture{'s' if len(entries) != 1 else ''}"
    typer.echo(f"{word}{pictures} in {time.monotonic() - start:.1f} s, {errors} of them errors: {index}", err=True)
    if stopped:
        raise typer.Exit(128 + stopped)
    if errors:
        raise typer.Exit(1)
