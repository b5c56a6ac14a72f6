"""The paper's values, read from ``paper.csv``, each with how its transcription was checked."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from importlib.resources import files

SOURCES = {
    "checked": "checked against the paper",
    "text": "stated in the paper's text",
    "readme": "the README of the official repository",
    "code": "the code of the official repository",
    "unchecked": "unchecked transcription",
}


@dataclass(frozen=True)
class PaperValue:
    """One cell of the paper: ``value`` in ``unit``; ``source`` is a key of :data:`SOURCES`."""

    item: str
    row: str
    column: str
    value: float
    unit: str
    source: str


@functools.lru_cache
def values() -> dict[tuple[str, str, str], PaperValue]:
    """All known cells by (item, row, column). Other cells are shown as n/a."""
    with files(__package__).joinpath("paper.csv").open(encoding="utf-8") as file:
        cells = [PaperValue(**{**row, "value": float(row["value"])}) for row in csv.DictReader(file)]
    return {(cell.item, cell.row, cell.column): cell for cell in cells}


def value(item: str, row: str, column: str) -> PaperValue | None:
    """One cell, None if it is not known."""
    return values().get((item, row, column))


def difference(first: tuple[str, str, str], second: tuple[str, str, str]) -> float | None:
    """One cell minus another, each by (item, row, column); None if one is not known."""
    one, other = value(*first), value(*second)
    return None if one is None or other is None else one.value - other.value
