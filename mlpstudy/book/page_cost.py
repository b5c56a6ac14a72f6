"""What the notebook ``compute`` shows: what the study cost, in time, arithmetic and energy, what sharing runs
between chapters saved, and what is still to come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlplib import planning
from mlplib.specs import RunSpec
from mlplib.store import Record

from ..evidence.records import BEST_FIRST, every_published, expected, read_folder, results_folder
from ..experiments import EXPERIMENTS, experiment
from ..profiles import profile
from ..words import count, devices, duration
from . import html
from .html import Html, escape, small
from .page_scoreboard import overview_banner
from .session import Session, open_session

KINDS = {
    "train": "training from a random start",
    "finetune": "fine-tuning",
    "probe": "probes",
    "evaluate": "evaluation of finished networks",
    "filters": "looks at filters",
    "checkpoint": "official checkpoints",
    "timing": "timing",
}
"""What a reader calls the kinds of runs."""

# --------------------------------------------------------------------------- energy


@dataclass(frozen=True)
class Power:
    """The power that a device is taken to draw while it computes.

    ``device``: how its name starts; ``watts``: of one GPU, or of one thread of a CPU; ``source``: where the
    figure is from, with its address in ``url``.
    """

    device: str
    watts: float
    each: str
    source: str
    url: str


_NVIDIA = "https://www.nvidia.com/en-us"
POWER = (
    Power("NVIDIA H200", 700, "GPU", "H200 data sheet, SXM", f"{_NVIDIA}/data-center/h200/"),
    Power("NVIDIA H100 PCIe", 350, "GPU", "H100 PCIe product brief", f"{_NVIDIA}/data-center/h100/"),
    Power("NVIDIA H100 80GB HBM3", 700, "GPU", "H100 data sheet, SXM", f"{_NVIDIA}/data-center/h100/"),
    Power("NVIDIA A100-SXM4", 400, "GPU", "A100 data sheet, SXM", f"{_NVIDIA}/data-center/a100/"),
    Power(
        "NVIDIA RTX A5000", 230, "GPU", "RTX A5000 data sheet", f"{_NVIDIA}/products/workstations/rtx-a5000/"
    ),
    Power("Tesla T4", 70, "GPU", "T4 data sheet", f"{_NVIDIA}/data-center/tesla-t4/"),
    Power(
        "AMD EPYC",
        360 / 96,
        "thread",
        "EPYC 9654: 360 W for 96 cores, a thread taken for a core",
        "https://www.amd.com/en/products/processors/server/epyc/4th-generation-9004-and-8004-series/amd-epyc-9654.html",
    ),
)
"""The assumptions behind every energy on the page: thermal design power, as the makers state it. The first
that fits counts; a device that none fits is not estimated."""


def power(record: Record) -> Power | None:
    """The assumption that fits the device of a run, None where none does: a slice of a GPU (MIG), say."""
    name = record.environment.get("device", "")
    if "MIG" in name:
        return None
    return next((each for each in POWER if name.startswith(each.device)), None)


def energy(record: Record) -> float | None:
    """The estimated energy of a run in watt-hours, None where its device is unknown.

    Power times the time that the run took; what the rest of the machine and its cooling draw is left out.
    """
    assumed = power(record)
    if assumed is None:
        return None
    threads = record.environment.get("cpu_threads", 1) if assumed.each == "thread" else 1
    return assumed.watts * threads * seconds(record) / 3600


def seconds(record: Record) -> float:
    """How long a run computed, 0 where its record does not say."""
    return record.compute.get("seconds", 0.0)


# --------------------------------------------------------------------------- sums


@dataclass(frozen=True)
class Cost:
    """What some runs cost together.

    ``macs``: multiply-adds of training, as the records count them; ``watt_hours``: None where the device of a
    run that took time is unknown.
    """

    runs: int
    seconds: float
    macs: float
    watt_hours: float | None

    @property
    def flops(self) -> float:
        """Floating-point operations: two for each multiply-add."""
        return 2 * self.macs


def cost(records: Iterable[Record]) -> Cost:
    """The sum over runs, each counted as often as it is there."""
    records = list(records)
    energies = [energy(record) for record in records if seconds(record)]
    return Cost(
        runs=len(records),
        seconds=math.fsum(map(seconds, records)),
        macs=math.fsum(record.compute.get("training_macs", 0) for record in records),
        watt_hours=None if None in energies else math.fsum(energies),
    )


# --------------------------------------------------------------------------- what is left

COMING = "gpu"
"""The profile that the study publishes piece by piece. Profile ``paper`` is for others to run."""


@dataclass(frozen=True)
class Left:
    """How much of some runs is published.

    ``published, runs``: how many are, of how many; ``flops``: training of the others
    (:func:`mlplib.planning.training_flops`).
    """

    published: int
    runs: int
    flops: float


def left(wanted: Iterable[RunSpec], there: set[RunSpec]) -> Left:
    """What is left of some runs, each counted once; compared by their settings, so that no data are needed.

    Args:
        there: the settings of what is published.
    """
    wanted = list(dict.fromkeys(wanted))
    missing = [spec for spec in wanted if spec not in there]
    return Left(len(wanted) - len(missing), len(wanted), math.fsum(map(planning.training_flops, missing)))


def training_rate(records: Iterable[Record]) -> float | None:
    """Floating-point operations a second of all training runs among ``records`` together, None without any.

    So a run counts as much as it computes: what is left is mostly the large ones.
    """
    trained = [r for r in records if r.compute.get("training_macs") and seconds(r)]
    flops = math.fsum(2 * record.compute["training_macs"] for record in trained)
    return flops / math.fsum(map(seconds, trained)) if trained else None


# --------------------------------------------------------------------------- the page


def open_compute(**parameters) -> Compute:
    """The first call of the page.

    Args:
        parameters: the notebook's, see :class:`mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible.
    """
    return Compute(open_session(parameters))


@dataclass(frozen=True)
class Compute:
    """What all experiments cost, from published records and from this execution's finished runs."""

    session: Session

    def banner(self) -> Html:
        """What is shown here, and on which machine."""
        return overview_banner("compute", self.session)

    def _sides(self) -> dict[str, dict[str, dict[str, Record]]]:
        """Whose runs, to experiment, to records by id, what the runs were made from included."""
        found: dict[str, dict[str, dict[str, Record]]] = {f"this study, {name}": {} for name in BEST_FIRST}
        for name in EXPERIMENTS:
            for each in every_published(name, self.session.results_dir):
                records = {record.id: record for record in (*each.upstream, *each.records)}
                found[f"this study, {each.profile.name}"][name] = records
        ours = found.setdefault(f"this execution, {self.session.profile.name}", {})
        for name in EXPERIMENTS:
            specs = planning.with_upstream(experiment(name).runs(self.session.profile, self.session.seeds))
            records = [self.session.store.find(spec) for spec in specs.values()]
            if any(records):
                ours[name] = {record.id: record for record in records if record is not None}
        return {side: runs for side, runs in found.items() if runs}

    def chapters(self) -> Html:
        """Runs, time, arithmetic, energy, devices and versions of every chapter, and of all of them."""
        return self._table("chapter", "by chapter", self._by_chapter)

    def kinds(self) -> Html:
        """The same by kind of run, each run counted once."""
        return self._table("kind of run", "by kind of run, each run once", _by_kind)

    def shared(self) -> Html:
        """What it saved that chapters share runs."""
        rows, groups = [], []
        for side, runs in self._sides().items():
            alone = sum(map(len, runs.values()))
            found = planning.sharing(
                runs, {id: seconds(r) for each in runs.values() for id, r in each.items()}
            )
            rows.append(
                {
                    "whose": escape(side),
                    "different runs": f"{found.different:,}",
                    "if no chapter shared": f"{alone:,}",
                    "needed by several chapters": f"{found.shared:,}",
                    "time saved": duration(found.saved),
                }
            )
            for names, (number, saved) in found.groups.items():
                titles = ", ".join(escape(experiment(name).TITLE) for name in names)
                row = {"whose": escape(side), "chapters": titles}
                groups.append(row | {"runs": f"{number:,}", "time saved": duration(saved)})
        if not rows:
            return _nothing()
        text = html.table(rows, "<b>Shared runs</b>, counted by their ids", row_headers=("whose",))
        if groups:
            text += html.table(groups, "<b>Who shares</b>", row_headers=("whose", "chapters"))
        return Html(text)

    def still_to_come(self) -> Html:
        """How many runs of the study's large profile are published, and about how long the others take."""
        chosen, ids = profile(COMING), {}
        records = self._published_at(COMING)
        there, rate = {record.spec for record in records}, training_rate(records)
        wanted = {
            experiment(name).TITLE: planning.with_upstream(expected(name, chosen, chosen.seeds), ids).values()
            for name in EXPERIMENTS
        }
        rows = [
            {"chapter": escape(title)} | _left_cells(left(specs, there), rate)
            for title, specs in wanted.items()
        ]
        everything = left((spec for specs in wanted.values() for spec in specs), there)
        rows.append({"chapter": "all, shared runs counted once"} | _left_cells(everything, rate))
        caption = f"<b>Still to come</b>, profile <code>{COMING}</code>, seeds {_list(chosen.seeds)}"
        how = "Nothing of it is published yet, so there is no rate to tell the time by."
        if rate is not None:
            how = (
                f"Times are at the {arithmetic(rate)} FLOPs a second that the published training runs "
                f"reached, all together ({escape(devices(records))})."
            )
        return Html(html.table(rows, caption, row_headers=("chapter",)) + f"<p>{small(how)}</p>")

    def _published_at(self, name: str) -> list[Record]:
        """Everything published at a profile, each record once."""
        return list(read_folder(results_folder(self.session.results_dir) / name).records.values())

    def power(self) -> Html:
        """What the estimates of energy assume."""
        rows = [
            {
                "device": escape(each.device),
                "power": f"{each.watts:g} W a {each.each}",
                "from": f'<a href="{each.url}">{escape(each.source)}</a>',
            }
            for each in POWER
        ]
        caption = "<b>Assumed power</b>, the thermal design power that the maker states"
        return Html(html.table(rows, caption, row_headers=("device",)))

    def _by_chapter(self, runs: Mapping[str, Mapping[str, Record]]) -> dict[str, Sequence[Record]]:
        groups = {experiment(name).TITLE: list(found.values()) for name, found in runs.items()}
        return groups | {"all, shared runs counted once": _different(runs)}

    def _table(self, heading: str, what: str, grouped: Callable) -> Html:
        """One row for each group of each side's runs."""
        rows = [
            {"whose": escape(side), heading: escape(name)} | _cost_cells(records)
            for side, runs in self._sides().items()
            for name, records in grouped(runs).items()
        ]
        if not rows:
            return _nothing()
        return Html(html.table(rows, f"<b>Cost</b> {what}", row_headers=("whose", heading)))


