"""Pages that load fast: one style sheet with few icons, and only the scripts that a page uses."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

NEVER, SEARCH = "fontawesome", "searchtools|language_data|searchindex"
"""Scripts that the theme adds to every page, up to 3 MB: one draws icons that the font already provides, the
others are for the page of search results."""
SHEETS = re.compile(r'(?:<link [^>]*href="((?:\.\./)*)[^"?]*\.css[^>]*>\s*)+')
ICON = re.compile(r'(?:\.fa-[\w-]+:+before,?)+\{content:"[^"]*"\}')
ICON_FONT = re.compile(r"src:url\((\S*/fa-solid-900)\.woff2\)[^}]*")


def join_sheets(pages: Path) -> None:
    """Merge the style sheets, which are the same for all pages, into one, since a page waits for each."""
    names = re.findall(r'href="([^"?]*\.css)', (pages / "index.html").read_text(encoding="utf-8"))
    # theme.css does nothing but import basic.css
    names = [name.replace("styles/theme.css", "basic.css") for name in names]
    css = "\n".join((pages / name).read_text(encoding="utf-8") for name in names).replace("url(../", "url(")
    (pages / "_static" / "book.css").write_text(_few_icons(css, pages), encoding="utf-8")


def _few_icons(css: str, pages: Path) -> str:
    """The style sheet with only those of its 1,900 icons that a page or script names, and with their font
    embedded: 2 kB instead of 156.
    """
    used = [path for path in pages.rglob("*") if path.suffix in (".html", ".js") and NEVER not in path.name]
    names = set(re.findall(r"fa-[\w-]+", "".join(path.read_text(encoding="utf-8") for path in used)))
    css = ICON.sub(lambda rule: rule[0] if names.intersection(re.findall(r"fa-[\w-]+", rule[0])) else "", css)
    letters = {int(code, 16) for code in re.findall(r'content:"\\([0-9a-f]{4})"', css)}

    def within(source: re.Match) -> str:
        font = _subset(pages / "_static" / f"{source[1]}.ttf", letters)
        return f'src:url(data:font/woff;base64,{base64.b64encode(font).decode()}) format("woff")'

    return ICON_FONT.sub(within, css)


def _subset(path: Path, letters: set[int]) -> bytes:
    """A subset of a font's characters, as WOFF."""
    from fontTools.subset import Subsetter
    from fontTools.ttLib import TTFont

    font, few, buffer = TTFont(path, recalcTimestamp=False), Subsetter(), io.BytesIO()
    few.populate(unicodes=letters)
    few.subset(font)
    font.flavor = "woff"
    font.save(buffer)
    return buffer.getvalue()


def lighten(page: Path, text: str) -> str:
    """The page with one style sheet and without scripts that it does not use. The others are deferred, except
    for ``documentation_options.js``, whose options inline scripts set.
    """
    names = NEVER if page.name == "search.html" else f"{NEVER}|{SEARCH}"
    text = re.sub(rf'\s*<script [^>]*src="[^"]*(?:{names})\.js[^>]*></script>', "", text)
    text = re.sub(r'\s*<link rel="preload" as="script"[^>]*>', "", text)  # they are needed last
    text = SHEETS.sub(r'<link rel="stylesheet" href="\1_static/book.css" />\n', text)
    return re.sub(r'<script (?=src="(?!\S*documentation_options))', "<script defer ", text)
