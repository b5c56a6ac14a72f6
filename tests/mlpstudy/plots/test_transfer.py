"""Figures on transfer: what is drawn where, for one and for several data sets, and for none."""

import pytest

pd = pytest.importorskip("pandas")

from matplotlib.colors import to_hex  # noqa: E402

from mlpstudy.plots import transfer as plots  # noqa: E402

ARMS = ("from scratch", "pre-trained without DA", "pre-trained with DA")


def dots(datasets=("A", "B"), seeds=(0, 1), networks=ARMS):
    rows = [
        {"data": d, "network": n, "seed": s, "accuracy": 10.0 * i + s}
        for d in datasets
        for s in seeds
        for i, n in enumerate(networks)
    ]
    return pd.DataFrame(rows)


def views(datasets=("A",), networks=ARMS[1:]):
    rows = [
        {"data": d, "network": n, "average": a, "seed": s, "views": v, "gain": v / 10 + s}
        for d in datasets
        for n in networks
        for a in ("averaged logits", "averaged softmax")
        for s in (0, 1)
        for v in (1, 2, 4)
    ]
    return pd.DataFrame(rows)


def probes():
    rows = [
        {"data": "A", "features": f, "method": m, "seed": s, "accuracy": 20.0 + i + s}
        for i, f in enumerate(("pixels", "random weights", "pre-trained"))
        for m in ("linear", "ridge")
        for s in (0, 1)
    ]
    lines = [
        {"data": "A", "network": n, "accuracy": a} for n, a in (("from scratch", 30.0), ("fine-tuned", 40.0))
    ]
    return pd.DataFrame(rows), pd.DataFrame(lines)


def markers(axes):
    """(x, y, color) of every dot."""
    return [
        (float(x), float(y), to_hex(line.get_color()))
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_paired_dots_have_a_panel_a_data_set_and_a_dot_a_run():
    figure = plots.paired_dots(dots(), first=ARMS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["A", "B"]
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_yticklabels()] == list(ARMS)
        found = markers(axes)
        assert sorted(x for x, _, _ in found) == [0, 1, 10, 11, 20, 21]
        assert {round(y) for _, y, _ in found} == {0, 1, 2}
        assert len({color for _, _, color in found}) == 3
        joins = [line for line in axes.lines if line.get_marker() != "o"]
        assert [list(line.get_xdata()) for line in joins] == [[0, 10, 20], [1, 11, 21]]
    assert figure.axes[-1].get_xlabel() == "test accuracy (%)"


def test_official_checkpoints_stand_below_and_are_not_joined():
    figure = plots.paired_dots(dots(("A",), (0,), ("official X", *ARMS)), first=ARMS)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*ARMS, "official X"]
    (join,) = [line for line in axes.lines if line.get_marker() != "o"]
    assert list(join.get_xdata()) == [10, 20, 30]
    top, bottom = axes.get_ylim()[::-1]
    assert top < 0 < 3 < bottom, "the first is on top"


def test_an_arm_without_a_run_leaves_no_row():
    figure = plots.paired_dots(dots(networks=ARMS[::2]), first=ARMS)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(ARMS[::2])


def test_gains_are_means_over_seeds_against_the_number_of_views():
    figure = plots.gains(views(), known=ARMS)
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(drawn) == 4 and {line.get_linestyle() for line in drawn} == {"-", "--"}
    for line in drawn:
        assert list(line.get_xdata()) == [1, 2, 4]
        assert list(line.get_ydata()) == pytest.approx([0.6, 0.7, 0.9])
    assert axes.get_xscale() == "log" and [t.get_text() for t in axes.get_xticklabels()] == ["1", "2", "4"]
    assert labels(figure) == [*ARMS[1:], "averaged logits", "averaged softmax"]


def test_a_network_keeps_its_color_from_figure_to_figure():
    first = {round(y): color for _, y, color in markers(plots.paired_dots(dots(), first=ARMS).axes[0])}
    drawn = plots.gains(views(networks=("official X", *ARMS[1:])), known=ARMS)
    colors = {
        t.get_text(): to_hex(h.get_color())
        for t, h in zip(drawn.legends[0].get_texts(), drawn.legends[0].legend_handles, strict=True)
    }
    assert [colors[name] for name in ARMS[1:]] == [first[1], first[2]]
    assert colors["official X"] not in first.values()


def test_probes_stand_beside_what_they_are_compared_with():
    figure = plots.probes(*probes())
    (axes,) = figure.axes
    found = markers(axes)
    assert len(found) == 12 and len({color for _, _, color in found}) == 2
    assert len({(round(x, 3), round(y, 3)) for x, y, _ in found}) == 12, "no dot hides another"
    lines = {
        float(line.get_xdata()[0]): line.get_linestyle() for line in axes.lines if line.get_marker() != "o"
    }
    assert set(lines) == {30.0, 40.0} and len(set(lines.values())) == 2
    assert labels(figure) == ["linear probe", "ridge probe", "from scratch", "fine-tuned"]


def test_probes_are_drawn_without_anything_to_compare_with():
    frame, lines = probes()
    assert labels(plots.probes(frame, lines[:0])) == ["linear probe", "ridge probe"]


def spreads():
    import pandas as pd

    return pd.DataFrame(
        [("CIFAR-10", name, seed, 3.0 + seed) for name in ("pixels", "pre-trained") for seed in (0, 1)],
        columns=["data", "features", "seed", "directions"],
    )


def test_directions_are_a_dot_a_seed_from_zero_on():
    (axes,) = plots.directions(spreads()).axes
    assert sorted(x for x, _, _ in markers(axes)) == [3.0, 3.0, 4.0, 4.0] and axes.get_xlim()[0] == 0
    assert len({y for _, y, _ in markers(axes)}) == 4


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.directions(spreads()[:0]),
        lambda: plots.paired_dots(dots()[:0], first=ARMS),
        lambda: plots.gains(views()[:0], known=ARMS),
        lambda: plots.probes(probes()[0][:0], probes()[1]),
    ],
)
def test_without_data_a_figure_says_so(draw):
    (axes,) = draw().axes
    assert "nothing to draw" in axes.texts[0].get_text()
