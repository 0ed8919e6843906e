"""``moslens train CONFIG --output RUN``."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    config: Annotated[Path, typer.Argument(help="Configuration file (TOML).")],
    output: Annotated[Path, typer.Option(help="Run folder: checkpoints, log, weights.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: section.key=value. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
) -> None:
    """Train a model from a configuration file: stages quality, teacher, student.

    Every run checkpoints; after a kill the same command with --resume goes on as if nothing had happened.
    Several processes: accelerate launch --num_processes 2 -m moslens train ...
    """
    from moslens.train import train
    from moslens.train.config import load_config

    train(load_config(config, changes or ()), output, resume=resume)
