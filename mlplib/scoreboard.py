"""What the notebook ``scoreboard`` shows: every claim's verdict, and how far each experiment is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import html, ledger, machine, planning
from .claims import Claim
from .experiments import EXPERIMENTS, experiment
from .html import Html, escape, small
from .published import Published, published
from .runs import Record
from .session import Session, open_session
from .specs import RunSpec
from .tables import NOT_PUBLISHED, count, duration, judgement_cells


def open_scoreboard(**parameters) -> Scoreboard:
    """The first call of the scoreboard.

    Args:
        parameters: the notebook's, see :class:`mlplib.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible.
    """
    return Scoreboard(open_session(parameters))


@dataclass(frozen=True)
class Scoreboard:
    """All experiments at once, from published records and from this execution's finished runs."""

    session: Session

    def banner(self) -> Html:
        """What is shown here, and on which machine."""
        session = self.session
        environment = machine.environment(session.device, machine.pick_precision("auto", session.device))
        entries = {
            "Covers": f"{count(len(EXPERIMENTS), 'experiment')}; nothing is trained here",
            "Profile": f"<code>{session.profile.name}</code>: {escape(session.profile.about)}",
            "Seeds": escape(", ".join(map(str, session.seeds))),
            "Device": f"{escape(environment['device'])}, {environment['precision']}",
            "Software": f"Python {environment['python']}, torch {environment['torch']}",
            "Do it again": f"<code>mlplib notebook scoreboard --profile {session.profile.name}</code>",
        }
        return Html(f"<style>{html.STYLE}</style>" + html.box(html.definitions(entries)))

    def claims(self) -> Html:
        """Every claim that has a chapter: criterion, and the verdicts of the study and of this execution."""
        session = self.session
        study = ledger.from_published(session.results_dir)
        ours = ledger.from_store(session.profile, session.seeds, session.store.root)
        sides = {
            "this study": {entry.claim.id: entry for entry in study if self._study(entry.experiment)},
            "this execution": {
                entry.claim.id: entry for entry in ours if self._found(self._runs(entry.experiment))
            },
        }
        rows = []
        for name, claim in _claims():
            criterion = html.fold("criterion", f"<p>{small(escape(claim.criterion))}</p>")
            link = f'<a href="{name}.html">{escape(experiment(name).TITLE)}</a>'
            where = small(f"{escape(claim.item)}; chapter {link}")
            row = {"claim": claim.id, "the paper says": escape(claim.sentence) + where + criterion}
            for side, absent in (("this study", NOT_PUBLISHED), ("this execution", "not run")):
                entry = sides[side].get(claim.id)
                row[side] = _one_cell(entry) if entry else f'<span class="mlp-muted">{absent}</span>'
            rows.append(row)
        tallies = (f"{side}: {_tally(entries.values())}" for side, entries in sides.items())
        return Html(html.table(rows, f"<b>Claims</b>; {'; '.join(tallies)}", row_headers=("claim",)))

    def status(self) -> Html:
        """Runs, training time, devices and versions of every experiment."""
        rows = []
        for name in EXPERIMENTS:
            found, chapter = self._study(name), {"chapter": escape(experiment(name).TITLE)}
            study = _nothing(NOT_PUBLISHED)
            if found:
                study = _status(found.records, found.profile.name, len(found.records))
            rows.append(chapter | {"side": "this study"} | study)
            wanted = planning.with_upstream(self._runs(name)).values()
            ours, execution = self._found(wanted), _nothing("not run")
            if ours:
                execution = _status(ours, self.session.profile.name, len(wanted))
            rows.append(chapter | {"side": "this execution"} | execution)
        return Html(html.table(rows, "<b>Status</b> of every chapter", row_headers=("chapter", "side")))

    def _study(self, name: str) -> Published | None:
        return published(name, self.session.results_dir)

    def _runs(self, name: str) -> list[RunSpec]:
        return experiment(name).runs(self.session.profile, self.session.seeds)

    def _found(self, specs: Iterable[RunSpec]) -> list[Record]:
        """The records that this execution's store has."""
        found = (self.session.store.find(spec) for spec in specs)
        return [record for record in found if record is not None]


def _claims() -> list[tuple[str, Claim]]:
    """Every claim with the experiment that decides it, by id."""
    found = [(name, claim) for name in EXPERIMENTS for claim in experiment(name).CLAIMS]
    return sorted(found, key=lambda pair: pair[1].id)


def _one_cell(entry: ledger.Entry) -> str:
    cells = judgement_cells(entry.judgement)
    return f"{cells['verdict']}{cells['effect']}{small(escape(entry.origin))}"


def _tally(entries: Iterable[ledger.Entry]) -> str:
    counts = Counter(entry.judgement.verdict for entry in entries)
    return ", ".join(f"{n} {escape(verdict)}" for verdict, n in counts.most_common()) or "nothing yet"


def _nothing(why: str) -> dict[str, str]:
    return {"profile": why} | dict.fromkeys(("runs", "training", "device", "torch", "commit"), "–")


def _status(records: Sequence[Record], profile: str, wanted: int) -> dict[str, str]:
    seconds = sum(record.compute.get("seconds", 0) for record in records)
    diverged = sum(record.status != "completed" for record in records)

    def different(key: str) -> str:
        found = {str(record.environment.get(key) or "unknown") for record in records}
        return escape(", ".join(sorted(found)))

    return {
        "profile": escape(profile),
        "runs": f"{len(records)} of {wanted}" + (f", {diverged} diverged" if diverged else ""),
        "training": duration(seconds),
        "device": different("device"),
        "torch": different("torch"),
        "commit": ", ".join(commit[:10] for commit in different("commit").split(", ")),
    }
