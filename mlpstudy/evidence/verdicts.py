"""The verdicts on all claims, from published records or a reader's own runs, and how they depend on the
confidence of the intervals.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mlplib.stats import CONFIDENCE, using
from mlplib.store import Record, RunStore

from ..claims import NOT_TESTED, VERDICTS, Claim, Judgement, decide, not_tested
from ..experiments import EXPERIMENTS, experiment
from ..profiles import Profile
from .records import BEST_FIRST, every_published

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
"""The confidences of the sensitivity table; :data:`mlplib.stats.CONFIDENCE` is the one that counts."""


@dataclass(frozen=True)
class Entry:
    """One row: a claim, the experiment that decides it, the judgement, and where its records are from.

    ``profile``: the name of the records' profile, None where there are no records.
    """

    claim: Claim
    experiment: str
    judgement: Judgement
    origin: str
    profile: str | None = None


@dataclass(frozen=True)
class Evidence:
    """The records of one experiment at one profile, before anything is judged by them.

    ``origin``: where they are from, for a reader. ``claims``: those that they decide, None for all of the
    experiment's.
    """

    experiment: str
    profile: str
    records: Sequence[Record]
    origin: str
    claims: tuple[Claim, ...] | None = None

    def entries(self) -> list[Entry]:
        """The claims, judged by these records."""

        def entry(claim: Claim) -> Entry:
            judgement = decide(claim, self.records, self.profile)
            return Entry(claim, self.experiment, judgement, self.origin, self.profile)

        claims = experiment(self.experiment).CLAIMS if self.claims is None else self.claims
        return [entry(claim) for claim in claims]


def published_evidence(folder: str | os.PathLike | None = None) -> dict[str, list[Evidence]]:
    """Everything published, by profile, the best profile first; profiles without records are left out."""
    found: dict[str, list[Evidence]] = {name: [] for name in BEST_FIRST}
    for name in EXPERIMENTS:
        for each in every_published(name, folder):
            origin = f"{each.profile.name}, {each.devices}"
            found[each.profile.name].append(Evidence(name, each.profile.name, each.records, origin))
    return {profile: evidence for profile, evidence in found.items() if evidence}


def best(evidence: dict[str, list[Evidence]]) -> list[Evidence]:
    """For every claim the records that decide it, each with the claims that it decides.

    They are those of the best profile whose records test the claim, so that a few runs of a better profile
    do not hide what a whole one has shown. Where none tests it, those of the best profile that has any.

    Args:
        evidence: by profile, the best first.
    """
    every = [each for group in evidence.values() for each in group]
    deciding: dict[str, tuple[int, bool]] = {}
    for place, each in enumerate(every):
        for entry in each.entries():
            tests = entry.judgement.verdict != NOT_TESTED
            known = deciding.get(entry.claim.id)
            if known is None or (tests and not known[1]):
                deciding[entry.claim.id] = place, tests

    def decided(place: int) -> tuple[Claim, ...]:
        claims = experiment(every[place].experiment).CLAIMS
        return tuple(claim for claim in claims if deciding[claim.id][0] == place)

    chosen = [replace(each, claims=decided(place)) for place, each in enumerate(every)]
    return [each for each in chosen if each.claims]


def own_evidence(profile: Profile, seeds: Sequence[int], store: RunStore) -> list[Evidence]:
    """The finished runs of a profile in a run store, for every experiment that has any. Trains nothing."""
    found = []
    for name in EXPERIMENTS:
        specs = experiment(name).runs(profile, seeds)
        records = [record for record in map(store.find, specs) if record is not None]
        if records:
            found.append(Evidence(name, profile.name, records, f"own runs, {profile.name}"))
    return found


def judged(evidence: Iterable[Evidence]) -> list[Entry]:
    """Every claim that there is evidence on, by its id."""
    return _in_order([entry for each in evidence for entry in each.entries()])


def _in_order(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.claim.id)


def _complete(entries: Sequence[Entry], why: str, origin: str) -> list[Entry]:
    """``entries`` with those claims that no record speaks of, as not tested."""
    known = {entry.claim.id for entry in entries}
    others = [
        Entry(claim, name, not_tested(why), origin)
        for name in EXPERIMENTS
        for claim in experiment(name).CLAIMS
        if claim.id not in known
    ]
    return _in_order([*entries, *others])


def from_published(folder: str | os.PathLike | None = None) -> list[Entry]:
    """Every claim by its id, judged by the best published records that test it (:func:`best`)."""
    entries = judged(best(published_evidence(folder)))
    return _complete(entries, "no published records yet", "nothing published")


def from_store(profile: Profile, seeds: Sequence[int], runs: str | os.PathLike | None = None) -> list[Entry]:
    """Every claim by its id, judged by the finished runs of a profile in a run store. Trains nothing."""
    entries = judged(own_evidence(profile, seeds, RunStore(runs)))
    return _complete(entries, "not run yet", f"own runs, {profile.name}")


# --------------------------------------------------------------------------- how much the tolerance decides


@dataclass(frozen=True)
class Tally:
    """The verdicts at one confidence.

    ``counts``: verdict to the number of claims; ``changed``: id of a claim to its verdict, where that is not
    the one at :data:`mlplib.stats.CONFIDENCE`.
    """

    level: float
    counts: dict[str, int]
    changed: dict[str, str]


def sensitivity(judge: Callable[[], Iterable[Entry]], levels: Sequence[float] = LEVELS) -> list[Tally]:
    """How the verdicts move when every interval in every criterion is made at another confidence.

    Args:
        judge: judges again at each call, such as ``lambda: judged(evidence)``.
        levels: confidences, fractions.
    """

    def verdicts(level: float) -> dict[str, str]:
        with using(confidence=level):
            return {entry.claim.id: entry.judgement.verdict for entry in judge()}

    usual, tallies = verdicts(CONFIDENCE), []
    for level in levels:
        found = verdicts(level)
        counted = Counter(found.values())
        changed = {id: verdict for id, verdict in found.items() if verdict != usual[id]}
        tallies.append(Tally(level, {verdict: counted[verdict] for verdict in VERDICTS}, changed))
    return tallies


def markdown(entries: Sequence[Entry]) -> str:
    """All verdicts as a Markdown table, as in the README."""
    lines = ["| claim | the paper says | this study | effect | from |", "|---|---|---|---|---|"]
    for entry in entries:
        judgement = entry.judgement
        cells = (
            entry.claim.id,
            entry.claim.sentence,
            f"**{judgement.words}**",
            judgement.effect_text(),
            entry.origin,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
