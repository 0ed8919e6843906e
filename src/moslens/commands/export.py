"""``moslens export RUN --output DIR``."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    output: Annotated[Path, typer.Option(help="The model folder to write.")],
    card: Annotated[Path, typer.Option(help="The words of the card: name, licence, trained_on, limits (TOML).")],
    folds: Annotated[
        Path | None,
        typer.Option(help="Folder of split-N runs whose held-out predictions calibrate the model."),
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="Result file whose medians go on the card. Repeatable.")
    ] = None,
    pool: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pristine pool, whose held-out photos calibrate the labels of blocks.",
            show_default="where the run found it",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option(help="Whether a student with blocks is exported with its quality maps.")
    ] = True,
) -> None:
    """Turn a trained run into a model folder: ONNX, card, calibration, test vector, checked against torch."""
    from moslens.export import export, read_card_text

    words = read_card_text(card)
    made = export(run, output, words, folds=folds, results=results or (), pool=pool, explain=explain)
    typer.echo(f"{made.id}: {output}", err=True)
