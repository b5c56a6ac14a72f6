"""Figures on transfer: networks trained in different ways, views of test images, and probes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import seaborn
from matplotlib.figure import Figure

from ..experiments.transfer import ARMS
from ..stats import over_seeds
from . import look

ARM_COLORS = dict(zip(ARMS, (look.GREEN, look.ORANGE, look.BLUE), strict=True))

ARM_MARKERS = look.markers_of(ARMS)

METHOD_COLORS = {"linear": look.BLUE, "ridge": look.GOLD}
METHOD_MARKERS = look.markers_of(METHOD_COLORS)


@look.styled
def paired_dots(frame) -> Figure:
    """One panel per data set, one row per network: one dot per seed, a thin line through the dots of a seed.
    Lines join the arms, on top; other networks follow in the order of the frame.

    Args:
        frame: columns ``data, network, seed, accuracy`` (percent).
    """
    joined = [name for name in ARMS if name in set(frame["network"])]
    names = look.unique([*joined, *frame["network"]])
    figure, panels = look.dataset_panels(frame, height=0.75 + 0.36 * len(names))
    for dataset, axes in panels.items():
        values = frame[frame["data"] == dataset].pivot(index="network", columns="seed", values="accuracy")
        values = values.reindex(names)
        for seed, offset in zip(values, look.offsets(values.shape[1]), strict=True):
            places = np.arange(len(names)) + offset
            thin = dict(color=look.MUTED, linewidth=0.8, alpha=0.7)
            axes.plot(values.loc[joined, seed], places[: len(joined)], **thin)
            for name, value, place in zip(names, values[seed], places, strict=True):
                axes.plot(value, place, "o", color=ARM_COLORS.get(name, look.PINK), markersize=7)
        look.name_rows(axes, names)
    axes.set_xlabel("test accuracy (%)")
    return figure


@look.styled
def learning_curves(frame) -> Figure:
    """One panel per data set: accuracy against the number of training images, one line per arm.

    Args:
        frame: columns ``data, network, images, seed, accuracy`` (percent).
    """
    names = [name for name in ARMS if name in set(frame["network"])]
    sizes = sorted(set(frame["images"]))
    figure, panels = look.dataset_panels(frame, height=3.2)
    for dataset, axes in panels.items():
        for name in names:
            part = frame[(frame["data"] == dataset) & (frame["network"] == name)]
            means = [over_seeds(v.tolist()) for _, v in part.groupby("images")["accuracy"]]
            places = sorted(set(part["images"]))
            color = ARM_COLORS[name]
            axes.plot(places, [m.mean for m in means], color=color, marker=ARM_MARKERS[name], markersize=6)
            axes.plot(part["images"], part["accuracy"], "o", color=color, markersize=2.5, alpha=0.7)
            banded = [(x, m.low, m.high) for x, m in zip(places, means, strict=True) if m.low is not None]
            if banded:
                axes.fill_between(*zip(*banded, strict=True), color=color, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_ylabel("test accuracy (%)")
    axes.set_xlabel("downstream training images")
    handles = [look.key(n, ARM_COLORS[n], marker=ARM_MARKERS[n], markersize=5) for n in names]
    look.legend_below(figure, handles, 1)
    return figure


@look.styled
def gains(frame) -> Figure:
    """One panel per data set: gain against the number of views; color is the network, line style the average.

    Args:
        frame: columns ``data, network, average, views, gain, low, high`` (points; the ends of a band).
    """
    colors = look.colors_of([*ARMS, *frame["network"]], ARM_COLORS)
    markers = look.markers_of(colors)
    styles = dict(zip(look.unique(frame["average"]), ("-", "--"), strict=False))
    views = sorted(set(frame["views"]))
    figure, panels = look.dataset_panels(frame, height=2.4)
    for dataset, axes in panels.items():
        axes.axhline(0, color=look.INK, linewidth=0.8)
        for (name, average), part in frame[frame["data"] == dataset].groupby(["network", "average"]):
            line = dict(color=colors[name], marker=markers[name], linestyle=styles[average], ms=4, mew=0)
            axes.plot(part["views"], part["gain"], **line)
            band = dict(color=colors[name], alpha=0.12, linewidth=0)
            axes.fill_between(part["views"], part["low"], part["high"], **band)
        axes.set_xscale("log", base=2)
        axes.set_xticks(views, [str(n) for n in views])
        axes.minorticks_off()
        axes.set_ylabel("gain (points)")
    axes.set_xlabel("views of each test image")
    lines = [look.key(n, colors[n], marker=markers[n], markersize=4) for n in look.unique(frame["network"])]
    lines += [look.key(name, linestyle=style) for name, style in styles.items()]
    look.legend_below(figure, lines, 2, columnspacing=1.2)
    return figure


@look.styled
def probes(frame) -> Figure:
    """One panel per data set, one row per kind of features, a color per probe; lines for whole networks.

    Args:
        frame: columns ``data, features, method, seed, accuracy`` (percent), in the order to be drawn. Where
            ``method`` is ``whole network``, the mean over seeds is a vertical line.
    """
    is_whole = frame["method"] == "whole network"
    frame, whole = frame[~is_whole], frame[is_whole]
    names = look.unique(frame["features"])
    methods = [method for method in METHOD_COLORS if method in set(frame["method"])]
    styles = dict(zip(look.unique(whole["features"]), (":", "--"), strict=False))
    figure, panels = look.dataset_panels(frame, height=0.75 + 0.42 * len(names))
    for dataset, axes in panels.items():
        for name, part in whole[whole["data"] == dataset].groupby("features"):
            axes.axvline(part["accuracy"].mean(), color=look.INK, linestyle=styles[name], linewidth=1.2)
        part = frame[frame["data"] == dataset]
        for method, side in zip(methods, look.offsets(len(methods), 0.26), strict=True):
            own = part[part["method"] == method]
            dots = dict(color=METHOD_COLORS[method], marker=METHOD_MARKERS[method])
            _row_dots(axes, own, names, "accuracy", side, 0.06, **dots)
    axes.set_xlabel("test accuracy (%)")
    lines = [
        look.key(f"{m} probe", METHOD_COLORS[m], marker=METHOD_MARKERS[m], linestyle="") for m in methods
    ]
    lines += [look.key(name, look.INK, linestyle=style) for name, style in styles.items()]
    look.legend_below(figure, lines, 2, columnspacing=1.2)
    return figure


@look.styled
def directions(frame) -> Figure:
    """One panel per data set, one row per kind of features, one dot per seed.

    Args:
        frame: columns ``data, features, seed, directions`` (from 1 on), in the order to be drawn.
    """
    names = look.unique(frame["features"])
    figure, panels = look.dataset_panels(frame, height=0.75 + 0.34 * len(names))
    for dataset, axes in panels.items():
        _row_dots(axes, frame[frame["data"] == dataset], names, "directions", color=look.INK, marker="o")
    axes.set_xlim(left=0)  # after drawing, since it also fixes the right end, which panels share
    axes.set_xlabel("directions in which the features vary")
    return figure


def _row_dots(axes, frame, names: Sequence[str], x: str, side: float = 0, step: float = 0.1, **dots):
    """One row per kind of features, ``side`` off its middle: a dot per seed, ``step`` apart."""
    for place, name in enumerate(names):
        values = frame[frame["features"] == name].sort_values("seed")[x]
        places = place + side + look.offsets(len(values), step)
        axes.plot(values, places, linestyle="", markersize=6, **dots)
    look.name_rows(axes, names)


@look.styled
def before_and_after(frame, x: str, hue: str) -> Figure:
    """What a change does to accuracy: one line per seed from situation to situation, a color per group.

    Args:
        frame: columns ``seed, accuracy`` (percent), ``x`` (the situations) and ``hue`` (the groups).
    """
    situations, colors = look.unique(frame[x]), look.colors_of(frame[hue])
    markers = look.markers_of(colors)
    figure, ((axes,),) = look.new_figure(1, 1, height=3.6)
    lines = dict(units="seed", estimator=None, hue=hue, palette=colors, style=hue, markers=markers)
    lines |= dict(dashes=False, markersize=6, mew=0)
    placed = frame.assign(**{x: frame[x].map(situations.index)})
    seaborn.lineplot(placed, x=x, y="accuracy", **lines, alpha=0.8, ax=axes, legend=False)
    axes.set_xlim(-0.35, len(situations) - 0.65)
    axes.set_xticks(range(len(situations)), situations)
    axes.set_ylabel("test accuracy (%)")
    axes.grid(visible=False, axis="x")
    look.legend_below(figure, [look.key(n, c, marker=markers[n]) for n, c in colors.items()], 1)
    return figure
