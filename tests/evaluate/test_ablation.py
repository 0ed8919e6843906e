"""The ablation: equal budgets, resumed row by row, the committed format; and the committed plan is the whole table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import scipy.stats

from helpers.paths import ROOT
from helpers.tiny_distillation import make_pool, make_teacher, write_student_config
from helpers.tiny_training import make_labelled
from moslens.cli.app import main
from moslens.errors import CheckpointError, ConfigError
from moslens.evaluate import ablation as module
from moslens.evaluate.ablation import ablate, read_plan
from moslens.train.config import TrainConfig


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """Two rows on two splits of a tiny set."""
    table, pool = make_labelled(tmp_path / "set"), make_pool(tmp_path / "pool")
    teacher = make_teacher(pool, tmp_path / "teacher")
    write_student_config(tmp_path / "base.toml", table, pool, teacher, epochs=3)
    (tmp_path / "plain.toml").write_text('title = "plain"\n[model.changes]\nbaf = "off"\n[distill]\nkd = "none"\n')
    (tmp_path / "full.toml").write_text('title = "full"\n')
    path = tmp_path / "plan.toml"
    path.write_text(
        """name = "ablation-tiny"
base = "base.toml"
splits = [0, 1]
main = "full"
rows = ["plain.toml", "full.toml"]
[changes.optim]
epochs = 1
""",
        encoding="utf-8",
    )
    return path


def test_rows_share_the_budget_and_differ_in_what_they_say(plan_file: Path) -> None:
    plan = read_plan(plan_file)
    plain, full = (row.config(1) for row in plan.rows)
    assert plain.data == full.data
    assert plain.data.split == 1
    assert plain.optim == full.optim
    assert plain.optim.epochs == 1
    assert (plain.distill.kd, full.distill.kd) == ("none", "ckd+akd")
    assert plain.model.changes["baf"] == "off"
    assert plain.model.changes["dim"] == full.model.changes["dim"] == 24


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
    with pytest.raises(SystemExit) as left:
        main(["ablate", str(plan_file), "--output", str(out), "--resume"])
    assert left.value.code in (0, None)
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
    with pytest.raises(CheckpointError, match="another configuration"):
        ablate(read_plan(plan_file), tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("plain.toml", 'title = "x"\n[optim]\nepochs = 9\n', r"plain\.toml.*may not change optim"),
        ("plain.toml", 'title = "x"\nseed = 9\n', "may not change seed"),
        ("plain.toml", "[distill]\n", r"plain\.toml.*has a title"),
        ("plain.toml", 'title = "x"\n[distill]\nkind = 1\n', r"unknown setting distill\.kind"),
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
