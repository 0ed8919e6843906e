"""moslens in torch: the very scores of the scorer, with gradients; torchmetrics and pyiqa manners."""

from __future__ import annotations

import json
import pickle
import runpy
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from torchvision.utils import save_image

import moslens
from helpers.map_model import make_map_model
from helpers.paths import ROOT
from helpers.tiny_model import make_photo, make_tiny_model
from moslens import Scorer
from moslens.errors import CheckpointError, ModelError, TruncatedImage
from moslens.interop import QualityNetwork, QualityScore, create_metric
from moslens.interop.onnx_graph import OnnxModule

PHOTOS = sorted((ROOT / "examples" / "photos").glob("*.jpg"))


def tensor(*pictures: object) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures]).float() / 255


@pytest.fixture(scope="module")
def released() -> QualityNetwork:
    return QualityNetwork()


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> QualityScore:
    return QualityScore(tiny_model)


class TestScores:
    def test_the_released_model_scores_photos_as_the_scorer_does(self, released: QualityNetwork) -> None:
        scorer = Scorer()
        assert released.name == scorer.model_id
        for path in PHOTOS[:3]:
            assert float(released.score_file(path)) == pytest.approx(scorer.score(path).score, abs=1e-3)

    @pytest.mark.parametrize("size", [(500, 400), (224, 224), (60, 40), (32, 300), (33, 33), (512, 100)])
    def test_any_size_that_is_not_shrunk(self, tiny: QualityScore, tiny_model: Path, size: tuple[int, int]) -> None:
        photos = [make_photo(*size, seed=seed) for seed in (1, 2)]
        scorer = Scorer(tiny_model)
        expected = [scorer.score(photo).score for photo in photos]
        assert tiny.scores(tensor(*photos)).tolist() == pytest.approx(expected, abs=1e-3)
        as_bytes = (255 * tensor(*photos)).round().to(torch.uint8)
        assert tiny.scores(as_bytes).tolist() == pytest.approx(expected, abs=1e-3)

    def test_a_shrunk_tensor_is_near_and_a_shrunk_file_the_same(self, tiny: QualityScore, tiny_model: Path) -> None:
        photo = make_photo(1500, 900, seed=3)
        expected = Scorer(tiny_model).score(photo).score
        assert float(tiny.scores(tensor(photo))) == pytest.approx(expected, abs=0.05)
        assert float(tiny.quality.score_file(photo)) == pytest.approx(expected, abs=1e-3)

    def test_a_score_does_not_depend_on_its_neighbours(self, tiny: QualityScore) -> None:
        photos = [make_photo(300, 260, seed=seed) for seed in range(3)]
        together = tiny.scores(tensor(*photos))
        alone = torch.cat([tiny.scores(tensor(photo)) for photo in photos])
        assert torch.equal(together, alone)

    def test_any_order_of_memory_gives_the_same_score_and_gradient(self, tiny: QualityScore) -> None:
        images = tensor(make_photo(80, 60, seed=1), make_photo(80, 60, seed=2)).contiguous()
        wide = torch.zeros(2, 3, 60, 160)
        wide[..., ::2] = images
        views = [
            images.to(memory_format=torch.channels_last),
            images.transpose(2, 3).contiguous().transpose(2, 3),
            wide[..., ::2],
        ]
        for view in views:
            assert not view.is_contiguous()
            asked = view.clone(memory_format=torch.preserve_format).requires_grad_(True)
            assert tiny.scores(asked).tolist() == pytest.approx(tiny.scores(images).tolist(), abs=1e-4)
            tiny.scores(asked).sum().backward()
            assert asked.grad is not None
            assert float(asked.grad.abs().sum()) > 0
        same = images[:1].expand(3, -1, -1, -1)
        assert tiny.scores(same).tolist() == pytest.approx([tiny.scores(images).tolist()[0]] * 3, abs=1e-4)
        with pytest.raises(ValueError, match=r"torch\.bool"):
            tiny.scores(images > 0.5)

    def test_a_model_with_maps(self, tmp_path: Path) -> None:
        folder = make_map_model(tmp_path / "colours")
        photo = make_photo(300, 260, seed=1)
        found = float(QualityScore(folder).scores(tensor(photo)))
        assert found == pytest.approx(Scorer(folder).score(photo).score, abs=1e-3)

    def test_wrong_tensors(self, tiny: QualityScore) -> None:
        for images, words in (
            (torch.rand(3, 64, 64), "B x 3 x H x W"),
            (torch.rand(1, 1, 64, 64), "B x 3 x H x W"),
            (torch.rand(1, 3, 64, 31), "32 px"),
            (torch.rand(1, 3, 64, 64) * 255, r"in \[0, 1\]"),
            (torch.full((1, 3, 64, 64), torch.nan), r"in \[0, 1\]"),
            (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "floats"),
            (torch.rand(1, 3, 64, 64).to_sparse(), r"pass x.to_dense\(\)"),
            (torch.rand(1, 3, 64, 64, device="meta"), "a dense tensor with values"),
            (torch.rand(0, 3, 64, 64), "no picture: it is 0 x 3 x 64 x 64"),
            (2 * torch.rand(2, 3, 64, 64) - 1, r"for \[-1, 1\] pass \(x \+ 1\) / 2"),
            ((255 * torch.rand(1, 3, 64, 64)).half(), "for 0 to 255 pass x / 255"),
        ):
            for call in (tiny.scores, tiny, tiny.update):
                with pytest.raises(ValueError, match=words):
                    call(images)

    @pytest.mark.parametrize(("value", "taken"), [(-0.11, False), (-0.09, True), (1.09, True), (1.11, False)])
    def test_a_single_value_outside_by_more_than_a_tenth(self, tiny: QualityScore, value: float, taken: bool) -> None:
        images = tensor(make_photo(64, 64, seed=1))
        images[0, 1, 5, 6] = value
        if not taken:
            with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
                tiny.scores(images)
        else:
            assert torch.equal(tiny.scores(images), tiny.scores(images.clamp(0, 1)))

    @pytest.mark.parametrize("size", [(300, 260), (1300, 700)])
    def test_a_tensor_scores_as_the_same_picture_saved(
        self, released: QualityNetwork, tmp_path: Path, size: tuple[int, int]
    ) -> None:
        images = tensor(make_photo(*size, seed=8)) * 0.7 + 0.1  # no whole numbers of 8 bits
        path = tmp_path / "a.png"
        save_image(images[0], path)
        assert float(released(images)) == pytest.approx(Scorer().score(path).score, abs=0.1)


