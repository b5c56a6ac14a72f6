"""What the chapters about single choices share: label smoothing, normalization, ablations and batch size.

Each asks what one choice in pre-training does to the features: networks that differ in that choice alone are
pre-trained and then probed on other data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from mlplib.data import catalog
from mlplib.specs import ProbeSpec, TrainSpec
from mlplib.stats import Estimate
from mlplib.store import Record

from ..profiles import Profile
from .base import DATASET_TITLES, accuracy, completed
from .pretraining import pretraining_run, probe

EPOCHS = {"smoke": 2, "laptop": 6, "gpu": 80, "paper": 800}
"""Length of the pre-trainings that differ in one choice, by profile; 800 is the paper's pre-training."""

TUNING_SHARE = 5
"""One in so many downstream training images is held out where a learning rate is chosen."""


def variant(profile: Profile, seed: int, **changes) -> TrainSpec:
    """The pre-training that the chapters have in common, or one that differs from it in ``changes`` alone.

    ``changes`` are arguments of :func:`~mlpstudy.experiments.pretraining.pretraining_run`.
    """
    settings = dict(model=profile.small_model, epochs=EPOCHS[profile.name])
    return pretraining_run(profile, seed, **settings | changes)


def tuning_probe(profile: Profile, upstream: TrainSpec) -> ProbeSpec:
    """The probe to choose a setting by: scored on held-out training images, so test images decide nothing."""
    tested = probe(profile, upstream, upstream.seed)
    held_out = catalog.find(tested.data.name).train // TUNING_SHARE
    return replace(tested, data=replace(tested.data, held_out=held_out))


# --------------------------------------------------------------------------- picking records


def probes(records: Iterable[Record], *, tuning: bool = False) -> list[Record]:
    """The probes that ended well: those scored on test images, or those to choose settings by."""
    return [
        record
        for record in completed(records)
        if isinstance(record.spec, ProbeSpec) and (record.spec.data.held_out is not None) == tuning
    ]


def tuning_probes(records: Iterable[Record]) -> list[Record]:
    """The probes to choose settings by, those that diverged among them."""
    return [r for r in records if isinstance(r.spec, ProbeSpec) and r.spec.data.held_out is not None]


def rate(record: Record) -> float:
    """The learning rate of the pre-training behind a probe."""
    return record.spec.upstream.optimizer.lr


def best_rate(tuned: Iterable[Record]) -> float | None:
    """The learning rate with the highest mean accuracy on held-out images, None without any.

    Rates are compared on the seeds that were run at all of them, None where there is no such seed. A rate at
    which some seeds diverged loses to one at which none did. Of equally good ones the smallest.

    Args:
        tuned: tuning probes of networks that differ in learning rate and seed only, diverged ones among them.
    """
    found: dict[float, dict[int, Record]] = {}
    for record in sorted(tuned, key=rate):
        found.setdefault(rate(record), {})[record.spec.seed] = record
    seeds = set.intersection(*map(set, found.values())) if found else set()
    at_rate = {lr: completed(of_seed[seed] for seed in sorted(seeds)) for lr, of_seed in found.items()}
    values = {lr: [accuracy(record) for record in group] for lr, group in at_rate.items() if group}
    return max(
        values, key=lambda lr: (len(values[lr]), math.fsum(values[lr]) / len(values[lr])), default=None
    )


# --------------------------------------------------------------------------- effects


def in_words(found: Estimate) -> str:
    """An effect with its interval, for a note."""
    interval = "" if found.low is None else f" [{found.low:+.1f}, {found.high:+.1f}]"
    return f"{found.mean:+.1f}{interval}"


# --------------------------------------------------------------------------- words for tables


def probe_title(record: Record) -> str:
    """The heading of a column of probe accuracies."""
    return f"{DATASET_TITLES[record.spec.data.name]}, linear probe"


def setting(record: Record) -> str:
    """What a number was measured on, in a few words: network, length and data of the pre-training."""
    spec = record.spec
    trained = spec.upstream if isinstance(spec, ProbeSpec) else spec
    epochs = getattr(spec, "epoch", None) or trained.epochs
    return f"{trained.model}, {epochs} epoch{'s' * (epochs > 1)} on {DATASET_TITLES[trained.data.name]}"
