"""Several finished runs as one model: an ensemble, the mean of their predictions, or a soup, the mean of their weights.

An ensemble is a folder with the names of its members (:mod:`.ensemble_folder`). A soup is a finished run folder: its
configuration is that of the first member, and ``soup`` in ``config.json`` names all members with the hashes of their
weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moslens.errors import CheckpointError, ConfigError, OutputError
from moslens.model.shdiqa import PictureScorer
from moslens.system.files import write_json
from moslens.train import checkpoint
from moslens.train.branch import config_hash
from moslens.train.config import TrainConfig
from moslens.train.ensemble_folder import FILE, Ensemble, Member, find_ensembles
from moslens.train.networks import load_run
from moslens.train.quality import dataset_of, finish_quality_run, split_of
from moslens.train.run_folder import Run, find_runs


class MeanScorer(nn.Module):
    """The mean of several models, called like one (:class:`PictureScorer`) -> B scores in MOS units."""

    def __init__(self, members: Sequence[PictureScorer]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, pictures: Tensor, sizes: Tensor | None = None) -> Tensor:
        return torch.stack([member(pictures, sizes) for member in self.members]).mean(0)


def load_average(folder: Path) -> tuple[MeanScorer, list[TrainConfig]]:
    """The members of an ensemble as one scorer in MOS units, and their configurations.

    The scorer gives the same pictures to every member; their ``data.working_size`` may differ. CheckpointError where a
    member is missing or has other weights than those that were averaged.
    """
    ensemble = Ensemble(folder)
    ensemble.verify()
    loaded = [load_run(member.run.folder) for member in ensemble.members]
    return MeanScorer([scorer for scorer, _ in loaded]).eval(), [config for _, config in loaded]


def labelled_photos(config: TrainConfig, label_scale: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the labelled photos that a run learns from; equal for two runs that learn from the same ones.

    label_scale: as :meth:`moslens.data.records.LabelScale.to_record`. The data set is read for its hash: DatasetError
    or ConfigError where it cannot be.
    """
    return {
        "data set": dataset_of(config.data).data_hash(),
        "data.split": config.data.split,
        "data.validation": config.data.validation,
        "data.fraction": config.data.fraction,
        "label scale": dict(label_scale),
    }


def run_photos(run: Run) -> dict[str, Any]:
    """:func:`labelled_photos` of a run, and what it stored of the photos it was trained on, whatever lies there now.

    That is ``pictures learned from``, their number, and ``labels``, mean and standard deviation of their labels, where
    it has them. Raises as :func:`labelled_photos`.
    """
    scale = run.label_scale
    photos = labelled_photos(run.config, {} if scale is None else scale.to_record())
    photos["pictures learned from"] = run.record.get("train_pictures")
    if run.config.data.standardise:
        photos["labels"] = run.labels
    return photos


def require_same_photos(
    one: Mapping[str, Any], other: Mapping[str, Any], one_name: str | Path, other_name: str | Path
) -> None:
    """CheckpointError, naming the first setting that differs, where :func:`labelled_photos` of two runs do."""
    difference = photo_difference(one, other)
    if difference:
        raise CheckpointError(f"{one_name} and {other_name} did not learn from the same labelled photos: {difference}")


