"""The training loop of every stage: step, log, checkpoint, resume, on one device or several."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from moslens.distortions import PAPER_KINDS
from moslens.errors import CheckpointError, ConfigError
from moslens.model.pixels import layout_on
from moslens.system.files import read_json, write_json, write_text
from moslens.system.interrupts import Interrupts, Stopped
from moslens.system.lock import locked_folder
from moslens.system.malloc import keep_freed_memory
from moslens.train import checkpoint
from moslens.train.branch import branch_step, open_trunk, trunk_facts
from moslens.train.config import OptimSection, TrainConfig, config_difference, from_dict
from moslens.train.curves import draw_curves
from moslens.train.precision import mixed_precision, speed_up_depthwise
from moslens.train.progress import watch
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
        before, now = from_dict(old.pop("config", {}), path), from_dict(config.to_dict())
        # The scale of the labels decides nothing in training. Version 0.1 did not store it; a card may be corrected.
        # The trunk was checked when the run was started, and may be gone by now.
        old.pop("label_scale", None)
        old.pop("trunk", None)
        # Version 0.1 did not name its kinds: they were the paper's.
        if "kinds" in facts:
            old.setdefault("kinds", list(PAPER_KINDS))
        decisive = {key: value for key, value in facts.items() if key != "label_scale"}
        changed = config_difference(before, now)
        if changed or old != json.loads(json.dumps(decisive)):
            raise CheckpointError(f"was started with another configuration or other data{changed}", run)
        return
    trunk = trunk_facts(config, facts) if config.branch.run else {}
    run.mkdir(parents=True, exist_ok=True)
    write_json(path, {"config": config.to_dict(), **facts, **trunk})


def parameter_groups(module: nn.Module, optim: OptimSection) -> list[dict[str, Any]]:
    """AdamW groups: pretrained body, one a depth with ``optim.layer_decay``, or new layers, each with weight decay or
    (1-D parameters) without it.

    Freezes the parameters that ``optim.frozen`` names.
    """
    depths = [depth_of(name) for name, _ in module.named_parameters() if ".body." in name]
    deepest = max((depth for depth in depths if depth is not None), default=0) + 1
    groups: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if any(part in name for part in optim.frozen):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            body = ".body." in name
            depth = depth_of(name) if body and optim.layer_decay != 1 else deepest
            groups.setdefault((body, deepest if depth is None else depth, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "base": optim.lr_body * optim.layer_decay ** (deepest - depth) if body else optim.lr_new,
            "body": body,
            "lr": 0.0,
            "weight_decay": optim.weight_decay if decays else 0.0,
        }
        for (body, depth, decays), parameters in groups.items()
    ]


def depth_of(name: str) -> int | None:
    """How deep in a timm body a parameter lies: 0 before its blocks, N + 1 in block N, None behind the blocks."""
    block = re.search(r"\.body\.blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return 0 if re.search(r"\.body\.(cls_token|pos_embed|patch_embed|conv_stem|bn1)", name) else None


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


class EpochMean:
    """Mean of the weights at the ends of the last epochs (Izmailov et al. 2018, at the end of any schedule)."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights at the end of one more epoch into the mean."""
        for name, value in weights.items():
            count = self.counts[name] = self.counts.get(name, 0) + 1
            if count == 1:
                self.values[name] = value.detach().clone()
            else:
                self.values[name].lerp_(value.detach(), 1 / count)


