"""Teachers of opinions: their targets, the losses on them, the check of what they saw, and training with them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.tiny_distillation import make_pool, make_teacher, student_config
from helpers.tiny_opinions import change_weights, make_quality, opinion_config, run_opinion_fit
from helpers.tiny_training import make_labelled
from moslens.data.split import make_split
from moslens.distortions import KIND_INDEX
from moslens.errors import CheckpointError, ConfigError
from moslens.losses import opinion_loss
from moslens.model import build
from moslens.model.block_heads import block_quality
from moslens.picture.load import load
from moslens.train import train
from moslens.train.average import average
from moslens.train.config import DistillSection, TrainConfig, from_dict
from moslens.train.distill.bank_opinions import bank_opinions, counted_views, shown_view
from moslens.train.distill.named_kinds import named_kinds
from moslens.train.distill.opinion_teachers import at_own_scale, find_teachers, mean_opinion, require_student_photos
from moslens.train.distill.opinions import opinion_photos
from moslens.train.distill.photo_opinions import MadePhotos, made_photos, photo_opinions
from moslens.train.distill.pool import open_pool
from moslens.train.distill.student_task import StudentTask
from moslens.train.networks import load_run
from moslens.train.predict import predict
from moslens.train.quality import dataset_of, label_facts, split_of, training_labels
from moslens.train.run_folder import Run
from moslens.train.student import bank_of, open_distillation_data, open_opinions, prepare_shared, warm_up

KNOWN = named_kinds(("blur", "noise", "compression"), "kinds")


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled set, a pool, a teacher of kinds, and quality runs of two working sizes, one on whole pictures."""
    folder = tmp_path_factory.mktemp("opinions")
    pool = make_pool(folder / "pool")
    table = make_labelled(folder / "set")
    make_teacher(pool, folder / "teacher")
    make_quality(table, folder / "a", seed=1)
    make_quality(table, folder / "b", seed=2, changes={"baf": "full"}, view="whole", working_size=640)
    return folder


def loss_of(prediction: float, opinion: float) -> float:
    gap = abs(prediction - opinion)
    return 0.5 * gap * gap if gap < 1 else gap - 0.5


def test_the_loss_is_that_of_the_equation_over_what_counts() -> None:
    prediction = torch.tensor([[0.5, -1.0, 3.0], [0.0, 2.0, 1.0]], requires_grad=True)
    opinion = torch.tensor([[0.25, 1.5, torch.nan], [torch.nan, 2.0, 1.5]])
    expected = (loss_of(0.5, 0.25) + loss_of(-1.0, 1.5) + 0 + loss_of(1.0, 1.5)) / 4
    loss = opinion_loss(prediction, opinion)
    assert float(loss.detach()) == pytest.approx(expected)
    loss.backward()
    assert prediction.grad is not None
    assert prediction.grad[0].tolist() == pytest.approx([0.25 / 4, -1 / 4, 0])
    assert prediction.grad[1].tolist() == pytest.approx([0, 0, -0.5 / 4])
    nothing = opinion_loss(prediction, torch.full_like(opinion, torch.nan))
    assert float(nothing.detach()) == 0
    nothing.backward()
    assert bool(prediction.grad.isfinite().all())


def test_kinds_and_groups_are_named() -> None:
    assert named_kinds(("jpeg", "blur"), "x") == (
        "gaussian_blur", "lens_blur", "motion_blur", "jpeg", "camera_shake", "defocus",
    )  # fmt: skip
    assert named_kinds((), "x") == ()
    with pytest.raises(ConfigError, match=r"distill\.opinion_kinds: .*'blurr'; did you mean blur"):
        named_kinds(("blurr",), "distill.opinion_kinds")


