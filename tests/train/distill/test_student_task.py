"""The student's task: its terms, schedules and state; resume and processes change nothing; the teacher stays."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.processes import run_in_two_processes
from helpers.tiny_distillation import make_pool, make_teacher, run_student_fit, student_config
from helpers.tiny_training import make_labelled, same_weights
from moslens.data.sets import load_dataset
from moslens.errors import CheckpointError, ConfigError
from moslens.evaluate.predictors import open_source
from moslens.losses import affinity_distillation, contrastive_distillation, quality_loss
from moslens.model import build
from moslens.release.card_template import write_card_template
from moslens.train import student, train
from moslens.train.checkpoint import latest_checkpoint
from moslens.train.config import Distillation, DistillSection
from moslens.train.distill.composite_bank import BankBatches
from moslens.train.distill.student_task import StudentTask
from moslens.train.networks import load_run
from moslens.train.quality import labelled_stream, split_of
from moslens.train.splits import split_jobs
from moslens.train.student import StudentBatches, open_distillation_data, train_student

Settings = dict[str, Path]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A labelled set, a pristine pool, a teacher and a bank that the tests share."""
    folder = tmp_path_factory.mktemp("distillation")
    pool = make_pool(folder / "pool")
    return {
        "table": make_labelled(folder / "set"),
        "pool": pool,
        "teacher": make_teacher(pool, folder / "teacher"),
        "bank": folder / "bank",
    }


def made_batch(seed: int, *, grid: int = 2, batch: int = 2, width: int = 128) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    shape = (batch, grid * grid)
    kinds = torch.randint(-1, 5, shape, generator=g)
    return {
        "q": (
            torch.randint(0, 256, (3, 3, 224, 224), generator=g, dtype=torch.uint8),
            torch.randn(3, generator=g),
            None,
        ),
        "d": {
            "composites": torch.randint(0, 256, (batch, 3, 224, 224), generator=g, dtype=torch.uint8),
            "targets": torch.randn(*shape, width, generator=g),
            "kinds": kinds,
            "levels": torch.randint(1, 6, shape, generator=g).where(kinds >= 0, 0),
            "grid": grid,
        },
    }


def make_task(steps: int = 4, *, baf: str = "full", **distill: Any) -> StudentTask:
    torch.manual_seed(0)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf=baf)
    return StudentTask(model, DistillSection(**({"queue": 16} | distill)), steps)


def test_terms_are_those_of_the_equations() -> None:
    task = make_task(steps=2, lambda_c=0.3, lambda_a=0.7, negatives="in-batch")
    for step, ramp in enumerate((0.0, 0.5, 1.0, 1.0)):
        batch = made_batch(step, grid=2 + step % 3)
        losses = task(batch)
        task.eval()
        with torch.no_grad():
            d = batch["d"]
            quality = quality_loss(task.model(batch["q"][0] / 255.0), batch["q"][1])
            tokens = task.model.parts(d["composites"] / 255.0, d["grid"]).blocks.gated
            assert task.projection is not None
            ckd = contrastive_distillation(task.projection(tokens), d["targets"], d["kinds"], d["levels"])
            akd = affinity_distillation(tokens, d["targets"])
        task.train()
        assert float(losses["ramp"]) == ramp
        values = {k: float(v.detach()) for k, v in losses.items()}
        assert values["quality"] == pytest.approx(float(quality), rel=1e-5)
        assert values["ckd"] == pytest.approx(float(ckd), rel=1e-5)
        assert values["akd"] == pytest.approx(float(akd), rel=1e-5)
        assert values["loss"] == pytest.approx(float(quality + ramp * (0.3 * ckd + 0.7 * akd)), rel=1e-5)
        assert 0 <= values["in_image"] <= 1
        assert 0 < values["in_image_chance"] <= 1


@pytest.mark.parametrize("kd", get_args(Distillation))
def test_each_kind_of_distillation_has_its_terms(kd: str) -> None:
    task = make_task(kd=kd, baf="off" if kd == "mse" else "full", ramp=0.0)
    batch = made_batch(0)
    if kd == "none":
        del batch["d"]
    losses = task(batch)
    assert {"mse", "ckd", "akd"} & set(losses) == {"none": set()}.get(kd, set(kd.split("+")))
    assert (task.projection is None) == (kd in ("none", "akd"))
    losses["loss"].backward()
    assert all(p.grad is not None for p in task.parameters())


