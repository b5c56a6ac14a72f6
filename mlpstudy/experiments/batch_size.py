"""Batch size in pre-training (Fig 5), apart from what changes with it: updates and the best learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlplib.specs import ProbeSpec, TrainSpec
from mlplib.stats import Estimate
from mlplib.store import Record

from ..claims import Claim, Judgement, judge_sign, not_tested
from ..profiles import Profile
from .base import DATASET_TITLES, Cell, Figure, accuracy, effect, run_ids, seeds_cell
from .choices import best_rate, in_words, probe_title, probes, rate, tuning_probe, tuning_probes
from .pretraining import pretraining_run, probe

TITLE = "Batch size"
ITEMS = ("Fig 5",)


@dataclass(frozen=True)
class Budget:
    """``batches``: the batch sizes, smallest first, each twice the one before. ``lengths``: numbers of epochs
    at which every run is probed, each twice the one before: so the largest batch has taken as many updates
    after all of them as each smaller one after the right part. ``tuned``: batch sizes whose learning rate is
    chosen among ``rates``, which hold the profile's own.
    """

    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    tuned: tuple[int, ...]
    rates: tuple[float, ...]


BUDGETS = {
    "smoke": Budget((32, 64, 128), (1, 2, 4), (32, 128), (2e-3, 5e-3)),
    "laptop": Budget((256, 512, 1024, 2048), (1, 2, 4, 8), (256, 2048), (5e-5, 2e-4, 8e-4)),
    "gpu": Budget(
        (1024, 2048, 4096, 8192, 16384),
        (5, 10, 20, 40, 80),
        (1024, 2048, 4096, 8192, 16384),
        (1e-5, 5e-5, 2.5e-4),
    ),
    "paper": Budget(
        (1024, 2048, 4096, 8192, 16384),
        (50, 100, 200, 400, 800),
        (1024, 2048, 4096, 8192, 16384),
        (1e-5, 5e-5, 2.5e-4),
    ),
}
"""By profile. Fig 5's batch sizes are not known to us beyond the largest, 16,384; the lengths of ``paper``
are those of its scaling plots."""


def line_run(profile: Profile, seed: int, batch_size: int) -> TrainSpec:
    """The pre-training behind one batch size of Fig 5, at the paper's one learning rate.

    The rate is constant, so the weights kept on the way are those of the shorter runs.
    """
    lengths = BUDGETS[profile.name].lengths
    return pretraining_run(
        profile,
        seed,
        model=profile.small_model,
        batch_size=batch_size,
        epochs=lengths[-1],
        keep_at=lengths[:-1],
    )


def other_rate_run(profile: Profile, seed: int, batch_size: int, lr: float) -> TrainSpec:
    """The same pre-training at another learning rate, of which only the end counts."""
    epochs = BUDGETS[profile.name].lengths[-1]
    return pretraining_run(
        profile, seed, model=profile.small_model, batch_size=batch_size, epochs=epochs, lr=lr
    )


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """Linear probes of every batch size at every length, and of some batch sizes at other learning rates.

    Networks among which a learning rate is chosen are also probed on held-out training images.
    """
    budget = BUDGETS[profile.name]
    found = []
    for seed in seeds:
        for batch_size in budget.batches:
            line = line_run(profile, seed, batch_size)
            found += [probe(profile, line, seed, epoch=epoch) for epoch in (*budget.lengths[:-1], None)]
            if batch_size not in budget.tuned:
                continue
            found.append(tuning_probe(profile, line))
            for lr in budget.rates:
                if lr != profile.pretrain_lr:
                    other = other_rate_run(profile, seed, batch_size, lr)
                    found += [probe(profile, other, seed), tuning_probe(profile, other)]
    return found


# --------------------------------------------------------------------------- picking records


def batch(record: Record) -> int:
    """The batch size of the pre-training behind a probe."""
    return record.spec.upstream.batch_size


def epochs(record: Record) -> int:
    """How many epochs of pre-training a probe sees."""
    return record.spec.epoch or record.spec.upstream.epochs


def updates(record: Record) -> int:
    """How many updates a network has had when it is probed; incomplete batches are left out."""
    from mlplib.data import catalog

    spec = record.spec.upstream
    images = spec.data.examples or catalog.find(spec.data.name).train
    return images // spec.batch_size * epochs(record)


def lines(records: Sequence[Record]) -> dict[tuple[int, int], list[Record]]:
    """The probes at the paper's one learning rate, by batch size and number of epochs."""
    found: dict[tuple[int, int], list[Record]] = {}
    for record in probes(records):
        if record.spec.upstream.keep_at:
            found.setdefault((batch(record), epochs(record)), []).append(record)
    return dict(sorted(found.items()))


