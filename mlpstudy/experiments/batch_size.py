"""Batch size in pre-training (Fig 5), separated from the number of updates and the best learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlplib.specs import ProbeSpec, TrainSpec
from mlplib.store import Record

from .. import cost
from ..claims import Judgement, judge, not_tested, positive
from ..profiles import Profile
from ..stats import Estimate
from ..words import count, interval
from . import base
from .choices import at_end, best_rate, is_tuning, probe_title, probes, rate, tuning_probe
from .pretraining import epochs, pretraining_run, probe

TITLE = "Batch size"
ITEMS = ("Fig 5",)


@dataclass(frozen=True)
class Budget:
    """What this chapter runs at one profile.

    ``batches``: the batch sizes, smallest first, each twice the one before. ``lengths``: numbers of epochs
    after which every run is probed, each twice the one before, so that every smaller batch has a length with
    as many updates as the largest batch has at its end. ``tuned``: the batch sizes whose learning rate is
    chosen among ``rates``, which include the profile's own.
    """

    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    tuned: tuple[int, ...]
    rates: tuple[float, ...]


LARGE_BATCHES = (1024, 2048, 4096, 8192, 16384)
LARGE_RATES = (1e-5, 5e-5, 2.5e-4)

BUDGETS = {
    "smoke": Budget((32, 64, 128), (1, 2, 4), (32, 128), (2e-3, 5e-3)),
    "laptop": Budget((512, 1024, 2048), (1, 2, 4), (512, 2048), (5e-5, 2e-4, 8e-4)),
    "gpu": Budget(LARGE_BATCHES, (5, 10, 20, 40, 80), LARGE_BATCHES, LARGE_RATES),
    "paper": Budget(LARGE_BATCHES, (50, 100, 200, 400, 800), LARGE_BATCHES, LARGE_RATES),
}
"""By profile. Of Fig 5's batch sizes only the largest, 16,384, is known; the lengths of ``paper`` are
those of the paper's scaling plots."""


def training_run(profile: Profile, seed: int, batch_size: int, lr: float | None = None) -> TrainSpec:
    """The pre-training behind one batch size of Fig 5, at the paper's one learning rate or at ``lr``.

    The paper's rate is constant, so the weights kept during training are those of shorter runs. At another
    rate only the final weights are used.
    """
    lengths = BUDGETS[profile.key].lengths
    kept = {} if lr else {"keep_at": lengths[:-1]}
    settings = dict(model=profile.small_model, batch_size=batch_size, epochs=lengths[-1], lr=lr)
    return pretraining_run(profile, seed, **settings, **kept)


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """Linear probes of every batch size at every length, and of some batch sizes at other learning rates.

    Networks among which a learning rate is chosen are also probed on held-out training images.
    """
    budget = BUDGETS[profile.key]
    found = []
    for seed in seeds:
        for batch_size in budget.batches:
            line = training_run(profile, seed, batch_size)
            found += [probe(profile, line, seed, epoch=epoch) for epoch in (*budget.lengths[:-1], None)]
            if batch_size not in budget.tuned:
                continue
            found.append(tuning_probe(profile, line))
            for lr in budget.rates:
                if lr != profile.learning_rate:
                    other = training_run(profile, seed, batch_size, lr)
                    found += [probe(profile, other, seed), tuning_probe(profile, other)]
    return found


def batch(record: Record) -> int:
    """The batch size of the pre-training behind a probe."""
    return record.spec.upstream.batch_size


def updates(record: Record) -> int:
    """How many updates a network has had when it is probed; incomplete batches are left out."""
    spec = record.spec.upstream
    return cost.training_images(spec) // spec.batch_size * epochs(record)


def lines(records: Sequence[Record]) -> dict[tuple[int, int], list[Record]]:
    """The probes at the paper's one learning rate, by batch size and number of epochs."""
    on_lines = (r for r in probes(records) if r.spec.upstream.keep_at)
    return dict(sorted(base.group_by(on_lines, lambda r: (batch(r), epochs(r))).items()))


def _tuned(records: Sequence[Record]) -> dict[int, list[Record]]:
    """The probes on held-out images by batch size."""
    return dict(sorted(base.group_by(filter(is_tuning, records), batch).items()))


def best_rates(records: Sequence[Record]) -> dict[int, float]:
    """The best learning rate on held-out images by batch size, for those batch sizes that have one."""
    found = {size: best_rate(group) for size, group in _tuned(records).items()}
    return {size: best for size, best in found.items() if best is not None}


def at_best_rates(records: Sequence[Record]) -> dict[int, list[Record]]:
    """The probes on test images at the end of pre-training at each batch size's best learning rate."""
    ends = base.group_by((r for r in probes(records) if r.spec.epoch is None), lambda r: (batch(r), rate(r)))
    return {size: ends.get((size, best), []) for size, best in best_rates(records).items()}


def at_equal_updates(records: Sequence[Record]) -> dict[int, list[Record]]:
    """For each batch size the probes after as many updates as the largest has had at its end.

    A smaller batch gets there in proportionally fewer epochs.
    """
    found = lines(records)
    if not found:
        return {}
    largest, longest = max(size for size, _ in found), max(length for _, length in found)
    return {size: group for (size, length), group in found.items() if length * largest == longest * size}


def at_equal_epochs(records: Sequence[Record]) -> dict[int, list[Record]]:
    """For each batch size the probes at the end of pre-training."""
    found = lines(records)
    longest = max((length for _, length in found), default=0)
    return {size: group for (size, length), group in found.items() if length == longest}


