"""Where the time of training goes: a step of the `lite` student part by part, and what the D and R streams cost.

    python -m benchmarks.speed.training [--data DIR] [--steps 6]

prints a table and writes ``results/training-profile.json``. The step is that of ``configs/release-lite.toml`` with the
teacher in ``teachers/lite``; weights are random, which changes no time, and labelled pictures are those of the
pool. ``kept`` is the same step where depthwise kernels and first layers keep their weights (``optim.frozen`` as in
``configs/ablation-lite.toml``). Shares are of a step's wall time. ``cores_used`` is processor time divided by wall time
and threads; 1 means that no core was idle. Streams are timed alone as well, forward and backward.
"""

import dataclasses
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.common import ROOT, add_data_option, argument_parser, kept_layers, machine, write_record
from moslens.data.labelled_views import LabelledViews, QualityBatches, decode_all
from moslens.system.cores import available_cores
from moslens.system.malloc import keep_freed_memory
from moslens.train.config import TrainConfig, load_config
from moslens.train.distill.composite_bank import Bank, BankBatches, open_bank, plan_bank
from moslens.train.distill.ladder_bank import LadderBank, LadderBatches, open_ladders, plan_ladders
from moslens.train.distill.pool import pool_of
from moslens.train.distill.student_task import StudentTask
from moslens.train.distill.targets import bank_targets, block_targets
from moslens.train.loop import parameter_groups
from moslens.train.networks import build_model, load_teacher

TEACHER = ROOT / "teachers" / "lite"
ENTRIES = 60
PICTURES = 48


