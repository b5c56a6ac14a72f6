"""The parts of a run: network, data, augmentation, optimizer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import MlplibError, require_choice
from .checks import as_tuple, at_least, below_one, check_range, check_types, finite, refuse_idle

FAMILIES = {"B": "b-mlp", "S": "s-mlp"}
BASELINES = ("small-cnn", "resnet18", "resnet152", "vit-b/4", "vit-b/8", "mixer-b/4")
NORMS = ("layer", "batch", "none")
ACTIVATIONS = ("gelu", "relu")
NORM_POSITIONS = ("pre", "post")
OPTIMIZERS = ("lion", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
MIXUP_KINDS = ("standard", "ffcv")


def later(default):
    """A field that was added after records had been published.

    At its default it stays out of the JSON form, so older runs keep their ids.
    """
    return field(default=default, metadata={"later": True})


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
        check_types(self)
        require_choice("model family", self.family, (*FAMILIES.values(), *BASELINES))
        at_least(self, 1, "depth", "width", "expansion")
        below_one(self, "dropout")
        require_choice("norm", self.norm, NORMS)
        require_choice("norm position", self.norm_position, NORM_POSITIONS)
        require_choice("activation", self.activation, ACTIVATIONS)
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
    positions, applied to train and test alike (claim C22). ``resolution``: the side in pixels that images are
    resized to. ``held_out``: that many training images, the same share of every class, are taken out of the
    training set and stand in for the test set, so that settings can be tuned without looking at it.
    ``draw``: which random choice of ``examples`` images is kept, so that seeds can train on different images;
    subsets are nested within one draw only.
    """

    name: str
    examples: int | None = None
    pixel_permutation: int | None = None
    resolution: int | None = later(None)
    held_out: int | None = later(None)
    draw: int = later(0)

    def __post_init__(self):
        check_types(self)
        at_least(self, 1, "examples", "resolution", "held_out")
        at_least(self, 0, "pixel_permutation")
        check_range(self, 0, 2**63, "draw")
        refuse_idle(self, "all examples", () if self.examples else ("draw",))


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
        as_tuple(self, "crop_scale", "crop_ratio")
        check_types(self)
        at_least(self, 0, "mixup")
        require_choice("mixup kind", self.mixup_kind, MIXUP_KINDS)
        for name in ("crop_scale", "crop_ratio"):
            pair = getattr(self, name)
            if pair is None:
                continue
            numbers = len(pair) == 2 and all(map(finite, pair))
            if not numbers or not 0 < pair[0] <= pair[1]:
                raise MlplibError(f"AugmentSpec.{name} must be two numbers 0 < low <= high, not {pair!r}")
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise MlplibError(
                f"AugmentSpec.crop_scale cannot exceed 1, the whole image, not {self.crop_scale!r}"
            )
        refuse_idle(self, "no crop", () if self.crop_scale else ("crop_ratio",))
        refuse_idle(self, "no MixUp", () if self.mixup else ("mixup_kind",))

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
        as_tuple(self, "betas")
        check_types(self)
        require_choice("optimizer", self.name, OPTIMIZERS)
        require_choice("schedule", self.schedule, SCHEDULES)
        at_least(self, 0, "lr", "weight_decay", "warmup")
        below_one(self, "momentum")
        if len(self.betas) != 2 or not all(finite(b) and 0 <= b < 1 for b in self.betas):
            raise MlplibError(f"OptimizerSpec.betas must be two numbers in [0, 1), not {self.betas!r}")
        if self.clip is not None and self.clip <= 0:
            raise MlplibError(
                f"OptimizerSpec.clip must be above 0, not {self.clip!r} (leave it out for no clipping)"
            )
        refuse_idle(self, self.name, ("betas",) if self.name == "sgd" else ("momentum",))


LION = OptimizerSpec()
"""The paper's for training: Lion at 5e-5 without decay (Section 4.1, official defaults)."""

PROBE_LION = OptimizerSpec(lr=1e-5)
"""The paper's for linear probes (Section 4.2)."""

FINE_TUNE_SGD = OptimizerSpec("sgd", lr=0.01)
"""The paper's for the head when fine-tuning (Section 4.2)."""
