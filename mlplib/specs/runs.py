"""The kinds of runs: training, fine-tuning, probing, evaluating, filters, checkpoints, timing."""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import dataclass
from typing import ClassVar

from ..errors import MlplibError, require_choice
from .base import RunSpec
from .checks import as_tuple, at_least, below_one, check_range, check_types, refuse_idle
from .parts import (
    FINE_TUNE_SGD,
    LION,
    NO_DA,
    PROBE_LION,
    AugmentSpec,
    DataSpec,
    ModelSpec,
    OptimizerSpec,
    later,
)

PRECISIONS = ("auto", "bf16", "tf32", "fp32")
PROBES = ("linear", "ridge")


# --------------------------------------------------------------------------- training


@dataclass(frozen=True)
class TrainSpec(RunSpec):
    """One training run from a random initialization.

    ``evaluate_at``: epochs (counted from 1) after which test accuracy enters the history; the end is always
    evaluated and nothing is ever chosen by it. ``precision``: ``auto`` is bf16 autocast where the device has
    bf16 arithmetic, float32 elsewhere; the record says which it was. ``tf32`` (NVIDIA GPUs) is float32 with
    factors of products rounded to TensorFloat-32. ``keep_at``: epochs before the last
    after which the weights are kept, too, for later runs to read. How a run is executed (micro-batches,
    checkpoint intervals, device) is not here: it does not change what is computed.
    """

    kind: ClassVar[str] = "train"

    model: ModelSpec
    data: DataSpec
    epochs: int
    batch_size: int
    augment: AugmentSpec = NO_DA
    optimizer: OptimizerSpec = LION
    label_smoothing: float = 0.0
    precision: str = "auto"
    evaluate_at: tuple[int, ...] = ()
    seed: int = 0
    keep_at: tuple[int, ...] = later(())

    def __post_init__(self):
        as_tuple(self, "evaluate_at", "keep_at")
        _check_training(self)
        _check_epochs(self, "keep_at", self.epochs - 1)

    def slug(self) -> str:
        da = "da" if self.augment.any else "noda"
        return f"{_compact(self.model.name)}-{_data_slug(self.data)}-{da}-{self.epochs}ep-s{self.seed}"

    def data_name(self) -> str:
        return self.data.name


@dataclass(frozen=True)
class CheckpointSpec(RunSpec):
    """Weights that somebody else trained, in a file of the official code's form.

    ``name``: what to call it; ``sha256`` of the file, in hex: what it is. Where the file lies is not part of
    the run; the executor takes it (:class:`mlplib.executor.Executor`).
    """

    kind: ClassVar[str] = "checkpoint"

    name: str
    sha256: str

    def __post_init__(self):
        check_types(self)
        if not _compact(self.name):
            raise MlplibError(f"CheckpointSpec.name needs a letter or digit, not {self.name!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise MlplibError(f"CheckpointSpec.sha256 must be 64 hex digits, not {self.sha256!r}")

    def slug(self) -> str:
        return f"checkpoint-{_compact(self.name)[:40]}"


@dataclass(frozen=True)
class FineTuneSpec(RunSpec):
    """Further training of an upstream run's network on other data, with a new head (paper Section 4.2).

    The head starts from ``seed`` and learns at ``optimizer.lr``, everything else at ``body_lr``; a schedule
    scales both. The other fields are as in :class:`TrainSpec`.
    """

    kind: ClassVar[str] = "finetune"

    upstream: TrainSpec | CheckpointSpec
    data: DataSpec
    epochs: int
    batch_size: int
    augment: AugmentSpec = NO_DA
    optimizer: OptimizerSpec = FINE_TUNE_SGD
    body_lr: float = 0.001
    label_smoothing: float = 0.0
    precision: str = "auto"
    evaluate_at: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self):
        as_tuple(self, "evaluate_at")
        _check_training(self)
        at_least(self, 0, "body_lr")

    def needs(self) -> tuple[RunSpec, ...]:
        return (self.upstream,)

    def slug(self) -> str:
        return f"finetune-{_data_slug(self.data)}-{self.epochs}ep-s{self.seed}-of-{self.upstream.slug()}"

    def data_name(self) -> str:
        return self.data.name


# --------------------------------------------------------------------------- looking at a network


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
        check_types(self)
        require_choice("moment", self.at, ("initial", "final"))

    def needs(self) -> tuple[RunSpec, ...]:
        return (self.upstream,) if self.at == "final" else ()

    def slug(self) -> str:
        return f"filters-{self.at}-{self.upstream.slug()}"

    def data_name(self) -> str:
        return self.upstream.data.name


