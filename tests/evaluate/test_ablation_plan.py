"""Plans: what a row may change, what it trains on, and wrong plans are named; the committed plan is the whole table."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from helpers.paths import ROOT
from helpers.tiny_plans import write_parts_plan, write_recipe_plan
from moslens.data.records import Dataset, DatasetCard, Sample
from moslens.data.split import make_split
from moslens.errors import ConfigError
from moslens.evaluate.ablation_plan import VALIDATION, Budget, budgets, read_plan
from moslens.train.distill.named_kinds import named_kinds


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    return write_parts_plan(tmp_path)


def test_rows_share_the_budget_and_differ_in_what_they_say(plan_file: Path) -> None:
    plan = read_plan(plan_file)
    assert (plan.recipe, plan.part) == (False, "test")
    plain, full = (row.config(1) for row in plan.rows)
    assert plain.data == full.data
    assert plain.data.split == 1
    assert plain.optim == full.optim
    assert plain.optim.epochs == 1
    assert (plain.distill.kd, full.distill.kd) == ("none", "ckd+akd")
    assert plain.model.changes["baf"] == "off"
    assert plain.model.changes["dim"] == full.model.changes["dim"] == 24


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("plain.toml", 'title = "x"\n[optim]\nepochs = 9\n', r"plain\.toml.*may not change optim"),
        ("plain.toml", 'title = "x"\nseed = 9\n', "may not change seed"),
        ("plain.toml", "[distill]\n", r"plain\.toml.*has a title"),
        ("plain.toml", 'title = "x"\n[distill]\nkind = 1\n', r"plain\.toml: unknown setting distill\.kind"),
        ("base.toml", "[distill]\nkind = 1\n", r"base\.toml: unknown setting distill\.kind"),
        (
            "base.toml",
            '[data]\nname = "set.csv"\nmos_range = [5, 1]\ndirection = "higher"\n',
            r"base\.toml: data\.mos_range wants two numbers, the lower one first, not 5 and 1",
        ),
        ("plain.toml", "a = = 1", r"plain\.toml.*not valid TOML"),
        ("plan.toml", 'name = "x"\n', "lacks"),
        (
            "plan.toml",
            'name = "x"\nbase = "base.toml"\nsplits = [0]\nmain = "y"\nrows = ["plain.toml"]\n',
            "main, 'y'",
        ),
        (
            "plan.toml",
            'name = "x"\nbase = "none.toml"\nsplits = [0]\nmain = "plain"\nrows = ["plain.toml"]\n',
            r"none\.toml.*cannot be read",
        ),
    ],
)
def test_wrong_plans_are_named(plan_file: Path, file: str, text: str, message: str) -> None:
    (plan_file.parent / file).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_plan(plan_file)


def test_the_committed_plan_is_the_core_table() -> None:
    plan = read_plan(ROOT / "configs" / "ablation-lite.toml")
    rows = {row.name: row.config(0) for row in plan.rows}
    told = {
        name: (c.model.changes["baf"], c.model.changes.get("decoder", "panel"), c.bdm.mode, c.distill.kd)
        for name, c in rows.items()
    }
    assert told == {
        "floor": ("off", "linear", "block", "none"),
        "deiqt": ("off", "panel", "block", "none"),
        "global-chain": ("off", "panel", "global-chain", "ckd+akd"),
        "bdm-mse": ("off", "panel", "block", "mse"),
        "ckd": ("off", "panel", "block", "ckd"),
        "akd": ("off", "panel", "block", "akd"),
        "ckd-akd": ("off", "panel", "block", "ckd+akd"),
        "shdiqa": ("full", "panel", "block", "ckd+akd"),
        "no-filter": ("no-filter", "panel", "block", "ckd+akd"),
        "no-aggregation": ("no-aggregation", "panel", "block", "ckd+akd"),
        "baf-only": ("full", "panel", "block", "none"),
    }
    assert len({json.dumps(vars(c.optim)) for c in rows.values()}) == 1
    banks = {c.distill.bank: c.bdm.mode for c in rows.values()}
    assert len(banks) == 2


def test_the_committed_plan_of_opinions_adds_one_loss_after_the_other() -> None:
    path = ROOT / "configs" / "ablation-opinions-lite.toml"
    plan = read_plan(path)
    rows = {row.name: row.config(0) for row in plan.rows}
    told = {
        name: (c.distill.lambda_p, c.distill.lambda_v, c.distill.lambda_b, c.distill.kd, c.model.changes["baf"])
        for name, c in rows.items()
    }
    assert told == {
        "quality": (0, 0, 0, "none", "off"),
        "photos": (1, 0, 0, "none", "off"),
        "views": (1, 0.5, 0, "none", "off"),
        "blocks": (1, 0.5, 0.5, "none", "off"),
        "ckd": (1, 0.5, 0.5, "ckd", "off"),
        "ckd-akd": (1, 0.5, 0.5, "ckd+akd", "off"),
        "shdiqa": (1, 0.5, 0.5, "ckd+akd", "full"),
        "order": (1, 0.5, 0.5, "ckd+akd", "full"),
    }
    assert plan.main == "quality"
    assert plan.main_row.config(0).keep_at == 0.3
    assert {row.name for row in plan.rows if row.branch_at == 0.3} == set(rows) - {"quality"}
    assert len({json.dumps([vars(c.optim), vars(c.data)]) for c in rows.values()}) == 1
    assert {name for name, c in rows.items() if c.rank.weight} == {"order"}
    blind = set(named_kinds(rows["order"].rank.kinds, "rank.kinds"))
    assert blind
    assert not blind & set(named_kinds(rows["order"].distill.opinion_kinds, "distill.opinion_kinds"))
    assert plan.part == "test"
    held = read_plan(path, ["data.validation=0.2", 'distill.opinions=["RUNS"]'])
    assert held.part == "validation"
    assert {(row.config(3).data.validation, row.config(3).distill.opinions) for row in held.rows} == {(0.2, ("RUNS",))}


def test_a_validation_plan_holds_out_a_part_unless_the_base_does(tmp_path: Path) -> None:
    path = write_recipe_plan(tmp_path, {"other": "[optim]\nbatch = 8\n"})
    plan = read_plan(path)
    assert plan.part == "validation"
    assert {row.config(0).data.validation for row in plan.rows} == {0.2}
    path.write_text(path.read_text() + "[changes.data]\nvalidation = 0.5\n")
    assert {row.config(0).data.validation for row in read_plan(path).rows} == {0.5}
    path.write_text(path.read_text().replace("validation = true\n", ""))
    assert read_plan(path).part == "validation"
    (tmp_path / "plain").mkdir()
    assert read_plan(write_recipe_plan(tmp_path / "plain", {}, more="")).part == "test"


def test_budgets_by_hand(tmp_path: Path) -> None:
    path = write_recipe_plan(
        tmp_path,
        {
            "long": "[optim]\nepochs = 3\n",
            "twice": "[data]\nrepeats = 2\n[optim]\nbatch = 5\n",
            "few": "[data]\nfraction = 0.2\n[optim]\nbatch = 8\n",
        },
    )
    found = budgets(read_plan(path))
    # 20 photos: 4 test, 3 of the other 16 validation, 13 left
    expected = {
        "main": Budget(13, 3, 12, 1, 3, 12),
        "long": Budget(13, 3, 12, 3, 9, 36),
        "twice": Budget(13, 5, 25, 1, 5, 25),
        "few": Budget(3, 1, 3, 1, 1, 3),
    }
    assert found == {(name, split): expected[name] for name in expected for split in (0, 1)}


def test_rows_that_branch_off_take_over_the_beginning_of_the_main_row(tmp_path: Path) -> None:
    path = write_recipe_plan(
        tmp_path,
        {"late": "[optim]\nlr_new = 1e-2\n", "alone": "branch_at = 0\n[optim]\nepochs = 2\n"},
        more="branch_at = 0.6\n",
    )
    plan = read_plan(path)
    main, late, alone = (plan.config(row, 1, tmp_path / "out") for row in plan.rows)
    assert (main.keep_at, late.keep_at, alone.keep_at) == (0.6, 0.0, 0.0)
    assert (late.branch.run, late.branch.at) == (str(tmp_path / "out" / "main"), 0.6)
    assert main.branch.run == alone.branch.run == ""
    shared = {name: budget.shared_steps for (name, _), budget in budgets(plan).items()}
    assert shared == {"main": 0, "late": 2, "alone": 0}  # 16 photos in batches of 4, one epoch: step 2 of 4
    assert [(row.name, split) for row, split in plan.only(["late"], [1])] == [("main", 1), ("late", 1)]
    assert [(row.name, split) for row, split in plan.only(["late", "alone"], None)] == [
        ("main", 0), ("main", 1), ("late", 0), ("alone", 0), ("late", 1), ("alone", 1)
    ]  # fmt: skip
    (tmp_path / "late.toml").write_text('title = "x"\n[optim]\nepochs = 3\n')
    with pytest.raises(ConfigError, match="row late has 12 steps and the main row 4: it cannot branch off"):
        budgets(read_plan(path))


def test_rows_and_splits_of_a_call_are_of_the_plan(tmp_path: Path) -> None:
    plan = read_plan(write_recipe_plan(tmp_path, {"other": ""}))
    assert [(row.name, split) for row, split in plan.only(["other"], None)] == [("other", 0), ("other", 1)]
    assert [(row.name, split) for row, split in plan.only(None, [1])] == [("main", 1), ("other", 1)]
    with pytest.raises(ConfigError, match="the plan recipes has no row third"):
        plan.only(["other", "third"], None)
    with pytest.raises(ConfigError, match="has no split 7"):
        plan.only(None, [1, 7])


@pytest.mark.parametrize(
    ("row", "more", "message"),
    [
        ("[data]\nsplit = 3\n", "", r"other\.toml.*may not change data\.split: all rows are measured alike"),
        ("[data]\nvalidation = 0.0\n", "", r"may not change data\.validation"),
        ('[data]\nname = "a.csv"\nroot = "b"\n', "", r"may not change data\.name, data\.root"),
        ('stage = "teacher"\n', "", "stage quality or student"),
        ('[branch]\nrun = "x"\n', "", "may not set branch: the plan does, with branch_at"),
        ("keep_at = 0.5\n", "", "may not set keep_at"),
        ("branch_at = 1.5\n", "", r"other\.toml.*a share of the steps below 1"),
        ("branch_at = 0.5\n", "branch_at = 0.6\n", None),
        ("", "branch_at = true\n", r"recipes\.toml.*a share of the steps"),
        ("", "validation = 0.3\n", "validation is true or false"),
        ("", "splits = [0, 0]\n", "named once each"),
        ("", "splits = [-1]\n", "seeds from 0 on"),
        ("", 'kind = "best"\n', "kind is parts or recipe, not 'best'"),
        ("", "speed = 1\n", r"does not know \['speed'\]"),
    ],
)
def test_wrong_recipes_are_named(tmp_path: Path, row: str, more: str, message: str | None) -> None:
    path = write_recipe_plan(tmp_path, {"other": row}, more="")
    key = more.partition(" ")[0]
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.partition(" ")[0] != key]
    path.write_text("".join([*lines, more]))
    if message is None:
        assert read_plan(path).rows[0].tree["keep_at"] == 0.5
        return
    with pytest.raises(ConfigError, match=message):
        read_plan(path)


def test_the_main_row_keeps_one_checkpoint(tmp_path: Path) -> None:
    path = write_recipe_plan(tmp_path, {"a": "branch_at = 0.5\n", "b": ""}, more="branch_at = 0.7\n")
    with pytest.raises(ConfigError, match=r"branch off at \[0\.5, 0\.7\]: the main row keeps one checkpoint"):
        read_plan(path)
    assert replace(read_plan(write_again(path)), part="").main_row.tree["keep_at"] == 0.7


def write_again(path: Path) -> Path:
    (path.parent / "a.toml").write_text('title = "a"\n')
    return path


def test_most_photos_of_a_validation_part_are_tested_on_another_split() -> None:
    card = DatasetCard("photos", "photos", "custom", 1162, "MOS", (0.0, 100.0))
    dataset = Dataset("photos", Path(), tuple(Sample(Path(), f"{i:04d}.jpg", 50.0) for i in range(1162)), card)
    splits = [make_split(dataset, seed, validation=VALIDATION) for seed in range(10)]
    validated = {i for split in splits for i in split.validation}
    tested_elsewhere = [
        len({i for i in one.validation if any(i in other.test for other in splits)}) / len(one.validation)
        for one in splits
    ]
    text = " ".join((ROOT / "docs" / "evaluation.md").read_text("utf-8").split())
    stated = re.search(r"(\d+) % of all photos are in some validation part, and (\d+) % of the photos of a", text)
    assert stated is not None
    assert int(stated[1]) == pytest.approx(100 * len(validated) / 1162, abs=1)
    assert int(stated[2]) == pytest.approx(100 * fmean(tested_elsewhere), abs=1)  # LIVEC holds one photo twice


def test_changes_are_settings_of_all_rows() -> None:
    plan = read_plan(ROOT / "configs" / "recipes-quality-lite.toml", ["data.root=/photos", "optim.clip=1"])
    assert {row.config(3).data.root for row in plan.rows} == {"/photos"}
    assert {row.config(3).optim.clip for row in plan.rows} == {1.0}
    assert plan.part == "validation"
    assert {row.config(3).data.view for row in plan.rows} == {"windows", "whole"}
