"""The figure of the front page: the paper's values against this study's."""

from __future__ import annotations

from matplotlib.figure import Figure

from . import look

COLORS = {"gpu": look.BLUE, "colab": look.PINK, "laptop": look.GREEN, "paper": look.INK}


@look.styled
def against_paper(frame) -> Figure:
    """One panel per item of the paper, one row per value: a cross for the paper, a marker per profile.

    Args:
        frame: columns ``item, name, unit, profile, value, low, high, paper``.
    """
    items, profiles = look.unique(frame["item"]), look.unique(frame["profile"])
    colors, markers = look.colors_of(profiles, COLORS), look.markers_of(profiles)
    offsets = dict(zip(profiles, look.offsets(len(profiles), 0.4), strict=True))  # no cross hides a dot
    sizes = [len(look.unique(frame.loc[frame["item"] == item, "name"])) for item in items]
    figure, grid = look.new_figure(
        len(items), 1, height=0.8 + sum(0.7 + 0.3 * n for n in sizes), height_ratios=[n + 1 for n in sizes]
    )
    for item, axes in zip(items, grid[:, 0], strict=True):
        part = frame[frame["item"] == item]
        names = look.unique(part["name"])
        for row in part.itertuples():
            place = names.index(row.name)
            axes.plot(row.paper, place, **look.CROSS, zorder=3)
            dot = dict(color=colors[row.profile], marker=markers[row.profile], markersize=6)
            look.interval_dot(axes, place + offsets[row.profile], row.value, row.low, row.high, **dot)
        look.name_rows(axes, [name.replace(": ", ":\n") for name in names])
        axes.set_title(item)
        unit = part["unit"].iloc[0]
        axes.set_xlabel(f"test accuracy ({unit})" if unit == "%" else unit)
    handles = [look.key("the paper", **look.CROSS)]
    handles += [
        look.key(f"this study, {name}", colors[name], marker=markers[name], linestyle="") for name in profiles
    ]
    look.legend_below(figure, handles, 2)
    return figure