class TestPrecision:
    def test_autocast_changes_nothing(self, tiny: QualityScore) -> None:
        images = tensor(make_photo(300, 260, seed=1))
        expected = tiny.scores(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = tiny.scores(images)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
    def test_another_type_of_the_module_changes_nothing(self, tiny_model: Path, kind: torch.dtype) -> None:
        metric, iqa = QualityScore(tiny_model), create_metric(tiny_model)
        images = tensor(make_photo(240, 230, seed=1))
        expected = metric.scores(images)
        torch.nn.ModuleList([metric, iqa]).to(kind)
        metric.half()
        iqa.half()
        assert metric.total.dtype == torch.float32
        assert torch.equal(metric.scores(images), expected)
        assert torch.equal(iqa(images), expected)
        halved = images.to(kind)
        assert torch.equal(metric.scores(halved), metric.scores(halved.float()))

    def test_the_module_still_moves(self, tiny_model: Path) -> None:
        metric = QualityScore(tiny_model).to("meta")
        assert {tensor.device.type for tensor in metric.quality.buffers()} == {"meta"}


class TestGradients:
    def test_the_gradient_is_that_of_differences(self, tiny: QualityScore) -> None:
        images = tensor(make_photo(260, 240, seed=4)).clamp(0.1, 0.9).requires_grad_(True)
        tiny.scores(images).sum().backward()
        direction = torch.sign(images.grad) * (torch.rand(images.shape) < 0.2)
        step = 1 / 255  # pixels are rounded to 8 bits
        with torch.no_grad():
            difference = float(tiny.scores(images + step * direction) - tiny.scores(images - step * direction))
        assert difference / (2 * step) == pytest.approx(float((images.grad * direction).sum()), rel=0.05)

    def test_it_flows_through_the_resize_to_every_pixel(self, tiny: QualityScore) -> None:
        images = tensor(make_photo(900, 700, seed=5)).clamp(0.1, 0.9).requires_grad_(True)
        tiny.scores(images).sum().backward()
        assert torch.isfinite(images.grad).all()
        assert float((images.grad.abs().sum(1) > 0).float().mean()) > 0.95

    def test_as_a_loss_it_makes_a_picture_better(self, released: QualityNetwork) -> None:
        metric = QualityScore()
        metric.quality = released
        images = (tensor(make_photo(224, 224, seed=6)) * 0.5 + 0.2).requires_grad_(True)
        optimiser = torch.optim.Adam([images], lr=0.01)
        losses = []
        for _ in range(4):
            optimiser.zero_grad()
            loss = 100 - metric(images)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0] - 1

    def test_the_weights_are_frozen_and_stay_in_evaluation(self, tiny: QualityScore) -> None:
        assert not list(tiny.parameters())
        assert not tiny.train().quality.training
        assert "total" in tiny.metric_state


