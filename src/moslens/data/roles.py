"""What each data set and folder of photos may be used for: ``roles.toml`` as typed records, and a folder's check."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from moslens.data.cards import all_cards
from moslens.data.records import Dataset
from moslens.errors import ConfigError

Use = Literal["trains", "labelled", "tests"]


@dataclass(frozen=True)
class Role:
    """The role of a data set or folder of photos; ``roles.toml`` says what the roles mean."""

    name: str
    role: Use
    what: str
    held_out: float = 0.0

    def __post_init__(self) -> None:
        if self.role not in get_args(Use):
            raise ConfigError(f"the role of {self.name} is one of {', '.join(get_args(Use))}, not {self.role!r}")


@cache
def stated_roles() -> tuple[Role, ...]:
    """The roles of ``roles.toml``, in its order."""
    text = files("moslens.data").joinpath("roles.toml").read_text(encoding="utf-8")
    return tuple(Role(name, **table) for name, table in tomllib.loads(text).items())


def all_roles() -> tuple[Role, ...]:
    """Every role: the stated ones, then those of the data sets that only have a card, which are labelled."""
    names = {role.name for role in stated_roles()}
    cards = (card for card in all_cards() if card.name not in names)
    return stated_roles() + tuple(Role(card.name, "labelled", card.title) for card in cards)


def refuse_as_pool(folder: Path) -> None:
    """ConfigError where a folder of photos without scores is, lies directly in, or holds a folder that trains nothing.

    Those are the folders of ``roles.toml`` that are tests or are labelled, whose photos come in by ``data.name`` alone.
    """
    # Other data sets have names, such as bid, that folders of any content have: refuse_labelled tells their photos.
    refused = {role.name: role for role in stated_roles() if role.role != "trains"}
    resolved = folder.resolve()
    below = (path.name for path in resolved.rglob("*") if path.is_dir())
    for name in (resolved.name, resolved.parent.name, *below):
        role = refused.get(name.casefold())
        if role is not None:
            why = "it is a test" if role.role == "tests" else "its photos have scores: only data.name reads them"
            raise ConfigError(f"{role.name} ({role.what}) is no pool to train from: {why}", folder)


def refuse_labelled(photos: Iterable[Path], dataset: Dataset) -> None:
    """ConfigError where one of ``photos`` is a picture of the data set: the same file, or its name and size."""
    samples = [sample.path for sample in dataset.samples]
    places = {path.resolve() for path in samples}
    copies = {(path.name, path.stat().st_size) for path in samples}
    for photo in photos:
        if photo.resolve() in places or (photo.name, photo.stat().st_size) in copies:
            raise ConfigError(f"is a picture of {dataset.name}, whose photos come in by their split alone", photo)
