"""Figures show what they were given, look alike, and leave the reader's matplotlib alone."""

import base64
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest

from mlplib.errors import MlplibError
from mlplib.specs import ModelSpec
from mlpstudy.book import html
from mlpstudy.plots import diagrams, look


def curves(seeds=(0,), datasets=("CIFAR-10",), epochs=(1, 2, 3)):
    rows = [
        dict(data=data, model=model, augmentation=da, seed=seed, split=split, epoch=epoch, run="r")
        for data in datasets
        for model in ("S-MLP", "B-MLP")
        for da in ("without DA", "with DA")
        for seed in seeds
        for split in ("test", "train")
        for epoch in epochs
    ]
    frame = pd.DataFrame(rows)
    frame["accuracy"] = 10.0 * frame["epoch"] + frame["seed"]
    return frame


def measures(seeds=(0,)):
    rows = [
        dict(
            condition=c, measure=m, seed=s, mean=0.1 * i, q25=0.1 * i - 0.1, median=0.1 * i, q75=0.1 * i + 0.1
        )
        for i, c in enumerate(("at initialization", "all images, with DA", "all images, without DA"))
        for m in ("locality", "smoothness")
        for s in seeds
    ]
    return pd.DataFrame(rows)


def before_after(seeds=(0,)):
    rows = [
        dict(model=m, pixels=p, seed=s, accuracy=40 + s)
        for m in ("B-MLP", "small CNN")
        for p in ("as they are", "permuted")
        for s in seeds
    ]
    return pd.DataFrame(rows)


def draw_all(seeds):
    return [
        look.accuracy_curves(curves(seeds)),
        look.filter_measures(measures(seeds)),
        look.before_and_after(
            before_after(seeds), x="pixels", y="accuracy", hue="model", label="accuracy (%)"
        ),
    ]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_every_panel_names_its_axes_and_fits_a_phone(seeds):
    for figure in draw_all(seeds):
        assert all(axes.get_xlabel() for axes in figure.axes)
        assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()
        assert figure.get_size_inches()[0] <= look.WIDTH
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) >= 10


def test_lines_are_means_and_bands_span_the_seeds():
    one, several = look.accuracy_curves(curves((0,))), look.accuracy_curves(curves((0, 2)))
    assert not one.axes[0].collections
    test_line = next(line for line in several.axes[0].lines if line.get_linestyle() == "-")
    assert list(test_line.get_ydata()) == [11, 21, 31]
    band = several.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (10, 32)


def test_a_data_set_has_its_row_of_panels_and_a_model_its_color():
    figure = look.accuracy_curves(curves(datasets=("CIFAR-10", "CIFAR-100")))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"{data}, {da}" for data in ("CIFAR-10", "CIFAR-100") for da in ("without DA", "with DA")
    ]
    only_b = curves().query("model == 'B-MLP'")
    for drawn in (figure, look.accuracy_curves(only_b)):
        labels = {text.get_text() for text in drawn.legends[0].get_texts()}
        handle = next(h for h in drawn.legends[0].legend_handles if h.get_label() == "B-MLP")
        assert handle.get_color() == look.KNOWN_COLORS["B-MLP"]
        assert {"B-MLP", "test", "train"} <= labels


def test_measures_stand_where_they_belong():
    figure = look.filter_measures(measures((0, 1)))
    assert [axes.get_xlabel() for axes in figure.axes] == ["locality", "smoothness"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[0, 0], [0.1, 0.1], [0.2, 0.2]]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][1] == "all images,\nwith DA"


def test_mosaics_show_every_filter_once_and_nothing_else():
    filters = np.arange(25 * 4, dtype=np.uint8).reshape(25, 2, 2)
    image = look.tiles(filters)
    assert image.shape == (14, 14)
    assert sorted(image.compressed()) == sorted(filters.ravel())
    assert (image[0:2, 3:5] == filters[1]).all()
    assert look.tiles(filters[:3]).count() == 12
    figure = look.filter_mosaics({f"condition {i}": filters for i in range(5)})
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.images] == [
        f"condition {i}" for i in range(5)
    ]


def test_where_there_is_nothing_a_figure_says_so():
    nothing = pd.DataFrame()
    for figure in (
        look.accuracy_curves(nothing),
        look.filter_measures(nothing),
        look.filter_mosaics({}),
        look.before_and_after(nothing, x="a", y="b", hue="c", label="d"),
    ):
        assert "nothing to draw" in figure.axes[0].texts[0].get_text()


def test_a_seed_without_its_second_run_is_still_drawn():
    frame = before_after((0, 1)).drop(index=1)
    figure = look.before_and_after(frame, x="pixels", y="accuracy", hue="model", label="accuracy (%)")
    assert len(figure.axes[0].lines) == 4


def test_the_readers_own_settings_stay_as_they_are():
    before = dict(matplotlib.rcParams)
    draw_all((0, 1))
    html.svg_image(look.nothing_to_draw(), "nothing")
    assert dict(matplotlib.rcParams) == before


