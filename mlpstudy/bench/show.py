"""Measurements as tables of text: a title, columns and rows, for whoever prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import layers, tried
from .accuracy import mean_curves
from .rounds import rate, summary
from .targets import TARGETS


@dataclass(frozen=True)
class Table:
    """What is printed: every cell is text."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables(found: Mapping) -> Iterator[Table]:
    """The tables of a file that ``mlplib bench`` made."""
    if found["what"] == "accuracy":
        yield from _accuracy(found)
        return
    for case in found["cases"]:
        yield _rows(found, case["name"], f"{case['name']}. {about(found)}")
    for group in dict.fromkeys(row["group"] for row in found["rows"]):
        if group in ("loaders", layers.GROUP, "growth"):
            yield _rows(found, group, group)
    if any(row["group"] == tried.GROUP for row in found["rows"]):
        yield _tried(found)
    yield _derived(found)
    yield _targets(found)


def about(found: Mapping) -> str:
    """The machine in one line."""
    machine = found["machine"]
    return f"{machine['device']}, {machine['precision']}, torch {machine['torch']}"


def _rows(found: Mapping, group: str, title: str) -> Table:
    rows = []
    for row in (row for row in found["rows"] if row["group"] == group):
        if "why" in row:
            rows.append((row["name"], "not measured", row["why"], ""))
        elif "seconds" in row:
            time = summary([1e3 * seconds for seconds in row["seconds"]])
            rows.append((row["name"], spread(time), speed(row, "images"), speed(row, "flops")))
        else:
            rows.append((row["name"], ", ".join(f"{b / 1e6:,.0f} MB" for b in row["memory_bytes"]), "", ""))
    title = f"{title}: medians [quartiles] of {found['rounds']} rounds"
    return Table(title, ("measure", "ms a call", "images/s", "GFLOP/s or GB/s"), rows)


def speed(row: Mapping, of: str) -> str:
    """Images per second, or the rate of arithmetic, or of copies where there is none."""
    if of == "images":
        return f"{rate(row, 'images')['value']:,.0f}" if "images" in row else ""
    if "flops" in row:
        return f"{rate(row, 'flops')['value'] / 1e9:,.4g} GFLOP/s"
    return f"{rate(row, 'bytes')['value'] / 1e9:,.4g} GB/s" if "bytes" in row else ""


def spread(values: Mapping) -> str:
    """``1.23 [1.20, 1.31]``."""
    return f"{digits(values['value'])} [{digits(values['q25'])}, {digits(values['q75'])}]"


def digits(value: float) -> str:
    """A number with as many digits as a timing is good for."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _tried(found: Mapping) -> Table:
    rows = [
        (trial.name, trial.instead_of, spread(ratio), helped(ratio))
        for trial, ratio in tried.results(found["rows"])
    ]
    return Table(
        "other ways: time for an image over ours", ("instead", "ours", "times as long", "it is"), rows
    )


def helped(ratio: Mapping) -> str:
    """Whether another way is faster: its quartiles on one side of 1 decide."""
    if ratio["q75"] < 1:
        return "faster"
    return "slower" if ratio["q25"] > 1 else "no different"


def _derived(found: Mapping) -> Table:
    rows = []
    for number in found["derived"]:
        value = spread(number) if "value" in number else f"not measured: {number['why']}"
        rows.append((number["group"], number["name"], f"{value} {number['unit']}".rstrip()))
    return Table("what follows", ("of", "number", "value"), rows)


def _targets(found: Mapping) -> Table:
    sentences = {target.id: target.sentence for target in TARGETS}
    rows = []
    for row in found["targets"]:
        value = f"{digits(row['value'])} {row['unit']}".rstrip() if "value" in row else row["why"]
        rows.append((sentences.get(row["id"], row["id"]), row["target"], value, row["verdict"]))
    return Table("targets", ("what", "target", "measured", "verdict"), rows)


def _accuracy(found: Mapping) -> Iterator[Table]:
    curves = mean_curves(found["runs"])
    epochs = list(next(iter(curves.values())))
    seeds = len({run["seed"] for run in found["runs"]})
    rows = []
    for (da, precision), curve in curves.items():
        cells = (f"{100 * curve[epoch]:.1f} %" if epoch in curve else "–" for epoch in epochs)
        rows.append((f"{'with' if da else 'without'} DA, {precision}", *cells))
    title = f"{found['case']}: test accuracy, mean of {seeds} seeds. {about(found)}"
    yield Table(title, ("training", *(f"{epoch} epochs" for epoch in epochs)), rows)
    effects = []
    for each in found["differences"]:
        if "why" in each:
            effects.append((each["name"], each["why"]))
            continue
        interval = "" if each["low"] is None else f" [{each['low']:+.2f}, {each['high']:+.2f}]"
        effects.append((each["name"], f"{each['points']:+.2f}{interval} points, n = {each['n']}"))
    yield Table(
        "differences paired by seed, with their intervals", ("difference", "final test accuracy"), effects
    )
