"""``moslens average RUN... --output DIR``."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Finished runs, or folders of split-N runs of the same N.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the average, or of its split-N.")],
    weights: Annotated[
        bool, typer.Option("--weights", help="Average the weights into one run, a soup, instead of the predictions.")
    ] = False,
) -> None:
    """Make one model of several finished runs that learned from the same labelled photos.

    An ensemble predicts the mean of what its members predict; evaluate and compare open its folder like a run. A soup
    is one network with the mean of the weights, as cheap as a single run.
    """
    from moslens.train.average import average

    for folder in average(runs, output, weights=weights):
        typer.echo(f"{folder}: the mean of {len(runs)} runs")
