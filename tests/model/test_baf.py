"""BAF: parameter counts, block isolation, weights, shapes, switches, the same cuts as BDM, ONNX."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moslens.blocks import grid_blocks
from moslens.errors import ConfigError
from moslens.model import build
from moslens.model.baf import BAF, MODES, TokenGrid, block_rectangles, mean_pool, sine_positions
from moslens.model.decoder import PanelDecoder
from moslens.model.shdiqa import SHDIQA, PictureScorer
from moslens.release.export import write_onnx

TINY = {"backbone": "test_efficientnet", "dim": 24, "heads": 2}
TINY_VIT = {"backbone": "test_vit3", "dim": 96, "heads": 6}


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_paper_has_the_reported_size() -> None:
    assert parameters(build("paper")) == 24_192_000
    assert parameters(build("paper", baf="off")) == 24_043_776


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_lite_with_baf_stays_below_seven_million(backbone: str) -> None:
    assert parameters(build("lite", backbone=backbone, baf="full")) <= 7_000_000


def test_each_switch_costs_what_it_uses() -> None:
    gate, query = 192 * 192 + 192, 192
    expected = {
        "full": gate + query,
        "gate-only": gate + query,
        "no-filter": query,
        "weight-only": query,
        "no-aggregation": gate,
    }
    assert {mode: parameters(BAF(192, mode)) for mode in MODES[1:]} == expected


@pytest.mark.parametrize(("grid", "cuts"), [(2, [0, 7, 14]), (3, [0, 5, 9, 14]), (4, [0, 4, 7, 10, 14])])
def test_cuts_are_those_of_the_specification(grid: int, cuts: list[int]) -> None:
    rectangles = block_rectangles(14, 14, grid)
    assert [r[0] for r in rectangles[::grid]] == cuts[:-1]
    assert [r[3] for r in rectangles[:grid]] == cuts[1:]


@given(st.integers(1, 14), st.integers(1, 14))
def test_token_blocks_are_the_pixel_blocks_of_bdm(rows: int, columns: int) -> None:
    pixels = [(b.y, b.x, b.y + b.height, b.x + b.width) for b in grid_blocks(224, 224, (rows, columns))]
    tokens = block_rectangles(14, 14, (rows, columns))
    assert [tuple(16 * cut for cut in rectangle) for rectangle in tokens] == pixels
    masks = TokenGrid(14, 14).masks((rows, columns))[0]
    assert torch.equal(masks.sum(0), torch.ones(196, dtype=torch.int64))


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_a_block_sees_its_own_tokens_and_no_others(grid: int) -> None:
    torch.manual_seed(0)
    baf, layer = BAF(24), PanelDecoder(24, 2).layer
    masks = TokenGrid(14, 14).masks(grid)[0]
    tokens = torch.randn(2, 196, 24, requires_grad=True)
    queries = baf.queries(TokenGrid(14, 14).centres(grid))
    read = baf.read(layer, tokens, queries, masks[None])
    # the same as each query alone with the tokens of its block
    for k, mask in enumerate(masks):
        alone = layer(queries[:, k : k + 1].expand(2, -1, -1), tokens[:, mask])
        assert torch.allclose(read[:, k : k + 1], alone, atol=1e-5)
    for k, mask in enumerate(masks):
        (gradient,) = torch.autograd.grad(read[:, k].square().sum(), tokens, retain_graph=True)
        norms = gradient.norm(dim=-1)
        assert torch.all(norms[:, ~mask] == 0)
        assert torch.all(norms[:, mask] > 0)


@pytest.mark.parametrize("grid", [2, 3, 4])
@pytest.mark.parametrize("mode", MODES)
def test_shapes_and_weights(mode: str, grid: int) -> None:
    model = build("lite", **TINY, baf=mode).eval()
    with torch.inference_mode():
        parts = model.parts(torch.rand(2, 3, 224, 224), grid)
    assert parts.score.shape == (2,)
    assert parts.whole.shape == (2, 24)
    assert parts.tokens.shape == (2, 196, 24)
    assert parts.blocks.tokens.shape == parts.blocks.gated.shape == (2, grid * grid, 24)
    assert parts.blocks.weights.shape == (2, grid * grid)
    assert parts.blocks.summary.shape == (2, 24)
    assert torch.allclose(parts.blocks.weights.sum(1), torch.ones(2), atol=1e-6)
    uniform = torch.allclose(parts.blocks.weights, torch.full((2, grid * grid), grid**-2))
    assert uniform == (mode in ("off", "no-filter", "gate-only"))
    assert torch.equal(parts.blocks.tokens, parts.blocks.gated) == (mode in ("off", "no-filter", "weight-only"))


@torch.no_grad()
def test_filter_by_hand() -> None:
    """The equations of the module docstring, block by block."""
    torch.manual_seed(1)
    baf = BAF(8)
    assert baf.filter is not None
    a, c = torch.randn(2, 5, 8), torch.randn(2, 8)
    blocks = baf(a, c)
    for b in range(2):
        gated = [torch.sigmoid(baf.filter.weight @ (a[b, k] + c[b]) + baf.filter.bias) * a[b, k] for k in range(5)]
        powers = [math.exp(float(g @ c[b]) / math.sqrt(8)) for g in gated]
        weights = [p / sum(powers) for p in powers]
        summary = sum((w * g for w, g in zip(weights, gated, strict=True)), torch.zeros(8))
        assert torch.allclose(blocks.gated[b], torch.stack(gated), atol=1e-6)
        assert torch.allclose(blocks.weights[b], torch.tensor(weights), atol=1e-6)
        assert torch.allclose(blocks.summary[b], summary, atol=1e-6)


def test_the_score_reads_the_summary_and_without_baf_is_deiqt() -> None:
    torch.manual_seed(2)
    model = build("lite", **TINY, baf="full").eval()
    pictures = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        whole, tokens, _ = model.backbone(pictures)
        parts = model.parts(pictures)
        assert torch.allclose(model.decoder(whole + parts.blocks.summary, tokens), parts.score)
        assert not torch.allclose(model.decoder(whole, tokens), parts.score, atol=1e-4)
        plain = build("lite", **TINY).eval()
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("baf.")})
        assert torch.allclose(plain(pictures), model.decoder(whole, tokens))


def test_one_set_of_weights_serves_every_grid() -> None:
    model = build("lite", **TINY, baf="full").eval()
    pictures = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        scores = {grid: model.parts(pictures, grid).score for grid in (2, 3, 4, (2, 5))}
        assert torch.equal(model(pictures), scores[4])
    assert len({float(s) for s in scores.values()}) == 4


def test_every_parameter_learns() -> None:
    model = build("lite", **TINY, baf="full")
    model(torch.rand(2, 3, 224, 224)).sum().backward()
    assert all(p.grad is not None and float(p.grad.norm()) > 0 for n, p in model.named_parameters() if "baf" in n)


def test_positions_differ_and_are_small() -> None:
    for grid in (2, 3, 4):
        positions = sine_positions(TokenGrid(14, 14).centres(grid)[0], 24)
        assert torch.pdist(positions).min() > 0.01
        assert float(positions.square().mean().sqrt()) == pytest.approx(0.02, rel=1e-5)
    with pytest.raises(ConfigError, match="multiple of 4"):
        sine_positions(TokenGrid(14, 14).centres(2), 30)


def test_mean_pooling_is_the_mean() -> None:
    tokens, masks = torch.randn(2, 196, 6), TokenGrid(14, 14).masks(3)[0]
    expected = torch.stack([tokens[:, mask].mean(1) for mask in masks], dim=1)
    assert torch.allclose(mean_pool(tokens, masks), expected, atol=1e-6)
    model = build("lite", **TINY, baf="full", variant="C").eval()
    with torch.inference_mode():
        parts = model.parts(torch.rand(1, 3, 224, 224), 3)
        assert torch.allclose(parts.blocks.tokens, mean_pool(parts.tokens, masks), atol=1e-6)


def test_variant_b_leaves_the_transformer_as_it_was() -> None:
    torch.manual_seed(3)
    model = build("paper", **TINY_VIT, variant="B").eval()
    pictures = torch.rand(2, 3, *model.backbone.body.patch_embed.img_size)
    with torch.inference_mode():
        whole, tokens, _ = model.backbone(pictures)
        parts = model.parts(pictures, 2)
    assert torch.allclose(parts.whole, whole, atol=1e-5)
    assert torch.allclose(parts.tokens, tokens, atol=1e-5)
    assert parts.blocks.tokens.shape == (2, 4, model.config.dim)
    assert torch.pdist(parts.blocks.tokens[0]).min() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baf": "half"}, "baf is one of"),
        ({"baf": "full", "variant": "Z"}, "variant is one of"),
        ({"baf": "full", "variant": "B"}, "vision transformer"),
        ({"baf": "full", "decoder": "linear"}, "needs baf"),
        ({"decoder": "tree"}, "panel or linear"),
    ],
)
def test_impossible_switches_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build("lite", **TINY, **changes)


def test_linear_decoder_is_the_backbone_alone() -> None:
    model = build("lite", **TINY, decoder="linear").eval()
    with torch.inference_mode():
        whole, _, _ = model.backbone(pictures := torch.rand(2, 3, 224, 224))
        assert torch.allclose(model(pictures), model.decoder.head(whole)[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["full", "no-aggregation"])
def test_onnx_gives_the_scores_of_torch(mode: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    scorer = PictureScorer(build("lite", **TINY, baf=mode), mean=50.0, std=20.0).eval()
    write_onnx(scorer, tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        windows = np.random.default_rng(count).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)
        with torch.inference_mode():
            ours = scorer(torch.from_numpy(windows)).numpy()
        assert np.abs(session.run(["score"], {"windows": windows})[0] - ours).max() < 1e-3


def test_baf_off_has_no_trace_in_the_state() -> None:
    names = set(build("lite", **TINY).state_dict())
    assert isinstance(build("lite", **TINY), SHDIQA)
    assert not any(name.startswith("baf") for name in names)
    assert set(build("lite", **TINY, baf="full").state_dict()) - names == {
        "baf.query",
        "baf.filter.weight",
        "baf.filter.bias",
    }
