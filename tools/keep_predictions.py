"""Keep what evaluation needs of finished split runs: configuration and test predictions, without weights.

    python -m tools.keep_predictions runs/quality --output results/predictions/livec-quality-lite

``moslens evaluate`` and ``moslens compare`` read such folders with ``--reuse``.
"""

import argparse
import shutil
from pathlib import Path

FILES = ("config.json", "predictions.csv", "metrics.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    for run in sorted(options.runs.glob("split-*")):
        if all((run / name).is_file() for name in FILES):
            target = options.output / run.name
            target.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                shutil.copyfile(run / name, target / name)
            print(target)


if __name__ == "__main__":
    main()
