"""The training loop of every stage: step, log, checkpoint, resume, on one device or several."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from moslens.errors import CheckpointError, ConfigError
from moslens.system.files import read_json, write_json, write_text
from moslens.system.lock import locked_folder
from moslens.system.malloc import keep_freed_memory
from moslens.train import checkpoint
from moslens.train.config import OptimSection, TrainConfig, from_dict
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)


class Batches(Protocol):
    """A stream of batches that can start at any step of any epoch. ``steps``: batches per epoch."""

    steps: int

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[Any]:
        """The batches of an epoch from step ``start`` on, for process ``rank`` of ``world``."""


def open_run(run: Path, config: TrainConfig, facts: dict[str, Any], *, resume: bool) -> None:
    """Create a run folder, or check that it can be resumed with this configuration and data.

    facts: what the data decided, stored beside the configuration. CheckpointError where the folder holds a run and
    ``resume`` is false, or a run of another configuration or other data.
    """
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.is_main_process:
        _claim_run(run, config, facts, resume)
    state.wait_for_everyone()


def _claim_run(run: Path, config: TrainConfig, facts: dict[str, Any], resume: bool) -> None:
    path = Run(run).config_file
    if path.exists():
        if not resume:
            raise CheckpointError("holds a run already: --resume continues it", run)
        old = read_json(path)
        # Compare configurations, not files: a file may lack settings that were added later, with defaults that keep
        # the old behaviour.
        same = from_dict(old.pop("config", {}), path) == from_dict(config.to_dict())
        # The scale of the labels decides nothing in training. Version 0.1 did not store it; a card may be corrected.
        old.pop("label_scale", None)
        decisive = {key: value for key, value in facts.items() if key != "label_scale"}
        if not same or old != json.loads(json.dumps(decisive)):
            raise CheckpointError("was started with another configuration or other data", run)
        return
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, {"config": config.to_dict(), **facts})


def parameter_groups(module: nn.Module, optim: OptimSection) -> list[dict[str, Any]]:
    """Up to four AdamW groups: pretrained body or new layers, with weight decay or (1-D parameters) without it.

    Freezes the parameters that ``optim.frozen`` names.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if any(part in name for part in optim.frozen):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups.setdefault((".body." in name, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "base": optim.lr_body if body else optim.lr_new,
            "body": body,
            "lr": 0.0,
            "weight_decay": optim.weight_decay if decays else 0.0,
        }
        for (body, decays), parameters in groups.items()
    ]