@dataclass(frozen=True)
class ProbeSpec(RunSpec):
    """A classifier on frozen features: how much of ``data`` a linear map can read from them (Table 8).

    ``upstream``: whose features, those that its head reads; None for the pixels themselves. ``epoch``: after
    which epoch of a training run, one of its ``keep_at``; 0 for its random initialization, None for its end.
    ``method``: ``linear`` trains a head with cross-entropy, the paper's probe; ``ridge`` solves for
    one in closed form with a penalty chosen on a held-out part of the training set, and takes none
    of ``epochs, batch_size, optimizer, label_smoothing``. Images are not augmented.
    """

    kind: ClassVar[str] = "probe"

    data: DataSpec
    upstream: TrainSpec | CheckpointSpec | None
    epoch: int | None = None
    method: str = "linear"
    epochs: int = 50
    batch_size: int = 512
    optimizer: OptimizerSpec = PROBE_LION
    label_smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        require_choice("probe", self.method, PROBES)
        at_least(self, 1, "epochs", "batch_size")
        check_range(self, 0, 2**63, "seed")
        below_one(self, "label_smoothing")
        if self.method == "ridge":
            refuse_idle(self, "method 'ridge'", ("epochs", "batch_size", "optimizer", "label_smoothing"))
        _check_moment(self.upstream, self.epoch)

    def needs(self) -> tuple[RunSpec, ...]:
        return () if self.upstream is None or self.epoch == 0 else (self.upstream,)

    def slug(self) -> str:
        moment = "" if self.epoch is None else f"-at{self.epoch}"
        source = "pixels" if self.upstream is None else f"{self.upstream.slug()}{moment}"
        return f"{self.method}-probe-{_data_slug(self.data)}-s{self.seed}-of-{source}"

    def data_name(self) -> str:
        return self.data.name


@dataclass(frozen=True)
class EvaluateSpec(RunSpec):
    """Test accuracy of a finished network as it is, and with test-time augmentation (TTA, paper Section 4.2).

    ``crops``: random crops of each test image whose predictions are averaged, as logits (the paper's text)
    and as probabilities (its code); 0 for no TTA. ``crop_scale, crop_ratio, flip`` as in
    :class:`AugmentSpec`; the defaults are the official fine-tuning recipe's. ``data``: only for a checkpoint,
    which knows none itself. ``real``: also count every label that the ReaL annotators accepted (ImageNet
    only).
    """

    kind: ClassVar[str] = "evaluate"

    trained: TrainSpec | FineTuneSpec | CheckpointSpec
    data: DataSpec | None = None
    crops: int = 100
    crop_scale: tuple[float, float] = (0.4, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    real: bool = False
    seed: int = 0

    def __post_init__(self):
        as_tuple(self, "crop_scale", "crop_ratio")
        check_types(self)
        at_least(self, 0, "crops")
        check_range(self, 0, 2**63, "seed")
        if isinstance(self.trained, CheckpointSpec) != (self.data is not None):
            raise MlplibError(
                "EvaluateSpec.data is for checkpoints, and they need it: other runs bring their own"
            )
        if self.crops:
            self.augment  # noqa: B018  (refuses impossible crops)
        else:
            refuse_idle(self, "no crops", ("crop_scale", "crop_ratio", "flip"))
        if self.real and self.data_name() != "imagenet":
            raise MlplibError(f"ReaL labels are for imagenet, not for {self.data_name()}: leave real out")

    @property
    def augment(self) -> AugmentSpec:
        """What is done to a test image, each time differently."""
        return AugmentSpec(flip=self.flip, crop_scale=self.crop_scale, crop_ratio=self.crop_ratio)

    @property
    def tested_on(self) -> DataSpec:
        """The data set whose test images are used."""
        return self.data or self.trained.data

    def needs(self) -> tuple[RunSpec, ...]:
        return (self.trained,)

    def slug(self) -> str:
        tta = f"tta{self.crops}" if self.crops else "plain"
        return f"evaluate-{tta}-{self.trained.slug()}"

    def data_name(self) -> str:
        return self.tested_on.name


# --------------------------------------------------------------------------- timing a network


@dataclass(frozen=True)
class TimingSpec(RunSpec):
    """How fast a network with random weights answers on this machine, in at most about ``seconds`` (Table 9).

    ``batch_sizes``: those to find the best throughput among, smallest first; ``image_size``: side of the
    square images in pixels; ``classes``: ImageNet-21k's by default, as in the paper's Table 5. ``seed`` draws
    weights and images; a repetition with another seed is another measurement. It reads no data.

    A timing depends on the machine, which is not a setting: a record describes the device that its
    ``environment`` names, and of no other.
    """

    kind: ClassVar[str] = "timing"

    model: ModelSpec
    batch_sizes: tuple[int, ...]
    seconds: float
    image_size: int = 64
    classes: int = 11_230
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self):
        as_tuple(self, "batch_sizes")
        check_types(self)
        at_least(self, 1, "image_size", "classes")
        check_range(self, 0, 2**63, "seed")
        require_choice("precision", self.precision, PRECISIONS)
        sizes = self.batch_sizes
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sizes)
        if not sizes or not whole or list(sizes) != sorted(set(sizes)):
            raise MlplibError(f"TimingSpec.batch_sizes must hold sizes from 1 on that grow, not {sizes!r}")
        if self.seconds <= 0:
            raise MlplibError(f"TimingSpec.seconds must be above 0, not {self.seconds!r}")

    def slug(self) -> str:
        return f"timing-{_compact(self.model.name)}-{self.image_size}px-s{self.seed}"


