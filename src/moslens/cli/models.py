"""``moslens models``: what is at hand."""

from pathlib import Path
from typing import Annotated

import typer

from moslens.scoring.card import DEFAULT_MODEL, Card, shipped


def run(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="DIR", help="Model folders to list after the shipped ones.")
    ] = None,
) -> None:
    """List the shipped models, and those in the folders given: id, licence, size and what the card says."""
    places: list[Path] = [*shipped().values(), *map(Path, folders or [])]
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
            "licence": card.record.get("licence"),
            "scale": f"{low} to {high}, {card.record.get('direction', 'higher is better')}",
            "interval": f"+/- {card.calibration.radius:g} at {calibration.get('coverage', 0.9):.0%} coverage"
            f" ({calibration.get('fitted_on', 'unknown data')})",
            "trained on": card.record.get("trained_on"),
            "metrics": ", ".join(f"{name} {value}" for name, value in card.record.get("metrics", {}).items()),
            "limits": "; ".join(card.record.get("limits", [])),
        }
        for name, text in lines.items():
            typer.echo(f"  {name:<12}{text or 'not stated'}")
