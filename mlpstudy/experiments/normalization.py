"""Which normalization (Table 6): LayerNorm, BatchNorm or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mlplib.specs import ModelSpec, ProbeSpec
from mlplib.stats import CONFIDENCE, Estimate
from mlplib.store import Record

from ..claims import NOT_REPRODUCED, PARTLY, REPRODUCED, Claim, Judgement, not_tested, worst
from ..profiles import Profile
from .base import Cell, Figure, accuracy, by_seed, effect, run_ids, seeds_cell, weakest
from .choices import in_words, probe_title, probes, setting, variant
from .pretraining import probe

TITLE = "Layer or batch normalization"
ITEMS = ("Table 6",)
NORMS = {"layer": "LayerNorm", "batch": "BatchNorm", "none": "no normalization"}
FAMILIES = {"b-mlp": "B-MLP", "s-mlp": "S-MLP"}


def runs(profile: Profile, seeds: Sequence[int]) -> list[ProbeSpec]:
    """A linear probe of a B-MLP and of an S-MLP of its depth and width, with each normalization."""
    names = (profile.small_model, profile.small_model.replace("B-", "S-"))
    return [
        probe(profile, variant(profile, seed, model=replace(ModelSpec.parse(name), norm=norm)), seed)
        for name in names
        for norm in NORMS
        for seed in seeds
    ]


def _group(records: Sequence[Record], family: str, norm: str) -> list[Record]:
    return [
        r for r in probes(records) if (model := r.spec.upstream.model).family == family and model.norm == norm
    ]


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Table 6: accuracy of linear probes in percent, mean over seeds."""
    cells = []
    for family, title in FAMILIES.items():
        for norm, norm_title in NORMS.items():
            group = _group(records, family, norm)
            if group:
                place = ("Table 6", f"{title}, {norm_title}", probe_title(group[0]))
                cells += seeds_cell(*place, group, accuracy, "%", setting(group[0]))
    return cells


# --------------------------------------------------------------------------- figure


def values(records: Sequence[Record]):
    """Accuracy of every probe, in percent."""
    import pandas as pd

    rows = [
        {
            "panel": title,
            "setting": norm_title,
            "seed": record.spec.seed,
            "value": accuracy(record),
            "run": record.id,
        }
        for family, title in FAMILIES.items()
        for norm, norm_title in NORMS.items()
        for record in _group(records, family, norm)
    ]
    return pd.DataFrame(rows)


def draw_values(frame, records, folder):
    """A panel for each of the two networks."""
    from ..plots import choices as draw

    return draw.settings(frame, label="probe accuracy (%)")


FIGURES = {
    "normalization": Figure(
        data=values,
        draw=draw_values,
        caption=(
            "Accuracy of a linear probe on other data, for B-MLP and S-MLP pre-trained with each "
            "normalization. A small dot is a seed, a large one the mean over seeds, a bar its 95 % interval "
            "where there are several."
        ),
        alt=(
            "Dot plots of linear-probe accuracy with LayerNorm, BatchNorm and no normalization, "
            "for the B-MLP and for the S-MLP."
        ),
    )
}


# --------------------------------------------------------------------------- claims


def seed_margin(*groups: Sequence[Record]) -> float | None:
    """The smallest difference that matters, in points: what the seed alone makes in one of twenty cases.

    Two runs of one setting differ by less in 95 % of cases: ``t s sqrt(2)``, with the standard deviation
    ``s`` between seeds pooled over the groups, each a setting, and Student's quantile ``t`` for its degrees
    of freedom. None if no group has two seeds, or if nothing differs between seeds.
    """
    from scipy.stats import t

    squares, freedom = 0.0, 0
    for group in groups:
        found = list(by_seed(group, accuracy).values())
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


def judge_c13(records: Sequence[Record]) -> Judgement:
    """LayerNorm minus BatchNorm in each network, against what another seed does."""
    effects, verdicts, notes, missing = [], [], [], []
    for family, title in FAMILIES.items():
        layer, batch = (_group(records, family, norm) for norm in ("layer", "batch"))
        found = effect(layer, batch)
        margin = seed_margin(layer, batch) if found else None
        if margin is None:
            missing.append(title)
            continue
        effects.append(found)
        verdicts.append(judge_not_worse(found, margin))
        notes.append(f"{title}: {in_words(found)} points, where {margin:.1f} would matter")
    if missing:
        which = f"of the {missing[0]} " if effects else ""
        why = "their spread is the yardstick"
        return not_tested(f"needs two seeds {which}with LayerNorm and with BatchNorm: {why}")
    note = "; ".join(notes)
    return Judgement(
        worst(verdicts), weakest(effects), "points, LayerNorm over BatchNorm", note, run_ids(records)
    )


CLAIMS = (
    Claim(
        "C13",
        "LayerNorm is as good as or slightly better than BatchNorm.",
        "Table 6",
        "Test accuracy of a linear probe on the downstream data, LayerNorm minus BatchNorm, paired by seed, "
        "in the B-MLP and in the S-MLP. The margin is the difference that two seeds of one and the same "
        "setting stay below in 95 % of cases, from their spread in these runs. In each network: reproduced "
        "if the whole 95 % interval is above minus the margin (so that BatchNorm is not better by as much "
        "as matters), partly if only the mean is. Reproduced in both: reproduced; in neither, not even "
        "partly: not reproduced; otherwise partly. How slightly better it is, the effect tells. One seed "
        "has no spread and does not test it.",
        judge_c13,
    ),
)
