"""HTML elements of chapters, for the book and for Jupyter: tables, figures, collapsible sections."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import pandas as pd

STYLE = """<style>
.mlp-box { border: 1px solid var(--pst-color-border, #c9ccd1); border-left: 4px solid #0072B2;
  border-radius: 4px; padding: .6rem 1rem; margin: .8rem 0; }
.mlp-box.mlp-warning { border-left-color: #D55E00; }
.mlp-box dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
.mlp-box dt { font-weight: 600; } .mlp-box dd { margin: 0; overflow-wrap: anywhere; }
.mlp-box p { margin: .3rem 0; }
.mlp-scroll { overflow-x: auto; margin: .8rem 0; container-type: inline-size; }
.mlp-scroll table { border-collapse: collapse; margin: 0; }
.mlp-scroll caption { caption-side: top; text-align: left; padding: 0 0 .4rem; font-size: .9em;
  color: var(--pst-color-text-base, inherit); }
.mlp-scroll caption > span { position: sticky; left: 0; display: inline-block;
  max-width: 100cqw; } /* it stays in view and wraps where the table is wider than its box */
.mlp-scroll th, .mlp-scroll td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid var(--pst-color-border, #c9ccd1); }
.mlp-scroll thead th { border-bottom-width: 2px; vertical-align: bottom; }
.mlp-scroll .mlp-small { font-weight: normal; }
.mlp-number { white-space: nowrap; }
.mlp-muted { opacity: .8; }
.mlp-wide { display: block; min-width: 18rem; }
.mlp-small { font-size: .85em; display: block; }
.mlp-figures { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.mlp-figures figure { margin: .8rem 0; padding: 0; flex: 0 1 auto; max-width: min(100%, 40rem);
  text-align: left; }
.mlp-figures svg { max-width: 100%; height: auto; margin: 0; background: #fff; }
.mlp-tabs { display: flex; flex-wrap: wrap; gap: 0 .2rem; margin: .8rem 0; }
.mlp-tabs > input { position: absolute; opacity: 0; }
.mlp-tabs > label { padding: .2rem .8rem; margin: 0; cursor: pointer; border-bottom: 3px solid transparent; }
.mlp-tabs > input:checked + label { border-color: #0072B2; font-weight: 600; }
.mlp-tabs > input:focus-visible + label { outline: 2px solid #0072B2; }
.mlp-tabs > div { display: none; order: 1; width: 100%; }
.mlp-tabs > input:checked + label + div { display: block; }
@media print { .mlp-tabs > div { display: block; } .mlp-tabs > label { order: 1; width: 100%; } }
.mlp-figures figcaption { font-size: .9em; font-weight: normal; text-align: left; margin: .3rem 0 0;
  padding: 0; color: var(--pst-color-text-base, inherit); }
.mlp-claim { margin: 1.4rem 0 0; } .mlp-claim p { margin: 0 0 .3rem; }
.mlp-verdict { font-weight: 600; display: block; border-left: .5em solid; padding-left: .4em;
  min-width: 6.5rem; }
.mlp-verdict.reproduced { border-color: #009E73; } .mlp-verdict.partly { border-color: #E69F00; }
.mlp-verdict.inconclusive { border-color: #CC79A7; } .mlp-verdict.not { border-color: #D55E00; }
.mlp-verdict.untested { border-color: #999; }
.mlp-chip { display: inline-block; padding: 0 .5em; margin: .1rem 0; border: 2px solid; border-radius: 1em;
  font-size: .9em; color: #1a1a1a !important; text-decoration: none; }
.mlp-chip.reproduced { border-color: #009E73; background: #d5f0e7; }
.mlp-chip.partly { border-color: #E69F00; background: #fbeccb; }
.mlp-chip.inconclusive { border-color: #CC79A7; background: #f6e3ee; }
.mlp-chip.not { border-color: #D55E00; background: #f9dccb; }
.mlp-chip.untested { border-color: #999; background: #eee; }
.mlp-chip.reproduced::before { content: "✓ "; } .mlp-chip.partly::before { content: "◐ "; }
.mlp-chip.inconclusive::before { content: "? "; } .mlp-chip.not::before { content: "✗ "; }
.mlp-chip.untested::before { content: "– "; }
.mlp-found + .mlp-found { border-top: 1px solid var(--pst-color-border, #c9ccd1); }
.mlp-fold { margin: .8rem 0; } .mlp-fold > summary { cursor: pointer; font-weight: 600; }
html[data-theme="dark"] .cell_output .text_html:has([class^="mlp-"]) { background: none !important;
  color: inherit !important; padding: 0 !important; } /* the book's theme puts dark text on light there */
@media (max-width: 600px) { .mlp-box dl { display: block; } .mlp-box dd { margin-bottom: .3rem; } }
</style>"""
"""Every chapter includes this once. Colors that the book's theme defines follow its light and dark mode."""


class Html(str):
    """HTML that a notebook renders; its ``repr`` is plain text."""

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        text = re.sub(r"<(style|svg).*?</\1>", "", self, flags=re.DOTALL)
        text = re.sub(r"<sup>(-?\d+)</sup>", r"^\1", text)
        text = re.sub(r"</(tr|p|dd|li|figcaption|summary|caption|h\d)>", "\n", text)
        return html.unescape(re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"<[^>]*>", " ", text))).strip()


def escape(text: object) -> str:
    """``text`` with the special characters of HTML escaped."""
    return html.escape(str(text))


def small(text: str) -> str:
    """A second, smaller line; ``text`` is HTML."""
    return f'<span class="mlp-small">{text}</span>' if text else ""


def table(rows: Sequence[Mapping[str, str]], caption: str, *row_headers: str, otherwise: str = "") -> Html:
    """A table of HTML cells with its caption, in a box that scrolls horizontally if it does not fit.

    Args:
        rows: column name to cell, HTML; every row has the same columns.
        caption: HTML.
        row_headers: the columns that name a row. Equal neighbors in the first of them are merged.
        otherwise: what to show if there are no rows, HTML.
    """
    if not rows:
        return box(f"<p>{otherwise}</p>")

    frame = pd.DataFrame(list(rows)).set_index(list(row_headers))
    headings = [*row_headers, *frame.columns]
    frame.index.names = [None] * len(row_headers)
    text = re.sub(r"\n +", "\n", frame.to_html(escape=False, border=0, classes="mlp-table"))
    head, body = text.split("</thead>")
    cells = "".join(f'<th scope="col">{name}</th>' if name.strip() else "<td></td>" for name in headings)
    top = f"<caption><span>{caption}</span></caption>"
    head = f"{head[: head.index('<thead>')]}{top}<thead><tr>{cells}</tr></thead>"
    body = re.sub(r"<th( rowspan=\"\d+\")?[^>]*>", r'<th scope="row"\1>', body)
    label = escape(re.sub(r"<[^>]*>", "", caption))
    scroll = f'<div class="mlp-scroll" role="region" tabindex="0" aria-label="{label}">'
    return Html(f"{scroll}{head}{body}</div>")


def box(content: str, warning: bool = False) -> Html:
    """A framed box around ``content`` (HTML)."""
    return Html(f'<div class="mlp-box{" mlp-warning" if warning else ""}">{content}</div>')


def banner(entries: Mapping[str, str]) -> Html:
    """The opening of a page: its style sheet, and a box of names and values (HTML)."""
    items = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in entries.items())
    return Html(STYLE + box(f"<dl>{items}</dl>"))


def fold(summary: str, content: str) -> str:
    """``content`` (HTML) in a collapsed section that a click on ``summary`` opens."""
    return f'<details class="mlp-fold"><summary>{escape(summary)}</summary>{content}</details>'


def figure(image: str, caption: str) -> Html:
    """An image with its caption, both HTML."""
    figure = f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
    return Html(f'<div class="mlp-figures">{figure}</div>')


def tabs(group: str, panes: Mapping[str, str], chosen: int) -> str:
    """Panes in tabs, of which number ``chosen`` is shown first; labels and panes are HTML. Radio buttons
    switch between them without a script. ``group`` must be unique in the page.
    """
    if len(panes) == 1:
        return "".join(panes.values())
    parts = []
    for number, (label, pane) in enumerate(panes.items()):
        id, checked = f"{group}-{number}", " checked" if number == chosen else ""
        parts.append(
            f'<input type="radio" name="{group}" id="{id}"{checked}><label for="{id}">{label}</label>'
        )
        parts.append(f"<div>{pane}</div>")
    return f'<div class="mlp-tabs">{"".join(parts)}</div>'


def csv_link(frame: pd.DataFrame, filename: str) -> str:
    """A link that downloads a DataFrame as CSV; the data is inside the page."""
    data = quote(frame.to_csv(index=False), safe=",;:/()=")  # a page compresses it better than base64
    return f'<a download="{escape(filename)}" href="data:text/csv;charset=utf-8,{data}">Data (CSV)</a>'