def stored_by_both(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entries of two :func:`run_photos` that both have: a run may have stored less than another."""
    both = [key for key in one if key in other]
    return {key: one[key] for key in both}, {key: other[key] for key in both}


def photo_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first setting in which the labelled photos of two runs differ, in words; empty where none does."""
    for name, value in one.items():
        if value != other.get(name):
            return f"{name} is {value} in the one and {other.get(name)} in the other"
    return ""


def average(folders: Sequence[Path], output: Path, *, weights: bool = False) -> list[Path]:
    """Average runs into ``output``, or folders of ``split-N`` runs into ``output/split-N``; returns what was written.

    With ``weights`` each is a soup, measured on what its members held out, otherwise an ensemble, whose members may be
    folders with the predictions of a run but not its weights. All members must have learned from the same labelled
    photos. CheckpointError where they did not, where one is not finished, or where weights are averaged of runs that do
    not have one network and one start. ConfigError for fewer than two runs, one
    named twice, and folders of different splits. OutputError where ``output`` holds something already.
    """
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("an average needs two runs or more, each named once")
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError("is there already; give another folder", output)
    checked = [(place, _members(runs, names, weights)) for place, runs in _by_split(folders, output)]
    photos = [_check_photos(members) for _, members in checked]
    if weights:
        for _, (first, *others) in checked:
            for other in others:
                _require_same_start(first.run, other.run)
    for (place, members), common in zip(checked, photos, strict=True):
        if weights:
            _write_soup(members, place)
        else:
            _write_ensemble(members, common, place)
    return [place for place, _ in checked]


def _by_split(folders: Sequence[Path], output: Path) -> list[tuple[Path, list[Run]]]:
    """The folders to write, each with the runs to average into it."""
    found = []
    for folder in folders:
        runs = {run.folder.relative_to(folder).as_posix(): run for run in find_runs(folder)}
        if not runs:
            average = "is an ensemble itself: name its members" if find_ensembles(folder) else None
            raise CheckpointError(average or "holds no run (config.json, split-N/config.json)", folder)
        found.append(runs)
    for folder, runs in zip(folders, found, strict=True):
        if runs.keys() != found[0].keys():
            raise ConfigError(
                f"{folders[0]} holds {_listed(found[0])} and {folder} {_listed(runs)}: they cannot be averaged in pairs"
            )
    return [(output / key, [runs[key] for runs in found]) for key in found[0]]


def _listed(runs: Mapping[str, Run]) -> str:
    return ", ".join("a run" if key == "." else key for key in runs)


def _members(runs: Sequence[Run], names: Sequence[str], weights: bool) -> list[Member]:
    for run in runs:
        run.require_scores()
    kept = [not weights and not run.finished and run.predictions_file.is_file() for run in runs]
    return [
        Member(name, run, None if alone else run.weights_sha256())
        for name, run, alone in zip(names, runs, kept, strict=True)
    ]


def _check_photos(members: Sequence[Member]) -> dict[str, Any]:
    """What all members learned from. CheckpointError where it is not the same."""
    found = [run_photos(member.run) for member in members]
    for member, photos in zip(members[1:], found[1:], strict=True):
        one, other = stored_by_both(found[0], photos)
        require_same_photos(one, other, members[0].run.folder, member.run.folder)
    return {key: value for key, value in found[0].items() if key not in ("pictures learned from", "labels")}


def _write_ensemble(members: Sequence[Member], photos: Mapping[str, Any], output: Path) -> None:
    record = [
        {"name": one.name, "path": _path_from(output, one.run.folder), "weights_sha256": one.weights_sha256}
        for one in members
    ]
    write_json(output / FILE, {"members": record, "photos": photos})


def _path_from(output: Path, folder: Path) -> str:
    """The path of ``folder`` from ``output``, or where there is none, as on another drive, the whole path."""
    try:
        return Path(os.path.relpath(folder.resolve(), output.resolve())).as_posix()
    except ValueError:
        return folder.resolve().as_posix()


def _write_soup(members: Sequence[Member], output: Path) -> None:
    runs = [member.run for member in members]
    first = runs[0]
    record = [{"name": one.name, "weights_sha256": one.weights_sha256} for one in members]
    soup, data = Run(output), first.config.data
    write_json(soup.config_file, first.record | {"soup": record})
    if all(run.embedding_file.is_file() for run in runs):
        checkpoint.save_tensors(soup.embedding_file, mean_weights([run.embedding() for run in runs]))
    checkpoint.save_tensors(soup.weights_file, mean_weights([run.weights() for run in runs]))
    dataset = dataset_of(data)
    finish_quality_run(output, dataset, split_of(dataset, data))


def _require_same_start(one: Run, other: Run) -> None:
    """CheckpointError where the mean of two runs' weights would mean nothing, or not fit the first's configuration."""
    first, second = one.config, other.config
    settings: list[tuple[str, Any, Any]] = [
        ("stage", first.stage, second.stage),
        *((f"model.{key}", value, getattr(second.model, key)) for key, value in vars(first.model).items()),
        *((f"data.{key}", vars(first.data)[key], vars(second.data)[key]) for key in ("working_size", "standardise")),
        ("teacher", one.record.get("teacher"), other.record.get("teacher")),
    ]
    if _trunk(one) != _trunk(other):
        settings.append(("seed", first.seed, second.seed))
    for name, a, b in settings:
        if a != b:
            raise CheckpointError(
                f"the weights of {one.folder} and {other.folder} cannot be averaged, only their predictions can: "
                f"{name} is {a!r} in the one and {b!r} in the other. A mean of weights needs the same network, trained "
                "from the same start"
            )


def _trunk(run: Run) -> str:
    """The hash of the configuration of the run that a run branched off, or its own where it did not."""
    found: str = run.record.get("trunk", {}).get("config_sha256") or config_hash(run)
    return found


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the tensors of each name, taken in float64, in the type of the first; whole numbers are the first's.

    CheckpointError where names or shapes differ.
    """
    first = states[0]
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise CheckpointError("weights of different networks cannot be averaged")
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }
