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
    head: Annotated[
        str,
        typer.Option(
            help="What names faults in the quality maps of a student with blocks: fitted (a head fitted on its block"
            " tokens), trained (the run's own), none (no maps)."
        ),
    ] = "fitted",
) -> None:
    """Turn a trained run into a model folder: ONNX, card, calibration, test vector, checked against torch."""
    from moslens.export import export, read_card_text

    words = read_card_text(card)
    made = export(run, output, words, folds=folds, results=results or (), pool=pool, head=head)
    typer.echo(f"{made.id}: {output}", err=True)
