"""Which normalization (Table 6): LayerNorm, BatchNorm or none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlplib.specs import ModelSpec, ProbeSpec
from mlplib.stats import CONFIDENCE, Estimate
from mlplib.store import Record

from ..claims import NOT_REPRODUCED, PARTLY, REPRODUCED, Judgement, not_tested, worst
from ..profiles import Profile
from . import base
from .choices import probe_title, probes, setting, variant
from .pretraining import probe

TITLE = "Layer or batch normalization"
ITEMS = ("Table 6",)
NORMS = {"layer": "LayerNorm", "batch": "BatchNorm", "none": "no normalization"}


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """A linear probe of a B-MLP and of an S-MLP of its depth and width, with each normalization."""
    names = (profile.small_model, profile.small_model.replace("B-", "S-"))
    return [
        probe(profile, variant(profile, seed, model=replace(ModelSpec.parse(name), norm=norm)), seed)
        for name in names
        for norm in NORMS
        for seed in seeds
    ]


def by_network_and_norm(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    """The probes on test images by family of the network and norm, in the order of the table."""

    def key(record: Record) -> tuple[str, str]:
        model = record.spec.upstream.model
        return model.family, model.norm

    groups = base.group_by(probes(records), key)
    return {(family, norm): groups.get((family, norm), []) for family in base.MLP_TITLES for norm in NORMS}


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 6: accuracy of linear probes in percent, mean over seeds."""
    groups = {
        (f"{base.MLP_TITLES[family]}, {NORMS[norm]}", probe_title(group[0])): group
        for (family, norm), group in by_network_and_norm(records).items()
        if group
    }
    return base.mean_cells("Table 6", groups, setting)


@base.dataframe
def values(records: Sequence[Record]) -> Iterator[dict]:
    """Accuracy of a linear probe on other data, for B-MLP and S-MLP pre-trained with each normalization.
    Small dots are seeds, large dots means over seeds, bars their 95 % intervals where there are several
    seeds.
    """
    for (family, norm), group in by_network_and_norm(records).items():
        for record in group:
            yield {
                "panel": base.MLP_TITLES[family],
                "setting": NORMS[norm],
                "seed": record.spec.seed,
                "value": base.accuracy(record),
                "run": record.id,
            }


FIGURES = {
    "normalization": base.Figure(
        data=values,
        draw=base.plot("choices.settings", label="probe accuracy (%)"),
        alt="Dot plots of linear-probe accuracy with LayerNorm, BatchNorm and no normalization, "
        "for the B-MLP and for the S-MLP.",
    )
}


def seed_margin(*groups: Sequence[Record]) -> float | None:
    """The smallest difference that matters, in points: one that the seed alone makes in 5 % of cases.

    Two runs of one setting differ by less in 95 % of cases: ``t s sqrt(2)``, with the standard deviation
    ``s`` between seeds pooled over the groups (one per setting) and Student's quantile ``t`` for its degrees
    of freedom. None if no group has two seeds, or if nothing differs between seeds.
    """
    from scipy.stats import t

    squares, freedom = 0.0, 0
    for group in groups:
        found = list(base.by_seed(group, base.accuracy).values())
        mean = math.fsum(found) / len(found)
        squares += math.fsum((value - mean) ** 2 for value in found)
        freedom += len(found) - 1
    if freedom == 0 or squares == 0:
        return None
    return float(t.ppf(0.5 + CONFIDENCE / 2, freedom)) * math.sqrt(2 * squares / freedom)


def judge_not_worse(found: Estimate, margin: float) -> str:
    """The verdict on "as good or better", where being worse by ``margin`` would matter.

    Reproduced: the whole interval is above ``-margin``, a test of non-inferiority (the upper half of
    :func:`mlpstudy.claims.judge_equal`'s two tests does not matter: better is fine). Partly: the mean is, the
    interval reaches below. Else not reproduced.
    """
    if found.mean <= -margin:
        return NOT_REPRODUCED
    return REPRODUCED if found.low is not None and found.low > -margin else PARTLY


@base.claim("C13", "Table 6", "LayerNorm is as good as or slightly better than BatchNorm.")
def c13(records: Sequence[Record]) -> Judgement:
    """Test accuracy of a linear probe on the downstream data, LayerNorm minus BatchNorm, paired by seed, in
    the B-MLP and in the S-MLP. The margin is the difference that two seeds of one and the same setting stay
    below in 95 % of cases, from their spread in these runs. In each network: reproduced if the whole 95 %
    interval is above minus the margin (so that BatchNorm is not better by as much as matters), partly if only
    the mean is. Reproduced in both: reproduced; in neither, not even partly: not reproduced; otherwise
    partly. The effect tells how slightly better it is. One seed has no spread and does not test it.
    """
    effects, verdicts, notes, missing = [], [], [], []
    groups = by_network_and_norm(records)
    for family, title in base.MLP_TITLES.items():
        layer, batch = groups[family, "layer"], groups[family, "batch"]
        found = base.effect(layer, batch)
        margin = seed_margin(layer, batch) if found else None
        if margin is None:
            missing.append(title)
            continue
        effects.append(found)
        verdicts.append(judge_not_worse(found, margin))
        notes.append(f"{title}: {base.in_words(found)} points, where {margin:.1f} would matter")
    if missing:
        which = f"of the {missing[0]} " if effects else ""
        why = "their spread is the yardstick"
        return not_tested(f"needs two seeds {which}with LayerNorm and with BatchNorm: {why}")
    unit = "points, LayerNorm over BatchNorm"
    return Judgement(worst(verdicts), base.weakest(effects), unit, "; ".join(notes), base.run_ids(records))


CLAIMS = (c13,)
