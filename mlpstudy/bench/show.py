"""Measurements as tables of text, for the terminal and for the chapter on speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import tried
from .accuracy import mean_curves
from .derived import rows_of
from .rounds import rate, summary
from .targets import TARGETS


@dataclass(frozen=True)
class Table:
    """A title, and rows of text by column."""

    title: str
    rows: list[dict[str, str]]


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
        yield _derived(found)
        yield _targets(found)


def about(found: Mapping) -> str:
    """The machine in one line."""
    machine = found["machine"]
    return f"{machine['device']}, {machine['precision']}, torch {machine['torch']}"


def timings(found: Mapping, group: str, source: str = "") -> Table:
    """What was timed in a group; ``source`` names the file."""
    rows = []
    for row in rows_of(found, group).values():
        cells = {"measure": row["name"], "ms": "", "images/s": "–", "rate": "–"}
        if "why" in row:
            cells["ms"] = f"not measured: {row['why']}"
        elif "seconds" in row:
            cells["ms"] = spread(summary([1e3 * seconds for seconds in row["seconds"]]))
            cells["images/s"] = f"{rate(row, 'images')['value']:,.0f}" if "images" in row else "–"
            cells["rate"] = _rate(row)
        else:
            cells["ms"] = ", ".join(f"{b / 1e6:,.0f} MB" for b in row["memory_bytes"])
        rows.append(cells)
    where = ", ".join(filter(None, (group, source, about(found))))
    return Table(f"{where}: median [quartiles] of {found['rounds']} rounds", rows)


def _rate(row: Mapping) -> str:
    """The rate of arithmetic, or of copies where there is none."""
    for key, unit in (("flops", "GFLOP/s"), ("bytes", "GB/s")):
        if key in row:
            return f"{rate(row, key)['value'] / 1e9:,.4g} {unit}"
    return "–"


def spread(values: Mapping) -> str:
    """``1.23 [1.20, 1.31]``."""
    return f"{digits(values['value'])} [{digits(values['q25'])}, {digits(values['q75'])}]"


def digits(value: float) -> str:
    """A number with as many digits as a timing deserves."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def faster(ratio: Mapping) -> str:
    """How another way compares, from its time over ours: the quartiles have to lie on one side of 1."""
    if ratio["q75"] < 1:
        return "faster"
    return "slower" if ratio["q25"] > 1 else "no different"


def comparison(found: Mapping) -> Table:
    """Two revisions, timed in turns."""
    rows = []
    for row in found["rows"]:
        old, new = (spread(summary([1e3 * s for s in row[side]])) for side in ("old_seconds", "new_seconds"))
        speedup = f"{spread(row)} times" if "value" in row else ""
        rows.append({"measure": row["name"], "ms, old": old, "ms, new": new, "speedup": speedup})
    machine = found["machine"]
    packages = ("python", "torch", "numpy", "cuda")
    versions = ", ".join(f"{name} {machine[name]}" for name in packages if machine.get(name))
    title = (
        f"{found['case']}: {found['new']} against {found['old']}, median [quartiles] of {found['rounds']} "
        f"rounds. {machine['device']}, {machine['precision']}, {versions}"
    )
    return Table(title, rows)


def _tried(found: Mapping) -> Table:
    rows = [
        {"instead": t.name, "ours": t.instead_of, "times as long": spread(ratio), "it is": faster(ratio)}
        for t, ratio in tried.results(found["rows"])
    ]
    return Table("other ways: time per image over ours", rows)


def _derived(found: Mapping) -> Table:
    rows = []
    for number in found["derived"]:
        value = spread(number) if "value" in number else f"not measured: {number['why']}"
        value = f"{value} {number['unit']}".rstrip()
        rows.append({"of": number["group"], "number": number["name"], "value": value})
    return Table("derived numbers", rows)


def _targets(found: Mapping) -> Table:
    sentences = {target.id: target.sentence for target in TARGETS}
    rows = []
    for row in found["targets"]:
        value = f"{digits(row['value'])} {row['unit']}".rstrip() if "value" in row else row["why"]
        cells = {"what": sentences.get(row["id"], row["id"]), "target": row["target"]}
        rows.append(cells | {"measured": value, "verdict": row["verdict"]})
    return Table("targets", rows)


def _accuracy(found: Mapping) -> Iterator[Table]:
    curves = mean_curves(found["runs"])
    epochs = list(next(iter(curves.values())))
    seeds = len({run["seed"] for run in found["runs"]})
    rows = []
    for (da, precision), curve in curves.items():
        cells = {f"{e} epochs": f"{100 * curve[e]:.1f} %" if e in curve else "–" for e in epochs}
        rows.append({"training": f"{'with' if da else 'without'} DA, {precision}"} | cells)
    yield Table(f"{found['case']}: test accuracy, mean of {seeds} seeds. {about(found)}", rows)
    effects = []
    for each in found["differences"]:
        text = each.get("why")
        if text is None:
            interval = "" if each["low"] is None else f" [{each['low']:+.2f}, {each['high']:+.2f}]"
            text = f"{each['points']:+.2f}{interval} points, n = {each['n']}"
        effects.append({"difference": each["name"], "final test accuracy": text})
    yield Table("differences paired by seed, with their intervals", effects)
