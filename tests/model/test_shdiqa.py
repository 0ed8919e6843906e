"""The backbone adapter, its packaged weights, the decoder and the two configurations."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from moslens.errors import CheckpointError, ConfigError
from moslens.model import ModelConfig, build
from moslens.model.backbone import build_backbone, package_weights, pixel_channels, read_state
from moslens.model.decoder import PANEL, PanelDecoder
from moslens.model.shdiqa import PictureScorer


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_paper_without_baf_is_deiqt_to_the_parameter() -> None:
    assert parameters(build("paper", baf="off")) == 24_043_776


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_lite_stays_below_seven_million(backbone: str) -> None:
    assert parameters(build("lite", backbone=backbone)) <= 7_000_000


@pytest.mark.parametrize(
    ("name", "dim", "heads"),
    [("tf_efficientnet_lite0", 192, 6), ("deit3_small_patch16_224", 384, 6), ("resnet18", 64, 4)],
)
def test_any_backbone_gives_a_global_token_and_a_14_by_14_grid(name: str, dim: int, heads: int) -> None:
    backbone = build_backbone(name, dim).eval()
    with torch.inference_mode():
        whole, tokens, _ = backbone(torch.rand(2, 3, 224, 224))
        assert PanelDecoder(dim, heads)(whole, tokens).shape == (2,)
    assert whole.shape == (2, dim)
    assert tokens.shape == (2, 14 * 14, dim)


def test_tokens_keep_their_place() -> None:
    """A change in one corner of the picture changes that corner's token most."""
    backbone = build_backbone("tf_efficientnet_lite0", 192, weights="package").eval()
    plain = torch.full((1, 3, 224, 224), 0.5)
    marked = plain.clone()
    marked[:, :, 200:216, 8:24] = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        change = (backbone(marked)[1] - backbone(plain)[1]).norm(dim=-1).view(14, 14)
    row, column = divmod(int(change.argmax()), 14)
    assert row >= 11
    assert column <= 2


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "deit3_small_patch16_224"])
def test_texture_is_mean_and_mean_square_of_each_place(name: str) -> None:
    backbone = build_backbone(name, 384).eval()
    pictures = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        texture = backbone(pictures)[2]
    channels, fine = backbone.texture_channels, pixel_channels(pictures)
    assert texture.shape == (2, 14 * 14, 2 * channels)
    place = fine[:, :, 32:48, 48:64]
    count = fine.shape[1]
    assert torch.allclose(texture[:, 2 * 14 + 3, :count], place.mean((2, 3)), atol=1e-4)
    assert torch.allclose(texture[:, 2 * 14 + 3, channels : channels + count], place.square().mean((2, 3)), atol=1e-4)


def test_fine_channels_of_pixels() -> None:
    picture = torch.full((1, 3, 32, 32), 0.5)
    picture[:, :, :, 16:] = torch.tensor([1.0, 0.5, 0.0])[:, None, None]
    picture[:, :, 16:, :16] = 0.0
    fine = pixel_channels(picture)[0]
    assert torch.equal(fine[:3], picture[0])
    assert fine[3:5, 0, 20].tolist() == [0.5, -0.5]
    assert fine[5, 20, 15] == 0.5, "from black to the right"
    assert fine[6, 15, 3] == 0.5, "down to black"
    assert fine[7:, 3, 3].tolist() == [1, 1, 0, 0]
    assert fine[7:, 20, 15].tolist() == [0, 1, 1, 0]
    assert pixel_channels(torch.ones(1, 3, 32, 32))[0, 7:, 31, 31].tolist() == [1, 1, 0, 1]


def test_folding_batchnorm_changes_nothing_but_the_layers() -> None:
    folded = build_backbone("tf_efficientnet_lite0", 192, weights="package").eval()
    plain = build_backbone("tf_efficientnet_lite0", 192, weights="package", fold=False).eval()
    kinds = {type(m) for m in folded.modules()}
    assert not any(issubclass(kind, torch.nn.BatchNorm2d) for kind in kinds)
    x = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        for a, b in zip(folded.body(x), plain.body(x), strict=True):
            assert torch.allclose(a, b, atol=1e-4 * float(b.abs().max()))


