"""Configuration of a training run: a TOML file and ``--set key=value``, checked against frozen dataclasses."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from moslens.blocks import Levels, Mode
from moslens.errors import ConfigError

Stage = Literal["quality", "teacher", "student"]
Rule = Literal["cosine", "lineage"]
Statistics = Literal["mean", "mean-std"]
TeacherView = Literal["uniform", "reference", "composite", "isolated"]
TargetView = Literal["uniform", "reference", "composite", "isolated", "ema"]
Target = Literal["embedding", "roi", "residual"]
Distillation = Literal["none", "mse", "ckd", "akd", "ckd+akd"]
Negatives = Literal["in-image", "in-batch", "queue"]
Affinity = Literal["mse", "kl", "cross"]
Schedule = Literal["joint", "warm-start", "two-stage"]
NamingHead = Literal["distilled", "supervised"]

# Names that settings had in earlier versions, in stored configurations: (section, old name) -> new name.
_RENAMED = {("rank", "rungs"): "versions"}


@dataclass(frozen=True)
class ModelSection:
    """The network. ``weights``: "package", a path to a timm-format file, or "" for a random start.

    ``changes`` replaces fields of the :class:`moslens.model.ModelConfig` that ``config`` names.
    """

    config: str = "lite"
    weights: str = "package"
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSection:
    """The labelled pictures, in the folder ``root`` (a CSV needs none).

    ``split`` is the seed of the 80/20 split, or -1 to train on every picture. ``validation`` and ``fraction`` are
    shares of the training part. A picture is drawn ``repeats`` times in an epoch, each time with another crop.
    ``workers`` > 0 loads batches in that many processes. Labels are learned in units of their standard deviation, or
    unchanged where ``standardise`` is false. ``mos_range`` and ``direction`` say what the labels of a CSV mean: the
    ends of their scale, and whether "higher" or "lower" ones are better. A named data set has its own.
    """

    name: str = "livec"
    root: str = ""
    split: int = 0
    fraction: float = 1.0
    validation: float = 0.0
    working_size: int = 512
    repeats: int = 1
    workers: int = 0
    standardise: bool = True
    mos_range: tuple[float, ...] = ()
    direction: Literal["", "higher", "lower"] = ""


@dataclass(frozen=True)
class OptimSection:
    """AdamW, with one learning rate for the pretrained body and one for all new layers.

    ``rule`` cosine: warm-up over the share ``warmup`` of all steps, then a cosine to zero. ``rule`` lineage (DEIQT and
    related code): constant within an epoch; ``warmup_epochs`` of warm-up, then divided by ten every ``step_epochs``,
    counted from the first epoch or, with ``warmup_prefix``, from the end of the warm-up.
    A parameter whose name contains an entry of ``frozen`` does not train. ``ema`` > 0 is the decay of an exponential
    moving average of the weights, which is then what the run leaves. ``correlation`` is the weight of the correlation
    within a batch, beside the SmoothL1 of opinion scores. The body is frozen for the first share ``head_first`` of all
    steps, because gradients through untrained layers would damage its weights.
    """

    epochs: int = 8
    batch: int = 16
    lr_body: float = 2e-4
    lr_new: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 5.0
    ema: float = 0.0
    correlation: float = 0.0
    head_first: float = 0.0
    frozen: tuple[str, ...] = ()
    rule: Rule = "cosine"
    warmup_epochs: int = 3
    step_epochs: int = 3
    warmup_prefix: bool = False


@dataclass(frozen=True)
class BdmSection:
    """Block-wise degradation of the pristine pool (method.md 9.3).

    ``root``: the pool; ``held_out``: share of its files, chosen by name, that no training uses. A batch has one grid,
    drawn from ``grids`` with probabilities ``shares``. ``types``: views of a composite, 0 for the default of
    :class:`moslens.blocks.BlockDegradation`, whose other arguments are here too.
    """

    root: str = ""
    held_out: float = 0.15
    mode: Mode = "block"
    grids: tuple[int, ...] = (2, 3, 4)
    shares: tuple[float, ...] = (0.5, 0.3, 0.2)
    types: int = 0
    p_clean: float = 0.1
    levels: Levels = "half-gaussian"
    feather: float = 0.5


@dataclass(frozen=True)
class TeacherSection:
    """Training of the teacher (method.md 9.4).

    ``view``: what it sees, see :class:`moslens.train.distill.region_views.DegradedViews`. An epoch has ``views``
    pictures, made anew: ``siblings`` of every crop, each with another kind. A share ``pristine`` of them stays clean.
    Each has ``regions`` labelled rectangles of at least ``smallest`` tokens a side. Kinds and levels are drawn evenly.
    ``statistics``: what is pooled from the tokens of a region. ``smoothing``: label smoothing of the kinds;
    ``level_weight``: weight of the level loss. The finished teacher is measured on ``examined`` held-out photos for
    each kind and level, and on 25 times as many composites.
    """

    view: TeacherView = "uniform"
    statistics: Statistics = "mean"
    views: int = 2048
    siblings: int = 4
    pristine: float = 0.05
    regions: int = 4
    smallest: int = 3
    smoothing: float = 0.1
    level_weight: float = 0.5
    examined: int = 6


@dataclass(frozen=True)
class DistillSection:
    """Distillation into the student (method.md 9.6, 9.9).

    ``kd``: the losses; their weights ``lambda_m``, ``lambda_c`` and ``lambda_a`` rise from 0 over ``ramp`` epochs.
    ``tau``: temperature of CKD; ``negatives``: where its negatives come from, ``queue`` the length of the queue;
    ``exclude``: leave out negatives with the label of the block. ``akd``: how affinities are compared, those of the
    block tokens or, with ``projected``, those of the embeddings.
    ``teacher``: a run folder. ``view``: what the teacher sees; ema is the student's own moving average with ``decay``
    as teacher. ``target``: see :func:`moslens.train.distill.targets.block_targets`.
    ``bank``: folder of ``entries`` composites drawn with ``bank_seed``, built where absent; ``batch`` of them go beside
    each labelled batch.
    ``schedule``: joint; warm-start, first ``warm`` steps of distillation alone; two-stage, ``warm`` steps of
    distillation alone, then quality alone. ``warm_run``: folder of the first phase, so that runs can share it; by
    default inside the run.
    ``head``: what predicts kind and level of a block: "distilled", the teacher's heads on the student's embedding, or
    "supervised", a head on the block tokens, trained on the labels of the composites at weight ``lambda_h``.
    """

    kd: Distillation = "ckd+akd"
    lambda_m: float = 1.0
    lambda_c: float = 0.1
    lambda_a: float = 1.0
    ramp: float = 1.0
    tau: float = 0.07
    negatives: Negatives = "queue"
    queue: int = 2048
    exclude: bool = True
    akd: Affinity = "mse"
    projected: bool = False
    teacher: str = ""
    view: TargetView = "uniform"
    target: Target = "embedding"
    decay: float = 0.996
    bank: str = "runs/bank-lite"
    entries: int = 3000
    bank_seed: int = 0
    batch: int = 6
    schedule: Schedule = "joint"
    warm: int = 0
    warm_run: str = ""
    head: NamingHead = "distilled"
    lambda_h: float = 0.1


@dataclass(frozen=True)
class RankSection:
    """Severity ranking beside the student stage (method.md 13), off where ``weight`` is 0.

    A ladder is a pristine crop and versions of it that get worse. ``bank``: folder of ``entries`` ladders drawn with
    ``bank_seed``, built where absent. ``batch`` of them go beside each labelled batch, ``versions`` pictures of each,
    and one blank frame. A version must score ``margin`` below the one before, a blank frame below ``floor``, both in
    standard deviations of the labels. The weight rises with ``distill.ramp``. ``blocks`` > 0 ranks the quality of every
    block too, at that share of the weight; this needs BAF.
    """

    weight: float = 0.0
    blocks: float = 0.0
    margin: float = 0.25
    floor: float = -2.0
    batch: int = 2
    versions: int = 3
    bank: str = "runs/ladders-lite"
    entries: int = 1560
    bank_seed: int = 0


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run, except the data itself."""

    stage: Stage = "quality"
    seed: int = 0
    checkpoint_every: int = 100
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    optim: OptimSection = field(default_factory=OptimSection)
    bdm: BdmSection = field(default_factory=BdmSection)
    teacher: TeacherSection = field(default_factory=TeacherSection)
    distill: DistillSection = field(default_factory=DistillSection)
    rank: RankSection = field(default_factory=RankSection)

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts, ready for JSON. Sections that the stage does not read are left out where default."""
        unread = {
            "quality": ("bdm", "teacher", "distill", "rank"),
            "teacher": ("distill", "rank"),
            "student": ("teacher", "rank"),
        }
        tree = dataclasses.asdict(self)
        default = dataclasses.asdict(TrainConfig())
        for section in unread.get(self.stage, ()):
            if tree[section] == default[section]:
                del tree[section]
        return tree


def load_config(path: str | Path, changes: typing.Sequence[str] = ()) -> TrainConfig:
    """Read a TOML configuration and apply ``section.key=value`` changes (values in TOML syntax, bare words allowed).

    Raises ConfigError naming the file and the key for anything unknown, ill-typed or unreadable.
    """
    path = Path(path)
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML ({error})", path) from error
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator:
            raise ConfigError(f"--set wants key=value, not {change!r}")
        node = tree
        *sections, leaf = key.strip().split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {key}: {section!r} is no section")
        node[leaf] = _value(text.strip())
    return from_dict(tree, path)


def from_dict(tree: dict[str, Any], path: str | Path | None = None) -> TrainConfig:
    """The inverse of ``TrainConfig.to_dict``; old names of settings are read too.

    ConfigError, naming ``path`` where given, for unknown keys and wrong types.
    """
    config: TrainConfig = _build(TrainConfig, with_current_names(tree, path), "", path)
    return config


def with_current_names(tree: dict[str, Any], path: str | Path | None = None) -> dict[str, Any]:
    """A configuration as stored, old names of settings replaced. ConfigError where both names are there."""
    for (section, old), new in _RENAMED.items():
        values = tree.get(section)
        if isinstance(values, dict) and old in values:
            if new in values:
                raise ConfigError(f"{section}.{old} is the old name of {section}.{new}: set one of them", path)
            tree = tree | {section: {new if key == old else key: value for key, value in values.items()}}
    return tree


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _build(kind: Any, tree: dict[str, Any], prefix: str, path: str | Path | None) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = set(tree) - set(hints)
    if unknown:
        names = ", ".join(prefix + name for name in sorted(unknown))
        raise ConfigError(f"unknown setting {names}; known here: {', '.join(sorted(hints))}", path)
    values = {}
    for name, value in tree.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise ConfigError(f"{prefix}{name} is a section", path)
            values[name] = _build(hint, value, f"{prefix}{name}.", path)
        else:
            values[name] = _coerce(value, hint, prefix + name, path)
    return kind(**values)


def _coerce(value: Any, hint: Any, name: str, path: str | Path | None) -> Any:
    origin = typing.get_origin(hint) or hint
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{name} is one of {', '.join(choices)}, not {value!r}", path)
        return value
    if origin is tuple and isinstance(value, list | tuple):
        item = typing.get_args(hint)[0]
        return tuple(_coerce(v, item, name, path) for v in value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(origin, types.UnionType) or (origin is int and isinstance(value, bool)):
        raise ConfigError(f"{name} wants {hint}, not {value!r}", path)
    if not isinstance(value, origin):
        raise ConfigError(f"{name} wants {getattr(origin, '__name__', origin)}, not {value!r}", path)
    return value
