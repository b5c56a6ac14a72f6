"""Figures of the chapters about single choices: dots with intervals, and errors on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from mlplib.stats import over_seeds

from .look import BLUE, GREEN, INK, ORANGE, PALETTE, name_rows, new_figure, nothing_to_draw, styled

PARTS = {"block": BLUE, "recipe": ORANGE}
MARKERS = "os^Dv"
"""A marker for each line, so that lines can be told apart without their colors."""


# --------------------------------------------------------------------------- dots


@styled
def settings(frame, label: str, y_label: str = "") -> Figure:
    """A panel for each ``panel``, a row for each ``setting``: seeds, their mean and its interval.

    The panels have axes of their own: what is compared are the rows of one panel.

    Args:
        frame: columns ``panel, setting, seed, value``, in the order to be drawn.
        label: what the values are, with their unit. y_label: what the settings are.
    """
    if frame.empty:
        return nothing_to_draw()
    rows = list(dict.fromkeys(frame["setting"]))
    panels = list(dict.fromkeys(frame["panel"]))
    figure, (grid,) = new_figure(1, len(panels), height=1.3 + 0.5 * len(rows), sharey=True)
    for axes, panel in zip(grid, panels, strict=True):
        part = frame[frame["panel"] == panel]
        for place, name in enumerate(rows):
            values = part.loc[part["setting"] == name, "value"].tolist()
            if values:
                found = over_seeds(values)
                _dots(axes, place, values, found.mean, found.low, found.high, BLUE)
        axes.set_title(panel.replace(", ", ",\n"))
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=4)
    name_rows(grid[0], rows)
    grid[0].set_ylabel(y_label)
    return figure


@styled
def differences(frame, label: str) -> Figure:
    """What each change does, best first: seeds, their mean and its interval, and a line at zero.

    Args:
        frame: columns ``change, part, seed, difference, mean, low, high``; the last three are the same in all
            rows of a change. ``part`` is a key of :data:`PARTS` and gives the color.
        label: what the differences are, with their unit.
    """
    if frame.empty:
        return nothing_to_draw()
    frame = frame.sort_values("mean", ascending=False, kind="stable")
    rows = list(dict.fromkeys(frame["change"]))
    figure, ((axes,),) = new_figure(1, 1, height=1.3 + 0.4 * len(rows))
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, name in enumerate(rows):
        part = frame[frame["change"] == name]
        mean, low, high = part[["mean", "low", "high"]].iloc[0]
        _dots(axes, place, part["difference"].tolist(), mean, low, high, PARTS[part["part"].iloc[0]])
    name_rows(axes, rows)
    for tick, name in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(PARTS[frame.loc[frame["change"] == name, "part"].iloc[0]])
    axes.set_xlabel(label)
    handles = [axes.plot([], [], "o", color=color, label=name)[0] for name, color in PARTS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _dots(axes, place: int, values: Sequence[float], mean: float, low, high, color: str) -> None:
    """A row: an interval (None for none), a large dot for the mean, small ones below it for several seeds."""
    if low is not None:
        axes.hlines(place, low, high, color=color, alpha=0.45, linewidth=3)
    axes.plot([mean], [place], "o", color=color, markersize=7)
    if len(values) > 1:
        below = place + 0.24 + 0 * np.asarray(values)
        axes.plot(values, below, "o", color=color, markersize=3, alpha=0.8)


# --------------------------------------------------------------------------- lines


@styled
def error_lines(frame, ordered: bool) -> Figure:
    """Error against batch size, both logarithmic: a line a series through means over seeds, seeds as dots.

    Args:
        frame: columns ``series, batch, seed, error`` (percent) and ``data``, in the order to be drawn.
        ordered: the series grow from first to last, and their color with them; else they are unlike things.
    """
    if frame.empty:
        return nothing_to_draw()
    names = list(dict.fromkeys(frame["series"]))
    shades = colormaps["viridis"](np.linspace(0.85, 0.0, len(names))) if ordered else _distinct(names)
    figure, ((axes,),) = new_figure(1, 1, height=3.9)
    for name, color, marker in zip(names, shades, _markers(names), strict=True):
        part = frame[frame["series"] == name]
        means = part.groupby("batch")["error"].mean()
        axes.plot(means.index, means, marker + "-", color=color, markersize=5, label=name)
        if part["seed"].nunique() > 1:
            axes.plot(part["batch"], part["error"], ".", color=color, markersize=3, alpha=0.7)
    axes.set(xscale="log", yscale="log", xlabel="batch size of pre-training")
    axes.set_ylabel(f"probe error (%), {frame['data'].iloc[0]}")
    _plain_ticks(axes.xaxis, sorted(frame["batch"].unique()))
    low, high = axes.get_ylim()
    _plain_ticks(axes.yaxis, _round_values(low, high))
    columns = min(4, len(names)) if ordered else 2
    figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.0, handlelength=1.4)
    return figure


def _distinct(names: Sequence[str]) -> list[str]:
    first = [BLUE, ORANGE, GREEN]
    colors = first + [color for color in PALETTE if color not in first]
    return [colors[i % len(colors)] for i in range(len(names))]


def _markers(names: Sequence[str]) -> list[str]:
    return [MARKERS[i % len(MARKERS)] for i in range(len(names))]


def _plain_ticks(axis, places: Sequence[float]) -> None:
    """Ticks at these places only, as plain numbers: powers of ten would leave a short axis without any."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _round_values(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers between two positive ones, at most ``most``, evenly spaced."""
    finest = math.floor(math.log10(high - low)) - 1
    for step in (digit * 10.0**power for power in range(finest, finest + 3) for digit in (1, 2, 5)):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first < most:
            break
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]
