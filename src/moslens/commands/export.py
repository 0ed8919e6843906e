"""``moslens export RUN|MODEL --output DIR [--int8]``."""

from pathlib import Path
from typing import Annotated

import typer

from moslens.errors import ConfigError


def run(
    run: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A finished run folder; with --int8 also a model.")],
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
            help="Folder of the pristine pool, whose held-out photos calibrate the labels of blocks, and whose"
            " training photos the ranges of an int8 model.",
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
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also write the int8 twin, to DIR-int8. Of a MODEL folder or shipped name: write its twin to DIR.",
        ),
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="Labelled photos (a name or CSV) on which the int8 twin is compared.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="The folder the data set lies in.")] = None,
) -> None:
    """Turn a trained run into a model folder: ONNX, card, calibration, test vector, checked against torch."""
    from moslens.runtime import Card, shipped

    model = shipped().get(str(run), run)
    if (model / "model.onnx").is_file():
        if not int8:
            raise ConfigError("is a model already: --int8 writes its int8 twin", run)
        made, twin = Card.read(model), output
    else:
        from moslens.export import export, read_card_text

        if card is None:
            raise ConfigError("a run needs --card, the words of its card", run)
        words = read_card_text(card)
        made = export(run, output, words, folds=folds, results=results or (), pool=pool, head=head)
        typer.echo(f"{made.id}: {output}", err=True)
        twin = output.with_name(f"{output.name}-int8")
    if int8:
        _quantise(made.folder, twin, pool, dataset, root)


def _quantise(model: Path, output: Path, pool: Path | None, dataset: str | None, root: Path | None) -> None:
    from moslens.data.sets import load_dataset
    from moslens.quantise import compare, quantise
    from moslens.runtime import Card

    labelled = None if dataset is None else load_dataset(dataset, root)
    training = Card.read(model).record.get("training", {})
    place = pool or training.get("bdm", {}).get("root")
    if place is None:
        raise ConfigError("an int8 model needs --pool, the folder of pristine photos")
    made = quantise(model, output, Path(place))
    line = f"{made.id}: {output}"
    if labelled is not None:
        found = compare(model, output, labelled)
        line += f", SRCC to its twin {found['srcc_to_full']:.4f}, loss of SRCC {found['srcc_loss']:.4f}"
        line += "" if found["accepted"] else ": outside the bounds, use the twin"
    typer.echo(line, err=True)
