"""A student with blocks is exported with its maps: outputs, parity, calibration, and the head that names kinds."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from PIL import Image

from helpers.pictures import picture
from helpers.tiny_student import HELD_OUT, TEXT, export_tiny_student, make_folds, train_tiny_student
from moslens.errors import ConfigError, DatasetError, MoslensError
from moslens.model.baf import TokenGrid
from moslens.model.block_heads import OUTPUTS, DistilledHead, FittedHead, PictureDescriber, SupervisedHead, read_head
from moslens.model.decoder import PanelDecoder
from moslens.model.shdiqa import PictureScorer
from moslens.picture.windows import WINDOWS
from moslens.release import block_head, block_labels
from moslens.release.block_labels import (
    PENALTIES,
    FaultyMap,
    auc,
    fit_certainty,
    fit_penalty,
    fit_temperature,
    fit_threshold,
    halves,
    name_groups,
    name_kinds,
    named_peaks,
    nll,
    precision_record,
)
from moslens.release.export import block_parity, export
from moslens.scoring.card import NEVER, BlockLabels
from moslens.scoring.session import Model
from moslens.train.checkpoint import load_tensors
from moslens.train.distill.pool import Pool, open_pool
from moslens.train.networks import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_labels, "PICTURES", 9)
        return export_tiny_student(run, tmp_path_factory.mktemp("exported") / "model", head="trained")


def test_an_exported_student_gives_the_outputs_for_blocks(folder: Path) -> None:
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_outputs()] == list(OUTPUTS)
    windows = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    values = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"windows": windows}), strict=True))
    shapes = {name: value.shape for name, value in values.items()}
    assert shapes == {
        "score": (3,), "block_score": (3, 16), "block_weight": (3, 16), "kind_logits": (3, 16, 27), "level": (3, 16),
    }  # fmt: skip
    assert values["block_weight"].sum(1) == pytest.approx(1, abs=1e-5)
    model = Model(folder)
    for pixels, expected in zip(windows, values["score"], strict=True):
        (window,) = WINDOWS.pieces(pixels)
        # alone or beside the blocks, in a batch or by itself: one score
        assert model.run(window)[0] == pytest.approx(expected, abs=1e-4)
        assert model.run(window, OUTPUTS)[0] == pytest.approx(expected, abs=1e-4)


def test_the_card_says_how_blocks_are_read(folder: Path, run: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    record = card["explain"]
    assert record["grid"] == 4
    assert record["head"] == "distilled"
    assert record["kinds"][:2] == ["gaussian_blur", "lens_blur"]
    assert len(record["kinds"]) == len(record["groups"]) == 26
    assert 0.1 <= record["temperature"] <= 10
    assert record["loss"]["after"] <= record["loss"]["before"] + 1e-9
    pool = open_pool(run.parent / "pool", held_out=HELD_OUT)
    calibration, _ = halves(pool)
    assert record["penalty"] in PENALTIES
    assert f"{len(calibration)} clean photos" in record["fitted_on"]
    assert record["data_hash"] == pool.hash_of(calibration)
    # four photos cannot vouch for five false alarms in a hundred
    assert record["threshold"] == NEVER
    assert card["parity"]["worst_block"] <= 1e-3


def torch_describer(run: Path) -> PictureDescriber:
    scorer, _ = load_run(run)
    head = read_head(load_tensors(run / "embedding.safetensors"), scorer.model.dim)
    assert isinstance(head, DistilledHead)
    return PictureDescriber(scorer, head).eval()


def test_torch_and_onnx_agree_in_every_output(folder: Path, run: Path) -> None:
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    windows = np.stack([picture(224, 224, seed=seed) for seed in range(3)])
    with torch.inference_mode():
        expected = [value.numpy() for value in torch_describer(run)(torch.from_numpy(windows))]
    for count in (1, 3):
        found = session.run(list(OUTPUTS), {"windows": windows[:count]})
        for name, a, b in zip(OUTPUTS, expected, found, strict=True):
            assert np.abs(a[:count] - b).max() < 1e-3, name


def test_parity_notices_another_head(folder: Path, run: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(picture(240, 300)).save(photo)
    ours = torch_describer(run)
    assert block_parity(ours, Model(folder), [photo]) < 1e-3
    assert isinstance(ours.head, DistilledHead)
    with torch.no_grad():
        ours.head.heads.level.bias += 1
    assert block_parity(ours, Model(folder), [photo]) > 1


def test_the_quality_of_a_block_reads_that_block_alone() -> None:
    decoder = PanelDecoder(24, 2).eval()
    masks = TokenGrid(14, 14).masks(4)
    whole, tokens = torch.randn(2, 24), torch.randn(2, 196, 24, requires_grad=True)
    quality = decoder.inside(whole, tokens, masks)
    assert quality.shape == (2, 16)
    (gradient,) = torch.autograd.grad(quality[0, 5], tokens)
    touched = gradient.abs().sum(-1) > 0
    assert torch.equal(touched[0], masks[0, 5])
    assert not touched[1].any()
    # one region that is everything is the picture's own score
    assert decoder.inside(whole, tokens, TokenGrid(14, 14).masks(1))[:, 0].detach() == pytest.approx(
        decoder(whole, tokens).detach(), abs=1e-5
    )


def test_kinds_of_a_distilled_head_depend_on_the_direction_of_the_embedding_alone() -> None:
    head = DistilledHead(24)
    torch.nn.init.zeros_(head.projection.bias)
    tokens = torch.randn(2, 4, 24)
    kinds, levels = head(tokens)
    again, same = head(7 * tokens)
    assert kinds.shape == (2, 4, 27)
    assert kinds.detach() == pytest.approx(again.detach(), abs=1e-4)
    assert levels.detach() == pytest.approx(same.detach(), abs=1e-4)


def test_the_supervised_loss_wants_kinds_everywhere_and_levels_where_degraded() -> None:
    head = SupervisedHead(8)
    tokens = torch.randn(1, 3, 8)
    kinds, levels = torch.tensor([[2, -1, 5]]), torch.tensor([[4, 0, 1]])
    loss = head.loss(tokens, kinds, levels)
    (gradient,) = torch.autograd.grad(loss, head.level.weight)
    assert gradient.abs().sum() > 0
    (untouched,) = torch.autograd.grad(head.loss(tokens, torch.full((1, 3), -1), levels), head.level.weight)
    assert untouched.abs().sum() == 0
    optimiser = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(200):
        optimiser.zero_grad()
        head.loss(tokens, kinds, levels).backward()
        optimiser.step()
    answers, strengths = head(tokens)
    assert answers.argmax(-1).tolist() == [[2, 26, 5]]
    assert strengths[0, 0].item() == pytest.approx(4, abs=0.3)
    assert strengths[0, 2].item() == pytest.approx(1, abs=0.3)


def test_without_names_or_without_maps_only_scores_are_exported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_head({}, 24) is None
    assert read_head({f"projection.{k}": v for k, v in torch.nn.Linear(24, 128).state_dict().items()}, 24) is None
    supervised = SupervisedHead(24)
    state = {f"head.{key}": value for key, value in supervised.state_dict().items()}
    assert isinstance(read_head(state, 24), SupervisedHead)
    written = []

    class Enough(Exception):
        pass

    def stop(scorer: torch.nn.Module, path: Path, outputs: Sequence[str], metadata: Mapping[str, str]) -> None:
        assert metadata["direction"] == "higher is better"
        written.append((type(scorer), tuple(outputs), type(scorer.head) if hasattr(scorer, "head") else None))
        raise Enough

    monkeypatch.setattr("moslens.release.export.write_onnx", stop)
    monkeypatch.setattr(block_head, "PICTURES", 8)
    for head in ("none", "trained", "fitted"):
        with pytest.raises(Enough):
            export(run, tmp_path / "plain", TEXT, folds=run.parent / "folds", head=head)
    assert written == [
        (PictureScorer, ("score",), None),
        (PictureDescriber, OUTPUTS, DistilledHead),
        (PictureDescriber, OUTPUTS, FittedHead),
    ]
    with pytest.raises(ConfigError, match="fitted, trained, none"):
        export(run, tmp_path / "plain", TEXT, folds=run.parent / "folds", head="best")
    assert not (tmp_path / "plain" / "card.json").exists()


def test_missing_inputs_are_missed_before_the_head_takes_its_time(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("the head was fitted")

    monkeypatch.setattr(block_head, "block_material", never)
    folds = make_folds(tmp_path / "folds")
    copy = tmp_path / "moved"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text("utf-8"))
    config["config"]["data"] |= {"name": str(tmp_path / "gone" / "labels.csv"), "root": str(tmp_path / "gone")}
    (copy / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(DatasetError, match="gone"):
        export(copy, tmp_path / "model", TEXT, folds=folds)
    with pytest.raises(MoslensError, match=r"no\.json"):
        export(run, tmp_path / "model", TEXT, folds=folds, results=[tmp_path / "no.json"])


def test_without_its_pool_a_student_cannot_be_calibrated(run: Path, folder: Path, tmp_path: Path) -> None:
    model = Model(folder)
    with pytest.raises(DatasetError, match="holds out no photo"):
        block_labels.calibrate_blocks(model, Pool(tmp_path, ("a.png",), ()))


def test_a_head_for_combinations_is_fitted_and_calibrated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_labels, "PICTURES", 9)
    monkeypatch.setattr(block_head, "PICTURES", 12)
    changes = ("naming.faults=3", "naming.precision=0.8")
    model = export_tiny_student(run, tmp_path / "model", head="fitted", naming=changes)
    card = json.loads((model / "card.json").read_text())
    assert card["training"]["naming"] == {"faults": 3, "precision": 0.8}
    # nine pictures prove nothing
    assert card["explain"]["certainty"] == card["explain"]["group_certainty"] == NEVER
    assert card["explain"]["precision"]["wanted"] == 0.8
    labels = Model(model).card.explain
    assert labels.certainty == labels.group_certainty == NEVER
    with pytest.raises(ConfigError, match="naming alone"):
        export(run, tmp_path / "other", TEXT, folds=run.parent / "folds", naming=("bdm.kinds=all",))
    with pytest.raises(ConfigError, match=r"naming\.precision is a share below 1"):
        export(run, tmp_path / "other", TEXT, folds=run.parent / "folds", naming=("naming.precision=80",))


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (4000, 6))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    answers = np.array([rng.choice(6, p=row) for row in shares])
    truth = np.eye(6, dtype=bool)[answers]
    for factor in (0.4, 1.0, 4.0):
        assert fit_temperature(factor * honest, truth) == pytest.approx(factor, rel=0.1)
    assert nll(honest, truth) < nll(4 * honest, truth)
    # one of two true classes is enough
    assert nll(np.array([[0.0, 0.0, -99.0]]), np.array([[True, True, False]])) == pytest.approx(0, abs=1e-9)


def test_names_are_as_precise_as_wanted_on_new_pictures() -> None:
    rng = np.random.default_rng(4)

    def names(count: int) -> tuple[np.ndarray, np.ndarray]:
        certainty = rng.uniform(0.1, 1, count)
        return certainty, rng.random(count) < certainty  # as sure as they are right

    reached, kept = [], []
    for _ in range(60):
        threshold = fit_certainty(*names(500), 0.8)
        certainty, right = names(3000)
        reached.append(right[certainty >= threshold].mean())
        kept.append((certainty >= threshold).mean())
    assert np.mean(np.array(reached) >= 0.8) > 0.85
    assert np.mean(kept) > 0.3, "names of probability .6 up are right in four of five"


def test_a_certainty_by_hand() -> None:
    sure = np.linspace(1, 0.5, 40)
    right = np.array([True] * 30 + [False] * 10)
    found = fit_certainty(sure, right, 0.8)
    assert sure[29] >= found > sure[-1]
    kept = right[sure >= found]
    assert kept.mean() > 0.8
    # names of one certainty stand or fall together, and too few names prove nothing
    tied = np.full(40, 0.7)
    assert fit_certainty(tied, right, 0.8) == NEVER
    assert fit_certainty(tied, np.ones(40, bool), 0.8) == 0.7
    assert fit_certainty(tied[:3], np.ones(3, bool), 0.8) == NEVER


KINDS_OF_TWO = BlockLabels(1, ("gaussian_blur", "motion_blur", "jpeg"), ("blur", "blur", "compression"), 1.0, 0.5)


def test_kinds_and_groups_have_certainties_of_their_own() -> None:
    # The kind of blur is a guess, its group is not; JPEG is certain.
    blurred, jpeg = np.array([[0.5, 0.45, 0.0, 0.05]]), np.array([[0.0, 0.02, 0.96, 0.02]])
    maps = [FaultyMap(blurred, (("motion_blur", "gaussian_blur")[n % 2], "negative")) for n in range(40)]
    maps += [FaultyMap(jpeg, ("jpeg",)) for _ in range(40)]
    record = precision_record(maps, KINDS_OF_TWO, 0.8)
    assert record["certainty"] == pytest.approx(0.96)
    assert record["group_certainty"] == pytest.approx(0.95)
    assert record["precision"] == {
        "wanted": 0.8,
        "kinds": {"reached": 1.0, "names": 40, "of": 80},
        "groups": {"reached": 1.0, "names": 40, "of": 40},
    }
    wrong = [FaultyMap(blurred, ("jpeg",)) for _ in range(80)]
    assert precision_record(wrong, KINDS_OF_TWO, 0.8)["group_certainty"] == NEVER
    assert precision_record([], KINDS_OF_TWO, 0.8)["precision"]["groups"]["reached"] is None


def test_a_name_is_right_where_its_label_is_that_of_a_fault() -> None:
    # "blurred" is also the label of a group; a name that no fault of the picture has is wrong
    sure = np.array([[0.7, 0.1, 0.1, 0.1]])
    assert name_kinds([FaultyMap(sure, ("gaussian_blur",))], KINDS_OF_TWO).right.tolist() == [True]
    assert name_kinds([FaultyMap(sure, ("motion_blur",))], KINDS_OF_TWO).right.tolist() == [False]
    cells = np.array([[0.4, 0.35, 0.1, 0.15]])
    assert name_groups([FaultyMap(cells, ("defocus",))], replace(KINDS_OF_TWO, certainty=0.9)).right.tolist() == [True]
    assert name_groups([FaultyMap(cells, ("jpeg",))], replace(KINDS_OF_TWO, certainty=0.9)).right.tolist() == [False]
    assert not len(name_groups([FaultyMap(cells, ("jpeg",))], replace(KINDS_OF_TWO, certainty=0.4)).right)


def test_a_map_names_a_kind_as_surely_as_its_surest_cell() -> None:
    probabilities = np.array([[0.6, 0.1, 0.3], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])
    assert named_peaks(probabilities, 0.65) == {0: 0.6, 1: 0.5}
    assert named_peaks(probabilities, 0.8) == {0: 0.5}
    assert named_peaks(probabilities, 0.95) == {}


def test_a_threshold_lets_few_new_clean_photos_through() -> None:
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(300):
        peaks = rng.beta(2, 3, 80)
        rates.append((rng.beta(2, 3, 400) >= fit_threshold(list(peaks), 0.1)).mean())
    assert 0.08 < np.mean(rates) <= 0.101
    assert fit_threshold([0.1, 0.2], 0.1) == NEVER
    assert fit_threshold([0.3] * 9, 0.1) > 0.3


def test_halves_are_stable_and_disjoint() -> None:
    names = tuple(f"{number:03d}.jpg" for number in range(200))
    first, second = halves(Pool(Path(), (), names))
    assert sorted((*first, *second)) == sorted(names)
    assert 70 < len(first) < 130
    fewer, _ = halves(Pool(Path(), (), names[::2]))
    assert set(fewer) == set(first) & set(names[::2])


def test_auc_counts_ties_half() -> None:
    positive = np.array([True, True, False, False])
    assert auc(np.array([3.0, 2, 1, 0]), positive) == 1
    assert auc(np.array([1.0, 1, 1, 1]), positive) == 0.5
    assert auc(np.array([0.0, 2, 1, 1]), positive) == 0.5
    assert auc(np.array([0.0, 2, 1, 1]), np.ones(4, bool)) == 0.5


def test_the_penalty_is_no_larger_than_it_helps() -> None:
    rng = np.random.default_rng(0)
    degraded = rng.random(3000) < 0.4
    damage = np.where(degraded, rng.uniform(0.5, 1, 3000), rng.uniform(0, 0.2, 3000))
    blind = rng.normal(60, 12, 3000)
    assert fit_penalty(blind - 100 * degraded, damage, degraded) == 0
    found = fit_penalty(blind, damage, degraded)
    assert 40 <= found <= 120
    assert auc(found * damage - blind, degraded) > auc(-blind, degraded) + 0.3
    noise = rng.permutation(damage)
    assert fit_penalty(blind - 30 * degraded, noise, degraded) == 0
