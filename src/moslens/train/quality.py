"""The quality stage: learn opinion scores from labelled photos."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moslens.data.labelled_views import Batch, LabelledViews, QualityBatches, decode_all
from moslens.data.records import Dataset, LabelScale
from moslens.data.sets import is_csv, load_dataset
from moslens.data.split import Split, copies_across, make_split
from moslens.errors import ConfigError, DatasetError
from moslens.model import SHDIQA
from moslens.system.progress import tracked
from moslens.train.config import DataSection, TrainConfig
from moslens.train.labelled_loss import labelled_loss
from moslens.train.networks import build_model
from moslens.train.predict import predict_run
from moslens.train.run_folder import Run

log = logging.getLogger(__name__)

_STATE_LABELS = (
    "the configuration must say what the labels of a CSV mean. Add to [data] the ends of their scale and which labels"
    ' are better, as in these two lines: mos_range = [1, 5] and direction = "higher" (or "lower")'
)


@dataclass(frozen=True)
class Labels:
    """Mean and standard deviation of the training labels, in MOS units."""

    mean: float
    std: float


class QualityTask(nn.Module):
    """One batch in, a dict of losses out: "loss" and the terms of :func:`labelled_loss`."""

    def __init__(self, model: SHDIQA, correlation: float = 0.0, mirror: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.correlation = correlation
        self.mirror = mirror

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        loss, terms = labelled_loss(self.model, batch, self.correlation, self.mirror)
        return {"loss": loss, **terms}


def dataset_of(data: DataSection) -> Dataset:
    """The data set of a configuration. ConfigError where its folder is not set, DatasetError as ``load_dataset``.

    A CSV whose scale the configuration does not state is read as version 0.1 read it: 0 to 100, higher is better.
    """
    if not data.root and not data.name.lower().endswith(".csv"):
        raise ConfigError("data.root, the folder of the data set, is not set: --set data.root=DIR")
    root, scale = Path(data.root) if data.root else None, stated_scale(data)
    if scale is None:
        return load_dataset(data.name, root)
    return load_dataset(data.name, root, mos_range=scale.ends, direction=scale.direction)


def stated_scale(data: DataSection) -> LabelScale | None:
    """What the configuration says of the labels of its CSV; None for a named data set, and where it says nothing.

    ConfigError where it says half of it or nonsense, or where a named data set has its own.
    """
    if not data.mos_range and not data.direction:
        return None
    if not is_csv(data.name):
        raise ConfigError(f"data.mos_range and data.direction are for a CSV: {data.name} has its own, leave them out")
    if len(data.mos_range) != 2 or not data.direction:
        raise ConfigError(_STATE_LABELS, data.name)
    return LabelScale(*data.mos_range, data.direction)


def training_set(data: DataSection, run: Path) -> Dataset:
    """The data set to train ``run`` on. ConfigError for a CSV whose configuration does not say what its labels mean.

    A run that version 0.1 began without it goes on.
    """
    if stated_scale(data) is None and is_csv(data.name) and not Run(run).config_file.exists():
        raise ConfigError(_STATE_LABELS, data.name)
    return dataset_of(data)


def split_of(dataset: Dataset, data: DataSection) -> Split:
    """The split of a configuration; -1 puts every picture into the training part."""
    if data.split < 0:
        everything = tuple(range(len(dataset.samples)))
        return Split(seed=data.split, train=everything, validation=(), test=())
    return make_split(dataset, data.split, validation=data.validation, fraction=data.fraction)


def labelled_stream(config: TrainConfig, dataset: Dataset, split: Split) -> tuple[QualityBatches, Labels]:
    """Decode the training part into memory and standardise its labels where ``data.standardise`` says so.

    Warns of held-out pictures that are also training pictures, since their scores would flatter the model.
    """
    copies = copies_across(dataset, split)
    if copies:
        held, trained = copies[0]
        log.warning(
            "%d of the held-out pictures are also in the training part, byte for byte (%s is %s), so the figures of"
            " this run will be too good: remove the copies, or give both one reference",
            len(copies),
            held,
            trained,
        )
    samples = [dataset.samples[i] for i in split.train]
    mos = np.array([sample.mos for sample in samples])
    if len(samples) > 1 and mos.min() == mos.max():
        raise DatasetError(f"all {len(mos)} training labels are {abs(mos[0]):g}: nothing can be learned", dataset.root)
    labels = training_labels(config.data, dataset, split)
    log.info("decoding %d pictures", len(samples))
    stream = LabelledViews(
        decode_all([sample.path for sample in samples], decoded_size(config.data)),
        [float(v) for v in (mos - labels.mean) / labels.std],
        config.seed,
        whole=config.data.working_size if config.data.view == "whole" else None,
        shares=shares_of(config.data),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    return QualityBatches(stream, config.optim.batch, config.data.repeats), labels


def training_labels(data: DataSection, dataset: Dataset, split: Split) -> Labels:
    """Mean and standard deviation of the labels of the training part; 0 and 1 where labels are learned as they are."""
    if not data.standardise:
        return Labels(0.0, 1.0)
    mos = np.array([dataset.samples[i].mos for i in split.train])
    return Labels(float(mos.mean()), float(mos.std()))


def point_of(dataset: Dataset, labels: Labels) -> float:
    """One point of 0 to 100 in the units in which a run learns its labels."""
    low, high = dataset.card.scale.ends
    return (high - low) / 100 / labels.std


def shares_of(data: DataSection) -> tuple[float, float]:
    """``data.shares``, checked. ConfigError unless it is two shares in order."""
    if len(data.shares) != 2 or not 0 < data.shares[0] <= data.shares[1] <= 1:
        raise ConfigError(f"data.shares is two shares of a side, the smaller one first, not {list(data.shares)}")
    return data.shares[0], data.shares[1]


def decoded_size(data: DataSection) -> int:
    """The working size to decode training pictures at: the smallest view of a whole picture need not be enlarged."""
    return data.working_size if data.view == "windows" else math.ceil(data.working_size / shares_of(data)[0])


def label_facts(dataset: Dataset, split: Split, labels: Labels) -> dict[str, Any]:
    """What a run keeps of its labels, in ``config.json``."""
    return {
        "labels": dataclasses.asdict(labels),
        "label_scale": dataset.card.scale.to_record(),
        "train_pictures": len(split.train),
    }


def train_quality(config: TrainConfig, run: Path, *, resume: bool = False) -> None:
    """Train a quality model and score the test part with the weights of the last epoch."""
    from moslens.train.loop import fit, open_run

    if config.model.changes.get("correction"):
        raise ConfigError('model.changes: a correction learns from ladders, which the stage "quality" does not show')
    dataset = training_set(config.data, run)
    split = split_of(dataset, config.data)
    batches, labels = labelled_stream(config, dataset, split)
    open_run(run, config, label_facts(dataset, split, labels), resume=resume)
    torch.manual_seed(config.seed)
    task = QualityTask(build_model(config.model, pretrained=True), config.optim.correlation, config.optim.mirror)
    if fit(task, batches, config, run):
        finish_quality_run(run, dataset, split)


def finish_quality_run(run: Path, dataset: Dataset, split: Split) -> None:
    """Score the pictures that the run held out; write ``predictions.csv`` and ``metrics.json``.

    A run with a validation part is scored on that part alone, so that choices made with it never see the test part.
    """
    part, indices = ("validation", split.validation) if split.validation else ("test", split.test)
    if not indices:
        return
    samples = [dataset.samples[i] for i in indices]
    prediction = list(tracked(predict_run(run, dataset, indices), f"scoring the {part} part", len(indices)))
    Run(run).store_predictions(part, [s.name for s in samples], [s.mos for s in samples], prediction)
