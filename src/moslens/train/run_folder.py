"""The files of a run folder.

config.json             the configuration, statistics and scale of the labels, hashes of the data, the kinds of a head
log.jsonl               the losses, one line per step
checkpoint-STEP.*       the state of training, see checkpoint.py
branch-STEP.*           of a trunk: the state that other runs branch off from
curves.png              the log as curves, of a finished run
tensorboard             the log for TensorBoard, where that is installed
messages.txt            of a run among many splits: what it wrote to standard error
model.safetensors       the weights of a finished run
embedding.safetensors   of a student: the projection of its block tokens, and the heads that read it
predictions.csv         image, mos, prediction and part of the pictures that the run held out; mos is Sample.mos
metrics.json            SRCC and PLCC on that part
card.json               of a teacher: its settings and its accuracies on held-out photos
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslens import metrics
from moslens.data.csv_set import cell_number, raise_problems, read_rows
from moslens.data.records import LabelScale
from moslens.data.sets import find_card, is_csv
from moslens.distortions import PAPER_KINDS, kind_names
from moslens.errors import CheckpointError, ConfigError
from moslens.system.files import file_sha256, read_json, write_json, write_text
from moslens.train.config import STAGES_WITH_SCORES, TrainConfig, from_dict, with_current_names

if TYPE_CHECKING:
    from torch import Tensor

_LOG_TAIL = 1 << 16  # bytes, more than a row of the log takes
_COLUMNS = ("image", "mos", "prediction", "part")


@dataclass(frozen=True)
class StoredPrediction:
    """One row of ``predictions.csv``; ``mos`` is nan where the file has no such column."""

    image: str
    mos: float
    prediction: float
    part: str


class Run:
    """The run in ``folder``. Files are read when needed; only :attr:`record` is kept in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_file = folder / "config.json"
        self.log_file = folder / "log.jsonl"
        self.weights_file = folder / "model.safetensors"
        self.embedding_file = folder / "embedding.safetensors"
        self.predictions_file = folder / "predictions.csv"
        self.metrics_file = folder / "metrics.json"
        self.card_file = folder / "card.json"
        self.curves_file = folder / "curves.png"
        self.tensorboard_folder = folder / "tensorboard"
        self.messages_file = folder / "messages.txt"

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of ``config.json``. CheckpointError where it is missing or not that of a run."""
        content = read_json(self.config_file)
        try:
            for section, key in (("data", "name"), ("data", "split"), ("optim", "epochs")):
                content["config"][section][key]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"not the configuration of a run ({error!r})", self.config_file) from error
        found: dict[str, Any] = content
        return found

    def require_scores(self) -> None:
        """CheckpointError where the run is of a stage that learns no opinion scores."""
        stage = self.stored_config.get("stage", "quality")
        if stage not in STAGES_WITH_SCORES:
            raise CheckpointError(f"is a run of the stage {stage}, which gives no scores", self.folder)

    @property
    def stored_config(self) -> dict[str, Any]:
        """The configuration as stored, under the present names: without settings that were added later."""
        return with_current_names(self.record["config"], self.config_file)

    @property
    def config(self) -> TrainConfig:
        """The configuration. ConfigError where this version does not know a setting."""
        return from_dict(self.record["config"], self.config_file)

    @property
    def labels(self) -> dict[str, float]:
        """Mean and standard deviation of the training labels, in MOS units."""
        labels: dict[str, float] = self.record["labels"]
        return labels

    @property
    def label_scale(self) -> LabelScale | None:
        """What the published labels mean. None for a CSV's run by version 0.1, which did not ask.

        CheckpointError where the record is malformed.
        """
        if "label_scale" not in self.record:
            name = self.record["config"]["data"]["name"]
            return None if is_csv(name) else find_card(name).scale
        try:
            return LabelScale.from_record(self.record["label_scale"])
        except (LookupError, TypeError, ValueError, ConfigError) as error:
            raise CheckpointError(f"malformed label_scale ({error})", self.config_file) from error

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the kinds that the heads of a teacher or student tell apart, in the order of their logits.

        Version 0.1 did not store them: its heads know the paper's. CheckpointError where this version lacks one.
        """
        stored = self.record.get("kinds")
        if stored is None:
            return PAPER_KINDS
        names = kind_names("all")[: len(stored)] if isinstance(stored, list) else ()
        if not names or list(names) != stored:
            raise CheckpointError("its heads know other kinds of distortions than this version", self.config_file)
        return names

    @property
    def finished(self) -> bool:
        """Whether the run has trained to its end."""
        return self.weights_file.is_file()

    def weights(self) -> dict[str, Tensor]:
        """The final weights. CheckpointError where the run is not finished."""
        from moslens.train.checkpoint import load_tensors

        return load_tensors(self.weights_file)

    def weights_sha256(self) -> str:
        """Hex SHA-256 of the weights file. CheckpointError where the run is not finished."""
        if not self.finished:
            raise CheckpointError("is not finished: there are no weights", self.folder)
        return file_sha256(self.weights_file)

    def embedding(self) -> dict[str, Tensor]:
        """The projection and heads of a student. CheckpointError where there are none."""
        from moslens.train.checkpoint import load_tensors

        return load_tensors(self.embedding_file)

    def predictions(self, part: str = "test") -> list[StoredPrediction]:
        """The stored predictions of a part; empty where the run stored none. DatasetError for a malformed file."""
        if not self.predictions_file.is_file():
            return []
        problems: list[str] = []
        found = []
        for n, row in read_rows(self.predictions_file, ("image", "prediction")):
            prediction = cell_number(row["prediction"], f"row {n}, column prediction", problems)
            mos = cell_number(row["mos"], f"row {n}, column mos", problems) if "mos" in row else math.nan
            found.append(StoredPrediction(row["image"], mos, prediction, row.get("part", "test")))
        raise_problems(problems, self.predictions_file)
        return [one for one in found if one.part == part]

    def store_predictions(
        self, part: str, images: Sequence[str], mos: Sequence[float], prediction: Sequence[float]
    ) -> None:
        """Write ``predictions.csv``, then ``metrics.json``, whose presence marks a run as measured."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for image, score, value in zip(images, mos, prediction, strict=True):
            writer.writerow([image, score, f"{value:.6f}", part])
        write_text(self.predictions_file, text.getvalue())
        figures = {"srcc": metrics.srcc(prediction, mos), "plcc_raw": metrics.plcc(prediction, mos)}
        # a single picture has no correlation
        result = {"part": part} | {name: value if math.isfinite(value) else None for name, value in figures.items()}
        write_json(self.metrics_file, result)

    def metrics(self) -> dict[str, Any]:
        """``metrics.json``. CheckpointError where the run was not measured."""
        found: dict[str, Any] = read_json(self.metrics_file)
        return found

    def last_row(self) -> dict[str, Any] | None:
        """The last whole row of the log, of a run in work too; None where there is none."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, self.log_file.stat().st_size - _LOG_TAIL))
                lines = file.read().split(b"\n")[:-1]
            row: dict[str, Any] = json.loads(lines[-1])
        except (OSError, ValueError, LookupError):
            return None
        return row

    def seconds(self) -> float:
        """Training time in seconds: steps times the mean time of a step, so pauses before a resume do not count.

        CheckpointError where there is no log.
        """
        try:
            last = json.loads(self.log_file.read_text("utf-8").splitlines()[-1])
            return float(last["step"] * last["seconds_a_step"])
        except (OSError, ValueError, LookupError) as error:
            raise CheckpointError(f"no log of training ({error!r})", self.log_file) from error


def find_runs(folder: Path) -> list[Run]:
    """The run in a folder, else the ``split-N`` runs in it by N; empty where there are none."""
    if (folder / "config.json").is_file():
        return [Run(folder)]
    return [run for run in split_runs(folder) if run.config_file.is_file()]


def split_runs(folder: Path) -> list[Run]:
    """The ``split-N`` folders in a folder by N, whatever they contain."""

    def number(path: Path) -> tuple[int, str]:
        digits = path.name.removeprefix("split-")
        return (int(digits) if digits.isdecimal() else 0, digits)

    return [Run(path) for path in sorted(folder.glob("split-*"), key=number) if path.is_dir()]