def _different(runs: Mapping[str, Mapping[str, Record]]) -> list[Record]:
    """All experiments' records, each once."""
    return list({id: record for found in runs.values() for id, record in found.items()}.values())


def _by_kind(runs: Mapping[str, Mapping[str, Record]]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in _different(runs):
        groups.setdefault(KINDS.get(record.spec.kind, record.spec.kind), []).append(record)
    return groups


def _cost_cells(records: Sequence[Record]) -> dict[str, str]:
    total = cost(records)
    diverged = sum(record.status != "completed" for record in records)
    versions = {
        f"Python {record.environment.get('python', 'unknown')}, "
        f"torch {record.environment.get('torch', 'unknown')}"
        for record in records
    }
    return {
        "runs": f"{total.runs:,}" + (small(f"{diverged} diverged") if diverged else ""),
        "time": duration(total.seconds),
        "training, MACs": arithmetic(total.macs),
        "training, FLOPs": arithmetic(total.flops),
        "energy, estimated": watt_hours(total.watt_hours),
        "device": escape(devices(records)),
        "software": "<br>".join(escape(version) for version in sorted(versions)),
    }


def _left_cells(rest: Left, rate: float | None) -> dict[str, str]:
    """The cells of a row of what is still to come; ``rate`` in operations a second, None if unknown."""
    if not rest.flops:
        hours = "–"
    else:
        hours = "no rate yet" if rate is None else duration(rest.flops / rate)
    return {
        "published": f"{rest.published:,} of {rest.runs:,} runs",
        "left, FLOPs": arithmetic(rest.flops),
        "time left, estimated": hours,
    }


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def arithmetic(operations: float) -> str:
    """A number of operations as a person reads it, such as ``1.2 × 10^15``, as HTML; a dash for none."""
    if not operations:
        return "–"
    exponent = math.floor(math.log10(operations))
    mantissa = f"{operations / 10**exponent:.1f}"
    if mantissa == "10.0":  # rounded up into the next power
        mantissa, exponent = "1.0", exponent + 1
    return f'<span class="mlp-number">{mantissa} × 10<sup>{exponent}</sup></span>'


def watt_hours(value: float | None) -> str:
    """An energy as a person reads it; says so where it is not estimated."""
    if value is None:
        return "not estimated"
    if value >= 1000:
        return f"{value / 1000:.1f} kWh"
    return f"{value:.0f} Wh" if value >= 10 else f"{value:.2g} Wh" if value else "–"


def _nothing() -> Html:
    what = count(len(EXPERIMENTS), "experiment")
    return Html(html.box(f"<p>No records of any of the {what}: nothing is published or finished.</p>"))
