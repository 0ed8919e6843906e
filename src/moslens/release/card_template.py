"""A TOML file for the words of a model's card, with what the run itself knows filled in."""

from __future__ import annotations

import json
from pathlib import Path

from moslens.data.sets import is_csv
from moslens.errors import ConfigError
from moslens.system.files import write_text
from moslens.train.quality import dataset_of, split_of
from moslens.train.run_folder import Run

_TEMPLATE = """\
# What the card of the model says in words. moslens export --card reads this file.
name = {name}

# Who may use the model, and for what. An SPDX name first, such as "CC-BY-4.0"; other words after a semicolon.
# The terms of the pictures and of the first weights may bind you.{terms}
licence = "not stated"

trained_on = {trained_on}

# What a user should know before trusting a score, one sentence each.
limits = [
    {limit},
]
"""


def write_card_template(folder: Path, file: Path) -> None:
    """Write ``file`` for the finished run in ``folder``: its name, data and first weights, and words to replace.

    Raises ConfigError where ``file`` exists already, CheckpointError and DatasetError where the run or its data set
    cannot be read.
    """
    if file.exists():
        raise ConfigError("exists already: a template never replaces it", file)
    run = Run(folder)
    run.require_scores()
    config = run.config
    dataset = dataset_of(config.data)
    count = len(split_of(dataset, config.data).train)
    title = Path(config.data.name).name if is_csv(config.data.name) else dataset.card.title
    first = {"package": "ImageNet weights", "": "random weights"}.get(config.model.weights, "given weights")
    terms = (
        f"\n# Of the data set {config.data.name}: {' '.join(dataset.card.licence.split())}"
        if dataset.card.licence
        else ""
    )
    scale = f" from {run.label_scale}" if run.label_scale else ""
    words = {
        "name": folder.resolve().name,
        "trained_on": f"{title}: {count} pictures with opinion scores{scale}; started at {first}",
        "limit": f"Learned from {count} pictures of {title}: other pictures are outside what it knows.",
    }
    write_text(file, _TEMPLATE.format(terms=terms, **{k: json.dumps(v, ensure_ascii=False) for k, v in words.items()}))