def test_opinions_on_a_bank_are_those_of_a_direct_computation(at: Path) -> None:
    config = opinion_config(at)
    bank = bank_of(config)
    teachers = find_teachers(config.distill.opinions, 0)
    found = bank_opinions(bank, teachers, KNOWN, processes=1)
    members = [load_run(at / name)[0] for name in ("a", "b")]
    checked = 0
    for index in (0, 5, 8, 11):
        composite = bank.plan.make(index)
        count, grid = len(composite.blocks), int(bank.plan.grids[index])
        counted = [
            number
            for number, recipe in enumerate(composite.recipes)
            if not recipe or recipe[0][0] in {KIND_INDEX[name] for name in KNOWN}
        ]
        assert counted_views(composite, KNOWN) == counted
        shown = shown_view(bank.plan, index, composite, KNOWN)
        assert shown in counted
        assert np.array_equal(found.pictures[index].transpose(1, 2, 0), composite.views[shown])
        for block in range(count):
            view = int(composite.assignment[block])
            if view not in counted:
                assert np.isnan(found.blocks[index, block])
                continue
            values, scores = [], []
            for scorer, side in zip(members, (224, 288), strict=True):  # 224 * 640 / 512 = 280, which is near 288
                picture = Image.fromarray(composite.views[view])
                pixels = np.array(picture if side == 224 else picture.resize((side, side), Image.Resampling.BICUBIC))
                planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
                with torch.no_grad():
                    own = scorer.model.parts(planes)
                    reader = own.reader
                    other = scorer.model.parts(planes, grid)._replace(reader=reader)
                    values.append(float(block_quality(scorer.model, other)[0, block]) * scorer.std + scorer.mean)
                    scores.append(float(own.score[0]) * scorer.std + scorer.mean)
            assert found.blocks[index, block] == pytest.approx(np.mean(values), abs=2e-3)
            if view == shown:
                assert found.views[index] == pytest.approx(np.mean(scores), abs=2e-3)
            checked += 1
        assert np.isnan(found.blocks[index, count:]).all()
    assert checked > 5


def test_a_crop_is_brought_to_the_scale_of_the_teacher(at: Path) -> None:
    crop = np.zeros((224, 224, 3), np.uint8)
    for name, size, side in (("a", 512, 224), ("a", 1024, 128), ("b", 512, 288), ("b", 640, 224)):
        scorer, _ = load_run(at / name)
        assert at_own_scale(scorer, [crop, crop], size).shape == (2, side, side, 3)


