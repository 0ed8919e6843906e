"""The recipes for data frames: Hugging Face `map` and Spark `mapInPandas` give the scores of a Scorer."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from helpers.paths import ROOT
from moslens import Failure, Scorer


@pytest.fixture
def photos(photo_folder: Path, tmp_path: Path) -> Path:
    """The six photos, and one that is cut short."""
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    whole = (photo_folder / "a.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def run(words: list[str], folder: Path) -> None:
    """One of the examples; what it keeps for itself goes below ``folder``."""
    environment = os.environ | {
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(folder / "spark"),
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
    }
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr


def assert_scored(rows: list[dict[str, Any]], photos: Path, model: Path) -> None:
    expected = {str(path): path for path in sorted(photos.iterdir())}
    assert sorted(row["path"] for row in rows) == list(expected)
    scorer = Scorer(model, threads=1)
    for row in rows:
        (result,) = scorer.score_many([row["path"]])
        assert row["model"] == scorer.model_id
        if isinstance(result, Failure):
            assert (row["status"], row["error"]) == ("error", result.error.message)
        else:
            assert row["status"] == "ok"
            assert [row[name] for name in ("score", "low", "high")] == pytest.approx(
                [result.score, result.low, result.high], abs=1e-4
            )
            assert (row["width"], row["height"]) == (result.width, result.height)
    assert sum(row["status"] == "error" for row in rows) == 1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs moslens[frames]")
@pytest.mark.parametrize("processes", [None, 2])
def test_hugging_face_map(photos: Path, tiny_model: Path, tmp_path: Path, processes: int | None) -> None:
    output = tmp_path / "rows.parquet"
    words = [str(ROOT / "examples" / "hf_datasets.py"), str(photos), str(output), "--model", str(tiny_model)]
    run(words + (["--processes", str(processes)] if processes else []), tmp_path)
    rows = pq.read_table(output).to_pylist()
    assert_scored(rows, photos, tiny_model)
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="needs moslens[spark]")
@pytest.mark.skipif(not (shutil.which("java") or os.environ.get("JAVA_HOME")), reason="needs a Java runtime for Spark")
def test_spark_map_in_pandas(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "rows"
    run([str(ROOT / "examples" / "spark.py"), str(photos), str(output), "--model", str(tiny_model)], tmp_path)
    parts = sorted(output.glob("part-*.parquet"))
    assert_scored([row for part in parts for row in pq.read_table(part).to_pylist()], photos, tiny_model)
