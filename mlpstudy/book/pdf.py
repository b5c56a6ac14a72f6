"""Print a rendered book into one PDF. For the Makefile: ``python -m mlpstudy.book.pdf FOLDER``.

Chromium prints every page with the book's rules for paper; links from page to page stay inside the file.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlplib.errors import MlplibError
from mlplib.files import replacing
from mlplib.stopping import without_traceback

from . import check

FILE = "scaling-mlps.pdf"
"""In the folder ``_build`` of a book."""

PATIENCE_S = 120


def browser() -> str:
    """The program to print with.

    Raises:
        MlplibError: there is none.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise MlplibError("a PDF needs Chromium: install it (on Debian: apt-get install chromium)")
    return found


def print_page(program: str, page: Path, target: Path) -> None:
    """Print one page after its scripts have run.

    Raises:
        MlplibError: the browser failed.
    """
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command += ["--virtual-time-budget=20000", f"--print-to-pdf={target}", page.resolve().as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise MlplibError(f"{page.name} was not printed within {PATIENCE_S} s") from None
    if not target.exists():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MlplibError(f"{page.name} was not printed: {last}")


def write(folder: Path) -> Path:
    """Print the rendered book in ``folder`` in the order of its contents; return the PDF's path.

    Raises:
        MlplibError: no browser, a page that was not rendered, a browser that fails.
    """
    from pypdf import PdfWriter

    program, html, writer = browser(), folder / "_build" / "html", PdfWriter()
    first: dict[str, int] = {}  # page to its number in the PDF
    with tempfile.TemporaryDirectory() as place:
        for number, name in enumerate(check.pages_in_toc(folder)):
            page, printed = html / f"{name}.html", Path(place) / f"{number}.pdf"
            if not page.exists():
                raise MlplibError(f"page {name} was not rendered: make read")
            print_page(program, page, printed)
            first[str(page.resolve())] = len(writer.pages)
            writer.append(printed, outline_item=_title(page))
        _keep_links_inside(writer, first)
        with replacing(folder / "_build" / FILE) as temporary:
            writer.write(temporary)
    return folder / "_build" / FILE


def _title(page: Path) -> str:
    found = re.search(r"<title>(.*?)(?: &#8212;| — |</title>)", page.read_text(encoding="utf-8"), re.DOTALL)
    return found[1].strip() if found else page.stem


def _keep_links_inside(writer, first: dict[str, int]) -> None:
    """Turn links to files, which name folders of this machine, into links inside the PDF, or drop them."""
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject

    for page in writer.pages:
        kept = ArrayObject()
        for reference in page.get("/Annots", ()):
            link = reference.get_object()
            address = urlsplit(str(link.get("/A", {}).get("/URI", "")))
            if address.scheme == "file":
                number = first.get(unquote(address.path))
                if number is None:
                    continue
                target = ArrayObject([writer.pages[number].indirect_reference, NameObject("/Fit")])
                link[NameObject("/A")] = DictionaryObject(
                    {NameObject("/S"): NameObject("/GoTo"), NameObject("/D"): target}
                )
            kept.append(reference)
        if "/Annots" in page:
            page[NameObject("/Annots")] = kept


def main(folder: str) -> int:
    """Print the book in ``folder``; return exit status 0 if that worked."""
    try:
        print(f"print or read: {write(Path(folder))}")
    except MlplibError as error:
        print(f"pdf: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    without_traceback()
    sys.exit(main(sys.argv[1]))
