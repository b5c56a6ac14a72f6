"""Claims of the paper, and the rules that turn measured effects into a verdict."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlplib.store import Record

from .stats import COUNTING, GRID, Estimate
from .words import count, interval

REPRODUCED = "reproduced"
PARTLY = "partly reproduced"
INCONCLUSIVE = "inconclusive"
CONTRADICTED = "contradicted"
NOT_TESTED = "not tested at this scale"
VERDICTS = (REPRODUCED, PARTLY, INCONCLUSIVE, CONTRADICTED, NOT_TESTED)

POINTS = 0.5
"""The smallest difference between two accuracies that a sentence such as "it helps" means, in points."""

LITTLE = 0.2
"""The same for a sentence that says "a little" or "modestly"."""

MARGIN = 0.25
"""Tolerance within which a measured size counts as the paper's, as a share of the paper's."""

NOT_THERE = "it does not hold"
"""Start of the reason given where small runs would contradict a claim about large ones."""

SMALL_PROFILES = ("smoke", "laptop", "colab")
"""Profiles outside the regime of the paper's claims about scale."""


@dataclass(frozen=True)
class Range:
    """The open interval (low, high) of effects."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, estimate: Estimate) -> bool:
        """Whether the whole interval lies inside."""
        return self.low < estimate.low and estimate.high < self.high

    def excludes(self, estimate: Estimate) -> bool:
        """Whether the whole interval lies outside."""
        return estimate.high <= self.low or estimate.low >= self.high


def about(size: float) -> Range:
    """Effects of about the paper's ``size``, give or take :data:`MARGIN`."""
    return Range(size * (1 - MARGIN), size * (1 + MARGIN))


def at_least(size: float) -> Range:
    """Effects not clearly smaller than the paper's ``size``."""
    return Range(size * (1 - MARGIN))


