"""Precision of training: what each setting means, and depthwise convolutions in bf16."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

from moslens.model.backbone import _HalvingConv2d
from moslens.train import precision
from moslens.train.precision import mixed_precision, speed_up_depthwise


@pytest.mark.parametrize(
    ("there", "supported", "capability", "precision"),
    [
        (False, False, (0, 0), "no"),
        (True, True, (9, 0), "bf16"),
        (True, True, (7, 5), "fp16"),
        (True, False, (7, 0), "fp16"),
    ],
)
def test_precision_by_card(
    monkeypatch: pytest.MonkeyPatch, there: bool, supported: bool, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert mixed_precision("auto") == precision
    assert mixed_precision("float32") == "no"
    assert mixed_precision("bf16") == "bf16"


def depthwise_layers() -> nn.Sequential:
    """Strides, kernels and paddings of the lite backbone, with an ordinary convolution between them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.ReLU6(),
        nn.Conv2d(16, 16, 5, stride=2, padding=2, groups=16, bias=False),
        _HalvingConv2d(16, 16, 3, stride=2, groups=16),
    )


def gradients(layers: nn.Module, autocast: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    picture = torch.randn(4, 8, 32, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        values = layers(picture)
    (values.float() * torch.linspace(-1, 1, values.numel()).reshape(values.shape)).sum().backward()
    assert picture.grad is not None
    return values, [picture.grad, *(p.grad for p in layers.parameters() if p.grad is not None)]


def test_gradients_in_bf16_are_those_of_full_precision_but_for_rounding() -> None:
    layers = depthwise_layers()
    values, wanted = gradients(layers, autocast=False)
    quick = copy.deepcopy(layers)
    quick.zero_grad()
    speed_up_depthwise(quick)
    same, found = gradients(quick, autocast=True)
    assert same.dtype == torch.bfloat16
    torch.testing.assert_close(same.float(), values, rtol=0.03, atol=0.03)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), 0) > 0.999
        assert one.norm() == pytest.approx(other.norm().item(), rel=0.03)


def test_full_precision_keeps_every_bit() -> None:
    layers = depthwise_layers()
    values, wanted = gradients(layers, autocast=False)
    layers.zero_grad()
    speed_up_depthwise(layers)
    same, found = gradients(layers, autocast=False)
    assert torch.equal(same, values)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_frozen_weights_get_no_gradient() -> None:
    layers = depthwise_layers()
    speed_up_depthwise(layers)
    layers[0].requires_grad_(False)
    layers[3].requires_grad_(False)
    gradients(layers, autocast=True)
    assert [p.grad is None for p in layers.parameters()] == [True, True, False, False, True, False, False]


def test_on_a_gpu_cudnn_is_off_for_depthwise_layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed: the function is called on the CPU, where it must give what the ordinary layers give."""
    layers = depthwise_layers()
    values, wanted = gradients(layers, autocast=False)
    layers.zero_grad()
    off = []
    convolve = torch.nn.functional.conv2d

    def watched(*arguments: object) -> torch.Tensor:
        off.append(not torch.backends.cudnn.enabled)
        return convolve(*arguments)  # type: ignore[arg-type]

    speed_up_depthwise(layers)
    apply = precision._DepthwiseWithoutCudnn.apply
    monkeypatch.setattr(
        precision, "_depthwise", lambda stride, padding, x, weight, bias: apply(x, weight, bias, stride, padding)
    )
    monkeypatch.setattr(precision.F, "conv2d", watched)
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            layer._conv_forward = functools.partial(precision._depthwise, layer.stride, layer.padding)
    same, found = gradients(layers, autocast=False)
    torch.testing.assert_close(same, values)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert off.count(True) == 3
    assert torch.backends.cudnn.enabled
