"""Checkpoints that survive a kill at any moment.

A checkpoint is ``checkpoint-STEP.safetensors`` and ``checkpoint-STEP.json``, which is written last. It is valid only if
the JSON holds the hash of the tensors.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from moslens.errors import CheckpointError, OutputError
from moslens.system.files import file_sha256, read_json, whole_file, write_json


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors to a safetensors file, all or nothing; returns its hex SHA-256. OutputError where it cannot be."""
    with whole_file(path) as scratch:
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, scratch)
        except SafetensorError as error:  # such as a full disk
            raise OutputError(f"cannot be written: {error}", path) from error
        return file_sha256(scratch)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. CheckpointError where it is missing or broken."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError("no such file", path) from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file ({error})", path) from error


def save_checkpoint(run: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Store the state after ``step`` steps and delete older checkpoints."""
    name = f"checkpoint-{step:08d}"
    digest = save_tensors(run / f"{name}.safetensors", tensors)
    write_json(run / f"{name}.json", {"step": step, "sha256": digest, "torch": torch.__version__})
    for old in run.glob("checkpoint-*"):
        if not old.name.startswith(name):
            old.unlink(missing_ok=True)


def latest_checkpoint(run: Path) -> tuple[int, dict[str, Tensor]] | None:
    """The newest valid checkpoint as (step, tensors); None where the run has none.

    CheckpointError where all are broken: a silent start from scratch would throw work away.
    """
    found = sorted(run.glob("checkpoint-*.json"), reverse=True)
    for path in found:
        tensors = path.with_suffix(".safetensors")
        try:
            state = read_json(path)
            if file_sha256(tensors) == state["sha256"]:
                return int(state["step"]), load_tensors(tensors)
        except (CheckpointError, OSError, KeyError, TypeError, ValueError):
            continue
    if found:
        raise CheckpointError(f"none of its {len(found)} checkpoints is whole: remove them to start again", run)
    return None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as tensors named "optimiser.INDEX.NAME", INDEX being that of the parameter."""
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what :func:`optimiser_tensors` returned; keys are "INDEX.NAME"."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
