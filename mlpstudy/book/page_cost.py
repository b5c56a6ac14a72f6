"""The notebook ``compute``: what the study cost in time, arithmetic and energy, what sharing runs between
chapters saved, and which runs are still missing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mlplib.specs import RunSpec
from mlplib.store import Record

from .. import planning
from ..evidence.records import read_folder, results_folder
from ..experiments import EXPERIMENTS, experiment
from ..profiles import profile
from ..words import count, devices, duration, without_threads
from . import html
from .html import Html, escape, small
from .page_scoreboard import overview_banner
from .session import Session, different, open_session
from .tables import diverged, seconds, training_time

KINDS = {
    "train": "training from a random start",
    "finetune": "fine-tuning",
    "probe": "probes",
    "evaluate": "evaluation of finished networks",
    "filters": "images of filters",
    "checkpoint": "official checkpoints",
    "timing": "timing",
}
"""Readable names of the kinds of runs."""

COMING = "gpu"
"""The profile that the study publishes step by step. Profile ``paper`` is left to others."""

ALL = "all, shared runs counted once"

# --------------------------------------------------------------------------- energy


class Power(NamedTuple):
    """The assumed power of a device while it computes.

    ``device``: how its name starts; ``watts``: of one GPU or one CPU thread, as ``each`` says.
    """

    device: str
    watts: float
    each: str
    source: str
    url: str


POWER = tuple(starmap(Power, pd.read_csv(Path(__file__).with_name("power.csv")).itertuples(index=False)))
"""The assumptions behind each energy on the page: thermal design power, as stated by the manufacturer. The
first match counts; there is no estimate for a device without a match."""


def power(record: Record) -> Power | None:
    """The assumption for a run's device; None if there is none, as for a slice of a GPU (MIG)."""
    name = record.environment.get("device", "")
    return next((each for each in POWER if name.startswith(each.device) and "MIG" not in name), None)


def energy(records: Iterable[Record]) -> float | None:
    """The estimated energy of runs in watt-hours, power times time; None if the device of one is unknown.

    It excludes the rest of the machine and its cooling. Runs without a time do not count.
    """
    total = 0.0
    for record in filter(seconds, records):
        if (assumed := power(record)) is None:
            return None
        threads = record.environment.get("cpu_threads", 1) if assumed.each == "thread" else 1
        total += assumed.watts * threads * seconds(record) / 3600
    return total


def training_rate(records: Iterable[Record]) -> tuple[float | None, str]:
    """Floating-point operations per second of all training runs together on the device that did most of them,
    and that device; None without any.

    Each run is weighted by its time, since most of the missing computation is in large runs.
    """
    trained: dict[str, list[Record]] = {}
    for record in records:
        if record.compute.get("training_macs") and seconds(record):
            trained.setdefault(without_threads(record.environment["device"]), []).append(record)

    def flops(device: str) -> float:
        return math.fsum(2 * record.compute["training_macs"] for record in trained[device])

    if not trained:
        return None, ""
    device = max(trained, key=flops)
    return flops(device) / math.fsum(map(seconds, trained[device])), device


# --------------------------------------------------------------------------- the page


def open_compute(**parameters) -> Compute:
    """Open the page with the notebook's :class:`~mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible.
    """
    return Compute(open_session(parameters))


