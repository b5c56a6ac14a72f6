"""Label smoothing in pre-training (Table 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlplib.specs import ProbeSpec, RunSpec
from mlplib.store import Record

from ..claims import LITTLE, Judgement, judge, not_tested, positive
from ..profiles import Profile
from . import base
from .choices import AFTERTHOUGHT, OVERFIT, probe_title, probes, setting, variant
from .pretraining import probe

TITLE = "Label smoothing"
ITEMS = ("Table 7",)
AMOUNTS = (0.0, 0.1, 0.3)
"""The amounts in Table 7; the paper pre-trains with 0.3."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """Pre-training with each amount of label smoothing, otherwise the same, and a linear probe of each.

    Profile ``laptop`` pre-trains without DA: smoothing regularizes, as DA does.
    """
    settings = OVERFIT.get(profile.key, {})
    trained = [variant(profile, s, **settings, label_smoothing=amount) for amount in AMOUNTS for s in seeds]
    return [run for upstream in trained for run in (upstream, probe(profile, upstream, upstream.seed))]


def amount(record: Record) -> float:
    """The label smoothing of a pre-training, or of the one behind a probe."""
    spec = record.spec
    return (spec.upstream if isinstance(spec, ProbeSpec) else spec).label_smoothing


def _is_probe(record: Record) -> bool:
    return isinstance(record.spec, ProbeSpec)


def _column(record: Record) -> str:
    """The column of the table: a probe on other data, or pre-training's own test accuracy."""
    pretrained = f"{base.DATASET_TITLES[record.spec.data.name]}, pre-training"
    return probe_title(record) if _is_probe(record) else pretrained


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 7: accuracy of linear probes, and test accuracy on the pre-training data itself, in percent."""
    ordered = sorted(base.completed(records), key=lambda r: (amount(r), not _is_probe(r)))
    groups = base.group_by(ordered, lambda r: (f"label smoothing {amount(r):.1f}", _column(r)))
    return base.mean_cells("Table 7", groups, setting)


@base.dataframe
def values(records: Sequence[Record]) -> Iterator[dict]:
    """Accuracy of a linear probe on other data (left) and test accuracy on the pre-training data (right), for
    each amount of label smoothing in pre-training. Small dots are seeds, large dots means over seeds, bars
    their 95 % intervals where there are several seeds.
    """
    for record in sorted(base.completed(records), key=lambda r: (not _is_probe(r), amount(r))):
        yield base.accuracy_row(record, panel=_column(record), setting=f"{amount(record):.1f}")


FIGURES = {
    "smoothing": base.Figure(
        data=values,
        draw=base.plot("choices.settings", label="accuracy (%)", y_label="label smoothing"),
        alt="Dot plots of accuracy for label smoothing 0.0, 0.1 and 0.3: of a linear probe on other data, "
        "and on the data of pre-training.",
    )
}


def compared(records: Sequence[Record]) -> tuple[dict[float, list[Record]], dict[float, list[Record]]]:
    """The probes of networks pre-trained with label smoothing, by its amount, and of those without."""
    groups = base.group_by(probes(records), amount)
    none, *smoothed = (groups.get(a, []) for a in AMOUNTS)
    return dict(zip(AMOUNTS[1:], smoothed, strict=True)), dict.fromkeys(AMOUNTS[1:], none)


@base.claim("C14", "Table 7", "Label smoothing helps, modestly.", "long pre-training", AFTERTHOUGHT)
def c14(records: Sequence[Record]) -> Judgement:
    """Test accuracy of a linear probe on the downstream data, networks pre-trained with label smoothing 0.1
    and 0.3 each minus those without, paired by seed, is above 0 for both. The effect tells how modest it is:
    no size is required, and 0.2 points are enough.
    """
    smoothed, none = compared(records)
    gains = base.effects(smoothed, none)
    if len(gains) < len(smoothed):
        return not_tested("needs probes of networks pre-trained with and without label smoothing")
    unit = "points over no smoothing"
    parts = [positive(gain, unit, f"smoothing {a:g}", least=LITTLE) for a, gain in gains.items()]
    return judge(parts)


CLAIMS = (c14,)
