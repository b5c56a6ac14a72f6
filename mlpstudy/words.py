"""Numbers and devices in words, for pages and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlplib.store import Record

from .stats import COUNTING, Estimate


def duration(seconds: float) -> str:
    """A time in a readable unit: ``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def digits(value: float) -> str:
    """A number rounded to the precision of timings: two significant digits or more."""
    if round(abs(value), 1) >= 100:
        return f"{value:,.0f}"
    if round(abs(value), 2) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def count(n: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def interval(estimate: Estimate, form: str = "+.1f") -> str:
    """A mean with its interval, if it has one: ``+1.3 [-0.3, +2.9]``; counts have none."""
    form = form.replace(".", "z.")  # no minus before what rounds to zero
    if estimate.low is None or estimate.source == COUNTING:
        return f"{estimate.mean:{form}}"
    return f"{estimate.mean:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, one line per row."""
    lines = [[str(cell).replace("|", "\\|") for cell in cells] for cells in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def devices(records: Iterable[Record]) -> str:
    """The devices that runs were made on, without the number of CPU threads."""
    return ", ".join(sorted({without_threads(record.environment["device"]) for record in records}))


def without_threads(device: str) -> str:
    """A device's name without the number of CPU threads."""
    return device.split(" (")[0]
