"""What the notebook ``scoreboard`` shows: every claim's verdict, and how far each experiment is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlplib import machine, planning
from mlplib.specs import RunSpec
from mlplib.stats import CONFIDENCE
from mlplib.store import Record

from ..evidence import verdicts
from ..evidence.records import every_published, expected
from ..experiments import EXPERIMENTS, experiment
from ..words import count, duration
from . import html
from .html import Html, escape, small
from .session import Session, open_session, reading_entries
from .tables import NOT_PUBLISHED, judgement_cells


def open_scoreboard(**parameters) -> Scoreboard:
    """The first call of the scoreboard.

    Args:
        parameters: the notebook's, see :class:`mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible.
    """
    return Scoreboard(open_session(parameters))


def overview_banner(name: str, session: Session, covers: str | None = None) -> Html:
    """What a notebook about all experiments shows, and on which machine.

    Args:
        name: the notebook's.
        covers: what it is about, HTML; None: all experiments, without training anything.
    """
    if session.reading:
        what = covers or f"{count(len(EXPERIMENTS), 'experiment')}"
        return html.banner({"Covers": what} | reading_entries(name))
    environment = machine.environment(session.device, machine.pick_precision("auto", session.device))
    entries = {
        "Covers": covers or f"{count(len(EXPERIMENTS), 'experiment')}; nothing is trained here",
        "Profile": f"<code>{session.profile.name}</code>: {escape(session.profile.about)}",
        "Seeds": escape(", ".join(map(str, session.seeds))),
        "Device": f"{escape(environment['device'])}, {environment['precision']}",
        "Software": f"Python {environment['python']}, torch {environment['torch']}",
        "Do it again": f"<code>mlplib notebook {name} --profile {session.profile.name}</code>",
    }
    return html.banner(entries)


@dataclass(frozen=True)
class Scoreboard:
    """All experiments at once, from published records and from this execution's finished runs."""

    session: Session

    def banner(self) -> Html:
        """What is shown here, and on which machine."""
        return overview_banner("scoreboard", self.session)

    def claims(self) -> Html:
        """Every claim that has a chapter: criterion, and the verdicts of the study, at each profile that it
        has records of, and of this execution.
        """
        sides = [("this study", profile, found, "no records") for profile, found in self._published.items()]
        sides = sides or [("this study", "", [], NOT_PUBLISHED)]
        if not self.session.reading:
            sides.append(("this execution", self.session.profile.name, self._own, "not run"))
        columns, tallies = {}, []
        for whose, profile, evidence, absent in sides:
            entries = {entry.claim.id: entry for entry in verdicts.judged(evidence)}
            columns[whose + small(profile)] = entries, absent
            counts = Counter(entry.judgement.verdict for entry in entries.values())
            tally = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()) or "nothing yet"
            tallies.append(f"{whose}, {profile}: {tally}" if profile else f"{whose}: {tally}")
        rows = []
        claims = [(name, claim) for name in EXPERIMENTS for claim in experiment(name).CLAIMS]
        for name, claim in sorted(claims, key=lambda pair: pair[1].id):
            criterion = html.fold("criterion", f"<p>{small(escape(claim.criterion))}</p>")
            link = f'<a href="{name}.html">{escape(experiment(name).TITLE)}</a>'
            where = small(f"{escape(claim.item)}; chapter {link}")
            row = {"claim": claim.id, "the paper says": escape(claim.sentence) + where + criterion}
            for heading, (entries, absent) in columns.items():
                row[heading] = _verdict(entries.get(claim.id), absent)
            rows.append(row)
        return Html(html.table(rows, f"<b>Claims</b>; {escape('; '.join(tallies))}", row_headers=("claim",)))

    def sensitivity(self) -> Html:
        """How many claims get each verdict when all intervals of all criteria are made longer or shorter."""
        sides = {"this study": verdicts.best(self._published), "this execution": self._own}
        parts = [_sensitivity(side, evidence) for side, evidence in sides.items() if evidence]
        nothing = html.box("<p>No records: nothing is published, and nothing was run.</p>")
        return Html("".join(parts) or nothing)

    @property
    def _published(self) -> dict[str, list[verdicts.Evidence]]:
        return verdicts.published_evidence(self.session.results_dir)

    @property
    def _own(self) -> list[verdicts.Evidence]:
        if self.session.reading:
            return []
        return verdicts.own_evidence(self.session.profile, self.session.seeds, self.session.store)

    def status(self) -> Html:
        """Runs, training time, devices and versions of every experiment, with the runs they read from."""
        session, rows = self.session, []
        for name in EXPERIMENTS:
            sides = [
                (
                    "this study",
                    each.profile.name,
                    [*each.records, *each.upstream],
                    expected(name, each.profile, each.seeds),
                )
                for each in every_published(name, session.results_dir)
            ] or [("this study", NOT_PUBLISHED, [], [])]
            if not session.reading:
                own, wanted = session.own(name), experiment(name).runs(session.profile, session.seeds)
                sides.append(("this execution", session.profile.name if own else "not run", own, wanted))
            for side, profile, records, wanted in sides:
                row = {"chapter": escape(experiment(name).TITLE), "side": side, "profile": profile}
                rows.append(row | _status(records, wanted))
        return Html(html.table(rows, "<b>Status</b> of every chapter", row_headers=("chapter", "side")))