def test_projected_affinities_and_their_variants_differ() -> None:
    values = set()
    for changes in ({}, {"projected": True}, {"akd": "kl"}, {"akd": "cross"}):
        values.add(round(float(make_task(kd="akd", **changes)(made_batch(1))["akd"]), 6))
    assert len(values) == 4


def test_distillation_alone_reaches_every_weight() -> None:
    """Several processes wait for a gradient from every weight: those of the score must get one, zero as it is."""
    for kd in get_args(Distillation)[1:]:
        task = make_task(kd=kd, ramp=0.0)
        batch = made_batch(0)
        del batch["q"]
        losses = task(batch)
        assert "quality" not in losses
        losses["loss"].backward()
        assert all(p.grad is not None for p in task.parameters())
        assert float(task.model.decoder.panel.grad.norm()) == 0
        assert float(task.model.backbone.local.weight.grad.norm()) > 0


def test_the_queue_is_first_in_first_out_and_ends_up_in_the_negatives() -> None:
    task = make_task(kd="ckd", queue=10, negatives="queue", ramp=0.0)
    first, second = made_batch(0), made_batch(1)
    alone = make_task(kd="ckd", negatives="in-batch", ramp=0.0)
    assert float(task(first)["ckd"]) == pytest.approx(float(alone(first)["ckd"]))
    expected = torch.nn.functional.normalize(first["d"]["targets"].flatten(0, 1), dim=1)
    assert torch.allclose(task.queue[:8], expected)
    assert task.queue_levels.tolist() == [*first["d"]["levels"].flatten().tolist(), -1, -1]
    assert float(task(second)["ckd"]) > float(alone(second)["ckd"])
    assert torch.allclose(task.queue[8:], expected[:2])
    task.eval()
    before = {k: v.clone() for k, v in task.state_dict().items()}
    task(first)
    assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())


def test_the_average_follows_the_student_slowly_and_gets_no_gradient() -> None:
    task = make_task(view="ema", decay=0.9, ramp=0.0, lambda_c=1.0)
    assert task.average is not None
    optimiser = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.1)
    start = task.model.baf.query.detach().clone()
    batch = made_batch(2)
    del batch["d"]["targets"]
    for _ in range(2):
        optimiser.zero_grad()
        task(batch)["loss"].backward()
        optimiser.step()
    own, current = task.average.model.baf.query, task.model.baf.query.detach()
    assert own.grad is None
    assert 0 < float((own - start).norm()) < 0.2 * float((current - start).norm())


@pytest.mark.parametrize("stop", [3, 5])
def test_interrupted_equals_uninterrupted(at: Settings, tmp_path: Path, stop: int) -> None:
    config = student_config(**at)
    assert run_student_fit(config, tmp_path / "whole")
    assert not run_student_fit(config, tmp_path / "parts", stop_after=stop)
    assert run_student_fit(config, tmp_path / "parts")
    same_weights(tmp_path / "whole", tmp_path / "parts", 1e-6)
    ends = [latest_checkpoint(tmp_path / name) for name in ("whole", "parts")]
    assert ends[0] is not None
    assert ends[1] is not None
    for name in ("task.queue", "task.queue_kinds", "task.step", "task.projection.weight"):
        assert torch.allclose(ends[0][1][name].double(), ends[1][1][name].double(), atol=1e-6), name
    assert int(ends[0][1]["task.step"]) == 8
    logs = [[json.loads(x) for x in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("whole", "parts")]
    assert [r["step"] for r in logs[1]] == list(range(1, 9))
    for a, b in zip(*logs, strict=True):
        assert {"quality", "ckd", "akd", "cross_image", "ramp"} <= set(a)
        assert a["ckd"] == pytest.approx(b["ckd"], abs=1e-5)
    assert [row["ramp"] for row in logs[0]] == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]


@pytest.mark.slow
def test_two_processes_equal_one(at: Settings, tmp_path: Path) -> None:
    """Queue and negatives are those of the whole batch in every process."""
    config = student_config(**at, batch=4, kd="ckd")
    config = dataclasses.replace(config, bdm=dataclasses.replace(config.bdm, grids=(2,), shares=(1.0,)))
    config = dataclasses.replace(config, distill=dataclasses.replace(config.distill, bank=str(tmp_path / "bank")))
    run_student_fit(config, tmp_path / "one")
    run_in_two_processes(run_student_fit, config, tmp_path / "two")
    # Some weights of self-attention have hardly a gradient but rounding, which Adam scales up.
    same_weights(tmp_path / "one", tmp_path / "two", 2e-5, except_for="in_proj")
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    norms = [[json.loads(line)["gradient"] for line in log] for log in logs]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    ends = [latest_checkpoint(tmp_path / name) for name in ("one", "two")]
    assert torch.equal(ends[0][1]["task.queue"], ends[1][1]["task.queue"])
    assert torch.equal(ends[0][1]["task.queue_kinds"], ends[1][1]["task.queue_kinds"])


