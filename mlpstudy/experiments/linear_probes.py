"""Linear probes (Table 8): what a linear map can read from frozen features and from two controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mlplib.specs import PROBES, FineTuneSpec, ProbeSpec, RunSpec, TrainSpec
from mlplib.store import Record

from ..claims import Judgement, judge, not_tested, positive
from ..profiles import Profile
from ..stats import Estimate
from ..words import interval
from . import base
from .pretraining import (
    by_judged_task,
    fine_tune,
    from_scratch,
    judged_data,
    pretraining_run,
    probe,
    task,
    task_title,
)
from .transfer import AFTERTHOUGHT, SCALE, SCRATCH, WITH_DA, WITHOUT_DA, checkpoint_labels, checkpoint_of

if TYPE_CHECKING:  # planning does without torch, which it imports
    from mlplib.official import Checkpoint

TITLE = "Linear probes"
ITEMS = ("Table 8",)

PIXELS, RANDOM = "pixels", "random weights"
FEATURES = (PIXELS, RANDOM, WITHOUT_DA, WITH_DA)
"""What is probed: two controls, and the features of two pre-trained networks."""
CONTROLS = (PIXELS, RANDOM)

TUNED = "fine-tuned"
REFERENCES = (SCRATCH, TUNED)
"""The same network trained whole on the downstream data: from random weights, or from those with DA."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """For every downstream task that claims are judged by, both probes of the pixels, of the network with
    random weights, and of the networks pre-trained without and with DA; also the last one fine-tuned and
    trained from scratch.

    Probes of the same features follow each other, so that features are computed once.
    """
    specs: list[RunSpec] = []
    for seed in seeds:
        with_da = pretraining_run(profile, seed)
        without_da = pretraining_run(profile, seed, da=False)
        for where in judged_data(profile, seed):
            for upstream, epoch in ((None, None), (with_da, 0), (without_da, None), (with_da, None)):
                specs += [probe(profile, upstream, seed, where, epoch=epoch, method=m) for m in PROBES]
            tuned = fine_tune(profile, with_da, seed, where)
            specs += [from_scratch(profile, tuned), tuned]
    return specs


def checkpoint_runs(profile: Profile, seeds: Sequence[int], found: Iterable[Checkpoint]) -> list[RunSpec]:
    """Both probes of every official checkpoint on every downstream data set, at the checkpoint's own size."""
    return [
        probe(profile, checkpoint.spec, seed, checkpoint.data(name), method=method)
        for seed in seeds
        for checkpoint in found
        for name in profile.downstream
        for method in PROBES
    ]


def features(spec: RunSpec) -> str | None:
    """Which of :data:`FEATURES` a probe reads; None for an official checkpoint's and for other runs."""
    if not isinstance(spec, ProbeSpec) or checkpoint_of(spec):
        return None
    if spec.upstream is None:
        return PIXELS
    if spec.epoch == 0:
        return RANDOM
    return WITH_DA if spec.upstream.augment.any else WITHOUT_DA


def reference(spec: RunSpec) -> str | None:
    """Which of :data:`REFERENCES` a run is, None for a probe."""
    return {TrainSpec: SCRATCH, FineTuneSpec: TUNED}.get(type(spec))


def _method(spec: RunSpec) -> str:
    return spec.method if isinstance(spec, ProbeSpec) else "whole network"


