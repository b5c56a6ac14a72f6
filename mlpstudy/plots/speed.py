"""The figures of the chapters on efficiency and on speed: throughput, rooflines, the parts of a step."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..words import digits
from . import look

MLPS, OTHERS = (look.BLUE, look.SKY, look.INK), (look.ORANGE, look.GREEN, look.PINK, look.GOLD)
"""Blues for MLPs, other colors for the networks that they are compared with."""

ROOF_NAMES = {
    "memory": ("memory of the device", "FLOPs per byte of memory"),
    "copy": ("copy to the device", "FLOPs per byte of images"),
}

PARTS = {
    "matrix products": look.BLUE,
    "elementwise and the rest": look.SKY,
    "optimizer": look.GREEN,
    "loading": look.GOLD,
    "augmentation": look.ORANGE,
}
"""The parts of a step and their colors, in the order in which they are stacked."""

WIDTH_COLORS = (look.PINK, look.GOLD, look.GREEN, look.BLUE, look.ORANGE)


# --------------------------------------------------------------------------- helpers


def _styles(names) -> dict[str, dict]:
    """The color and the marker of each network, MLPs first."""
    mlps, others = itertools.cycle(MLPS), itertools.cycle(OTHERS)
    names = sorted(look.unique(names), key=lambda name: "/Wi-" not in name)
    markers = look.markers_of(names)
    return {n: {"color": next(mlps if "/Wi-" in n else others), "marker": markers[n]} for n in names}


def logarithmic(axes) -> None:
    """Both axes by powers of ten, with short labels."""
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        low, high = axis.get_view_interval()
        # With less than two powers of ten there would be hardly any labels.
        axis.set_major_locator(LogLocator(numticks=6, subs=(1,) if high > 100 * low else (1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(look.short))
        axis.set_minor_formatter(NullFormatter())


def _roofline(axes, part, line: str, styles: Mapping[Hashable, dict], **style) -> None:
    """FLOP/s against FLOPs per byte under the devices' limits, one style per value of the column ``line``."""
    for _, of_device in part.groupby("device"):
        _draw_roof(axes, of_device)
    for name, points in part.groupby(line, sort=False):
        axes.plot(points["flops_per_byte"], points["flops_per_second"], **styles[name], **style)
    logarithmic(axes)


def _draw_roof(axes, part) -> None:
    """A device's limit: its bandwidth times the FLOPs per byte, up to its matrix-product rate."""
    peak, bandwidth = part["peak_flops_per_second"].median(), part["bytes_per_second"].median()
    ridge = peak / bandwidth
    # From left of every point and of the ridge to the right of both.
    low = min(part["flops_per_byte"].min(), ridge) / 4
    high = max(part["flops_per_byte"].max(), ridge) * 4
    x = np.array([low, ridge, high])
    axes.plot(x, np.minimum(peak, bandwidth * x), color=look.MUTED, zorder=1)


# --------------------------------------------------------------------------- efficiency


@look.styled
def throughput(frame) -> Figure:
    """Images per second by batch size: a color and a marker per network, dotted with a copy, else solid.

    Args:
        frame: columns ``network, images, batch_size, images_per_second, q25, q75, seed``; ``images`` says
            where they are: ``images on the device`` or ``copied as float32``; others are not drawn.
    """
    styles = _styles(frame["network"])
    figure, ((axes,),) = look.new_figure(1, 1, height=4.6)
    for images, line in (("images on the device", "-"), ("copied as float32", ":")):
        for name, style in styles.items():
            part = frame[(frame["network"] == name) & (frame["images"] == images)]
            found = part.groupby("batch_size")[["images_per_second", "q25", "q75"]].median()
            axes.plot(found.index, found["images_per_second"], linestyle=line, ms=5, **style)
            if line == "-":
                band = dict(color=style["color"], alpha=0.18, lw=0)
                axes.fill_between(found.index, found["q25"], found["q75"], **band)
    logarithmic(axes)
    axes.set_xlabel("batch size")
    axes.set_ylabel("images per second")
    lines = [look.key(name, ms=5, **style) for name, style in styles.items()]
    lines += [look.key("on the device"), look.key("with a copy", linestyle=":")]
    look.legend_below(figure, lines, 3, columnspacing=1.0, handlelength=1.6)
    return figure