# --------------------------------------------------------------------------- every kind


KINDS: dict[str, type[RunSpec]] = {
    cls.kind: cls
    for cls in (TrainSpec, CheckpointSpec, FineTuneSpec, FilterSpec, ProbeSpec, EvaluateSpec, TimingSpec)
}
"""Every kind of run by its name."""


def spec_from_json(values: dict) -> RunSpec:
    """The inverse of :meth:`RunSpec.to_json`.

    Raises:
        MlplibError: an unknown kind or setting, or a value that the spec refuses.
    """
    if not isinstance(values, dict):
        raise MlplibError(f"a run is written as a JSON object, not as {values!r}")
    values = dict(values)
    kind = values.pop("kind", None)
    require_choice("kind of run", kind, sorted(KINDS))
    return _build(KINDS[kind], values)


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
    return cls(**{name: _built(hints[name], value) for name, value in values.items()})


def _built(hint, value):
    """``value`` as the spec that ``hint`` asks for; what is no JSON object stays as it is."""
    classes = [h for h in (typing.get_args(hint) or (hint,)) if dataclasses.is_dataclass(h)]
    if not isinstance(value, dict) or not classes:
        return value
    return spec_from_json(value) if issubclass(classes[0], RunSpec) else _build(classes[0], value)


# --------------------------------------------------------------------------- checks


def _check_training(spec: TrainSpec | FineTuneSpec) -> None:
    """What holds for every run of the training loop."""
    check_types(spec)
    at_least(spec, 1, "epochs", "batch_size")
    check_range(spec, 0, 2**63, "seed")  # the most that torch takes
    below_one(spec, "label_smoothing")
    require_choice("precision", spec.precision, PRECISIONS)
    _check_epochs(spec, "evaluate_at", spec.epochs)
    if spec.optimizer.warmup > spec.epochs:
        raise MlplibError(
            f"a warmup of {spec.optimizer.warmup:g} epochs is longer than the run's {spec.epochs}"
        )
    moves_pixels = spec.augment.flip or spec.augment.crop_scale is not None
    if spec.data.pixel_permutation is not None and moves_pixels:
        raise MlplibError(
            "flips and crops mean nothing on permuted pixels: use pixel_permutation without them"
        )


def _check_epochs(spec, name: str, last: int) -> None:
    for epoch in getattr(spec, name):
        if not isinstance(epoch, int) or isinstance(epoch, bool) or not 1 <= epoch <= last:
            raise MlplibError(
                f"{type(spec).__name__}.{name} must hold epochs from 1 to {last}, not {epoch!r}"
            )


def _check_moment(upstream: RunSpec | None, epoch: int | None) -> None:
    if epoch is None or (isinstance(upstream, TrainSpec) and epoch in (0, *upstream.keep_at)):
        return
    if not isinstance(upstream, TrainSpec):
        raise MlplibError("ProbeSpec.epoch is for training runs: leave it out for pixels and checkpoints")
    kept = ", ".join(map(str, (0, *upstream.keep_at)))
    raise MlplibError(
        f"the weights after epoch {epoch} are not kept: choose from {kept}, leave epoch out for the end, "
        "or add it to the run's keep_at"
    )


# --------------------------------------------------------------------------- names


def _compact(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower().replace("wi-", "wi"))


def _data_slug(data: DataSpec) -> str:
    slug = data.name + (f"-n{data.examples}" if data.examples else "")
    slug += f"-{data.resolution}px" if data.resolution else ""
    return slug + ("-heldout" if data.held_out else "")
