"""Notebooks for a class: one set without solutions for students, one with solutions for teachers.

Both are made from ``notebooks/``, where exercises and solutions are MyST directives. The code of a solution
becomes a cell.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mlplib.errors import MlplibError, require_choice
from mlplib.files import expand

from ..profiles import PROFILES
from .execute import ROOT, names

SETS = ("students", "instructor")
DIRECTIVE = re.compile(r"^(`{3,})\{(exercise|solution)\} *(.*?)\n(.*?)^\1 *$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^~~~python\n(.*?)^~~~ *$", re.MULTILINE | re.DOTALL)
YOUR_TURN = "# Your solution\n"


def write(folder: str | os.PathLike, profile: str = "laptop") -> list[Path]:
    """Write both sets of every chapter with exercises into ``folder``, and return the files.

    Args:
        folder: new or empty; gets a folder ``students`` and a folder ``instructor``.
        profile: the notebooks' profile.

    Raises:
        MlplibError: the folder has files already or cannot be written; an unknown profile.
    """
    import nbformat

    require_choice("profile", profile, tuple(PROFILES))
    folder, written = expand(folder, "the folder"), []
    try:
        if folder.exists() and any(folder.iterdir()):
            raise MlplibError(f"{folder} is not empty: name a new folder")
        for name in names():
            notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
            if not any(DIRECTIVE.search(cell.source) for cell in notebook.cells):
                continue
            for kind in SETS:
                path = folder / kind / f"{name}.ipynb"
                path.parent.mkdir(parents=True, exist_ok=True)
                nbformat.write(for_class(notebook, kind == "instructor", profile), path)
                written.append(path)
    except OSError as error:
        raise MlplibError(f"{folder} cannot be written ({error.strerror}): name another folder") from None
    return written


def for_class(notebook, solved: bool, profile: str):
    """A notebook of the study for students, or with ``solved`` for their teachers."""
    from nbformat.v4 import new_code_cell, new_notebook

    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cells += _plain_cells(cell.source, solved)
        else:
            tags = [tag for tag in cell.metadata.get("tags", ()) if not tag.startswith("hide-")]
            source = re.sub(r'^profile = "\w+"', f'profile = "{profile}"', cell.source)
            cells.append(new_code_cell(source, metadata={"tags": tags} if tags else {}))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return new_notebook(cells=cells, metadata=notebook.metadata)


def _plain_cells(text: str, solved: bool) -> list:
    """A Markdown cell as cells without directives; code of a solution is a code cell, empty for students."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    cells, end = [], 0
    parts = [*DIRECTIVE.finditer(text), None]
    for part in parts:
        between = text[end : part.start() if part else None].strip()
        cells += [new_markdown_cell(_roles(between))] if between else []
        if part is None:
            break
        end, kind = part.end(), part[2]
        body = re.sub(r"^:\w+:.*\n", "", part[4], flags=re.MULTILINE).strip()
        if kind == "exercise":
            cells.append(new_markdown_cell(_roles(f"### Exercise: {part[3]}\n\n{body}")))
        elif not solved:
            cells.append(new_code_cell(YOUR_TURN))
        else:
            for number, piece in enumerate(CODE.split(f"**Solution**\n\n{body}\n")):
                if piece.strip():
                    cell = new_code_cell if number % 2 else new_markdown_cell
                    cells.append(cell(piece.strip() if number % 2 else _roles(piece.strip())))
    return cells


def _roles(text: str) -> str:
    """MyST's roles as words that Jupyter shows: ``{term}`loss``` becomes *loss*."""
    return re.sub(r"\{[\w:]+\}`([^`<]*?)(?: *<[^>`]*>)?`", r"*\1*", text)
