"""Pages that are shown early: what they load."""

import io
import re
from base64 import b64decode
from pathlib import Path

import matplotlib
from fontTools.ttLib import TTFont

from mlpstudy.book import light


def test_a_page_loads_only_scripts_that_it_uses_and_is_shown_before_they_are_read(tmp_path):
    names = ["documentation_options", "doctools", "scripts/fontawesome", "searchtools"]
    head = "".join(f'<script src="../_static/{name}.js?v=1"></script>' for name in names)
    options, tools = head.split("</script>")[:2]
    shown = f"{options}</script>{tools.replace(' src', ' defer src')}</script>"
    assert light.lighten(tmp_path / "a.html", head) == shown
    assert "searchtools" in light.lighten(tmp_path / "search.html", head)


def test_a_page_has_one_style_sheet_with_everything_in_order(tmp_path):
    sheets = {"basic": "a{}", "styles/theme": '@import "../basic.css";', "styles/b": "b{src:url(../b.woff)}"}
    for name, css in sheets.items():
        (path := tmp_path / "_static" / f"{name}.css").parent.mkdir(parents=True, exist_ok=True)
        path.write_text(css, encoding="utf-8")
    links = "".join(f'<link href="_static/{name}.css?v=1" rel="stylesheet" />\n' for name in list(sheets)[1:])
    (tmp_path / "index.html").write_text(links, encoding="utf-8")
    light.join_sheets(tmp_path)
    joined = (tmp_path / "_static" / "book.css").read_text(encoding="utf-8")
    assert joined == "a{}\nb{src:url(b.woff)}"
    inner = light.lighten(tmp_path / "a.html", links.replace("_static", "../_static"))
    assert inner == '<link rel="stylesheet" href="../_static/book.css" />\n'


def test_of_the_icons_the_sheet_keeps_those_that_are_shown_and_has_their_font(tmp_path):
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    (tmp_path / "_static" / "fonts").mkdir(parents=True)
    (tmp_path / "_static" / "fonts" / "fa-solid-900.ttf").write_bytes(font.read_bytes())
    icons = {"list": "2190", "bars": "2191", "sun": "2192", "old-sun": "2193"}
    css = "".join(f'.fa-{name}:before{{content:"\\{code}"}}' for name, code in icons.items())
    css = css.replace(":before", ":before,.fa-other:before", 1)
    face = '@font-face{src:url(../fonts/fa-solid-900.woff2) format("woff2"),url(x.ttf)}'
    (tmp_path / "_static" / "theme.css").write_text(face + css, encoding="utf-8")
    page = '<link href="_static/theme.css" rel="stylesheet" /><i class="fa-sun"></i><i class="fa-other"></i>'
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    (tmp_path / "_static" / "theme.js").write_text('add("fa-bars")', encoding="utf-8")
    light.join_sheets(tmp_path)
    joined = (tmp_path / "_static" / "book.css").read_text(encoding="utf-8")
    assert re.findall(r'content:"\\(\w+)"', joined) == ["2190", "2191", "2192"]
    data = re.search(r'@font-face\{src:url\(data:font/woff;base64,([^)]+)\) format\("woff"\)\}', joined)[1]
    assert set(TTFont(io.BytesIO(b64decode(data))).getBestCmap()) == {0x2190, 0x2191, 0x2192}
