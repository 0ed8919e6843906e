"""``moslens explain``: options, run, exit code."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from moslens.bulk.engine import RunCounts
from moslens.bulk.inputs import outside, require_pictures
from moslens.cli.options import Detail, MaxPixels, Model, Pictures, RetryErrors, Workers, require_resume
from moslens.cli.terminal import counted, end_run, kept_rows, show_rows
from moslens.picture.limits import MAX_PIXELS


def run(
    paths: Pictures,
    output: Annotated[Path, typer.Option("--output", "-o", help="A new or empty folder for maps and index.html.")],
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on in OUTPUT: pictures that have a row there by this model are left out."),
    ] = False,
    retry_errors: RetryErrors = False,
    model: Model = None,
    workers: Workers = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    detail: Detail = True,
) -> None:
    """Show where each picture is bad and what is wrong there.

    Writes OUTPUT/NAME.png (the map over the picture, with a legend) and OUTPUT/NAME.json for each picture as soon as
    it is done, OUTPUT/rows.jsonl (the rows of moslens score) and at the end OUTPUT/index.html, worst first. Exit code:
    0 all done, 1 some pictures could not be read, 2 wrong use, 130 interrupted, 143 terminated (index.html shows what
    was finished, and --resume goes on).
    """
    from moslens.bulk.explain import explain_all
    from moslens.bulk.page import ROWS, make_folder
    from moslens.bulk.writers import drop_errors
    from moslens.scoring.scorer import Scorer
    from moslens.system.interrupts import signal_of
    from moslens.system.malloc import give_back_large_blocks

    require_resume(retry_errors, resume)
    give_back_large_blocks()
    # Read to the end before anything is written: the output may lie in a folder that is walked.
    sources = list(outside(require_pictures(paths, sys.stdin.buffer), str(output)))
    scorer = Scorer(model, threads=1)
    scorer.need_maps()
    make_folder(output, resume=resume)
    if retry_errors:
        drop_errors(str(output / ROWS), "jsonl", scorer.model_id)
    start = time.monotonic()
    counts = RunCounts()
    stopped = 0
    try:
        with show_rows("explaining", len(sources)) as show:
            explain_all(
                scorer,
                sources,
                output,
                counts,
                resume=resume,
                workers=workers,
                max_pixels=max_pixels,
                detail=detail,
                on_row=show,
            )
    except KeyboardInterrupt as stop:
        stopped = signal_of(stop)
    done = counted(counts.written, "picture")
    end_run(done, counts, time.monotonic() - start, stopped, f"{kept_rows(counts)}: {output / 'index.html'}")
