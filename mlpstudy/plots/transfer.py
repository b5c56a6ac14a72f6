"""Figures on transfer: networks that learned in different ways, views of test images, and probes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .look import (
    BLUE,
    GOLD,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PALETTE,
    PINK,
    name_rows,
    new_figure,
    nothing_to_draw,
    styled,
)

ARM_COLORS = (GREEN, ORANGE, BLUE)
"""Of a network from scratch, pre-trained without augmentation, and with it."""

METHOD_COLORS = {"linear": BLUE, "ridge": GOLD}


def _panels(frame, height: float, **options):
    """One panel a data set, below each other, with its title; and the data sets in their order."""
    datasets = list(dict.fromkeys(frame["data"]))
    figure, grid = new_figure(len(datasets), 1, height=0.6 + height * len(datasets), **options)
    for (axes,), dataset in zip(grid, datasets, strict=True):
        axes.set_title(dataset)
    return figure, {dataset: axes for (axes,), dataset in zip(grid, datasets, strict=True)}


def _offsets(count: int, step: float = 0.1) -> np.ndarray:
    """Small distances that keep ``count`` marks of one row apart."""
    return step * (np.arange(count) - (count - 1) / 2)


@styled
def paired_dots(frame, first: Sequence[str]) -> Figure:
    """A panel a data set, a row a way to get a network: a dot a seed, a thin line through the dots of a seed.

    Args:
        frame: columns ``data, network, seed, accuracy`` (percent).
        first: the networks that lines join, on top and in this order; others follow in that of the frame.
    """
    if frame.empty:
        return nothing_to_draw()
    names = [name for name in first if name in set(frame["network"])]
    joined = list(names)
    names += [name for name in dict.fromkeys(frame["network"]) if name not in names]
    colors = dict(zip(first, ARM_COLORS, strict=False))
    figure, panels = _panels(frame, height=0.75 + 0.36 * len(names), sharex=True)
    for dataset, axes in panels.items():
        part = frame[frame["data"] == dataset]
        seeds = sorted(set(part["seed"]))
        for seed, offset in zip(seeds, _offsets(len(seeds)), strict=True):
            values = part[part["seed"] == seed].set_index("network")["accuracy"].reindex(names)
            places = np.arange(len(names)) + offset
            axes.plot(values[joined], places[: len(joined)], color=MUTED, linewidth=0.8, alpha=0.7)
            for name, value, place in zip(names, values, places, strict=True):
                axes.plot(value, place, "o", color=colors.get(name, PINK), markersize=7)
        name_rows(axes, names)
    axes.set_xlabel("test accuracy (%)")
    return figure


@styled
def gains(frame, known: Sequence[str]) -> Figure:
    """A panel a data set: gain against the number of views, a color a network, a line style an average.

    Args:
        frame: columns ``data, network, average, seed, views, gain`` (points).
        known: networks with a color of their own in :func:`paired_dots`.
    """
    if frame.empty:
        return nothing_to_draw()
    names = list(dict.fromkeys(frame["network"]))
    colors = dict(zip(known, ARM_COLORS, strict=False))
    free = [color for color in PALETTE if color not in ARM_COLORS]
    others = [name for name in names if name not in colors]
    colors |= {name: free[i % len(free)] for i, name in enumerate(others)}
    styles = dict(zip(dict.fromkeys(frame["average"]), ("-", "--"), strict=False))
    figure, panels = _panels(frame, height=2.4, sharex=True)
    for dataset, axes in panels.items():
        axes.axhline(0, color=INK, linewidth=0.8)
        for (name, average), part in frame[frame["data"] == dataset].groupby(["network", "average"]):
            means = part.groupby("views")["gain"].mean()
            axes.plot(means.index, means, styles[average], color=colors[name], marker="o", markersize=4)
        axes.set_xscale("log", base=2)
        views = sorted(set(frame["views"]))
        axes.set_xticks(views, [str(n) for n in views])
        axes.minorticks_off()
        axes.set_ylabel("gain (points)")
    axes.set_xlabel("views of each test image")
    lines = [Line2D([], [], color=colors[name], marker="o", markersize=4, label=name) for name in names]
    lines += [Line2D([], [], color=MUTED, linestyle=line, label=name) for name, line in styles.items()]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


@styled
def probes(frame, references) -> Figure:
    """A panel a data set, a row whose features are read: a dot a seed and probe; lines to compare with.

    Args:
        frame: columns ``data, features, method, seed, accuracy`` (percent), in the order to be drawn.
        references: columns ``data, network, accuracy``: dotted and dashed lines at the mean of each network.
    """
    if frame.empty:
        return nothing_to_draw()
    names = list(dict.fromkeys(frame["features"]))
    methods = [method for method in METHOD_COLORS if method in set(frame["method"])]
    known = list(dict.fromkeys(references["network"]))
    styles = dict(zip(known, (":", "--"), strict=False))
    figure, panels = _panels(frame, height=0.75 + 0.42 * len(names), sharex=True)
    for dataset, axes in panels.items():
        for name, part in references[references["data"] == dataset].groupby("network"):
            axes.axvline(part["accuracy"].mean(), color=INK, linestyle=styles[name], linewidth=1.2)
        part = frame[frame["data"] == dataset]
        for place, name in enumerate(names):
            for method, side in zip(methods, _offsets(len(methods), 0.26), strict=True):
                values = part[(part["features"] == name) & (part["method"] == method)].sort_values("seed")
                places = place + side + _offsets(len(values), 0.06)
                axes.plot(values["accuracy"], places, "o", color=METHOD_COLORS[method], markersize=6)
        name_rows(axes, names)
    axes.set_xlabel("test accuracy (%)")
    lines = [
        Line2D([], [], color=METHOD_COLORS[m], marker="o", linestyle="", label=f"{m} probe") for m in methods
    ]
    lines += [Line2D([], [], color=INK, linestyle=styles[name], label=name) for name in known]
    figure.legend(handles=lines, loc="outside lower center", ncols=2, columnspacing=1.2)
    return figure


@styled
def directions(frame) -> Figure:
    """A panel a data set, a row whose features, a dot a seed.

    Args:
        frame: columns ``data, features, seed, directions`` (from 1 on), in the order to be drawn.
    """
    if frame.empty:
        return nothing_to_draw()
    names = list(dict.fromkeys(frame["features"]))
    figure, panels = _panels(frame, height=0.75 + 0.34 * len(names), sharex=True)
    for dataset, axes in panels.items():
        part = frame[frame["data"] == dataset]
        for place, name in enumerate(names):
            values = part[part["features"] == name].sort_values("seed")
            axes.plot(values["directions"], place + _offsets(len(values)), "o", color=INK, markersize=6)
        name_rows(axes, names)
        axes.set_xlim(left=0)
    axes.set_xlabel("directions in which the features vary")
    return figure