def rate(step: int, total: int, warmup: float) -> float:
    """Factor on the learning rate at ``step`` of ``total``: linear warm-up, then half a cosine to zero."""
    warm = max(1, round(warmup * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def rate_of(optim: OptimSection, step: int, steps_an_epoch: int) -> float:
    """Factor on the learning rate at ``step`` under ``optim.rule``."""
    if optim.rule == "cosine":
        return rate(step, optim.epochs * steps_an_epoch, optim.warmup)
    epoch = step // steps_an_epoch
    if epoch < optim.warmup_epochs:
        return 1e-3 + (1 - 1e-3) * epoch / optim.warmup_epochs
    since = epoch - optim.warmup_epochs * optim.warmup_prefix
    return float(0.1 ** (since // optim.step_epochs))


def body_factor(optim: OptimSection, step: int, total: int) -> float:
    """Further factor on the rate of the pretrained body: 0 while it is frozen, then a linear warm-up to 1."""
    alone = round(optim.head_first * total)
    if not alone:
        return 1.0
    return min(1.0, max(0, step + 1 - alone) / max(1, round(optim.warmup * total)))


class _PretrainedBody:
    """The pretrained body of a task. While it is frozen no gradient is computed for it, which makes a step cheaper."""

    def __init__(self, task: nn.Module) -> None:
        self.parameters = [p for name, p in task.named_parameters() if ".body." in name and p.requires_grad]
        self.trainable = True

    def set_trainable(self, trainable: bool) -> None:
        if trainable != self.trainable:
            self.trainable = trainable
            for parameter in self.parameters:
                parameter.requires_grad_(trainable)


class MovingAverage:
    """Exponential moving average of a module's trainable weights, with a smaller decay at first as in TensorFlow."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.source = {k: p for k, p in module.named_parameters() if p.requires_grad}
        self.values = {k: p.detach().clone() for k, p in self.source.items()}

    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.values.values()), list(self.source.values()), 1 - decay)


@dataclass
class _State:
    """The content of a checkpoint: the task (its model and buffers), the optimiser, the average, the step."""

    task: nn.Module
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None
    step: int = 0

    def save(self, run: Path) -> None:
        tensors = {f"task.{k}": v for k, v in self.task.state_dict().items()}
        tensors |= checkpoint.optimiser_tensors(self.optimiser)
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.values.items()}
        checkpoint.save_checkpoint(run, self.step, tensors)

    def restore(self, run: Path) -> None:
        found = checkpoint.latest_checkpoint(run)
        if found is None:
            return
        self.step, tensors = found
        parts: dict[str, dict[str, Tensor]] = {"task": {}, "optimiser": {}, "average": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        self.task.load_state_dict(parts["task"])
        checkpoint.restore_optimiser(self.optimiser, parts["optimiser"])
        if self.average is not None:
            self.average.values = {k: parts["average"][k] for k in self.average.source}


def fit(task: nn.Module, batches: Batches, config: TrainConfig, run: Path, *, stop_after: int | None = None) -> bool:
    """Train ``task`` to its last epoch, from the newest checkpoint of ``run`` where there is one.

    ``task(batch)`` returns a dict of scalar losses; "loss" is minimised and every term is logged. Writes
    ``model.safetensors`` (the task's ``model``, or its moving average) and returns True in the main process, False in
    the others. ``stop_after`` ends training early, at that step, with a checkpoint, and returns False: for tests.
    OutputError where another process trains into ``run``, CheckpointError where the loss is not finite, ConfigError
    where the batch cannot be shared evenly among the processes.
    """
    cuda = torch.cuda.is_available()
    if not cuda:
        keep_freed_memory()
    # DistributedDataParallel waits for a gradient of every parameter unless told that some are unused: here, those of
    # the frozen body.
    unused = DistributedDataParallelKwargs(find_unused_parameters=config.optim.head_first > 0)
    accelerator = Accelerator(cpu=not cuda, mixed_precision="fp16" if cuda else "no", kwargs_handlers=[unused])
    with locked_folder(run) if accelerator.is_main_process else nullcontext():
        return _fit(accelerator, task, batches, config, run, stop_after)


def _fit(
    accelerator: Accelerator, task: nn.Module, batches: Batches, config: TrainConfig, run: Path, stop_after: int | None
) -> bool:
    if config.optim.batch % accelerator.num_processes:
        raise ConfigError(
            f"optim.batch {config.optim.batch} is not a multiple of {accelerator.num_processes} processes"
        )
    task.to(accelerator.device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(parameter_groups(task, config.optim), betas=(0.9, 0.999))
    state = _State(task, optimiser, MovingAverage(task, config.optim.ema) if config.optim.ema else None)
    state.restore(run)
    wrapped, state.optimiser = accelerator.prepare(task, optimiser)
    total = config.optim.epochs * batches.steps
    end = total if stop_after is None else min(total, stop_after)
    if accelerator.is_main_process:
        _trim_log(Run(run).log_file, state.step)
        log.info("step %d of %d, %d process(es)", state.step, total, accelerator.num_processes)

    wrapped.train()
    body = _PretrainedBody(task)
    started, first = time.monotonic(), state.step
    for batch in _batches_from(batches, state.step, end, accelerator):
        factor = rate_of(config.optim, state.step, batches.steps)
        share = body_factor(config.optim, state.step, total)
        body.set_trainable(share > 0)
        losses, norm = _step(accelerator, wrapped, state.optimiser, batch, (factor, factor * share), config.optim.clip)
        state.step += 1
        if state.average is not None:
            state.average.update(state.step)
        if not accelerator.is_main_process:
            continue
        row = {
            "step": state.step,
            "epoch": (state.step - 1) // batches.steps,
            **losses,
            "gradient": norm,
            "rate": factor,
        }
        seconds = (time.monotonic() - started) / (state.step - first)
        _log_step(Run(run).log_file, row | {"seconds_a_step": seconds})
        if not math.isfinite(losses["loss"]):
            raise CheckpointError(f"the loss is not finite at step {state.step}", run)
        if state.step % config.checkpoint_every == 0 or state.step == end:
            state.save(run)
    accelerator.wait_for_everyone()
    if state.step < total or not accelerator.is_main_process:
        return False
    if state.average is not None:
        task.load_state_dict(state.average.values, strict=False)
    checkpoint.save_tensors(Run(run).weights_file, dict(task.get_submodule("model").state_dict()))
    return True


def _batches_from(batches: Batches, step: int, end: int, accelerator: Accelerator) -> Iterator[Any]:
    """This process's batches of steps ``step`` to ``end``, on its device."""
    while step < end:
        epoch, start = divmod(step, batches.steps)
        for batch in batches.epoch(epoch, start, accelerator.process_index, accelerator.num_processes):
            yield _move(batch, accelerator.device)
            step += 1
            if step == end:
                return


def _step(
    accelerator: Accelerator,
    task: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Any,
    factors: tuple[float, float],
    clip: float,
) -> tuple[dict[str, float], float]:
    """One optimiser step. Returns the losses and the gradient norm before clipping.

    factors: on the learning rates of new layers and of the pretrained body.
    """
    for group in optimiser.param_groups:
        group["lr"] = group["base"] * factors[group["body"]]
    losses = task(batch)
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(losses["loss"])
    norm = accelerator.clip_grad_norm_(task.parameters(), clip)
    optimiser.step()
    return {k: float(v.detach()) for k, v in losses.items()}, float(norm if norm is not None else 0.0)


def _move(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {k: _move(v, device) for k, v in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_move(v, device) for v in batch)
    return batch


def _log_step(path: Path, row: dict[str, Any]) -> None:
    rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded) + "\n")


def _trim_log(path: Path, step: int) -> None:
    """Delete the log lines after the checkpoint that a run resumes from, and an incomplete last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] <= step:
            kept.append(line)
    write_text(path, "".join(line + "\n" for line in kept))
