"""A head names its kinds: old ones know the paper's 26, new ones what their configuration says."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.paths import ROOT
from helpers.pictures import picture
from helpers.tiny_distillation import make_pool, make_teacher, student_config, teacher_settings
from helpers.tiny_training import make_labelled
from moslens.distortions import KINDS, PAPER_KINDS, kind_names
from moslens.errors import CheckpointError, ConfigError, MissingExtra
from moslens.model.block_heads import DistilledHead, FittedHead, SupervisedHead, read_head
from moslens.model.teacher import Heads
from moslens.release.planted_crops import plant
from moslens.scoring.card import WEIGHTS
from moslens.system.files import read_json, write_json
from moslens.train import checkpoint
from moslens.train.config import BdmSection, TeacherSection, TrainConfig, from_dict
from moslens.train.distill.composite_bank import CompositePlan, plan_bank
from moslens.train.distill.ladder_bank import plan_ladders
from moslens.train.distill.pool import open_pool
from moslens.train.distill.region_views import DegradedViews
from moslens.train.loop import open_run
from moslens.train.networks import load_teacher, teacher_config
from moslens.train.run_folder import Run
from moslens.train.student import head_kinds
from moslens.train.teacher import build_task

ALL = kind_names("all")
EVERYTHING = BdmSection(kinds="all", implementations="portable")


@pytest.fixture(scope="module")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pool(tmp_path_factory.mktemp("kinds") / "pool")


def teacher_run(pool: Path, run: Path, kinds: str) -> Path:
    """A teacher that never learned anything, with a record as training writes it."""
    settings = teacher_settings(pool).to_dict()
    settings["bdm"]["kinds"] = kinds
    config = from_dict(settings)
    open_run(run, config, {"kinds": list(kind_names(config.bdm.kinds))}, resume=False)
    checkpoint.save_tensors(run / "model.safetensors", dict(build_task(config).model.state_dict()))
    return run


# --- what version 0.1 left -------------------------------------------------------------------------------------------


def test_the_committed_teacher_of_the_paper_knows_its_kinds_and_the_shipped_model_all() -> None:
    run = Run(ROOT / "teachers" / "lite")
    assert "kinds" not in run.record
    assert run.kinds == PAPER_KINDS
    teacher, config = load_teacher(run.folder)
    assert config.bdm.kinds == "paper"
    assert teacher.config.kinds == teacher.heads.kinds == PAPER_KINDS
    assert teacher.heads.kind.out_features == 27
    card = read_json(WEIGHTS / "shdiqa-lite" / "card.json")
    assert tuple(card["explain"]["kinds"]) == ALL


def test_committed_configurations_draw_from_the_papers_kinds_unless_their_name_says_so() -> None:
    assert from_dict({}).bdm.kinds == "paper"
    assert from_dict({}).bdm.implementations == "default"
    for path in (ROOT / "configs").rglob("*.toml"):
        section = tomllib.loads(path.read_text("utf-8")).get("bdm", {})
        assert bool({"kinds", "implementations"} & set(section)) == ("photographic" in path.name), path


def test_a_run_of_version_01_is_resumed_though_it_named_no_kinds(pool_folder: Path, tmp_path: Path) -> None:
    config = teacher_settings(pool_folder)
    stored = config.to_dict()
    del stored["bdm"]["kinds"], stored["bdm"]["implementations"]
    write_json(tmp_path / "config.json", {"config": stored, "pool": {"n": 1}})
    open_run(tmp_path, config, {"pool": {"n": 1}, "kinds": list(PAPER_KINDS)}, resume=True)
    with pytest.raises(CheckpointError, match="another configuration or other data"):
        open_run(tmp_path, config, {"pool": {"n": 1}, "kinds": list(ALL)}, resume=True)


def test_plans_of_banks_name_kinds_where_they_are_not_the_papers(pool_folder: Path) -> None:
    pool = open_pool(pool_folder, held_out=0.25)
    ladders = plan_ladders(pool, 384, 4, 0, kinds="all", implementations="portable").to_dict()
    assert ladders.pop("steps") == {"negative": ((1, 2, 3, 4, 5),)}
    for old, new in (
        (
            plan_bank(pool, BdmSection(), 384, 4, 0).to_dict()["bdm"],
            plan_bank(pool, EVERYTHING, 384, 4, 0).to_dict()["bdm"],
        ),
        (plan_ladders(pool, 384, 4, 0).to_dict(), ladders),
    ):
        assert not {"kinds", "implementations"} & set(old)
        assert new == old | {"kinds": list(ALL), "implementations": "portable"}
        json.dumps(new)


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [PAPER_KINDS, ALL], ids=["paper", "all"])
def test_heads_have_a_logit_for_each_of_their_kinds_and_one_for_none(kinds: tuple[str, ...]) -> None:
    count = len(kinds) + 1
    assert Heads(kinds)(torch.rand(3, 128))[0].shape == (3, count)
    for head, width in ((DistilledHead(8, kinds), 8), (SupervisedHead(8, kinds), 8), (FittedHead(32, kinds), 32)):
        assert head.kinds == kinds
        assert head(torch.rand(2, 4, width))[0].shape == (2, 4, count)
    supervised = {f"head.{key}": value for key, value in SupervisedHead(8, kinds).state_dict().items()}
    distilled = DistilledHead(8, kinds).state_dict()
    for state in (supervised, distilled):
        found = read_head(state, 8, kinds)
        assert found is not None
        assert found.kinds == kinds


def test_a_head_of_the_papers_kinds_refuses_other_labels() -> None:
    head = SupervisedHead(8)
    with pytest.raises(ValueError, match="26 kinds cannot learn kind 30"):
        head.loss(torch.rand(1, 2, 8), torch.tensor([[30, -1]]), torch.tensor([[3, 0]]))


def test_a_teacher_of_all_kinds_names_them_and_is_read_with_them(pool_folder: Path, tmp_path: Path) -> None:
    run = teacher_run(pool_folder, tmp_path / "all", "all")
    assert Run(run).kinds == ALL
    teacher, _ = load_teacher(run)
    assert teacher.config.kinds == ALL
    assert teacher.heads.kind.out_features == len(KINDS) + 1
    assert Run(teacher_run(pool_folder, tmp_path / "paper", "paper")).kinds == PAPER_KINDS


def test_a_teacher_keeps_its_kinds_when_a_later_version_adds_some(pool_folder: Path, tmp_path: Path) -> None:
    """A run of "all" kinds that had fewer of them then."""
    run = teacher_run(pool_folder, tmp_path / "run", "all")
    content = read_json(run / "config.json")
    write_json(run / "config.json", content | {"kinds": list(ALL[:40])})
    assert Run(run).kinds == ALL[:40]
    assert teacher_config(Run(run).config, Run(run).kinds).kinds == ALL[:40]


@pytest.mark.parametrize("stored", [[], ["jpeg"], [*ALL, "fog"], [*ALL[:5], ALL[6]], "jpeg", 26, [1, 2]])
def test_kinds_of_another_version_are_refused(stored: object, pool_folder: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"config": teacher_settings(pool_folder).to_dict(), "kinds": stored})
    with pytest.raises(CheckpointError, match="other kinds of distortions") as caught:
        _ = Run(tmp_path).kinds
    assert str(tmp_path) in str(caught.value)


def test_the_head_of_a_student_knows_its_teachers_kinds_or_those_of_its_composites(
    pool_folder: Path, tmp_path: Path
) -> None:
    table = make_labelled(tmp_path / "set", 4)
    old = make_teacher(pool_folder, tmp_path / "old")
    new = teacher_run(pool_folder, tmp_path / "new", "all")

    def student(teacher: Path, kinds: str, **distill: object) -> TrainConfig:
        tree = student_config(table, pool_folder, teacher, tmp_path / "bank", **distill).to_dict()
        tree["bdm"]["kinds"] = kinds
        return from_dict(tree)

    assert head_kinds(student(old, "all")) == PAPER_KINDS
    assert head_kinds(student(new, "paper")) == ALL
    assert head_kinds(student(old, "all", head="supervised")) == ALL


# --- what is drawn ---------------------------------------------------------------------------------------------------


def test_views_composites_and_ladders_draw_the_kinds_of_the_configuration(pool_folder: Path) -> None:
    pool = open_pool(pool_folder, held_out=0.25)
    seen = {}
    for bdm in (BdmSection(), EVERYTHING):
        views = DegradedViews(pool.root, pool.train, TeacherSection(pristine=0.0), bdm, 384, 0)
        kinds = [int(views[0, index]["kinds"][0]) for index in range(24)]
        plan: CompositePlan = plan_bank(pool, bdm, 384, 12, 0)
        kinds += [int(kind) for index in range(6) for kind in plan.make(index).kinds]
        seen[bdm.kinds] = max(kinds)
    assert seen["paper"] < 26 <= seen["all"]
    ladder = plan_ladders(pool, 384, 47, 0, kinds="all", implementations="portable").make(26)
    assert ladder[0].mean() > ladder[-1].mean() + 3  # kind 26 is under-exposure, over the whole crop or its quarters


def test_planted_crops_have_faults_of_the_given_kinds_alone() -> None:
    crop = picture(224, 224, seed=3)
    found = set()
    for number in range(16):
        made = plant(crop, 4, number, np.random.default_rng(number), ("haze", "negative", "moire", "defocus"))
        found |= set(made.kinds[made.labelled].tolist())
    assert {KINDS[kind].name for kind in found if kind >= 0} <= {"haze", "negative", "moire", "defocus"}
    assert len(found) >= 3


def test_wrong_settings_are_named(pool_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"bdm\.kinds is one of paper, all"):
        from_dict({"bdm": {"kinds": "photographic"}})
    with pytest.raises(ConfigError, match=r"bdm\.implementations is one of default, portable, all"):
        from_dict({"bdm": {"implementations": "opencv"}})


def test_a_ladder_that_needs_opencv_is_refused_without_it(pool_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match="opencv"):
        plan_ladders(open_pool(pool_folder, held_out=0.25), 384, 4, 0, kinds="all", implementations="all")
