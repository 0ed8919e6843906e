"""Score a Hugging Face data set: `map` with a Scorer adds its columns.

    pip install moslens datasets
    python examples/hf_datasets.py photos rows.parquet [--processes 2]

A data set with a column ``image`` works alike; ``cast_column("image", datasets.Image(decode=False))`` hands over the
files as they are, so that colour profiles and 16 bits count.
"""

import argparse
import sys

from datasets import Dataset

from moslens import Scorer
from moslens.bulk.inputs import find_pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos")
    parser.add_argument("output")
    parser.add_argument("--model", default=None)
    parser.add_argument("--processes", type=int, default=None)
    options = parser.parse_args()
    data = Dataset.from_dict({"path": list(find_pictures([options.photos], sys.stdin.buffer))})
    # A Scorer pickles as its model's name and hash: every process opens its own, and the cache knows it again.
    scorer = Scorer(options.model, threads=1 if options.processes else None, maps=False)
    scored = data.map(scorer, batched=True, batch_size=64, num_proc=options.processes)
    scored.to_parquet(options.output)


if __name__ == "__main__":
    main()
