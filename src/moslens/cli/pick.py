"""``moslens pick``: options, run, exit code."""

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moslens.bulk.engine import RunCounts
from moslens.bulk.inputs import outside, require_pictures
from moslens.cli.options import MaxPixels, Model, Pictures, TimeLimit, Workers
from moslens.cli.score import FORMAT_OF, RowFormat
from moslens.cli.terminal import counted, end_run
from moslens.errors import ConfigError
from moslens.picture.limits import MAX_PIXELS
from moslens.system.progress import progress
from moslens.system.text import printable

if TYPE_CHECKING:
    from moslens.bulk.pick import Pick
    from moslens.bulk.transfer import TransferLog


class PickFormat(StrEnum):
    """How the picks are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"


def run(
    paths: Pictures,
    *,
    keep: Annotated[int, typer.Option(min=1, help="How many of each group to keep.")] = 1,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page with the groups, and thumbnails in a folder NAME-thumbnails beside it."),
    ] = None,
    move_to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Move the pictures that are NOT kept into this folder. Needs --yes."),
    ] = None,
    copy_to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Copy the pictures that ARE kept, and those without a near-duplicate, into this folder. Needs --yes.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do move or copy; without it only say how many.")] = False,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="A file of moslens score (jsonl, csv, parquet): pictures that have a row by this model are not scored"
            " again. New rows go behind, into jsonl and csv; such a file is made where it is missing."
        ),
    ] = None,
    format: Annotated[
        PickFormat | None,
        typer.Option(help="Default: a table of the groups on a terminal, jsonl elsewhere.", show_default=False),
    ] = None,
    model: Model = None,
    workers: Workers = None,
    max_pixels: MaxPixels = MAX_PIXELS,
    time_limit: TimeLimit = 120.0,
) -> None:
    """Group near-duplicates and frames of bursts, best first, and say which to keep.

    Two pictures are near-duplicates where they show the same, shifted by a few percent, turned a little, lighter or
    darker, or encoded anew; time and camera in EXIF data help to decide. The best has the higher score, at equal whole
    points the better detail, then fewer faults. Rows of all pictures go to standard output: group, place, keep,
    likeness, taken, moved_to, and the columns of moslens score.

    Nothing is moved or copied without --yes, and nothing is ever overwritten: a taken name gets -2, -3 ... Raw files
    and XMP sidecars go with their picture. DIR/moslens-pick.jsonl says what came from where; after a kill the same
    command goes on. What already lies in DIR is not picked from.

    Exit code: 0 all done, 1 some pictures could not be read, moved or copied, 2 wrong use, 130 interrupted, 143
    terminated.
    """
    from moslens.bulk.pick import need_image_hash, pick, score_rows
    from moslens.bulk.pick_page import check_page, write_page
    from moslens.bulk.transfer import TransferLog
    from moslens.bulk.watched import WatchedScorer
    from moslens.system.interrupts import signal_of
    from moslens.system.malloc import give_back_large_blocks

    if move_to is not None and copy_to is not None:
        raise ConfigError("--move-to and --copy-to exclude each other")
    folder, copy = move_to or copy_to, copy_to is not None
    if yes and folder is None:
        raise ConfigError("--yes needs --move-to or --copy-to")
    need_image_hash()
    if html is not None:
        check_page(html)
    kept = RowFormat.jsonl if scores is None else FORMAT_OF.get(scores.suffix.lower(), RowFormat.jsonl)
    if kept not in (RowFormat.jsonl, RowFormat.csv, RowFormat.parquet):
        raise ConfigError("--scores reads jsonl, csv and parquet", scores)
    give_back_large_blocks()
    start = time.monotonic()
    counts = RunCounts()
    picks: list[Pick] = []
    stopped = moved = 0
    with ExitStack() as stack:
        log = stack.enter_context(TransferLog(folder)) if folder is not None and yes else None
        try:
            if log is not None:
                moved += log.finish()
            files = _files(paths, folder, log)
            with WatchedScorer(model, time_limit=time_limit) as scorer, progress("scoring", len(files)) as advance:
                rows = score_rows(
                    scorer,
                    files,
                    counts,
                    scores=None if scores is None else str(scores),
                    format=kept,
                    workers=workers,
                    max_pixels=max_pixels,
                    on_row=advance,
                )
            with progress("comparing", len(files)) as advance:
                picks = pick(files, rows, keep=keep, workers=workers, max_pixels=max_pixels, on_picture=advance)
            if log is not None:
                moved += _transfer(log, picks, copy=copy)
            if html is not None:
                with progress("drawing", sum(one.group is not None for one in picks)) as advance:
                    write_page(html, picks, workers=workers, max_pixels=max_pixels, on_picture=advance)
        except KeyboardInterrupt as stop:
            stopped = signal_of(stop)
        problems = log.problems if log is not None else []
    if not stopped:
        _show(picks, format or (PickFormat.table if sys.stdout.isatty() else PickFormat.jsonl))
    for problem in problems:
        typer.echo(f"moslens: {printable(str(problem))}", err=True)
    _end(picks, counts, time.monotonic() - start, stopped, _rest(picks, folder, copy, moved if yes else None))
    if problems:
        raise typer.Exit(1)


def _files(paths: Sequence[str], folder: Path | None, log: "TransferLog | None") -> list[str]:
    """The pictures to pick from: each file once, none that lies in ``folder`` or that an earlier run moved there."""
    from moslens.bulk.pick import distinct_files, one_of_each_photo, refuse_urls

    files = one_of_each_photo(distinct_files(require_pictures(paths, sys.stdin.buffer)))
    if folder is None:
        return files
    files = list(outside(files, str(folder)))
    if not files:
        raise ConfigError("every picture given lies in it: give another folder, or other photos", folder)
    refuse_urls(files)
    return [path for path in files if log is None or os.path.lexists(path) or not log.took(path)]


def _transfer(log: "TransferLog", picks: Sequence["Pick"], *, copy: bool) -> int:
    """Move what is not kept, or copy what is; how many files are in their place."""
    chosen = {one.path: one for one in picks if one.keep is copy}
    for path, place in log.plan(list(chosen), copy=copy).items():
        chosen[path].moved_to = str(place)
    with progress("copying" if copy else "moving", log.waiting) as advance:
        done = log.finish(advance)
    failed = {problem.path for problem in log.problems}
    for one in chosen.values():
        if os.path.abspath(one.path) in failed:  # noqa: PTH100
            one.moved_to = None
    return done


def _rest(picks: Sequence["Pick"], folder: Path | None, copy: bool, moved: int | None) -> str:
    groups = counted(len({one.group for one in picks} - {None}), "group")
    text = f"; {groups}, {counted(sum(one.keep is False for one in picks), 'picture')} not kept"
    if folder is None:
        return text
    word = "copied" if copy else "moved"
    if moved is None:
        ready = counted(sum(one.keep is copy for one in picks), "picture")
        return f"{text}. With --yes {ready} would be {word} to {printable(str(folder))}"
    return f"{text}; {counted(moved, 'file')} {word} to {printable(str(folder))}"


def _end(picks: Sequence["Pick"], counts: RunCounts, seconds: float, stopped: int, rest: str) -> None:
    # A picture may have become unreadable since its row was written.
    errors = sum(one.row["status"] != "ok" for one in picks) if picks else counts.written_errors + counts.kept_errors
    total = RunCounts(written=len(picks) or counts.written + counts.kept, written_errors=errors)
    end_run(counted(total.written, "picture"), total, seconds, stopped, rest)


def _show(picks: Sequence["Pick"], format: PickFormat) -> None:
    if format is PickFormat.jsonl:
        for one in picks:
            typer.echo(json.dumps(one.to_row()))
        return
    if format is PickFormat.json:
        rows = {number: [one.to_row() for one in members] for number, members in groupby(picks, lambda one: one.group)}
        others = rows.pop(None, [])
        typer.echo(json.dumps({"groups": list(rows.values()), "others": others}, indent=1))
        return
    typer.echo(f"{'group':>5}  {'':4}  {'score':>6}  {'likeness':>8}  {'size':>13}  path")
    for one in picks:
        if one.group is not None:
            likeness = "" if one.place == 1 else f"{one.likeness:.2f}"
            word = "keep" if one.keep else "-"
            size = f"{one.row['width']} x {one.row['height']}"
            name = printable(str(one.row["path"]))
            typer.echo(f"{one.group:>5}  {word:4}  {one.row['score']:6.1f}  {likeness:>8}  {size:>13}  {name}")
        elif one.row["status"] != "ok":
            typer.echo(
                f"{'-':>5}  {'':4}  {'-':>6}  {one.row['error']['code']:>8}  {printable(one.row['error']['message'])}"
            )
