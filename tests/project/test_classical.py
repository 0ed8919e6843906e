"""The figures of the classical metrics: their sign, pictures without a score, the process that scores."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import classical, classical_metrics
from moslens.data.records import Dataset, DatasetCard, Sample
from moslens.data.split import make_split


def samples(mos: list[float]) -> tuple[Sample, ...]:
    return tuple(Sample(Path(f"{n}.jpg"), f"{n}.jpg", value) for n, value in enumerate(mos))


def scores(values: list[float | None]) -> dict[str, float | None]:
    return {f"{n}.jpg": value for n, value in enumerate(values)}


class TestFigures:
    def test_lower_is_better_has_its_sign_changed(self) -> None:
        found = classical.figures(scores([4, 3, 1, 2]), samples([10, 20, 30, 40]), -1)
        assert found["srcc"] == pytest.approx(0.8)
        assert found["plcc_raw"] == pytest.approx(0.8)
        assert (found["n"], found["failed"]) == (4, 0)
        assert classical.figures(scores([4, 3, 1, 2]), samples([10, 20, 30, 40]))["srcc"] == pytest.approx(-0.8)

    def test_a_picture_without_a_score_is_counted_and_left_out(self) -> None:
        found = classical.figures(scores([4, None, 3, 1, 2]), samples([10, 99, 20, 30, 40]), -1)
        assert found["srcc"] == pytest.approx(0.8)
        assert (found["n"], found["failed"]) == (4, 1)

    def test_failures_are_named_with_the_reason(self) -> None:
        rows = {
            "livec": [{"photo": "livec/a.jpg", "NIQE": {"score": 3.0}}],
            "flive_voc": [{"photo": "flive_voc/b.jpg", "NIQE": {"score": None, "why": "too small"}}],
        }
        assert classical.failed(rows, "NIQE") == {"flive_voc/b.jpg": "too small"}
        assert classical.scores_of(rows["flive_voc"], "NIQE") == {"b.jpg": None}

    def test_an_interval_holds_its_figure(self) -> None:
        rng = np.random.default_rng(1)
        mos = rng.uniform(0, 100, 80)
        values = (100 - mos + rng.normal(0, 20, 80)).tolist()
        found = classical.on_all(scores(values), samples(mos.tolist()), -1)
        for name in ("srcc", "plcc"):
            low, high = found[f"{name}_interval"]
            assert 0.5 < low < found[name] < high < 1

    def test_every_split_is_measured_on_its_own_test_part(self) -> None:
        mos = [float(n) for n in range(40)]
        dataset = Dataset("x", Path(), samples(mos), DatasetCard("x", "x", "custom", 40, "MOS", (0, 100)))
        tested = {dataset.samples[i].name for i in make_split(dataset, 3).test}
        values: dict[str, float | None] = {one.name: one.mos * (-1 if one.name in tested else 1)
                                           for one in dataset.samples}  # fmt: skip
        values[min(tested)] = None
        found = classical.on_splits(values, dataset, -1)
        assert [row["seed"] for row in found["splits"]] == list(range(10))
        assert found["splits"][3]["srcc"] == pytest.approx(1)
        assert (found["splits"][3]["n"], found["splits"][3]["failed"]) == (7, 1)
        assert {one.name for one in classical.tested(dataset)} >= tested
        assert found["median"]["srcc"] == pytest.approx(np.median([row["srcc"] for row in found["splits"]]))


class TestMetrics:
    def test_an_error_and_a_score_that_is_none_are_told(self) -> None:
        def fails(pixels: Any) -> float:
            raise AssertionError("small frame size")

        pixels = np.zeros((2, 3, 3), np.uint8)
        assert classical_metrics.measured(fails, pixels)["why"] == "AssertionError: small frame size"
        found = classical_metrics.measured(lambda pixels: float("nan"), pixels)
        assert (found["score"], found["why"]) == (None, "the score is nan")
        assert classical_metrics.measured(lambda pixels: pixels.size, pixels)["score"] == 18

    def test_pixels_go_through_the_pipe_as_decoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        child = tmp_path / "child.py"
        child.write_text(
            "import json, math, sys\n"
            "print(json.dumps({'numpy': '1'}), flush=True)\n"
            "for line in iter(sys.stdin.buffer.readline, b''):\n"
            "    data = sys.stdin.buffer.read(math.prod(json.loads(line)))\n"
            "    print(json.dumps({'NIQE': {'score': sum(data)}}), flush=True)\n"
        )
        monkeypatch.setattr(classical, "CHILD", child)
        pixels = (np.arange(40 * 50 * 3) % 251).astype(np.uint8).reshape(40, 50, 3)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        with classical.Classical(Path(sys.executable)) as found:
            for _ in range(2):
                answer = found.score(Sample(tmp_path / "a.png", "a.png", 1.0))
                assert answer["NIQE"]["score"] == int(pixels.sum())
        assert json.dumps(found.versions) == '{"numpy": "1"}'

    def test_a_python_without_the_packages_ends_the_run(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="no-python: No such file"):
            classical.Classical(tmp_path / "no-python")
        with pytest.raises(SystemExit, match="ended with code 1"):
            classical.Classical(Path(sys.executable))


def test_the_classical_figures_of_a_record_are_kept_for_the_same_pictures_alone(tmp_path: Path) -> None:
    datasets = {"livec": {"pictures": 3, "data_hash": "a"}, "flive_voc": {"pictures": 2, "data_hash": "b"}}
    figures = {metric: {"srcc": 0.1} for metric in classical.CLASSICAL}
    record = {
        "datasets": datasets,
        "livec": figures | {"moslens, SHDIQA": {"srcc": 0.9}},
        "flive_voc": figures | {classical.SHIPPED: {"srcc": 0.5}},
        "failed": {"NIQE": {"flive_voc/a.jpg": "too small"}},
        "classical_versions": {"brisque": "0.2.0"},
        "seconds": 12.5,
    }
    path = tmp_path / "classical.json"
    path.write_text(json.dumps(record), "utf-8")
    kept = classical.earlier(path, datasets)
    assert kept["livec"] == kept["flive_voc"] == figures
    assert kept["failed"] == record["failed"]
    assert kept["classical_seconds"] == 12.5
    with pytest.raises(SystemExit, match="other pictures"):
        classical.earlier(path, datasets | {"livec": {"pictures": 3, "data_hash": "c"}})
