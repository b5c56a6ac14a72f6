"""Figures as SVG drawings: who cannot see them, and what a dot says about its run."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import matplotlib.figure
import numpy as np
import pandas as pd
from PIL import Image
from plot_frames import curve_frame

from mlpstudy.book import svg
from mlpstudy.plots import curves


def test_a_figure_becomes_the_same_svg_every_time_with_words_for_who_cannot_see_it():
    first, second = (
        svg.drawing(curves.accuracy_curves(curve_frame((0, 1))), 'curves of "accuracy" & more')
        for _ in range(2)
    )
    assert first == second
    root = ElementTree.fromstring(first)
    assert root.get("aria-label") == 'curves of "accuracy" & more' and root.get("role") == "img"
    assert not list(root.iter(f"{svg.SVG}text"))  # letters are paths: no font is needed
    assert "*{" not in first  # a rule for the whole page


def test_two_drawings_of_a_page_share_no_id_and_lead_to_their_own():
    texts = [svg.drawing(curves.accuracy_curves(curve_frame(seeds)), "x") for seeds in ((0,), (0, 1))]
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in texts]
    assert ids[0] and not ids[0] & ids[1]
    for known, text in zip(ids, texts, strict=True):
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
        assert {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)} <= known


def test_a_dot_of_one_run_names_it_and_a_mean_does_not():
    frame = pd.DataFrame(
        {"run": ["a", "b", "c"], "seed": [0, 1, 3], "epoch": [1, 1, 2], "accuracy": [0.25, 0.5, 0.5]}
    )
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    axes.plot(frame["epoch"], frame["accuracy"], "o")
    axes.plot([1], [0.375], "o")  # epoch 1 is that of two runs, the mean that of none
    axes.scatter([0.6, 3], [0, 7])
    root = ElementTree.fromstring(svg.drawing(figure, "dots", frame, "this-study-{}".format))
    links = [(a.get("href"), a.find(f"{svg.SVG}use/{svg.SVG}title").text) for a in root.iter(f"{svg.SVG}a")]
    assert [title for _, title in links] == ["a", "b", "c"]
    assert all(href == f"#this-study-{title}" for href, title in links)


def test_dots_that_look_alike_say_so_once():
    figure = matplotlib.figure.Figure()
    figure.subplots().plot([1, 2, 3], [1, 2, 3], "o", color="#123456", alpha=0.5)
    root = ElementTree.fromstring(svg.drawing(figure, "dots"))
    (group,) = [g for g in root.iter(f"{svg.SVG}g") if "#123456" in g.get("style", "")]
    assert [dot.attrib.keys() & {"x", "style"} for dot in group] == [{"x"}] * 3


def test_lengths_have_two_decimals():
    text = svg.drawing(curves.accuracy_curves(curve_frame((0,))), "x")
    lengths, moves = re.findall(r'\b(?:d|x|y)="([^"]+)"', text), re.findall(r"translate\([^)]+", text)
    assert lengths and moves and not re.search(r"\.\d{3}", " ".join(lengths + moves))


def test_gray_pictures_take_fewer_bytes_and_colored_ones_stay():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    sizes = {}
    for name, values, colors in (("gray", noise, "gray"), ("colored", noise, "viridis")):
        figure = matplotlib.figure.Figure()
        figure.subplots().imshow(values, cmap=colors, interpolation="none")
        (image,) = ElementTree.fromstring(svg.drawing(figure, name)).iter(f"{svg.SVG}image")
        data = base64.b64decode(image.get(svg.HREF).partition(",")[2])
        sizes[name], picture = len(data), np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
        if name == "gray":
            flipped = min(np.abs(picture - noise).max(), np.abs(picture[::-1] - noise).max())
            assert flipped <= 256 / svg.SHADES
    assert sizes["gray"] < sizes["colored"] / 2
