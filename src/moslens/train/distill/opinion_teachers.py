"""The teachers of opinions: frozen quality models whose mean the student learns, and the check of what they saw (R-E).

A teacher that saw other labelled photos than its student would carry labels of the student's test part to it. So every
one must have learned from exactly the student's labelled photos, or the student is not trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from moslens.errors import ConfigError
from moslens.model.backbone import TransformerBackbone
from moslens.model.baf import TokenGrid
from moslens.model.block_heads import block_quality
from moslens.model.decoder import LinearDecoder
from moslens.model.shdiqa import PictureScorer
from moslens.picture.windows import SHORTEST_PASS, STRIDE, WINDOW
from moslens.train.average import labelled_photos, photo_difference, run_photos, stored_by_both
from moslens.train.config import TrainConfig
from moslens.train.ensemble_folder import FILE, Ensemble
from moslens.train.networks import load_run
from moslens.train.run_folder import Run

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class OpinionTeachers:
    """The folders of finished quality runs, each with the hex SHA-256 of its weights."""

    folders: tuple[Path, ...]
    weights: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of what decides the opinions: weights, label statistics and view of every teacher."""
        rows = []
        for folder, weights in zip(self.folders, self.weights, strict=True):
            run = Run(folder)
            rows.append([weights, run.labels, run.config.data.view, run.config.data.working_size])
        return hashlib.sha256(
            json.dumps(sorted(rows, key=lambda row: str(row[0])), sort_keys=True).encode()
        ).hexdigest()

    def load(self) -> list[PictureScorer]:
        """The models, frozen and in eval mode. CheckpointError where one is not finished."""
        return [load_run(folder)[0].requires_grad_(False) for folder in self.folders]

    def precision(self) -> torch.autocast:
        """A context for their passes on the CPU: bf16 where all of them were trained in it, else full precision."""
        half = all(Run(folder).config.optim.precision == "bf16" for folder in self.folders)
        return torch.autocast("cpu", torch.bfloat16, enabled=half)

    def require_unchanged(self) -> None:
        """ConfigError where a run has other weights than when the teachers were found."""
        for folder, weights in zip(self.folders, self.weights, strict=True):
            if Run(folder).weights_sha256() != weights:
                raise ConfigError("a run of distill.opinions has changed since its opinions were asked for", folder)


def find_teachers(names: Sequence[str], split: int) -> OpinionTeachers:
    """The quality runs that ``distill.opinions`` names for a split.

    A name is a run, an average, whose members are taken, or a folder of ``split-N`` ones. ConfigError where it is none
    of them, where a run is a teacher of kinds, or counts twice; CheckpointError where one is not finished.
    """
    runs: list[Run] = []
    for name in names:
        folder = Path(name)
        place = next((p for p in (folder, folder / f"split-{split}") if _holds_model(p)), None)
        if place is None:
            raise ConfigError(f"distill.opinions: holds no run or average, nor one of split {split}", folder)
        if (place / FILE).is_file():
            ensemble = Ensemble(place)
            ensemble.verify()
            runs += [member.run for member in ensemble.members]
        else:
            runs.append(Run(place))
    seen: set[Path] = set()
    for run in runs:
        if not run.config.gives_scores:
            raise ConfigError(
                f"distill.opinions: is a run of the stage {run.config.stage}, which has no opinions", run.folder
            )
        if run.folder.resolve() in seen:
            raise ConfigError("distill.opinions: a run counts twice", run.folder)
        seen.add(run.folder.resolve())
    return OpinionTeachers(tuple(run.folder for run in runs), tuple(run.weights_sha256() for run in runs))


def require_student_photos(teachers: OpinionTeachers, config: TrainConfig, facts: Mapping[str, Any]) -> None:
    """ConfigError, naming run and difference, where a teacher did not learn from exactly the student's labelled photos.

    config and facts: the student's, the latter as :func:`moslens.train.quality.label_facts`. Compared are the data set
    with its labels, the split, the validation share, the fraction, the number of photos and the label statistics.
    """
    photos = labelled_photos(config, facts["label_scale"]) | {"pictures learned from": facts["train_pictures"]}
    if config.data.standardise:
        photos["labels"] = facts["labels"]
    for folder in teachers.folders:
        difference = photo_difference(*stored_by_both(run_photos(Run(folder)), photos))
        if difference:
            raise ConfigError(
                "this teacher of opinions did not learn from exactly the labelled photos of its student, so it could"
                f" tell what the student is tested on: {difference}, the student",
                folder,
            )


def has_blocks(scorer: PictureScorer) -> bool:
    """Whether a model can say what a block is worth."""
    return not isinstance(scorer.model.decoder, LinearDecoder)


@torch.inference_mode()
def mean_opinion(
    scorers: Sequence[PictureScorer], pictures: Sequence[Pixels], grid: int, working_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What several models think of n crops and of their blocks: n and n x grid^2 float32, in MOS units.

    pictures: 224 x 224 x 3, cut from photos at ``working_size``. A model of another working size gets them at the scale
    that it knows (:func:`at_own_scale`). The opinion of a block is the decoder's pass over its tokens alone, as in maps
    (:func:`moslens.model.block_heads.block_quality`). Blocks are nan where a model has none.
    """
    scores, blocks = [], []
    for scorer in scorers:
        model = scorer.model
        planes = scorer.planes(at_own_scale(scorer, pictures, working_size))
        output = model.parts(planes)
        scores.append(output.score.float() * scorer.std + scorer.mean)
        if not has_blocks(scorer):
            blocks.append(torch.full((len(pictures), grid * grid), torch.nan))
            continue
        if model.baf is not None and model.baf.variant == "B":
            output = model.parts(planes, grid)
        elif grid != model.config.grid:
            output = model.regrid(output, TokenGrid.of(planes), grid)
        blocks.append(block_quality(model, output).float() * scorer.std + scorer.mean)
    return torch.stack(scores).mean(0).float().numpy(), torch.stack(blocks).mean(0).float().numpy()


def at_own_scale(scorer: PictureScorer, pictures: Sequence[Pixels], working_size: int) -> Tensor:
    """Crops cut at ``working_size`` as a model of another working size would see them, uint8 n x S x S x 3.

    They are resized by the quotient of the sizes, to a multiple of 32. A vision transformer reads 224 px alone and gets
    them as they are.
    """
    side = round(WINDOW * scorer.view.working_size / working_size / STRIDE) * STRIDE
    side = max(SHORTEST_PASS, side)
    if side != WINDOW and not isinstance(scorer.model.backbone, TransformerBackbone):
        resized = [Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in pictures]
        pictures = [np.array(one) for one in resized]
    return torch.from_numpy(np.stack(pictures))


def _holds_model(folder: Path) -> bool:
    return (folder / FILE).is_file() or Run(folder).config_file.is_file()
