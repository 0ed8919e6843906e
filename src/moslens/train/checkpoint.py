"""Checkpoints that survive a kill at any moment.

A checkpoint is ``checkpoint-STEP.safetensors`` and ``checkpoint-STEP.json``, which is written last. It is valid only if
the JSON holds the hash of the tensors. A trunk keeps ``branch-STEP.*`` of the same form for runs that branch off it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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
    _save(run / name, step, tensors, {})
    for old in run.glob("checkpoint-*"):
        if not old.name.startswith(name):
            old.unlink(missing_ok=True)


def keep_checkpoint(run: Path, step: int, total: int, tensors: dict[str, Tensor]) -> None:
    """Store the state after ``step`` of ``total`` steps for runs that branch off there; nothing deletes it."""
    _save(run / f"branch-{step:08d}", step, tensors, {"total": total})


def _save(name: Path, step: int, tensors: dict[str, Tensor], more: dict[str, Any]) -> None:
    digest = save_tensors(name.with_suffix(".safetensors"), tensors)
    write_json(name.with_suffix(".json"), {"step": step, "sha256": digest, "torch": torch.__version__, **more})


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


def kept_checkpoint(run: Path, step: int, total: int) -> dict[str, Tensor]:
    """The tensors that a trunk kept after ``step`` of ``total`` steps.

    CheckpointError where it kept none there, has another total, or the file is broken.
    """
    for path in sorted(run.glob("branch-*.json")):
        try:
            state = read_json(path)
            kept, steps, digest = int(state["step"]), int(state["total"]), str(state["sha256"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"not the record of a checkpoint ({error!r})", path) from error
        if steps != total:
            raise CheckpointError(f"trains {steps} steps, and the run that branches off {total}: they must agree", run)
        if kept != step:
            continue
        tensors = path.with_suffix(".safetensors")
        if not tensors.is_file() or file_sha256(tensors) != digest:
            raise CheckpointError("is not whole", tensors)
        return load_tensors(tensors)
    raise CheckpointError(
        f"keeps no checkpoint after step {step} of {total}: train it with keep_at = {step / total:.4g}", run
    )


def optimiser_tensors(optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The state of an optimiser as tensors named "optimiser.PARAMETER.NAME"; ``parameters`` by their names."""
    return {
        f"optimiser.{key}.{name}": torch.as_tensor(value)
        for key, parameter in parameters.items()
        for name, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Load what :func:`optimiser_tensors` returned; keys are "PARAMETER.NAME".

    A parameter without a state starts fresh, a state without a parameter is ignored. Version 0.1 wrote the place of
    the parameter in the optimiser for its name.
    """
    groups = optimiser.state_dict()["param_groups"]
    places = {
        parameter: place for place, parameter in enumerate(p for g in optimiser.param_groups for p in g["params"])
    }
    place_of = {key: places[parameter] for key, parameter in parameters.items() if parameter in places}
    place_of |= {str(place): place for place in places.values()}
    by_place = {place: parameter for parameter, place in places.items()}
    state: dict[int, dict[str, Tensor]] = {}
    for full, value in tensors.items():
        key, name = full.rsplit(".", 1)
        place = place_of.get(key)
        if place is not None:
            state.setdefault(place, {})[name] = laid_out_as(by_place[place], value)
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def laid_out_as(model: Tensor, value: Tensor) -> Tensor:
    """``value`` in the memory layout of ``model``, on which the last bit of a sum can depend; files do not keep it."""
    if value.shape != model.shape:
        return value
    return torch.empty_like(model, dtype=value.dtype, requires_grad=False).copy_(value)
