"""Formulas as MathML, which browsers show by themselves: no page loads a script for them. For Sphinx."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)
MISREAD = re.compile(r"\\operatorname\*|\\[lr][Vv]ert")
"""What docutils shows otherwise than LaTeX, without an error: with a star, or with bars of two sizes."""


def _show(translator, node: nodes.math | nodes.math_block) -> None:
    """Write the formula. One that cannot be read is a warning with its place, and ends the rendering."""
    try:
        if found := MISREAD.search(node.astext()):
            raise MathError(f"{found[0]} is shown wrongly: write \\operatorname, or \\left\\| and \\right\\|")
        translator.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    except MathError as error:
        log.warning(f"cannot read the formula {node.astext()!r}: {error}", location=node)
    raise nodes.SkipNode


def setup(app) -> dict[str, bool]:
    """Give Sphinx docutils' converter from LaTeX as its renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (_show, None), (_show, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
