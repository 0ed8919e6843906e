"""Finished runs on disk: which there are, their configuration, their stored predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moslens.data.csv_set import cell_number, raise_problems, read_rows
from moslens.errors import CheckpointError
from moslens.system.files import read_json
from moslens.train.config import TrainConfig, from_dict


def find_runs(folder: Path) -> list[Path]:
    """The run in a folder, or the ``split-N`` runs below it in the order of N, or none."""
    if (folder / "config.json").is_file():
        return [folder]
    return [config.parent for config in sorted(folder.glob("split-*/config.json"), key=_split_number)]


def _split_number(config: Path) -> tuple[int, str]:
    number = config.parent.name.removeprefix("split-")
    return (int(number) if number.isdecimal() else 0, number)


def _run_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text("utf-8"))
        config: dict[str, Any] = content["config"]
        for section, key in (("data", "name"), ("data", "split"), ("optim", "epochs")):
            config[section][key]
    except OSError as error:
        raise CheckpointError(f"cannot be read ({error.strerror})", path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"not the configuration of a run ({error!r})", path) from error
    return config


def _stored(folder: Path) -> dict[str, float]:
    """Test predictions that a finished run left, by picture; empty where it left none."""
    path = folder / "predictions.csv"
    if not path.is_file():
        return {}
    problems: list[str] = []
    stored = {
        row["image"]: cell_number(row["prediction"], f"row {n}, column prediction", problems)
        for n, row in read_rows(path, ("image", "prediction"))
        if row.get("part", "test") == "test"
    }
    raise_problems(problems, path)
    return stored


def run_config(run: Path) -> TrainConfig:
    """The configuration of a run folder. CheckpointError where there is none."""
    return from_dict(read_json(run / "config.json")["config"], run / "config.json")
