"""The scoreboard: every claim with its verdict, from published records or from a reader's own runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from .claims import Claim, Judgement, decide, not_tested
from .experiments import EXPERIMENTS, experiment
from .profiles import Profile
from .published import published
from .runs import RunStore


@dataclass(frozen=True)
class Entry:
    """One row: a claim, the experiment that decides it, the judgement, and where its records are from."""

    claim: Claim
    experiment: str
    judgement: Judgement
    origin: str


def _entries(name: str, judge, origin: str) -> list[Entry]:
    return [Entry(claim, name, judge(claim), origin) for claim in experiment(name).CLAIMS]


def _in_order(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.claim.id)


def from_published(folder: str | os.PathLike | None = None) -> list[Entry]:
    """Every claim by its id, judged by the best published records."""
    entries = []
    for name in EXPERIMENTS:
        found = published(name, folder)
        if found is None:
            entries += _entries(
                name, lambda claim: not_tested("no published records yet"), "nothing published"
            )
            continue

        def judge(claim, found=found):
            return decide(claim, found.records, found.profile.name)

        entries += _entries(name, judge, f"{found.profile.name}, {found.devices}")
    return _in_order(entries)


def from_store(profile: Profile, seeds: Sequence[int], runs: str | os.PathLike | None = None) -> list[Entry]:
    """Every claim by its id, judged by the finished runs of a profile in a run store. Trains nothing."""
    store = RunStore(runs)
    entries = []
    for name in EXPERIMENTS:
        found = (store.find(spec) for spec in experiment(name).runs(profile, seeds))
        records = [record for record in found if record is not None]

        def judge(claim, records=records):
            return decide(claim, records, profile.name) if records else not_tested("not run yet")

        entries += _entries(name, judge, f"own runs, {profile.name}")
    return _in_order(entries)


def markdown(entries: Sequence[Entry]) -> str:
    """The scoreboard as a Markdown table, as the README shows it."""
    lines = ["| claim | the paper says | this study | effect | from |", "|---|---|---|---|---|"]
    for entry in entries:
        judgement = entry.judgement
        cells = (
            entry.claim.id,
            entry.claim.sentence,
            f"**{judgement.verdict}**",
            judgement.effect_text(),
            entry.origin,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
