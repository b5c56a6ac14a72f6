"""What many seeds of a comparison tell about intervals from three: whether pairing helps, how often such
intervals are right, and which effects they detect.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

from mlplib.store import Record

from .. import stats
from ..experiments import ablations, base, label_smoothing, normalization
from ..words import interval, markdown_table

FEW = 3
"""The seeds of profile ``laptop``."""

MANY = 20
"""The fewest seeds of a comparison that is shown."""

Sides = tuple[Mapping[int, float], Mapping[int, float]]
"""The accuracies of a comparison in points, by seed: those of the first setting and of the second."""


def comparisons(records: Mapping[str, Sequence[Record]]) -> list[dict[str, Sides]]:
    """The comparisons of claims C13 to C16 by title, grouped by the spread that their intervals share.

    Args:
        records: by experiment, those of label smoothing, normalization and ablations; others are not read.
    """
    smoothed, plain = label_smoothing.compared(records.get("label-smoothing", ()))
    layer, batch = normalization.compared(records.get("normalization", ()))
    changed = ablations.groups(records.get("ablations", ()))
    found = [
        {
            f"smoothing {amount:g} – none": (smoothed[amount], plain[amount])
            for amount in label_smoothing.AMOUNTS[1:]
        },
        {
            f"LayerNorm – BatchNorm, {title}": (layer[family], batch[family])
            for family, title in base.MLP_TITLES.items()
        },
        {
            f"{title} – {name}": (changed[ablations.BASE], changed[name])
            for name, title in ablations.PARTS_OF_BLOCK.items()
        },
        {
            f"{name} – none": (changed[name], changed[ablations.reference(name, changed)])
            for name in ablations.REGULARIZERS
        },
        {"Lion – AdamW": (changed["Lion"], changed[ablations.ADAMW])},
    ]
    return [
        {title: tuple(base.by_seed(side, base.accuracy) for side in sides) for title, sides in each.items()}
        for each in found
    ]


def markdown(records: Mapping[str, Sequence[Record]]) -> str:
    """One row for each comparison of at least :data:`MANY` seeds, as a Markdown table; empty without any."""
    rows = []
    for together in comparisons(records):
        differences = {title: stats.paired(*sides) for title, sides in together.items()}
        if min(map(len, differences.values())) < MANY:
            continue
        right, shown = few_seeds(differences)
        for title, (first, second) in together.items():
            seeds = sorted(first.keys() & second.keys())
            sides = [[side[seed] for seed in seeds] for side in (first, second)]
            spreads = [statistics.stdev(each) for each in (*sides, differences[title])]
            numbers = [f"{spread:.2f}" for spread in (*spreads, math.hypot(*spreads[:2]))]
            pair = interval(correlation(*sides), "+.2f")
            worth = f"{right[title]:.0%}", f"{shown[title]:.1f}"
            rows.append((title, len(seeds), *numbers[:2], pair, *numbers[2:], *worth))
    sides = "SD of first", "SD of second", "correlation", "SD of differences", "unpaired"
    heads = "comparison", "seeds", *sides, f"right with {FEW} seeds", f"shown by {FEW} seeds"
    return markdown_table(heads, rows) if rows else ""


def correlation(first: list[float], second: list[float]) -> stats.Estimate:
    """Pearson's correlation with Fisher's interval (the inverse hyperbolic tangent is about normal)."""
    from scipy.stats import pearsonr

    found = pearsonr(first, second)
    low, high = map(float, found.confidence_interval(stats.confidence()))
    return stats.Estimate(float(found.statistic), low, high, len(first))


def few_seeds(differences: Mapping[str, list[float]]) -> tuple[dict[str, float], dict[str, float]]:
    """How good the intervals from every choice of :data:`FEW` seeds are, made as in the chapters.

    Args:
        differences: by comparison, one per seed; the spread is shared as :func:`mlpstudy.stats.jointly` says.

    Returns:
        by comparison, the share of intervals that contain the mean of the other seeds, widened by the error
        of that mean; and the effect in points that four of five of them would distinguish from zero.
    """
    n = min(map(len, differences.values()))
    widened = math.sqrt(1 + FEW / (n - FEW))
    means = {title: statistics.fmean(values[:n]) for title, values in differences.items()}
    right, needed = ({title: [] for title in differences} for _ in range(2))
    for chosen in itertools.combinations(range(n), FEW):
        found = stats.jointly({t: [values[i] for i in chosen] for t, values in differences.items()})
        for title, estimate in found.items():
            rest = (n * means[title] - FEW * estimate.mean) / (n - FEW)
            right[title].append(abs(estimate.mean - rest) <= widened * estimate.half_width)
            needed[title].append(estimate.half_width - (estimate.mean - means[title]))
    shares = {title: statistics.fmean(each) for title, each in right.items()}
    return shares, {title: statistics.quantiles(each, n=5)[3] for title, each in needed.items()}
