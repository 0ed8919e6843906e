"""The folder of an ensemble: finished runs whose mean prediction is one model.

``ensemble.json`` holds

    {"members": [{"name", "path", "weights_sha256"}, ...],   path: from the folder of the ensemble
     "photos": {...}}                                        what every member learned from

``photos`` is :func:`moslens.train.average.labelled_photos`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from moslens.errors import CheckpointError
from moslens.system.files import read_json
from moslens.train.run_folder import Run, split_runs

FILE = "ensemble.json"


@dataclass(frozen=True)
class Member:
    """A run of an average: its name in reports, its folder, and the hex SHA-256 of its weights.

    None where the folder keeps the predictions of a run without its weights.
    """

    name: str
    run: Run
    weights_sha256: str | None


class Ensemble:
    """The ensemble in ``folder``. CheckpointError where its file is missing or malformed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / FILE

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of ``ensemble.json``."""
        found: dict[str, Any] = read_json(self.file)
        return found

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The members, in the order in which they were named."""
        try:
            return tuple(
                Member(one["name"], Run(Path(os.path.normpath(self.folder / one["path"]))), one["weights_sha256"])
                for one in self.record["members"]
            )
        except (LookupError, TypeError) as error:
            raise CheckpointError(f"not the record of an ensemble ({error!r})", self.file) from error

    @property
    def photos(self) -> dict[str, Any]:
        """What every member learned from, see :func:`labelled_photos`."""
        found: dict[str, Any] = self.record["photos"]
        return found

    def verify(self) -> None:
        """CheckpointError where the weights of a member are missing or not those that were averaged."""
        for member in self.members:
            if member.weights_sha256 is None:
                raise CheckpointError(
                    "keeps the predictions of a run without its weights: use --reuse", member.run.folder
                )
            if member.run.weights_sha256() != member.weights_sha256:
                raise CheckpointError(f"has other weights than {self.file} names", member.run.folder)


def find_ensembles(folder: Path) -> list[Ensemble]:
    """The ensemble in a folder, else those in its ``split-N`` folders by N; empty where there are none."""
    if (folder / FILE).is_file():
        return [Ensemble(folder)]
    return [Ensemble(run.folder) for run in split_runs(folder) if (run.folder / FILE).is_file()]