def test_targets_are_made_once_and_anew_for_a_changed_teacher(at: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(at / name, tmp_path / name)
    config = opinion_config(at, opinions=[str(tmp_path / "a"), str(tmp_path / "b")])
    bank = bank_of(config)
    teachers = find_teachers(config.distill.opinions, 0)
    first = bank_opinions(bank, teachers, KNOWN, processes=1)
    files = {path: path.stat().st_mtime_ns for path in (bank.folder / "opinions").rglob("*.npy")}
    again = bank_opinions(bank, find_teachers(config.distill.opinions[::-1], 0), KNOWN, processes=1)
    assert np.array_equal(first.views, again.views)
    assert files == {path: path.stat().st_mtime_ns for path in (bank.folder / "opinions").rglob("*.npy")}
    change_weights(tmp_path / "b")
    photos = [next((at / "pool").iterdir())]
    with pytest.raises(ConfigError, match=r"b: .*has changed"):
        photo_opinions(tmp_path / "photos", photos, teachers, processes=1)
    other = bank_opinions(bank, find_teachers(config.distill.opinions, 0), KNOWN, processes=1)
    assert not np.allclose(other.views, first.views, atol=1e-3)
    assert len(list((bank.folder / "opinions").iterdir())) >= 2


def test_photos_are_scored_as_the_product_scores_them(at: Path, tmp_path: Path) -> None:
    photos = [*sorted((at / "pool").iterdir())[:2], sorted((at / "set").glob("*.png"))[0]]
    teachers = find_teachers([str(at / "a"), str(at / "b")], 0)
    found = photo_opinions(tmp_path, photos, teachers, processes=1)
    expected = np.mean([list(predict(load_run(at / name)[0], photos)) for name in ("a", "b")], axis=0)
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_photos_are_the_pool_and_made_ones_of_training_photos_alone(at: Path) -> None:
    config = opinion_config(at)
    dataset = dataset_of(config.data)
    split = make_split(dataset, 0)
    pool = open_pool(at / "pool", held_out=0.25)
    photos = opinion_photos(config.distill, pool, dataset, split, KNOWN)
    assert len(photos) == len(pool.train) + 3 + 2
    assert not {path.name for path in photos if path.parent == at / "pool"} & set(pool.held_out)
    training = tuple(str(dataset.samples[index].path) for index in split.train)
    plan = MadePhotos(Path(), training, "", 2, 0, True, KNOWN, 256)
    for index, path in enumerate(photos[-2:]):
        made = plan.make(index)
        assert np.array_equal(np.asarray(Image.open(path)), made.image)
        clean = made.views[0]
        assert any(np.array_equal(clean, load(Path(name), working_size=256).pixels) for name in training)
        assert (made.kinds >= 0).sum() > 0
        assert {int(kind) for kind in made.kinds} <= {-1, *(KIND_INDEX[name] for name in KNOWN)}
    other = opinion_photos(config.distill, pool, dataset, make_split(dataset, 1), KNOWN)
    assert set(other[-2:]).isdisjoint(photos)
    assert other[:-2] == photos[:-2]


def test_writing_photos_goes_on_after_a_kill(at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moslens.train.distill.chunks.CHUNK", 2)
    names = tuple(sorted(path.name for path in (at / "pool").iterdir()))
    plan = MadePhotos(at / "pool", names, "", 5, 0, False, KNOWN, 256)
    whole = made_photos(tmp_path / "whole", plan, processes=1)
    real = MadePhotos.make
    calls: list[int] = []

    def dies(self: MadePhotos, index: int) -> Any:
        calls.append(index)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(MadePhotos, "make", dies)
    with pytest.raises(KeyboardInterrupt):
        made_photos(tmp_path / "parts", plan, processes=1)
    parts = made_photos(tmp_path / "parts", plan, processes=1)
    assert calls == [0, 1, 2, 3, 2, 3, 4]
    assert [path.read_bytes() for path in parts] == [path.read_bytes() for path in whole]


def one_epoch(config: TrainConfig) -> TrainConfig:
    """Four steps."""
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, epochs=1))


def task_of(**distill: Any) -> StudentTask:
    torch.manual_seed(0)
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf="full")
    return StudentTask(model, DistillSection(**({"queue": 16} | distill)), 2)


def test_every_term_is_weighed_and_logged() -> None:
    g = torch.Generator().manual_seed(3)
    pictures = torch.randint(0, 256, (2, 3, 224, 224), generator=g, dtype=torch.uint8)
    opinions = torch.randn(2, 4, generator=g)
    opinions[0, 1] = torch.nan
    labels = torch.randn(2, generator=g)
    batch = {
        "q": (pictures, labels, None),
        "p": (pictures.flip(0), labels + 1, None),
        "v": (pictures.flip(3), labels - 1, None),
        "d": {
            "composites": pictures,
            "kinds": torch.zeros(2, 4, dtype=torch.int64),
            "levels": torch.ones(2, 4, dtype=torch.int64),
            "grid": 2,
            "opinions": opinions,
        },
    }
    task = task_of(kd="none", opinions=("a",), lambda_p=0.5, lambda_v=0.25, lambda_b=2.0)
    for ramp in (0.0, 0.5, 1.0):
        losses = task(batch)
        with torch.no_grad():
            task.eval()
            p = opinion_loss(task.model(batch["p"][0] / 255), labels + 1)
            v = opinion_loss(task.model(batch["v"][0] / 255), labels - 1)
            quality = block_quality(task.model, task.model.parts(pictures / 255, 2))
            gaps = [loss_of(float(q), float(o)) for q, o in zip(quality.flatten(), opinions.flatten(), strict=True)]
            b = np.nanmean(gaps)
            task.train()
        values = {name: float(value.detach()) for name, value in losses.items()}
        assert values["ramp"] == ramp
        assert values["opinion_photos"] == pytest.approx(float(p), rel=1e-4)
        assert values["opinion_views"] == pytest.approx(float(v), rel=1e-4)
        assert values["opinion_blocks"] == pytest.approx(float(b), rel=1e-4)
        assert values["loss"] == pytest.approx(values["quality"] + ramp * float(0.5 * p + 0.25 * v + 2 * b), rel=1e-4)
    task(batch)["loss"].backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in task.parameters())


