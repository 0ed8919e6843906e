"""``moslens models``: what is at hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from moslens.cli.tables import align
from moslens.scoring.card import DEFAULT_MODEL, Card, find_model, shipped


def run(
    folders: Annotated[
        list[str] | None,
        typer.Argument(metavar="DIR", help="Model folders to list too, or ids in the Hugging Face cache."),
    ] = None,
) -> None:
    """List the shipped models, and those named: id, licence, size and what the card says."""
    places: list[Path] = [*shipped().values(), *map(find_model, folders or [])]
    if not places:
        typer.echo("no model is shipped with this build", err=True)
    for place in places:
        card = Card.read(place)
        size = (card.folder / card.file).stat().st_size / 1e6
        word = "   (used unless --model names another)" if card.folder == shipped().get(DEFAULT_MODEL) else ""
        typer.echo(f"{card.id}{word}")
        low, high = card.record.get("range", (0, 100))
        calibration = card.record["calibration"]
        lines = {
            "file": f"{card.folder / card.file} ({size:.1f} MB)",
            "sha256": card.sha256,
            "licence": card.licence,
            "scale": f"{low} to {high}, {card.record.get('direction', 'higher is better')}",
            "interval": f"+/- {card.calibration.radius:g} at {calibration.get('coverage', 0.9):.0%} coverage"
            f" ({calibration.get('fitted_on', 'unknown data')})",
            "trained on": card.record.get("trained_on"),
            "limits": "; ".join(card.record.get("limits", [])),
        }
        for name, text in lines.items():
            typer.echo(f"  {name:<12}{text or 'not stated'}")
        for line in _metrics(card.record.get("metrics", {})):
            typer.echo(f"  {line}")


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    """A table of the median figures of each data set. A value that is no such record stands as it is."""
    records = {name: value["median"] for name, value in metrics.items() if _is_record(value)}
    figures = list(dict.fromkeys(figure for record in records.values() for figure in record))
    rows = [
        [name, *(f"{record[key]:.3f}" if key in record else "" for key in figures)] for name, record in records.items()
    ]
    table = align([["metrics", *figures], *rows]).splitlines() if rows else []
    return table + [f"{name}  {value}" for name, value in metrics.items() if name not in records]


def _is_record(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("median"), Mapping)
