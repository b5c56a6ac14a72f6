"""Which normalization (Table 6): LayerNorm, BatchNorm or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlplib.specs import ModelSpec, ProbeSpec
from mlplib.store import Record

from ..claims import Judgement, judge, not_tested, not_worse
from ..profiles import Profile
from . import base
from .choices import AFTERTHOUGHT, probe_title, probes, setting, variant
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


def compared(records: Sequence[Record]) -> tuple[dict[str, list[Record]], dict[str, list[Record]]]:
    """The probes of networks with LayerNorm and of those with BatchNorm, by family of the network."""
    groups = by_network_and_norm(records)
    layer, batch = (
        {family: groups[family, norm] for family in base.MLP_TITLES} for norm in ("layer", "batch")
    )
    return layer, batch


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
            yield base.accuracy_row(record, panel=base.MLP_TITLES[family], setting=NORMS[norm])


FIGURES = {
    "normalization": base.Figure(
        data=values,
        draw=base.plot("choices.settings", label="probe accuracy (%)"),
        alt="Dot plots of linear-probe accuracy with LayerNorm, BatchNorm and no normalization, "
        "for the B-MLP and for the S-MLP.",
    )
}


BETTER = 1.0
"""By how many points BatchNorm would have to be better for the sentence to be wrong."""


@base.claim(
    "C13",
    "Table 6",
    "LayerNorm is as good as or slightly better than BatchNorm.",
    "long pre-training",
    f"{AFTERTHOUGHT} The B-MLP alone, whose three differences happened to lie close together, counted as "
    "reproduced until no interval of three values could rest on a smaller spread than that of both networks.",
)
def c13(records: Sequence[Record]) -> Judgement:
    """Test accuracy of a linear probe on the downstream data, LayerNorm minus BatchNorm, paired by seed, in
    the B-MLP and in the S-MLP: above minus 1 point, so that BatchNorm is not better by as much as matters.
    """
    found = base.effects(*compared(records))
    if len(found) < len(base.MLP_TITLES):
        return not_tested("needs the B-MLP and the S-MLP with LayerNorm and with BatchNorm")
    unit = "points, LayerNorm over BatchNorm"
    parts = [not_worse(e, unit, base.MLP_TITLES[family], margin=BETTER) for family, e in found.items()]
    return judge(parts)


CLAIMS = (c13,)
