"""The figures of the chapter on speed: where the time of a step goes, and layers under the roofline."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .efficiency import draw_roof, logarithmic
from .look import BLUE, GOLD, GREEN, MUTED, ORANGE, PINK, SKY, name_rows, new_figure, nothing_to_draw, styled

PARTS = {
    "matrix products": BLUE,
    "elementwise and the rest": SKY,
    "optimizer": GREEN,
    "loading": GOLD,
    "augmentation": ORANGE,
}
"""The parts of a step and their colors, in the order in which they are stacked."""

MARKERS, WIDTH_COLORS = "os^Dv", (PINK, GOLD, GREEN, BLUE, ORANGE)


@styled
def step_parts(frame) -> Figure:
    """One bar per network: the shares of its step, with the time of the whole step at its end.

    Args:
        frame: columns ``what`` (a row's name), ``part`` (of :data:`PARTS`), ``milliseconds``.
    """
    if frame.empty:
        return nothing_to_draw("no step was timed")
    names = list(dict.fromkeys(frame["what"]))
    table = frame.pivot_table(index="what", columns="part", values="milliseconds", aggfunc="sum").loc[names]
    whole = table.sum(axis=1)
    shares = 100 * table.reindex(columns=PARTS).fillna(0).div(whole, axis=0)
    figure, ((axes,),) = new_figure(1, 1, height=1.6 + 0.62 * len(names))
    left = np.zeros(len(names))
    for part in (part for part in PARTS if part in table):
        axes.barh(range(len(names)), shares[part], left=left, color=PARTS[part], height=0.6)
        left += shares[part].to_numpy()
    for place, name in enumerate(names):
        axes.annotate(f"{whole[name]:.3g} ms", (101, place), va="center", color=MUTED, fontsize=10)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share of a step (%)")
    name_rows(axes, names)
    handles = [Patch(color=color, label=part) for part, color in PARTS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.0, handlelength=1.0)
    return figure


@styled
def layer_roofline(frame) -> Figure:
    """Layers under the roof of their device: FLOP/s against FLOPs per byte. One panel per device, one line
    per width, one point per batch size.

    Args:
        frame: columns ``source``, ``width``, ``batch``, ``flops_per_byte``, ``flops_per_second``,
            ``peak_flops_per_second``, ``bytes_per_second``.
    """
    if frame.empty:
        return nothing_to_draw("no layer was timed")
    sources, widths = list(dict.fromkeys(frame["source"])), sorted(set(frame["width"]))
    styles = {
        width: {"color": WIDTH_COLORS[i % len(WIDTH_COLORS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, width in enumerate(widths)
    }
    figure, grid = new_figure(len(sources), 1, height=0.9 + 3.4 * len(sources), sharex=True)
    for (axes,), source in zip(grid, sources, strict=True):
        part = frame[frame["source"] == source]
        draw_roof(axes, part)
        for width, points in part.sort_values("batch").groupby("width"):
            axes.plot(points["flops_per_byte"], points["flops_per_second"], ms=5, lw=1.2, **styles[width])
        logarithmic(axes)
        axes.set_title(source, fontsize=10)
        axes.set_ylabel("FLOP/s")
    axes.set_xlabel("FLOPs per byte of memory")
    handles = [Line2D([], [], label=f"width {width}", **styles[width]) for width in widths]
    handles.append(Line2D([], [], color=MUTED, label="roof"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.4)
    return figure