class Clock:
    """Seconds of named parts, wall and processor, call by call."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.processor.setdefault(name, []).append(time.process_time() - processor)
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)

    def milliseconds(self, name: str) -> float:
        return 1000 * median(self.wall[name])

    def cores_used(self, name: str, threads: int) -> float:
        return sum(self.processor[name]) / sum(self.wall[name]) / threads


def main() -> None:
    parser = argument_parser(__doc__, "training-profile.json")
    add_data_option(parser)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    started = time.time()
    state = machine()
    config = load_config(ROOT / "configs" / "release-lite.toml", [f"bdm.root={options.data / 'pristine'}"])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        streams, once = open_streams(config, Path(scratch))
        given_back = quality_step(config, streams, options.steps)
        keep_freed_memory()
        kept_memory = quality_step(config, streams, options.steps)
        by_threads = {
            str(threads): profile(config, streams, options.steps, threads) for threads in sorted({1, available_cores()})
        }
        kept = dataclasses.replace(config, optim=dataclasses.replace(config.optim, frozen=kept_layers()))
        step = profile(kept, streams, options.steps, 1)["step_ms"]
        layers = {"frozen": kept_layers(), "step_ms": step, "to_all": step / by_threads["1"]["step_ms"]}
    memory = {"given_back": given_back, "kept": kept_memory, "kept_to_given_back": kept_memory["ms"] / given_back["ms"]}
    print(f"freed memory kept: {memory['kept_to_given_back']:.2f} x the Q stream's step")
    depthwise = depthwise_backward()
    print(f"depthwise backward with the weights' gradient: {depthwise['ratio']:.1f} x that without")
    operators = heaviest(config, streams)
    print(f"with {', '.join(layers['frozen'])} kept: {layers['to_all']:.2f} x the step")
    for threads, found in by_threads.items():
        print(f"{threads} thread(s): {found['step_ms']:.0f} ms a step, {found['cores_used']:.0%} of the cores used")
        for name, share in found["shares"].items():
            print(f"  {share:6.1%} {name}")
        for name, row in found["streams_alone"].items():
            print(f"  stream {name}: {row['to_q']:.2f} x the Q stream for {row['pictures']} pictures")
    print("operators: " + ", ".join(f"{name} {share:.0%}" for name, share in operators.items()))
    write_record(
        options.output,
        {
            "protocol": f"configs/release-lite.toml, random weights, median of {options.steps} steps; "
            f"{ENTRIES} bank entries and ladders, {PICTURES} labelled pictures",
            "by_threads": by_threads,
            "kept": layers,
            "freed_memory": memory,
            "depthwise_backward": depthwise,
            "operators": operators,
            "once_an_entry": once,
            "seconds": round(time.time() - started, 1),
            "machine": state,
        },
        ("torch", "timm", "accelerate"),
    )


Streams = dict[str, Callable[[int], Any]]


def open_streams(config: TrainConfig, scratch: Path) -> tuple[Streams, dict[str, float]]:
    """What draws the batch of a step from each stream, and milliseconds that are spent once an entry or picture."""
    clock = Clock()
    pool = pool_of(config.bdm)
    size, distill, rank = config.data.working_size, config.distill, config.rank
    plan = plan_bank(pool, config.bdm, size, ENTRIES, 0)
    teacher, _ = load_teacher(TEACHER)
    for index in range(6):
        plan.make(index)  # decodes the picture, which a long run does once for many entries
        with clock.part("composite"):
            composite = plan.make(index)
        with clock.part("teacher"):
            block_targets(teacher, composite, distill.view, distill.target)
    bank: Bank = open_bank(scratch / "bank", plan)
    d = BankBatches(bank, bank_targets(bank, TEACHER, distill.view, distill.target), distill.batch, 0)
    ladders = plan_ladders(pool, size, ENTRIES, 0)
    for index in range(6):
        ladders.make(index)
        with clock.part("ladder"):
            ladders.make(index)
    r = LadderBatches(LadderBank(open_ladders(scratch / "ladders", ladders)), rank.batch, rank.versions, 0)
    paths = [pool.root / name for name in pool.train[:PICTURES]]
    with clock.part("labelled picture"):
        pictures = decode_all(paths, size)
    clock.wall["labelled picture"][0] /= len(paths)
    labelled = QualityBatches(LabelledViews(pictures, [0.0] * len(pictures), 0), config.optim.batch, 1)
    endless = (batch for epoch in count() for batch in labelled.epoch(epoch))
    streams: Streams = {
        "q": lambda step: next(endless),
        "d": lambda step: d.draw(0, step),
        "r": lambda step: r.draw(0, step),
    }
    return streams, {f"{name}_ms": clock.milliseconds(name) for name in clock.wall}


def make_task(config: TrainConfig) -> StudentTask:
    model = build_model(config.model, pretrained=False)
    task = StudentTask(model, config.distill, 1, rank=config.rank)
    task.step += 1  # past the ramp: every term has its weight
    return task.to(memory_format=torch.channels_last).train()


def profile(config: TrainConfig, streams: Streams, steps: int, threads: int) -> dict[str, Any]:
    """Milliseconds of the parts of a step, and of each stream by itself."""
    torch.set_num_threads(threads)
    task = make_task(config)
    optimiser = torch.optim.AdamW(parameter_groups(task, config.optim), lr=1e-6)
    clock = Clock()
    for step in range(steps + 1):
        batch = {}
        with clock.part("step"):
            for name, draw in streams.items():
                with clock.part(f"draw {name}"):
                    batch[name] = draw(step)
            with clock.part("forward"):
                loss = task(batch)["loss"]
            optimiser.zero_grad(set_to_none=True)
            with clock.part("backward"):
                loss.backward()
            with clock.part("clip and AdamW"):
                torch.nn.utils.clip_grad_norm_(task.parameters(), config.optim.clip)
                optimiser.step()
        for name, one in batch.items():
            with clock.part(f"alone {name}"):
                task({name: one})["loss"].backward()
        if step == 0:  # the first one allocates
            clock.wall.clear()
            clock.processor.clear()
    whole = clock.milliseconds("step")
    parts = [name for name in clock.wall if name != "step" and not name.startswith("alone")]
    alone = {name: clock.milliseconds(f"alone {name}") for name in streams}
    distill, rank = config.distill, config.rank
    pictures = {"q": config.optim.batch, "d": distill.batch, "r": rank.batch * rank.versions + 1}
    return {
        "step_ms": whole,
        "cores_used": clock.cores_used("step", threads),
        "shares": {name: clock.milliseconds(name) / whole for name in parts},
        "streams_alone": {
            name: {"pictures": pictures[name], "to_q": alone[name] / alone["q"], "ms": alone[name]} for name in streams
        },
    }


def quality_step(config: TrainConfig, streams: Streams, steps: int) -> dict[str, float]:
    """Forward and backward of the Q stream in one thread: milliseconds, and pages that the system had to hand out."""
    torch.set_num_threads(1)
    task, clock = make_task(config), Clock()
    for step in range(steps + 1):
        batch = {"q": streams["q"](step)}
        if step == 1:  # the first one allocates
            clock.wall.clear()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with clock.part("step"):
            task(batch)["loss"].backward()
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps
    return {"ms": clock.milliseconds("step"), "page_faults": faults}


def depthwise_backward(batch: int = 16, channels: int = 672, side: int = 14, kernel: int = 5) -> dict[str, float]:
    """Milliseconds of the backward pass of one depthwise convolution, with and without the gradient of its weights."""
    torch.set_num_threads(1)
    x = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(channels, 1, kernel, kernel, requires_grad=True)
    out = torch.nn.functional.conv2d(x, weight, padding=kernel // 2, groups=channels)
    gradient, clock = torch.randn_like(out), Clock()
    for _ in range(8):
        for name, wanted in (("with", (x, weight)), ("without", (x,))):
            with clock.part(name):
                torch.autograd.grad(out, wanted, gradient, retain_graph=True)
    found = {f"{name}_ms": clock.milliseconds(name) for name in clock.wall}
    return found | {"ratio": found["with_ms"] / found["without_ms"]}


def heaviest(config: TrainConfig, streams: Streams) -> dict[str, float]:
    """The operators in which a step spends most processor time, by their share of it, in one thread."""
    torch.set_num_threads(1)
    task = make_task(config)
    batch = {name: draw(0) for name, draw in streams.items()}
    task(batch)["loss"].backward()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        task(batch)["loss"].backward()
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    return {row.key: float(np.round(row.self_cpu_time_total / total, 4)) for row in rows[:8]}


if __name__ == "__main__":
    main()