class TestTorchmetrics:
    def test_update_compute_forward_and_reset(self, tiny_model: Path) -> None:
        metric = QualityScore(tiny_model)
        assert isinstance(metric, torchmetrics.Metric)
        assert isinstance(metric, torch.nn.Module)
        photos = [make_photo(240, 230, seed=seed) for seed in range(5)]
        scores = metric.scores(tensor(*photos))
        batch = metric(tensor(*photos[:2]))
        assert float(batch) == pytest.approx(float(scores[:2].mean()), abs=1e-4)
        metric.update(tensor(*photos[2:]))
        assert float(metric.compute()) == pytest.approx(float(scores.mean()), abs=1e-4)
        assert not metric.total.requires_grad
        metric.reset()
        metric.update(tensor(photos[4]))
        assert float(metric.compute()) == pytest.approx(float(scores[4]), abs=1e-4)

    def test_states_of_two_processes_add_up(self, tiny_model: Path) -> None:
        metric = QualityScore(tiny_model)
        assert {name: fx.__name__ for name, fx in metric._reductions.items()} == {
            "total": "dim_zero_sum",
            "count": "dim_zero_sum",
        }

    def test_it_can_be_copied_and_pickled(self, tiny_model: Path) -> None:
        metric = QualityScore(tiny_model)
        photo = tensor(make_photo(240, 230, seed=1))
        expected = float(metric.scores(photo))
        assert float(metric.clone().scores(photo)) == expected
        assert float(pickle.loads(pickle.dumps(metric)).scores(photo)) == expected