class _State:
    """The content of a checkpoint: the task (its model and buffers), the optimiser, the averages, the step."""

    def __init__(self, task: nn.Module, optim: OptimSection) -> None:
        self.task = task
        self.optimiser = torch.optim.AdamW(parameter_groups(task, optim), betas=(0.9, 0.999))
        self.parameters = {k: p for k, p in task.named_parameters() if p.requires_grad}
        self.average = MovingAverage(task, optim.ema) if optim.ema else None
        self.mean = EpochMean()
        self.step = 0

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"task.{k}": v for k, v in self.task.state_dict().items()}
        tensors |= checkpoint.optimiser_tensors(self.optimiser, self.parameters)
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.values.items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.values.items()}
        return tensors | {f"count.{k}": torch.tensor(v) for k, v in self.mean.counts.items()}

    def load(self, tensors: Mapping[str, Tensor], *, strict: bool) -> None:
        """Take over the state by name. What a tensor is missing for stays as it is, unless ``strict``."""
        parts: dict[str, dict[str, Tensor]] = {"task": {}, "optimiser": {}, "average": {}, "mean": {}, "count": {}}
        for key, value in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = value
        self.task.load_state_dict(parts["task"], strict=strict)
        checkpoint.restore_optimiser(self.optimiser, self.parameters, parts["optimiser"])
        own = self.task.state_dict()
        if self.average is not None:
            for name, parameter in self.average.source.items():
                value = parts["average"].get(name, parameter.detach().clone())
                self.average.values[name] = checkpoint.laid_out_as(parameter, value)
        for name in parts["mean"].keys() & own.keys():
            self.mean.values[name] = checkpoint.laid_out_as(own[name], parts["mean"][name])
            self.mean.counts[name] = int(parts["count"][name])

    def restore(self, run: Path) -> bool:
        """Go to the newest checkpoint of a run; False where it has none."""
        found = checkpoint.latest_checkpoint(run)
        if found is None:
            return False
        self.step, tensors = found
        self.load(tensors, strict=True)
        return True

    def branch_off(self, config: TrainConfig, run: Path, total: int, steps: int) -> None:
        """Start where a trunk was. CheckpointError where it does not fit to ``total`` steps, ``steps`` an epoch."""
        self.step = branch_step(config.branch.at, total)
        folder, tensors = open_trunk(config, run, self.step, total)
        kept = {k: v for k, v in self.tensors().items() if k in tensors}
        for name, value in kept.items():
            if tensors[name].shape != value.shape:
                shapes = f"{tuple(tensors[name].shape)}, and in the run that branches off {tuple(value.shape)}"
                raise CheckpointError(f"{name} has the shape {shapes}", folder)
        wanted = epochs_averaged(config.optim, self.step, steps)
        found = max((int(v) for k, v in tensors.items() if k.startswith("count.")), default=0)
        if found != wanted:
            raise CheckpointError(
                f"averaged {found} epochs by then, and the run that branches off wants {wanted}: see optim.average",
                folder,
            )
        own = self.task.state_dict()
        self.load({k: v for k, v in tensors.items() if not k.startswith("task.") or k[5:] in own}, strict=False)

    def end_epoch(self) -> None:
        """Take the present weights and statistics of the model into the mean."""
        weights: dict[str, Tensor] = dict(self.parameters if self.average is None else self.average.values)
        for name, value in self.task.state_dict().items():
            if name.startswith("model.") and value.is_floating_point() and name not in self.parameters:
                weights[name] = value
        self.mean.add(weights)

    def final_weights(self) -> None:
        """Leave in the task what the run is to leave: its last weights, their moving average, or the mean."""
        if self.mean.values:
            self.task.load_state_dict(self.mean.values, strict=False)
        elif self.average is not None:
            self.task.load_state_dict(self.average.values, strict=False)


def epochs_averaged(optim: OptimSection, step: int, steps: int) -> int:
    """How many ends of epochs are in the mean after ``step``, ``steps`` an epoch."""
    return max(0, step // steps - (optim.epochs - optim.average))


def seed_step(seed: int, step: int, process: int) -> None:
    """Seed torch for one step: dropout of a resumed run is that of an unbroken one, and differs by process."""
    words = np.random.SeedSequence((seed, step, process)).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0]))


def fit(
    task: nn.Module,
    batches: Batches,
    config: TrainConfig,
    run: Path,
    *,
    stop_after: int | None = None,
    finish: Callable[[], None] | None = None,
) -> bool:
    """Train ``task`` to its last epoch, from the newest checkpoint of ``run``, else from its trunk, else from scratch.

    ``task(batch)`` returns a dict of scalar losses; "loss" is minimised and every term is logged. Writes
    ``model.safetensors`` (the task's ``model``, or an average of it) and ``curves.png`` and returns True in the main
    process, False in the others. Shows a progress bar on a terminal and logs now and then elsewhere.
    ``stop_after`` ends training early, at that step, with a checkpoint, and returns False: for tests. ``finish`` is
    called after the last step in the main process, and may change the weights that are written.
    Stopped, after the step and a checkpoint, where SIGINT or SIGTERM arrives. OutputError where another process trains
    into ``run``, CheckpointError where the loss is not finite or the trunk does not fit, ConfigError where the batch
    cannot be shared evenly among the processes.
    """
    cuda = torch.cuda.is_available()
    if not cuda:
        keep_freed_memory()
    # DistributedDataParallel waits for a gradient of every parameter unless told that some are unused: here, those of
    # the frozen body.
    unused = DistributedDataParallelKwargs(find_unused_parameters=config.optim.head_first > 0)
    accelerator = Accelerator(
        cpu=not cuda, mixed_precision=mixed_precision(config.optim.precision), kwargs_handlers=[unused]
    )
    with locked_folder(run) if accelerator.is_main_process else nullcontext():
        return _fit(accelerator, task, batches, config, run, stop_after, finish)


