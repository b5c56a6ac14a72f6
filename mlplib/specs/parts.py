"""The parts of a run: network, data, augmentation, optimizer."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from ..errors import MlplibError
from .settings import Settings, setting

FAMILIES = {"B": "b-mlp", "S": "s-mlp"}
BASELINES = ("small-cnn", "resnet18", "resnet152", "vit-b/4", "vit-b/8", "mixer-b/4")
NORMS = ("layer", "batch", "none")
ACTIVATIONS = ("gelu", "relu")
NORM_POSITIONS = ("pre", "post")
OPTIMIZERS = ("lion", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear")
MIXUP_KINDS = ("standard", "ffcv")

SEEDS = 2**32
"""Seeds are below this: torch accepts larger ones, but on a CPU uses only their lower 32 bits."""


@dataclass(frozen=True)
class ModelSpec(Settings):
    """A network: an MLP of the paper (Section 3) or a named baseline.

    ``family`` is ``b-mlp``, ``s-mlp`` or the name of a baseline (:mod:`mlplib.baselines`), for which the
    other fields keep their defaults. ``expansion`` is k, the inverted bottleneck's factor (B-MLP only);
    ``official_order`` gives the S-MLP block of the official code (norm, activation, linear)
    instead of the text's (norm, linear, activation).
    """

    family: str = setting(choices=(*FAMILIES.values(), *BASELINES))
    depth: int = setting(6, least=1)
    width: int = setting(256, least=1)
    expansion: int = setting(4, least=1)
    norm: str = setting("layer", choices=NORMS)
    norm_position: str = setting("pre", choices=NORM_POSITIONS)
    activation: str = setting("gelu", choices=ACTIVATIONS)
    skip: bool = True
    dropout: float = setting(0.0, least=0, below=1)
    official_order: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.family in BASELINES:
            self.refuse_ignored(self.family, *(f.name for f in fields(self) if f.name != "family"))
        self.refuse_ignored(self.family, "official_order" if self.family == "b-mlp" else "expansion")
        if self.norm == "none":
            self.refuse_ignored("norm 'none'", "norm_position")

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
        raise MlplibError(
            f"unknown model {name!r}: write B-<blocks>/Wi-<width> or S-<layers>/Wi-<width>, or one of "
            + ", ".join(BASELINES)
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
class DataSpec(Settings):
    """A data set by its name in the catalog, and how it is changed once, before training.

    ``examples`` keeps that many training images, the same share of every class; smaller subsets are
    nested in larger ones. ``pixel_permutation`` is the seed of one fixed permutation of the pixel
    positions, applied to train and test alike (claim C22). ``resolution``: the side in pixels that images are
    resized to; not with a permutation, since resizing would average unrelated pixels. ``held_out``: that many
    training images, the same share of every class, are removed from the training set and replace the test
    set, so that settings can be tuned without looking at the test set. ``draw``: which random choice of
    ``examples`` images is kept, so that seeds can train on different images; subsets are nested only within
    one draw.
    """

    name: str
    examples: int | None = setting(None, least=1)
    pixel_permutation: int | None = setting(None, least=0, below=SEEDS)
    resolution: int | None = setting(None, least=1, later=True)
    held_out: int | None = setting(None, least=1, later=True)
    draw: int = setting(0, least=0, below=SEEDS, later=True)

    def __post_init__(self):
        super().__post_init__()
        if self.examples is None:
            self.refuse_ignored("all examples", "draw")
        if self.pixel_permutation is not None and self.resolution is not None:
            raise MlplibError(
                "resizing would average unrelated pixels of permuted images: use pixel_permutation without "
                "resolution"
            )


@dataclass(frozen=True)
class AugmentSpec(Settings):
    """Random data augmentation; the default is none. :data:`FULL_DA` is the paper's.

    ``crop_scale``: range of the crop's area as a fraction of the image, ``None`` for no crop;
    ``crop_ratio``: range of its aspect ratio; ``mixup``: the alpha of MixUp's Beta(alpha, alpha), 0 for none.
    ``mixup_kind``: ``standard`` draws one partner permutation and one lambda per batch, ``ffcv`` mixes
    each image with the batch's previous one in uint8, as the official code does through FFCV.
    """

    flip: bool = False
    crop_scale: tuple[float, float] | None = setting(None, above=0)
    crop_ratio: tuple[float, float] = setting((3 / 4, 4 / 3), above=1e-6, below=1e6)
    mixup: float = setting(0.0, least=0)
    mixup_kind: str = setting("standard", choices=MIXUP_KINDS)

    def __post_init__(self):
        super().__post_init__()
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name) or (1, 1)
            if low > high:
                self.refuse(name, "two numbers that do not fall")
        if self.crop_scale is None:
            self.refuse_ignored("no crop", "crop_ratio")
        elif self.crop_scale[1] > 1:
            self.refuse("crop_scale", "at most 1, the whole image")
        if not self.mixup:
            self.refuse_ignored("no MixUp", "mixup_kind")

    @property
    def any(self) -> bool:
        """Whether any augmentation is on."""
        return self.flip or self.crop_scale is not None or self.mixup > 0


NO_DA = AugmentSpec()
FULL_DA = AugmentSpec(flip=True, crop_scale=(0.08, 1.0), mixup=0.8)
"""Random flip, random resized crop and MixUp 0.8: the paper's "DA" (Section 4.1, Appendix A.4, official
defaults).
"""


@dataclass(frozen=True)
class OptimizerSpec(Settings):
    """An optimizer and its schedule; the default is the paper's Lion at 5e-5 without decay.

    ``betas``: Lion's or AdamW's; ``momentum``: SGD's; ``weight_decay`` is decoupled for Lion and AdamW;
    ``clip``: largest global gradient norm, ``None`` for no clipping; ``warmup``: epochs of linear warm-up.
    """

    name: str = setting("lion", choices=OPTIMIZERS)
    lr: float = setting(5e-5, least=0)
    weight_decay: float = setting(0.0, least=0)
    betas: tuple[float, float] = setting((0.9, 0.99), least=0, below=1)
    momentum: float = setting(0.9, least=0, below=1)
    schedule: str = setting("constant", choices=SCHEDULES)
    warmup: float = setting(0.0, least=0)
    clip: float | None = setting(None, above=0)

    def __post_init__(self):
        super().__post_init__()
        self.refuse_ignored(self.name, "betas" if self.name == "sgd" else "momentum")


LION = OptimizerSpec()
"""The paper's for training: Lion at 5e-5 without decay (Section 4.2, official defaults)."""

PROBE_LION = OptimizerSpec(lr=1e-5)
"""The paper's for linear probes (Appendix A.3)."""

FINE_TUNE_SGD = OptimizerSpec("sgd", lr=0.01)
"""The paper's for the head when fine-tuning (Section 4.3)."""