@dataclass(frozen=True)
class Part:
    """One effect that a claim is about, with what the sentence says about it.

    The verdict on a part follows from where its whole interval lies:

    - *contradicted*: outside of ``meant``, the effects that the sentence can mean;
    - *reproduced*: inside of ``direction`` and of ``size``;
    - *partly reproduced*: inside of ``direction`` only;
    - *inconclusive*: none of these, or there is no interval;
    - *not tested at this scale*: nothing was measured.

    ``name``: what was compared, for a note; "" if it is the claim's only part. ``why_not``: what the runs
    lack, if ``effect`` is None. ``other``: whether a further condition, which is not an effect, holds; if
    not, the part is partly reproduced at best.
    """

    name: str
    effect: Estimate | None
    unit: str
    direction: Range
    meant: Range
    size: Range = Range()
    other: bool = True
    why_not: str = ""
    form: str = "+.1f"

    @property
    def sampled(self) -> bool:
        """Whether its effect has an interval and is not an exact count, so that chance could mislead."""
        return self.effect is not None and self.effect.low is not None and self.effect.source != COUNTING

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`."""
        effect = self.effect
        if effect is None:
            return NOT_TESTED
        if effect.low is None:
            return INCONCLUSIVE
        if self.meant.excludes(effect):
            return CONTRADICTED
        if not self.direction.holds(effect):
            return INCONCLUSIVE
        return REPRODUCED if self.size.holds(effect) and self.other else PARTLY

    @property
    def smallest(self) -> float:
        """The smallest effect that the sentence means, or the margin, measured from where the direction
        changes: zero for differences, one for ratios.
        """
        if math.isfinite(self.direction.high):
            return self.direction.high
        return abs(self.meant.low - max(self.direction.low, 0.0))

    @property
    def sides(self) -> int:
        """On how many sides the interval must stay clear of a margin for the part to be reproduced."""
        return 2 if math.isfinite(self.direction.low) and math.isfinite(self.direction.high) else 1

    @property
    def detectable(self) -> float | None:
        """The smallest effect that the runs can show; None where the standard error is unknown."""
        return self.effect and self.effect.needed(self.sides)

    @property
    def sought(self) -> float:
        """The effect that runs should be able to show: the paper's size, else the smallest that is meant."""
        low, high = self.size.low, self.size.high
        if not math.isfinite(low):
            return self.smallest
        size = low / (1 - MARGIN) if math.isinf(high) else (low + high) / 2
        return size - max(self.direction.low, 0.0)

    def text(self) -> str:
        """Name, mean and interval."""
        return f"{self.name} {self.number()}".strip()

    def number(self) -> str:
        """Mean and interval; an en dash where nothing was measured."""
        if self.effect is None:
            return "–"
        small = self.form == "+.1f" and abs(self.effect.mean) < 1
        return interval(self.effect, "+.2f" if small else self.form)

    def reason(self) -> str:
        """Why the verdict is what it is, in one clause; "" for a reproduced part."""
        if self.verdict == INCONCLUSIVE:
            return _why_inconclusive(self)
        if self.verdict == PARTLY:
            return _why_partly(self)
        if self.verdict == CONTRADICTED:
            bound = self.meant.low if self.effect.high <= self.meant.low else self.meant.high
            return f"the interval excludes even {bound:{self.form}}"
        return self.why_not


def _why_inconclusive(part: Part) -> str:
    effect = part.effect
    seeds = count(effect.n, "seed")
    if effect.low is None:
        return f"{seeds}: no interval"
    width = f"{effect.high - effect.low:{part.form.lstrip('+')}}"
    if effect.source.startswith(GRID):
        return f"{seeds}: interval {width} wide; more training runs would narrow it rather than more seeds"
    needed = effect.seeds_for(part.smallest, sides=part.sides)
    more = f"; {needed} would do" if needed and needed > effect.n else ""
    return f"{seeds}: interval {width} wide{more}"


def _why_partly(part: Part) -> str:
    if not part.size.excludes(part.effect):
        return (
            "the size is undecided" if not part.size.holds(part.effect) else "a further condition is not met"
        )
    return "smaller than in the paper" if part.effect.high <= part.size.low else "larger than in the paper"


def positive(effect: Estimate | None, unit: str, name: str = "", *, least: float = POINTS, **more) -> Part:
    """The sentence says that the effect is above zero.

    Args:
        least: the smallest effect that the sentence means, in ``unit``, above 0; fixed before the results
            were known. An interval wholly below it contradicts the sentence.
        more: further fields of :class:`Part`, such as ``size`` if the sentence names one.
    """
    return Part(name, effect, unit, Range(0.0), Range(least), **more)


def equal(effect: Estimate | None, unit: str, name: str = "", *, margin: float, **more) -> Part:
    """The sentence says that there is no difference of ``margin`` or more.

    An interval that contains 0 does not show equality: two scattered seeds give such an interval whatever the
    truth is. Reproduced means that the whole interval lies within the margin: the pair of one-sided tests for
    equivalence (TOST; Schuirmann 1987, https://doi.org/10.1007/BF01068419).
    """
    within = Range(-margin, margin)
    return Part(name, effect, unit, within, within, **more)


def not_worse(effect: Estimate | None, unit: str, name: str = "", *, margin: float, **more) -> Part:
    """The sentence says "as good or better": being worse by ``margin`` would matter (non-inferiority)."""
    return Part(name, effect, unit, Range(-margin), Range(-margin), **more)


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim, with the parts that it follows from.

    ``note``: what limits the verdict; ``scale``: the scale of the records, if the claim is about a larger
    one; ``because``: the reason, if the parts do not give it.
    """

    verdict: str
    parts: tuple[Part, ...] = ()
    note: str = ""
    scale: str = ""
    because: str = ""

    @property
    def words(self) -> str:
        """The verdict with the scale at which it holds."""
        return f"{self.verdict}, at {self.scale} scale" if self.scale else self.verdict

    @property
    def measured(self) -> list[Part]:
        """The parts that have an effect."""
        return [part for part in self.parts if part.effect is not None]

    @property
    def tested(self) -> bool:
        """Whether records test the claim, including small runs that would contradict one about large ones."""
        return self.verdict != NOT_TESTED or self.because.startswith(NOT_THERE)

    def effect_text(self, between: str = "; ") -> str:
        """Every measured effect with its interval, the unit and n; an en dash if there is none.

        ``between``: what separates the effects.
        """
        if not (parts := self.measured):
            return "–"
        effects = [part.effect for part in parts]
        text = ", ".join(count(n, "seed") for n in sorted({effect.n for effect in effects}))
        others = [
            e.source
            for e in effects
            if e.source not in ("seeds", COUNTING) and e.n == 1 and e.low is not None
        ]
        if others:
            text += f", interval from {' or '.join(dict.fromkeys(others))} only"
        units = {part.unit for part in parts}
        if len(units) == 1:
            shown = f"{between.join(part.text() for part in parts)} {parts[0].unit}".rstrip()
        else:
            shown = between.join(f"{part.text()} {part.unit}" for part in parts)
        return f"{shown} ({text})"

    def reason(self) -> str:
        """Why the verdict is what it is: the reasons of its parts, with equal ones merged."""
        if self.because:
            return self.because
        reasons: dict[tuple[str, str], list[str]] = {}
        for part in self.parts:
            if part.verdict != REPRODUCED or len(self.parts) > 1:
                reasons.setdefault((part.verdict, part.reason()), []).append(part.name)
        several = len(reasons) > 1
        found = []
        for (verdict, why), names in reasons.items():
            words = f"{', '.join(filter(None, names))} {verdict}" if several else ""
            found.append(f"{words} ({why})" if words and why else words or why)
        return "; ".join(filter(None, found))


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper with a criterion that code can decide.

    ``criterion`` says in words what ``judge`` computes from the records of the experiment at one profile.
    ``regime``: the scale that the sentence is about, if small profiles do not reach it. ``afterthought``:
    what in the criterion was decided after looking at records.
    """

    id: str
    sentence: str
    item: str
    criterion: str
    judge: Callable[[Sequence[Record]], Judgement]
    regime: str = ""
    afterthought: str = ""


def not_tested(note: str) -> Judgement:
    """The verdict if runs that a claim needs are missing."""
    return Judgement(NOT_TESTED, note=note)


def judge(parts: Sequence[Part], note: str = "") -> Judgement:
    """The verdict on a claim that says all of ``parts``."""
    return Judgement(all_of([part.verdict for part in parts]), tuple(parts), note)


def all_of(verdicts: Sequence[str]) -> str:
    """The verdict on a sentence with several parts: their common verdict if they agree, partly reproduced if
    at least one is reproduced, wholly or partly, else inconclusive.
    """
    if len(set(verdicts)) == 1:
        return verdicts[0]
    if REPRODUCED in verdicts or PARTLY in verdicts:
        return PARTLY
    return INCONCLUSIVE


def decide(claim: Claim, records: Sequence[Record], profile_name: str) -> Judgement:
    """The verdict on a claim from the records of one profile."""
    return at_scale(claim, claim.judge(records), profile_name)


def at_scale(claim: Claim, judgement: Judgement, profile_name: str) -> Judgement:
    """What a judgement on a claim comes to at the scale of a profile.

    ``smoke`` tests the code, not the paper. A claim about scale is judged at the scale of the records, which
    the judgement names; small profiles cannot contradict it.
    """
    if profile_name == "smoke":
        why = "drawn shapes show that the machinery runs, not what the paper claims"
        return dataclasses.replace(judgement, verdict=NOT_TESTED, because=why)
    if not claim.regime or profile_name not in SMALL_PROFILES or judgement.verdict == NOT_TESTED:
        return judgement
    if judgement.verdict == CONTRADICTED:
        why = f"{NOT_THERE} at {profile_name} scale, but is about {claim.regime}"
        return dataclasses.replace(judgement, verdict=NOT_TESTED, because=why)
    return dataclasses.replace(judgement, scale=profile_name)
