"""What a run is: frozen settings that validate themselves, and the id that follows from them.

A run (one training, probe, evaluation, ...) is fully described by a :class:`RunSpec`. Its id is a
readable slug plus a hash over (1) the canonical JSON of the spec, (2) the content hash of its
data set and (3) :data:`NUMERICS_VERSION`. A changed setting, data set or algorithm is
therefore a new run, and "its record is there, skip it" cannot lie.

Only the standard library is imported here: planning a campaign must not need torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import typing
from dataclasses import dataclass
from typing import ClassVar

from .errors import MlplibError, one_of

NUMERICS_VERSION = 1
"""Raise this whenever training starts to compute something else from the same settings."""

FAMILIES = {"B": "b-mlp", "S": "s-mlp"}
BASELINES = ("small-cnn",)
NORMS = ("layer", "batch", "none")
ACTIVATIONS = ("gelu", "relu")
NORM_POSITIONS = ("pre", "post")
OPTIMIZERS = ("lion", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
MIXUP_KINDS = ("standard", "ffcv")
PRECISIONS = ("auto", "bf16", "fp32")


# --------------------------------------------------------------------------- validation


def _finite(value) -> bool:
    """Whether ``value`` is a number, no bool, that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def _check_types(spec) -> None:
    """Refuse values whose type is not the annotated one (``int`` is accepted for ``float``)."""
    hints = typing.get_type_hints(type(spec))
    for field in dataclasses.fields(spec):
        value, hint = getattr(spec, field.name), hints[field.name]
        accepted = tuple(typing.get_origin(h) or h for h in typing.get_args(hint) or (hint,))
        if typing.get_origin(hint) is tuple:
            accepted = (tuple,)
        if float in accepted:
            accepted += (int,)
        wrong_bool = isinstance(value, bool) and bool not in accepted
        if wrong_bool or not isinstance(value, accepted):
            wanted = getattr(hint, "__name__", str(hint))
            raise MlplibError(
                f"{type(spec).__name__}.{field.name} must be {wanted}, not {value!r} ({type(value).__name__})"
            )
        if float in accepted and isinstance(value, (int, float)) and not _finite(value):
            raise MlplibError(f"{type(spec).__name__}.{field.name} must be finite, not {value!r}")


def _at_least(spec, low, *names: str) -> None:
    for name in names:
        value = getattr(spec, name)
        if value is not None and value < low:
            raise MlplibError(f"{type(spec).__name__}.{name} must be at least {low}, not {value!r}")


def _below_one(spec, *names: str) -> None:
    for name in names:
        value = getattr(spec, name)
        if not 0 <= value < 1:
            raise MlplibError(f"{type(spec).__name__}.{name} must lie in [0, 1), not {value!r}")


def _refuse_idle(spec, where: str, names: tuple[str, ...]) -> None:
    """Refuse a setting that would be ignored: it would only make two ids of one run."""
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    for name in names:
        if getattr(spec, name) != defaults[name]:
            raise MlplibError(f"{type(spec).__name__}.{name} means nothing with {where}: leave it out")


def _as_tuple(spec, *names: str) -> None:
    """JSON and YAML know lists only; store them as tuples so that specs stay hashable."""
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, list):
            object.__setattr__(spec, name, tuple(value))


# --------------------------------------------------------------------------- the parts of a run


