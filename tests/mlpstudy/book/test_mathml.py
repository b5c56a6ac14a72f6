"""Formulas of the pages, by Sphinx itself."""

import re
import subprocess
import sys

import pytest
from small_runs import ROOT

CONF = """
extensions = ["myst_parser", "mlpstudy.book.mathml"]
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
"""


@pytest.fixture
def render(tmp_path):
    """A function that gives a page's HTML, and the warnings of the rendering."""

    def page(text: str) -> tuple[str, str]:
        (tmp_path / "conf.py").write_text(CONF, encoding="utf-8")
        (tmp_path / "index.md").write_text(f"# A page\n\n{text}\n", encoding="utf-8")
        command = [sys.executable, "-m", "sphinx", "-q", "--no-color", tmp_path, tmp_path / "html"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        return (tmp_path / "html" / "index.html").read_text(encoding="utf-8"), done.stderr

    return page


def test_formulas_are_mathml_in_a_line_and_apart(render):
    html, warnings = render("$E_\\infty < x^{-\\alpha}$ is a law.\n\n$$t_\\nu \\frac{s}{\\sqrt{n}}$$")
    inline, block = re.findall(r"<math .*?</math>", html, re.DOTALL)
    assert "display" not in inline and "<mi>∞</mi>" in inline and "<mo>&lt;</mo>" in inline
    assert 'display="block"' in block and "<mfrac>" in block and "<msqrt>" in block
    assert not warnings and "<script" in html and "MathJax" not in html


@pytest.mark.parametrize("formula", [r"\unheard{x}", r"\operatorname*{mean} x", r"\lVert x \rVert"])
def test_a_formula_that_cannot_be_shown_is_one_line_with_its_place(render, formula):
    _, warnings = render(f"Fine: $x$.\n\nNot so: ${formula}$.")
    (line,) = warnings.splitlines()
    assert "index.md:5" in line and repr(formula) in line