def best_rates(records: Sequence[Record]) -> dict[int, float]:
    """The learning rate that held-out images speak for, by batch size; without those where none does."""
    tuned = tuning_probes(records)
    sizes = sorted({*map(batch, tuned)})
    found = {size: best_rate(r for r in tuned if batch(r) == size) for size in sizes}
    return {size: best for size, best in found.items() if best is not None}


def at_best_rates(records: Sequence[Record]) -> dict[int, list[Record]]:
    """The probes on test images at the end of pre-training at each batch size's best learning rate."""
    ends = [r for r in probes(records) if r.spec.epoch is None]
    return {
        size: [r for r in ends if batch(r) == size and rate(r) == best]
        for size, best in best_rates(records).items()
    }


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


def asked_for(records: Sequence[Record]) -> tuple[tuple[int, int], int]:
    """The smallest and the largest batch size and the number of epochs that the runs are to be compared at.

    They are those of the budget that the runs belong to, told by the lengths along them: where records are
    incomplete, the largest of them need not be the largest there is. Zeros where no budget has such runs.
    """
    lengths = {(*r.spec.upstream.keep_at, r.spec.upstream.epochs) for r in probes(records)}
    for budget in BUDGETS.values():
        if budget.lengths in lengths:
            return (budget.batches[0], budget.batches[-1]), budget.lengths[-1]
    return (0, 0), 0


def gain(groups: dict[int, list[Record]], smallest: int, largest: int) -> Estimate | None:
    """Accuracy of the largest batch size minus that of the smallest in points; None where one is missing."""
    if smallest == largest or not {smallest, largest} <= groups.keys():
        return None
    return effect(groups[largest], groups[smallest])


# --------------------------------------------------------------------------- table


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Accuracy of linear probes in percent: the lines of Fig 5, and every learning rate that was tried."""
    cells = []
    for (size, length), group in lines(records).items():
        row = f"batch {size:,}, {length} epoch{'s' * (length > 1)}"
        about = f"{group[0].spec.upstream.model}, {updates(group[0]):,} updates"
        cells += seeds_cell("Fig 5", row, probe_title(group[0]), group, accuracy, "%", about)
    for tuning in (False, True):
        cells += _rate_cells(records, tuning)
    return cells


def _rate_cells(records: Sequence[Record], tuning: bool) -> list[Cell]:
    rows: dict[tuple[int, float], list[Record]] = {}
    for record in probes(records, tuning=tuning):
        if tuning or not record.spec.upstream.keep_at:
            rows.setdefault((batch(record), rate(record)), []).append(record)
    cells = []
    for (size, lr), group in sorted(rows.items()):
        row = f"batch {size:,}, {epochs(group[0])} epochs, learning rate {lr:g}"
        title = probe_title(group[0]) + (", held out" if tuning else "")
        about = f"{group[0].spec.upstream.model}, {updates(group[0]):,} updates"
        cells += seeds_cell("Fig 5", row, title, group, accuracy, "%", about)
    return cells


# --------------------------------------------------------------------------- figures


def _row(record: Record, series: str) -> dict:
    return {
        "series": series,
        "batch": batch(record),
        "epochs": epochs(record),
        "learning_rate": rate(record),
        "updates": updates(record),
        "seed": record.spec.seed,
        "error": 100 - accuracy(record),
        "data": DATASET_TITLES[record.spec.data.name],
        "run": record.id,
    }


def length_lines(records: Sequence[Record]):
    """Error of every probe at the paper's one learning rate, in percent; a series for each length."""
    import pandas as pd

    found = sorted(lines(records).items(), key=lambda item: (item[0][1], item[0][0]))
    name = "{} epoch{}".format
    return pd.DataFrame(
        [_row(r, name(length, "s" * (length > 1))) for (_, length), group in found for r in group]
    )


