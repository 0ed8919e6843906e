"""Keep what evaluation needs of finished split runs: configuration and test predictions, without weights.

    python -m tools.keep_predictions runs/quality --output results/predictions/livec-quality-lite

``moslens evaluate`` and ``moslens compare`` read such folders with ``--reuse``. ``training.json`` has the steps of a
run, its seconds, the hash of its weights, and the machine.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.common import machine
from moslens.system.files import write_json
from moslens.train.run_folder import Run

FILES = ("config.json", "predictions.csv", "metrics.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    for folder in sorted(options.runs.glob("split-*")):
        run, last = Run(folder), Run(folder).last_row()
        if run.finished and last is not None:
            target = options.output / folder.name
            target.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                shutil.copyfile(folder / name, target / name)
            facts = {"steps": last["step"], "seconds": run.seconds(), "weights_sha256": run.weights_sha256()}
            write_json(target / "training.json", facts | {"machine": machine()})
            print(target)


if __name__ == "__main__":
    main()
