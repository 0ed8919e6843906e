"""The correction of a finished network: what it learns, what it leaves alone, and that it is exported."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.pictures import picture
from helpers.tiny_distillation import make_pool, make_teacher, student_config
from helpers.tiny_training import make_labelled
from moslens.data.labelled_views import LabelledViews
from moslens.errors import ConfigError
from moslens.model import build
from moslens.model.block_heads import block_quality
from moslens.train import student
from moslens.train.config import HarmlessSection, ModelSection, RankSection, TrainConfig
from moslens.train.distill import fit_correction as fitting
from moslens.train.distill.fit_correction import fit_correction, read_material
from moslens.train.distill.harmless_pairs import HarmlessPairs
from moslens.train.distill.ladder_bank import LadderBank, LadderBatches, open_ladders, plan_ladders
from moslens.train.distill.pool import open_pool
from moslens.train.networks import load_run
from moslens.train.run_folder import Run
from moslens.train.student import train_student

TINY = {"backbone": "test_efficientnet", "dim": 24, "heads": 2, "baf": "full"}
RANK = RankSection(weight=1.0, clean_margin=0.5, floor=-2.0)


@pytest.fixture(scope="module")
def ladders(tmp_path_factory: pytest.TempPathFactory) -> LadderBatches:
    root = make_pool(tmp_path_factory.mktemp("pool") / "pool", count=8)
    plan = plan_ladders(open_pool(root, held_out=0.25), 224, 24, 0, ("gaussian_blur", "sensor_noise"), "all")
    bank = open_ladders(tmp_path_factory.mktemp("bank") / "bank", plan, processes=1)
    return LadderBatches(LadderBank(bank), 2, 3, 0)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LADDERS": 16, "BLANKS": 6, "PAIRS": 6, "STEPS": 150}.items():
        monkeypatch.setattr(fitting, name, value)


def views(whole: int | None = None) -> LabelledViews:
    return LabelledViews([picture(240, 250, seed=n) for n in range(6)], [0.0] * 6, 0, whole=whole)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build("lite", **TINY, correction=True).eval()


def test_a_new_model_is_not_corrected() -> None:
    plain = build("lite", **TINY).eval()
    model = network()
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    pictures = torch.rand(2, 3, 128, 160)
    sizes = torch.tensor([[128, 160], [96, 128]])
    assert torch.equal(model(pictures, sizes), plain(pictures, sizes))
    assert not any(p.requires_grad for p in model.correction.parameters())


def test_padding_has_no_effect_on_a_correction() -> None:
    model = network()
    torch.nn.init.normal_(model.correction.net[-1].weight)
    pictures = torch.rand(1, 3, 128, 160)
    with torch.inference_mode():
        small = model.parts(pictures)
        padded = torch.nn.functional.pad(pictures, (0, 64, 0, 32))
        features = model.parts(padded, sizes=torch.tensor([[128, 160]])).of_picture()
    pixels = slice(2 * 24, 2 * 24 + 3)
    assert torch.allclose(features[:, pixels], small.of_picture()[:, pixels], atol=1e-4)


def test_the_order_is_learned_and_photos_keep_their_scores(few: None, ladders: LadderBatches) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    material = read_material(model, views(), ladders, None, 0)
    assert material.rungs.shape == material.places.shape == (16, 6)
    assert len(material.ladders.scores) == int(material.rungs.max()) + 1
    fit_correction(model, views(), ladders, None, RANK, HarmlessSection(), 0.05, 0)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if "correction" not in name)
    assert not torch.equal(before["correction.net.6.weight"], after["correction.net.6.weight"])
    with torch.inference_mode():
        scores, added = material.ladders.corrected(model, material.rungs)
        _, on_photos = material.photos.corrected(model, torch.arange(len(material.photos.scores)))
    last = torch.arange(16), material.places.argmax(1)
    assert (scores[:, 0] - scores[last] > 0.5).float().mean() >= 0.9
    assert added[last].abs().mean() > 3 * on_photos.abs().mean()
    pictures = torch.from_numpy(np.stack([ladders.bank.pictures[0][0]])) / 255
    with torch.inference_mode():
        output = model.parts(pictures)
        plain = model.decoder.inside(output.reader, output.tokens, output.masks)
        assert not torch.equal(block_quality(model, output), plain)


def test_the_same_arguments_give_the_same_correction(few: None, ladders: LadderBatches) -> None:
    states = []
    for _ in range(2):
        model = network()
        stream = views(224)
        pairs = HarmlessPairs((stream,), (6,), 224)
        fit_correction(model, stream, ladders, pairs, RANK, HarmlessSection(weight=1.0), 0.05, 3)
        states.append(model.correction.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize(
    ("rank", "text"), [(RankSection(), "rank.weight above 0"), (RankSection(weight=1.0, blocks=0.5), "rank.blocks")]
)
def test_a_correction_needs_ladders_of_its_own(tmp_path: Path, rank: RankSection, text: str) -> None:
    config = TrainConfig(stage="student", model=ModelSection(changes={"correction": True}), rank=rank)
    with pytest.raises(ConfigError, match=text):
        train_student(config, tmp_path)


def test_a_run_that_is_killed_while_it_is_corrected_goes_on_there(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, pool = make_labelled(tmp_path / "set"), make_pool(tmp_path / "pool")
    teacher = make_teacher(pool, tmp_path / "teacher")
    plain = student_config(table, pool, teacher, tmp_path / "bank")
    changes = plain.model.changes | {"correction": True}
    config = dataclasses.replace(
        plain,
        model=dataclasses.replace(plain.model, changes=changes),
        rank=RankSection(weight=1.0, bank=str(tmp_path / "ladders"), entries=16),
        harmless=HarmlessSection(weight=1.0, batch=2),
    )
    train_student(config, tmp_path / "whole")

    def killed(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(student, "fit_correction", killed)
        with pytest.raises(KeyboardInterrupt):
            train_student(config, tmp_path / "again")
    assert not Run(tmp_path / "again").finished
    train_student(config, tmp_path / "again", resume=True)
    whole, again = (Run(tmp_path / name).weights() for name in ("whole", "again"))
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert whole["correction.net.6.weight"].abs().max() > 0
    scorer, _ = load_run(tmp_path / "again")
    assert scorer.model.correction is not None
