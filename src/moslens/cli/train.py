"""``moslens train CONFIG --output RUN``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moslens.cli.options import parse_seeds
from moslens.cli.tables import align
from moslens.cli.terminal import log_training
from moslens.data.records import check_stated_scale
from moslens.errors import ConfigError

if TYPE_CHECKING:
    from moslens.train.config import TrainConfig
    from moslens.train.run_folder import Run


def run(
    config: Annotated[Path, typer.Argument(help="Configuration file (TOML).")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Run folder: checkpoints, log, weights. With --splits: split-N in it."),
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: section.key=value. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    splits: Annotated[
        str | None, typer.Option(help="Train a run on each of these splits, such as 0-9 or 0,3,7.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --splits: runs at once.", show_default="one a core; on a GPU ten, which they share"
        ),
    ] = None,
) -> None:
    """Train a model from a configuration file: stages quality, teacher, distillation, student.

    Every run checkpoints; after a kill the same command with --resume goes on as if nothing had happened. Ctrl-C and
    SIGTERM save the step in work first. Exit code: 0 done, 1 a split failed, 2 wrong use, 130 interrupted, 143
    terminated. Several processes: accelerate launch --num_processes 2 -m moslens train ...
    """
    if jobs is not None and splits is None:
        raise ConfigError("--jobs belongs to --splits")
    from moslens.system.interrupts import signal_of
    from moslens.train import train
    from moslens.train.config import load_config, require_weights

    settings = load_config(config, changes or ())
    require_weights(settings.model.weights)
    _check_labels(settings, config)
    log_training()
    try:
        if splits is None:
            train(settings, output, resume=resume)
            _summarise(output, settings)
        else:
            _train_splits(settings, output, splits, jobs, resume)
    except KeyboardInterrupt as stop:
        raise typer.Exit(128 + signal_of(stop)) from None


def _check_labels(settings: TrainConfig, config: Path) -> None:
    """ConfigError, naming ``config``, where it states what its labels mean and that cannot be.

    So a run on many splits says it once, before the first.
    """
    from moslens.train.quality import stated_scale

    check_stated_scale(settings.data.mos_range, settings.data.direction, config)
    try:
        stated_scale(settings.data)
    except ConfigError as error:
        if error.path is not None:
            raise
        raise ConfigError(error.message, config) from error


def _train_splits(config: TrainConfig, output: Path, splits: str, jobs: int | None, resume: bool) -> None:
    from moslens.train.splits import split_jobs, train_many

    seeds = parse_seeds(splits)
    if min(seeds) < 0:
        raise ConfigError("--splits of a training are seeds such as 0-9: for every picture, --set data.split=-1")
    work = split_jobs(config, output, seeds)
    failed = train_many(work, jobs, resume=resume)
    typer.echo(table([job.run for job in work if job.run.metrics_file.is_file()]))
    for folder, lines in failed.items():
        typer.echo(f"{folder}: failed, {lines}", err=True)
    if failed:
        raise typer.Exit(1)


def table(runs: Sequence[Run]) -> str:
    """SRCC and raw PLCC (no curve fitted) of measured runs by split, then median and mean. A missing figure is "-"."""
    found = [one.metrics() for one in runs]
    rows = [["split", "SRCC", "PLCC raw"]]
    for one, figures in zip(runs, found, strict=True):
        name = one.folder.name.removeprefix("split-")
        rows.append([name, _figure(figures["srcc"]), _figure(figures["plcc_raw"])])
    for word, middle in (("median", statistics.median), ("mean", statistics.fmean)):
        columns = [[f[key] for f in found if f[key] is not None] for key in ("srcc", "plcc_raw")]
        rows.append([word, *(_figure(middle(column) if column else None) for column in columns)])
    return align(rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _summarise(output: Path, config: TrainConfig) -> None:
    """Print steps, time, speed, final loss, figures on the held-out part and where the files are: main process only."""
    from accelerate import PartialState

    from moslens.train.progress import duration
    from moslens.train.run_folder import Run

    run = Run(output)
    row = run.last_row()
    if row is None or not PartialState().is_main_process:
        return
    batch = config.distill.batch if config.stage == "distillation" else config.optim.batch
    pictures_a_second = batch / row["seconds_a_step"]
    typer.echo(
        f"{row['step']} steps in {duration(run.seconds())}, {pictures_a_second:.1f} pictures a second,"
        f" final loss {row['loss']:.4f}",
        err=True,
    )
    if run.metrics_file.is_file():
        found = run.metrics()
        figures = f"SRCC {_figure(found['srcc'])}, PLCC raw {_figure(found['plcc_raw'])}"
        typer.echo(f"{found['part']} part, {len(run.predictions(found['part']))} pictures: {figures}", err=True)
    typer.echo(f"{output}: model.safetensors, log.jsonl, curves.png", err=True)