@dataclass(frozen=True)
class ModelSpec:
    """A network: an MLP of the paper (Section 3) or a named baseline.

    ``family`` is ``b-mlp``, ``s-mlp`` or the name of a baseline (:mod:`mlplib.baselines`), for which the
    other fields keep their defaults. ``expansion`` is k, the inverted bottleneck's factor (B-MLP only);
    ``official_order`` gives the S-MLP block of the official code (norm, activation, linear)
    instead of the text's (norm, linear, activation).
    """

    family: str
    depth: int = 6
    width: int = 256
    expansion: int = 4
    norm: str = "layer"
    norm_position: str = "pre"
    activation: str = "gelu"
    skip: bool = True
    dropout: float = 0.0
    official_order: bool = False

    def __post_init__(self):
        _check_types(self)
        one_of("model family", self.family, (*FAMILIES.values(), *BASELINES))
        _at_least(self, 1, "depth", "width", "expansion")
        _below_one(self, "dropout")
        one_of("norm", self.norm, NORMS)
        one_of("norm position", self.norm_position, NORM_POSITIONS)
        one_of("activation", self.activation, ACTIVATIONS)
        if self.official_order and self.family != "s-mlp":
            raise MlplibError("official_order concerns the S-MLP only: leave it out for other models")

    @classmethod
    def parse(cls, name: str, **changes) -> ModelSpec:
        """Build the spec of a name: ``B-12/Wi-1024``, ``S-6/Wi-256``, or a baseline such as ``small-cnn``.

        S-MLPs get the paper's ReLU and no skip, B-MLPs its GELU and skip; ``changes`` override fields.

        Raises:
            MlplibError: the name is none of these.
        """
        match = re.fullmatch(r"([BS])-([1-9][0-9]{0,8})/Wi-([1-9][0-9]{0,8})", str(name))
        if match:
            family = FAMILIES[match[1]]
            settings = dict(family=family, depth=int(match[2]), width=int(match[3]))
            if family == "s-mlp":
                settings.update(activation="relu", skip=False)
            return cls(**{**settings, **changes})
        if name in BASELINES:
            return cls(family=name, **changes)
        baselines = ", ".join(BASELINES)
        raise MlplibError(
            f"unknown model {name!r}: write B-<blocks>/Wi-<width> or S-<layers>/Wi-<width>, or one of "
            f"{baselines}"
        )

    @property
    def name(self) -> str:
        """The paper's name, e.g. ``B-12/Wi-1024``; a baseline's own name."""
        letters = {family: letter for letter, family in FAMILIES.items()}
        if self.family in letters:
            return f"{letters[self.family]}-{self.depth}/Wi-{self.width}"
        return self.family

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class DataSpec:
    """A data set by its name in the catalog, and what is done to it once, before training.

    ``examples`` keeps that many training images, the same share of every class, each smaller subset
    nested in the larger ones. ``pixel_permutation`` is the seed of one fixed permutation of the pixel
    positions, applied to train and test alike (claim C22).
    """

    name: str
    examples: int | None = None
    pixel_permutation: int | None = None

    def __post_init__(self):
        _check_types(self)
        _at_least(self, 1, "examples")
        _at_least(self, 0, "pixel_permutation")


@dataclass(frozen=True)
class AugmentSpec:
    """Random data augmentation; the default is none. :data:`FULL_DA` is the paper's.

    ``crop_scale``: range of the crop's area as a fraction of the image, ``None`` for no crop;
    ``crop_ratio``: range of its aspect ratio; ``mixup``: the alpha of MixUp's Beta(alpha, alpha), 0 for none.
    ``mixup_kind``: ``standard`` draws one partner permutation and one lambda a batch, ``ffcv`` mixes
    each image with the batch's previous one in uint8, as the official code does through FFCV.
    """

    flip: bool = False
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    mixup: float = 0.0
    mixup_kind: str = "standard"

    def __post_init__(self):
        _as_tuple(self, "crop_scale", "crop_ratio")
        _check_types(self)
        _at_least(self, 0, "mixup")
        one_of("mixup kind", self.mixup_kind, MIXUP_KINDS)
        for name in ("crop_scale", "crop_ratio"):
            pair = getattr(self, name)
            if pair is None:
                continue
            numbers = len(pair) == 2 and all(map(_finite, pair))
            if not numbers or not 0 < pair[0] <= pair[1]:
                raise MlplibError(f"AugmentSpec.{name} must be two numbers 0 < low <= high, not {pair!r}")
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise MlplibError(
                f"AugmentSpec.crop_scale cannot exceed 1, the whole image, not {self.crop_scale!r}"
            )
        _refuse_idle(self, "no crop", () if self.crop_scale else ("crop_ratio",))
        _refuse_idle(self, "no MixUp", () if self.mixup else ("mixup_kind",))

    @property
    def any(self) -> bool:
        """Whether anything is augmented at all."""
        return self.flip or self.crop_scale is not None or self.mixup > 0