def test_the_command_leaves_a_scored_student_and_the_teacher_as_it_was(at: Settings, tmp_path: Path) -> None:
    before = (at["teacher"] / "model.safetensors").read_bytes()
    run = tmp_path / "run"
    train(student_config(**at), run)
    assert (at["teacher"] / "model.safetensors").read_bytes() == before
    assert {"model.safetensors", "embedding.safetensors", "predictions.csv", "metrics.json"} <= {
        p.name for p in run.iterdir()
    }
    weights = load_file(run / "model.safetensors")
    assert "baf.query" in weights
    assert not any(name.startswith(("projection", "queue")) for name in weights)
    embedding = load_file(run / "embedding.safetensors")
    assert embedding["projection.weight"].shape == (128, 24)
    teacher = load_file(at["teacher"] / "model.safetensors")
    assert torch.equal(embedding["heads.kind.weight"], teacher["heads.kind.weight"])
    facts = json.loads((run / "config.json").read_text())
    assert len(facts["bank"]) == len(facts["teacher"]) == 64


def test_another_teacher_cannot_go_on_with_a_run(at: Settings, tmp_path: Path) -> None:
    config = student_config(**at)
    train(config, tmp_path / "run")
    other = make_teacher(at["pool"], tmp_path / "teacher", seed=1)
    swapped = tmp_path / "old"
    at["teacher"].rename(swapped)
    try:
        other.rename(at["teacher"])
        with pytest.raises(CheckpointError, match="other data"):
            train(config, tmp_path / "run", resume=True)
    finally:
        at["teacher"].rename(tmp_path / "other")
        swapped.rename(at["teacher"])


def test_without_distillation_the_student_stage_is_the_quality_stage(at: Settings, tmp_path: Path) -> None:
    config = student_config(at["table"], at["pool"], tmp_path / "no-teacher", tmp_path / "no-bank", kd="none")
    train(config, tmp_path / "student")
    train(dataclasses.replace(config, stage="quality"), tmp_path / "quality")
    same_weights(tmp_path / "student", tmp_path / "quality", 1e-7)
    assert not (tmp_path / "no-bank").exists()


