"""What the notebook ``scoreboard`` shows: every claim's verdict, and how far each experiment is."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mlplib.specs import RunSpec
from mlplib.store import Record

from .. import planning
from ..claims import NOT_TESTED
from ..evidence import verdicts
from ..evidence.records import ExperimentRecords, seeds_with
from ..experiments import EXPERIMENTS, experiment
from ..plots import verdicts as draw
from ..stats import CONFIDENCE
from ..words import count
from . import html, svg
from .html import Html, escape, small
from .session import Session, open_session
from .tables import NOT_PUBLISHED, criterion, diverged, judgement_cells, training_time


def open_scoreboard(**parameters) -> Scoreboard:
    """Open the page with the notebook's :class:`~mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible.
    """
    return Scoreboard(open_session(parameters))


def overview_banner(name: str, session: Session, covers: str | None = None, **more: str) -> Html:
    """What a notebook about all experiments shows.

    ``covers``: what it is about, HTML; None: all experiments, without training anything. ``more``: further
    entries (HTML).
    """
    everything = count(len(EXPERIMENTS), "experiment")
    alone = everything if session.reading else f"{everything}; nothing is trained here"
    return html.banner(session.entries(name, covers or alone, **more))


@dataclass(frozen=True)
class Scoreboard:
    """All experiments at once, from published records and from this execution's finished runs."""

    session: Session

    def banner(self) -> Html:
        """What is shown here."""
        return overview_banner("scoreboard", self.session)

    def claims(self) -> Html:
        """Every claim that has a chapter: criterion, and the verdicts of the study, at each profile that it
        has records of, and of this execution.
        """
        columns, tallies = self._judged(self._sides), []
        for side, entries in columns.items():
            counts = Counter(entry.judgement.verdict for entry in entries.values())
            tally = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common()) or "nothing yet"
            tallies.append(f"{side}: {tally}")
        rows = []
        for name, claim in verdicts.every_claim():
            link = f'<a href="{name}.html">{escape(experiment(name).TITLE)}</a>'
            where = small(f"{escape(claim.item)}; chapter {link}")
            more = html.fold("criterion", f"<p>{small(criterion(claim))}</p>")
            row = {"claim": claim.id, "the paper says": escape(claim.sentence) + where + more}
            found = {escape(side): _verdict(entries.get(claim.id)) for side, entries in columns.items()}
            rows.append(row | found)
        return html.table(rows, f"<b>Claims</b>; {escape('; '.join(tallies))}", "claim")

    def robustness(self) -> Html:
        """Every verdict with intervals made in other ways: a figure, and the changes in words."""
        evidence = self._sides
        sides = {side: verdicts.robustness(each) for side, each in evidence.items() if each}
        if not sides:
            return html.box("<p>No records: nothing is published, and nothing was run.</p>")
        judged = self._judged(evidence)
        late = {
            entry.claim.id
            for entries in judged.values()
            for entry in entries.values()
            if entry.claim.afterthought or entry.criterion_first is False
        }
        names = {claim.id: claim.id + " *" * (claim.id in late) for _, claim in verdicts.every_claim()}
        rows = [
            {"profile": side, "variant": variant, "claim": name, "verdict": found.get(id, NOT_TESTED)}
            for side, variants in sides.items()
            for variant, found in variants.items()
            for id, name in names.items()
        ]
        frame = pd.DataFrame(rows)
        caption = (
            "<b>Every verdict with intervals made in other ways.</b> One column per way; the first is the "
            "one that counts. An asterisk marks claims whose criterion or design was decided after a look at "
            "earlier records."
        )
        alt = "Grid of verdicts: claims down, ways to make intervals across, one panel per profile."
        drawn = svg.figure(draw.robustness(frame), alt, caption, frame, "robustness.csv")
        texts = (_what_it_comes_to(side, found, judged[side]) for side, found in sides.items())
        text = "".join(f"<p>{escape(each)}</p>" for each in texts)
        return Html(drawn + text)

    def power(self) -> Html:
        """For each claim, the effect that its seeds can detect, beside the one that the sentence means."""
        rows = []
        for side, entries in self._judged(self._sides).items():
            for id, entry in sorted(entries.items()):
                part = verdicts.hardest(entry.judgement)
                if part is None:
                    continue
                can = part.detectable <= part.sought
                rows.append(
                    {
                        "claim": id,
                        "records": escape(side),
                        "effect": escape(f"{part.name}, {part.unit}".strip(", ")),
                        "detectable": f"{part.detectable:.2g}",
                        "sought": f"{part.sought:.2g}",
                        "could they show the effect sought?": "yes" if can else "no",
                    }
                )
        nothing = "No effect here has a standard error."
        return html.table(rows, "<b>What the seeds can show</b>", "claim", otherwise=nothing)

    @functools.cached_property
    def _published(self) -> dict[str, dict[str, verdicts.Entry]]:
        return {side: verdicts.judged(evidence) for side, evidence in self.session.published.items()}

    def _judged(self, sides: Mapping[str, list[ExperimentRecords]]) -> dict[str, dict[str, verdicts.Entry]]:
        """The verdicts by column of a table and by claim. Those on published runs are computed once."""
        own = {side: verdicts.judged(each) for side, each in sides.items() if side not in self._published}
        return self._published | own

    @property
    def _sides(self) -> dict[str, list[ExperimentRecords]]:
        """The evidence by column of a table."""
        found = self.session.evidence
        return {side: [each for each in evidence if each.records] for side, evidence in found.items()}

    def status(self) -> Html:
        """Runs, training time, devices and versions of every experiment, with the runs they read from."""
        session, rows = self.session, []
        for name in EXPERIMENTS:
            module, sides = experiment(name), []
            for each in (each for side in session.published.values() for each in side if each.name == name):
                # Runs of other chapters can belong to this one, too, at seeds that were not planned for it.
                wanted = module.runs(each.profile, seeds_with(each, 0.5) or each.profile.seeds)
                sides.append(("this study", each.profile.name, each.everything, wanted))
            if not sides:
                sides = [("this study", NOT_PUBLISHED, [], [])]
            if not session.reading:
                own, wanted = session.own(name).everything, module.runs(session.profile, session.seeds)
                sides.append(("this execution", session.profile.name if own else "not run", own, wanted))
            for side, profile, records, wanted in sides:
                row = {"chapter": escape(module.TITLE), "side": side, "profile": profile}
                rows.append(row | _status(records, wanted))
        return html.table(rows, "<b>Status</b> of every chapter", "chapter", "side")


