"""``moslens probe RUN...``: what the blocks of models know of local distortions."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moslens.cli.options import parse_seeds
from moslens.cli.tables import align
from moslens.errors import CheckpointError, OutputError
from moslens.system.progress import progress
from moslens.train import run_folder

if TYPE_CHECKING:
    from moslens.train.config import TrainConfig


def run(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Run folders of any stage, or folders of split-N runs. The first is the main one."
        ),
    ],
    *,
    teacher: Annotated[
        Path | None, typer.Option(help="Run folder of the teacher whose affinities the blocks are held against.")
    ] = None,
    pool: Annotated[
        Path | None, typer.Option(help="Folder of pristine photos, by default that of the first run's configuration.")
    ] = None,
    composites: Annotated[int, typer.Option(min=1, help="How many composites to ask about.")] = 600,
    splits: Annotated[str, typer.Option(help="Which runs of a folder of split-N runs.")] = "0-9",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the composites and of the folds of photos.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the figures to this JSON file.")] = None,
) -> None:
    """Ask the blocks of models which distortion they show, how strong it is, and how they resemble each other.

    Linear probes on composites of photos that no run learned from; no opinion scores are needed.
    """
    from moslens.evaluate import probe, record
    from moslens.train.distill.pool import open_pool

    start = time.monotonic()
    if output is not None and output.is_dir():
        raise OutputError("is a folder; --output names a JSON file", output)
    seeds = parse_seeds(splits)
    members = {folder: _members(folder, seeds) for folder in runs}
    configs = {run: config for found in members.values() for run, config in found.items()}
    first = next(iter(configs.values()))
    # A file is held out below a threshold: what the smallest share holds out, every run held out.
    learned = [config for config in configs.values() if config.stage != "quality"]
    learned += [] if teacher is None else [run_folder.Run(teacher).config]
    share = min((config.bdm.held_out for config in learned), default=first.bdm.held_out)
    photos = open_pool(pool or first.bdm.root, held_out=share)
    with progress("making composites", composites) as advance:
        asked = probe.make_composites(photos, first.data.working_size, composites, seed, teacher, advance)
    rows = []
    for folder, found in members.items():
        measured = []
        with progress(str(folder), len(found)) as advance:
            for run, config in found.items():
                tokens = probe.read_tokens(probe.describe_run(run), asked)
                split = None if config.stage == "teacher" else config.data.split
                measured.append({"seed": split, "epoch": config.optim.epochs, **probe.probe(tokens, asked, seed)})
                advance()
        rows.append(
            record.make_result(
                name=output.stem if output else "heterogeneity",
                config={
                    "composites": composites,
                    "seed": seed,
                    "working_size": first.data.working_size,
                    "teacher": teacher and teacher.resolve().name,
                },
                dataset=f"composites of {len(photos.held_out)} held-out pristine photos",
                protocol=f"linear probes of blocks, fitted, chosen and asked on other photos; {probe.FOLDS} folds",
                model=folder.resolve().name,
                splits=measured,
                seconds=time.monotonic() - start,
                data_hash=photos.hash_of(photos.held_out),
                figures=probe.FIGURES,
            )
        )
    kept = ("model", "splits", "median", "mean", "std")
    result = {
        **rows[0],
        "seconds": rows[-1]["seconds"],
        "chance": probe.chance(asked),
        "models": [{key: row[key] for key in kept} for row in rows],
    }
    if output is not None:
        record.write_result(output, result)
    typer.echo(table(result))


def _members(folder: Path, seeds: Sequence[int]) -> dict[Path, "TrainConfig"]:
    """The run in a folder, or those of its split-N runs that are asked for. CheckpointError where there is none."""
    from moslens.train.run_folder import find_runs

    found = {run.folder: run.config for run in find_runs(folder)}
    if not found:
        raise CheckpointError("no run: neither config.json nor split-N/config.json", folder)
    chosen = {run: config for run, config in found.items() if run == folder or config.data.split in seeds}
    if not chosen:
        raise CheckpointError(f"no run of split {', '.join(map(str, seeds))}", folder)
    return chosen


def table(result: Mapping[str, Any]) -> str:
    """The medians of every model, and the figures of the best constant answer."""
    from moslens.evaluate.probe import FIGURES

    rows = [["model", "runs", *(name.replace("_", " ") for name in FIGURES)]]
    rows += [[row["model"], str(len(row["splits"])), *_cells(row["median"])] for row in result["models"]]
    rows.append(["best constant answer", "", *_cells(result["chance"])])
    blocks = result["splits"][0]["blocks"]
    return f"{result['dataset']}, {blocks} degraded blocks: {result['protocol']}\n{align(rows)}"


def _cells(figures: Mapping[str, float]) -> list[str]:
    from moslens.evaluate.probe import FIGURES

    values = [figures.get(name, math.nan) for name in FIGURES]
    return ["-" if math.isnan(value) else f"{value:.4f}" for value in values]
