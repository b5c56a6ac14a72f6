"""Pre-training and what follows it; all chapters on transfer use these functions, so they share runs."""

from __future__ import annotations

from mlplib.data import catalog
from mlplib.specs import (
    FULL_DA,
    NO_DA,
    AugmentSpec,
    CheckpointSpec,
    DataSpec,
    FineTuneSpec,
    ModelSpec,
    OptimizerSpec,
    ProbeSpec,
    TrainSpec,
)

from ..profiles import Profile

FINE_TUNE_DA = AugmentSpec(flip=True, crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0))
"""The augmentation of the official fine-tuning recipe (its README)."""


def data(profile: Profile, name: str, **changes) -> DataSpec:
    """A data set at the resolution of the profile's transfer."""
    native = catalog.find(name).image_size
    return DataSpec(name, resolution=None if native == profile.resolution else profile.resolution, **changes)


def pretraining_run(
    profile: Profile,
    seed: int,
    *,
    model: str | ModelSpec | None = None,
    da: bool = True,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    examples: int | None = None,
    **changes,
) -> TrainSpec:
    """Pre-training with the paper's settings: Lion, label smoothing 0.3, full augmentation if ``da``.

    Arguments that are left out are the profile's. ``changes`` are further settings of :class:`TrainSpec`.
    """
    model = model or profile.pretrain_model
    settings = dict(
        model=model if isinstance(model, ModelSpec) else ModelSpec.parse(model),
        data=data(profile, profile.upstream, examples=examples),
        epochs=epochs or profile.pretrain_epochs,
        batch_size=min(batch_size or profile.pretrain_batch_size, examples or 2**63),
        augment=FULL_DA if da else NO_DA,
        optimizer=OptimizerSpec(lr=lr or profile.pretrain_lr),
        label_smoothing=0.3,
        seed=seed,
    )
    return TrainSpec(**settings | changes)


def probe(
    profile: Profile,
    upstream: TrainSpec | CheckpointSpec | None,
    seed: int,
    name: str | None = None,
    *,
    epoch: int | None = None,
    method: str = "linear",
) -> ProbeSpec:
    """A probe of ``upstream``'s features on data set ``name`` (default: the main downstream one).

    The linear one is the paper's: Lion, 50 epochs; its learning rate and batch size are the profile's.
    """
    settings = {}
    if method == "linear":
        settings = dict(
            epochs=profile.probe_epochs,
            batch_size=profile.probe_batch_size,
            optimizer=OptimizerSpec(lr=profile.probe_lr),
        )
    where = data(profile, name or profile.downstream[0])
    return ProbeSpec(where, upstream, epoch=epoch, method=method, seed=seed, **settings)


def fine_tune(
    profile: Profile, upstream: TrainSpec | CheckpointSpec, seed: int, name: str | None = None, **changes
) -> FineTuneSpec:
    """Fine-tuning on data set ``name`` (default: the main downstream one).

    SGD with momentum and separate rates for head and body as in the paper's text (Section 4.2); augmentation,
    label smoothing and weight decay as in the official recipe.
    """
    settings = dict(
        upstream=upstream,
        data=data(profile, name or profile.downstream[0]),
        epochs=profile.fine_tune_epochs,
        batch_size=profile.fine_tune_batch_size,
        augment=FINE_TUNE_DA,
        optimizer=OptimizerSpec("sgd", lr=profile.fine_tune_lr, weight_decay=1e-4),
        body_lr=profile.fine_tune_body_lr,
        label_smoothing=0.3,
        seed=seed,
    )
    return FineTuneSpec(**settings | changes)


def from_scratch(profile: Profile, tuned: FineTuneSpec) -> TrainSpec:
    """The control of a fine-tuning: the same network on the same data for as long, from random weights.

    Only the optimizer differs, which is the one that the paper trains from scratch with.
    """
    return TrainSpec(
        model=tuned.upstream.model,
        data=tuned.data,
        epochs=tuned.epochs,
        batch_size=tuned.batch_size,
        augment=tuned.augment,
        optimizer=OptimizerSpec(lr=profile.pretrain_lr),
        label_smoothing=tuned.label_smoothing,
        seed=tuned.seed,
    )