def _naming(records: Iterable[Record]) -> Callable[[RunSpec], str]:
    """Names of what runs read or are: features, official checkpoints, or networks trained whole."""
    labels = checkpoint_labels(records)
    return lambda spec: features(spec) or labels.get(checkpoint_of(spec)) or reference(spec)


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 8: test accuracy in percent, mean over seeds; the networks trained whole come last."""
    name, cells = _naming(records), []
    order = [*FEATURES, *checkpoint_labels(records).values(), *REFERENCES]

    def place(record: Record) -> tuple[int, str]:
        return order.index(name(record.spec)), _method(record.spec)

    for where, here in base.group_by(records, lambda r: task(r.spec)).items():
        groups = sorted(base.group_by(here, place).items())
        rows = {
            (f"{order[i]}, {how}" + " probe" * (how in PROBES), task_title(where)): group
            for (i, how), group in groups
        }
        cells += base.mean_cells("Table 8", rows, _setting)
    return cells


def _setting(group: Sequence[Record]) -> str:
    """What ran, in a few words."""
    spec = group[0].spec
    if not isinstance(spec, ProbeSpec):
        return base.trained(group)
    how = "closed form" if spec.method == "ridge" else f"{spec.epochs} epochs"
    if not isinstance(spec.upstream, TrainSpec):
        return how
    source = "" if spec.epoch == 0 else f", {base.DATASET_TITLES[spec.upstream.data.name]}"
    return f"{spec.upstream.model}{source}; {how}"


@base.dataframe
def accuracies(records: Sequence[Record]) -> Iterator[dict]:
    """Test accuracy of linear classifiers on frozen features, trained by gradient descent (linear) or solved
    in closed form (ridge), one dot per seed. The first two rows are controls that never saw an upstream
    image. Vertical lines: the same network with all its weights trained on the downstream data, from scratch
    and fine-tuned.
    """
    name = _naming(records)
    for record in base.completed(records):
        spec = record.spec
        columns = {"data": task_title(task(spec)), "features": name(spec), "method": _method(spec)}
        yield base.accuracy_row(record, **columns)


@base.dataframe
def spread(records: Sequence[Record]) -> Iterator[dict]:
    """In how many directions the features of the downstream training images vary: the participation ratio of
    their covariance, one dot per seed. The data file also has the number of features and the share of those
    that never vary.
    """
    name = _naming(records)
    for record in base.completed(records):
        if "directions" in record.history:
            yield {
                "data": task_title(task(record.spec)),
                "features": name(record.spec),
                "seed": record.spec.seed,
                "directions": record.history["directions"][0],
                "of": record.compute["features"],
                "constant": record.history["constant"][0],
                "run": record.id,
            }


FIGURES = {
    "probes": base.Figure(
        data=accuracies,
        draw=base.plot("transfer.probes"),
        alt="Dot plot of the accuracy of linear and ridge probes on pixels, random features and pre-trained "
        "features, with lines for training the whole network.",
    ),
    "directions": base.Figure(
        data=spread,
        draw=base.plot("transfer.directions"),
        alt="Dot plot of the number of directions for each kind of features.",
    ),
}


def _over(records: Sequence[Record], method: str, names: Sequence[str]) -> dict[str, Estimate]:
    """The features with DA on one task minus each of ``names``, in points, by a probe's method."""

    def key(record: Record) -> str | None:
        return reference(record.spec) or (features(record.spec) if record.spec.method == method else None)

    groups = base.group_by(records, key)
    return base.effects(dict.fromkeys(names, groups.get(WITH_DA, [])), groups)


def _disagreement(records: Sequence[Record]) -> float:
    """The largest distance between the two probes of the same features and seed, in points."""

    def key(record: Record) -> tuple | None:
        spec = record.spec
        return (features(spec), spec.data, spec.seed) if features(spec) else None

    pairs = (list(map(base.accuracy, pair)) for pair in base.group_by(base.completed(records), key).values())
    return max((max(pair) - min(pair) for pair in pairs), default=0.0)


@base.claim(
    "C17",
    "Table 8",
    "Linear probes are strong: a linear map reads much from the frozen features.",
    SCALE,
    AFTERTHOUGHT
    + " That the probe also had to beat training from scratch was dropped: the sentence does not say so.",
)
def c17(records: Sequence[Record]) -> Judgement:
    """For each downstream task (every data set; where networks learn from few images, 200 and 1,000 of them)
    and both probes (the paper's and the ridge probe), test accuracy of the probe of features pre-trained with
    DA minus that of the same probe of raw pixels, and of the network with random weights, paired by seed, is
    above 0. The distances to training from scratch and to fine-tuning are reported and decide nothing.
    """
    own = [r for r in records if checkpoint_of(r.spec) is None]
    tasks = {task_title(where): here for where, here in by_judged_task(own).items()}
    over = {
        (title, method): _over(here, method, CONTROLS) for title, here in tasks.items() for method in PROBES
    }
    if not over or any(len(found) < len(CONTROLS) for found in over.values()):
        return not_tested("needs both probes of pre-trained features and of both controls")
    parts = [
        positive(effect, "points", f"{method} over {control}, {title}")
        for (title, method), found in over.items()
        for control, effect in found.items()
    ]
    notes = [
        f"{method} over {other} {interval(effect)}, {title}"
        for title, method in over
        for other, effect in _over(tasks[title], method, REFERENCES).items()
    ]
    notes.append(f"in a single run the two probes differ by {_disagreement(own):.1f} points at most")
    return judge(parts, "; ".join(notes))


CLAIMS = (c17,)
