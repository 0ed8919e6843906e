"""The score as a torch module: for torchmetrics, as a differentiable loss, and with the interface of pyiqa.

    metric = moslens.interop.QualityScore()      # torchmetrics: update, compute, forward, sync between processes
    loss = 100 - metric(images)                  # images B x 3 x H x W, RGB in [0, 1]; they get the gradient
    metric.scores(images)                        # one score for each picture, B, differentiable
    iqa = moslens.interop.create_metric()        # pyiqa: iqa("photo.jpg"), iqa(images)

Scores are those of ``moslens score`` for the same picture saved as PNG: 0 to 100, higher is better. Pixels are rounded
to 8 bits, as in a file; the gradient passes the rounding unchanged. The weights are frozen.

Everything is computed in float32: inside ``torch.autocast``, for float16 and bfloat16 images, and after ``.half()`` or
``.to(torch.bfloat16)``, which change nothing here. Needs the ``train`` extra.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from moslens.data.records import Direction, LabelScale
from moslens.errors import ConfigError, DatasetError, MissingExtra, ModelError
from moslens.picture.arrays import is_dense, outside_unit
from moslens.picture.load import load
from moslens.picture.windows import SHORTEST, View, fitted_size
from moslens.scoring.card import Calibration, Card, find_model

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
    from torchmetrics import Metric

    from moslens.interop.onnx_graph import OnnxModule
except ModuleNotFoundError as error:
    raise MissingExtra("train", error.name or "torch") from error

logger = logging.getLogger(__name__)

PARITY = 0.01
"""How far, in points of 100, torch may be from the score that the card records for its test vector."""


class QualityNetwork(nn.Module):
    """Differentiable scores of whole pictures.

    ``model`` is a shipped name, a model folder, the folder of a finished run, or None for the released model. A run
    with enough held-out predictions is calibrated on them; any other run gives its opinion scores in points of 0-100.
    ``mos_range`` and ``direction`` ("higher" or "lower" labels are better) say what the labels mean of a run by version
    0.1 on a CSV, which does not say. Raises ModelError or CheckpointError where there is no such model, and where torch
    does not reproduce the score that the card records; ConfigError where the labels of a run are not known.

    forward: B x 3 x H x W, RGB as floats in [0, 1] or uint8, sides of 32 px or more -> B scores, 0 to 100, float32.
    Floats may lie outside [0, 1] by 0.1 and are clipped. Raises ValueError for any other tensor, and for a batch
    without a picture.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        mos_range: tuple[float, float] | None = None,
        direction: Direction | None = None,
    ) -> None:
        super().__init__()
        labels = _stated(mos_range, direction)
        folder = None if model is None else Path(model)
        self.calibration: Calibration | None
        if folder is not None and (folder / "model.safetensors").is_file():
            self.name, self.view, self.calibration, self.network = _from_run(folder, labels)
        else:
            if labels is not None:
                raise ConfigError("mos_range and direction are for a run: a model scores on 0-100 already", folder)
            card = Card.read(find_model(model))
            self.name, self.view, self.calibration = card.id, card.view, card.calibration
            self.network = OnnxModule(card.verified_weights(), "score")
            self._check(card)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> QualityNetwork:
        """Does nothing: the network is frozen and stays in evaluation mode."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QualityNetwork:
        super()._apply(partial(_keep_type, fn), recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, images: Tensor) -> Tensor:
        images = _checked(images)
        with torch.autocast(images.device.type, enabled=False):
            images = _eight_bits(images)
            height, width = images.shape[2:]
            size = fitted_size(height, width, self.view.working_size, self.view.shortest)
            if size != (height, width):  # along rows, then along columns, as Pillow does in moslens.picture.load
                for sides in ((height, size[1]), size):
                    images = _eight_bits(F.interpolate(images, size=sides, mode="bicubic", antialias=True))
            return self._public(torch.stack([self._raw(image) for image in images]))

    def score_file(self, source: Any) -> Tensor:
        """The score of one picture (a path, bytes or a PIL image) as a tensor of one value. Raises ImageError."""
        pixels = load(source, working_size=self.view.working_size, shortest=self.view.shortest).pixels
        found: Tensor = self(torch.from_numpy(pixels).to(_device(self)).permute(2, 0, 1)[None])
        return found

    def _raw(self, image: Tensor) -> Tensor:
        """The mean over the pieces of one picture, 3 x H x W at the working size."""
        height, width = image.shape[1:]
        # The pieces of the pixels' own addresses: the same padding, gathered so that the gradient flows.
        addresses = np.arange(height * width).reshape(height, width, 1)
        pixels = 255.0 * image.flatten(1).T
        scores = []
        for piece in self.view.pieces(addresses):  # type: ignore[arg-type]
            shape = piece.pixels.shape[:2]
            chosen = torch.from_numpy(piece.pixels.ravel()).to(image.device)
            sizes = torch.tensor([[piece.height, piece.width]], device=image.device)
            inputs = (pixels[chosen].view(1, *shape, 3), *([sizes] if self.view.whole else []))
            scores.append(self.network(*inputs))
        return torch.cat(scores).mean()

    def _public(self, raw: Tensor) -> Tensor:
        if self.calibration is None:
            return raw.clamp(0, 100)
        return 100 * torch.sigmoid(self.calibration.scale * raw + self.calibration.shift)

    def _check(self, card: Card) -> None:
        vector = card.record.get("test_vector")
        if vector is None:
            return
        with torch.no_grad():
            found = float(self.score_file(card.folder / vector["file"]))
        if not abs(found - vector["score"]) <= PARITY:
            raise ModelError(f"torch scores {found:.4f} where the card says {vector['score']:.4f}", card.folder)


class QualityScore(Metric):
    """Mean score of pictures, as a torchmetrics metric and as a differentiable module.

    ``model``, ``mos_range`` and ``direction`` are those of :class:`QualityNetwork`; other arguments go to
    ``torchmetrics.Metric``. ``forward`` gives the mean of the batch with its gradient, ``compute`` the mean over all
    pictures so far, ``scores`` one value for each picture.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    total: Tensor
    count: Tensor

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        mos_range: tuple[float, float] | None = None,
        direction: Direction | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.quality = QualityNetwork(model, mos_range=mos_range, direction=direction)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> QualityScore:
        super()._apply(partial(_keep_type, fn), exclude_state)
        return self

    def scores(self, images: Tensor) -> Tensor:
        """B x 3 x H x W, RGB in [0, 1] or uint8 -> B scores, 0 to 100, with their gradient. Raises ValueError."""
        found: Tensor = self.quality(images)
        return found

    def update(self, images: Tensor) -> None:
        """Add a batch, B x 3 x H x W."""
        scores = self.scores(images)
        self.total = self.total + scores.sum()
        self.count = self.count + len(scores)

    def compute(self) -> Tensor:
        """The mean score, 0 to 100."""
        return self.total / self.count


