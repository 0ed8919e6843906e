"""Do 95 % intervals hold the true figure in 95 % of cases, and do tests at 5 % err in 5 %?

    python -m benchmarks.quality.significance

Simulated data sets whose true figures are known in closed form; prints two tables and writes
``results/statistics.json``. Opinion scores are normal; a prediction is the score plus noise, of which a part is shared
by all pictures of a reference where there are references.

- *coverage*: how often the 95 % bootstrap interval of one split holds the true SRCC or PLCC.
- *size*: how often a paired test at 5 % finds a difference on ten 80/20 splits of 1,162 pictures between two models
  that are equally good. With *one model each* all splits measure the same two models; with *a run for every split*
  every split measures a new training run of each, which errs in its own way and is a little better or worse by luck.
"""

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import argument_parser, machine, write_record
from moslens.evaluate.significance import bootstrap_interval, corrected_t_test, paired_bootstrap, sign_test
from moslens.metrics import fit_logistic, plcc, srcc

Vector = NDArray[np.float64]
NOISE = 0.55
TEST_PARTS = (("232 pictures", 232, 1), ("25 references of 25", 25, 25), ("16 references of 125", 16, 125),
         ("6 references of 27", 6, 27))  # fmt: skip
PICTURES, SPLITS, TESTED = 1162, 10, 232


def main() -> None:
    parser = argument_parser(__doc__, "statistics.json")
    parser.add_argument("--repeats", type=int, default=600)
    parser.add_argument("--draws", type=int, default=200, help="of each bootstrap")
    options = parser.parse_args()
    started = time.time()
    covered = {name: coverage(n, each, options.repeats, options.draws) for name, n, each in TEST_PARTS}
    for name, row in covered.items():
        print(f"{name:22s} coverage " + ", ".join(f"{key} {value:.3f}" for key, value in row.items()))
    sizes = {name: size(own, options.repeats, options.draws)
             for name, own in (("one model each", False), ("a run for every split", True))}  # fmt: skip
    for name, row in sizes.items():
        print(f"{name:22s} size " + ", ".join(f"{key} {value:.3f}" for key, value in row.items()))
    write_record(
        options.output,
        {
            "protocol": f"{options.repeats} simulated data sets a row, {options.draws} bootstrap draws each; intervals"
            f" at 95 %, tests at 5 %; the standard error of a share near 0.05 or 0.95 is"
            f" {math.sqrt(0.05 * 0.95 / options.repeats):.3f}",
            "coverage": covered,
            "size": sizes,
            "seconds": round(time.time() - started, 1),
            "machine": machine(),
        },
        ("numpy", "scipy"),
    )


def coverage(references: int, each: int, repeats: int, draws: int) -> dict[str, float]:
    """Shares of repeats whose interval holds the true figure. Half of the noise variance is that of the reference."""
    correlation = 1 / math.sqrt(1 + NOISE**2)
    true = {"srcc": 6 / math.pi * math.asin(correlation / 2), "plcc": correlation}
    held = dict.fromkeys(true, 0)
    names = np.repeat(np.arange(references), each)
    groups = names.tolist() if each > 1 else None
    for repeat in range(repeats):
        rng = np.random.default_rng((1, references, repeat))
        mos = rng.normal(size=names.size)
        shared = rng.normal(size=references)[names] if each > 1 else rng.normal(size=names.size)
        prediction = mos + NOISE * (shared + rng.normal(size=names.size)) / math.sqrt(2)
        mapped = fit_logistic(prediction, mos)(prediction)
        for name, metric, values in (("srcc", srcc, prediction), ("plcc", plcc, mapped)):
            found = bootstrap_interval(metric, values, mos, rng, draws=draws, groups=groups)
            held[name] += found.low <= true[name] <= found.high
    return {name: count / repeats for name, count in held.items()}


def size(own_runs: bool, repeats: int, draws: int) -> dict[str, float]:
    """Shares of repeats in which each test calls two equally good models different."""
    wrong = {"paired bootstrap": 0, "corrected t-test": 0, "sign test": 0}
    for repeat in range(repeats):
        rng = np.random.default_rng((2, own_runs, repeat))
        mos = rng.normal(size=PICTURES)
        models = [mos + NOISE * rng.normal(size=PICTURES) for _ in range(2)]
        tests = [rng.permutation(PICTURES)[:TESTED] for _ in range(SPLITS)]
        first, second = ([measured(model, own_runs, rng)[test] for test in tests] for model in models)
        target = [mos[test] for test in tests]
        ours, theirs = ([srcc(x, y) for x, y in zip(one, target, strict=True)] for one in (first, second))
        names = [test.tolist() for test in tests]
        ratio = TESTED / (PICTURES - TESTED)
        found: dict[str, Any] = {
            "paired bootstrap": paired_bootstrap(srcc, first, second, target, rng, groups=names, draws=draws),
            "corrected t-test": corrected_t_test(ours, theirs, ratio),
            "sign test": sign_test(ours, theirs),
        }
        for name, test in found.items():
            wrong[name] += test.p < 0.05
    return {name: count / repeats for name, count in wrong.items()}


def measured(model: Vector, own_run: bool, rng: np.random.Generator) -> Vector:
    """The model, or a training run of it: errors of its own, by chance more or fewer."""
    if not own_run:
        return model
    return np.asarray(model + NOISE * 0.6 * rng.uniform(0.7, 1.3) * rng.normal(size=model.size), dtype=np.float64)


if __name__ == "__main__":
    main()
