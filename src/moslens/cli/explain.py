"""``moslens explain``: options, run, exit code."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from moslens.bulk.engine import RunCounts
from moslens.bulk.inputs import require_pictures
from moslens.cli.options import MaxPixels, Model, Pictures, Workers
from moslens.cli.terminal import count_pictures, end_run, show_rows
from moslens.picture.limits import MAX_PIXELS


def run(
    paths: Pictures,
    output: Annotated[Path, typer.Option(help="A new or empty folder for maps and index.html.")],
    model: Model = None,
    workers: Workers = None,
    max_pixels: MaxPixels = MAX_PIXELS,
) -> None:
    """Show where each picture is bad and what is wrong there.

    Writes OUTPUT/NAME.png (the map over the picture, with a legend) and OUTPUT/NAME.json for each picture as soon as
    it is done, OUTPUT/rows.jsonl (the rows of moslens score) and at the end OUTPUT/index.html, worst first. Exit code:
    0 all done, 1 some pictures could not be read, 2 wrong use, 130 interrupted, 143 by SIGTERM (index.html shows what
    was finished).
    """
    from moslens.bulk.explain import explain_all, make_folder
    from moslens.bulk.map_page import Entry, write_index
    from moslens.scoring.scorer import Scorer
    from moslens.system.interrupts import signal_of
    from moslens.system.malloc import give_back_large_blocks

    give_back_large_blocks()
    # Read to the end before anything is written: the output may lie in a folder that is walked.
    sources = list(require_pictures(paths, sys.stdin.buffer))
    scorer = Scorer(model, threads=1)
    scorer.need_maps()
    make_folder(output)
    start = time.monotonic()
    entries: list[Entry] = []
    stopped = 0
    try:
        with show_rows("explaining", len(sources)) as show:
            explain_all(scorer, sources, output, entries, workers=workers, max_pixels=max_pixels, on_row=show)
    except KeyboardInterrupt as stop:
        stopped = signal_of(stop)
    finally:
        index = write_index(output, entries)
    counts = RunCounts(written=len(entries), written_errors=sum(entry.name is None for entry in entries))
    end_run(count_pictures(len(entries)), counts, time.monotonic() - start, stopped, f": {index}")
