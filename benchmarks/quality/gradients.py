"""What a step of each loss does to opinions: its gradient beside that of the quality loss on photos that were held out.

    python -m benchmarks.quality.gradients RUN... [--set SECTION.KEY=VALUE] [--steps 24]

RUN: finished students of any splits, with their weights. For each, batches of every stream of
``configs/release-photographic-lite.toml`` are drawn. The gradient of a loss, with its weight in that configuration, is
taken over the weights of the network that train, and is the mean over the batches. A cosine above 0 between it and the
gradient of the quality loss on the test part says that a small step of the loss makes scores of new photos better, one
below 0 that it makes them worse. ``half`` and ``other_half`` are the cosines of each half of the batches.
"""

import dataclasses
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import ROOT, argument_parser, machine, write_record
from moslens.data.labelled_views import LabelledViews, QualityBatches, decode_all
from moslens.train.config import TrainConfig, load_config
from moslens.train.distill.composite_bank import BankBatches
from moslens.train.distill.harmless_pairs import open_harmless
from moslens.train.distill.pool import pool_of, unlabelled_photos
from moslens.train.distill.student_task import StudentTask
from moslens.train.loop import parameter_groups
from moslens.train.networks import build_model
from moslens.train.quality import dataset_of, decoded_size, labelled_stream, point_of, split_of
from moslens.train.run_folder import Run
from moslens.train.student import open_distillation_data, open_rank, start_from

CONFIG = ROOT / "configs" / "release-photographic-lite.toml"
TERMS = {"q": "quality", "held_out": "quality, held-out photos", "d": "distillation", "h": "harmless", "r": "ladders"}


def main() -> None:
    parser = argument_parser(__doc__, "gradients.json")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=24, help="batches of each loss")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="changes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [of_run(run, options.steps, options.changes) for run in options.runs]
    for row in rows:
        print(row["run"])
        for name, figures in row["terms"].items():
            print(f"  {TERMS[name]:26s} norm {figures['norm']:8.3f}  cosine {figures['held_out']:+.3f}")
    write_record(options.output, {"runs": rows, "steps": options.steps, "machine": machine()}, ("torch", "timm"))


def of_run(folder: Path, steps: int, changes: list[str]) -> dict[str, Any]:
    """Norms of the gradients of a run's losses, and their cosines with that of held-out quality."""
    run = Run(folder)
    config = load_config(CONFIG, changes)
    own = run.config
    config = dataclasses.replace(config, model=own.model, data=dataclasses.replace(own.data, root=config.data.root))
    task, streams = open_task(config, folder)
    weights = [p for group in parameter_groups(task.model, own.optim) for p in group["params"]]
    halves = {name: [torch.zeros(sum(w.numel() for w in weights)) for _ in range(2)] for name in streams}
    for name, stream in streams.items():
        for step in range(steps):
            halves[name][step % 2] += gradient(task, "q" if name == "held_out" else name, next(stream), weights) / steps
    whole = {name: sum(parts, torch.zeros(1)) for name, parts in halves.items()}
    held = halves["held_out"]
    return {
        "run": folder.name,
        "weights_sha256": run.weights_sha256(),
        "split": own.data.split,
        "terms": {
            name: {
                "norm": float(whole[name].norm()),
                "held_out": cosine(whole[name], whole["held_out"]),
                "half": cosine(halves[name][0], held[1]),
                "other_half": cosine(halves[name][1], held[0]),
            }
            for name in streams
        },
    }


def open_task(config: TrainConfig, folder: Path) -> tuple[StudentTask, dict[str, Iterator[Any]]]:
    """The finished student with all losses on, and endless batches of each."""
    dataset = dataset_of(config.data)
    split = split_of(dataset, config.data)
    labelled, labels = labelled_stream(config, dataset, split)
    held = [dataset.samples[i] for i in split.test]
    views = LabelledViews(
        decode_all([sample.path for sample in held], decoded_size(config.data)),
        [(sample.mos - labels.mean) / labels.std for sample in held],
        config.seed,
        whole=config.data.working_size,
    )
    data = open_distillation_data(config)
    d = BankBatches(data.bank, data.targets, config.distill.batch, config.seed)
    h = open_harmless(config, labelled.stream, unlabelled_photos(pool_of(config.bdm), ()), None)
    r = open_rank(config, dataset, split)
    task = StudentTask(
        build_model(config.model, pretrained=False),
        dataclasses.replace(config.distill, ramp=0.0),
        1,
        width=data.width,
        kinds=data.kinds,
        rank=config.rank,
        harmless=config.harmless,
        point=point_of(dataset, labels),
        correlation=config.optim.correlation,
    )
    start_from(task, folder)
    task.eval()
    tests = QualityBatches(views, config.optim.batch, 1)
    return task, {
        "q": (batch for epoch in count() for batch in labelled.epoch(epoch)),
        "held_out": (batch for epoch in count() for batch in tests.epoch(epoch)),
        "d": (d.draw(0, step) for step in count()),
        "h": (h.draw(0, step) for step in count()),
        "r": (r.draw(0, step) for step in count()),
    }


def gradient(task: StudentTask, stream: str, batch: Any, weights: list[torch.nn.Parameter]) -> Tensor:
    """The gradient of a loss on one batch over ``weights``, as one vector."""
    loss = task({stream: batch})["loss"]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in zip(found, weights, strict=True)])


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, 0))


if __name__ == "__main__":
    main()
