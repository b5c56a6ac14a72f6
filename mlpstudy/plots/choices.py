"""Figures of the chapters on single choices: dots with intervals, and errors on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import seaborn
from matplotlib import colormaps
from matplotlib.figure import Figure

from ..stats import jointly
from . import look

PARTS = {"block": look.BLUE, "recipe": look.ORANGE}


@look.styled
def settings(frame, label: str, y_label: str = "") -> Figure:
    """One panel per ``panel``, one row per ``setting``: seeds, their mean and its interval.

    Panels have separate axes, since only rows within a panel are compared. The intervals are those of a table
    of all these values: they are based on the spread of all seeds together.

    Args:
        frame: columns ``panel, setting, seed, accuracy``, in the order to be drawn.
        label: what the accuracy is of, with its unit. y_label: what the settings are.
    """
    rows, panels = look.unique(frame["setting"]), look.unique(frame["panel"])
    figure, (grid,) = look.new_figure(1, len(panels), height=1.3 + 0.5 * len(rows), sharey=True)
    means = jointly({key: part.tolist() for key, part in frame.groupby(["panel", "setting"])["accuracy"]})
    for axes, panel in zip(grid, panels, strict=True):
        for name, part in frame[frame["panel"] == panel].groupby("setting", sort=False):
            found, place = means[panel, name], rows.index(name)
            look.interval_dot(axes, place, found.mean, found.low, found.high, look.BLUE, markersize=7)
            _seeds(axes, place, part["accuracy"], look.BLUE)
        axes.set_title(panel.replace(", ", ",\n"))
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=4)
    look.name_rows(grid[0], rows)
    grid[0].set_ylabel(y_label)
    return figure


@look.styled
def differences(frame) -> Figure:
    """What each change does, best first: seeds, their mean and its interval, and a line at zero.

    Args:
        frame: columns ``change, part, seed, difference, mean, low, high`` (points); the last three are the
            same in all rows of a change. ``part`` is a key of :data:`PARTS` and gives the color.
    """
    frame = frame.sort_values("mean", ascending=False, kind="stable")
    rows = look.unique(frame["change"])
    figure, ((axes,),) = look.new_figure(1, 1, height=1.3 + 0.4 * len(rows))
    axes.axvline(0, color=look.INK, linewidth=0.8)
    look.name_rows(axes, rows)
    ticks = axes.get_yticklabels()
    for place, (_, part) in enumerate(frame.groupby("change", sort=False)):
        color = PARTS[part["part"].iloc[0]]
        look.interval_dot(axes, place, *part[["mean", "low", "high"]].iloc[0], color, markersize=7)
        _seeds(axes, place, part["difference"], color)
        ticks[place].set_color(color)
    axes.set_xlabel("probe accuracy, minus its comparison (points)")
    look.legend_below(figure, [look.key(name, color, marker="o", ls="") for name, color in PARTS.items()], 2)
    return figure


def _seeds(axes, place: int, values: Sequence[float], color: str) -> None:
    """Small dots below a row, if there are several seeds."""
    if len(values) > 1:
        axes.plot(values, np.full(len(values), place + 0.24), "o", color=color, markersize=3, alpha=0.8)


@look.styled
def error_lines(frame, ordered: bool) -> Figure:
    """Error against batch size, both logarithmic: one line per series through seeds' means, seeds as dots.

    Args:
        frame: columns ``series, batch, seed, error`` (percent) and ``data``, in the order to be drawn.
        ordered: whether the series grow from first to last, and their color with them.
    """
    names = look.unique(frame["series"])
    shades = colormaps["viridis"](np.linspace(0.85, 0.0, len(names)))
    distinct = look.unique([look.BLUE, look.ORANGE, look.GREEN, *look.PALETTE])
    palette = {name: shades[i] if ordered else distinct[i % len(distinct)] for i, name in enumerate(names)}
    markers = look.markers_of(names)
    figure, ((axes,),) = look.new_figure(1, 1, height=3.9)
    lines = dict(hue="series", palette=palette, style="series", markers=markers, dashes=False, errorbar=None)
    seaborn.lineplot(frame, x="batch", y="error", **lines, markersize=5, mew=0, ax=axes)
    if frame["seed"].nunique() > 1:
        axes.scatter(frame["batch"], frame["error"], s=4, c=frame["series"].map(palette).tolist(), alpha=0.7)
    axes.set(xlabel="batch size of pre-training", ylabel="probe error (%)", title=frame["data"].iloc[0])
    look.log_axes(axes)
    look.ticks_at(axes.xaxis, sorted(frame["batch"].unique()), "{:,.0f}".format)
    handles, _ = axes.get_legend_handles_labels()
    axes.get_legend().remove()
    columns = min(4, len(names)) if ordered else 2
    look.legend_below(figure, handles, columns, columnspacing=1.0, handlelength=1.4)
    return figure
