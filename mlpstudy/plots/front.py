"""The figure of the front page: the paper's values against this study's."""

from __future__ import annotations

from matplotlib.figure import Figure

from .look import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    interval_dot,
    key,
    legend_below,
    name_rows,
    new_figure,
    styled,
    unique,
)

COLORS = {"gpu": BLUE, "laptop": GREEN, "paper": INK}


@styled
def against_paper(frame) -> Figure:
    """One panel per item of the paper, one row per value: a cross for the paper, a dot per profile.

    Args:
        frame: columns ``item, name, unit, profile, value, low, high, paper``.
    """
    items = unique(frame["item"])
    sizes = [len(unique(frame.loc[frame["item"] == item, "name"])) for item in items]
    figure, grid = new_figure(
        len(items), 1, height=0.8 + sum(0.7 + 0.3 * n for n in sizes), height_ratios=[n + 1 for n in sizes]
    )
    for item, axes in zip(items, grid[:, 0], strict=True):
        part = frame[frame["item"] == item]
        names = unique(part["name"])
        for row in part.itertuples():
            place = names.index(row.name)
            axes.plot(row.paper, place, "x", color=ORANGE, markersize=8, markeredgewidth=2, zorder=3)
            color = COLORS.get(row.profile, BLUE)
            interval_dot(axes, place, row.value, row.low, row.high, color, size=6)
        name_rows(axes, names)
        axes.set_title(item)
        axes.set_xlabel(part["unit"].iloc[0])
    profiles = unique(frame["profile"])
    handles = [key("the paper", ORANGE, marker="x", mew=2, ms=8, linestyle="")]
    handles += [
        key(f"this study, {name}", COLORS.get(name, BLUE), marker="o", linestyle="") for name in profiles
    ]
    legend_below(figure, handles, 2)
    return figure
