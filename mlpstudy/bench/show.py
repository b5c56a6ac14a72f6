"""Measurements as titles and DataFrames of text, for the terminal and for the chapter on speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from mlplib.timing import summary

from ..words import digits
from . import tried
from .accuracy import mean_curves
from .derived import rate, rows_of
from .targets import TARGETS

Table = tuple[str, pd.DataFrame]
"""A title, and cells of text."""


def tables(found: Mapping) -> Iterator[Table]:
    """All tables of a file that ``mlplib bench`` made."""
    if found["what"] == "accuracy":
        yield from _accuracy(found)
    elif found["what"] == "against":
        yield from map(comparison, found["comparisons"])
    else:
        groups = dict.fromkeys(row["group"] for row in found["rows"])
        yield from (timings(found, group) for group in groups if group not in ("tried", "start-up"))
        if "tried" in groups:
            yield _tried(found)
        yield (
            "derived numbers",
            pd.DataFrame(
                {"of": number["group"], "number": number["name"], "value": value(number)}
                for number in found["derived"]
            ),
        )
        yield _targets(found)


def about(found: Mapping) -> str:
    """The machine in one line."""
    machine = found["machine"]
    return f"{machine['device']}, {machine['precision']}, torch {machine['torch']}"


def timings(found: Mapping, group: str, source: str = "") -> Table:
    """What was timed in a group; ``source`` names the file."""
    where = ", ".join(filter(None, (group, source, about(found))))
    rows = rows_of(found, group)
    if found["machine"]["precision"] == "fp32":
        rows.pop("matmul-fp32", None)  # in older files, the same product as "matmul"
    cells = pd.DataFrame(map(_timing, rows.values()))
    return f"{where}: median [quartiles] of {found['rounds']} rounds", cells


def _timing(row: Mapping) -> dict[str, str]:
    cells = {"measure": row["name"], "ms": "", "images/s": "–", "rate": "–"}
    if "why" in row:
        return cells | {"ms": f"not measured: {row['why']}"}
    if "memory_bytes" in row:
        return cells | {"ms": ", ".join(f"{b / 1e6:,.0f} MB" for b in row["memory_bytes"])}
    cells["ms"] = milliseconds(row["seconds"])
    if "images" in row:
        cells["images/s"] = f"{rate(row, 'images')['value']:,.0f}"
    for key, unit in (("bytes", "GB/s"), ("flops", "GFLOP/s")):  # FLOP/s if the row has both
        if key in row:
            cells["rate"] = f"{digits(rate(row, key)['value'] / 1e9)} {unit}"
    return cells


def milliseconds(seconds: list[float]) -> str:
    """The median of some times in milliseconds, with quartiles."""
    return spread(summary([1e3 * each for each in seconds]))


def spread(values: Mapping) -> str:
    """``1.23 [1.20, 1.31]``."""
    return f"{digits(values['value'])} [{digits(values['q25'])}, {digits(values['q75'])}]"


def value(number: Mapping) -> str:
    """A derived number with its quartiles and unit, or why there is none."""
    if "why" in number:
        return f"not measured: {number['why']}"
    return f"{spread(number)} {number['unit']}".rstrip()


def faster(ratio: Mapping) -> str:
    """Whether an alternative is faster, from its time over ours: both quartiles must lie on one side of 1."""
    if ratio["q75"] < 1:
        return "faster"
    return "slower" if ratio["q25"] > 1 else "no different"


def comparison(found: Mapping) -> Table:
    """Two revisions, timed in turns."""
    rows = pd.DataFrame(
        {
            "measure": row["name"],
            "ms, old": milliseconds(row["old_seconds"]),
            "ms, new": milliseconds(row["new_seconds"]),
            "speedup": f"{spread(row)} times",
        }
        for row in found["rows"]
    )
    machine = found["machine"]
    packages = ("python", "torch", "numpy", "cuda")
    versions = ", ".join(f"{name} {machine[name]}" for name in packages if machine.get(name))
    title = (
        f"{found['case']}: {found['new']} against {found['old']}, median [quartiles] of {found['rounds']} "
        f"rounds. {machine['device']}, {machine['precision']}, {versions}"
    )
    return title, rows


def _tried(found: Mapping) -> Table:
    return "other ways: time per image over ours", pd.DataFrame(
        {"instead": t.name, "ours": t.instead_of, "times as long": spread(ratio), "it is": faster(ratio)}
        for t, ratio in tried.results(found)
    )


def _targets(found: Mapping) -> Table:
    sentences = {target.id: target.sentence for target in TARGETS}

    def cells(row: Mapping) -> dict[str, str]:
        measured = f"{digits(row['value'])} {row['unit']}".rstrip() if "value" in row else row["why"]
        what = sentences.get(row["id"], row["id"])
        return {"what": what, "target": row["target"], "measured": measured, "verdict": row["verdict"]}

    return "targets", pd.DataFrame(map(cells, found["targets"]))


def _accuracy(found: Mapping) -> Iterator[Table]:
    curves = mean_curves(found["runs"])
    cells = curves.map(lambda top1: "–" if pd.isna(top1) else f"{100 * top1:.1f} %").add_suffix(" epochs")
    names = [f"{'with' if da else 'without'} DA, {precision}" for da, precision in curves.index]
    cells.insert(0, "training", names)
    seeds = len({run["seed"] for run in found["runs"]})
    yield f"{found['case']}: test accuracy, mean of {seeds} seeds. {about(found)}", cells
    effects = ({"difference": d["name"], "final test accuracy": _effect(d)} for d in found["differences"])
    yield "differences paired by seed, with their intervals", pd.DataFrame(effects)


def _effect(difference: Mapping) -> str:
    if "why" in difference:
        return difference["why"]
    low, high = difference["low"], difference["high"]
    interval = "" if low is None else f" [{low:+z.2f}, {high:+z.2f}]"
    return f"{difference['points']:+z.2f}{interval} points, n = {difference['n']}"