def comparison_lines(records: Sequence[Record]):
    """Error in percent in each of the three comparisons, a series each."""
    import pandas as pd

    rows = [
        _row(record, name)
        for name, pick in COMPARISONS.items()
        for group in pick(records).values()
        for record in group
    ]
    return pd.DataFrame(rows)


def draw_lengths(frame, records, folder):
    """Fig 5: one line for each number of epochs, in shades."""
    from ..plots import choices as draw

    return draw.error_lines(frame, ordered=True)


def draw_comparisons(frame, records, folder):
    """One line for each way to compare."""
    from ..plots import choices as draw

    return draw.error_lines(frame, ordered=False)


FIGURES = {
    "batch-size": Figure(
        data=length_lines,
        draw=draw_lengths,
        caption=(
            "Error of a linear probe on other data against the batch size of pre-training, one line for each "
            "number of epochs, all at one learning rate; both axes logarithmic, as in the paper's Fig 5. "
            "Lines join means over seeds, small dots are seeds."
        ),
        alt=(
            "Line chart with logarithmic axes of linear-probe error against pre-training batch size, "
            "a line for each number of epochs."
        ),
    ),
    "batch-size-apart": Figure(
        data=comparison_lines,
        draw=draw_comparisons,
        caption=(
            "The same error when batch sizes are compared in three ways: after equally many epochs at one "
            "learning rate, as in Fig 5; after equally many updates, so that a larger batch sees more "
            "images; and after equally many epochs with the learning rate that is best for each batch size "
            "on held-out images. Lines join means over seeds, small dots are seeds."
        ),
        alt=(
            "Line chart with logarithmic axes of linear-probe error against batch size: at equal epochs, at "
            "equal updates, and at equal epochs with tuned learning rates."
        ),
    ),
}


# --------------------------------------------------------------------------- claims


def judge_c09(records: Sequence[Record]) -> Judgement:
    """Largest minus smallest batch size at equal epochs; the note has the other two comparisons."""
    groups = {name: pick(records) for name, pick in COMPARISONS.items()}
    ends, longest = asked_for(records)
    sizes = {size: group for size, group in groups["equal epochs"].items() if epochs(group[0]) == longest}
    found = gain(sizes, *ends)
    if found is None:
        asked = f"{ends[0]:,} and {ends[1]:,}, for {longest} epochs" if longest else "two sizes, equally long"
        return not_tested(f"needs pre-training with batches of {asked}, with one seed at least")
    note = "; ".join(_in_note(name, gain(groups[name], *ends)) for name in list(COMPARISONS)[1:])
    rates = ", ".join(f"{lr:g} for {size:,}" for size, lr in best_rates(records).items() if size in ends)
    note += f" (learning rates: {rates})" if rates else ""
    unit = f"points, batch {ends[1]:,} over {ends[0]:,}"
    return Judgement(judge_sign(found), found, unit, note, run_ids(records))


def _in_note(name: str, found: Estimate | None) -> str:
    return f"at {name}: " + ("not measured" if found is None else f"{in_words(found)} ({judge_sign(found)})")


CLAIMS = (
    Claim(
        "C09",
        "Larger pre-training batches transfer better at equal epochs.",
        "Fig 5",
        "Test accuracy of a linear probe on the downstream data, paired by seed, largest batch size minus "
        "smallest, both pre-trained for the same number of epochs (the longest) at the paper's one learning "
        "rate: reproduced if the whole 95 % interval is above 0, else not. Judged in the same way and told "
        "with the verdict, without changing it: the difference at equal updates, and that with the learning "
        "rate that has the highest mean accuracy over seeds on held-out downstream training images, chosen "
        "for each batch size.",
        judge_c09,
    ),
)