def test_interrupted_in_an_epoch_equals_uninterrupted_to_the_last_bit(at: Path, tmp_path: Path) -> None:
    config = one_epoch(opinion_config(at))
    assert run_opinion_fit(config, tmp_path / "whole")
    assert not run_opinion_fit(config, tmp_path / "parts", stop_after=3)
    assert run_opinion_fit(config, tmp_path / "parts")
    ends = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert ends[0] == ends[1]
    rows = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all({"quality", "ckd", "akd", "opinion_photos", "opinion_views", "opinion_blocks"} <= set(r) for r in rows)


def test_with_every_weight_at_zero_it_is_the_old_student(at: Path, tmp_path: Path) -> None:
    """Bit for bit, by the command, and no opinion is computed or stored."""
    off = one_epoch(opinion_config(at, lambda_p=0.0, lambda_v=0.0, lambda_b=0.0, photo_bank=str(tmp_path / "none")))
    old = one_epoch(student_config(at / "set" / "labels.csv", at / "pool", at / "teacher", at / "bank"))
    train(off, tmp_path / "off")
    train(old, tmp_path / "old")
    assert (tmp_path / "off" / "model.safetensors").read_bytes() == (
        tmp_path / "old" / "model.safetensors"
    ).read_bytes()
    assert not (tmp_path / "none").exists()
    assert "opinions" not in json.loads((tmp_path / "off" / "config.json").read_text())


