"""Pictures a second of the quality stage, and how far that is from the bare forward and backward pass.

    python -m benchmarks.speed.training_rate [--plan configs/recipes-quality-lite.toml] [--steps 12]

``loop`` is the whole of training: views, optimiser, log, everything but decoding at the start. ``bare`` is the forward
and backward pass of the same network on one batch that lies on the device, in the same process and precision. Pictures
are made and weights are random, which changes no time. On a CPU one thread is used, as where each core trains one run.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import ROOT, argument_parser, machine, write_record
from moslens.data.labelled_views import LabelledViews, QualityBatches
from moslens.evaluate.ablation_plan import AblationRow, read_plan
from moslens.system.malloc import keep_freed_memory
from moslens.train.config import TrainConfig
from moslens.train.loop import fit, parameter_groups
from moslens.train.networks import build_model
from moslens.train.precision import mixed_precision, speed_up_depthwise
from moslens.train.quality import QualityTask, decoded_size, shares_of

SIDE = 500
PICTURES = 64


def stream(config: TrainConfig, device: str) -> QualityBatches:
    """Batches of made square pictures, as large as those of LIVEC."""
    rng = np.random.default_rng(0)
    side = min(SIDE, decoded_size(config.data))
    pictures = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(PICTURES)]
    whole = config.data.working_size if config.data.view == "whole" else None
    labels = list(rng.normal(size=PICTURES))
    views = LabelledViews(pictures, labels, 0, whole=whole, shares=shares_of(config.data), device=device)
    return QualityBatches(views, config.optim.batch, config.data.repeats)


def make_task(config: TrainConfig) -> QualityTask:
    return QualityTask(build_model(config.model, pretrained=False), config.optim.correlation)


def loop_rate(config: TrainConfig, device: str, steps: int) -> float:
    """Pictures a second of training, without its start."""
    config = dataclasses.replace(
        config, checkpoint_every=10**9, optim=dataclasses.replace(config.optim, epochs=1000, head_first=0.0)
    )
    seconds = []
    for stop in (2, 2 + steps):
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            fit(make_task(config), stream(config, device), config, Path(scratch), stop_after=stop)
            seconds.append(time.perf_counter() - start)
    return steps * config.optim.batch / (seconds[1] - seconds[0])


def bare_rate(config: TrainConfig, device: str, steps: int) -> float:
    """Pictures a second of forward and backward alone."""
    task = make_task(config).to(device).to(memory_format=torch.channels_last).train()
    parameter_groups(task, config.optim)  # freezes what the recipe freezes
    speed_up_depthwise(task)
    batch = next(iter(stream(config, device).epoch(0)))
    kind = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[mixed_precision(config.optim.precision)]
    for step in range(steps + 2):
        if step == 2:
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
        with torch.autocast(device, dtype=kind, enabled=kind is not None):
            loss = task(batch)["loss"]
        loss.backward()
        task.zero_grad(set_to_none=True)
    if device == "cuda":
        torch.cuda.synchronize()
    return steps * config.optim.batch / (time.perf_counter() - start)


def measure(row: AblationRow, device: str, steps: int) -> dict[str, Any]:
    config = row.config(0)
    bare, loop = bare_rate(config, device, steps), loop_rate(config, device, steps)
    print(f"{row.name:24s} {loop:7.1f} pictures a second, {loop / bare:.2f} of the bare pass")
    return {
        "loop": loop,
        "bare": bare,
        "of_bare": loop / bare,
        "batch": config.optim.batch,
        "view": config.data.view,
        "precision": mixed_precision(config.optim.precision),
    }


def main() -> None:
    parser = argument_parser(__doc__, "training-rate.json")
    parser.add_argument("--plan", type=Path, default=ROOT / "configs" / "recipes-quality-lite.toml")
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    rates = {row.name: measure(row, device, options.steps) for row in read_plan(options.plan).rows}
    facts = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "one core",
        "pictures_a_second": rates,
        "machine": machine(),
    }
    write_record(options.output, facts, ("torch", "timm", "accelerate"))


if __name__ == "__main__":
    main()
