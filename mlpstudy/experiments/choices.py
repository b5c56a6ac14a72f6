"""What the chapters on single choices share: label smoothing, normalization, ablations and batch size.

Each asks what one choice in pre-training does to the features: networks that differ in that choice only are
pre-trained and then probed on other data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mlplib.data import catalog
from mlplib.specs import ProbeSpec, TrainSpec
from mlplib.store import Record

from ..profiles import Profile
from ..words import count
from .base import DATASET_TITLES, accuracy, completed, group_by
from .pretraining import data, pretraining_run, probe, task, task_title

PRETRAINING = {
    "smoke": dict(epochs=2),
    "laptop": dict(epochs=40, batch_size=128, examples=2000),
    "gpu": dict(epochs=80),
    "paper": dict(epochs=800),
}
"""The pre-training runs that differ in one choice, by profile; 800 epochs are the paper's.

The first design of profile laptop was 6 epochs of all images. Every network was underfit, so regularizers had
nothing to do. Few images in small batches are seen more often for the same cost, and are memorized without
augmentation."""

OVERFIT = {"laptop": dict(da=False)}
"""How networks to which a regularizer is added are pre-trained, by profile; elsewhere as all others."""

AFTERTHOUGHT = (
    "Profile laptop's first design, 6 epochs of all upstream images, left every network underfit, so that "
    "regularizers had nothing to do. It was replaced by many epochs of few images, without DA where "
    "regularizers are compared, before any run of the new design."
)
"""Shown with the criteria that were judged by the first design, too."""

TUNING_SHARE = 5
"""To choose a learning rate, one in this many downstream training images is held out."""


def variant(profile: Profile, seed: int, **changes) -> TrainSpec:
    """The pre-training that these chapters share, or one that differs from it in ``changes`` only.

    ``changes`` are arguments of :func:`~mlpstudy.experiments.pretraining.pretraining_run`.
    """
    settings = dict(model=profile.small_model) | PRETRAINING[profile.key]
    if examples := settings.get("examples"):  # each seed draws its own images
        settings["data"] = data(profile, profile.upstream, examples=examples, draw=seed + 1)
    return pretraining_run(profile, seed, **settings | changes)


def tuning_probe(profile: Profile, upstream: TrainSpec) -> ProbeSpec:
    """The probe to choose a setting by: scored on held-out training images, so test images decide nothing."""
    tested = probe(profile, upstream, upstream.seed)
    held_out = catalog.find(tested.data.name).train // TUNING_SHARE
    return replace(tested, data=replace(tested.data, held_out=held_out))


def is_tuning(record: Record) -> bool:
    """Whether a run is a probe scored on held-out training images, to choose a setting by."""
    return isinstance(record.spec, ProbeSpec) and record.spec.data.held_out is not None


def probes(records: Iterable[Record], *, tuning: bool = False) -> list[Record]:
    """The completed probes scored on test images, or with ``tuning`` those to choose settings by."""
    return [r for r in completed(records) if isinstance(r.spec, ProbeSpec) and is_tuning(r) == tuning]


def rate(record: Record) -> float:
    """The learning rate of the pre-training behind a probe."""
    return record.spec.upstream.optimizer.lr


def ranked_rates(tuned: Iterable[Record]) -> list[float]:
    """Learning rates by their mean accuracy on held-out images, the best one first.

    Rates are compared on the seeds that were run at all of them: empty if there is no such seed. A rate at
    which some seeds diverged loses to one at which none did. Of equally good rates the smallest is first.

    Args:
        tuned: tuning probes, including diverged ones, of networks that differ in learning rate and seed only.
    """
    groups = group_by(sorted(tuned, key=rate), rate)
    seeds = set.intersection(*({r.spec.seed for r in g} for g in groups.values())) if groups else set()
    scores = {}
    for lr, group in groups.items():
        of_seed = {record.spec.seed: record for record in group}
        values = [accuracy(record) for record in completed(of_seed[seed] for seed in sorted(seeds))]
        if values:
            scores[lr] = len(values), math.fsum(values) / len(values)
    return sorted(scores, key=scores.get, reverse=True)


def best_rate(tuned: Iterable[Record]) -> float | None:
    """The first of :func:`ranked_rates`, None without any."""
    return next(iter(ranked_rates(tuned)), None)


def at_end(tuned: Iterable[Record]) -> str:
    """A warning where the best learning rate is the lowest or the highest that was tried; else nothing."""
    tuned = list(tuned)
    tried = set(map(rate, tuned))
    return ", the end of its grid" if best_rate(tuned) in (min(tried), max(tried)) else ""


def probe_title(record: Record) -> str:
    """The heading of a column of probe accuracies."""
    title = f"{DATASET_TITLES[record.spec.data.name]}, linear probe"
    return f"{title}, held out" if is_tuning(record) else title


def setting(group: Sequence[Record]) -> str:
    """What a number was measured on, in a few words: network, length and data of the pre-training."""
    spec = group[0].spec
    trained = spec.upstream if isinstance(spec, ProbeSpec) else spec
    epochs = getattr(spec, "epoch", None) or trained.epochs
    da = "" if trained.augment.any else ", no DA"
    return f"{trained.model}, {count(epochs, 'epoch')} on {task_title(task(trained))}{da}"
