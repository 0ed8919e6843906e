"""``moslens datasets [show NAME | check NAME --root DIR]``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from moslens.cli.options import Root, parse_range
from moslens.cli.tables import align
from moslens.data.records import DatasetCard
from moslens.data.sets import DatasetCheck, all_cards, check_dataset, find_card, load_dataset
from moslens.errors import ConfigError, DatasetError
from moslens.system.text import printable_lines


class Action(StrEnum):
    """What to do with a card."""

    show = "show"
    check = "check"


def run(
    action: Annotated[Action | None, typer.Argument(help="Without it all cards are listed.")] = None,
    name: Annotated[str | None, typer.Argument(help="A data set's name, or a CSV to check.")] = None,
    *,
    root: Root = None,
    mos_range: Annotated[str, typer.Option(help="LOW:HIGH that the scores of a CSV lie in.")] = "0:100",
) -> None:
    """List the data sets that are read as released, show a card, or check a copy on disk.

    check names every missing or surplus file, wrong count and wrong score. Exit code 1 where something is missing
    or wrong; surplus files alone do no harm.
    """
    if action is None:
        typer.echo(_list())
    elif name is None:
        raise ConfigError(f"moslens datasets {action} needs a data set's name")
    elif action is Action.show:
        typer.echo(_card(find_card(name)))
    elif name.lower().endswith(".csv"):
        _check_csv(name, root, parse_range(mos_range))
    elif root is None:
        raise ConfigError("check needs --root, the folder the data set lies in")
    else:
        check = check_dataset(name, root)
        typer.echo(_report(check))
        if not check.complete:
            raise typer.Exit(1)


def _list() -> str:
    rows = [("name", "pictures", "content", "score", "title")]
    for card in all_cards():
        sign = ", read with changed sign" if card.direction == "lower" else ""
        score = f"{card.score} {card.range[0]:g} to {card.range[1]:g}, {card.direction} is better{sign}"
        rows.append((card.name, str(card.count), card.content, score, card.title))
    return f"{align(rows, left=5)}\n\nmoslens datasets show NAME: layout, licence, where to get it, citation"


def _card(card: DatasetCard) -> str:
    facts = {
        "pictures": f"{card.count}" + (f" of {card.references} references" if card.references else ""),
        "content": card.content,
        "score": f"{card.score} {card.range[0]:g} to {card.range[1]:g}",
        "0 to 100 is": str(card.scale),
        "labels": ", ".join(card.labels),
        "images in": ", ".join(card.images),
        "kinds": ", ".join(card.kinds),
        "also called": ", ".join(card.aliases),
        "official split": card.official_split,
        "licence": card.licence,
        "source": card.source,
        "cite": card.citation,
        "note": card.note,
        "not verified": card.unverified,
    }
    return "\n".join([f"{card.name}: {card.title}", *(f"  {key}: {text}" for key, text in facts.items() if text)])


def _check_csv(name: str, root: Path | None, mos_range: tuple[float, float]) -> None:
    try:
        dataset = load_dataset(name, root, mos_range=mos_range)
    except DatasetError as error:
        typer.echo(printable_lines(str(error), error.path))
        raise typer.Exit(1) from None
    typer.echo(f"{name}: {len(dataset.samples)} pictures, complete")


def _report(check: DatasetCheck) -> str:
    expected = f"expected {check.card.count}"
    lines = [f"{check.card.name} in {check.root}: {check.labelled} labelled pictures, {expected}"]
    lines += [f"wrong: {problem}" for problem in check.problems]
    lines += [f"missing: {path}" for path in check.missing]
    lines += [f"surplus: {path}" for path in check.surplus]
    return printable_lines("\n".join([*lines, "complete" if check.complete else "not complete"]))