NO_DA = AugmentSpec()
FULL_DA = AugmentSpec(flip=True, crop_scale=(0.08, 1.0), mixup=0.8)
"""Random flip, random resized crop and MixUp 0.8:
"DA" in the paper's tables (Section 4.1, official defaults)."""


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer and its schedule; the default is the paper's Lion at 5e-5 without decay.

    ``betas``: Lion's or AdamW's; ``momentum``: SGD's; ``weight_decay`` is decoupled for Lion and AdamW;
    ``clip``: largest global gradient norm, ``None`` for no clipping; ``warmup``: epochs of linear warm-up.
    """

    name: str = "lion"
    lr: float = 5e-5
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.9
    schedule: str = "constant"
    warmup: float = 0.0
    clip: float | None = None

    def __post_init__(self):
        _as_tuple(self, "betas")
        _check_types(self)
        one_of("optimizer", self.name, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        _at_least(self, 0, "lr", "weight_decay", "warmup")
        _below_one(self, "momentum")
        if len(self.betas) != 2 or not all(_finite(b) and 0 <= b < 1 for b in self.betas):
            raise MlplibError(f"OptimizerSpec.betas must be two numbers in [0, 1), not {self.betas!r}")
        if self.clip is not None and self.clip <= 0:
            raise MlplibError(
                f"OptimizerSpec.clip must be above 0, not {self.clip!r} (leave it out for no clipping)"
            )
        _refuse_idle(self, self.name, ("betas",) if self.name == "sgd" else ("momentum",))


# --------------------------------------------------------------------------- runs


@dataclass(frozen=True)
class RunSpec:
    """What every kind of run shares. Subclasses set ``kind`` and :meth:`slug`."""

    kind: ClassVar[str] = ""

    def slug(self) -> str:
        """A short readable name, not unique by itself."""
        raise NotImplementedError

    def data_name(self) -> str:
        """The catalog name of the data set that the run reads."""
        raise NotImplementedError

    def needs(self) -> tuple[RunSpec, ...]:
        """The runs whose results this one reads."""
        return ()

    def to_json(self) -> dict:
        """The spec as plain JSON values, with its ``kind``; :func:`spec_from_json` reads it back."""
        return {"kind": self.kind, **_plain(self)}

    @property
    def id(self) -> str:
        """``<slug>-<12 hex digits>``: the name of this run's folder in a store and of its record."""
        from .data.catalog import content_hash

        identity = {
            "spec": self.to_json(),
            "data": content_hash(self.data_name()),
            "numerics": NUMERICS_VERSION,
        }
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"{self.slug()}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class TrainSpec(RunSpec):
    """One training run from a random initialization.

    ``evaluate_at``: epochs (counted from 1) after which test accuracy enters the history; the end is always
    evaluated and nothing is ever chosen by it. ``precision``: ``auto`` is bf16 autocast where the device has
    bf16 arithmetic, float32 elsewhere; the record says which it was. How a run is executed (micro-batches,
    checkpoint intervals, device) is not here: it does not change what is computed.
    """

    kind: ClassVar[str] = "train"

    model: ModelSpec
    data: DataSpec
    epochs: int
    batch_size: int
    augment: AugmentSpec = NO_DA
    optimizer: OptimizerSpec = OptimizerSpec()
    label_smoothing: float = 0.0
    precision: str = "auto"
    evaluate_at: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self):
        _as_tuple(self, "evaluate_at")
        _check_types(self)
        _at_least(self, 1, "epochs", "batch_size")
        _at_least(self, 0, "seed")
        if self.seed >= 2**63:
            raise MlplibError(
                f"TrainSpec.seed must be below 2**63, the most that torch takes, not {self.seed}"
            )
        _below_one(self, "label_smoothing")
        one_of("precision", self.precision, PRECISIONS)
        for epoch in self.evaluate_at:
            if not isinstance(epoch, int) or isinstance(epoch, bool) or not 1 <= epoch <= self.epochs:
                raise MlplibError(
                    f"TrainSpec.evaluate_at must hold epochs from 1 to {self.epochs}, not {epoch!r}"
                )
        if self.optimizer.warmup > self.epochs:
            raise MlplibError(
                f"a warmup of {self.optimizer.warmup:g} epochs is longer than the run's {self.epochs}"
            )
        moves_pixels = self.augment.flip or self.augment.crop_scale is not None
        if self.data.pixel_permutation is not None and moves_pixels:
            raise MlplibError(
                "flips and crops mean nothing on permuted pixels: use pixel_permutation without them"
            )

    def slug(self) -> str:
        model = re.sub(r"[^a-z0-9]+", "", self.model.name.lower().replace("wi-", "wi"))
        data = self.data.name + (f"-n{self.data.examples}" if self.data.examples else "")
        da = "da" if self.augment.any else "noda"
        return f"{model}-{data}-{da}-{self.epochs}ep-s{self.seed}"

    def data_name(self) -> str:
        return self.data.name


