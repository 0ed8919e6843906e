"""Branches: runs that start from a checkpoint of another run, the trunk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from moslens.errors import CheckpointError
from moslens.train.checkpoint import kept_checkpoint
from moslens.train.config import TrainConfig
from moslens.train.run_folder import Run

_SAME_DATA = ("name", "fraction", "validation", "standardise")
_SAME_FACTS = ("labels", "train_pictures", "pool")


def branch_step(share: float, total: int) -> int:
    """The step at a share of ``total`` steps, at least the first."""
    return max(1, round(share * total))


def trunk_of(config: TrainConfig) -> Run:
    """The trunk of a configuration: the folder ``branch.run``, or its folder of the split where it is no run itself."""
    run = Run(Path(config.branch.run))
    if not run.config_file.is_file():
        split = Run(run.folder / f"split-{config.data.split}")
        return split if split.config_file.is_file() else run
    return run


def trunk_facts(config: TrainConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a branch stores of its trunk. CheckpointError where that learns from other pictures, or is no run.

    facts: those of the branch's data, as in its ``config.json``.
    """
    trunk = trunk_of(config)
    data = trunk.config.data
    if data.split != config.data.split:
        raise CheckpointError(
            f"trains on split {data.split}, the run that branches off on {config.data.split}", trunk.folder
        )
    own = json.loads(json.dumps(facts))
    same = all(getattr(data, name) == getattr(config.data, name) for name in _SAME_DATA)
    if not same or any(own.get(key) != trunk.record.get(key) for key in _SAME_FACTS if key in own):
        raise CheckpointError("learns from other labelled pictures than the run that branches off it", trunk.folder)
    return {"trunk": {"config_sha256": config_hash(trunk), "at": config.branch.at}}


def open_trunk(config: TrainConfig, run: Path, step: int, total: int) -> tuple[Path, dict[str, Tensor]]:
    """The folder of the trunk of ``run`` and what it kept after ``step`` of ``total`` steps.

    CheckpointError as :func:`kept_checkpoint`, and where the folder holds another run than when ``run`` was started.
    """
    trunk = trunk_of(config)
    if Run(run).record.get("trunk", {}).get("config_sha256") != config_hash(trunk):
        raise CheckpointError(f"is another run than when {run} was started", trunk.folder)
    return trunk.folder, kept_checkpoint(trunk.folder, step, total)


def config_hash(run: Run) -> str:
    """Hex SHA-256 of the configuration of a run."""
    return hashlib.sha256(json.dumps(run.stored_config, sort_keys=True).encode()).hexdigest()
