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
) -> None:
    """Turn a trained run into a model folder: ONNX, card, calibration, test vector, checked against torch."""
    from moslens.export import export, read_card_text

    made = export(run, output, read_card_text(card), folds=folds, results=results or ())
    typer.echo(f"{made.id}: {output}", err=True)
