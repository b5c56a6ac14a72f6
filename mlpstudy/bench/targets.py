"""The speed targets and their reasons, read from ``targets.csv``; whether a results file meets them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from .derived import numbers_of

MET, NOT_MET, NOT_MEASURED = "met", "not met", "not measured"

CLASS_OF_H200 = ("H100", "H200", "GH200", "B200", "GB200")
"""Parts of the names of GPUs of the H200's class."""

CPU_CORES = 2


@dataclass(frozen=True)
class Target:
    """The bounds, inclusive, of a derived number of a group; None is no bound.

    ``on``: ``cpu`` (two cores), ``gpu`` (of the H200's class), or ``any``. ``reason``: why these bounds.
    """

    id: str
    on: str
    group: str
    number: str
    low: float | None
    high: float | None
    unit: str
    sentence: str
    reason: str


def _read() -> tuple[Target, ...]:
    with files(__package__).joinpath("targets.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    limits = [{key: float(row[key]) if row[key] else None for key in ("low", "high")} for row in rows]
    return tuple(Target(**row | limit) for row, limit in zip(rows, limits, strict=True))


TARGETS = _read()
"""All targets, in the order of tables."""


def judge(target: Target, found: Mapping) -> dict:
    """A target's row: ``value`` with quartiles, ``verdict``, and ``why`` where nothing was measured.

    Args:
        found: ``machine`` and ``derived`` of a file of :mod:`mlpstudy.bench.speed`.
    """
    row = {"id": target.id, "target": bounds(target)}
    not_asked = {"why": f"{target.group} was not asked for"}
    number = numbers_of(found, target.group).get(target.number, not_asked)
    why = _unfit(target, found["machine"]) or number.get("why")
    if why is not None:
        return row | {"verdict": NOT_MEASURED, "why": why}
    low, high = target.low, target.high
    kept = (low is None or number["value"] >= low) and (high is None or number["value"] <= high)
    values = {key: number[key] for key in ("value", "q25", "q75")}
    return row | values | {"unit": target.unit, "verdict": MET if kept else NOT_MET}


def _unfit(target: Target, machine: Mapping) -> str | None:
    """Why a target does not apply to this machine, None if it does."""
    kind = machine["device_type"]
    if target.on == "gpu":
        if kind != "cuda":
            return "no CUDA GPU"
        if not any(name in machine["device"] for name in CLASS_OF_H200):
            return f"{machine['device']} is of another class"
    if target.on == "cpu":
        if kind != "cpu":
            return "measured on a GPU"
        if machine["cpu_threads"] != CPU_CORES:
            return f"CPU threads: {machine['cpu_threads']}, not {CPU_CORES}"
    return None


def bounds(target: Target) -> str:
    """The allowed range, in words: ``at least 0.85``, ``at most 5 %``, ``1.9 to 2.1 times``."""
    if target.low is not None and target.high is not None:
        text = f"{target.low:g} to {target.high:g}"
    else:
        text = f"at least {target.low:,g}" if target.low is not None else f"at most {target.high:,g}"
    return f"{text} {target.unit}".rstrip()
