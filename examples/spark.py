"""Score a list of pictures with Spark: `mapInPandas` with a Scorer in every task.

    pip install moslens pyspark pandas pyarrow        # and a Java runtime
    python examples/spark.py photos rows

Paths must be readable on every worker: a shared file system here, or URLs that are fetched in ``score`` and handed over
as a column ``bytes``.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial

import pandas as pd
from pyspark.sql import SparkSession

from moslens import Scorer
from moslens.bulk.inputs import find_pictures

SCHEMA = (
    "path string, score double, low double, high double, width long, height long, "
    "status string, error string, model string, version string"
)
ROWS_A_TASK = 500


def score(frames: Iterator[pd.DataFrame], model: str | None) -> Iterator[pd.DataFrame]:
    """One model a task, one thread: Spark runs a task a core."""
    scorer = Scorer(model, threads=1, maps=False)
    for frame in frames:
        yield scorer(frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos")
    parser.add_argument("output", help="folder for Parquet parts")
    parser.add_argument("--model", default=None)
    options = parser.parse_args()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    paths = list(find_pictures([options.photos], sys.stdin.buffer))
    spark = SparkSession.builder.appName("moslens").getOrCreate()
    try:
        rows = spark.createDataFrame([(path,) for path in paths], "path string")
        tasks = max(spark.sparkContext.defaultParallelism, len(paths) // ROWS_A_TASK)
        scored = rows.repartition(tasks).mapInPandas(partial(score, model=options.model), SCHEMA)
        scored.write.parquet(options.output)
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
