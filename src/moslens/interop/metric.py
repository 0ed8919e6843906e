"""The score as a torch module: for torchmetrics, as a differentiable loss, and with the interface of pyiqa.

    metric = moslens.interop.QualityScore()      # torchmetrics: update, compute, forward, sync between processes
    loss = 100 - metric(images)                  # images B x 3 x H x W, RGB in [0, 1]; they get the gradient
    metric.scores(images)                        # one score for each picture, B, differentiable
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

from moslens.data.records import Direction, LabelScale
from moslens.errors import ConfigError, DatasetError, MissingExtra, ModelError
from moslens.picture.load import load
from moslens.picture.windows import SHORTEST, WINDOW, fitted_size, window_origins
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

WINDOWS_AT_ONCE = 16
PARITY = 0.01
"""How far, in points of 100, torch may be from the score that the card records for its test vector."""


class QualityNetwork(nn.Module):
    """Differentiable scores of whole pictures.

    ``model`` is a shipped name, a model folder, the folder of a finished run, or None for the released model. A run
    with enough held-out predictions is calibrated on them; any other run gives its opinion scores in points of 0-100.
    ``mos_range`` and ``direction`` ("higher" or "lower" labels are better) say what the labels mean of a run by version
    0.1 on a CSV, which does not say. Raises ModelError or CheckpointError where there is no such model, and where torch
    does not reproduce the score that the card records; ConfigError where the labels of a run are not known.

    forward: B x 3 x H x W, RGB as floats in [0, 1] or uint8, sides of 32 px or more -> B scores, 0 to 100. Raises
    ValueError for any other tensor.
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
            self.name, self.working_size, self.calibration, self.network = _from_run(folder, labels)
        else:
            if labels is not None:
                raise ConfigError("mos_range and direction are for a run: a model scores on 0-100 already", folder)
            card = Card.read(find_model(model))
            self.name, self.working_size, self.calibration = card.id, card.working_size, card.calibration
            self.network = OnnxModule(card.verified_weights(), "score")
            self._check(card)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> QualityNetwork:
        """Does nothing: the network is frozen and stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        images = _checked(images)
        height, width = images.shape[2:]
        size = fitted_size(height, width, self.working_size)
        if size != (height, width):
            # As moslens.picture.load resizes, but without rounding to 8 bits.
            images = F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        images = _reflected(images)
        return self._public(torch.stack([self._raw(image, *size) for image in images]))

    def score_file(self, source: Any) -> Tensor:
        """The score of one picture (a path, bytes or a PIL image) as a tensor of one value. Raises ImageError."""
        pixels = load(source, working_size=self.working_size).pixels
        found: Tensor = self(torch.from_numpy(pixels).to(_device(self)).permute(2, 0, 1)[None])
        return found

    def _raw(self, image: Tensor, height: int, width: int) -> Tensor:
        origins = window_origins(height, width)
        windows = torch.stack([image[:, y : y + WINDOW, x : x + WINDOW] for y, x in origins])
        batches = torch.split(255.0 * windows.permute(0, 2, 3, 1), WINDOWS_AT_ONCE)
        return torch.cat([self.network(batch) for batch in batches]).mean()

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


def _from_run(run: Path, labels: LabelScale | None) -> tuple[str, int, Calibration | None, nn.Module]:
    from moslens.release import score_scale
    from moslens.train.networks import load_run
    from moslens.train.run_folder import Run

    scorer, config = load_run(run)
    labels = score_scale.label_scale(Run(run), labels)
    calibration = None
    if (run / "predictions.csv").is_file():
        try:
            calibration = score_scale.fit_calibration(score_scale.read_held_out([Run(run)], stated=labels))
        except DatasetError as error:
            logger.warning("%s: not calibrated: %s", run, error)
    scorer = score_scale.in_points(scorer, score_scale.points_of(Run(run), labels))
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
    if not (low >= -1 and high <= 2):  # generated images may lie a little outside [0, 1]
        raise ValueError(f"images must be in [0, 1], these are from {low:g} to {high:g}")
    return images.float()


def _reflected(images: Tensor) -> Tensor:
    """``moslens.picture.windows.pad`` for tensors: the same indices, gathered so that the gradient flows."""
    for axis in (2, 3):
        length = images.shape[axis]
        if length < WINDOW:
            missing = WINDOW - length
            order = np.pad(np.arange(length), (missing // 2, missing - missing // 2), mode="reflect")
            images = images.index_select(axis, torch.from_numpy(order).to(images.device))
    return images
