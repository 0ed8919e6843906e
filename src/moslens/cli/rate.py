"""``moslens rate``: options, run, exit code."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moslens.bulk.engine import RunCounts, score_all
from moslens.bulk.inputs import require_pictures
from moslens.cli.options import MaxPixels, Model, TimeLimit, Workers
from moslens.cli.terminal import counted, end_run, quiet_end
from moslens.errors import ConfigError, MoslensError
from moslens.picture.limits import MAX_PIXELS
from moslens.rating.plan import Plan, Undone, undo
from moslens.rating.rater import Action, Rated, Rater
from moslens.rating.sidecars import Naming, find_photos
from moslens.rating.stars import parse_stars
from moslens.scoring.labels import note_words
from moslens.system.progress import progress
from moslens.system.text import name_fields, printable

HEADER = f"{'score':>6}  {'stars':<8}  {'':<6}  sidecar"


class RatingFormat(StrEnum):
    """How rows are written."""

    table = "table"
    jsonl = "jsonl"


def run(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Pictures, folders (with all below them), globs, or - for a list of names on standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    stars: Annotated[
        str, typer.Option(metavar="A,B,C,D", help="Scores from which a photo has two, three, four and five stars.")
    ] = "30,50,65,80",
    reject: Annotated[float, typer.Option(help="Photos with a lower score are rejected (rating -1); 0: none.")] = 15.0,
    write: Annotated[bool, typer.Option("--write", help="Write the sidecars. Without it nothing is changed.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also replace ratings that a person set.")] = False,
    naming: Annotated[
        Naming,
        typer.Option(
            help="darktable: photo.jpg.xmp. lightroom: photo.xmp. auto: the sidecar that is there, else as most"
            " sidecars of the folder are named, else photo.jpg.xmp."
        ),
    ] = Naming.auto,
    sidecars: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write the sidecars into this folder, in the same folders as the photos below PATH.",
            show_default="beside the photos",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where --write keeps what --undo needs; a plan of an earlier run gets the changes of this one too.",
            show_default="moslens-rate-TIME.jsonl in the current folder",
        ),
    ] = None,
    undo: Annotated[
        Path | None,
        typer.Option(metavar="PLAN", help="Take back the changes of a plan. Sidecars changed since are left."),
    ] = None,
    format: Annotated[
        RatingFormat | None,
        typer.Option(help="How to print rows.", show_default="a table on a terminal, jsonl elsewhere"),
    ] = None,
    model: Model = None,
    workers: Workers = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    time_limit: TimeLimit = 120.0,
) -> None:
    """Write star ratings from scores into XMP sidecars, which photo programs read.

    Shows what it would do; --write does it. A sidecar that is there keeps all else. A rating that a person set, in a
    sidecar or inside the photo, stays. Files that share a sidecar, such as a raw file and its JPEG, are one photo. A
    run that was stopped goes on when it is repeated. Exit code: 0 all done, 1 some rows are errors (with --undo:
    some sidecars were left or not found), 2 wrong use, 130 interrupted, 143 terminated.
    """
    table = (format or (RatingFormat.table if sys.stdout.isatty() else RatingFormat.jsonl)) == RatingFormat.table
    if undo is not None:
        if paths or write or plan is not None:
            raise ConfigError("--undo takes back a plan: it goes without PATH, --write and --plan")
        with quiet_end():
            _undo(undo, table=table)
        return
    if not paths:
        raise ConfigError("which photos? Give files, folders or globs, or a plan to --undo")
    if plan is not None and not write:
        raise ConfigError("--plan is of a run with --write")
    limits = parse_stars(stars, reject)
    # Read to the end before anything is written: files that share a sidecar may lie far from each other.
    listing = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    photos = find_photos(require_pictures(paths, listing), paths, naming=naming, folder=sidecars)

    from moslens.bulk.watched import WatchedScorer
    from moslens.system.interrupts import signal_of

    found: Counter[str] = Counter()
    written = Plan(plan or Path(time.strftime("moslens-rate-%Y%m%d-%H%M%S.jsonl"))) if write else None
    start = time.monotonic()
    stopped = 0
    # Where the rows are on the terminal themselves there is no bar.
    hidden: AbstractContextManager[Callable[[], None]] = nullcontext(lambda: None)
    bar = hidden if sys.stdout.isatty() else progress("rating", len(photos))
    with quiet_end(), WatchedScorer(model, time_limit=time_limit) as scorer, bar as advance:

        def show(rated: Rated) -> None:
            found[rated.action or "error"] += 1
            typer.echo(_line(rated) if table else json.dumps(rated.to_row()))
            advance()

        if table:
            typer.echo(HEADER)
        rater = Rater(photos, limits, scorer.model_id, plan=written, overwrite=overwrite, on_photo=show)
        try:
            score_all(scorer, rater.to_score(), rater, RunCounts(), workers=workers, max_pixels=max_pixels)
            rater.finish()
        except KeyboardInterrupt as stop:
            stopped = signal_of(stop)
        finally:
            rater.close()
    _end(found, start, stopped, written)


def _end(found: Counter[str], start: float, stopped: int, plan: Plan | None) -> None:
    parts = ", ".join(f"{found[action]} {action}" for action in Action if found[action])
    rest = f": {parts}" if parts else ""
    if plan is None:
        rest += "; nothing was written, --write does it" if found[Action.create] + found[Action.change] else ""
    elif found[Action.create] + found[Action.change]:
        rest += f"; to take it back: moslens rate --undo {printable(str(plan.path))}"
    counts = RunCounts(written=found.total(), written_errors=found["error"])
    end_run(counted(counts.written, "photo"), counts, time.monotonic() - start, stopped, rest)


def _line(rated: Rated) -> str:
    """A photo as a line of the table."""
    name = printable(rated.sidecar)
    if rated.error is not None:
        return f"{'-':>6}  {'-':<8}  {'error':<6}  {printable(rated.error['message'])}"
    if rated.action == Action.keep:
        where = "" if rated.where in (None, rated.sidecar) else f" (in {printable(str(rated.where))})"
        return f"{'-':>6}  {printable(str(rated.before)):<8}  {rated.action:<6}  {name}{where}"
    marks = "rejected" if rated.rating == -1 else "*" * (rated.rating or 0)
    notes = f"  ({'; '.join(note_words(rated.notes))})" if rated.notes else ""
    return f"{rated.score:6.1f}  {marks:<8}  {rated.action:<6}  {name}{notes}"


def _undo(plan: Path, *, table: bool) -> None:
    start = time.monotonic()
    found: Counter[str] = Counter()
    for sidecar, outcome in undo(plan):
        error = None
        if isinstance(outcome, MoslensError):
            error = {"code": outcome.code, "message": str(outcome)}
        action = None if isinstance(outcome, MoslensError) else outcome
        found[action or "error"] += 1
        if table:
            words = printable(sidecar if error is None else error["message"])
            typer.echo(f"{action or 'error':<8}  {words}")
        else:
            row = {**name_fields("sidecar", sidecar), "status": "error" if error else "ok", "action": action}
            typer.echo(json.dumps({**row, "error": error}))
    parts = ", ".join(f"{found[outcome]} {outcome}" for outcome in Undone if found[outcome]) or "none"
    changes, seconds = counted(found.total(), "change"), time.monotonic() - start
    typer.echo(f"{changes} in {seconds:.1f} s, {found['error']} of them errors: {parts}", err=True)
    if found["error"] or found[Undone.left] or found[Undone.missing]:
        raise typer.Exit(1)
