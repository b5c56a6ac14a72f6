"""The claims ledger: what the paper says, the criterion fixed beforehand,
and what code decides from records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlplib.stats import Estimate
from mlplib.store import Record

REPRODUCED = "reproduced"
PARTLY = "partly reproduced"
NOT_REPRODUCED = "not reproduced"
NOT_TESTED = "not tested at this scale"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED)


@dataclass(frozen=True)
class Judgement:
    """What the records say of a claim.

    ``effect``: the measured size, in ``unit``, None where nothing was measured. ``note``: what limits the
    verdict, one sentence. ``run_ids``: the runs that it rests on.
    """

    verdict: str
    effect: Estimate | None = None
    unit: str = ""
    note: str = ""
    run_ids: tuple[str, ...] = ()

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"unknown verdict {self.verdict!r}")

    def effect_text(self) -> str:
        """The effect with its interval and n, ready to print; an en dash where there is none."""
        if self.effect is None:
            return "–"
        effect = self.effect
        text = f"{effect.mean:+.2f}" if abs(effect.mean) < 1 else f"{effect.mean:+.1f}"
        digits = 2 if abs(effect.mean) < 1 else 1
        if effect.low is not None:
            text += f" [{effect.low:+.{digits}f}, {effect.high:+.{digits}f}]"
        seeds = "1 seed" if effect.n == 1 else f"{effect.n} seeds"
        if effect.n == 1 and effect.low is not None:
            seeds += f", interval from {effect.source} only"
        return f"{text} {self.unit} ({seeds})"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper that code can decide.

    ``criterion`` is written before results are looked at and says in words what ``judge`` computes from the
    records of the experiment (of one profile).
    """

    id: str
    sentence: str
    item: str
    criterion: str
    judge: Callable[[Sequence[Record]], Judgement]


def not_tested(note: str) -> Judgement:
    """The honest verdict where the runs that a claim needs are not there."""
    return Judgement(NOT_TESTED, note=note)


def decide(claim: Claim, records: Sequence[Record], profile_name: str) -> Judgement:
    """The verdict on a claim from the records of one profile.
    Drawn shapes (``smoke``) test the machinery, not the paper.
    """
    judgement = claim.judge(records)
    if profile_name == "smoke":
        note = "drawn shapes show that the machinery runs, not what the paper claims"
        return dataclasses.replace(judgement, verdict=NOT_TESTED, note=note)
    return judgement


def judge_sign(effect: Estimate, enough: float = 0.0) -> str:
    """The verdict on "the effect is positive", and where ``enough`` is above 0, "and about that large".

    Reproduced: the whole interval is above 0 and reaches ``enough``. Partly: the whole interval
    is above 0 but below ``enough``. Otherwise not reproduced. Without an interval (one seed) the
    mean stands for both its ends.
    """
    low = effect.mean if effect.low is None else effect.low
    high = effect.mean if effect.high is None else effect.high
    if low <= 0:
        return NOT_REPRODUCED
    return REPRODUCED if high >= enough else PARTLY


def judge_equal(effect: Estimate, margin: float) -> str:
    """The verdict on "there is no difference that matters", where one of ``margin`` would matter.

    That an interval contains 0 shows no equality: two scattered seeds give such an interval whatever the
    truth is. Here the interval has to be short as well:

    - reproduced: the whole interval lies between ``-margin`` and ``margin``;
    - partly: the mean lies there, but the interval reaches beyond it, or there is none (one seed), so that
      a difference of ``margin`` cannot be ruled out;
    - not reproduced: the mean itself lies outside.

    The first of these is the pair of one-sided tests for equivalence (TOST; Schuirmann 1987,
    https://doi.org/10.1007/BF01068419): "the difference is at most ``-margin``" and "it is at least
    ``margin``" are both rejected, each at half of what the confidence leaves, 2.5 % with 95 % intervals.

    Args:
        effect: the difference, in the unit of ``margin``.
        margin: the smallest difference that matters, above 0; chosen before results are looked at.

    Raises:
        ValueError: ``margin`` is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"a margin is above 0, not {margin!r}")
    if abs(effect.mean) >= margin:
        return NOT_REPRODUCED
    if effect.low is None:
        return PARTLY
    return REPRODUCED if -margin < effect.low and effect.high < margin else PARTLY


def worst(verdicts: Sequence[str]) -> str:
    """One verdict for a claim about several cases:
    reproduced if all are, not reproduced if none is at all.
    """
    if all(v == REPRODUCED for v in verdicts):
        return REPRODUCED
    return NOT_REPRODUCED if all(v == NOT_REPRODUCED for v in verdicts) else PARTLY
