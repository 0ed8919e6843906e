"""One training step of the paper configuration on the CPU: time and memory, forward and backward.

    python -m benchmarks.speed.paper_step --batch 4

prints a table and writes ``results/paper-step.json``. A labelled batch and a batch of composites of the same size go
through the student with all three losses; weights are random and targets drawn, which changes neither time nor memory.
The reference is the same step without BAF and distillation (DEIQT), in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

from benchmarks.common import ROOT, argument_parser, machine, write_record

ROWS = {"full": "SHDIQA with distillation", "off": "reference: quality alone, BAF off"}
GRID = 4


def main() -> None:
    parser = argument_parser(__doc__, "paper-step.json")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", choices=list(ROWS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        sys.stdout.write(json.dumps(measure(options.only, options.batch, options.steps)))
        return
    where = machine()
    rows = []
    for baf, name in ROWS.items():
        words = ["--only", baf, "--batch", str(options.batch), "--steps", str(options.steps)]
        command = [sys.executable, "-m", "benchmarks.speed.paper_step", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        rows.append({"name": name} | json.loads(done.stdout))
        row = rows[-1]
        print(
            f"{name:36s} {row['parameters']:,} parameters, {row['pictures']} pictures a step: "
            f"forward {row['forward_seconds']:.2f} s, backward {row['backward_seconds']:.2f} s, "
            f"AdamW {row['update_seconds']:.2f} s, peak {row['peak_mb']:.0f} MB"
        )
    record = {
        "protocol": f"paper configuration, random weights, {options.batch} labelled crops and as many composites on "
        f"{GRID} x {GRID} blocks; fastest of {options.steps} steps; peak resident memory of the process",
        "machine": where,
        "rows": rows,
    }
    write_record(options.output, record, ("torch", "timm"))


def measure(baf: str, batch: int, steps: int) -> dict[str, Any]:
    """Seconds of the fastest of ``steps`` steps and the peak memory of this process."""
    import torch

    from moslens.losses import affinity_distillation, contrastive_distillation, quality_loss
    from moslens.model import build

    torch.manual_seed(0)
    model = build("paper", baf=baf)
    projection = torch.nn.Linear(384, 128)
    optimiser = torch.optim.AdamW([*model.parameters(), *projection.parameters()], 1e-4)
    labelled, labels = torch.rand(batch, 3, 224, 224), torch.randn(batch)
    composites, targets = torch.rand(batch, 3, 224, 224), torch.randn(batch, GRID**2, 128)
    kinds, levels = torch.randint(0, 26, (batch, GRID**2)), torch.randint(1, 6, (batch, GRID**2))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        loss = quality_loss(model(labelled), labels)
        if baf != "off":
            tokens = model.parts(composites, GRID).blocks.gated
            loss = loss + 0.1 * contrastive_distillation(projection(tokens), targets, kinds, levels)
            loss = loss + affinity_distillation(tokens, targets)
        forward = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        backward = time.perf_counter()
        optimiser.step()
        update = time.perf_counter()
        times.append((update - start, forward - start, backward - forward, update - backward))
    if not torch.isfinite(loss.detach()):
        raise SystemExit("the loss is not finite")
    _, forward_seconds, backward_seconds, update_seconds = min(times)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "pictures": batch if baf == "off" else 2 * batch,
        "threads": torch.get_num_threads(),
        "loss": float(loss.detach()),
        "forward_seconds": forward_seconds,
        "backward_seconds": backward_seconds,
        "update_seconds": update_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }


if __name__ == "__main__":
    main()
