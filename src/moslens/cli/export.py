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
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder; with --hub alone, a model.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The model folder to write.", show_default="none; needed for a run"),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="The words of a run's card: name, licence, trained_on, limits (TOML).")
    ] = None,
    card_template: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only write this file: words for --card, to be edited, from what RUN knows."),
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
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="naming.KEY=VALUE",
            help="Change a setting of the fitted head: naming.faults, naming.precision. Repeatable.",
        ),
    ] = None,
    mos_range: Annotated[
        str | None,
        typer.Option(help="LOW:HIGH, the ends of the scale of the labels, for a run by version 0.1 on a CSV."),
    ] = None,
    direction: Annotated[
        Better | None, typer.Option(help="Which labels of such a run are better.", show_default=False)
    ] = None,
    hub: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new or empty folder for the model as a Hugging Face repository."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", hidden=True, is_eager=True, callback=_no_int8)] = False,
    dataset: Annotated[str | None, typer.Option(hidden=True, is_eager=True, callback=_no_int8)] = None,
    root: Annotated[Path | None, typer.Option(hidden=True, is_eager=True, callback=_no_int8)] = None,
) -> None:
    """Turn a trained run into a model folder: ONNX, card, calibration, test vector, checked against torch.

    With --hub, the model is also written as a Hugging Face repository, with a model card; of a model that is there
    already, with --hub alone. Nothing is uploaded: hf upload does that.
    """
    if card_template is not None:
        from moslens.release.card_template import write_card_template

        write_card_template(run, card_template)
        typer.echo(f"{card_template}: edit it, then give it as --card", err=True)
        return
    from moslens.release.hub import require_empty, write_repository

    if hub is not None:
        require_empty(hub)
    if hub is not None and output is None:
        from moslens.scoring.card import find_model

        typer.echo(f"{write_repository(find_model(str(run)), hub).id}: {hub}", err=True)
        return
    if output is None:
        raise ConfigError("a run needs --output, the model folder to write")
    if not run.is_dir():
        raise ConfigError("no such folder", run)
    if (run / "ensemble.json").is_file():
        raise ConfigError(
            "is an average of several networks; one of weights can be exported (moslens average --weights)", run
        )
    if (run / "model.onnx").is_file():
        raise ConfigError("is a model already: export takes a run, and --hub alone a model", run)
    if card is None:
        raise ConfigError("a run needs --card, the words of its card; --card-template FILE writes a file to edit", run)
    if (mos_range is None) != (direction is None):
        raise ConfigError("--mos-range and --direction belong together: state both")
    labels = None if mos_range is None or direction is None else parse_scale(mos_range, direction)
    from moslens.release.export import export, read_card_text

    words = read_card_text(card)
    made = export(
        run,
        output,
        words,
        folds=folds,
        results=results or (),
        pool=pool,
        head=head,
        labels=labels,
        naming=settings or (),
    )
    typer.echo(f"{made.id}: {output}", err=True)
    if hub is not None:
        write_repository(output, hub)
        typer.echo(f"{made.id}: {hub}", err=True)
