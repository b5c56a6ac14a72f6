"""The figures of the chapter on efficiency: throughput by batch size, and rooflines."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .look import BLUE, GOLD, GREEN, INK, MUTED, ORANGE, PINK, SKY, new_figure, nothing_to_draw, styled

MLPS, OTHERS = (BLUE, SKY, INK), (ORANGE, GREEN, PINK, GOLD)
"""Blues for MLPs, other colors for the networks that they are compared with."""

ROOF_NAMES = {
    "memory": ("memory of the device", "FLOPs for a byte of memory"),
    "copy": ("copy to the device", "FLOPs for a byte of images"),
}


def _colors(names) -> dict[str, str]:
    names = list(dict.fromkeys(names))
    mlps = [name for name in names if "/Wi-" in name]
    others = [name for name in names if name not in mlps]
    found = {name: MLPS[i % len(MLPS)] for i, name in enumerate(mlps)}
    return found | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(others)}


def short(value: float, place=None) -> str:
    """A positive number for an axis: ``0.1``, ``20``, ``3k``, ``2M``, ``5G``, ``40T``."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * (1 - 1e-9):
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def logarithmic(axes) -> None:
    """Both axes by powers of ten, with short labels."""
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        low, high = axis.get_view_interval()
        # Less than two powers of ten would hardly have a label.
        axis.set_major_locator(LogLocator(numticks=6, subs=(1,) if high > 100 * low else (1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(short))
        axis.set_minor_formatter(NullFormatter())


@styled
def throughput(frame) -> Figure:
    """Images per second by batch size: one color per network, solid on the device, dotted with a copy.

    Args:
        frame: columns ``network, images, batch_size, images_per_second, q25, q75, seed``; ``images`` says
            where they are: ``images on the device`` or ``copied as float32``; others are not drawn.
    """
    if frame.empty:
        return nothing_to_draw()
    colors = _colors(frame["network"])
    figure, ((axes,),) = new_figure(1, 1, height=4.6)
    for images, line in (("images on the device", "-"), ("copied as float32", ":")):
        for name, color in colors.items():
            part = frame[(frame["network"] == name) & (frame["images"] == images)]
            found = part.groupby("batch_size")[["images_per_second", "q25", "q75"]].median()
            axes.plot(found.index, found["images_per_second"], color=color, linestyle=line, marker="o", ms=4)
            if line == "-":
                axes.fill_between(found.index, found["q25"], found["q75"], color=color, alpha=0.18, lw=0)
    logarithmic(axes)
    axes.set_xlabel("batch size")
    axes.set_ylabel("images per second")
    lines = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    lines += [
        Line2D([], [], color=MUTED, linestyle=line, label=label)
        for line, label in (("-", "on the device"), (":", "with a copy"))
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.6)
    return figure


@styled
def rooflines(frame) -> Figure:
    """FLOP/s against FLOPs per byte, under the limits of bandwidth and arithmetic; one panel per limit.

    Args:
        frame: columns ``network, roof, flops_per_byte, flops_per_second, peak_flops_per_second,
            bytes_per_second, device``; ``roof`` is ``memory`` or ``copy``.
    """
    if frame.empty:
        return nothing_to_draw()
    names = [roof for roof in ROOF_NAMES if roof in set(frame["roof"])]
    colors = _colors(frame["network"])
    figure, (row,) = new_figure(1, len(names), height=4.4, sharey=True)
    for axes, roof in zip(row, names, strict=True):
        part = frame[frame["roof"] == roof]
        for _, of_device in part.groupby("device"):
            draw_roof(axes, of_device)
        for name, color in colors.items():
            points = part[part["network"] == name]
            axes.plot(points["flops_per_byte"], points["flops_per_second"], "o", color=color, ms=7)
        logarithmic(axes)
        title, label = ROOF_NAMES[roof]
        axes.set_title(title)
        axes.set_xlabel(label)
    row[0].set_ylabel("FLOP/s")
    handles = [Line2D([], [], color=c, marker="o", ls="", label=name) for name, c in colors.items()]
    handles.append(Line2D([], [], color=MUTED, label="roof"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.4)
    figure.suptitle(", ".join(sorted(set(frame["device"]))), fontsize=10, color=MUTED)
    return figure


def draw_roof(axes, part) -> None:
    """A device's limit: its bandwidth times the FLOPs per byte, up to its matrix-product rate."""
    peak, bandwidth = part["peak_flops_per_second"].median(), part["bytes_per_second"].median()
    ridge = peak / bandwidth
    # From left of every point and of the ridge to the right of both.
    low = min(part["flops_per_byte"].min(), ridge) / 4
    high = max(part["flops_per_byte"].max(), ridge) * 4
    x = np.array([low, ridge, high])
    axes.plot(x, np.minimum(peak, bandwidth * x), color=MUTED, zorder=1)