class IQAMetric(nn.Module):
    """Same interface as the metrics of pyiqa: a tensor, a path, a PIL image or a list of paths -> B scores, 0 to 100.

    ``lower_better``, ``metric_mode`` and ``score_range`` mean the same as in pyiqa. With ``as_loss`` the scores of
    tensors keep their gradient. ``mos_range`` and ``direction`` are those of :class:`QualityNetwork`.
    """

    metric_mode = "NR"
    lower_better = False
    score_range = "0, 100"

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        as_loss: bool = False,
        mos_range: tuple[float, float] | None = None,
        direction: Direction | None = None,
    ) -> None:
        super().__init__()
        self.net = QualityNetwork(model, mos_range=mos_range, direction=direction)
        self.metric_name = self.net.name
        self.as_loss = as_loss

    def forward(self, target: Any, ref: Any = None) -> Tensor:
        """Scores of ``target``, B. ``ref`` is ignored: the metric needs no reference."""
        with torch.set_grad_enabled(self.as_loss and torch.is_grad_enabled()):
            if isinstance(target, Tensor):
                found: Tensor = self.net(target if target.ndim == 4 else target[None])
                return found
            files: Sequence[Any] = target if isinstance(target, list | tuple) else [target]
            return torch.cat([self.net.score_file(file) for file in files])


def create_metric(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    as_loss: bool = False,
    mos_range: tuple[float, float] | None = None,
    direction: Direction | None = None,
) -> IQAMetric:
    """An :class:`IQAMetric` on ``device``, as ``pyiqa.create_metric`` gives one."""
    metric = IQAMetric(model, as_loss=as_loss, mos_range=mos_range, direction=direction)
    return metric if device is None else metric.to(device)


def _stated(mos_range: tuple[float, float] | None, direction: Direction | None) -> LabelScale | None:
    if mos_range is None and direction is None:
        return None
    if mos_range is None or direction is None:
        raise ConfigError("mos_range and direction belong together: state both")
    return LabelScale(*mos_range, direction)


def _from_run(run: Path, labels: LabelScale | None) -> tuple[str, View, Calibration | None, nn.Module]:
    from moslens.release import score_scale
    from moslens.train.networks import load_run
    from moslens.train.run_folder import Run

    scorer, _ = load_run(run)
    labels = score_scale.label_scale(Run(run), labels)
    calibration = None
    if (run / "predictions.csv").is_file():
        try:
            calibration = score_scale.fit_calibration(score_scale.read_held_out([Run(run)], stated=labels))
        except DatasetError as error:
            logger.warning("%s: not calibrated: %s", run, error)
    scorer = score_scale.in_points(scorer, score_scale.points_of(Run(run), labels))
    return run.name, scorer.view, calibration, scorer


def _keep_type(move: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """``move(tensor)``, which may change its device but not its type: half precision would change scores."""
    tried = move(tensor.new_empty(0))
    return move(tensor) if tried.dtype == tensor.dtype else tensor.to(tried.device)


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.buffers(), *module.parameters())), torch.device("cpu"))


def _checked(images: Tensor) -> Tensor:
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a tensor of B x 3 x H x W, not {type(images).__name__}")
    if not is_dense(images):
        raise ValueError("images must be a dense tensor with values: pass x.to_dense() or x.dequantize()")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be B x 3 x H x W, not {' x '.join(map(str, images.shape))}")
    if not len(images):
        raise ValueError(f"images has no picture: it is {' x '.join(map(str, images.shape))}")
    if min(images.shape[2:]) < SHORTEST:
        raise ValueError(f"images must have sides of {SHORTEST} px or more, not {tuple(images.shape[2:])}")
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise ValueError(f"images must be floats in [0, 1] or uint8, not {images.dtype}")
    low, high = float(images.detach().min()), float(images.detach().max())
    if fault := outside_unit(low, high):
        raise ValueError(f"images {fault}")
    return images.float()


def _eight_bits(images: Tensor) -> Tensor:
    """Clipped and rounded to 8 bits, as a file holds them; the gradient passes unchanged."""
    return images + ((255 * images).clamp(0, 255).add(0.5).floor() / 255 - images).detach()
