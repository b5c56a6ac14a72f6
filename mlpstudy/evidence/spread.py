"""What many seeds of one setting tell about intervals from three: whether pairing pays, how often such
intervals are right, and which effects they show.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping

from mlplib.store import Record

from .. import stats
from ..experiments import base, label_smoothing
from ..words import interval, markdown_table

FEW = 3
"""The seeds of profile ``laptop``."""

MANY = 20
"""So many seeds of a setting are needed at least."""


def groups(records: Iterable[Record]) -> dict[float, dict[int, float]]:
    """By amount of label smoothing, the accuracy of that chapter's probes in points by seed."""
    found = base.group_by(label_smoothing.probes(list(records)), label_smoothing.amount)
    return {amount: base.by_seed(group, base.accuracy) for amount, group in sorted(found.items())}


def markdown(records: Iterable[Record]) -> str:
    """One row for each amount of smoothing against none, as a Markdown table; empty with too few seeds."""
    without, *others = groups(records).items() or [(0.0, {})]
    contrasts = {amount: stats.paired(values, without[1]) for amount, values in others}
    if not contrasts or min(map(len, contrasts.values())) < MANY:
        return ""
    right, shown = few_seeds(contrasts)
    rows = []
    for amount, values in others:
        seeds = sorted(values.keys() & without[1].keys())
        sides = [[side[seed] for seed in seeds] for side in (without[1], values)]
        spreads = [statistics.stdev(side) for side in (*sides, contrasts[amount])]
        cells = [f"{spread:.2f}" for spread in (*spreads, math.hypot(*spreads[:2]))]
        pair = interval(correlation(*sides), "+.2f")
        worth = f"{right[amount]:.0%}", f"{shown[amount]:.1f}"
        rows.append((f"{amount:g}", len(seeds), *cells[:2], pair, *cells[2:], *worth))
    pairs = "SD without", "SD with", "correlation", "SD of differences", "unpaired"
    heads = "smoothing", "seeds", *pairs, f"right with {FEW} seeds", f"shown by {FEW} seeds"
    return markdown_table(heads, rows)


def correlation(first: list[float], second: list[float]) -> stats.Estimate:
    """Pearson's correlation with Fisher's interval (the inverse hyperbolic tangent is about normal)."""
    found, n = statistics.correlation(first, second), len(first)
    reach = statistics.NormalDist().inv_cdf(0.5 + stats.confidence() / 2) / math.sqrt(n - 3)
    low, high = (math.tanh(math.atanh(found) + side * reach) for side in (-1, 1))
    return stats.Estimate(found, low, high, n)


def few_seeds(contrasts: Mapping[float, list[float]]) -> tuple[dict[float, float], dict[float, float]]:
    """What intervals from every choice of :data:`FEW` seeds are worth, made as the chapter's are.

    Returns:
        by contrast, the share of intervals that hold the mean of the other seeds, widened by the error of
        that mean; and the effect in points that four of five of them would tell from zero.
    """
    n = min(map(len, contrasts.values()))
    widened = math.sqrt(1 + FEW / (n - FEW))
    right, needed = ({amount: [] for amount in contrasts} for _ in range(2))
    for chosen in itertools.combinations(range(n), FEW):
        found = stats.jointly({a: [values[i] for i in chosen] for a, values in contrasts.items()})
        for amount, estimate in found.items():
            every = contrasts[amount][:n]
            rest = (math.fsum(every) - FEW * estimate.mean) / (n - FEW)
            right[amount].append(abs(estimate.mean - rest) <= widened * estimate.half_width)
            needed[amount].append(estimate.half_width - (estimate.mean - statistics.fmean(every)))
    shares = {amount: statistics.fmean(each) for amount, each in right.items()}
    return shares, {a: statistics.quantiles(each, n=5)[3] for a, each in needed.items()}
