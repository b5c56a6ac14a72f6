"""Pre-training and what follows it; all chapters on transfer use these functions, so they share runs."""

from __future__ import annotations

from collections.abc import Iterable

from mlplib.data import catalog
from mlplib.specs import (
    FULL_DA,
    NO_DA,
    AugmentSpec,
    CheckpointSpec,
    DataSpec,
    EvaluateSpec,
    FineTuneSpec,
    ModelSpec,
    OptimizerSpec,
    ProbeSpec,
    RunSpec,
    TrainSpec,
)
from mlplib.store import Record

from ..profiles import Profile
from .base import DATASET_TITLES, group_by

FINE_TUNE_DA = AugmentSpec(flip=True, crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0))
"""The augmentation of the official fine-tuning recipe (its README)."""

Task = tuple[str, int | None]
"""What is learned downstream: a data set and the number of its training images, None for all."""

PIXELS_LR, FEATURES_LR = 1e-5, 3e-5
"""Learning rates of linear probes on few images: of four, the best for pixels and the best on average over
three kinds of features, on held-out training images, with a seed and draws that no chapter uses."""

SCARCE = (200, 1000)
"""Numbers of images that claims are judged by, in profiles that fine-tune on few."""


def data(profile: Profile, name: str, **changes) -> DataSpec:
    """A data set at the resolution of the profile's transfer."""
    native = catalog.find(name).image_size
    return DataSpec(name, resolution=None if native == profile.resolution else profile.resolution, **changes)


def tasks(profile: Profile, seed: int) -> list[DataSpec]:
    """The downstream data to learn: every data set, with each number of images that the profile has.

    A seed has its own draw of images. Draw 0 is never used: the laptop's design was found on it.
    """
    return [
        data(profile, name, examples=images, draw=0 if images is None else seed + 1)
        for name in profile.downstream
        for images, _ in profile.fine_tune_lengths
    ]


def task(spec: RunSpec) -> Task:
    """The task that a run learns or is tested on."""
    where = spec.tested_on if isinstance(spec, EvaluateSpec) else spec.data
    return where.name, where.examples


def judged(found: Iterable[Task]) -> list[Task]:
    """The tasks that claims are judged by: all, or where some are of few images those of :data:`SCARCE`."""
    found = list(dict.fromkeys(found))
    any_few = any(images for _, images in found)
    return [each for each in found if each[1] in SCARCE] if any_few else found


def judged_data(profile: Profile, seed: int) -> list[DataSpec]:
    """Those of :func:`tasks` that claims are judged by."""
    found = {(where.name, where.examples): where for where in tasks(profile, seed)}
    return [found[each] for each in judged(found)]


def by_judged_task(records: Iterable[Record]) -> dict[Task, list[Record]]:
    """The records of each task that claims are judged by."""
    groups = group_by(records, lambda record: task(record.spec))
    return {each: groups[each] for each in judged(groups)}


def epochs(record: Record) -> int:
    """How many epochs of pre-training the network behind a probe has had."""
    spec = record.spec
    return spec.upstream.epochs if spec.epoch is None else spec.epoch


def task_title(where: Task) -> str:
    """The title of a data set, with the number of its training images if not all are used."""
    name, examples = where
    return DATASET_TITLES[name] + (f", {examples:,} images" if examples else "")


def pretraining_run(
    profile: Profile,
    seed: int,
    *,
    model: str | ModelSpec | None = None,
    da: bool = True,
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
        epochs=profile.pretrain_epochs,
        batch_size=min(batch_size or profile.pretrain_batch_size, examples or 2**63),
        augment=FULL_DA if da else NO_DA,
        optimizer=OptimizerSpec(lr=lr or profile.learning_rate),
        label_smoothing=0.3,
        seed=seed,
    )
    return TrainSpec(**settings | changes)


def probe(
    profile: Profile,
    upstream: TrainSpec | CheckpointSpec | None,
    seed: int,
    where: DataSpec | None = None,
    *,
    epoch: int | None = None,
    method: str = "linear",
) -> ProbeSpec:
    """A probe of ``upstream``'s features on ``where`` (default: the whole main downstream data set).

    The linear one is the paper's: Lion, 50 epochs; its learning rate and batch size are the profile's. Fewer
    images, in fine-tuning's smaller batches, get about as many updates as all of them would, at rates of
    their own.
    """
    where = where or data(profile, profile.downstream[0])
    settings = {}
    if method == "linear":
        epochs, batch_size, lr = profile.probe_epochs, profile.probe_batch_size, profile.probe_lr
        if where.examples:
            updates = epochs * (catalog.find(where.name).train // batch_size)
            batch_size = min(profile.fine_tune_batch_size, where.examples)
            epochs = round(updates / (where.examples // batch_size))
            lr = PIXELS_LR if upstream is None else FEATURES_LR
        settings = dict(epochs=epochs, batch_size=batch_size, optimizer=OptimizerSpec(lr=lr))
    return ProbeSpec(where, upstream, epoch=epoch, method=method, seed=seed, **settings)


def fine_tune(
    profile: Profile, upstream: TrainSpec | CheckpointSpec, seed: int, where: DataSpec
) -> FineTuneSpec:
    """Fine-tuning on ``where``.

    SGD with momentum and separate rates for head and body as in the paper's text (Section 4.3), but Lion in
    profile ``laptop``; augmentation, label smoothing and SGD's weight decay as in the official recipe.
    """
    return FineTuneSpec(
        upstream=upstream,
        data=where,
        epochs=dict(profile.fine_tune_lengths)[where.examples],
        batch_size=profile.fine_tune_batch_size,
        augment=FINE_TUNE_DA,
        optimizer=profile.fine_tune_optimizer,
        body_lr=profile.fine_tune_body_lr,
        label_smoothing=0.3,
        seed=seed,
    )


def from_scratch(profile: Profile, tuned: FineTuneSpec) -> TrainSpec:
    """The control of a fine-tuning: the same network on the same data for as long, from random weights.

    It uses the optimizer of the paper's training from scratch, which differs from that of its fine-tuning.
    In profile ``laptop`` they are the same, so that only the initial weights differ.
    """
    return TrainSpec(
        model=tuned.upstream.model,
        data=tuned.data,
        epochs=tuned.epochs,
        batch_size=tuned.batch_size,
        augment=tuned.augment,
        optimizer=OptimizerSpec(lr=profile.learning_rate),
        label_smoothing=tuned.label_smoothing,
        seed=tuned.seed,
    )
