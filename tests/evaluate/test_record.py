"""The result format: what is in it, how splits are summed up, what a broken disk or a nan does."""

import json
import math
import statistics
import subprocess

import numpy as np
import pytest
from scipy import stats

from helpers.paths import ROOT
from moslens.errors import OutputError
from moslens.evaluate import record

CONTRACT = {
    "name", "command", "config", "dataset", "protocol", "model", "splits", "median", "mean", "std", "seconds",
    "versions", "git", "data_hash",
}  # fmt: skip


def some_splits():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 100, 80)
    return [
        {"seed": seed, **record.split_figures(target + rng.normal(0, 15, 80), target), "epoch": 8} for seed in range(4)
    ]


def test_figures_of_a_split():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, 200)
    y = 100 / (1 + np.exp(-(x - 0.5) * 8)) + rng.normal(0, 3, 200)
    found = record.split_figures(x, y)
    assert set(found) == set(record.FIGURES)
    assert found["srcc"] == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found["plcc_raw"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found["plcc"] > found["plcc_raw"] + 0.005
    # The planted noise is what remains after the fit.
    assert found["rmse"] == pytest.approx(3, abs=0.5)


def test_a_result_has_the_keys_of_the_contract_and_summaries_over_splits(tmp_path):
    splits = some_splits()
    made = record.make_result(
        name="toy", config={"a": 1}, dataset="livec", protocol="p", model="m", splits=splits, seconds=1.234,
        data_hash="0" * 64, command="moslens x", remark="kept",
    )  # fmt: skip
    assert set(made) == CONTRACT | {"remark"}
    for figure in record.FIGURES:
        values = [split[figure] for split in splits]
        assert made["median"][figure] == statistics.median(values)
        assert made["mean"][figure] == pytest.approx(np.mean(values))
        assert made["std"][figure] == pytest.approx(np.std(values))
    path = tmp_path / "deep" / "toy.json"
    record.write_result(path, made)
    read = record.read_result(path)
    assert read["splits"][0].keys() >= {"seed", "srcc", "plcc", "plcc_raw", "krcc", "rmse", "epoch"}
    assert read["splits"][3]["srcc"] == pytest.approx(splits[3]["srcc"], abs=1e-6)
    assert read["versions"]["moslens"]
    assert [p.name for p in path.parent.iterdir()] == ["toy.json"]


def test_figures_that_do_not_exist_are_null_and_left_out_of_summaries(tmp_path):
    splits = [{"seed": 0, **dict.fromkeys(record.FIGURES, math.nan)}, *some_splits()[:1]]
    made = record.make_result(
        name="n", config={}, dataset="d", protocol="p", model="m", splits=splits, seconds=0, data_hash=""
    )
    assert made["median"]["srcc"] == splits[1]["srcc"]
    assert made["splits"][0]["epoch"] is None
    record.write_result(tmp_path / "n.json", made)
    assert json.loads((tmp_path / "n.json").read_text())["splits"][0]["srcc"] is None
    nothing = record.summary(splits[:1], statistics.median)
    assert all(math.isnan(value) for value in nothing.values())


def test_unwritable_and_unreadable_results(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        record.write_result(tmp_path / "file" / "r.json", {})
    with pytest.raises(OutputError, match="cannot be read"):
        record.read_result(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"name": ')
    with pytest.raises(OutputError, match="not valid JSON"):
        record.read_result(tmp_path / "half.json")


def test_a_result_from_a_checkout_names_its_commit():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout of the repository: there is no commit to name")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    revision = record.git_revision()
    assert revision is not None
    assert len(revision.rstrip("+")) == 12
    assert head.startswith(revision.rstrip("+"))


def test_a_package_that_its_surrounding_repository_does_not_track_names_none(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    copy = tmp_path / "site-packages" / "moslens"
    copy.mkdir(parents=True)
    (copy / "__init__.py").touch()
    monkeypatch.setattr(record.moslens, "__file__", str(copy / "__init__.py"))
    assert record.git_revision() is None
