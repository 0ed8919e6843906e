"""Whole pictures: padding is not looked at, blocks lie over the picture, and the exported graph takes any shape."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.tiny_model import make_photo
from moslens.errors import ConfigError
from moslens.model import SHDIQA, build
from moslens.model.baf import TokenGrid, block_rectangles, valid_cells
from moslens.model.block_heads import OUTPUTS, FittedHead, PictureDescriber, feature_count
from moslens.model.pixels import as_float, mirrored
from moslens.model.shdiqa import PictureScorer
from moslens.picture.windows import View
from moslens.release.export import write_onnx
from moslens.train.labelled_loss import labelled_loss

TINY = {"backbone": "test_efficientnet", "dim": 24, "heads": 2, "pooling": "moments"}
VIEW = View(whole=True, working_size=384)


def tiny(**changes: object) -> SHDIQA:
    torch.manual_seed(0)
    return build("lite", **TINY, **changes).eval()


def test_valid_cells_are_those_that_the_picture_half_covers() -> None:
    sizes = torch.tensor([[384, 250], [248, 247], [7, 128]])
    assert valid_cells(sizes, 16).tolist() == [[24, 16], [16, 15], [1, 8]]
    assert valid_cells(sizes, 32).tolist() == [[12, 8], [8, 8], [1, 4]]


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 6, (2, 5)])
def test_blocks_lie_over_the_valid_tokens(grid: int | tuple[int, int]) -> None:
    places = TokenGrid(12, 16, torch.tensor([[12, 16], [9, 11], [8, 16]]))
    masks = places.masks(grid)
    absent = places.absent()
    assert absent is not None
    for one, (rows, columns) in enumerate([(12, 16), (9, 11), (8, 16)]):
        expected = torch.zeros(masks.shape[1], 12, 16, dtype=torch.bool)
        rectangles = block_rectangles(rows, columns, grid)
        for mask, (top, left, bottom, right) in zip(expected, rectangles, strict=True):
            mask[top:bottom, left:right] = True
        assert torch.equal(masks[one], expected.flatten(1))
        assert torch.equal(masks[one].any(0), ~absent[one])
        centres = torch.tensor([((t + b) / 2, (left + r) / 2) for t, left, b, r in rectangles])
        assert torch.equal(places.centres(grid)[one], centres)


@pytest.mark.parametrize("baf", ["off", "full"])
@torch.no_grad()
def test_a_picture_without_padding_is_a_window_of_another_size(baf: str) -> None:
    model = tiny(baf=baf)
    pictures = torch.rand(2, 3, 256, 384)
    sizes = torch.tensor([[256, 384]] * 2)
    plain, sized = model.parts(pictures), model.parts(pictures, sizes=sizes)
    for a, b in zip(plain[:3], sized[:3], strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert torch.allclose(plain.blocks.gated, sized.blocks.gated, atol=1e-5)


@pytest.mark.parametrize("baf", ["off", "full"])
def test_tokens_of_the_padding_have_no_effect(baf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through pooling and attention; the convolutions themselves see up to a kernel's radius of it."""
    model = tiny(baf=baf)
    pictures = torch.rand(1, 3, 256, 384)
    maps = [each.detach().requires_grad_(True) for each in model.backbone.body(model.backbone.normalise(pictures))]
    monkeypatch.setattr(model.backbone.body, "forward", lambda x: maps)
    model(pictures, torch.tensor([[192, 288]])).sum().backward()
    for each, stride in zip(maps[2:], (8, 16, 32), strict=True):
        assert each.grad is not None
        seen = each.grad.abs().sum((0, 1)) > 0
        # the coarse map is interpolated to half its stride, which reaches one place further
        assert not seen[192 // stride + 1 :].any()
        assert not seen[:, 288 // stride + 1 :].any()
        assert seen[: 192 // stride, : 288 // stride].all()


@torch.no_grad()
def test_pictures_of_other_sizes_in_a_batch_change_nothing_but_what_padding_meets() -> None:
    model = tiny(baf="full")
    pictures = torch.rand(2, 3, 256, 384)
    sizes = torch.tensor([[256, 384], [192, 288]])
    together = model(pictures, sizes)
    for one in (0, 1):
        assert torch.allclose(model(pictures[one : one + 1], sizes[one : one + 1]), together[one : one + 1], atol=1e-5)


def test_a_transformer_reads_windows() -> None:
    model = build("lite", backbone="vit_tiny_patch16_224", dim=192, heads=3)
    with pytest.raises(ConfigError, match="windows"):
        model(torch.rand(1, 3, 224, 224), torch.tensor([[224, 224]]))


@pytest.mark.slow
def test_the_graph_takes_any_height_and_width(tmp_path: Path) -> None:
    import onnxruntime as ort

    scorer = PictureScorer(tiny(baf="full"), 50.0, 20.0, VIEW).eval()
    describer = PictureDescriber(scorer, FittedHead(feature_count(scorer.model)), 6).eval()
    write_onnx(describer, tmp_path / "model.onnx", OUTPUTS)
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["pictures", "sizes"]
    for height, width in ((384, 384), (256, 384), (131, 384), (384, 200), (128, 128)):
        pixels = np.asarray(make_photo(width, height, seed=height))
        (piece,) = VIEW.pieces(pixels)
        given = {"pictures": piece.pixels[None], "sizes": np.array([[height, width]])}
        with torch.inference_mode():
            ours = describer(*(torch.from_numpy(value) for value in given.values()))
        for name, a, b in zip(OUTPUTS, ours, session.run(list(OUTPUTS), given), strict=True):
            assert b == pytest.approx(a.numpy(), abs=1e-3), name
            assert a.shape[:2] == b.shape[:2] == ((1,) if name == "score" else (1, 36))


def test_a_mirrored_picture_keeps_its_padding_behind_it() -> None:
    pictures = torch.arange(2 * 3 * 4 * 8, dtype=torch.float32).reshape(2, 3, 4, 8)
    found = mirrored(pictures, torch.tensor([[4, 8], [4, 6]]))
    assert torch.equal(found[0], pictures[0].flip(2))
    assert torch.equal(found[1, :, :, :6], pictures[1, :, :, :6].flip(2))
    # column 6 mirrors column 4, which shows column 1 of the picture
    assert torch.equal(found[1, :, :, 6], pictures[1, :, :, 1])
    assert torch.equal(mirrored(pictures, None), pictures.flip(3))


def test_the_mirror_term_pulls_a_picture_and_its_mirror_image_together() -> None:
    model = tiny(baf="off")
    batch = (torch.randint(0, 256, (8, 3, 256, 384), dtype=torch.uint8), torch.randn(8), torch.tensor([[250, 384]] * 8))
    plain, terms = labelled_loss(model, batch, 0.5, 0.0)
    assert set(terms) == {"quality"}
    loss, terms = labelled_loss(model, batch, 0.5, 2.0)
    assert loss.item() == pytest.approx(plain.item() + 2 * float(terms["mirror"]), abs=1e-5)
    planes, sizes = as_float(batch[0]), batch[2]
    with torch.inference_mode():
        gaps = model(planes[:2], sizes[:2]) - model(planes[:2].flip(3), sizes[:2])
    assert float(terms["mirror"]) == pytest.approx(float(gaps.square().mean() / 2), rel=1e-3)
    (gradient,) = torch.autograd.grad(loss, model.decoder.head.weight)
    assert float(gradient.norm()) > 0
