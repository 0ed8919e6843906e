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
from moslens.distortions.implementations import ImplementationSet
from moslens.distortions.kinds import KindSet, kind_names
from moslens.errors import CheckpointError, ConfigError

Stage = Literal["quality", "teacher", "distillation", "student"]
View = Literal["windows", "whole"]
Rule = Literal["cosine", "lineage"]
Precision = Literal["auto", "float32", "bf16"]
STAGES_WITH_SCORES = ("quality", "student")
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


def require_weights(weights: str) -> None:
    """CheckpointError where ``model.weights`` is a path and no file is there."""
    if weights in ("", "package") or Path(weights).is_file():
        return
    if Path(weights).is_dir():
        raise CheckpointError("model.weights: is a folder; that of a run has its weights in model.safetensors", weights)
    raise CheckpointError("model.weights: no such weights file", weights)


@dataclass(frozen=True)
class ModelSection:
    """The network. ``weights``: "package", a path to a timm-format file or to the ``model.safetensors`` of a
    run, whose body the network starts with, or "" for a random start.

    ``changes`` replaces fields of the :class:`moslens.model.ModelConfig` that ``config`` names.
    """

    config: str = "lite"
    weights: str = "package"
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("drop_path", "dropout"):
            share = self.changes.get(name, 0.0)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
                raise ConfigError(f"model.changes.{name} is a share from 0 to below 1, not {share!r}")


@dataclass(frozen=True)
class DataSection:
    """The labelled pictures, in the folder ``root`` (a CSV needs none).

    ``split`` is the seed of the 80/20 split, or -1 to train on every picture. ``validation`` and ``fraction`` are
    shares of the training part. A picture is drawn ``repeats`` times in an epoch, each time as another view.
    ``view``: "windows", random 224 x 224 crops of a picture at the working size, whose score is the mean over windows
    that cover it; or "whole", all of it in one pass, of which a view in training shows a part: its sides are random
    shares within ``shares``. ``workers`` > 0 makes the views of a teacher in that many processes. Labels are learned
    in units of their standard deviation, or unchanged where ``standardise`` is false. ``mos_range`` and ``direction``
    say what the labels of a CSV mean: the ends of their scale, and whether "higher" or "lower" ones are better. A named
    data set has its own.
    """

    name: str = "livec"
    root: str = ""
    split: int = 0
    fraction: float = 1.0
    validation: float = 0.0
    working_size: int = 512
    repeats: int = 1
    workers: int = 0
    view: View = "windows"
    shares: tuple[float, ...] = (0.85, 1.0)
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
    within a batch, beside the SmoothL1 of opinion scores; ``mirror`` that of the difference between a picture's score
    and its mirror image's, for a quarter of a batch. The body is frozen for the first share ``head_first`` of all
    steps, because gradients through untrained layers would damage its weights. ``average`` > 0: the run leaves the mean
    of its weights at the ends of the last ``average`` epochs, with ``ema`` that of the moving averages. ``precision``:
    "auto" is bf16 or fp16 on a GPU and full precision on a CPU, where "bf16" pays with AMX or AVX-512 BF16 alone.
    ``layer_decay``: the rate of each block of the body is that of the block behind it times this, as in BEiT
    (arXiv 2106.08254).
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
    mirror: float = 0.0
    head_first: float = 0.0
    frozen: tuple[str, ...] = ()
    rule: Rule = "cosine"
    warmup_epochs: int = 3
    step_epochs: int = 3
    warmup_prefix: bool = False
    average: int = 0
    precision: Precision = "auto"
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"optim.layer_decay is above 0 and at most 1, not {self.layer_decay}")
        if not 0 <= self.average <= self.epochs:
            raise ConfigError(f"optim.average is 0 to optim.epochs, {self.epochs}, not {self.average}")


