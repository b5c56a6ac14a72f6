"""Claims of the paper, and the rules that turn a measured effect into a verdict."""

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
    """The verdict on a claim.

    ``effect``: the measured effect in ``unit``, None if nothing was measured; ``note``: what limits the
    verdict, one sentence; ``run_ids``: the runs that it is based on.
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
        """The effect with its interval and n as text; an en dash if there is none."""
        if self.effect is None:
            return "–"
        effect = self.effect
        digits = 2 if abs(effect.mean) < 1 else 1
        text = f"{effect.mean:+.{digits}f}"
        if effect.low is not None:
            text += f" [{effect.low:+.{digits}f}, {effect.high:+.{digits}f}]"
        seeds = "1 seed" if effect.n == 1 else f"{effect.n} seeds"
        if effect.n == 1 and effect.low is not None:
            seeds += f", interval from {effect.source} only"
        return f"{text} {self.unit} ({seeds})"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper with a criterion that code can decide.

    ``criterion`` was written before the results were known. It says in words what ``judge`` computes from the
    records of the experiment at one profile.
    """

    id: str
    sentence: str
    item: str
    criterion: str
    judge: Callable[[Sequence[Record]], Judgement]


def not_tested(note: str) -> Judgement:
    """The verdict if runs that a claim needs are missing."""
    return Judgement(NOT_TESTED, note=note)


def decide(claim: Claim, records: Sequence[Record], profile_name: str) -> Judgement:
    """The verdict on a claim from the records of one profile. ``smoke`` tests the code, not the paper."""
    judgement = claim.judge(records)
    if profile_name == "smoke":
        note = "drawn shapes show that the machinery runs, not what the paper claims"
        return dataclasses.replace(judgement, verdict=NOT_TESTED, note=note)
    return judgement


def judge_sign(effect: Estimate, enough: float = 0.0) -> str:
    """The verdict on "the effect is positive", and if ``enough`` is above 0, "and about that large".

    Reproduced: the whole interval is above 0 and reaches ``enough``. Partly reproduced: the whole interval is
    above 0 but below ``enough``. Otherwise not reproduced. Without an interval (one seed), the mean is used.
    """
    low = effect.mean if effect.low is None else effect.low
    high = effect.mean if effect.high is None else effect.high
    if low <= 0:
        return NOT_REPRODUCED
    return REPRODUCED if high >= enough else PARTLY


def judge_equal(effect: Estimate, margin: float) -> str:
    """The verdict on "there is no difference of ``margin`` or more".

    An interval that contains 0 does not show equality: two scattered seeds give such an interval whatever the
    truth is. The interval has to be short, too:

    - reproduced: the whole interval lies between ``-margin`` and ``margin``;
    - partly reproduced: the mean lies there, but the interval does not, or there is none (one seed);
    - not reproduced: the mean lies outside.

    The first case is the pair of one-sided tests for equivalence (TOST; Schuirmann 1987,
    https://doi.org/10.1007/BF01068419): "the difference is at most ``-margin``" and "it is at least
    ``margin``" are both rejected, each at half of the error level, 2.5 % with 95 % intervals.

    Args:
        effect: the difference, in the unit of ``margin``.
        margin: the smallest difference that matters, above 0; chosen before the results were known.

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
    """The verdict on a claim about several cases: reproduced if all are, not reproduced if none is."""
    if all(v == REPRODUCED for v in verdicts):
        return REPRODUCED
    return NOT_REPRODUCED if all(v == NOT_REPRODUCED for v in verdicts) else PARTLY
