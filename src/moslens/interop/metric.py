"""moslens inside torch programs: a torchmetrics metric, a differentiable loss, a call in the style of pyiqa.

    metric = moslens.interop.QualityScore()      # torchmetrics: update, compute, forward, sync between processes
    loss = 100 - metric(images)                  # images B x 3 x H x W, RGB in [0, 1]; gradients flow to them
    metric.scores(images)                        # one score a picture, B, differentiable
    iqa = moslens.interop.create_metric()        # pyiqa: iqa("photo.jpg"), iqa(images)

Scores are those of ``moslens score``: 0 to 100, higher is better. The weights are frozen. Needs the ``train`` extra.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moslens.errors import DatasetError, MissingExtra, ModelError
from moslens.picture.load import load
from moslens.picture.windows import SHORTEST, WINDOW, fitted_size, window_origins
from moslens.scoring.card import Calibration, Card, find_model

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
    from torchmetrics import Metric

    from moslens.interop.onnx_graph import Graph
except ModuleNotFoundError as error:
    raise MissingExtra("train", error.name or "torch") from error

logger = logging.getLogger(__name__)

WINDOWS_AT_ONCE = 16
PARITY = 0.01


class QualityNetwork(nn.Module):
    """Scores of whole pictures, differentiable.

    ``model`` is a shipped name, a model folder, a finished run folder, or None for the released model. A run that held
    enough pictures out is calibrated on them; any other gives its raw opinion scores. ModelError or CheckpointError
    where there is no such model, or where torch does not reproduce the score that the card records.

    forward: B x 3 x H x W, RGB as floats in [0, 1] or uint8, sides from 32 px -> B scores, 0 to 100.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        folder = None if model is None else Path(model)
        self.calibration: Calibration | None
        if folder is not None and (folder / "model.safetensors").is_file():
            self.name, self.working_size, self.calibration, self.network = _from_run(folder)
        else:
            card = Card.read(find_model(model))
            self.name, self.working_size, self.calibration = card.id, card.working_size, card.calibration
            self.network = Graph(card.verified_weights(), "score")
            self._check(card)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> QualityNetwork:
        """The network is a fixed yardstick: it stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        images = _checked(images)
        height, width = images.shape[2:]
        size = fitted_size(height, width, self.working_size)
        if size != (height, width):
            # the resize of the decoding policy, without its rounding to 8 bits
            images = F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        images = _reflected(images)
        raws = [self._raw(images, *size, i) for i in range(len(images))]
        return self._public(torch.stack(raws))

    def score_file(self, source: Any) -> Tensor:
        """The score of one picture, a path, bytes or PIL image, as a tensor of one; ImageError as ever."""
        pixels = load(source, working_size=self.working_size).pixels
        found: Tensor = self(torch.from_numpy(pixels).to(_device(self)).permute(2, 0, 1)[None])
        return found

    def _raw(self, images: Tensor, rows: int, columns: int, index: int) -> Tensor:
        side = WINDOW
        origins = window_origins(rows, columns)
        parts = []
        for first in range(0, len(origins), WINDOWS_AT_ONCE):
            windows = [
                images[index, :, y : y + side, x : x + side] for y, x in origins[first : first + WINDOWS_AT_ONCE]
            ]
            parts.append(self.network(255.0 * torch.stack(windows).permute(0, 2, 3, 1)))
        return torch.cat(parts).mean()

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
    """Mean quality of pictures, as a torchmetrics metric and as a differentiable module.

    ``model``: see :class:`QualityNetwork`; other arguments go to ``torchmetrics.Metric``. ``forward`` gives the mean of
    the batch with its gradient, ``compute`` the mean over all pictures so far, ``scores`` one value a picture.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    total: Tensor
    count: Tensor

    def __init__(self, model: str | os.PathLike[str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.quality = QualityNetwork(model)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def scores(self, images: Tensor) -> Tensor:
        """B x 3 x H x W, RGB in [0, 1] or uint8 -> B scores, 0 to 100, with their gradient."""
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
    """Called as pyiqa's metrics are: on a tensor, a path, a PIL image, or a list of paths; B scores come back.

    ``lower_better``, ``metric_mode`` and ``score_range`` say the same things as there. With ``as_loss`` scores of
    tensors keep their gradient.
    """

    metric_mode = "NR"
    lower_better = False
    score_range = "0, 100"

    def __init__(self, model: str | os.PathLike[str] | None = None, *, as_loss: bool = False) -> None:
        super().__init__()
        self.net = QualityNetwork(model)
        self.metric_name = self.net.name
        self.as_loss = as_loss

    def forward(self, target: Any, ref: Any = None) -> Tensor:
        """Scores of ``target``, B; ``ref`` is taken and not looked at, since no reference is needed."""
        with torch.set_grad_enabled(self.as_loss and torch.is_grad_enabled()):
            if isinstance(target, Tensor):
                found: Tensor = self.net(target if target.ndim == 4 else target[None])
                return found
            files: Sequence[Any] = target if isinstance(target, list | tuple) else [target]
            return torch.cat([self.net.score_file(file) for file in files])


def create_metric(
    model: str | os.PathLike[str] | None = None, *, device: str | torch.device | None = None, as_loss: bool = False
) -> IQAMetric:
    """An :class:`IQAMetric` on ``device``, as ``pyiqa.create_metric`` gives one."""
    metric = IQAMetric(model, as_loss=as_loss)
    return metric if device is None else metric.to(device)


def _from_run(run: Path) -> tuple[str, int, Calibration | None, nn.Module]:
    from moslens.release import score_scale
    from moslens.train.networks import load_run
    from moslens.train.run_folder import Run

    scorer, config = load_run(run)
    calibration = None
    if (run / "predictions.csv").is_file():
        try:
            calibration = score_scale.fit_calibration(score_scale.read_held_out([Run(run)]))
        except DatasetError as error:
            logger.warning("%s: not calibrated: %s", run, error)
    return run.name, config.data.working_size, calibration, scorer


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.buffers(), *module.parameters())), torch.device("cpu"))


def _checked(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be B x 3 x H x W, not {' x '.join(map(str, images.shape))}")
    if min(images.shape[2:]) < SHORTEST:
        raise ValueError(f"images must have sides of {SHORTEST} px or more, not {tuple(images.shape[2:])}")
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise ValueError(f"images must be floats in [0, 1] or uint8, not {images.dtype}")
    low, high = float(images.detach().min()), float(images.detach().max())
    if not (low >= -1 and high <= 2):  # a little beyond is normal for what networks paint
        raise ValueError(f"images must be in [0, 1], these are from {low:g} to {high:g}")
    return images.float()


def _reflected(images: Tensor) -> Tensor:
    """``views.pad`` for tensors: its own indices, gathered."""
    for axis in (2, 3):
        length = images.shape[axis]
        if length < WINDOW:
            missing = WINDOW - length
            order = np.pad(np.arange(length), (missing // 2, missing - missing // 2), mode="reflect")
            images = images.index_select(axis, torch.from_numpy(order).to(images.device))
    return images
