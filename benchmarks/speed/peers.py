"""Pictures per second of moslens beside metrics of pyiqa, on the same photos in the same run.

    pip install pyiqa
    python -m benchmarks.speed.peers [--model NAME|DIR] [--rounds 3] [--pictures 6]

prints a table and writes ``results/peers-benchmark.json``. Networks are built as pyiqa configures them, but with random
weights, since speed does not depend on those and nothing is to be downloaded. Every picture is a JPEG of 800 x 1080: a
path goes in, a score comes out. A metric of pyiqa reads the file as pyiqa does and takes one picture at a time, with as
many threads as there are cores; moslens is ``Scorer.score_many`` with its maps, and ``one_by_one`` is ``Scorer.score``,
with the same threads. The rounds are interleaved, so that a busy machine slows all alike.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.common import add_model_option, argument_parser, interleaved, machine, show_targets, write_record
from benchmarks.pictures import make_photos
from moslens import Scorer

SHAPE = (1080, 800)
WANTED = {"MUSIQ": 10, "TOPIQ-NR": 20, "HyperIQA": 50}


def main() -> None:
    parser = argument_parser(__doc__, "peers-benchmark.json")
    add_model_option(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=6)
    options = parser.parse_args()
    started = time.time()
    state = machine()
    scorer = Scorer(options.model)
    peers = build_peers(scorer.threads)
    with tempfile.TemporaryDirectory() as scratch:
        paths = make_photos(Path(scratch) / "photos", SHAPE, options.pictures)
        tasks: dict[str, Callable[[], object]] = {
            "moslens": lambda: check(getattr(result, "score", math.nan) for result in scorer.score_many(paths)),
            "one_by_one": lambda: check(scorer.score(path).score for path in paths),
            **{name: partial(run_peer, metric, paths) for name, metric in peers.items()},
        }
        for task in tasks.values():  # what only the first picture costs is not counted
            task()
        seconds = interleaved(tasks, options.rounds)
    rate = {name: len(paths) / statistics.median(values) for name, values in seconds.items()}
    ratio = {name: rate["moslens"] / rate[name] for name in peers}
    one_by_one = {name: rate["one_by_one"] / rate[name] for name in peers}
    for name in peers:
        print(f"{name:10s} moslens is {ratio[name]:7.1f} x as fast ({one_by_one[name]:.1f} x one by one)")
    targets = {f"at least {least} x {name}": ratio[name] >= least for name, least in WANTED.items()}
    show_targets(targets)
    write_record(
        options.output,
        {
            "model": scorer.model_id,
            "protocol": f"{len(paths)} JPEGs of {SHAPE[1]} x {SHAPE[0]}, path to score, median of {options.rounds} "
            "interleaved rounds; networks of pyiqa with random weights",
            "ratio": ratio,
            "ratio_one_by_one": one_by_one,
            "targets_met": targets,
            "pictures_per_second": rate,
            "parameters": {name: sum(p.numel() for p in metric.parameters()) for name, metric in peers.items()},
            "threads": scorer.threads,
            "seconds": round(time.time() - started, 1),
            "machine": state,
        },
        ("onnxruntime", "pyiqa", "torch", "timm"),
    )


def build_peers(threads: int) -> dict[str, Any]:
    """pyiqa's networks as its own table configures them, with random weights; PIQE has none."""
    try:
        import timm
        import torch
        from pyiqa.archs.hypernet_arch import HyperNet
        from pyiqa.archs.musiq_arch import MUSIQ
        from pyiqa.archs.piqe_arch import PIQE
        from pyiqa.archs.topiq_arch import CFANet
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: pip install pyiqa") from None
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    offline = timm.create_model

    def random_start(name: str, pretrained: bool = False, **how: Any) -> Any:
        return offline(name, pretrained=False, **how)

    with mock.patch.object(timm, "create_model", random_start):  # some ask for ImageNet weights whatever they are told
        peers = {
            "MUSIQ": MUSIQ(pretrained=False),
            "TOPIQ-NR": CFANet(
                semantic_model_name="resnet50", use_ref=False, pretrained=False, backbone_pretrain=False
            ),
            "HyperIQA": HyperNet(pretrained=False),
            "PIQE": PIQE(),
        }
    return {name: metric.eval() for name, metric in peers.items()}


def run_peer(metric: Any, paths: list[Path]) -> None:
    """Every picture from its file to its score."""
    import torch
    from pyiqa.utils import imread2tensor

    with torch.inference_mode():
        check(float(metric(imread2tensor(str(path), rgb=True)[None]).flatten()[0]) for path in paths)


def check(scores: Any) -> None:
    """Take all scores; one that is not finite ends the run, since its time may not be that of a real one."""
    if not all(math.isfinite(score) for score in list(scores)):
        raise SystemExit("a score is not finite")


if __name__ == "__main__":
    main()
