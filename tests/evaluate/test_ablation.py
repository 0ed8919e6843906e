"""The ablation: resumed row by row, in the committed format. Recipes: on validation parts, paired, failures kept."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from safetensors.torch import load_file

from helpers.command import call
from helpers.tiny_plans import write_parts_plan, write_recipe_plan
from moslens.data.sets import load_dataset
from moslens.data.split import make_split
from moslens.errors import CheckpointError, ConfigError
from moslens.evaluate import ablation as module
from moslens.evaluate.ablation import Budget, ablate, against_main, read_plan
from moslens.train.config import TrainConfig


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    return write_parts_plan(tmp_path)


def test_a_killed_ablation_goes_on_row_by_row(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, started, real = tmp_path / "out", [], module.train

    def counted(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
        started.append(run.relative_to(out).as_posix())
        if len(started) == 3:
            raise KeyboardInterrupt
        real(config, run, resume=resume)

    monkeypatch.setattr(module, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        ablate(read_plan(plan_file), out)
    early = json.loads((out / "ablation-tiny.json").read_text())
    assert not early["complete"]
    assert [len(row["splits"]) for row in early["rows"]] == [1, 1]
    with pytest.raises(ConfigError, match="--resume"):
        ablate(read_plan(plan_file), out)
    assert call("ablate", plan_file, "--output", out, "--resume") == 0
    assert started == ["plain/split-0", "full/split-0", "plain/split-1", "plain/split-1", "full/split-1"]
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].split()[:3] == ["row", "splits", "SRCC"]
    assert [line.split()[0] for line in shown[2:]] == ["plain", "full"]

    result = json.loads((out / "ablation-tiny.json").read_text())
    assert result["complete"]
    assert {
        "name",
        "command",
        "config",
        "dataset",
        "protocol",
        "model",
        "splits",
        "median",
        "versions",
        "data_hash",
    } <= (set(result))
    full = result["rows"][1]
    assert full["splits"] == result["splits"]
    assert [split["seed"] for split in full["splits"]] == [0, 1]
    for row in result["rows"]:
        for split in row["splits"]:
            lines = (out / row["name"] / f"split-{split['seed']}" / "predictions.csv").read_text().splitlines()[1:]
            mos, prediction = zip(*((float(x) for x in line.split(",")[1:3]) for line in lines), strict=True)
            assert split["srcc"] == pytest.approx(scipy.stats.spearmanr(mos, prediction).statistic, abs=1e-6)
            assert split["seconds"] > 0
            assert split["epoch"] == 1
    gaps = result["rows"][0]["srcc_against_main"]
    expected = {
        str(a["seed"]): a["srcc"] - b["srcc"] for a, b in zip(result["rows"][0]["splits"], full["splits"], strict=True)
    }
    assert gaps == pytest.approx(expected, abs=2e-6)
    assert set(full["srcc_against_main"].values()) == {0}


def test_a_run_of_another_plan_is_refused(plan_file: Path, tmp_path: Path) -> None:
    ablate(read_plan(plan_file), tmp_path / "out")
    text = plan_file.read_text().replace("epochs = 1", "epochs = 2")
    plan_file.write_text(text)
    with pytest.raises(CheckpointError, match=r"another configuration: optim\.epochs was 1 and is 2"):
        ablate(read_plan(plan_file), tmp_path / "out", resume=True)


def of_row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in result["rows"] if row["name"] == name)


def test_recipes_are_measured_on_validation_parts_and_paired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = write_recipe_plan(tmp_path, {"long": "[optim]\nepochs = 2\nlr_new = 1e-2\n"})
    assert call("ablate", plan, "--output", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert [line.split() for line in told.err.splitlines()[1:3]] == [
        ["main", "0,1", "13", "3", "12", "1", "3", "12", "0"],
        ["long", "0,1", "13", "3", "12", "2", "6", "24", "0"],
    ]
    result = json.loads((tmp_path / "out" / "recipes.json").read_text())
    assert (result["kind"], result["part"], result["complete"]) == ("recipe", "validation", True)
    assert result["protocol"].startswith("validation part of splits 0, 1, last epoch, steps and labelled crops by row")
    dataset = load_dataset(str(tmp_path / "set" / "labels.csv"))
    for row in result["rows"]:
        for seed in (0, 1):
            split = make_split(dataset, seed, validation=0.2)
            stored = (tmp_path / "out" / row["name"] / f"split-{seed}" / "predictions.csv").read_text()
            names = {line.split(",")[0] for line in stored.splitlines()[1:]}
            assert names == {dataset.samples[i].name for i in split.validation}
            assert not names & {dataset.samples[i].name for i in split.test}
    long, own = of_row(result, "long"), of_row(result, "main")
    assert long["budget"] == asdict(Budget(13, 3, 12, 2, 6, 24))
    gaps = [a["srcc"] - b["srcc"] for a, b in zip(long["splits"], own["splits"], strict=True)]
    paired = long["against_main"]
    assert paired["splits"] == 2
    assert paired["difference"] == pytest.approx(statistics.fmean(gaps), abs=2e-6)
    assert paired["error"] == pytest.approx(statistics.stdev(gaps) / 2**0.5, abs=2e-6)
    assert paired["wins"] == sum(gap > 0 for gap in gaps)
    assert own["against_main"]["difference"] == 0
    assert result["rows"][0]["against_previous"] is None
    for before, row in itertools.pairwise(result["rows"]):
        steps = [a["srcc"] - b["srcc"] for a, b in zip(row["splits"], before["splits"], strict=True)]
        assert row["against_previous"]["difference"] == pytest.approx(statistics.fmean(steps), abs=2e-6)
        assert row["against_previous"]["wins"] == sum(step > 0 for step in steps)
    trial = json.loads((tmp_path / "out" / "long" / "split-1.json").read_text())
    assert (trial["row"], trial["split"], trial["error"], trial["part"]) == ("long", 1, None, "validation")
    assert trial["figures"]["srcc"] == long["splits"][1]["srcc"]
    assert trial["config"]["optim"]["epochs"] == 2
    assert "mean over splits" in told.out
    assert told.out.splitlines()[-1].split()[3:5] == ["2", f"{statistics.fmean(s['srcc'] for s in long['splits']):.4f}"]


def test_a_row_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = write_recipe_plan(tmp_path, {"bad": "[optim]\nlr_new = 1e30\nlr_body = 1e30\n", "good": ""})
    assert call("ablate", plan, "--output", tmp_path / "out", "--splits", "1") == 1
    error = f"{tmp_path / 'out' / 'bad' / 'split-1'}: the loss is not finite at step 2"
    assert f"moslens: bad, split 1: {error}" in capsys.readouterr().err
    result = json.loads((tmp_path / "out" / "recipes.json").read_text())
    assert of_row(result, "bad")["failures"] == [{"seed": 1, "error": error}]
    assert of_row(result, "bad")["splits"] == []
    assert of_row(result, "bad")["against_main"] is None
    assert [split["seed"] for split in of_row(result, "good")["splits"]] == [1]
    assert not result["complete"]
    trial = json.loads((tmp_path / "out" / "bad" / "split-1.json").read_text())
    assert (trial["error"], trial["figures"]) == (error, None)
    assert trial["budget"]["steps"] == 3


def test_calls_for_some_rows_and_splits_fill_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, out, started, real = write_recipe_plan(tmp_path, {"a": "", "b": ""}), tmp_path / "out", [], module.train

    def counted(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
        started.append(run.relative_to(out).as_posix())
        real(config, run, resume=resume)

    monkeypatch.setattr(module, "train", counted)
    assert call("ablate", plan, "--output", out, "--rows", "a,main", "--splits", "1") == 0
    assert started == ["main/split-1", "a/split-1"]
    assert call("ablate", plan, "--output", out, "--rows", "b", "--splits", "0-1", "--resume") == 0
    assert started[2:] == ["b/split-0", "b/split-1"]
    result = json.loads((out / "recipes.json").read_text())
    assert [[split["seed"] for split in row["splits"]] for row in result["rows"]] == [[1], [1], [0, 1]]
    assert of_row(result, "b")["against_main"]["splits"] == 1
    assert call("ablate", plan, "--output", out, "--rows", "c", "--resume") == 2
    (out / "b" / "split-0.json").unlink()  # as after a kill between the run and its record
    assert call("ablate", plan, "--output", out, "--rows", "b", "--splits", "0", "--resume") == 0
    assert (out / "b" / "split-0.json").is_file()
    assert len(started) == 4


def test_rows_share_the_beginning_of_the_main_row(tmp_path: Path) -> None:
    more = "validation = true\nbranch_at = 0.7\n"
    plan, out = (
        write_recipe_plan(tmp_path, {"late": "[optim]\nlr_new = 1e-2\n", "same": ""}, more=more),
        tmp_path / "out",
    )
    assert call("ablate", plan, "--output", out, "--rows", "late,same", "--splits", "0") == 0
    result = json.loads((out / "recipes.json").read_text())
    assert [len(row["splits"]) for row in result["rows"]] == [1, 1, 1]
    assert [row["budget"]["shared_steps"] for row in result["rows"]] == [0, 2, 2]
    weights = [load_file(out / name / "split-0" / "model.safetensors") for name in ("main", "late", "same")]
    assert all(torch.equal(value, weights[2][name]) for name, value in weights[0].items())
    assert not all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    logged = (out / "late" / "split-0" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [3]


def test_runs_at_once_are_those_of_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"late": "[optim]\nlr_new = 1e-2\n", "bad": "[optim]\nlr_new = 1e30\nlr_body = 1e30\n"}
    plan = write_recipe_plan(tmp_path, changes, more="validation = true\nbranch_at = 0.3\n")
    results = []
    for jobs in (1, 2):
        assert call("ablate", plan, "--output", tmp_path / str(jobs), "--splits", "0", "--jobs", jobs) == 1
        results.append(json.loads((tmp_path / str(jobs) / "recipes.json").read_text()))
    for one, two in zip(*(result["rows"] for result in results), strict=True):
        assert [split["srcc"] for split in one["splits"]] == [split["srcc"] for split in two["splits"]]
    errors = [of_row(result, "bad")["failures"][0]["error"] for result in results]
    assert errors[1] == errors[0].replace(f"{tmp_path / '1'}", f"{tmp_path / '2'}")
    assert "the loss is not finite" in errors[1]
    assert json.loads((tmp_path / "2" / "late" / "split-0.json").read_text())["error"] is None


def test_differences_to_the_main_row_by_hand() -> None:
    rng = np.random.default_rng(3)
    own, others = rng.normal(0.8, 0.02, (2, 10))
    rows = [[{"seed": k, "srcc": float(v), "n": 20} for k, v in enumerate(one)] for one in (own, others)]
    found = against_main(rows[0], rows[1], 80)["against_main"]
    test = scipy.stats.ttest_rel(own, others)
    low, high = test.confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-12)
    assert found["difference"] / found["error"] == pytest.approx(test.statistic, rel=1e-9)
    assert found["wins"] + found["losses"] == 10
    assert found["wins"] == int((own > others).sum())
    wide = (1 + 10 * 20 / 80) ** 0.5
    half = (found["high"] - found["low"]) / 2
    assert found["corrected_high"] - found["difference"] == pytest.approx(half * wide, rel=1e-9)
    assert against_main(rows[0][3:], rows[1][:5], 80)["srcc_against_main"].keys() == {"3", "4"}
    rows[1][4]["srcc"] = float("nan")
    assert against_main(rows[0][3:], rows[1][:5], 80)["srcc_against_main"].keys() == {"3"}
    assert math.isnan(against_main(rows[0][3:], rows[1][:5], 80)["against_main"]["error"])
    assert against_main([], rows[1], 80)["against_main"] is None
