"""Figures of the scaling chapters: errors against compute, forecasts, exponents, the best use of compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..experiments.base import MLP_TITLES
from ..laws.powerlaw import POWER_LAW, SATURATING, fit_best
from . import look

SMALLEST, LARGEST = 14, 110
"""Areas of the markers of the fewest and the most examples, in square points."""

RING = 140
"""Area of the ring around a point of the front."""

ERROR = "probe error (fraction)"
"""The label of vertical axes."""

SIZES_LABELED = 4
"""The most sizes that an axis or a legend labels."""


# --------------------------------------------------------------------------- errors against compute


@look.styled
def error_against_compute(frame, hue: str = "model") -> Figure:
    """Fig 1, 6 and 10: error against compute, one panel per data set; color is ``hue``, size the examples.

    The law of each family's front is drawn, too, in the color of the family where color shows it.

    Args:
        frame: columns ``data, model, family, parameters, examples, epochs, compute_macs, error, on_front``,
            one row per run.
        hue: ``model`` or ``family``.
    """
    figure, panels = look.dataset_panels(frame, height=3.4, extra=1.3)
    colors, areas = _hue_colors(frame, hue), _areas(frame["examples"])
    markers = look.markers_of(colors) if hue == "family" else dict.fromkeys(colors, "o")
    keys = ["data", "family", "model", "parameters", "examples", "epochs", "compute_macs"]
    cells = frame.groupby(keys, sort=False, as_index=False).agg({"error": "mean", "on_front": "all"})
    for task, axes in panels.items():
        part = cells[cells["data"] == task].sort_values("compute_macs")
        for (_, examples), line in part.groupby(["model", "examples"], sort=False):
            style = dict(color=colors[line[hue].iloc[0]], zorder=2)
            axes.plot(line["compute_macs"], line["error"], linewidth=0.8, alpha=0.6, **style)
            dots = dict(s=areas[examples], marker=markers[line[hue].iloc[0]], alpha=0.75, lw=0, **style)
            axes.scatter(line["compute_macs"], line["error"], **dots)
        front = part[part["on_front"]]
        ring = dict(s=RING, facecolors="none", edgecolors=look.INK, lw=0.9)
        axes.scatter(front["compute_macs"], front["error"], **ring)
        for family, points in front.groupby("family"):
            color = colors.get(family, look.INK)
            _draw_law(axes, points["compute_macs"], points["error"], part["compute_macs"], color)
        axes.set_ylabel(ERROR)
        look.log_axes(axes)
        _flops_above(axes)
    axes.set_xlabel("compute (multiply-adds)")
    look.legend_below(figure, _legend(colors, markers, areas), 3, columnspacing=1.2, handletextpad=0.4)
    return figure


def _hue_colors(frame, hue: str) -> dict[str, str]:
    """By name: models are darker the larger they are, families have their usual colors."""
    if hue == "family":
        return {name: look.KNOWN_COLORS[MLP_TITLES[name]] for name in look.unique(frame["family"])}
    names = look.unique(frame.sort_values("parameters")["model"])
    shades = matplotlib.colormaps["viridis_r"](np.linspace(0.15, 1, len(names)))
    return dict(zip(names, map(matplotlib.colors.to_hex, shades), strict=True))


def _areas(examples) -> dict[int, float]:
    """Marker areas that grow with the logarithm of the number of examples."""
    sizes = sorted(set(examples))
    span = np.log(sizes[-1] / sizes[0]) or 1.0
    return {n: SMALLEST + (LARGEST - SMALLEST) * np.log(n / sizes[0]) / span for n in sizes}


def _draw_law(axes, x, error, over, color: str = look.INK) -> None:
    """The law fitted to points, if one can be, drawn over the range of ``over``."""
    if law := fit_best(x, error).law:
        curve = np.geomspace(over.min(), over.max(), 100)
        axes.plot(curve, law(curve), color=color, linestyle="--", linewidth=1.6, zorder=3)


def _legend(
    colors: Mapping[str, str], markers: Mapping[str, str], areas: Mapping[int, float]
) -> list[Line2D]:
    dots = dict(marker="o", linestyle="")
    handles = [
        look.key(MLP_TITLES.get(name, name), color, **dots | {"marker": markers[name]})
        for name, color in colors.items()
    ]
    for examples in _spread(sorted(areas)):
        handles.append(look.key(f"{examples:,} images", ms=areas[examples] ** 0.5, mew=0, **dots))
    handles.append(look.key("front", mfc="none", mec=look.INK, ms=RING**0.5, **dots))
    return [*handles, look.key("fitted law", look.INK, linestyle="--")]


def _spread(values: Sequence) -> list:
    """At most :data:`SIZES_LABELED` of ``values``, evenly spread, with both ends."""
    places = np.linspace(0, len(values) - 1, min(SIZES_LABELED, len(values))).round().astype(int)
    return [values[place] for place in places]


def _flops_above(axes) -> None:
    """The second axis: floating-point operations, two for a multiply-add."""
    above = axes.secondary_xaxis("top", functions=(lambda macs: 2 * macs, lambda flops: flops / 2))
    above.set_xlabel("floating-point operations", color=look.MUTED, fontsize=10)


# --------------------------------------------------------------------------- forecasts


@look.styled
def forecast(frame) -> Figure:
    """The front of each data set: filled points a law was fitted to, open ones it was tested on.

    Args:
        frame: columns ``data, compute_macs, error, held_out, forecast, predicted, low, high``; rows of equal
            compute of a data set are seeds of one point.
    """
    figure, panels = look.dataset_panels(frame, height=3.0, extra=0.5)
    for task, axes in panels.items():
        points = frame[frame["data"] == task].drop_duplicates(["compute_macs", "error"])
        points = points.sort_values("compute_macs")
        compute, forecast = points["compute_macs"], points["forecast"].all()
        if forecast:
            axes.plot(compute, points["predicted"], color=look.BLUE, label="law of the filled points")
            if np.isfinite(points["high"]).all():
                band = dict(color=look.BLUE, alpha=0.15, lw=0, label="its band")
                axes.fill_between(compute, points["low"], points["high"], **band)
        else:
            axes.set_title(f"{task}: too short a front for a forecast")
        for held, face, label in ((False, look.INK, "fitted"), (True, "white", "held out")):
            part = points[points["held_out"] == held]
            if len(part):
                dots = dict(color=look.INK, mfc=face, ms=6, label=label, zorder=3)
                axes.plot(part["compute_macs"], part["error"], "o", **dots)
        axes.set_ylabel(ERROR)
        look.log_axes(axes)
    axes.set_xlabel("compute (multiply-adds)")
    next(iter(panels.values())).legend(loc="lower left")
    return figure


# --------------------------------------------------------------------------- exponents


@look.styled
def exponents(frame, label: str) -> Figure:
    """Fitted exponents with their intervals, one row each, and the paper's values as crosses.

    Args:
        frame: columns ``name, law, doubt`` and ``paper, value, low, high``, each ``unknown`` where there is
            none.
        label: what the exponents are.
    """
    figure, ((axes,),) = look.new_figure(1, 1, height=1.3 + 0.55 * len(frame))
    rows = frame.to_dict("records")
    for place, row in enumerate(rows):
        columns = ("paper", "value", "low", "high")
        known, value, low, high = (None if row[name] == "unknown" else row[name] for name in columns)
        if known is not None:
            axes.plot(known, place, **look.CROSS, zorder=3)
        if value is not None:
            pale = 1.0 if row["doubt"] == "none" else 0.35
            look.interval_dot(axes, place, value, low, high, look.BLUE, pale, markersize=6)
    axes.axvline(0, color=look.INK, linewidth=0.8)
    axes.set_xlabel(label)
    look.name_rows(axes, [_row_label(row) for row in rows])
    handles = [look.key("measured", look.BLUE, marker="o")]
    if (frame["paper"] != "unknown").any():
        handles.append(look.key("the paper", **look.CROSS))
    look.legend_below(figure, handles, 2)
    return figure


def _row_label(row: Mapping) -> str:
    form = {SATURATING: "with a floor", POWER_LAW: "without a floor"}.get(row["law"], row["law"])
    state = ", not determined" if row["doubt"] != "none" else ""
    return f"{row['name']}\n{form}{state}"


# --------------------------------------------------------------------------- parameters or examples


@look.styled
def bottlenecks(frame) -> Figure:
    """Fig 7: error limited by parameters only, and by examples only, with the law of each.

    Args:
        frame: columns ``binds`` (``parameters`` or ``examples``), ``size, seed, error``.
    """
    names = look.unique(frame["binds"])
    figure, (row,) = look.new_figure(1, len(names), height=3.2, sharey=True)
    for axes, name in zip(row, names, strict=True):
        part = frame[frame["binds"] == name]
        means = part.groupby("size")["error"].mean()
        axes.plot(part["size"], part["error"], "o", color=look.MUTED, alpha=0.5, markersize=4)
        axes.plot(means.index, means, "o", color=look.BLUE, markersize=6)
        _draw_law(axes, means.index, means, part["size"])
        axes.set_xlabel(name)
        look.log_axes(axes)
        look.ticks_at(axes.xaxis, _spread(sorted(set(part["size"]))), look.short)
    row[0].set_ylabel(ERROR)
    return figure


@look.styled
def allocation(frame) -> Figure:
    """Fig 8: how many parameters and examples the compute-optimal training runs of one length have.

    Args:
        frame: columns ``of`` (``parameters`` or ``examples``), ``compute_macs, size, line, paper``:
            ``line`` is the fitted power law, ``paper`` one with the paper's exponent through the same middle.
    """
    names = look.unique(frame["of"])
    figure, (row,) = look.new_figure(1, len(names), height=3.6)
    for axes, name in zip(row, names, strict=True):
        part = frame[frame["of"] == name].sort_values("compute_macs")
        axes.plot(part["compute_macs"], part["size"], "o", color=look.BLUE, markersize=6)
        axes.plot(part["compute_macs"], part["line"], "--", color=look.INK, label="fitted")
        slope = dict(color=look.ORANGE, linewidth=1.2, label="the paper's slope")
        axes.plot(part["compute_macs"], part["paper"], "-", **slope)
        axes.set_title(name)
        axes.set_xlabel("compute (multiply-adds)")
        look.log_axes(axes)
        look.ticks_at(axes.yaxis, _spread(sorted(set(part["size"]))), look.short)
    look.legend_below(figure, row[0].get_legend_handles_labels()[0], 2)
    return figure