def _fit(
    accelerator: Accelerator,
    task: nn.Module,
    batches: Batches,
    config: TrainConfig,
    run: Path,
    stop_after: int | None,
    finish: Callable[[], None] | None,
) -> bool:
    if config.optim.batch % accelerator.num_processes:
        raise ConfigError(
            f"optim.batch {config.optim.batch} is not a multiple of {accelerator.num_processes} processes"
        )
    task.to(accelerator.device).to(memory_format=layout_on(accelerator.device))
    speed_up_depthwise(task)
    total = config.optim.epochs * batches.steps
    state = _State(task, config.optim)
    if not state.restore(run) and config.branch.run:
        state.branch_off(config, run, total, batches.steps)
    wrapped, state.optimiser = accelerator.prepare(task, state.optimiser)
    end = total if stop_after is None else min(total, stop_after)
    main = accelerator.is_main_process
    if main:
        _trim_log(Run(run).log_file, state.step)
        log.info("step %d of %d, %d process(es)", state.step, total, accelerator.num_processes)

    wrapped.train()
    with Interrupts() as interrupts, interrupts.held():
        with watch(run, config, state.step, total, batches.steps) if main else nullcontext(_unseen) as show:
            stopped = _train(accelerator, wrapped, state, batches, config, run, end, show, interrupts)
        if stopped:
            if main:
                log.warning("%s: stopped and saved after step %d of %d: --resume goes on there", run, state.step, total)
            raise Stopped(stopped)
    accelerator.wait_for_everyone()
    if state.step < total or not main:
        return False
    state.final_weights()
    if finish is not None:
        finish()
    checkpoint.save_tensors(Run(run).weights_file, dict(task.get_submodule("model").state_dict()))
    draw_curves(Run(run))
    return True


def _unseen(row: Mapping[str, Any]) -> None:
    """What a process shows that is not the main one."""


def _train(
    accelerator: Accelerator,
    wrapped: nn.Module,
    state: _State,
    batches: Batches,
    config: TrainConfig,
    run: Path,
    end: int,
    show: Callable[[Mapping[str, Any]], None],
    interrupts: Interrupts,
) -> int:
    """Train up to step ``end``. Returns 0, or the signal that stopped it after a step that it has saved."""
    optim = config.optim
    total = optim.epochs * batches.steps
    keep = branch_step(config.keep_at, total) if config.keep_at else -1
    body = _PretrainedBody(state.task)
    started, first = time.monotonic(), state.step
    for batch in _batches_from(batches, state.step, end, accelerator):
        seed_step(config.seed, state.step, accelerator.process_index)
        factor = rate_of(optim, state.step, batches.steps)
        share = body_factor(optim, state.step, total)
        body.set_trainable(share > 0)
        losses, norm = _step(accelerator, wrapped, state.optimiser, batch, (factor, factor * share), optim.clip)
        state.step += 1
        epoch, rest = divmod(state.step, batches.steps)
        if state.average is not None:
            state.average.update(state.step)
        if not rest and epoch > optim.epochs - optim.average:
            state.end_epoch()
        if accelerator.is_main_process:
            seconds = (time.monotonic() - started) / (state.step - first)
            row = {"step": state.step, "of": total, "epoch": (state.step - 1) // batches.steps, **losses}
            row |= {"gradient": norm, "rate": factor, "seconds_a_step": seconds}
            _log_step(Run(run).log_file, row)
            show(row)
            if not math.isfinite(losses["loss"]):
                raise CheckpointError(f"the loss is not finite at step {state.step}", run)
            if state.step == keep:
                checkpoint.keep_checkpoint(run, state.step, total, state.tensors())
        stopped = _agreed(accelerator, interrupts.waiting)
        due = stopped or state.step == end or not state.step % config.checkpoint_every
        if due and accelerator.is_main_process:
            checkpoint.save_checkpoint(run, state.step, state.tensors())
        if stopped:
            return stopped
    return 0


def _agreed(accelerator: Accelerator, signal: int) -> int:
    """The signal that any process got, so that all stop after the same step; 0 where none did."""
    if accelerator.num_processes == 1:
        return signal
    return int(accelerator.gather(torch.tensor([signal], device=accelerator.device)).max())


def _batches_from(batches: Batches, step: int, end: int, accelerator: Accelerator) -> Iterator[Any]:
    """This process's batches of steps ``step`` to ``end``, on its device."""
    while step < end:
        epoch, start = divmod(step, batches.steps)
        drawn = batches.epoch(epoch, start, accelerator.process_index, accelerator.num_processes)
        moved = (_move(batch, accelerator.device) for batch in drawn)
        for batch in _ahead(moved) if accelerator.device.type == "cuda" else moved:
            yield batch
            step += 1
            if step == end:
                return


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches of an iterator, each drawn while the one before it trains: a GPU need not wait for the CPU."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield batch


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
