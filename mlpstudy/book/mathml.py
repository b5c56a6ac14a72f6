"""A Sphinx extension that writes formulas as MathML, which browsers show without a script."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)
MISREAD = re.compile(r"\\operatorname\*|\\[lr][Vv]ert")
"""What docutils renders differently from LaTeX without an error: a star, or bars of two sizes."""


def _show(translator, node: nodes.math | nodes.math_block) -> None:
    """Write the formula. One that cannot be parsed is a warning with its location, which fails the build."""
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
