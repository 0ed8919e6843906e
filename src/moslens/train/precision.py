"""The precision of training: what runs in bf16, and depthwise convolutions that are fast on each device."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moslens.train.config import Precision

_BACKWARD = torch.ops.aten.convolution_backward


def mixed_precision(asked: Precision) -> str:
    """What Accelerate calls the precision that a configuration asks for: no, bf16 or fp16.

    auto: bf16 where the GPU computes in it (compute capability 8 and up; older ones emulate it), which needs no scaling
    of gradients; else fp16; full precision on a CPU.
    """
    if asked == "bf16":
        return "bf16"
    if asked == "float32" or not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() and torch.cuda.get_device_capability() >= (8, 0) else "fp16"


def speed_up_depthwise(model: nn.Module) -> None:
    """Let the depthwise convolutions of ``model`` run on faster kernels; weights and results stay as they are.

    On a CPU in bf16 parts of their gradients are computed in full precision: oneDNN has no fast kernel for them in
    bf16, and a step of the lite backbone is twice as long without this. On a GPU torch's own kernels are used: cuDNN
    from 9.10 on compiles a kernel for each layer and shape of a batch (https://github.com/NVIDIA/cudnn-frontend/issues/1066),
    which takes seconds for each new shape, and whole pictures have many.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            padding = module.padding
            if module.dilation == (1, 1) and module.out_channels == module.in_channels and not isinstance(padding, str):
                module._conv_forward = partial(_depthwise, module.stride, padding)  # type: ignore[method-assign]


def _depthwise(
    stride: tuple[int, ...], padding: tuple[int, ...], x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    kind = x.device.type
    if kind == "cuda":
        if torch.is_autocast_enabled(kind):
            half = torch.get_autocast_dtype(kind)
            x, weight, bias = x.to(half), weight.to(half), None if bias is None else bias.to(half)
        result: Tensor = _DepthwiseWithoutCudnn.apply(x, weight, bias, stride, padding)
        return result
    if torch.is_autocast_enabled(kind):
        result = _Depthwise.apply(x, weight, bias, stride, padding)
        return result
    return F.conv2d(x, weight, bias, stride, padding, 1, weight.shape[0])


class _DepthwiseWithoutCudnn(torch.autograd.Function):
    """A depthwise convolution by torch's own kernels, forward and backward: cuDNN is off in both."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        with torch.backends.cudnn.flags(enabled=False), torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight, bias, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        mask = [*ctx.needs_input_grad[:2], False]
        with torch.backends.cudnn.flags(enabled=False):
            of_x, of_weight, _ = _BACKWARD(
                grad, x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), weight.shape[0], mask
            )
        of_bias = grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None, None


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in bf16, whose gradients are computed in the precision that is faster for each."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> Tensor:
        x = x.bfloat16()
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        with torch.autocast("cpu", enabled=False):
            half = None if bias is None else bias.bfloat16()
            return F.conv2d(x, weight.bfloat16(), half, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors

        def gradient(kind: torch.dtype, wanted: int) -> Tensor:
            terms = grad.to(kind), x.to(kind), weight.to(kind)
            mask = [place == wanted for place in range(3)]
            found = _BACKWARD(*terms, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), weight.shape[0], mask)
            result: Tensor = found[wanted]
            return result

        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        of_x = gradient(torch.bfloat16 if ctx.stride == (1, 1) else torch.float32, 0) if needs_x else None
        of_weight = gradient(torch.float32, 1) if needs_weight else None
        of_bias = grad.sum((0, 2, 3), dtype=torch.float32) if needs_bias else None
        return of_x, of_weight, of_bias, None, None