@look.styled
def rooflines(frame) -> Figure:
    """FLOP/s against FLOPs per byte, under the limits of bandwidth and arithmetic; one panel per limit.

    Args:
        frame: columns ``network, roof, flops_per_byte, flops_per_second, peak_flops_per_second,
            bytes_per_second, device``; ``roof`` is ``memory`` or ``copy``.
    """
    names = [roof for roof in ROOF_NAMES if roof in set(frame["roof"])]
    styles = {name: style | {"ls": ""} for name, style in _styles(frame["network"]).items()}
    figure, (row,) = look.new_figure(1, len(names), height=4.4, sharey=True)
    for axes, roof in zip(row, names, strict=True):
        _roofline(axes, frame[frame["roof"] == roof], "network", styles, ms=7)
        title, label = ROOF_NAMES[roof]
        axes.set_title(title)
        axes.set_xlabel(label)
    row[0].set_ylabel("FLOP/s")
    handles = [*(look.key(name, **style) for name, style in styles.items()), look.key("roof")]
    look.legend_below(figure, handles, 3, columnspacing=1.0, handlelength=1.4)
    figure.suptitle(", ".join(sorted(set(frame["device"]))), fontsize=10, color=look.MUTED)
    return figure


# --------------------------------------------------------------------------- speed


@look.styled
def step_parts(frame) -> Figure:
    """One bar per network: the shares of its step, with the time of the whole step at its end.

    Args:
        frame: columns ``what`` (a row's name), ``part`` (of :data:`PARTS`), ``milliseconds``.
    """
    names = look.unique(frame["what"])
    table = frame.pivot_table(index="what", columns="part", values="milliseconds", aggfunc="sum").loc[names]
    whole = table.sum(axis=1)
    shares = 100 * table.reindex(columns=PARTS).fillna(0).div(whole, axis=0)
    figure, ((axes,),) = look.new_figure(1, 1, height=1.6 + 0.62 * len(names))
    left = np.zeros(len(names))
    for part in (part for part in PARTS if part in table):
        axes.barh(range(len(names)), shares[part], left=left, color=PARTS[part], height=0.6)
        left += shares[part].to_numpy()
    for place, name in enumerate(names):
        label = f"{digits(whole[name])} ms"
        axes.annotate(label, (101, place), va="center", color=look.MUTED, fontsize=10)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share of a step (%)")
    look.name_rows(axes, names)
    handles = [Patch(color=color, label=part) for part, color in PARTS.items()]
    look.legend_below(figure, handles, 2, columnspacing=1.0, handlelength=1.0)
    return figure


@look.styled
def layer_roofline(frame) -> Figure:
    """Layers under the roof of their device: FLOP/s against FLOPs per byte. One panel per device, one line
    per width, one point per batch size.

    Args:
        frame: columns ``source``, ``width``, ``batch``, ``flops_per_byte``, ``flops_per_second``,
            ``peak_flops_per_second``, ``bytes_per_second``.
    """
    sources = look.unique(frame["source"])
    markers = look.markers_of(sorted(set(frame["width"])))
    styles = {
        width: {"color": color, "marker": marker}
        for (width, marker), color in zip(markers.items(), itertools.cycle(WIDTH_COLORS), strict=False)
    }
    figure, grid = look.new_figure(len(sources), 1, height=0.9 + 3.4 * len(sources), sharex=True)
    for (axes,), source in zip(grid, sources, strict=True):
        part = frame[frame["source"] == source].sort_values(["width", "batch"]).assign(device=source)
        _roofline(axes, part, "width", styles, ms=5, lw=1.2)
        axes.set_title(source, fontsize=10)
        axes.set_ylabel("FLOP/s")
    axes.set_xlabel("FLOPs per byte of memory")
    handles = [*(look.key(f"width {width}", **style) for width, style in styles.items()), look.key("roof")]
    look.legend_below(figure, handles, 3, columnspacing=1.0, handlelength=1.4)
    return figure