def test_names_stand_where_the_groups_are_apart():
    """The CNN falls to where the MLP is: on the right their names would lie on each other."""
    frame = before_after()
    frame["accuracy"] = [53, 53, 71, 53]
    figure = look.before_and_after(frame, x="pixels", y="accuracy", hue="model", label="accuracy (%)")
    assert {text.get_text(): text.xy for text in figure.axes[0].texts} == {
        "B-MLP": (0, 53),
        "small CNN": (0, 71),
    }
    frame["accuracy"] = [53, 53, 53, 71]
    figure = look.before_and_after(frame, x="pixels", y="accuracy", hue="model", label="accuracy (%)")
    assert {text.xy for text in figure.axes[0].texts} == {(1, 53), (1, 71)}


# --------------------------------------------------------------------------- diagrams


def test_patches_keep_every_pixel_and_pixels_are_read_row_after_row():
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    spread = diagrams._with_gaps(image, 4)
    assert spread.shape == (9, 9, 3)
    assert (np.delete(np.delete(spread, 4, axis=0), 4, axis=1) == image).all()
    assert (diagrams._as_strips(image, lines=2)[0] == image[:4].reshape(-1, 3)).all()
    assert len(diagrams.patches_and_pixels(image).axes) == 3
    with pytest.raises(MlplibError, match="patches of 3 pixels do not tile"):
        diagrams.patches_and_pixels(image, patch=3)


def test_wiring_counts_the_numbers_it_draws():
    figure = diagrams.wiring(patches=3, channels=2)
    for axes, numbers in zip(figure.axes, (9, 4, 36), strict=True):
        drawn = axes.images[0].get_array()
        assert axes.get_xlabel() == f"{numbers} numbers" and drawn.shape == (6, 6)
        assert len(np.unique(drawn.compressed())) == numbers


@pytest.mark.parametrize(
    "name, changes, steps",
    [
        ("S-6/Wi-256", {}, ["LayerNorm", "Linear m → m", "ReLU"]),
        ("S-6/Wi-256", {"official_order": True, "activation": "gelu"}, ["LayerNorm", "GELU", "Linear m → m"]),
        ("B-6/Wi-256", {}, ["LayerNorm", "Linear m → 4m", "GELU", "Linear 4m → m", "add"]),
        (
            "B-6/Wi-256",
            {"expansion": 2, "skip": False},
            ["LayerNorm", "Linear m → 2m", "GELU", "Linear 2m → m"],
        ),
        ("B-6/Wi-256", {"norm": "none"}, ["Linear m → 4m", "GELU", "Linear 4m → m", "add"]),
        (
            "B-6/Wi-256",
            {"norm": "batch", "norm_position": "post"},
            ["Linear m → 4m", "GELU", "Linear 4m → m", "add", "BatchNorm"],
        ),
    ],
)
def test_a_block_is_drawn_as_its_settings_say(name, changes, steps):
    spec = ModelSpec.parse(name, **changes)
    assert [step for step, _ in diagrams.steps(spec)] == steps
    words = [text.get_text() for text in diagrams.blocks(spec).axes[0].texts]
    assert words == ["z", *("+" if step == "add" else step for step in steps)]


def test_a_network_without_such_blocks_is_refused():
    with pytest.raises(MlplibError, match="small-cnn has no blocks to draw"):
        diagrams.blocks(ModelSpec.parse("small-cnn"))


# --------------------------------------------------------------------------- into the page


def test_a_figure_becomes_the_same_svg_every_time_with_words_for_who_cannot_see_it():
    first, second = (html.svg_image(draw_all((0, 1))[0], 'curves of "accuracy" & more') for _ in range(2))
    assert first == second
    assert 'alt="curves of &quot;accuracy&quot; &amp; more"' in first
    data = re.search(r"base64,([^\"]+)", first)[1]
    root = ElementTree.fromstring(base64.b64decode(data))
    assert root.tag.endswith("svg")
    assert not list(root.iter("{http://www.w3.org/2000/svg}text"))  # letters are paths: no font is needed


def test_a_table_has_headers_with_scope_a_caption_and_merged_names():
    rows = [
        {"": "one", " ": "a", "value": "<b>1</b>"},
        {"": "one", " ": "b", "value": "2"},
        {"": "two", " ": "a", "value": "3"},
    ]
    text = html.table(rows, "<b>Table</b> of values", row_headers=("", " "))
    assert text.count('scope="col"') == 3
    assert text.count('scope="row"') == 5 and text.count('rowspan="2"') == 1
    assert "<caption><b>Table</b> of values</caption>" in text
    assert 'aria-label="Table of values"' in text and 'tabindex="0"' in text
    body = re.search(r"<table.*</table>", text, flags=re.DOTALL)[0]
    ElementTree.fromstring(body)  # well-formed


def test_a_csv_link_holds_the_whole_frame():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x,y", "é"]})
    link = html.csv_link(frame, "frame.csv")
    data = base64.b64decode(re.search(r"base64,([^\"]+)", link)[1]).decode()
    assert data == frame.to_csv(index=False)
    assert 'download="frame.csv"' in link


def test_printed_html_is_plain_text():
    printed = repr(html.Html("<style>p {}</style><p>A &amp; B</p><p>C</p>"))
    assert [line.strip() for line in printed.splitlines()] == ["A & B", "C"]
