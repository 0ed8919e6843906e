"""Many runs by one command: each in a child process, several at once.

A child ends when its standard input does, which this process holds open: no child outlives it, whatever ends it. What a
child writes to standard error goes into ``messages.txt`` of its run.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslens.errors import CheckpointError, ConfigError, MoslensError
from moslens.system.children import import_path
from moslens.system.cores import available_cores
from moslens.system.interrupts import Interrupts, Stopped
from moslens.system.text import printable
from moslens.train import train
from moslens.train.config import TrainConfig, from_dict
from moslens.train.progress import LINE_EVERY, duration, figures_of
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)

MOST_ON_A_GPU = 10
_TICK = 0.2
_LAST_LINES = 12
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from moslens.train.splits import child; child()"


@dataclass(frozen=True, eq=False)
class Job:
    """One run to train: its configuration and its folder."""

    config: TrainConfig
    folder: Path

    @property
    def run(self) -> Run:
        """The files of the run."""
        return Run(self.folder)

    @property
    def finished(self) -> bool:
        """Whether the run is trained and measured with this configuration."""
        run = self.run
        return run.finished and run.metrics_file.is_file() and run.config == self.config


def split_jobs(config: TrainConfig, output: Path, splits: Sequence[int]) -> list[Job]:
    """One run for each split, in ``output/split-N``. ConfigError for a stage without opinion scores."""
    if not config.gives_scores:
        raise ConfigError(f"the stage {config.stage} learns from no opinion scores: it has no splits")
    return [
        Job(dataclasses.replace(config, data=dataclasses.replace(config.data, split=k)), output / f"split-{k}")
        for k in splits
    ]


def runs_at_once() -> int:
    """How many runs are trained at once where nobody says: one a core, or ten on a GPU, which they share."""
    import torch

    return MOST_ON_A_GPU if torch.cuda.is_available() else available_cores()


def train_many(
    jobs: Sequence[Job],
    at_once: int | None = None,
    *,
    resume: bool = False,
    on_end: Callable[[Job, str | None], None] = lambda job, lines: None,
) -> dict[Path, str]:
    """Train runs, ``at_once`` of them at a time. Returns the last lines of each that failed, by its folder.

    With ``resume``, finished runs are kept and others go on. ``on_end`` gets each run that ended, with its last lines
    where it failed. Shows a bar a run on a terminal and logs elsewhere.
    CheckpointError where a folder holds a run and ``resume`` is false. Stopped, when all have saved, where SIGINT or
    SIGTERM arrives.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("several runs are trained in a process each: leave out accelerate launch")
    for job in jobs:
        if job.run.config_file.exists() and not resume:
            raise CheckpointError("holds a run already: --resume continues it", job.folder)
    waiting = deque(job for job in jobs if not job.finished)
    if not waiting:
        return {}
    if waiting[0].config.stage == "student":
        from moslens.train.student import prepare_shared

        # The bank is that of all, opinions are those of a split.
        for job in waiting if waiting[0].config.distill.holds_opinions else [waiting[0]]:
            prepare_shared(job.config)
    at_once = min(at_once or runs_at_once(), len(waiting))
    with Interrupts(), _board(jobs) as show:
        return _run(waiting, at_once, show, on_end)


def _run(
    waiting: deque[Job],
    at_once: int,
    show: Callable[[Any, Any], None],
    on_end: Callable[[Job, str | None], None],
) -> dict[Path, str]:
    threads = max(1, available_cores() // at_once)
    running: dict[Job, subprocess.Popen[bytes]] = {}
    failed: dict[Path, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                running[job] = _start(job, threads)
            time.sleep(_TICK)
            for job in [job for job, process in running.items() if process.poll() is not None]:
                code = _end(running.pop(job))
                if code:
                    failed[job.folder] = _last_lines(job.run, code)
                log.info("%s: %s", job.folder, "failed" if code else "done")
                on_end(job, failed.get(job.folder))
            show(running, failed)
    except Stopped:
        for process in running.values():
            process.terminate()
        for job, process in running.items():
            if process.wait() == 128 + signal.SIGTERM:
                log.warning("%s: stopped and saved: --resume goes on there", job.folder)
        raise
    finally:
        for process in running.values():
            process.kill()
            _end(process)
    return failed


def _start(job: Job, threads: int) -> subprocess.Popen[bytes]:
    job.folder.mkdir(parents=True, exist_ok=True)
    given = {"config": job.config.to_dict(), "run": str(job.folder)}
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    command = [sys.executable, "-c", _START, json.dumps(import_path()), json.dumps(given)]
    with job.run.messages_file.open("ab") as messages:
        # A session of its own: Ctrl-C reaches this process alone, which tells its children.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=messages, stderr=messages, env=environment, start_new_session=True
        )


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child to end; its exit code."""
    code = process.wait()
    assert process.stdin is not None
    process.stdin.close()
    return code


def _last_lines(run: Run, code: int) -> str:
    lines = run.messages_file.read_text("utf-8", "replace").splitlines()[-_LAST_LINES:]
    how = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return "\n".join([how, *map(printable, lines)])


def child() -> None:
    """Train the run that the second argument names, as JSON: ``config`` and ``run``."""
    given = json.loads(sys.argv[2])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="moslens: %(levelname)s: %(message)s")
    logging.getLogger("moslens.train").setLevel(logging.INFO)
    try:
        train(from_dict(given["config"]), Path(given["run"]), resume=True)
    except MoslensError as error:
        sys.exit(f"moslens: {error}")
    except Stopped as stop:
        sys.exit(128 + stop.signal)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


@contextmanager
def _board(jobs: Sequence[Job]) -> Iterator[Callable[[Any, Any], None]]:
    """Yield a function that shows how far each run is, given the running and the failed ones."""
    if not sys.stderr.isatty():
        last = time.monotonic()

        def tell(running: dict[Job, Any], failed: dict[Path, str]) -> None:
            nonlocal last
            if time.monotonic() - last < LINE_EVERY:
                return
            last = time.monotonic()
            for job in running:
                log.info("%s: %s", job.folder, _progress(job)[1])

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {job: bars.add_task(printable(job.folder.name), total=1.0, figures="waiting") for job in jobs}
        whole = bars.add_task("all", total=float(len(jobs)), figures="")
        started = time.monotonic()

        def draw(running: dict[Job, Any], failed: dict[Path, str]) -> None:
            shares = []
            for job, task in tasks.items():
                share, figures = _progress(job)
                if job.folder in failed:
                    figures = "failed"
                elif job.finished:
                    share, figures = 1.0, "done"
                elif job not in running and not share:
                    figures = "waiting"
                bars.update(task, completed=share, figures=figures)
                shares.append(1.0 if job.folder in failed else share)
            bars.update(whole, completed=sum(shares), figures=duration(time.monotonic() - started))

        yield draw


def _progress(job: Job) -> tuple[float, str]:
    """The share of the steps that a run has done, and words on it."""
    row = job.run.last_row()
    if row is None:
        return 0.0, "starting"
    return row["step"] / row["of"], f"step {row['step']} of {row['of']}, {figures_of(row, job.config)}"
