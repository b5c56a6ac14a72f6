"""HTML of a chapter's page: figures, tables and files, for every reader."""

import re
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import pandas as pd

from mlpstudy.book import html


def test_a_table_has_headers_with_scope_a_caption_and_merged_names():
    rows = [
        {"": "one", " ": "a", "value": "<b>1</b>"},
        {"": "one", " ": "b", "value": "2"},
        {"": "two", " ": "a", "value": "3"},
    ]
    text = html.table(rows, "<b>Table</b> of values", "", " ")
    assert text.count('scope="col"') == 1 and text.count("<td></td>") == 2, "an empty cell heads nothing"
    assert text.count('scope="row"') == 5 and text.count('rowspan="2"') == 1
    assert "<caption><span><b>Table</b> of values</span></caption>" in text
    assert 'aria-label="Table of values"' in text and 'tabindex="0"' in text
    body = re.search(r"<table.*</table>", text, flags=re.DOTALL)[0]
    ElementTree.fromstring(body)  # well-formed


def test_a_csv_link_holds_the_whole_frame():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x,y", 'é "100 %" #<&']})
    link = html.csv_link(frame, "frame.csv")
    data = re.search(r'utf-8,([^"#<>& \n]+)">', link)[1]
    assert unquote(data) == frame.to_csv(index=False)
    assert 'download="frame.csv"' in link


def test_printed_html_is_plain_text():
    printed = repr(html.Html("<style>p {}</style><p>A &amp; B</p><p>C</p>"))
    assert [line.strip() for line in printed.splitlines()] == ["A & B", "C"]


def test_powers_are_still_powers_in_plain_text():
    assert repr(html.Html("<p>1.2 × 10<sup>15</sup> and 10<sup>-3</sup></p>")) == "1.2 × 10^15 and 10^-3"


def test_one_of_several_tabs_is_shown_first_and_a_single_pane_has_none():
    assert html.tabs("group", {"label": "<p>pane</p>"}, 0) == "<p>pane</p>"
    text = html.tabs("group", {"first": "a", "second": "b"}, 1)
    assert re.findall(r'id="([^"]+)"( checked)?><label for="([^"]+)"', text) == [
        ("group-0", "", "group-0"),
        ("group-1", " checked", "group-1"),
    ]
