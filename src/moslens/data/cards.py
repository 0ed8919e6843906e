"""The cards of the data sets that are read in their released layout: ``cards.toml`` as typed records.

docs/datasets.md lists the sources of its facts.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from moslens.data.records import DatasetCard
from moslens.errors import DatasetError
from moslens.system.text import did_you_mean


@cache
def all_cards() -> tuple[DatasetCard, ...]:
    """Every card, in the order of ``cards.toml``."""
    text = files("moslens.data").joinpath("cards.toml").read_text(encoding="utf-8")
    return tuple(_card(name, table) for name, table in tomllib.loads(text).items())


def _card(name: str, table: dict[str, Any]) -> DatasetCard:
    # TOML has arrays where a frozen record has tuples, and folds long texts over lines.
    fields: dict[str, Any] = {"name": name}
    for key, value in table.items():
        fields[key] = tuple(value) if isinstance(value, list) else value
        if isinstance(value, str):
            fields[key] = " ".join(value.split())
    return DatasetCard(**fields)


def find_card(name: str) -> DatasetCard:
    """The card with this name or alias, case ignored. Raises DatasetError where there is none."""
    wanted = name.lower().replace("_", "-")
    for card in all_cards():
        if wanted in (card.name, *card.aliases):
            return card
    known = ", ".join(card.name for card in all_cards())
    hint = did_you_mean(wanted, [name for card in all_cards() for name in (card.name, *card.aliases)])
    raise DatasetError(f"no data set is called {name!r}; {hint}known: {known}, or the path of a .csv file")
