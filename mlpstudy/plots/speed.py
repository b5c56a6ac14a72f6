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


@styled
def step_parts(frame) -> Figure:
    """A bar for each network: the shares of its step, which add up to the whole, with the whole beside it.

    Args:
        frame: columns ``what`` (a row's name), ``part`` (of :data:`PARTS`), ``milliseconds``.
    """
    if frame.empty:
        return nothing_to_draw("no step was timed")
    names = list(dict.fromkeys(frame["what"]))
    table = frame.pivot_table(index="what", columns="part", values="milliseconds", aggfunc="sum").loc[names]
    whole = table.sum(axis=1)
    figure, ((axes,),) = new_figure(1, 1, height=1.6 + 0.62 * len(names))
    left = np.zeros(len(names))
    for part, color in PARTS.items():
        if part in table:
            share = (100 * table[part].fillna(0) / whole).to_numpy()
            axes.barh(range(len(names)), share, left=left, color=color, height=0.6)
            left += share
    for place, name in enumerate(names):
        axes.annotate(f"{whole[name]:.3g} ms", (101, place), va="center", color=MUTED, fontsize=10)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share of a step (%)")
    name_rows(axes, names)
    handles = [Patch(color=color, label=part) for part, color in PARTS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.0, handlelength=1.0)
    return figure


MARKERS = ("o", "s", "^", "D", "v")
WIDTH_COLORS = (PINK, GOLD, GREEN, BLUE, ORANGE)


@styled
def layer_roofline(frame) -> Figure:
    """Layers under the roof of their device: FLOP/s reached against FLOPs a byte, a line a width, its points
    batch sizes from left to right. A panel a device.

    Args:
        frame: columns ``source``, ``width``, ``batch``, ``flops_per_byte``, ``flops_per_second``,
            ``peak_flops_per_second``, ``bytes_per_second``.
    """
    if frame.empty:
        return nothing_to_draw("no layer was timed")
    sources = list(dict.fromkeys(frame["source"]))
    widths = sorted(set(frame["width"]))
    colors = dict(zip(widths, WIDTH_COLORS * len(widths), strict=False))
    figure, grid = new_figure(len(sources), 1, height=0.9 + 3.4 * len(sources), sharex=True)
    for (axes,), source in zip(grid, sources, strict=True):
        part = frame[frame["source"] == source]
        draw_roof(axes, part)
        for width in sorted(set(part["width"])):
            points = part[part["width"] == width].sort_values("batch")
            marker = MARKERS[widths.index(width) % len(MARKERS)]
            axes.plot(
                points["flops_per_byte"],
                points["flops_per_second"],
                marker=marker,
                color=colors[width],
                ms=5,
                lw=1.2,
            )
        logarithmic(axes)
        axes.set_title(source, fontsize=10)
        axes.set_ylabel("FLOP/s")
    axes.set_xlabel("FLOPs for a byte of memory")
    handles = [
        Line2D([], [], color=colors[w], marker=MARKERS[i % len(MARKERS)], label=f"width {w}")
        for i, w in enumerate(widths)
    ]
    handles.append(Line2D([], [], color=MUTED, label="roof"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.4)
    return figure
