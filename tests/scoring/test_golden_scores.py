"""The released model keeps its scores, ranks and calibrates as when it was released, and reacts with sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from helpers import steady
from moslens.metrics import srcc
from moslens.scoring.scorer import Scorer

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer()


@pytest.fixture(scope="module")
def record(scorer: Scorer) -> dict[str, Any]:
    return steady.stored(scorer.model_id)


@pytest.fixture(scope="module")
def livec() -> None:
    if not steady.labelled(1):
        pytest.skip(f"needs the data set in {steady.LIVEC}")


def golden(record: dict[str, Any]) -> dict[Path, float]:
    """The golden scores of the photos at hand: all 24 where LIVEC is, else the six committed ones."""
    return {path: record["scores"][name] for name, path in steady.golden_photos().items()}


def assert_golden(found: list[float], record: dict[str, Any]) -> None:
    assert np.abs(np.subtract(found, list(golden(record).values()))).max() <= TOLERANCE


def test_there_are_24_golden_photos(record: dict[str, Any]) -> None:
    assert len(record["scores"]) == steady.GOLDEN_PHOTOS
    assert set(steady.golden_photos()) <= set(record["scores"])


@pytest.mark.parametrize("threads", [1, 3])
def test_golden_scores_at_any_thread_count(record: dict[str, Any], threads: int) -> None:
    scorer = Scorer(threads=threads)
    assert_golden([scorer.score(path).score for path in golden(record)], record)


@pytest.mark.parametrize("workers", [1, 4])
def test_golden_scores_at_any_worker_count(scorer: Scorer, record: dict[str, Any], workers: int) -> None:
    assert_golden([result.score for result in scorer.score_many(golden(record), workers=workers)], record)


@pytest.mark.parametrize(
    "changes",
    [
        {"intra_op_num_threads": 4},
        {"inter_op_num_threads": 3, "execution_mode": ort.ExecutionMode.ORT_PARALLEL},
        {"graph_optimization_level": ort.GraphOptimizationLevel.ORT_DISABLE_ALL},
        {"graph_optimization_level": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC},
        {"enable_mem_pattern": False, "enable_cpu_mem_arena": False},
    ],
    ids=["threads inside operators", "parallel operators", "no optimisation", "some optimisation", "no arena"],
)
def test_golden_scores_under_any_session_options(
    record: dict[str, Any], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ort.InferenceSession

    def session(weights: bytes, options: ort.SessionOptions, **rest: Any) -> ort.InferenceSession:
        for name, value in changes.items():
            setattr(options, name, value)
        return original(weights, options, **rest)

    monkeypatch.setattr(ort, "InferenceSession", session)
    scorer = Scorer(threads=1)
    for path, wanted in list(golden(record).items())[:8]:
        assert scorer.score(path).score == pytest.approx(wanted, abs=TOLERANCE)


def test_golden_scores_whatever_the_order_and_the_neighbours(scorer: Scorer, record: dict[str, Any]) -> None:
    paths = list(golden(record))
    shuffled = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]
    found = dict(zip(shuffled, scorer.score_many([*shuffled, "missing.jpg"]), strict=False))
    assert_golden([found[path].score for path in paths], record)


@pytest.mark.usefixtures("livec")
def test_rank_order_and_calibration_do_not_drift(scorer: Scorer, record: dict[str, Any]) -> None:
    then, now = record["drift"], steady.drift(scorer)
    assert len(now["scores"]) == steady.DRIFT_PHOTOS
    assert srcc(list(now["scores"].values()), [then["scores"][name] for name in now["scores"]]) >= 0.9999
    assert now["srcc"] == pytest.approx(then["srcc"], abs=0.002)
    assert now["bias"] == pytest.approx(then["bias"], abs=0.05)
    assert now["coverage"] == pytest.approx(then["coverage"], abs=0.011)


@pytest.mark.usefixtures("livec")
def test_the_drift_record_is_that_of_a_working_model(record: dict[str, Any]) -> None:
    """A record written with a broken model would agree with itself."""
    assert record["drift"]["srcc"] >= 0.8
    assert abs(record["drift"]["bias"]) <= 5
    assert record["drift"]["coverage"] >= 0.85


@pytest.mark.usefixtures("livec")
def test_harmless_changes_move_the_score_as_little_as_when_it_was_measured(
    scorer: Scorer, record: dict[str, Any]
) -> None:
    for name, now in steady.reactions(scorer).items():
        then = record["reactions"][name]
        assert now["mean"] <= 1.1 * then["mean"] + 0.05, name
        assert now["max"] <= 1.1 * then["max"] + 0.2, name
        assert then["mean"] <= 5, f"{name}: not harmless for this model"


def test_harmful_changes_lower_the_score(scorer: Scorer, record: dict[str, Any]) -> None:
    for kind, now in steady.losses(scorer).items():
        assert now >= 0.9 * record["losses"][kind] - 0.2, kind
        assert now >= 2, f"{kind} at level 4 is not seen"