@dataclass(frozen=True)
class FilterSpec(RunSpec):
    """A look at the first layer of another run: its filters, how local and how smooth they are (Fig 11, 12).

    ``at``: ``initial`` for the random initialization of ``upstream`` (nothing is
    trained), ``final`` for its end.
    """

    kind: ClassVar[str] = "filters"

    upstream: TrainSpec
    at: str = "final"

    def __post_init__(self):
        _check_types(self)
        one_of("moment", self.at, ("initial", "final"))

    def needs(self) -> tuple[RunSpec, ...]:
        return (self.upstream,) if self.at == "final" else ()

    def slug(self) -> str:
        return f"filters-{self.at}-{self.upstream.slug()}"

    def data_name(self) -> str:
        return self.upstream.data.name


KINDS: dict[str, type[RunSpec]] = {cls.kind: cls for cls in (TrainSpec, FilterSpec)}
"""Every kind of run by its name."""


def _plain(spec) -> dict:
    out = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, RunSpec):
            value = value.to_json()
        elif dataclasses.is_dataclass(value):
            value = _plain(value)
        elif isinstance(value, tuple):
            value = [_plain_number(v, field) for v in value]
        else:
            value = _plain_number(value, field)
        out[field.name] = value
    return out


def _plain_number(value, field: dataclasses.Field):
    # 1 and 1.0, 0.0 and -0.0 are the same setting where a float is meant, so they must hash alike.
    real = "float" in str(field.type) and isinstance(value, (int, float))
    return float(value) + 0.0 if real else value


def _build(cls, values: dict):
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    missing = sorted(needed - set(values))
    if missing:
        raise MlplibError(f"{cls.__name__} lacks {', '.join(missing)}")
    unknown = sorted(set(values) - known)
    if unknown:
        raise MlplibError(
            f"{cls.__name__} has no setting {unknown[0]!r}: choose from {', '.join(sorted(known))}"
        )
    built = {}
    for name, value in values.items():
        hint = hints[name]
        if isinstance(value, dict) and dataclasses.is_dataclass(hint):
            value = spec_from_json(value) if issubclass(hint, RunSpec) else _build(hint, value)
        built[name] = value
    return cls(**built)


def spec_from_json(values: dict) -> RunSpec:
    """The inverse of :meth:`RunSpec.to_json`.

    Raises:
        MlplibError: an unknown kind or setting, or a value that the spec refuses.
    """
    if not isinstance(values, dict):
        raise MlplibError(f"a run is written as a JSON object, not as {values!r}")
    values = dict(values)
    kind = values.pop("kind", None)
    one_of("kind of run", kind, sorted(KINDS))
    return _build(KINDS[kind], values)
