"""``moslens export RUN --output DIR``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from moslens.cli.options import Better, parse_scale
from moslens.errors import ConfigError


def _no_int8(value: Any) -> Any:
    if value:
        raise ConfigError("int8 models are no longer made (--int8, --dataset, --root): they gained too little speed")
    return value


def run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    output: Annotated[Path, typer.Option(help="The model folder to write.")],
    card: Annotated[
        Path | None, typer.Option(help="The words of a run's card: name, licence, trained_on, limits (TOML).")
    ] = None,
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
    mos_range: Annotated[
        str | None,
        typer.Option(help="LOW:HIGH, the ends of the scale of the labels, for a run by version 0.1 on a CSV."),
    ] = None,
    direction: Annotated[
        Better | None, typer.Option(help="Which labels of such a run are better.", show_default=False)
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", hidden=True, is_eager=True, callback=_no_int8)] = False,
    dataset: Annotated[str | None, typer.Option(hidden=True, is_eager=True, callback=_no_int8)] = None,
    root: Annotated[Path | None, typer.Option(hidden=True, is_eager=True, callback=_no_int8)] = None,
) -> None:
    """Turn a trained run into a model folder: ONNX, card, calibration, test vector, checked against torch."""
    if (run / "model.onnx").is_file():
        raise ConfigError("is a model already: export takes a run", run)
    if card is None:
        raise ConfigError("a run needs --card, the words of its card", run)
    if (mos_range is None) != (direction is None):
        raise ConfigError("--mos-range and --direction belong together: state both")
    labels = None if mos_range is None or direction is None else parse_scale(mos_range, direction)
    from moslens.release.export import export, read_card_text

    words = read_card_text(card)
    made = export(run, output, words, folds=folds, results=results or (), pool=pool, head=head, labels=labels)
    typer.echo(f"{made.id}: {output}", err=True)
