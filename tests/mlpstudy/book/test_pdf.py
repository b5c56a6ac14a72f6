"""The printed book: every page in order, links inside the file, and one line where it cannot be made."""

import shutil

import pytest

from mlplib.errors import MlplibError
from mlpstudy.book import pdf

PAGES = {
    "index": '<title>The study &#8212; Book</title><h1>The study</h1><a href="a-page.html#x">next</a>'
    '<a href="gone.html">gone</a><a href="https://example.org/">out</a>',
    "a-page": "<title>A page &#8212; Book</title><h1>A page</h1><p>Words.</p>",
}


@pytest.fixture
def book(tmp_path):
    """A rendered book of two pages, which link to each other, to a page that is not there, and out."""
    toc = "format: jb-book\nroot: index\nchapters:\n- file: a-page\n"
    (tmp_path / "_toc.yml").write_text(toc, encoding="utf-8")
    html = tmp_path / "_build" / "html"
    html.mkdir(parents=True)
    for name, text in PAGES.items():
        (html / f"{name}.html").write_text(text, encoding="utf-8")
        (tmp_path / f"{name}.md").touch()
    return tmp_path


def links(page) -> list[dict]:
    return [annotation.get_object()["/A"] for annotation in page.get("/Annots", ())]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_pages_are_printed_in_order_with_links_that_stay_inside(book, capsys):
    from pypdf import PdfReader

    assert pdf.main(str(book)) == 0
    made = PdfReader(book / "_build" / pdf.FILE)
    assert capsys.readouterr().out == f"print or read: {book / '_build' / pdf.FILE}\n"
    assert [page.extract_text().split("\n")[0] for page in made.pages] == ["The study", "A page"]
    assert [item.title for item in made.outline] == ["The study", "A page"]
    inside, outside = links(made.pages[0])
    assert inside["/S"] == "/GoTo" and inside["/D"][0].get_object() == made.pages[1]
    assert outside["/URI"] == "https://example.org/"
    assert str(book).encode() not in (book / "_build" / pdf.FILE).read_bytes()


def test_without_a_browser_or_a_page_one_line_says_what_to_do(book, capsys, monkeypatch):
    (book / "_build" / "html" / "index.html").unlink()
    monkeypatch.setattr(shutil, "which", lambda name: "chromium")
    assert pdf.main(str(book)) == 1
    assert capsys.readouterr().err == "pdf: page index was not rendered: make read\n"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MlplibError, match=r"^a PDF needs Chromium: install it \(on Debian: apt-get"):
        pdf.write(book)
    assert not (book / "_build" / pdf.FILE).exists()


def test_a_browser_that_fails_is_named_with_its_last_line(book, tmp_path, monkeypatch):
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))
    with pytest.raises(MlplibError, match=r"^index\.html was not printed: no display$"):
        pdf.write(book)