@dataclass(frozen=True)
class BdmSection:
    """Block-wise degradation of the pristine pool (method.md 9.3).

    ``root``: the pool; ``held_out``: share of its files, chosen by name, that no training uses. A batch has one grid,
    drawn from ``grids`` with probabilities ``shares``. ``types``: views of a composite, 0 for the default of
    :class:`moslens.blocks.BlockDegradation`, whose other arguments are here too. ``kinds``: "paper", the 26 of
    KADID-10k and ARNIQA, or "all". ``implementations``: what to draw the implementation of a kind from, see
    :func:`moslens.distortions.draw_implementation`.
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
    kinds: KindSet = "paper"
    implementations: ImplementationSet = "default"

    def record(self) -> dict[str, Any]:
        """The section as a bank stores it: without the root, with the names of the kinds.

        The kinds and implementations of version 0.1 are not named, so that its banks stay the same.
        """
        tree = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("root", "kinds", "implementations")}
        return tree | kinds_record(self.kinds, self.implementations)


def kinds_record(kinds: KindSet, implementations: ImplementationSet) -> dict[str, Any]:
    """What a bank stores of its kinds and implementations: nothing where they are those of version 0.1."""
    named = {} if kinds == "paper" else {"kinds": list(kind_names(kinds))}
    return named | ({} if implementations == "default" else {"implementations": implementations})


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
    ``lambda_f``: weight of the order of a composite's blocks by their distance to the pristine crop. ``preserve``:
    weight of 1 - cosine between the backbone's maps of pristine crops and those that it had at the start.

    ``opinions`` (method.md 8, R-E): folders of quality runs, of ``split-N`` runs, or of their average; the mean of all
    of them is the opinion that the student learns. Three losses, each off at weight 0, rise with ``ramp`` too:
    ``lambda_p``, whole photos: ``photo_batch`` of them beside each labelled batch; ``lambda_v``, uniform views of the
    composites: ``view_batch`` of them; ``lambda_b``, the blocks of the composites. Opinions on degraded pictures count
    for ``opinion_kinds``, names of kinds or groups.
    The photos are the pool's, those in the folders ``photos``, ``degraded`` photos of the pool with one distortion
    each, and ``mosaics`` of labelled training photos with their degraded twins. The last two are made ``photo_size`` px
    long, drawn with ``bank_seed``, and stored in ``photo_bank``.
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
    lambda_f: float = 0.0
    preserve: float = 0.0
    opinions: tuple[str, ...] = ()
    lambda_p: float = 0.0
    lambda_v: float = 0.0
    lambda_b: float = 0.0
    opinion_kinds: tuple[str, ...] = ("blur", "noise", "compression")
    photo_batch: int = 8
    view_batch: int = 4
    photos: tuple[str, ...] = ()
    degraded: int = 0
    mosaics: int = 0
    photo_size: int = 512
    photo_bank: str = "runs/photos-lite"

    def __post_init__(self) -> None:
        of_opinions = ("lambda_p", "lambda_v", "lambda_b")
        for name in (*of_opinions, "lambda_f", "preserve"):
            weight = getattr(self, name)
            if weight < 0:
                raise ConfigError(f"distill.{name} is a weight from 0 up, not {weight}")
            if weight and name in of_opinions and not self.opinions:
                raise ConfigError(
                    f"distill.{name} weighs opinions, and distill.opinions, the runs that have them, is not set:"
                    " --set 'distill.opinions=[\"RUN\"]'"
                )
        for name, count in (("degraded", self.degraded), ("mosaics", self.mosaics)):
            if count < 0:
                raise ConfigError(f"distill.{name} is a number of photos from 0 up, not {count}")
        for held, what in ((self.holds_opinions, "opinions"), (self.needs_references, "lambda_f and preserve")):
            if held and self.schedule == "two-stage":
                raise ConfigError(f"distill.schedule two-stage ends with quality alone: {what} need another one")

    @property
    def holds_opinions(self) -> bool:
        """Whether any of the losses on opinions is on."""
        return self.lambda_p + self.lambda_v + self.lambda_b > 0

    def without_opinions(self) -> DistillSection:
        """The section of a phase that learns from the teacher of kinds alone."""
        default, names = DistillSection(), [field.name for field in dataclasses.fields(self)]
        own = names[names.index("opinions") :]
        return dataclasses.replace(self, **{name: getattr(default, name) for name in own})

    @property
    def needs_bank(self) -> bool:
        """Whether any loss reads the bank of composites."""
        return self.kd != "none" or self.needs_references or self.lambda_v + self.lambda_b > 0

    @property
    def needs_references(self) -> bool:
        """Whether any loss reads the pristine crops of the bank."""
        return self.lambda_f + self.preserve > 0


@dataclass(frozen=True)
class RankSection:
    """Severity ranking beside the student stage (method.md 13), off where ``weight`` is 0.

    A ladder is a pristine crop and versions of it that get worse. ``bank``: folder of ``entries`` ladders drawn with
    ``bank_seed``, built where absent. ``batch`` of them go beside each labelled batch, ``versions`` pictures of each,
    and one blank frame. A version must score ``margin`` below the one before, a blank frame below ``floor``, both in
    standard deviations of the labels. ``clean_margin`` > 0: every drawn ladder has its clean version, which must score
    that much more above each of the others. The weight rises with ``distill.ramp``. ``blocks`` > 0 ranks the quality of
    every block too, at that share of the weight; this needs BAF. ``kinds``: names of the kinds or groups that ladders
    are made of, none for all; ``often``: those of which three times as many are made. ``labelled`` > 0: half of the
    ladders are of the better half of the split's own training photos, whose labels the network learns too; they come
    from ``labelled_bank``, which has that many ladders of all photos of the data set. ``size``: pictures are 224 x 224
    crops, or, for ``data.view`` whole, squares of that many px, a multiple of 32, that show most of a photo.
    """

    weight: float = 0.0
    blocks: float = 0.0
    margin: float = 0.25
    clean_margin: float = 0.0
    floor: float = -2.0
    batch: int = 2
    versions: int = 3
    size: int = 224
    bank: str = "runs/ladders-lite"
    entries: int = 1560
    bank_seed: int = 0
    kinds: tuple[str, ...] = ()
    often: tuple[str, ...] = ()
    labelled: int = 0
    labelled_bank: str = "runs/ladders-labelled"


@dataclass(frozen=True)
class HarmlessSection:
    """Harmless changes beside the student stage (method.md 15), off where ``weight`` is 0.

    ``batch`` pictures, labelled training pictures and photos without scores of the pool and of ``distill.photos``, go
    beside each labelled batch, each with a copy that black and white, a crop or the like has changed. A copy may score
    ``dead_zone`` points of 0 to 100 above or below. The weight rises with ``distill.ramp``. Implementations are those
    of ``bdm.implementations``.
    """

    weight: float = 0.0
    batch: int = 4
    dead_zone: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("weight", self.weight), ("dead_zone", self.dead_zone)):
            if not value >= 0:
                raise ConfigError(f"harmless.{name} is a number from 0 up, not {value}")


@dataclass(frozen=True)
class NamingSection:
    """The head that names the faults of a student's quality maps, fitted and calibrated at export (method.md 12).

    Its kinds and implementations are those of ``bdm``. ``faults``: the most that one block of its pictures has; 1, as
    in the paper, for one distinct distortion a block. ``precision``: the share of the named faults that shall be right
    on held-out photos; at 0 nothing but the false alarms on clean photos is limited.
    """

    faults: int = 1
    precision: float = 0.0

    def __post_init__(self) -> None:
        if self.faults < 1:
            raise ConfigError(f"naming.faults is a number of faults from 1 up, not {self.faults}")
        if not 0 <= self.precision < 1:
            raise ConfigError(f"naming.precision is a share below 1, not {self.precision}")


@dataclass(frozen=True)
class BranchSection:
    """Start from a checkpoint of another run, the trunk, and go on with its step count and its schedule.

    ``run``: the folder of the trunk, or a folder of ``split-N`` trunks, of which the one of ``data.split`` is taken.
    ``at``: how far the trunk was, a share of its steps; the trunk kept that checkpoint with the same ``keep_at``.
    Both have the same labelled pictures, split and total of steps. What the trunk does not have starts fresh.
    """

    run: str = ""
    at: float = 0.7

    def __post_init__(self) -> None:
        if not 0 < self.at < 1:
            raise ConfigError(f"branch.at is a share of the steps between 0 and 1, not {self.at}")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run, except the data itself.

    ``keep_at`` > 0: the checkpoint after that share of the steps is kept for runs that branch off there.
    """

    stage: Stage = "quality"
    seed: int = 0
    checkpoint_every: int = 100
    keep_at: float = 0.0
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    optim: OptimSection = field(default_factory=OptimSection)
    bdm: BdmSection = field(default_factory=BdmSection)
    teacher: TeacherSection = field(default_factory=TeacherSection)
    distill: DistillSection = field(default_factory=DistillSection)
    rank: RankSection = field(default_factory=RankSection)
    harmless: HarmlessSection = field(default_factory=HarmlessSection)
    naming: NamingSection = field(default_factory=NamingSection)
    branch: BranchSection = field(default_factory=BranchSection)

    def __post_init__(self) -> None:
        if not 0 <= self.keep_at < 1:
            raise ConfigError(f"keep_at is a share of the steps below 1, or 0 for none, not {self.keep_at}")

    @property
    def gives_scores(self) -> bool:
        """Whether the stage learns opinion scores."""
        return self.stage in STAGES_WITH_SCORES

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts, ready for JSON. Sections that the stage does not read are left out where default."""
        unread = {
            "quality": ("bdm", "teacher", "distill", "rank", "harmless", "naming", "branch"),
            "teacher": ("distill", "rank", "harmless", "naming", "branch"),
            "distillation": ("teacher", "rank", "harmless", "naming", "branch"),
            "student": ("teacher", "rank", "harmless", "naming", "branch"),
        }
        tree = dataclasses.asdict(self)
        default = dataclasses.asdict(TrainConfig())
        for section in unread.get(self.stage, ()):
            if tree[section] == default[section]:
                del tree[section]
        return tree


def config_difference(before: TrainConfig, now: TrainConfig) -> str:
    """The first setting in which two configurations differ, as the end of a message; empty where none does."""
    return _difference(dataclasses.asdict(before), dataclasses.asdict(now))


def _difference(before: dict[str, Any], now: dict[str, Any], section: str = "") -> str:
    for name in {**before, **now}:
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            if found := _difference(one, other, f"{section}{name}."):
                return found
        elif one != other:
            return f": {section}{name} was {one!r} and is {other!r}"
    return ""


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
    apply_changes(tree, changes)
    return from_dict(tree, path)


def apply_changes(tree: dict[str, Any], changes: typing.Sequence[str]) -> None:
    """Set ``section.key=value`` changes in a configuration as read from TOML. ConfigError where one is malformed."""
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
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(error.message, path) from error


def _coerce(value: Any, hint: Any, name: str, path: str | Path | None) -> Any:
    origin = typing.get_origin(hint) or hint
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{name} is one of {', '.join(filter(None, choices))}, not {value!r}", path)
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