def _verdict(entry: verdicts.Entry | None, absent: str) -> str:
    """The verdict on a claim with its effect and origin, or ``absent``, as HTML."""
    if entry is None:
        return f'<span class="mlp-muted">{absent}</span>'
    cells = judgement_cells(entry.judgement)
    return f"{cells['verdict']}{cells['effect']}{small(escape(entry.origin))}"


def _sensitivity(side: str, evidence: Sequence[verdicts.Evidence]) -> str:
    """The table of one side, with what it comes to."""
    tallies = verdicts.sensitivity(lambda: verdicts.judged(evidence))
    rows = []
    for tally in tallies:
        level = percent(tally.level)
        usual = tally.level == CONFIDENCE
        row = {"intervals at": f"<b>{level}</b>, as the criteria say" if usual else level}
        row |= {escape(verdict): str(n) for verdict, n in tally.counts.items()}
        changed = "; ".join(f"{id} {escape(verdict)}" for id, verdict in tally.changed.items())
        rows.append(row | {"claims with another verdict": changed or "–"})
    table = html.table(rows, f"<b>Verdicts by confidence</b>, {side}", row_headers=("intervals at",))
    return table + f"<p>{small(_what_it_comes_to(tallies, verdicts.judged(evidence)))}</p>"


def _what_it_comes_to(tallies: Sequence[verdicts.Tally], entries: Sequence[verdicts.Entry]) -> str:
    moved = sorted({id for tally in tallies for id in tally.changed})
    measured = [parts for entry in entries if (parts := entry.judgement.measured)]
    without = sum(all(part.effect.low is None for part in parts) for parts in measured)
    text = (
        f"Of {count(len(measured), 'claim')} with a measured effect, {len(moved)} would get another verdict "
        f"somewhere between {percent(tallies[0].level)} and {percent(tallies[-1].level)}"
    )
    text += f" ({', '.join(moved)})." if moved else "."
    if without:
        text += f" The effects of {count(without, 'claim')} have no interval, so no confidence moves them."
    return text


def percent(level: float) -> str:
    """A confidence as a person writes it: ``95 %``."""
    return f"{100 * level:g} %"


def _status(records: Sequence[Record], wanted: Iterable[RunSpec]) -> dict[str, str]:
    """Of ``wanted``, the experiment's runs, those on data sets that not everybody has count once recorded."""
    if not records:
        return dict.fromkeys(("runs", "training", "device", "torch", "commit"), "–")
    total = len(planning.with_upstream(wanted).keys() | {record.id for record in records})
    diverged = sum(record.status != "completed" for record in records)

    def different(key: str, length: int | None = None) -> str:
        found = {str(record.environment.get(key) or "unknown")[:length] for record in records}
        return escape(", ".join(sorted(found)))

    return {
        "runs": f"{len(records)} of {total}" + (f", {diverged} diverged" if diverged else ""),
        "training": duration(sum(record.compute.get("seconds", 0) for record in records)),
        "device": different("device"),
        "torch": different("torch"),
        "commit": different("commit", 10),
    }
