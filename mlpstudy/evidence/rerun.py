"""``mlplib results rerun``: published runs repeated, to see how much a result depends on the machine."""

from __future__ import annotations

import json
import os
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mlplib.errors import MlplibError
from mlplib.files import locked, replacing, require_writable
from mlplib.progress import quiet
from mlplib.specs import TrainSpec
from mlplib.store import Record

from ..experiments.base import group_by
from ..planning import training_flops
from ..stats import over_seeds
from ..words import markdown_table
from .records import RESTORE, read_folder, results_folder

FILE = "reruns.jsonl"
"""The repeated runs of all profiles, one per line, in the folder of published records."""

KINDS = {
    "id": str,
    "published": float,
    "again": float | None,
    "same_weights": bool,
    "first": str,
    "second": str,
}
"""The fields of a line, and their types; ``again`` is null where the repetition diverged."""

LARGEST = 2e15
"""Floating-point operations of the most expensive training that is repeated: minutes on a laptop."""


def sample(profile: str, count: int, seed: int, folder: Path | None = None) -> list[Record]:
    """Some published training runs of a profile that a laptop can repeat, chosen at random.

    Raises:
        MlplibError: there are fewer.
    """
    found = [
        record
        for record in read_folder(results_folder(folder) / profile).records.values()
        if isinstance(record.spec, TrainSpec) and record.status == "completed"
        if training_flops(record.spec) <= LARGEST
    ]
    if len(found) < count:
        raise MlplibError(
            f"profile {profile} has {len(found)} published training runs to repeat, not {count}: choose a "
            "smaller --sample or another --profile"
        )
    return random.Random(seed).sample(sorted(found, key=lambda record: record.id), count)


def rerun(
    records: Iterable[Record], repeat: Callable[[Record], Record], folder: Path | None = None
) -> list[dict]:
    """Repeat runs and add what came out to :data:`FILE`; a repetition on the same machine replaces the last.

    Args:
        repeat: does a record's run again, in an empty store.

    Raises:
        MlplibError: the folder cannot be written to, or the file is damaged; nothing was repeated then.
    """
    path, rows = results_folder(folder) / FILE, []
    require_writable(path.parent, "--results or MLPLIB_RESULTS")
    read(folder)
    for record in records:
        other = repeat(record)
        row = {
            "id": record.id,
            "published": record.metrics["test_top1"],
            "again": other.metrics.get("test_top1"),
            "same_weights": record.metrics.get("weights_sha256") == other.metrics.get("weights_sha256", ""),
            "first": machine(record),
            "second": machine(other),
        }
        rows.append(row)
        # After each, so that nothing is lost to a stop; read again, since other processes may repeat, too.
        with locked(path.with_name(".lock"), quiet, "publishes records"), replacing(path) as temporary:
            known = {(each["id"], each["first"], each["second"]): each for each in (*read(folder), row)}
            lines = (json.dumps(known[key], sort_keys=True) + "\n" for key in sorted(known))
            temporary.write_text("".join(lines), encoding="utf-8")
    return rows


def machine(record: Record) -> str:
    """Where a record was made, as far as it affects the bits: device, torch version and precision."""
    found = record.environment
    version = str(found.get("torch", "unknown")).partition("+")[0]
    return f"{found['device']}, torch {version}, {found.get('precision', 'unknown')}"


def read(folder: str | os.PathLike | None = None) -> list[dict]:
    """The repeated runs; empty where there are none.

    Raises:
        MlplibError: a line is damaged.
    """
    path, rows = results_folder(folder) / FILE, []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
        try:
            row = json.loads(line)
            good = row.keys() == KINDS.keys() and all(isinstance(row[k], kind) for k, kind in KINDS.items())
        except (ValueError, AttributeError, RecursionError):
            good = False
        if not good:
            raise MlplibError(f"{FILE}, line {number}, is not a repeated run: {RESTORE}")
        rows.append(row)
    return rows


def markdown(rows: Iterable[dict]) -> str:
    """The repeated runs by pair of machines, as a Markdown table; differences in points of test accuracy, the
    mean with its 95 % interval. Repetitions that diverged are counted only.
    """
    pairs = group_by(rows, lambda row: (row["first"], row["second"]))
    heads = ("first done on", "repeated on", "runs", "same weights", "mean difference", "SD", "largest")
    lines = []
    for (first, second), found in sorted(pairs.items()):
        points = [100 * (row["again"] - row["published"]) for row in found if row["again"] is not None]
        diverged = len(found) - len(points)
        runs = f"{len(found)}" + (f", {diverged} diverged" if diverged else "")
        same = sum(row["same_weights"] for row in found)
        lines.append((first, second, runs, same, *_differences(points)))
    return markdown_table(heads, lines)


def _differences(points: Sequence[float]) -> tuple[str, str, str]:
    """Mean with its interval, standard deviation and largest size, in words; dashes where there is none."""
    if not points:
        return "–", "–", "–"
    mean, spread = over_seeds(points), f"{statistics.stdev(points):.2f}" if len(points) > 1 else "–"
    half = f" ± {mean.half_width:.2f}" if mean.half_width is not None else ""
    return f"{mean.mean:+z.2f}{half}", spread, f"{max(map(abs, points)):.2f}"
