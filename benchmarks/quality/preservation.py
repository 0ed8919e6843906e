"""What distillation alone does to features that know opinions, and what L_K keeps of them.

    python -m benchmarks.quality.preservation --data DIR --work DIR [--steps 1500] [--preserve 10] [--longer RUN]

A run of ``configs/distillation-photographic-lite.toml`` learns from the teacher of kinds alone, without opinion
scores, for ``--steps`` steps: once with ``distill.preserve`` 0, once with that of ``--preserve``. Then the backbone is
frozen: a kernel ridge regression learns the opinion scores of LIVE In the Wild from the means and deviations of its
maps of stride 8, 16 and 32, of whole pictures at 384 px, and is measured on the test parts of ten splits. Its penalty
is chosen on a fifth of the training part. Beside both the ImageNet weights, and with ``--longer`` those of a longer
run.

The weights of the run without ``distill.preserve`` are a start in ``configs/recipes-start-288.toml``.
"""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from benchmarks.common import ROOT, add_data_option, argument_parser, machine, read_lines, write_record
from moslens.data.labelled_views import decode_all
from moslens.data.sets import load_dataset
from moslens.data.split import make_split
from moslens.metrics import srcc
from moslens.train import TrainConfig, load_config, train
from moslens.train.networks import build_model
from moslens.train.run_folder import Run

CONFIG = ROOT / "configs" / "distillation-photographic-lite.toml"
SEEDS = range(10)
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)
SIDE = 384

Features = NDArray[np.float32]


def main() -> None:
    parser = argument_parser(__doc__, "preservation.json")
    add_data_option(parser)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs, which go on after a kill")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--preserve", type=float, default=10.0)
    parser.add_argument("--longer", type=Path, help="folder of a finished run of more steps, measured too")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="changes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    runs: list[tuple[str, Run | None]] = [("ImageNet", None)]
    for name, weight in (("distillation alone", 0.0), ("with L_K", options.preserve)):
        run = Run(options.work / f"preserve-{weight:g}")
        train(config_of(options.data, options.steps, weight, options.changes), run.folder, resume=True)
        runs.append((name, run))
    if options.longer:
        runs.append(("distillation alone, longer", Run(options.longer)))
    config = config_of(options.data, options.steps, 0.0, options.changes)
    for name, run in runs:
        model = build_model(config.model, pretrained=True)
        about: dict[str, Any] = {"weight": None, "last": {}}
        if run:
            model.load_state_dict(run.weights())
            trained = run.config.distill
            about = {
                "weight": trained.preserve,
                "steps": trained.warm,
                "entries": trained.entries,
                "last": last_row(run),
            }
        rows[name] = measure(model.backbone, options.data / "livec") | about
        print(f"{name:26s} mean SRCC {rows[name]['mean']:.4f}  {about}", flush=True)
    result = {"rows": rows, "steps": options.steps, "config": config.to_dict(), "machine": machine()}
    write_record(options.output, result, ("torch", "timm", "scipy"))


def config_of(data: Path, steps: int, weight: float, changes: list[str]) -> TrainConfig:
    """The configuration of a run that distils alone."""
    own = [f"bdm.root={data / 'pristine'}", f"distill.warm={steps}", f"distill.preserve={weight}"]
    return load_config(CONFIG, [*own, *changes])


def last_row(run: Run) -> dict[str, float]:
    """The last losses that a run logged."""
    row = read_lines(run.folder / "log.jsonl")[-1]
    return {name: row[name] for name in ("ckd", "akd", "preserve", "in_image", "cross_image") if name in row}


def measure(backbone: nn.Module, root: Path) -> dict[str, Any]:
    """SRCC on the test part of every split, of a regression on frozen features."""
    dataset = load_dataset("livec", root)
    mos = np.array([sample.mos for sample in dataset.samples], np.float64)
    features = features_of(backbone.eval(), [sample.path for sample in dataset.samples])
    found = []
    for seed in SEEDS:
        split = make_split(dataset, seed, validation=0.2)
        train, chosen = list(split.train), list(split.validation)
        scores = {penalty: srcc(fitted(features, mos, train, chosen, penalty), mos[chosen]) for penalty in PENALTIES}
        best = max(scores, key=lambda penalty: scores[penalty])
        test = list(split.test)
        found.append(float(srcc(fitted(features, mos, train + chosen, test, best), mos[test])))
    return {"splits": found, "mean": statistics.fmean(found), "median": statistics.median(found)}


def fitted(
    features: Features, mos: NDArray[np.float64], train: list[int], asked: list[int], penalty: float
) -> NDArray[np.float64]:
    """What a kernel ridge regression with Gaussian kernels that learned ``train`` says of ``asked``."""
    mean, spread = features[train].mean(0), features[train].std(0) + 1e-6
    scaled = (features - mean) / spread

    def kernel(one: list[int], other: list[int]) -> NDArray[np.float64]:
        near: NDArray[np.float64] = np.exp(-cdist(scaled[one], scaled[other], "sqeuclidean") / features.shape[1])
        return near

    centre = mos[train].mean()
    weights = np.linalg.solve(kernel(train, train) + penalty * np.eye(len(train)), mos[train] - centre)
    said: NDArray[np.float64] = kernel(asked, train) @ weights + centre
    return said


@torch.inference_mode()
def features_of(backbone: Any, paths: list[Path]) -> Features:
    """Mean and deviation of every channel of the three maps, n x 2 C."""
    rows = []
    for picture in decode_all(paths, SIDE):
        x = torch.from_numpy(np.asarray(picture)).permute(2, 0, 1)[None].float() / 255
        height, width = (side // 32 * 32 for side in x.shape[-2:])
        maps: list[Tensor] = backbone.maps(x[..., :height, :width])
        rows.append(torch.cat([torch.cat([m.mean((2, 3)), m.std((2, 3))], 1) for m in maps], 1)[0])
    return torch.stack(rows).numpy()


if __name__ == "__main__":
    main()