@dataclass(frozen=True)
class Compute:
    """What all experiments cost, from published records and from this execution's finished runs."""

    session: Session

    def banner(self) -> Html:
        """What is shown here."""
        return overview_banner("compute", self.session)

    def chapters(self) -> Html:
        """Runs, time, arithmetic, energy, devices and versions of every chapter, and of all of them."""
        groups = {
            (side, title): records
            for side, runs in self.session.finished().items()
            for title, records in [
                *((experiment(name).TITLE, found) for name, found in runs.items()),
                (ALL, different(runs)),
            ]
        }
        return _costs("chapter", "by chapter", groups)

    def kinds(self) -> Html:
        """The same by kind of run, each run counted once."""
        groups: dict[tuple[str, str], list[Record]] = {}
        for side, runs in self.session.finished().items():
            for record in different(runs):
                groups.setdefault((side, KINDS[record.spec.kind]), []).append(record)
        return _costs("kind of run", "by kind of run, each run once", groups)

    def shared(self) -> Html:
        """What sharing runs between chapters saved."""
        rows, groups = [], []
        for side, runs in self.session.finished().items():
            ids = {name: [record.id for record in records] for name, records in runs.items()}
            once = {record.id: seconds(record) for record in different(runs)}
            found = planning.sharing(ids, once)
            row = {"whose": escape(side), "different runs": f"{len(once):,}"}
            row["if no chapter shared"] = f"{sum(map(len, runs.values())):,}"
            row["needed by several chapters"] = f"{sum(number for number, _ in found.values()):,}"
            rows.append(row | {"time saved": duration(math.fsum(saved for _, saved in found.values()))})
            for names, (number, saved) in found.items():
                titles = ", ".join(escape(experiment(name).TITLE) for name in names)
                row = {"whose": escape(side), "chapters": titles}
                groups.append(row | {"runs": f"{number:,}", "time saved": duration(saved)})
        who = _table(groups, "<b>Who shares</b>", "whose", "chapters") if groups else ""
        return Html(_table(rows, "<b>Shared runs</b>, counted by their ids", "whose") + who)

    def still_to_come(self) -> Html:
        """How many runs of the study's large profile are published, and about how long the others take.

        Runs are compared by their settings, so that no data are needed.
        """
        chosen = profile(COMING)
        records = list(read_folder(results_folder(self.session.results_dir) / COMING).records.values())
        there, (rate, device) = {record.spec for record in records}, training_rate(records)
        wanted = {
            experiment(name).TITLE: planning.upstream_first(experiment(name).runs(chosen, chosen.seeds))
            for name in EXPERIMENTS
        }
        wanted[ALL] = dict.fromkeys(spec for specs in wanted.values() for spec in specs)
        rows = [{"chapter": escape(title)} | _left_cells(s, there, rate) for title, s in wanted.items()]
        seeds = ", ".join(map(str, chosen.seeds))
        caption = f"<b>Still to come</b>, profile <code>{COMING}</code>, seeds {seeds}"
        how = "Nothing of it is published yet, so there is no rate to estimate times from."
        if rate is not None:
            how = (
                f"Times assume the {arithmetic(rate)} FLOPs per second that the published training runs "
                f"reached on the device that did most of them ({escape(device)})."
            )
        return Html(_table(rows, caption, "chapter") + f"<p>{small(how)}</p>")

    def power(self) -> Html:
        """The assumptions of the energy estimates."""
        rows = [
            {
                "device": escape(each.device),
                "power": f"{each.watts:g} W per {each.each}",
                "from": f'<a href="{each.url}">{escape(each.source)}</a>',
            }
            for each in POWER
        ]
        return _table(rows, "<b>Assumed power</b>, the thermal design power that the maker states", "device")


def _costs(heading: str, what: str, groups: Mapping[tuple[str, str], Sequence[Record]]) -> Html:
    """One row per group: (side, name) to records."""
    rows = [
        {"whose": escape(side), heading: escape(name)} | _cost_cells(records)
        for (side, name), records in groups.items()
    ]
    return _table(rows, f"<b>Cost</b> {what}", "whose", heading)


def _cost_cells(records: Sequence[Record]) -> dict[str, str]:
    macs = math.fsum(record.compute.get("training_macs", 0) for record in records)
    software = {tuple(r.environment.get(name, "unknown") for name in ("python", "torch")) for r in records}
    return {
        "runs": f"{len(records):,}" + small(diverged(records)),
        "time": training_time(records),
        "training, MACs": arithmetic(macs),
        "training, FLOPs": arithmetic(2 * macs),
        "energy, estimated": watt_hours(energy(records)),
        "device": escape(devices(records)),
        "software": "<br>".join(escape(f"Python {py}, torch {torch}") for py, torch in sorted(software)),
    }


def _left_cells(wanted: Collection[RunSpec], there: set[RunSpec], rate: float | None) -> dict[str, str]:
    """How many of ``wanted`` are published, and the others' cost at ``rate`` operations per second."""
    missing = [spec for spec in wanted if spec not in there]
    flops, hours = math.fsum(map(planning.training_flops, missing)), "–"
    if flops:
        hours = "no rate yet" if rate is None else duration(flops / rate)
    return {
        "published": f"{len(wanted) - len(missing):,} of {len(wanted):,} runs",
        "left, FLOPs": arithmetic(flops),
        "time left, estimated": hours,
    }


def arithmetic(operations: float) -> str:
    """A number of operations such as ``1.2 × 10^15``, as HTML; a dash for none."""
    if not operations:
        return "–"
    mantissa, exponent = f"{operations:.1e}".split("e")
    return f'<span class="mlp-number">{mantissa} × 10<sup>{int(exponent)}</sup></span>'


def watt_hours(value: float | None) -> str:
    """An energy with its unit; says so where it is not estimated."""
    if value is None:
        return "not estimated"
    if value >= 1000:
        return f"{value / 1000:.1f} kWh"
    return f"{value:.0f} Wh" if value >= 10 else f"{value:.2g} Wh" if value else "–"


def _table(rows: list[dict[str, str]], caption: str, *row_headers: str) -> Html:
    what = count(len(EXPERIMENTS), "experiment")
    nothing = f"No records of any of the {what}: nothing is published or finished."
    return html.table(rows, caption, *row_headers, otherwise=nothing)