def test_batchnorm_statistics_stay_frozen_in_training() -> None:
    backbone = build_backbone("test_efficientnet", 24, fold=False)
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone.train()
    backbone(torch.rand(2, 3, 224, 224))
    after = backbone.state_dict()
    assert before
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_normalisation_is_the_one_the_weights_were_trained_with() -> None:
    backbone = build_backbone("tf_efficientnet_lite0", 192)
    grey = backbone.normalise(torch.full((1, 3, 4, 4), 0.5))
    assert torch.allclose(grey, torch.zeros_like(grey))
    white = build_backbone("deit3_small_patch16_224", 384).normalise(torch.ones(1, 3, 1, 1)).flatten()
    assert white.tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_packaged_weights_name_the_content_of_known_photos(name: str, shared_data: Path) -> None:
    """Proof of the mapping by order: the ImageNet photos of the pristine pool carry their class in their name."""
    import torchvision

    categories = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    network = timm.create_model(name)
    network.load_state_dict(package_weights(name))
    network.eval()
    photos = sorted((shared_data / "pristine").glob("imagenet1000_*"))[::12]
    right = 0
    for photo in photos:
        match = re.fullmatch(r"imagenet1000_n\d+_(.*)", photo.stem)
        assert match
        with Image.open(photo) as picture:
            rgb = picture.convert("RGB").resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
        x = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None] / 255.0
        with torch.inference_mode():
            answer = categories[int(network((x - 0.5) / 0.5).argmax())]
        right += answer.lower() == match[1].replace("_", " ").lower()
    assert len(photos) > 50
    assert right / len(photos) > 0.7


def test_timm_state_dict_loads_into_paper_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    source = timm.create_model("deit3_small_patch16_224", num_classes=10)
    torch.save({"model": source.state_dict()}, tmp_path / "deit.pth")
    save_file(source.state_dict(), tmp_path / "deit.safetensors")
    for file in ("deit.pth", "deit.safetensors"):
        body = build("paper", weights=tmp_path / file).backbone.body
        assert torch.equal(body.state_dict()["blocks.3.mlp.fc1.weight"], source.state_dict()["blocks.3.mlp.fc1.weight"])
    wrong = timm.create_model("deit3_base_patch16_224", num_classes=0)
    torch.save(wrong.state_dict(), tmp_path / "base.pth")
    with pytest.raises(CheckpointError, match=r"base\.pth.*does not fit"):
        build("paper", weights=tmp_path / "base.pth")


def test_weights_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_state(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(CheckpointError, match=r"text\.pth.*not a readable"):
        read_state(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_state(tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="no weight package"):
        package_weights("resnet18")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_a_backbone_starts_with_the_body_of_a_run(name: str, tmp_path: Path) -> None:
    trained = build_backbone(name, 16)
    weights = {f"backbone.{key}": value for key, value in trained.state_dict().items()} | {
        "quality.bias": torch.ones(1)
    }
    save_file(weights, tmp_path / "model.safetensors")
    again = build_backbone(name, 16, weights=tmp_path / "model.safetensors")
    for key, value in trained.body.state_dict().items():
        assert torch.equal(again.body.state_dict()[key], value), key
    weights.pop(next(key for key in weights if key.startswith("backbone.body.")))
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(CheckpointError, match="does not fit: 1 tensors missing"):
        build_backbone(name, 16, weights=tmp_path / "less.safetensors")


def test_unknown_configuration_and_setting() -> None:
    with pytest.raises(ConfigError, match="'huge'"):
        build("huge")
    with pytest.raises(ConfigError, match="colour"):
        build("lite", colour="red")


def test_the_panel_is_averaged() -> None:
    decoder = PanelDecoder(24, 2).eval()
    whole, tokens = torch.randn(3, 24), torch.randn(3, 5, 24)
    with torch.inference_mode():
        single = []
        panel = decoder.panel.detach().clone()
        for rater in panel:
            decoder.panel.data = rater[None].expand(PANEL, -1).clone()
            single.append(decoder(whole, tokens))
        decoder.panel.data = panel
        # raters attend to each other, so only one shared rater is exactly the mean of itself
        decoder.panel.data = panel[:1].expand(PANEL, -1).clone()
        assert torch.allclose(decoder(whole, tokens), single[0], atol=1e-6)


def test_window_scorer_puts_the_label_scale_back() -> None:
    model = build("lite", backbone="test_efficientnet", dim=24, heads=2).eval()
    windows = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():
        standard = model(windows.permute(0, 3, 1, 2) / 255.0)
        scaled = PictureScorer(model, mean=58.0, std=20.0)(windows)
    assert torch.allclose(scaled, standard * 20 + 58, atol=1e-4)


def test_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        ModelConfig().dim = 1  # type: ignore[misc]


def test_every_weight_of_a_folded_body_learns() -> None:
    backbone = build_backbone("tf_efficientnet_lite0", 192, weights="package")
    whole, tokens, _ = backbone(torch.rand(1, 3, 224, 224))
    (whole.sum() + tokens.square().sum()).backward()
    still = [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []
