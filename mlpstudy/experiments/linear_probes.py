"""Linear probes (Table 8): what a linear map can read from frozen features, and from what is no feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mlplib.official import Checkpoint
from mlplib.specs import PROBES, CheckpointSpec, FineTuneSpec, ProbeSpec, RunSpec, TrainSpec
from mlplib.stats import Estimate, accuracy_difference
from mlplib.store import Record

from ..claims import (
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    VERDICTS,
    Claim,
    Judgement,
    judge_sign,
    not_tested,
    worst,
)
from ..profiles import Profile
from .base import (
    DATASET_TITLES,
    Cell,
    Figure,
    accuracy,
    by_seed,
    completed,
    datasets,
    percent,
    run_ids,
    seeds_cell,
)
from .pretraining import downstream, fine_tune, from_scratch, pretraining_run, probe
from .transfer import checkpoint_labels

TITLE = "Linear probes"
ITEMS = ("Table 8",)

PIXELS, RANDOM = "pixels", "random weights"
WITHOUT_DA, WITH_DA = "pre-trained without DA", "pre-trained with DA"
FEATURES = (PIXELS, RANDOM, WITHOUT_DA, WITH_DA)
"""What is probed: two controls, and the features of two pre-trained networks."""
CONTROLS = (PIXELS, RANDOM)

SCRATCH, TUNED = "from scratch", "fine-tuned"
REFERENCES = (SCRATCH, TUNED)
"""The same network trained whole on the downstream data: from random weights, or from those with DA."""


# --------------------------------------------------------------------------- runs


def runs(profile: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """For every downstream data set both probes of the pixels, of the network with random weights, and of the
    networks pre-trained without and with DA; beside them the last one fine-tuned, and trained from scratch.

    Probes of the same features follow each other: features are computed once.
    """
    specs: list[RunSpec] = []
    for seed in seeds:
        with_da = pretraining_run(profile, seed)
        without_da = pretraining_run(profile, seed, da=False)
        for name in downstream(profile):
            for upstream, epoch in ((None, None), (with_da, 0), (without_da, None), (with_da, None)):
                specs += [probe(profile, upstream, seed, name, epoch=epoch, method=m) for m in PROBES]
            tuned = fine_tune(profile, with_da, seed, name)
            specs += [from_scratch(profile, tuned), tuned]
    return specs


def checkpoint_runs(profile: Profile, seeds: Sequence[int], found: Iterable[Checkpoint]) -> list[RunSpec]:
    """Both probes of every official checkpoint on every downstream data set, at the checkpoint's own size."""
    return [
        replace(probe(profile, checkpoint.spec, seed, name, method=method), data=checkpoint.data(name))
        for seed in seeds
        for checkpoint in found
        for name in downstream(profile)
        for method in PROBES
    ]


# --------------------------------------------------------------------------- picking records


def features(spec: RunSpec) -> str | None:
    """Which of :data:`FEATURES` a probe reads; None for an official checkpoint's and what is no probe."""
    if not isinstance(spec, ProbeSpec) or isinstance(spec.upstream, CheckpointSpec):
        return None
    if spec.upstream is None:
        return PIXELS
    if spec.epoch == 0:
        return RANDOM
    return WITH_DA if spec.upstream.augment.any else WITHOUT_DA


def _checkpoint(spec: RunSpec) -> CheckpointSpec | None:
    upstream = getattr(spec, "upstream", None)
    return upstream if isinstance(upstream, CheckpointSpec) else None


def _reference(spec: RunSpec) -> str | None:
    """Which of :data:`REFERENCES` a run is, None for a probe."""
    return {TrainSpec: SCRATCH, FineTuneSpec: TUNED}.get(type(spec))


def _on(records: Iterable[Record], dataset: str) -> list[Record]:
    return [r for r in records if r.spec.data.name == dataset]


def _probes(records: Iterable[Record], read: str, method: str) -> list[Record]:
    return [r for r in records if features(r.spec) == read and r.spec.method == method]


# --------------------------------------------------------------------------- table


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Table 8: test accuracy in percent, mean over seeds; the networks trained whole come last."""
    cells: list[Cell] = []
    labels = checkpoint_labels(records, _checkpoint)
    for dataset in datasets(records):
        here, column = _on(records, dataset), DATASET_TITLES[dataset]
        for read in FEATURES:
            for method in PROBES:
                cells += _cell(f"{read}, {method} probe", column, _probes(here, read, method))
        for checkpoint, label in labels.items():
            for method in PROBES:
                group = [r for r in here if _checkpoint(r.spec) == checkpoint and r.spec.method == method]
                cells += _cell(f"{label}, {method} probe", column, group)
        for name in REFERENCES:
            group = [r for r in here if _reference(r.spec) == name]
            cells += _cell(f"{name}, whole network", column, group)
    return cells


def _cell(row: str, column: str, group: Sequence[Record]) -> list[Cell]:
    setting = _setting(group[0].spec) if group else ""
    return seeds_cell("Table 8", row, column, group, accuracy, "%", setting)


def _setting(spec: RunSpec) -> str:
    """What really ran, in a few words."""
    if not isinstance(spec, ProbeSpec):
        model = spec.model if isinstance(spec, TrainSpec) else spec.upstream.model
        return f"{model}, {spec.epochs} epochs"
    how = "closed form" if spec.method == "ridge" else f"{spec.epochs} epochs"
    if not isinstance(spec.upstream, TrainSpec):
        return how
    source = "" if spec.epoch == 0 else f", {DATASET_TITLES[spec.upstream.data.name]}"
    return f"{spec.upstream.model}{source}; {how}"


# --------------------------------------------------------------------------- figure


def accuracies(records: Sequence[Record]):
    """Test accuracy of every probe and of the networks trained whole."""
    import pandas as pd

    labels = checkpoint_labels(records, _checkpoint)
    rows = []
    for record in completed(records):
        spec = record.spec
        read = features(spec) or labels.get(_checkpoint(spec)) or _reference(spec)
        method = spec.method if isinstance(spec, ProbeSpec) else "whole network"
        rows.append(
            {
                "data": DATASET_TITLES[spec.data.name],
                "features": read,
                "method": method,
                "seed": spec.seed,
                "accuracy": accuracy(record),
                "run": record.id,
            }
        )
    return pd.DataFrame(rows, columns=["data", "features", "method", "seed", "accuracy", "run"])


def draw_accuracies(frame, records, folder):
    """One panel a data set: a row a kind of features, a color a probe, lines for networks trained whole."""
    from ..plots import transfer as draw

    whole = frame["method"] == "whole network"
    references = frame[whole].rename(columns={"features": "network"})
    return draw.probes(frame[~whole], references)


def spread(records: Sequence[Record]):
    """In how many directions the features that ridge probes read vary, where their records tell."""
    import pandas as pd

    labels = checkpoint_labels(records, _checkpoint)
    rows = [
        {
            "data": DATASET_TITLES[record.spec.data.name],
            "features": features(record.spec) or labels.get(_checkpoint(record.spec)),
            "seed": record.spec.seed,
            "directions": record.history["directions"][0],
            "of": record.compute["features"],
            "constant": record.history["constant"][0],
            "run": record.id,
        }
        for record in completed(records)
        if "directions" in record.history
    ]
    return pd.DataFrame(rows, columns=["data", "features", "seed", "directions", "of", "constant", "run"])


def draw_spread(frame, records, folder):
    """One panel a data set: a row a kind of features, a dot a seed."""
    from ..plots import transfer as draw

    return draw.directions(frame)


FIGURES = {
    "probes": Figure(
        data=accuracies,
        draw=draw_accuracies,
        caption=(
            "Test accuracy of linear classifiers on frozen features, trained by gradient descent (linear) or "
            "solved in closed form (ridge); a dot is a seed. The first two rows are controls that never saw "
            "an upstream image. Vertical lines: the same network with all its weights trained on the "
            "downstream data, from scratch and fine-tuned."
        ),
        alt=(
            "Dot plot of the accuracy of linear and ridge probes on pixels, random features and pre-trained "
            "features, with lines for training the whole network."
        ),
    ),
    "directions": Figure(
        data=spread,
        draw=draw_spread,
        caption=(
            "In how many directions the features of the downstream training images vary: the participation "
            "ratio of their covariance. A dot is a seed. The table behind it also has the number of features "
            "and the share of those that never vary."
        ),
        alt="Dot plot of the number of directions for each kind of features.",
    ),
}


# --------------------------------------------------------------------------- claim


@dataclass(frozen=True)
class _Case:
    """The features with DA on one data set by one probe, in points over what they are compared with."""

    controls: dict[str, Estimate]
    scratch: Estimate
    tuned: Estimate | None

    @property
    def over_controls(self) -> Estimate:
        """Over the control that it is least above."""
        return min(self.controls.values(), key=_low)

    @property
    def verdict(self) -> str:
        """By the criterion of C17."""
        if any(judge_sign(over) != REPRODUCED for over in self.controls.values()):
            return NOT_REPRODUCED
        return REPRODUCED if judge_sign(self.scratch) == REPRODUCED else PARTLY


def _low(estimate: Estimate) -> float:
    """The lower end of an interval, by which a case is judged; the mean where there is none."""
    return estimate.mean if estimate.low is None else estimate.low


def _case(records: Sequence[Record], method: str) -> _Case | None:
    """Of records of one data set; None where a comparison has no common seed."""
    probed = completed(_probes(records, WITH_DA, method))
    others = {read: _probes(records, read, method) for read in CONTROLS}
    others |= {name: [r for r in records if _reference(r.spec) == name] for name in REFERENCES}
    ours, over = _accuracy_by_seed(probed), {}
    for name, group in others.items():
        theirs = _accuracy_by_seed(group)
        if ours.keys() & theirs.keys():
            over[name] = percent(accuracy_difference(ours, theirs, probed[0].data["test_images"]))
    if not {*CONTROLS, SCRATCH} <= over.keys():
        return None
    return _Case({name: over[name] for name in CONTROLS}, over[SCRATCH], over.get(TUNED))


def _accuracy_by_seed(records: Sequence[Record]) -> dict[int, float]:
    return by_seed(records, lambda r: r.metrics["test_top1"])


def _disagreement(records: Sequence[Record]) -> float:
    """The largest distance between the two probes of the same features and seed, in points."""
    found: dict[tuple, list[float]] = {}
    for record in completed(records):
        if isinstance(record.spec, ProbeSpec) and features(record.spec):
            key = (features(record.spec), record.spec.data, record.spec.seed)
            found.setdefault(key, []).append(accuracy(record))
    return max((max(pair) - min(pair) for pair in found.values()), default=0.0)


def judge_c17(records: Sequence[Record]) -> Judgement:
    """Probes of the features with DA over the controls and over training from scratch."""
    own = [r for r in records if _checkpoint(r.spec) is None]
    cases = {
        (dataset, method): _case(_on(own, dataset), method) for dataset in datasets(own) for method in PROBES
    }
    # A data set needs both probes, since the weaker verdict counts.
    whole = {d for d, _ in cases if None not in (cases[d, method] for method in PROBES)}
    cases = {key: case for key, case in cases.items() if key[0] in whole}
    if not cases:
        return not_tested(
            "needs both probes of pre-trained features and of both controls, and training from scratch"
        )
    judged = list(dict.fromkeys(dataset for dataset, _ in cases))
    verdict = worst([_weaker(case.verdict for (d, _), case in cases.items() if d == name) for name in judged])
    effect = min((case.over_controls for case in cases.values()), key=_low)
    weakest = min(cases.values(), key=lambda case: _low(case.scratch))
    note = (
        f"on {', '.join(DATASET_TITLES[name] for name in judged)} only, smallest case of both probes; "
        f"{weakest.scratch.mean:+.1f} points over training from scratch"
    )
    if weakest.tuned is not None:
        note += f", {weakest.tuned.mean:+.1f} over fine-tuning"
    note += f"; the two probes differ by {_disagreement(own):.1f} points at most"
    return Judgement(verdict, effect, "points over a control", note, run_ids(own))


def _weaker(verdicts: Iterable[str]) -> str:
    return max(verdicts, key=VERDICTS.index)


CLAIMS = (
    Claim(
        "C17",
        "Linear probes are strong: a linear map reads much from the frozen features.",
        "Table 8",
        "For each downstream data set, test accuracy of the probe of features pre-trained with DA, paired by "
        "seed: (1) minus that of the same probe of raw pixels, and of the network with random weights: both "
        "whole 95 % intervals above 0; (2) minus that of the same network trained on the data set from "
        "scratch: the whole interval above 0. A data set counts as reproduced if both hold, as partly "
        "reproduced if only (1) does, and the weaker verdict of the paper's probe and of the ridge probe "
        "counts. The claim is reproduced if all data sets are, not reproduced if none is even partly, else "
        "partly reproduced. The distance to fine-tuning is reported and decides nothing.",
        judge_c17,
    ),
)