COMPARISONS = {
    "equal epochs": at_equal_epochs,
    "equal updates": at_equal_updates,
    "equal epochs, tuned rates": at_best_rates,
}
"""The three ways in which batch sizes are compared, and the probes of each by batch size."""


def compared(records: Sequence[Record]) -> tuple[tuple[int, int], int]:
    """The smallest and the largest batch size and the number of epochs that C09 compares.

    They are those of the budget that the runs belong to, found by their lengths and batch sizes: if records
    are incomplete, the largest batch among them need not be the budget's. Zeros if no budget matches.
    """
    runs = {((*r.spec.upstream.keep_at, r.spec.upstream.epochs), batch(r)) for r in probes(records)}
    for budget in BUDGETS.values():
        if any((budget.lengths, size) in runs for size in budget.batches):
            return (budget.batches[0], budget.batches[-1]), budget.lengths[-1]
    return (0, 0), 0


def _setting(group: Sequence[Record]) -> str:
    return f"{group[0].spec.upstream.model}, {updates(group[0]):,} updates"


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Accuracy of linear probes in percent: the lines of Fig 5, and every learning rate that was tried."""
    groups = {}
    for (size, length), group in lines(records).items():
        groups[f"batch {size:,}, {count(length, 'epoch')}", probe_title(group[0])] = group
    for tuning in (False, True):
        tried = [r for r in probes(records, tuning=tuning) if tuning or not r.spec.upstream.keep_at]
        for (size, lr), group in sorted(base.group_by(tried, lambda r: (batch(r), rate(r))).items()):
            row = f"batch {size:,}, {epochs(group[0])} epochs, learning rate {lr:g}"
            groups[row, probe_title(group[0])] = group
    return base.mean_cells("Fig 5", groups, _setting)


def _row(record: Record, series: str) -> dict:
    return {
        "series": series,
        "batch": batch(record),
        "epochs": epochs(record),
        "learning_rate": rate(record),
        "updates": updates(record),
        "seed": record.spec.seed,
        "error": 100 - base.accuracy(record),
        "data": base.DATASET_TITLES[record.spec.data.name],
        "run": record.id,
    }


@base.dataframe
def length_lines(records: Sequence[Record]) -> Iterator[dict]:
    """Error of a linear probe on other data against the batch size of pre-training, one line for each number
    of epochs, all at one learning rate; both axes logarithmic, as in the paper's Fig 5. Lines join means over
    seeds, small dots are seeds.
    """
    for (_, length), group in sorted(lines(records).items(), key=lambda item: item[0][::-1]):
        yield from (_row(record, count(length, "epoch")) for record in group)


@base.dataframe
def comparison_lines(records: Sequence[Record]) -> Iterator[dict]:
    """The same error when batch sizes are compared in three ways: after equally many epochs at one learning
    rate, as in Fig 5; after equally many updates, so that a larger batch sees more images; and after equally
    many epochs with the learning rate that is best for each batch size on held-out images. Lines join means
    over seeds, small dots are seeds.
    """
    for name, pick in COMPARISONS.items():
        for group in pick(records).values():
            yield from (_row(record, name) for record in group)


FIGURES = {
    "batch-size": base.Figure(
        data=length_lines,
        draw=base.plot("choices.error_lines", ordered=True),
        alt="Line chart with logarithmic axes of linear-probe error against pre-training batch size, "
        "one line for each number of epochs.",
    ),
    "batch-size-apart": base.Figure(
        data=comparison_lines,
        draw=base.plot("choices.error_lines", ordered=False),
        alt="Line chart with logarithmic axes of linear-probe error against batch size: at equal epochs, at "
        "equal updates, and at equal epochs with tuned learning rates.",
    ),
}


@base.claim(
    "C09",
    "Fig 5",
    "Larger pre-training batches transfer better at equal epochs.",
    "pre-training on millions of images",
)
def c09(records: Sequence[Record]) -> Judgement:
    """Test accuracy of a linear probe on the downstream data, paired by seed, largest batch size minus
    smallest, both pre-trained for the same number of epochs (the longest) at the paper's one learning rate,
    is above 0. Shown with the verdict, without changing it: the difference at equal updates, and that with
    the learning rate that has the highest mean accuracy over seeds on held-out downstream training images,
    chosen for each batch size.
    """
    groups = {name: pick(records) for name, pick in COMPARISONS.items()}
    ends, longest = compared(records)
    smallest, largest = ends

    def gain(name: str) -> Estimate | None:
        return base.effect(groups[name].get(largest, []), groups[name].get(smallest, []))

    ended = groups["equal epochs"]
    found = gain("equal epochs") if all(epochs(group[0]) == longest for group in ended.values()) else None
    if found is None:
        asked = (
            f"{smallest:,} and {largest:,}, for {longest} epochs" if longest else "two sizes, equally long"
        )
        return not_tested(f"needs pre-training with batches of {asked}, with one seed at least")
    notes = {name: gain(name) for name in list(COMPARISONS)[1:]}
    note = "; ".join(f"at {name}: {interval(e) if e else 'not measured'}" for name, e in notes.items())
    best, tuned = best_rates(records), _tuned(records)
    rates = [f"{best[size]:g} for {size:,}{at_end(tuned[size])}" for size in best if size in ends]
    note += f" (learning rates: {'; '.join(rates)})" if rates else ""
    part = positive(found, f"points, batch {largest:,} over {smallest:,}")
    return judge([part], note)


CLAIMS = (c09,)
