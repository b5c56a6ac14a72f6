"""Label smoothing in pre-training (Table 7)."""

from __future__ import annotations

from collections.abc import Sequence

from mlplib.specs import ProbeSpec, RunSpec
from mlplib.store import Record

from ..claims import Claim, Judgement, judge_sign, not_tested, worst
from ..profiles import Profile
from .base import DATASET_TITLES, Cell, Figure, accuracy, completed, effect, run_ids, seeds_cell
from .choices import in_words, probe_title, probes, setting, variant
from .pretraining import probe

TITLE = "Label smoothing"
ITEMS = ("Table 7",)
AMOUNTS = (0.0, 0.1, 0.3)
"""Those of Table 7; 0.3 is what the paper pre-trains with."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """Pre-training with each amount of label smoothing, else the same, and a linear probe of each network."""
    found: list[RunSpec] = []
    for amount in AMOUNTS:
        for seed in seeds:
            upstream = variant(profile, seed, label_smoothing=amount)
            found += [upstream, probe(profile, upstream, seed)]
    return found


def amount(record: Record) -> float:
    """The label smoothing of a pre-training, or of the one behind a probe."""
    spec = record.spec
    return (spec.upstream if isinstance(spec, ProbeSpec) else spec).label_smoothing


def _row(smoothing: float) -> str:
    return f"label smoothing {smoothing:.1f}"


def _columns(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The two columns of the table: probes on other data, and pre-training's own test accuracy."""
    columns: dict[str, list[Record]] = {}
    for record in sorted(completed(records), key=lambda r: (not isinstance(r.spec, ProbeSpec), amount(r))):
        pretrained = f"{DATASET_TITLES[record.spec.data.name]}, pre-training"
        title = probe_title(record) if isinstance(record.spec, ProbeSpec) else pretrained
        columns.setdefault(title, []).append(record)
    return columns


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Table 7: accuracy of linear probes, and test accuracy on the pre-training data itself, in percent."""
    cells = []
    for smoothing in AMOUNTS:
        for column, everything in _columns(records).items():
            group = [r for r in everything if amount(r) == smoothing]
            about = setting(group[0]) if group else ""
            cells += seeds_cell("Table 7", _row(smoothing), column, group, accuracy, "%", about)
    return cells


# --------------------------------------------------------------------------- figure


def values(records: Sequence[Record]):
    """Accuracy of every run, in percent."""
    import pandas as pd

    rows = [
        {
            "panel": column,
            "setting": f"{amount(record):.1f}",
            "seed": record.spec.seed,
            "value": accuracy(record),
            "run": record.id,
        }
        for column, group in _columns(records).items()
        for record in group
    ]
    return pd.DataFrame(rows)


def draw_values(frame, records, folder):
    """A panel for what transfers and one for pre-training itself."""
    from ..plots import choices as draw

    return draw.settings(frame, label="accuracy (%)", y_label="label smoothing")


FIGURES = {
    "smoothing": Figure(
        data=values,
        draw=draw_values,
        caption=(
            "Accuracy of a linear probe on other data (left) and test accuracy on the pre-training data "
            "(right), for each amount of label smoothing in pre-training. A small dot is a seed, a large one "
            "the mean over seeds, a bar its 95 % interval where there are several."
        ),
        alt=(
            "Dot plots of accuracy for label smoothing 0.0, 0.1 and 0.3: of a linear probe on other data, "
            "and on the data of pre-training."
        ),
    )
}


# --------------------------------------------------------------------------- claims


def judge_c14(records: Sequence[Record]) -> Judgement:
    """Probe accuracy with each amount of smoothing minus that with none."""
    groups = {a: [r for r in probes(records) if amount(r) == a] for a in AMOUNTS}
    none, *some = AMOUNTS
    effects = {a: effect(groups[a], groups[none]) for a in some}
    if None in effects.values():
        return not_tested("needs probes of networks pre-trained with and without label smoothing")
    verdict = worst([judge_sign(found) for found in effects.values()])
    little, much = effects.values()
    note = f"smoothing {some[0]:g} against none: {in_words(little)} points"
    return Judgement(verdict, much, f"points, smoothing {some[1]:g} against none", note, run_ids(records))


CLAIMS = (
    Claim(
        "C14",
        "Label smoothing helps, modestly.",
        "Table 7",
        "Test accuracy of a linear probe on the downstream data, networks pre-trained with label smoothing "
        "0.1 and 0.3 each minus those without, paired by seed: reproduced if both whole 95 % intervals are "
        "above 0, partly if one is, else not reproduced. How modest it is, the effect tells: no size is "
        "asked for.",
        judge_c14,
    ),
)
