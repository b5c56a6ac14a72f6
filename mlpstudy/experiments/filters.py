"""First-layer filters (Fig 11, 12): with growing training sets, with and without data augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mlplib.data import catalog
from mlplib.specs import FilterSpec
from mlplib.store import MOSAIC, Record

from .. import stats
from ..claims import Judgement, Range, judge, not_tested, positive
from ..profiles import Profile
from ..stats import Estimate
from ..words import interval
from .base import DATASET_TITLES, Cell, Figure, claim, completed, dataframe, group_by, plot, run_ids
from .from_scratch import training_run

TITLE = "What the first layer learns"
ITEMS = ("Fig 11", "Fig 12")
INITIAL = "at initialization"


EQUAL_UPDATES = {"laptop": 128}
"""The batch size of growing subsets in profiles that train on each for as many updates as on all the data;
elsewhere subsets have the profile's batch size and equal epochs, so that fewer images mean fewer updates."""


def runs(profile: Profile, seeds: Sequence[int]) -> list[FilterSpec]:
    """The B-MLP's first layer: untrained, trained on growing subsets with DA, on everything without DA.

    The runs on all the data are those of Table 1, so they are trained once for both chapters.
    """
    dataset = profile.datasets[0]

    def run(seed: int, da: bool = True, examples: int | None = None):
        found = training_run(profile, profile.b_mlp, dataset, seed, da, examples)
        if examples is None or profile.key not in EQUAL_UPDATES:
            return found
        batch = EQUAL_UPDATES[profile.key]
        updates = found.epochs * (catalog.find(dataset).train // profile.batch_size)
        epochs = round(updates / (examples // batch))
        return replace(found, batch_size=batch, epochs=epochs, evaluate_at=())

    looks = []
    for seed in seeds:
        looks.append(FilterSpec(run(seed), at="initial"))
        looks += [FilterSpec(run(seed, examples=n)) for n in (*profile.examples, None)]
        looks.append(FilterSpec(run(seed, da=False)))
    return looks


def condition(record: Record) -> str:
    """The condition that a record shows: its row in the table and the figure."""
    upstream = record.spec.upstream
    return trained(upstream.data.examples, upstream.augment.any) if record.spec.at == "final" else INITIAL


def trained(examples: int | None, da: bool) -> str:
    """The name of a trained condition."""
    return f"{f'{examples:,}' if examples else 'all'} images, {'with' if da else 'without'} DA"


def _order(record: Record) -> tuple:
    upstream = record.spec.upstream
    return record.spec.at == "final", not upstream.augment.any, upstream.data.examples or float("inf")


def _by_condition(records: Sequence[Record]) -> dict[str, list[Record]]:
    return group_by(sorted(completed(records), key=_order), condition)


def _by_seed(records: Sequence[Record], measure: str) -> dict[int, float]:
    return {record.spec.upstream.seed: record.metrics[measure] for record in records}


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Locality and smoothness, means over units and then over seeds."""
    cells, groups = [], _by_condition(records)
    means = {
        name: stats.jointly({row: list(_by_seed(group, name).values()) for row, group in groups.items()})
        for name in ("locality", "smoothness")
    }
    for row, group in groups.items():
        spec = group[0].spec.upstream
        setting = f"{spec.model}, {DATASET_TITLES[spec.data.name]}"
        if row != INITIAL:
            setting += f", {spec.epochs} epochs"
        for name, of in means.items():
            cells.append(Cell("Fig 11, 12", row, name, of[row], "", setting, run_ids(group)))
    return cells


@dataframe
def spread(records: Sequence[Record]) -> Iterator[dict]:
    """How local and how smooth first-layer filters are. Each dot is the mean over all units of one seed, each
    bar the middle half of the units. Both measures are 0 for noise.
    """
    for row, group in _by_condition(records).items():
        for record in group:
            for name in ("locality", "smoothness"):
                yield {
                    "condition": row,
                    "measure": name,
                    "seed": record.spec.upstream.seed,
                    "mean": record.metrics[name],
                    **{q: record.metrics[f"{name}_{q}"] for q in ("q25", "median", "q75")},
                    "units": record.metrics["units"],
                    "run": record.id,
                }


@dataframe
def shown(records: Sequence[Record]) -> Iterator[dict]:
    """First-layer weights of the first 25 units, maximum over color channels, each unit scaled to its own
    range; lowest seed. Units were not selected by appearance.
    """
    for row, group in _by_condition(records).items():
        first = min(group, key=lambda r: r.spec.upstream.seed)
        yield {"condition": row, "seed": first.spec.upstream.seed, "run": first.id}


def draw_mosaics(frame, folder: Path):
    """The first units of each run of a frame of :func:`shown`, from the artifacts in ``folder``."""
    from mlplib.filters import load_mosaic

    from ..plots import filters as draw

    rows = frame.to_dict("records")
    return draw.mosaics({row["condition"]: load_mosaic(folder / row["run"] / MOSAIC) for row in rows})


FIGURES = {
    "first-layer-weights": Figure(
        data=shown,
        draw=draw_mosaics,
        alt="Grids of first-layer weights drawn as gray images, one grid for each training condition.",
    ),
    "how-local": Figure(
        data=spread,
        draw=plot("filters.measures"),
        alt="Dot plot of filter locality and smoothness for each training condition, "
        "with bars for the quartiles over units.",
    ),
}


MEASURES = ("smoothness", "locality")
"""The measures of the claims' words "structured" and "local"."""

AFTERTHOUGHT = (
    "The criterion named locality alone at first; smoothness was added after a look at one seed of profile "
    "laptop, because the sentence says structured, too. The verdict by each measure is shown. Training sets "
    "of different sizes had equal epochs in profile laptop at first; they now have equal updates there."
)
"""Shown with the criteria, since other criteria were written before looking at results."""


def _values(
    groups: Mapping[str, list[Record]], measure: str, fewer: tuple[int | None, bool]
) -> list[dict[int, float]] | None:
    """A measure's mean over units by seed: at initialization, under the condition ``fewer`` (images, DA), and
    on all images with DA; None unless some seed has them all.
    """
    rows = (INITIAL, trained(*fewer), trained(None, da=True))
    found = [_by_seed(groups.get(row, ()), measure) for row in rows]
    return found if set.intersection(*map(set, found)) else None


LEAST = 0.01
"""The smallest difference in smoothness or locality that the sentences mean; both lie between 0 and 1."""


def _differences(*pairs: tuple[dict[int, float], dict[int, float]]) -> list[Estimate]:
    """The differences of values paired by seed, with intervals from the spread of all of them."""
    return list(stats.jointly({i: stats.paired(*pair) for i, pair in enumerate(pairs)}).values())


@claim(
    "C20",
    "Fig 11",
    "First-layer filters become structured and local with more data.",
    "millions of images",
    AFTERTHOUGHT,
)
def c20(records: Sequence[Record]) -> Judgement:
    """Mean smoothness and mean locality over all units with DA, paired by seed: all images minus
    initialization, and all images minus the fewest, are above 0.
    """
    groups = _by_condition(records)
    sizes = [g[0].spec.upstream.data.examples for row, g in groups.items() if row != INITIAL]
    fewest = min((n for n in sizes if n), default=None)
    found = {m: _values(groups, m, (fewest, True)) for m in MEASURES} if fewest else {}
    if not found or None in found.values():
        return not_tested(
            "needs the initialization and training with augmentation on all images and on fewer"
        )
    parts = [
        positive(gain, "", f"{measure}, all images over {name}", least=LEAST, form="+.3f")
        for measure, (start, few, most) in found.items()
        for name, gain in zip(
            ("initialization", "fewest images"), _differences((most, start), (most, few)), strict=True
        )
    ]
    with_da = [group[0].spec.upstream for group in groups.values() if group[0].spec.upstream.augment.any]
    lengths = {upstream.epochs for upstream in with_da}
    note = "equal epochs, so fewer images also mean fewer updates"
    return judge(parts, note if len(lengths) == 1 else "about equal updates")


@claim(
    "C21",
    "Fig 12",
    "Without data augmentation the filters stay unstructured even on all the data.",
    "millions of images",
    AFTERTHOUGHT,
)
def c21(records: Sequence[Record]) -> Judgement:
    """Mean smoothness and mean locality over all units on all images, paired by seed: with DA minus without
    is above 0; partly reproduced unless, besides, training without DA gains less than half of what training
    with DA gains over initialization.
    """
    groups = _by_condition(records)
    found = {measure: _values(groups, measure, (None, False)) for measure in MEASURES}
    if None in found.values():
        return not_tested("needs the initialization and training on all images with and without augmentation")
    parts, notes = [], []
    for measure, (start, without, most) in found.items():
        half = {seed: (most[seed] + start[seed]) / 2 for seed in most.keys() & start.keys()}
        gain, kept = _differences((most, without), (half, without))
        unstructured = Range(0.0).holds(kept) if kept.low is not None else False
        name = f"{measure}, with over without DA"
        parts.append(positive(gain, "", name, least=LEAST, form="+.3f", other=unstructured))
        notes.append(f"{measure} {interval(kept, '+.3f')}")
    return judge(parts, f"half of the gain with DA, minus the gain without: {'; '.join(notes)}")


CLAIMS = (c20, c21)
