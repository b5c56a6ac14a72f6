"""Check that the rendered book is complete, and say why a chapter failed.

The wrong version of Jupyter Book exits with 0 and writes no page, so the rendered pages are checked.
"""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

from mlplib.errors import MlplibError

GENERATED = ("chapters", "_build")
"""What a build writes into a book's folder."""


def pages_of(source: Path) -> list[str]:
    """Every file of a book's sources that is written by hand, relative to ``source``, with ``/``."""
    files = (path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file())
    kept = (f for f in files if f.parts[0] not in GENERATED and not any(p.startswith(".") for p in f.parts))
    return [path.as_posix() for path in kept]


def pages_in_toc(source: Path) -> list[str]:
    """The pages that ``_toc.yml`` lists, the front page first, without suffix (``chapters/filters``).

    Raises:
        MlplibError: there is no table of contents.
    """
    path = source / "_toc.yml"
    if not path.is_file():
        raise MlplibError(f"{path} is missing: a book needs a table of contents")
    return re.findall(r"^ *(?:root|- file): *(\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def headings(page: Path) -> list[str]:
    """The headings of a Markdown page or a notebook, in order, as plain text.

    Args:
        page: the source without suffix; ``.md`` or ``.ipynb`` is added.

    Raises:
        MlplibError: neither file is there.
    """
    notebook, markdown = page.with_name(page.name + ".ipynb"), page.with_name(page.name + ".md")
    if notebook.is_file():
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    elif markdown.is_file():
        text = markdown.read_text(encoding="utf-8")
    else:
        raise MlplibError(
            f"the table of contents lists {page.name}, but there is no {notebook} and no {markdown}"
        )
    fence = r"^(`{3,}|:{3,}|~{3,}).*?^\1"
    text = re.sub(fence, "", text, flags=re.MULTILINE | re.DOTALL)
    return [_plain(h) for h in re.findall(r"^#{1,4} +(.+?) *#*$", text, flags=re.MULTILINE)]


def _plain(text: str) -> str:
    """Words only: without Markdown marks, tags, entities and formulas, one space between words."""
    text = re.sub(r"\{[^{}]*\}`[^`]*`|\$[^$]*\$", " ", text)
    text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return " ".join(re.findall(r"\w+", re.sub(r"\]\([^)]*\)", " ", text)))


def problems(source: Path) -> list[str]:
    """What is wrong with the book rendered from ``source``, one line each; empty when it is complete.

    Every page of the table of contents must be there with all headings of its source, and a
    chapter must carry outputs and no traceback.
    """
    found = []
    for page in pages_in_toc(source):
        rendered = source / "_build" / "html" / f"{page}.html"
        if not rendered.is_file():
            found.append(f"page {page} was not rendered: {rendered} is missing")
            continue
        raw = rendered.read_text(encoding="utf-8")
        text = re.sub(r"<(script|style|math)\b.*?</\1>", " ", raw, flags=re.DOTALL)
        words = f" {_plain(text)} "
        lost = [h for h in headings(source / page) if f" {h} " not in words]
        found += [f"page {page} lacks its section {heading!r}" for heading in lost]
        if page.startswith("chapters/"):
            if 'class="output' not in raw and 'class="cell_output' not in raw:
                found.append(f"page {page} has no outputs: it was rendered without being executed")
            if "Traceback (most recent call last)" in text or 'class="output traceback' in raw:
                found.append(f"page {page} shows a traceback")
    return found


def failures(source: Path) -> list[str]:
    """For every executed notebook of ``source`` that ended in an error: one line that says which and where.

    The copies that execution leaves behind are under ``_build/executed``.
    """
    lines = []
    for path in sorted((source / "_build" / "executed").glob("*.ipynb")):
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        except (OSError, ValueError, KeyError):
            continue  # killed while it was written: there is nothing to quote
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        for error in (output for output in outputs if output.get("output_type") == "error"):
            if error.get("ename") in ("Interrupted", "KeyboardInterrupt"):
                lines.append(f"chapter {path.stem} was stopped: make again, and it goes on")
                continue
            what = " ".join(str(error.get("evalue", "")).split()) or "no message"
            lines.append(f"chapter {path.stem} failed: {error.get('ename', 'Error')}: {what} (see {path})")
    return lines


def main(source: Path) -> int:
    """Check one book; return exit status 0 if it is complete."""
    try:
        lines = problems(source)
    except MlplibError as error:
        lines = [str(error)]
    for line in lines:
        print(f"book: {line}", file=sys.stderr)
    return 1 if lines else 0
