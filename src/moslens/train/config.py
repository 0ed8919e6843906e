"""Configuration of a training run: a TOML file, checked against frozen dataclasses, with ``--set key=value``."""

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


@dataclass(frozen=True)
class ModelSection:
    """Which network. ``weights``: "package", a path to a timm-format file, or "" for a random start."""

    config: str = "lite"
    weights: str = "package"
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSection:
    """The labelled pictures, in the folder ``root`` (a CSV needs none).

    ``split`` is the seed of the 80/20 split, or -1 to train on every picture.

    ``validation`` and ``fraction`` are shares of the training part; ``repeats`` is how often a picture is drawn
    in an epoch, each time with another crop; ``workers`` > 0 loads batches in that many processes. Labels are learned
    in units of their standard deviation, or with ``standardise`` false as they are.
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


@dataclass(frozen=True)
class OptimSection:
    """AdamW; learning rates of the pretrained body and of everything new.

    ``rule`` cosine: warm-up over the share ``warmup`` of all steps, then a cosine to zero. ``rule`` lineage (DEIQT and
    its kin): epoch by epoch, ``warmup_epochs`` of warm-up, then a tenth every ``step_epochs``, counted from the start
    or, ``warmup_prefix``, from the end of the warm-up. ``frozen`` lists parts of parameter names that do not train.
    ``ema`` > 0 keeps an exponential moving average of the weights with that decay and releases it. ``correlation`` is
    the weight of the correlation within a batch beside the SmoothL1 of opinion scores. For the share ``head_first`` of
    all steps the pretrained body waits, so that layers that know nothing yet do not spoil it.
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

    ``root``: the pool; ``held_out``: share of its files, by name, that nothing learns from. A batch has one grid,
    drawn from ``grids`` with chances ``shares``. ``types`` 0: as :class:`moslens.blocks.BlockDegradation` chooses.
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
    """Training of the teacher (method.md 9.4). ``view``: what it sees.

    ``views`` are made afresh for each epoch, ``siblings`` of every crop, each with another kind; a share ``pristine``
    of them is left clean. Each gives ``regions`` rectangles of at least ``smallest`` tokens a side. Kinds and levels
    are drawn evenly. ``statistics`` of a region's tokens: mean, or mean-std. ``examined``: held-out photos that each
    kind and level is asked of at the end, beside 25 times as many composites.
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

    kd: none, mse, ckd, akd or ckd+akd, with weights ``lambda_m``, ``lambda_c``, ``lambda_a`` that rise from 0 over
    ``ramp`` epochs. ``negatives``: in-image, in-batch or queue (of ``queue`` blocks). ``akd``: mse, kl or cross, on
    the block tokens or, ``projected``, on the embeddings.
    ``teacher``: a run folder. ``view``: what it sees (uniform, reference, composite, isolated, or ema for the
    student's own average with ``decay``). ``target``: embedding, roi or residual.
    ``bank``: folder of ``entries`` composites drawn by ``bank_seed``, made if absent; ``batch`` of them go beside each
    labelled batch.
    ``schedule``: joint; warm-start, ``warm`` steps of distillation alone first; two-stage, ``warm`` steps of
    distillation alone, then quality alone. ``warm_run``: folder of the first phase, to share it; by default in the run.
    ``head``: what names the kind and level of a block, "distilled" (the teacher's heads on its embedding) or
    "supervised", a head of its own on the block tokens taught with the composites' labels at weight ``lambda_h``.
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

    ``bank``: folder of ``entries`` ladders drawn by ``bank_seed``, made if absent; ``batch`` of them go beside each
    labelled batch, ``rungs`` rungs of each and one frame that shows nothing. Each rung costs ``margin`` standard
    deviations of the labels; a dead frame is held below ``floor`` of them. The weight rises with ``distill.ramp``.
    ``blocks`` > 0, with BAF, asks the same of the quality of every block, at that share of the weight.
    """

    weight: float = 0.0
    blocks: float = 0.0
    margin: float = 0.25
    floor: float = -2.0
    batch: int = 2
    rungs: int = 3
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
        """Plain nested dicts, ready for JSON; sections that a stage does not read are left out as long as default."""
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
    """The inverse of ``TrainConfig.to_dict``; ConfigError for unknown keys and wrong types."""
    config: TrainConfig = _build(TrainConfig, tree, "", path)
    return config


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
