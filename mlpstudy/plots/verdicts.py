"""The figure of the scoreboard: every claim's verdict, and how it depends on how intervals are made."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from .look import GOLD, GREEN, INK, ORANGE, PINK, legend_below, name_rows, new_figure, styled, unique

LOOKS = {
    REPRODUCED: (GREEN, "R", "white"),
    PARTLY: (GOLD, "p", INK),
    INCONCLUSIVE: (PINK, "?", INK),
    CONTRADICTED: (ORANGE, "C", "white"),
    NOT_TESTED: ("#eeeeee", "", INK),
}
"""Color, as in the tables, letter and the letter's color of each verdict."""


@styled
def robustness(frame) -> Figure:
    """One square per claim (rows) and way to make intervals (columns), in a panel per profile.

    Args:
        frame: columns ``profile, variant, claim, verdict``, in the order to be drawn.
    """
    profiles, claims, variants = (unique(frame[name]) for name in ("profile", "claim", "variant"))
    height = 2.4 + 0.24 * len(claims)
    figure, (grid,) = new_figure(1, len(profiles), height=height, sharey=True)
    for axes, profile in zip(grid, profiles, strict=True):
        axes.set_title(profile.replace(", ", ",\n"))
        axes.grid(visible=False)
        for row in frame[frame["profile"] == profile].itertuples():
            x, y = variants.index(row.variant), claims.index(row.claim)
            color, letter, ink = LOOKS[row.verdict]
            axes.add_patch(Rectangle((x - 0.45, y - 0.45), 0.9, 0.9, facecolor=color))
            axes.text(x, y, letter, ha="center", va="center", color=ink, fontsize=9)
        axes.set_xticks(range(len(variants)), variants, rotation=90)
        axes.set_xlim(-0.5, len(variants) - 0.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    name_rows(grid[0], claims)
    handles = [Patch(color=color, label=f"{letter} {name}") for name, (color, letter, _) in LOOKS.items()]
    legend_below(figure, handles, 2)
    return figure