class TestPyiqa:
    def test_it_takes_what_pyiqa_takes(self, tiny_model: Path, photo_folder: Path) -> None:
        iqa = create_metric(tiny_model, device="cpu")
        scorer = Scorer(tiny_model)
        a, b = photo_folder / "a.jpg", photo_folder / "b.png"
        expected = [scorer.score(a).score, scorer.score(b).score]
        assert iqa(str(a)).tolist() == pytest.approx(expected[:1], abs=1e-3)
        assert iqa([a, b]).tolist() == pytest.approx(expected, abs=1e-3)
        photo = make_photo(240, 230, seed=1)
        assert iqa(photo).shape == iqa(tensor(photo)).shape == iqa(tensor(photo)[0]).shape == (1,)
        assert float(iqa(tensor(photo))) == pytest.approx(scorer.score(photo).score, abs=1e-3)
        assert (iqa.lower_better, iqa.metric_mode, iqa.metric_name) == (False, "NR", scorer.model_id)

    def test_gradients_only_as_a_loss(self, tiny_model: Path) -> None:
        images = tensor(make_photo(240, 230, seed=1)).requires_grad_(True)
        assert not create_metric(tiny_model)(images).requires_grad
        assert create_metric(tiny_model, as_loss=True)(images).requires_grad

    def test_a_broken_file_is_named(self, tiny_model: Path, photo_folder: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken.jpg"
        broken.write_bytes((photo_folder / "a.jpg").read_bytes()[:2000])
        with pytest.raises(TruncatedImage, match=r"broken\.jpg"):
            create_metric(tiny_model)(broken)


class TestModels:
    def test_a_card_that_does_not_fit_the_weights_is_refused(self, tmp_path: Path) -> None:
        folder = make_tiny_model(tmp_path / "m")
        card = json.loads((folder / "card.json").read_text())
        card["test_vector"]["score"] += 0.5
        (folder / "card.json").write_text(json.dumps(card))
        with pytest.raises(ModelError, match="where the card says"):
            QualityNetwork(folder)

    def test_no_such_model_and_no_such_run(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="no model 'nonesuch'"):
            QualityNetwork("nonesuch")
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(CheckpointError):
            QualityNetwork(tmp_path)

    def test_an_operator_without_a_gradient_is_named(self) -> None:
        from onnx import TensorProto, helper

        node = helper.make_node("NonZero", ["windows"], ["score"])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("windows", "score")]
        model = helper.make_model(helper.make_graph([node], "odd", ends[:1], ends[1:]))
        with pytest.raises(ModelError, match="operator NonZero"):
            OnnxModule(model.SerializeToString(), "score")

    def test_it_is_there_by_name_and_says_which_extra_it_needs(self) -> None:
        assert moslens.interop.QualityScore is QualityScore
        code = "import sys; sys.modules['torchmetrics'] = None; import moslens; moslens.interop"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1].endswith(
            "this needs torchmetrics: pip install torchmetrics (the extra train)"
        )

    @pytest.mark.slow
    def test_graph_and_network_agree_in_score_and_gradient(self, tmp_path: Path) -> None:
        from moslens.model import build
        from moslens.model.shdiqa import PictureScorer
        from moslens.release.export import write_onnx

        torch.manual_seed(0)
        network = build("lite", backbone="test_efficientnet", dim=24, heads=2, baf="full")
        scorer = PictureScorer(network, 50.0, 20.0).eval()
        write_onnx(scorer, tmp_path / "model.onnx")
        graph = OnnxModule((tmp_path / "model.onnx").read_bytes(), "score")
        windows = 255 * torch.rand(3, 224, 224, 3)
        found = []
        for module in (scorer, graph):
            given = windows.clone().requires_grad_(True)
            scores = module(given)
            scores.sum().backward()
            found.append((scores.detach(), given.grad))
        assert torch.allclose(found[0][0], found[1][0], atol=1e-3)
        assert torch.allclose(found[0][1], found[1][1], atol=1e-3 * float(found[0][1].abs().max()))

    @pytest.mark.slow
    def test_a_run_is_scored_on_its_own_calibration(self, tmp_path: Path) -> None:
        from helpers.tiny_training import make_labelled, tiny_config
        from moslens.picture.load import load
        from moslens.release import score_scale
        from moslens.train import train
        from moslens.train.networks import load_run
        from moslens.train.predict import predict
        from moslens.train.run_folder import Run

        table = make_labelled(tmp_path / "data")
        run = tmp_path / "run"
        train(tiny_config(table), run)
        scorer, _ = load_run(run)
        photo = table.parent / "00.png"
        rows = [f"{i}.png,{30 + i % 40},{32 + i % 40 + (i % 7)},test" for i in range(80)]
        few = (run / "predictions.csv").read_text()
        assert len(few.splitlines()) == 5
        assert QualityNetwork(run).calibration is None
        (run / "predictions.csv").write_text("\n".join(["image,mos,prediction,part", *rows]) + "\n")
        raw = float(next(iter(predict(scorer, [photo]))))
        held = score_scale.fit_calibration(score_scale.read_held_out([Run(run)]))
        network = QualityNetwork(run)
        assert float(network.score_file(photo)) == pytest.approx(held.score(raw), abs=1e-3)
        (run / "predictions.csv").write_text(few)
        assert float(QualityNetwork(run).score_file(photo)) == pytest.approx(min(100, max(0, raw)), abs=1e-3)
        images = tensor(load(photo).pixels).requires_grad_(True)
        network(images).sum().backward()
        assert float(images.grad.abs().sum()) > 0


def test_the_gradio_example_scores_the_file_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run with a stand-in for Gradio, which keeps what the components were given."""
    asked: list[dict[str, object]] = []
    stand_in = types.ModuleType("gradio")
    stand_in.Image = lambda **options: asked.append(options)  # type: ignore[attr-defined]
    stand_in.Markdown = stand_in.Interface = lambda *args, **options: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gradio", stand_in)
    app = runpy.run_path(str(PHOTOS[0].parent.parent / "gradio_app.py"))
    assert (asked[0]["type"], asked[0]["image_mode"]) == ("filepath", None)
    words, overlay = app["judge"](str(PHOTOS[0]))
    assert words.startswith(f"**{Scorer().score(PHOTOS[0]).score:.0f} of 100**")
    assert (overlay is not None) == Scorer().has_maps
    (tmp_path / "a.jpg").write_bytes(b"text")
    assert app["judge"](str(tmp_path / "a.jpg")) == ("not a picture in any format that moslens knows", None)
    assert app["judge"](None) == ("Choose a photo.", None)