def test_the_command_learns_from_opinions_alone_and_knows_its_teachers(at: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(at / name, tmp_path / name)
    runs = [str(tmp_path / "a"), str(tmp_path / "b")]
    config = one_epoch(opinion_config(at, teacher="nobody", kd="none", opinions=runs))
    train(config, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert len(record["opinions"]["teachers"]) == 2
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all({"opinion_photos", "opinion_views", "opinion_blocks", "ramp"} <= set(row) for row in rows)
    assert not {"ckd", "akd"} & set(rows[0])
    change_weights(tmp_path / "a")
    with pytest.raises(CheckpointError, match="other data"):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("data", "difference"),
    [
        ({"split": 1}, r"data\.split is 1 in the one and 0 in the other"),
        ({"validation": 0.25}, r"data\.validation is 0\.25 in the one and 0\.0"),
        ({"fraction": 0.5}, r"data\.fraction is 0\.5 in the one and 1\.0"),
    ],
)
def test_a_teacher_that_saw_other_labels_is_refused(
    data: dict[str, Any], difference: str, at: Path, tmp_path: Path
) -> None:
    make_quality(at / "set" / "labels.csv", tmp_path / "leaky", **data)
    config = opinion_config(at, opinions=[str(at / "a"), str(tmp_path / "leaky")])
    for start in (lambda: train(config, tmp_path / "run"), lambda: prepare_shared(config)):
        with pytest.raises(ConfigError, match=rf"leaky: .*did not learn from exactly.*{difference}"):
            start()
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_data_set_or_of_other_scores_is_refused(at: Path, tmp_path: Path) -> None:
    table = tmp_path / "set" / "labels.csv"
    shutil.copytree(at / "set", tmp_path / "set")
    own = make_quality(table, tmp_path / "own")
    config = opinion_config(at, opinions=[str(own)])
    check(config)  # the same photos and scores in another folder
    text = table.read_text().splitlines()
    table.write_text("\n".join([text[0], *(f"{line.split(',')[0]},55.5" for line in text[1:3]), *text[3:]]) + "\n")
    with pytest.raises(ConfigError, match=r"own: .*data set is"):
        check(config)
    shutil.rmtree(tmp_path / "own")
    shutil.copytree(at / "a", tmp_path / "own")
    record = json.loads((tmp_path / "own" / "config.json").read_text())
    record["labels"]["mean"] += 1  # labels changed in place since the run was trained
    (tmp_path / "own" / "config.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"own: .*labels is"):
        check(config)


def check(config: TrainConfig) -> None:
    dataset = dataset_of(config.data)
    split = split_of(dataset, config.data)
    facts = label_facts(dataset, split, training_labels(config.data, dataset, split))
    require_student_photos(find_teachers(config.distill.opinions, config.data.split), config, facts)


def test_an_average_counts_with_its_members_and_a_folder_of_splits_with_its_own(at: Path, tmp_path: Path) -> None:
    average([at / "a", at / "b"], tmp_path / "mean")
    folders = find_teachers([str(tmp_path / "mean")], 0).folders
    assert [folder.resolve() for folder in folders] == [at / "a", at / "b"]
    for split in (0, 1):
        make_quality(at / "set" / "labels.csv", tmp_path / "runs" / f"split-{split}", seed=split, split=split)
    assert find_teachers([str(tmp_path / "runs")], 1).folders == (tmp_path / "runs" / "split-1",)
    check(opinion_config(at, opinions=[str(tmp_path / "mean"), str(tmp_path / "runs")]))
    for names, message in (
        ([str(tmp_path / "mean"), str(at / "a")], "counts twice"),
        ([str(tmp_path / "runs")], r"runs.*nor one of split 7"),
        ([str(at / "teacher")], "stage teacher"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_teachers(names, 7)
    (tmp_path / "runs" / "split-0" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="not finished"):
        find_teachers([str(tmp_path / "runs")], 0)


def test_teachers_without_blocks_teach_photos_and_views_alone(at: Path, tmp_path: Path) -> None:
    linear = make_quality(at / "set" / "labels.csv", tmp_path / "linear", changes={"decoder": "linear"})
    scorer, _ = load_run(linear)
    scores, blocks = mean_opinion([scorer], [np.zeros((224, 224, 3), np.uint8)], 2, 512)
    assert np.isfinite(scores).all()
    assert np.isnan(blocks).all()
    config = opinion_config(at, opinions=[str(linear)])
    dataset = dataset_of(config.data)
    with pytest.raises(ConfigError, match="linear decoder"):
        open_opinions(config, dataset, split_of(dataset, config.data))


@pytest.mark.parametrize(
    ("distill", "message"),
    [
        ({"lambda_b": 1.0}, r"lambda_b weighs opinions, and distill\.opinions.*not set"),
        ({"lambda_p": -1.0, "opinions": ["a"]}, "lambda_p is a weight from 0 up"),
        ({"mosaics": -1}, "mosaics is a number of photos"),
        ({"lambda_p": 1.0, "opinions": ["a"], "schedule": "two-stage", "warm": 3}, "two-stage ends with quality alone"),
    ],
)
def test_wrong_settings_are_named(distill: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict({"stage": "student", "distill": distill})


def test_a_pool_with_labelled_photos_is_refused_by_the_student(at: Path, tmp_path: Path) -> None:
    pool = make_pool(tmp_path / "pool")
    shutil.copy(at / "set" / "05.png", pool / "05.png")
    config = opinion_config(at)
    config = dataclasses.replace(config, bdm=dataclasses.replace(config.bdm, root=str(pool)))
    with pytest.raises(ConfigError, match=r"05\.png.*whose photos come in by their split alone"):
        train(config, tmp_path / "run")
    further = opinion_config(at, photos=[str(at / "set")])
    with pytest.raises(ConfigError, match="come in by their split alone"):
        train(further, tmp_path / "run")


def test_the_first_phase_is_without_opinions(at: Path, tmp_path: Path) -> None:
    config = opinion_config(at, schedule="warm-start", warm=1)
    assert config.distill.without_opinions() == dataclasses.replace(
        student_config(at / "set" / "labels.csv", at / "pool", at / "teacher", at / "bank").distill,
        schedule="warm-start",
        warm=1,
    )
    warm_up(config, open_distillation_data(config), tmp_path / "warm")
    (row,) = (json.loads(line) for line in (tmp_path / "warm" / "log.jsonl").read_text().splitlines())
    assert "ckd" in row
    assert not any(name.startswith("opinion") for name in row)
    assert Run(tmp_path / "warm").config.distill.opinions == ()
