"""What the front page shows of the published records: the answer, a figure, and every verdict.

``write`` makes a Markdown file that ``book/index.md`` includes. ``python -m mlpstudy.book.page_front FOLDER
[RESULTS]`` does it for the book in a folder.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

from mlplib.errors import MlplibError
from mlplib.stopping import without_traceback

from .. import paper
from ..claims import CONTRADICTED, NOT_TESTED, NOT_THERE, PARTLY, VERDICTS
from ..evidence import verdicts
from ..evidence.records import shown
from ..experiments import experiment
from ..plots import front
from . import html, svg
from .html import escape
from .tables import VERDICT_CLASSES, chip, minus

NAME = "chapters/front.md"
"""Where the file goes, below the book's folder; like the chapters, it is made and not committed."""
TEASER = {"from-scratch": "Table 1", "parameters-or-examples": "Fig 7, 8"}
"""The experiments whose values the figure compares with the paper's, with the paper's item."""


SENTENCES = (
    {
        "C01": "data augmentation changes the accuracy of a B-MLP from scratch by {} points",
        "C04": "a convolutional network is better than the best MLP by {} points",
    },
    {
        "C10": "the lowest error at each amount of compute falls with an exponent of {}",
        "C12": "in compute-optimal training the exponents of examples and of parameters differ by {}",
    },
)
"""Clauses by claim, each to be filled with its (last) effect. No clause says more than the number does."""


def write(book: Path, results: str | os.PathLike | None = None) -> None:
    """Write the file for the book in ``book`` from the records in ``results``.

    Raises:
        MlplibError: published records are damaged.
    """
    board = verdicts.from_published(results)
    text = "<p>No records are published yet.</p>"
    if board:
        text = answer(board) + teaser(results) + scoreboard(board)
    target = Path(book) / NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"```{{raw}} html\n{html.STYLE}{text}\n```\n", encoding="utf-8")


def _best(board: verdicts.Board) -> dict[str, tuple[str, verdicts.Entry]]:
    """By claim, the profile and the verdict of the largest profile whose records test it, else of any."""
    found = {}
    for tested in (False, True):
        for profile, entries in reversed(board.items()):
            for id, entry in entries.items():
                if not tested or entry.judgement.verdict != NOT_TESTED:
                    found[id] = (profile, entry)
    return found


def _is_contradicted_in_part(entry: verdicts.Entry) -> bool:
    """Whether a claim is partly reproduced and has a part that the records contradict."""
    found = entry.judgement
    return found.verdict == PARTLY and any(part.verdict == CONTRADICTED for part in found.parts)


def answer(board: verdicts.Board) -> str:
    """The study's answer in three sentences at most, as HTML; a sentence without records is left out."""
    best = _best(board)
    counts = Counter(entry.judgement.verdict for _, entry in best.values())
    total = len(verdicts.every_claim())
    counts[NOT_TESTED] += total - len(best)
    words = {verdict: f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]}
    if against := sorted(id for id, (_, entry) in best.items() if _is_contradicted_in_part(entry)):
        words[PARTLY] += f" (in {', '.join(against)} a part is contradicted)"
    absent = sorted(id for id, (_, entry) in best.items() if entry.judgement.because.startswith(NOT_THERE))
    if absent:
        do = "does" if len(absent) == 1 else "do"
        words[NOT_TESTED] += f" ({', '.join(absent)} {do} not hold in small runs)"
    tally = ", ".join(words.values())
    sentences = [f"Of {total} claims of the paper, each at the largest scale that was run: {tally}."]
    for clauses in SENTENCES:
        found = []
        for id, clause in clauses.items():
            profile, entry = best.get(id, ("", None))
            if entry and entry.judgement.measured:
                number = minus(escape(entry.judgement.measured[-1].number()))
                found.append(f"{clause.format(number)} ({id}, {profile})")
        if found:
            text = ", and ".join(found)
            sentences.append(f"{text[0].upper()}{text[1:]}.")
    return f"<p>{' '.join(sentences)}</p>"


def teaser(results: str | os.PathLike | None = None) -> str:
    """A figure of the paper's values against those of this study, as HTML; "" without any."""
    rows = []
    for name, item in TEASER.items():
        for study in reversed(shown(name, results)):
            for cell in experiment(name).summary(study.records, study.profile):
                known = paper.value(cell.item, cell.row, cell.column)
                if cell.item == item and known:
                    estimate = cell.estimate
                    rows.append(
                        {
                            "item": f"{cell.item}, {cell.column}",
                            "name": cell.row,
                            "unit": cell.unit,
                            "profile": study.profile.name,
                            "value": estimate.mean,
                            "low": estimate.low,
                            "high": estimate.high,
                            "paper": known.value,
                        }
                    )
    if not rows:
        return ""
    frame = pd.DataFrame(rows)
    alt = "Marks for the study's values and crosses for the paper's, one row per line of the paper's table."
    caption = (
        "<b>The paper against this study.</b> Crosses: the paper. Others: this study, one color and shape "
        "per profile, with 95 % intervals. Laptop runs are shorter and of smaller networks than their rows "
        "say, and their convolutional network is a small one; the chapters name each. An exponent of Fig 7 "
        "is smaller where the sizes determine no floor of the error."
    )
    return svg.figure(front.against_paper(frame), alt, caption, frame, "paper-against-study.csv")


def scoreboard(board: verdicts.Board) -> str:
    """Every verdict as a colored label that leads to its chapter, one row per profile, as HTML."""
    rows = []
    for profile, entries in board.items():
        chips = []
        for name, claim in verdicts.every_claim():
            entry = entries.get(claim.id)
            verdict = entry.judgement.verdict if entry else NOT_TESTED
            words = entry.judgement.words if entry else "no records"
            chips.append(chip(verdict, claim.id, f"chapters/{name}.html", f"{claim.sentence} {words}"))
        rows.append(f"<p><b>{profile}</b><br>{''.join(chips)}</p>")
    legend = "".join(chip(verdict, verdict) for verdict in VERDICT_CLASSES)
    return html.box(f"{''.join(rows)}<p>{legend}</p>")


if __name__ == "__main__":
    without_traceback()
    try:
        write(*map(Path, sys.argv[1:]))
    except MlplibError as error:
        sys.exit(f"book: {error}")
