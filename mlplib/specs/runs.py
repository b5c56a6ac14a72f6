"""The kinds of runs: training, fine-tuning, probing, evaluating, filters, checkpoints, timing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import MlplibError
from .base import RunSpec
from .parts import (
    BASELINES,
    FINE_TUNE_SGD,
    LION,
    NO_DA,
    PROBE_LION,
    SEEDS,
    AugmentSpec,
    DataSpec,
    ModelSpec,
    OptimizerSpec,
)
from .settings import setting

PRECISIONS = ("auto", "bf16", "fp16", "tf32", "fp32")
PROBES = ("linear", "ridge")


# --------------------------------------------------------------------------- training


@dataclass(frozen=True)
class TrainSpec(RunSpec, kind="train"):
    """One training run from a random initialization.

    ``evaluate_at``: epochs (counted from 1) after which test accuracy is added to the history; the end is
    always evaluated, and nothing is selected by it. ``precision``: ``auto`` is bf16 autocast where the device
    has bf16 arithmetic, fp16 autocast with a scaled loss on other GPUs with matrix units, float32 elsewhere;
    the record says which was used. ``tf32`` (NVIDIA GPUs) is float32 with factors of products rounded to
    TensorFloat-32. ``keep_at``: epochs before the last after which the weights are also kept, for later runs
    to read. How a run is executed (micro-batches, checkpoint intervals, device) is not part of the spec: it
    does not change what is computed.
    """

    model: ModelSpec
    data: DataSpec
    epochs: int = setting(least=1)
    batch_size: int = setting(least=1)
    augment: AugmentSpec = NO_DA
    optimizer: OptimizerSpec = LION
    label_smoothing: float = setting(0.0, least=0, below=1)
    precision: str = setting("auto", choices=PRECISIONS)
    evaluate_at: tuple[int, ...] = setting((), least=1)
    seed: int = setting(0, least=0, below=SEEDS)
    keep_at: tuple[int, ...] = setting((), least=1, later=True)

    def __post_init__(self):
        super().__post_init__()
        _check_training(self)
        _check_epochs(self, "keep_at", self.epochs - 1)

    def slug(self) -> str:
        da = "da" if self.augment.any else "noda"
        return f"{_compact(self.model.name)}-{_data_slug(self.data)}-{da}-{self.epochs}ep-s{self.seed}"


@dataclass(frozen=True)
class CheckpointSpec(RunSpec, kind="checkpoint"):
    """Weights trained by others, in a file in the official code's format.

    ``name``: a name for it; ``sha256``: hash of the file, in hex, which identifies it. The path of the file
    is not part of the run; it is an argument of :class:`mlplib.executor.Executor`.
    """

    name: str
    sha256: str

    def __post_init__(self):
        super().__post_init__()
        if not _compact(self.name):
            self.refuse("name", "text with a letter or digit")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            self.refuse("sha256", "64 hex digits")

    def slug(self) -> str:
        return f"checkpoint-{_compact(self.name)[:40]}"


@dataclass(frozen=True)
class FineTuneSpec(RunSpec, kind="finetune"):
    """Further training of an upstream run's network on other data, with a new head (paper Section 4.3).

    The head starts from ``seed`` and learns at ``optimizer.lr``, everything else at ``body_lr``; a schedule
    scales both. The other fields are as in :class:`TrainSpec`.
    """

    upstream: TrainSpec | CheckpointSpec
    data: DataSpec
    epochs: int = setting(least=1)
    batch_size: int = setting(least=1)
    augment: AugmentSpec = NO_DA
    optimizer: OptimizerSpec = FINE_TUNE_SGD
    body_lr: float = setting(0.001, least=0)
    label_smoothing: float = setting(0.0, least=0, below=1)
    precision: str = setting("auto", choices=PRECISIONS)
    evaluate_at: tuple[int, ...] = setting((), least=1)
    seed: int = setting(0, least=0, below=SEEDS)

    def __post_init__(self):
        super().__post_init__()
        _check_training(self)

    def slug(self) -> str:
        return f"finetune-{_data_slug(self.data)}-{self.epochs}ep-s{self.seed}-of-{self.upstream.slug()}"


# --------------------------------------------------------------------------- looking at a network


@dataclass(frozen=True)
class FilterSpec(RunSpec, kind="filters"):
    """The first-layer filters of another run, and how local and smooth they are (Fig 11, 12).

    ``at``: ``initial`` for the random initialization of ``upstream`` (nothing is trained), or ``final``.
    """

    upstream: TrainSpec
    at: str = setting("final", choices=("initial", "final"))

    def __post_init__(self):
        super().__post_init__()
        if self.upstream.model.family in BASELINES or self.upstream.data.resolution == 1:
            raise MlplibError("filters are for B-MLPs and S-MLPs on images of more than one pixel")

    def needs(self) -> tuple[RunSpec, ...]:
        return () if self.at == "initial" else super().needs()

    def slug(self) -> str:
        return f"filters-{self.at}-{self.upstream.slug()}"

    def data_name(self) -> str:
        return self.upstream.data.name


@dataclass(frozen=True)
class ProbeSpec(RunSpec, kind="probe"):
    """A classifier on frozen features: how much of ``data`` a linear map can read from them (Table 8).

    ``upstream``: the run whose features are used, the input of its head; None for the pixels. ``epoch``: the
    epoch of a training run, one of its ``keep_at``; 0 for its random initialization, None for its end.
    ``method``: ``linear`` trains a head with cross-entropy, the paper's probe; ``ridge`` solves for
    one in closed form with a penalty chosen on a held-out part of the training set, and does not use
    ``epochs, batch_size, optimizer, label_smoothing``. Images are not augmented.
    """

    data: DataSpec
    upstream: TrainSpec | CheckpointSpec | None
    epoch: int | None = None
    method: str = setting("linear", choices=PROBES)
    epochs: int = setting(50, least=1)
    batch_size: int = setting(512, least=1)
    optimizer: OptimizerSpec = PROBE_LION
    label_smoothing: float = setting(0.0, least=0, below=1)
    seed: int = setting(0, least=0, below=SEEDS)

    def __post_init__(self):
        super().__post_init__()
        if self.method == "ridge":
            self.refuse_ignored("method 'ridge'", "epochs", "batch_size", "optimizer", "label_smoothing")
        _check_warmup(self)
        if self.epoch is None:
            return
        if not isinstance(self.upstream, TrainSpec):
            raise MlplibError("ProbeSpec.epoch is for training runs: leave it out for pixels and checkpoints")
        if self.epoch not in (kept := (0, *self.upstream.keep_at)):
            raise MlplibError(
                f"the weights after epoch {self.epoch} are not kept: choose from "
                f"{', '.join(map(str, kept))}, leave epoch out for the end, or add it to the run's keep_at"
            )

    def needs(self) -> tuple[RunSpec, ...]:
        return () if self.epoch == 0 else super().needs()

    def slug(self) -> str:
        moment = "" if self.epoch is None else f"-at{self.epoch}"
        source = "pixels" if self.upstream is None else f"{self.upstream.slug()}{moment}"
        return f"{self.method}-probe-{_data_slug(self.data)}-s{self.seed}-of-{source}"


@dataclass(frozen=True)
class EvaluateSpec(RunSpec, kind="evaluate"):
    """Test accuracy of a finished network as it is, and with test-time augmentation (TTA, paper Section 4.3).

    ``crops``: random crops of each test image whose predictions are averaged, as logits (the paper's text)
    and as probabilities (its code); 0 for no TTA. ``crop_scale, crop_ratio, flip`` as in
    :class:`AugmentSpec`; the defaults are the official fine-tuning recipe's. ``data``: only for a checkpoint,
    which has none of its own. ``real``: also count every label that the ReaL annotators accepted (ImageNet
    only).
    """

    trained: TrainSpec | FineTuneSpec | CheckpointSpec
    data: DataSpec | None = None
    crops: int = setting(100, least=0, below=10**5)
    crop_scale: tuple[float, float] = (0.4, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    real: bool = False
    seed: int = setting(0, least=0, below=SEEDS)

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.trained, CheckpointSpec) != (self.data is not None):
            raise MlplibError(
                "EvaluateSpec.data is for checkpoints, and they need it: other runs bring their own"
            )
        if self.crops:
            self.augment  # noqa: B018  (refuses impossible crops)
            if self.tested_on.pixel_permutation is not None:
                raise MlplibError(
                    "test-time augmentation means nothing on permuted pixels: evaluate them with crops=0"
                )
        else:
            self.refuse_ignored("no crops", "crop_scale", "crop_ratio", "flip", "seed")
        if self.real and self.data_name() != "imagenet":
            raise MlplibError(f"ReaL labels are for imagenet, not for {self.data_name()}: leave real out")
        if self.real and self.tested_on.held_out:
            raise MlplibError(
                "ReaL labels are for ImageNet's validation images, not for "
                f"{self.tested_on.held_out:,} held out: leave real out"
            )

    @property
    def augment(self) -> AugmentSpec:
        """The random augmentation of each view of a test image."""
        return AugmentSpec(flip=self.flip, crop_scale=self.crop_scale, crop_ratio=self.crop_ratio)

    @property
    def tested_on(self) -> DataSpec:
        """The data set whose test images are used."""
        return self.data or self.trained.data

    def slug(self) -> str:
        tta = f"tta{self.crops}" if self.crops else "plain"
        return f"evaluate-{tta}-{self.trained.slug()}"

    def data_name(self) -> str:
        return self.tested_on.name


@dataclass(frozen=True)
class TimingSpec(RunSpec, kind="timing"):
    """Inference speed of a network with random weights on this machine (Table 9).

    ``batch_sizes``: candidates for the best throughput, smallest first; ``seconds``: about the most that the
    measurement may take; ``image_size``: side of the square images in pixels; ``classes``: ImageNet-21k's by
    default, as in the paper's Table 5. ``seed`` draws weights and images; a repetition with another seed is
    another measurement. It reads no data.

    A timing depends on the machine, which is not a setting: a record describes only the device that its
    ``environment`` names.
    """

    model: ModelSpec
    batch_sizes: tuple[int, ...] = setting(least=1)
    seconds: float = setting(above=0)
    image_size: int = setting(64, least=1)
    classes: int = setting(11_230, least=1)
    precision: str = setting("auto", choices=PRECISIONS)
    seed: int = setting(0, least=0, below=SEEDS)

    def __post_init__(self):
        super().__post_init__()
        if not self.batch_sizes or list(self.batch_sizes) != sorted(set(self.batch_sizes)):
            self.refuse("batch_sizes", "a growing list of sizes")

    def slug(self) -> str:
        return f"timing-{_compact(self.model.name)}-{self.image_size}px-s{self.seed}"


def _check_training(spec: TrainSpec | FineTuneSpec) -> None:
    """Check the settings of a run of the training loop against each other."""
    _check_epochs(spec, "evaluate_at", spec.epochs)
    _check_warmup(spec)
    moves_pixels = spec.augment.flip or spec.augment.crop_scale is not None
    if spec.data.pixel_permutation is not None and moves_pixels:
        raise MlplibError(
            "flips and crops mean nothing on permuted pixels: use pixel_permutation without them"
        )


def _check_warmup(spec: TrainSpec | FineTuneSpec | ProbeSpec) -> None:
    if spec.optimizer.warmup > spec.epochs:
        raise MlplibError(
            f"a warmup of {spec.optimizer.warmup:g} epochs is longer than the run's {spec.epochs}: shorten it"
        )


def _check_epochs(spec: TrainSpec | FineTuneSpec, name: str, last: int) -> None:
    if max(getattr(spec, name), default=0) > last:
        spec.refuse(name, f"epochs up to {last}")


def _compact(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower().replace("wi-", "wi"))


def _data_slug(data: DataSpec) -> str:
    slug = data.name + (f"-n{data.examples}" if data.examples else "")
    slug += f"-{data.resolution}px" if data.resolution else ""
    return slug + ("-heldout" if data.held_out else "")