ORDER = {
    True: "; criterion older than the records",
    False: "; criterion changed after the records",
    None: "; the records do not say when they were made",
}


def _verdict(entry: verdicts.Entry | None) -> str:
    """The verdict on a claim with its effect and origin as HTML."""
    if entry is None:
        return '<span class="mlp-muted">no records</span>'
    cells, order = judgement_cells(entry.judgement), ORDER[entry.criterion_first]
    return f"{cells['verdict']}{cells['effect']}{small(escape(entry.origin + order))}"


def _what_it_comes_to(
    side: str, variants: Mapping[str, Mapping[str, str]], entries: Mapping[str, verdicts.Entry]
) -> str:
    """In words, how many verdicts change, and how many parts would look true by chance."""
    usual = variants[verdicts.AS_JUDGED]
    tested = {id: entry.judgement.measured for id, entry in entries.items() if entry.judgement.tested}
    text = f"{side[0].upper()}{side[1:]}: of {count(len(tested), 'claim')} measured, "
    moved = {
        name: [id for id in sorted(tested) if found[id] != usual[id]] for name, found in variants.items()
    }
    always = len(set(tested).difference(*moved.values()))
    text += f"{always} keep their verdict in every column. Others: "
    text += "; ".join(f"{name}: {', '.join(ids)}" for name, ids in moved.items() if ids) or "none"
    unsure = sum(part.sampled for parts in tested.values() for part in parts)
    wrong = f"{(1 - CONFIDENCE) / 2 * unsure:.1f}"
    text += f". The claims have {count(unsure, 'part')} with an interval. If none of these were true, {wrong}"
    return (
        f"{text} would be expected to look true by chance, and one such part makes a claim partly reproduced."
    )


def _status(records: Sequence[Record], wanted: Iterable[RunSpec]) -> dict[str, str]:
    """``wanted``: the experiment's runs. Those on data sets that not everybody has count if recorded."""
    if not records:
        return dict.fromkeys(("runs", "training", "device", "torch", "commit"), "–")
    total = len({*planning.upstream_first(wanted), *(record.spec for record in records)})

    def different(key: str, length: int | None = None) -> str:
        found = {str(record.environment.get(key) or "unknown")[:length] for record in records}
        return escape(", ".join(sorted(found)))

    return {
        "runs": ", ".join(filter(None, (f"{len(records)} of {total}", diverged(records)))),
        "training": training_time(records),
        "device": different("device"),
        "torch": different("torch"),
        "commit": different("commit", 10)
        + (" + changes" if any(r.environment.get("dirty") for r in records) else ""),
    }