@pytest.mark.parametrize("schedule", ["warm-start", "two-stage"])
def test_first_phase_alone_then_the_rest(schedule: str, at: Settings, tmp_path: Path) -> None:
    config = student_config(**at, schedule=schedule, warm=3)
    run = tmp_path / "run"
    train_student(config, run)
    first = [json.loads(line) for line in (run / "warm" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in first] == [1, 2, 3]
    assert all("ckd" in row and "quality" not in row for row in first)
    second = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all("quality" in row and ("ckd" in row) == (schedule == "warm-start") for row in second)
    warm = load_file(run / "warm" / "model.safetensors")
    task = make_task()
    student.start_from(task, run / "warm")
    assert torch.equal(task.model.state_dict()["baf.query"], warm["baf.query"])
    shared = dataclasses.replace(config, distill=dataclasses.replace(config.distill, warm_run=str(run / "warm")))
    stamp = (run / "warm" / "model.safetensors").stat().st_mtime_ns
    train_student(shared, tmp_path / "second")
    assert (run / "warm" / "model.safetensors").stat().st_mtime_ns == stamp
    same_weights(run, tmp_path / "second", 1e-6)


def test_distillation_alone_leaves_a_start_and_no_scores(at: Settings, tmp_path: Path) -> None:
    config = dataclasses.replace(student_config(**at, warm=3), stage="distillation")
    run = tmp_path / "distillation"
    train(config, run)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all("ckd" in row and "quality" not in row for row in rows)
    with pytest.raises(CheckpointError, match="holds a run already"):
        train(config, run)
    train(config, run, resume=True)
    with pytest.raises(CheckpointError, match="stage distillation, which gives no scores"):
        load_run(run)
    with pytest.raises(ConfigError, match="the stage distillation learns from no opinion scores"):
        split_jobs(config, tmp_path / "splits", [0, 1])

    for use in (lambda: open_source(str(run)), lambda: write_card_template(run, tmp_path / "card.toml")):
        with pytest.raises(CheckpointError, match="stage distillation, which gives no scores"):
            use()

    weights = str(run / "model.safetensors")
    still = dataclasses.replace(config.optim, lr_body=0.0, weight_decay=0.0)
    later = dataclasses.replace(config, stage="quality", model=dataclasses.replace(config.model, weights=weights))
    train(dataclasses.replace(later, optim=still), tmp_path / "quality")
    before, after = load_file(weights), load_file(tmp_path / "quality" / "model.safetensors")
    body = [key for key in before if key.startswith("backbone.body.")]
    assert body
    assert all(torch.equal(before[key], after[key]) for key in body)
    assert not torch.equal(before["backbone.local.weight"], after["backbone.local.weight"])
    for wrong, words in (
        (run, "is a folder; that of a run has its weights in"),
        (run / "none", "no such weights file"),
    ):
        missing = dataclasses.replace(later, model=dataclasses.replace(later.model, weights=str(wrong)))
        with pytest.raises(CheckpointError, match=words):
            train(missing, tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("changes", [{"warm": 0}, {"warm": 3, "kd": "none"}])
def test_distillation_alone_needs_steps_and_a_loss(changes: dict[str, Any], at: Settings, tmp_path: Path) -> None:
    config = dataclasses.replace(student_config(**at, **changes), stage="distillation")
    with pytest.raises(ConfigError, match=r"distill\.warm, its steps, and a loss"):
        train(config, tmp_path / "run")


def test_every_process_draws_its_own_share_of_one_stream(at: Settings) -> None:
    config = student_config(**at)
    dataset = load_dataset(config.data.name, Path(config.data.root))
    q, _ = labelled_stream(config, dataset, split_of(dataset, config.data))
    composites = open_distillation_data(config)
    d = BankBatches(composites.bank, composites.targets, 2, 0)
    batches = StudentBatches(q, d, 0)
    assert batches.steps == 4

    def stream(**where: int) -> list[tuple[Tensor, Tensor]]:
        return [(b["q"][0], b["d"]["composites"]) for b in batches.epoch(1, **where)]

    whole, late = stream(), stream(start=2)
    assert len(late) == 2
    assert all(torch.equal(x, y) for a, b in zip(whole[2:], late, strict=True) for x, y in zip(a, b, strict=True))
    halves = [stream(rank=rank, world=2) for rank in (0, 1)]
    for step in range(4):
        for part in (0, 1):
            both = torch.stack([halves[0][step][part], halves[1][step][part]], 1).flatten(0, 1)
            assert torch.equal(both, whole[step][part])
    with pytest.raises(ConfigError, match="multiple of 3 processes"):
        next(batches.epoch(0, world=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kd": "all"}, "distill.kd is one of"),
        ({"schedule": "later"}, "schedule is one of"),
        ({"schedule": "two-stage"}, "needs distill.warm"),
        ({"negatives": "far"}, "negatives is one of"),
        ({"akd": "l1"}, "akd is one of"),
        ({"view": "sideways"}, "distill.view is one of"),
        ({"target": "score"}, "target is one of"),
        ({"batch": 9}, "fewer than 9 entries"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str, at: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train_student(student_config(**at, **changes), tmp_path / "run")


def test_a_missing_teacher_is_named_before_anything_is_made(at: Settings, tmp_path: Path) -> None:
    config = student_config(at["table"], at["pool"], tmp_path / "nobody", tmp_path / "bank")
    with pytest.raises(CheckpointError, match=r"nobody.*no finished teacher"):
        train_student(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_targets_that_are_not_embeddings_set_the_width(at: Settings, tmp_path: Path) -> None:
    for target in ("roi", "residual"):
        config = student_config(**at, target=target)
        width = open_distillation_data(config).width
        train_student(config, tmp_path / target)
        embedding = load_file(tmp_path / target / "embedding.safetensors")
        assert embedding["projection.weight"].shape == (width, 24)
        assert set(embedding) == {"projection.weight", "projection.bias"}


def test_numbers_of_a_run_are_finite_or_absent(at: Settings, tmp_path: Path) -> None:
    """A batch of one chain for all blocks has no rivals inside a picture: no accuracy is made up."""
    config = student_config(**at, bank_seed=4)
    chain = dataclasses.replace(config.bdm, mode="global-chain", p_clean=0.0)
    distill = dataclasses.replace(config.distill, bank=str(tmp_path / "bank"))
    train_student(dataclasses.replace(config, bdm=chain, distill=distill), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all("in_image" not in row for row in rows)
    assert all(np.isfinite(list(row.values())).all() for row in rows)
