"""Matplotlib figures as inline SVG, whose dots say which run they are."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from xml.etree import ElementTree

from . import html
from .html import Html
from .tables import run_hash, seed_in

NAMESPACE, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
SVG, HREF = f"{{{NAMESPACE}}}", f"{{{XLINK}}}href"
SHADES = 16
DIGITS = re.compile(r"(\.\d\d)\d+")
"""The decimals of a length; those after the second, below a hundredth of a point, are cut off."""


def drawing(figure, alt: str, frame=None, anchor: Callable[[str], str] | None = None) -> str:
    """A matplotlib figure as an ``svg`` element; closes the figure.

    Args:
        alt: the alternative text: what the figure shows.
        frame: the DataFrame that was drawn. If it has a column ``run``, a dot that belongs to one run has its
            seed as a tooltip.
        anchor: the element of the page that such a dot links to, by the run's id.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    runs = _name_dots(figure, frame) if frame is not None and "run" in frame else {}
    buffer = io.BytesIO()
    # Equal drawings have equal bytes: no date, and element names that do not change.
    with matplotlib.rc_context({"svg.hashsalt": "mlplib", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    plt.close(figure)
    ElementTree.register_namespace("", NAMESPACE)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    _separate(root, hashlib.sha256(buffer.getvalue()).hexdigest()[:8])
    for group in list(root.iter(f"{SVG}g")):
        _share_style(group)
        _title_dots(group, runs.get(group.attrib.pop("id", ""), []), anchor)
    root.attrib |= {"width": str(width), "height": str(height), "aria-label": alt}
    root.attrib |= {"role": "group" if runs and anchor else "img", "style": "stroke-linejoin: round"}
    return re.sub(r"\s*\n\s*", "\n", ElementTree.tostring(root, encoding="unicode"))


def figure(drawn, alt: str, caption: str, frame, filename: str) -> Html:
    """A matplotlib figure with its caption (HTML), which ends with a link to ``frame``, what was drawn."""
    return html.figure(drawing(drawn, alt), f"{caption} {html.csv_link(frame, filename)}.")


def _separate(root: ElementTree.Element, name: str) -> None:
    """Isolate a drawing from its page: unique ids, no page-wide style. Shorten numbers and shrink images."""
    for element in root.iter():
        if element.tag != f"{SVG}g" and "id" in element.attrib:
            element.set("id", f"{name}-{element.get('id')}")
        for key, value in element.attrib.items():
            if key in ("d", "x", "y"):
                element.set(key, DIGITS.sub(r"\1", value))
            if key == "transform":  # a scale keeps its digits
                short = re.sub(r"translate\([^)]*\)", lambda moved: DIGITS.sub(r"\1", moved[0]), value)
                element.set(key, short)
            if key == HREF:
                element.set(key, re.sub("^#", f"#{name}-", value))
            elif "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{name}-"))
        if element.tag == f"{SVG}style":
            element.text = None
        if element.tag == f"{SVG}image":
            element.set(HREF, _smaller(element.get(HREF)))


def _share_style(group: ElementTree.Element) -> None:
    """Move a style that all dots of a group share to the group."""
    styles = {(dot.tag, dot.get("style")) for dot in group}
    tag, style = styles.pop() if len(styles) == 1 and len(group) > 1 else (None, None)
    # Children inherit colors, fill-opacity and stroke-opacity, but not opacity.
    if (
        tag == f"{SVG}use"
        and style
        and "style" not in group.attrib
        and not re.search(r"(^|\s)opacity", style)
    ):
        group.set("style", style)
        for dot in group:
            del dot.attrib["style"]


def _smaller(source: str) -> str:
    """An image (data URL) with fewer shades, if it is gray: half the bytes without a visible difference."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGBA")
    red, green, blue, alpha = image.split()
    if not red.tobytes() == green.tobytes() == blue.tobytes():
        return source
    buffer = io.BytesIO()
    paper = Image.new("L", image.size, 255)
    paper.paste(red, mask=alpha)
    paper.quantize(SHADES).save(buffer, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _name_dots(figure, frame) -> dict[str, list[str | None]]:
    """The run of every dot, by the id of the SVG group that the dots will be in.

    A dot's run is the only one that has both coordinates, or the one that is in any row if the other is the
    position of a category. A mean is in no row, so it has no run.
    """
    runs: dict[float, set[str]] = {}
    for column in frame.select_dtypes("number").columns.drop("seed", errors="ignore"):
        for value, run in zip(frame[column], frame["run"], strict=True):
            runs.setdefault(float(value), set()).add(run)
    named = {}
    for axes in figure.axes:
        lines = [line for line in axes.lines if line.get_marker() not in ("None", "none", "", " ", None)]
        drawn = [(line, line.get_xydata()) for line in lines]
        for artist, points in [*drawn, *((dots, dots.get_offsets()) for dots in axes.collections)]:
            found = [[runs[value] for value in point if value in runs] for point in points.tolist()]
            names = [set.intersection(*sets) if sets else set() for sets in found]
            if any(len(name) == 1 for name in names):
                artist.set_gid(f"dots-{len(named)}")
                named[artist.get_gid()] = [min(name) if len(name) == 1 else None for name in names]
    return named


def _title_dots(
    group: ElementTree.Element, runs: Sequence[str | None], anchor: Callable[[str], str] | None
) -> None:
    """Give the dots in a group tooltips and links."""
    dots = [(parent, dot) for parent in group.iter() for dot in parent if dot.tag == f"{SVG}use"]
    if len(dots) != len(runs):  # a dot outside of the axes is not drawn
        return
    for (parent, dot), run in zip(dots, runs, strict=True):
        if run is None:
            continue
        ElementTree.SubElement(dot, f"{SVG}title").text = seed_in(run) or run_hash(run)
        if anchor is not None:
            # Dozens of links are for a mouse only; the keyboard reaches the table that they lead to.
            link = ElementTree.Element(f"{SVG}a", {"href": f"#{anchor(run)}", "tabindex": "-1"})
            parent[list(parent).index(dot)] = link
            link.append(dot)
