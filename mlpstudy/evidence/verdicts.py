"""The verdicts on all claims, from published records or a reader's own runs, and how robust they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlplib.store import RunStore

from ..claims import CONTRADICTED, PARTLY, REPRODUCED, Claim, Judgement, Part, at_scale, decide, judge
from ..experiments import EXPERIMENTS, experiment
from ..profiles import Profile
from ..stats import CONFIDENCE, using
from ..words import markdown_table
from .criteria import written_before
from .records import BEST_FIRST, ExperimentRecords, every_published, finished

AS_JUDGED = "as the criteria say"
"""The name of the intervals that count: at 95 %, the spread between seeds pooled."""

VARIANTS = {
    AS_JUDGED: {},
    "80 % intervals": {"confidence": 0.8},
    "90 % intervals": {"confidence": 0.9},
    "99 % intervals": {"confidence": 0.99},
    "each setting's own spread": {"pooled": False},
    "test images sampled, too": {"sampling": True},
}
"""Other ways to make every interval (:class:`mlpstudy.stats.Intervals`), by name."""

HOLM = "Holm's correction"
"""Another variant: the chance of any false verdict among all claims is 5 %, instead of 5 % for each."""


@dataclass(frozen=True)
class Entry:
    """A claim, the judgement, and where its records are from, for a reader.

    ``criterion_first``: :func:`mlpstudy.evidence.criteria.written_before`.
    """

    claim: Claim
    judgement: Judgement
    origin: str
    criterion_first: bool | None = None


Board = dict[str, dict[str, Entry]]
"""By profile, the best first: claim id to its verdict. Claims without any records are left out."""


def every_claim() -> list[tuple[str, Claim]]:
    """Every claim with the experiment that decides it, by its id."""
    claims = [(name, claim) for name in EXPERIMENTS for claim in experiment(name).CLAIMS]
    return sorted(claims, key=lambda pair: pair[1].id)


def published_evidence(folder: str | os.PathLike | None = None) -> dict[str, list[ExperimentRecords]]:
    """Everything published, by profile, the best profile first; profiles without records are left out."""
    found: dict[str, list[ExperimentRecords]] = {name: [] for name in BEST_FIRST}
    for name in EXPERIMENTS:
        for each in every_published(name, folder):
            found[each.profile.name].append(each)
    return {profile: evidence for profile, evidence in found.items() if evidence}


def judgements(evidence: Iterable[ExperimentRecords]) -> Iterator[tuple[ExperimentRecords, Claim, Judgement]]:
    """Every claim that there is evidence on, with the evidence and the judgement."""
    for each in evidence:
        for claim in experiment(each.name).CLAIMS:
            yield each, claim, decide(claim, each.records, each.profile.name)


def judged(evidence: Iterable[ExperimentRecords]) -> dict[str, Entry]:
    """Claim id to its verdict, for every claim that there is evidence on."""
    found = {}
    for each, claim, judgement in judgements(evidence):
        name = each.profile.name
        origin = f"own runs, {name}" if each.own else f"{name}, {each.devices}"
        found[claim.id] = Entry(claim, judgement, origin, written_before(claim, each.records))
    return found


def from_published(folder: str | os.PathLike | None = None) -> Board:
    """The verdicts by published records, at each profile that has any."""
    return {profile: judged(evidence) for profile, evidence in published_evidence(folder).items()}


def from_store(profile: Profile, seeds: Sequence[int], runs: str | os.PathLike | None = None) -> Board:
    """The verdicts by the finished runs of a profile in a run store. Trains nothing."""
    store = RunStore(runs)
    found = (finished(name, profile, seeds, store) for name in EXPERIMENTS)
    return {f"own runs, {profile.name}": judged(each for each in found if each.records)}


def markdown(board: Board) -> str:
    """All verdicts as a Markdown table, as in the README: one column per profile."""
    return markdown_table(["claim", "the paper says", *board], rows(board, "**", "<br>"))


def rows(board: Board, bold: str, newline: str) -> Iterator[list[str]]:
    """For every claim its id, its sentence and, by profile, the verdict."""
    for _, claim in every_claim():
        found = (entries.get(claim.id) for entries in board.values())
        cells = (_cell(entry.judgement, bold, newline) if entry else "no records" for entry in found)
        yield [claim.id, claim.sentence, *cells]


def _cell(judgement: Judgement, bold: str, newline: str) -> str:
    """Verdict, reason (unless there are several parts) and effects, each on its own line."""
    few = len(judgement.parts) < 2 or judgement.because
    why = (judgement.reason() or judgement.note) if few and judgement.verdict != REPRODUCED else ""
    effects = judgement.effect_text(f";{newline}") if judgement.measured else ""
    return newline.join(filter(None, (f"{bold}{judgement.words}{bold}", why, effects)))


# --------------------------------------------------------------------------- how robust they are


def robustness(evidence: Sequence[ExperimentRecords]) -> dict[str, dict[str, str]]:
    """The verdicts when every interval is made in another way.

    Returns:
        name of the variant (:data:`VARIANTS`, :data:`HOLM`) to claim id to verdict.
    """

    def judged_by(**changes) -> list[tuple[ExperimentRecords, Claim, Judgement]]:
        with using(**changes):
            return list(judgements(evidence))

    def parts(ways: Iterable[tuple[ExperimentRecords, Claim, Judgement]]) -> dict[str, tuple[Part, ...]]:
        return {claim.id: found.parts for _, claim, found in ways}

    ways = {name: judged_by(**changes) for name, changes in VARIANTS.items()}
    corrected = holm(parts(ways[AS_JUDGED]), lambda confidence: parts(judged_by(confidence=confidence)))
    verdicts = {name: {claim.id: found.verdict for _, claim, found in way} for name, way in ways.items()}
    verdicts[HOLM] = verdicts[AS_JUDGED] | {
        claim.id: at_scale(claim, judge(corrected[claim.id]), each.profile.name).verdict
        for each, claim, found in ways[AS_JUDGED]
        if found.parts
    }
    return verdicts


def holm(
    usual: Mapping[str, Sequence[Part]], at: Callable[[float], Mapping[str, Sequence[Part]]]
) -> dict[str, list[Part]]:
    """Holm's step-down correction (1979, https://www.jstor.org/stable/4615733), without p-values: while k
    parts of claims are undecided, they are judged at the level 5 % / k; decided ones keep their verdicts.

    Parts are counted and not claims, since one part that looks true makes a claim partly reproduced.

    Args:
        usual: the parts by claim as they are judged. at: the same at another confidence.
    """
    found, decided = usual, {}
    undecided = {(id, at) for id, each in found.items() for at, part in enumerate(each) if part.sampled}
    while undecided:
        found = at(1 - (1 - CONFIDENCE) / len(undecided))
        now = {(id, at): found[id][at] for id, at in undecided}
        new = {key: part for key, part in now.items() if part.verdict in (REPRODUCED, PARTLY, CONTRADICTED)}
        if not new:
            break
        decided |= new
        undecided -= new.keys()
    return {id: [decided.get((id, at), part) for at, part in enumerate(each)] for id, each in found.items()}


def hardest(judgement: Judgement) -> Part | None:
    """The part that the runs are least able to show: that whose detectable effect is the largest multiple of
    the effect sought.
    """
    parts = [part for part in judgement.measured if part.detectable and part.sought > 0]
    return max(parts, key=lambda part: part.detectable / part.sought, default=None)
