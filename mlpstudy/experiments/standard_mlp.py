"""The standard MLP in transfer (Table 10) and its scaling law (Fig 10), compared with the B-MLP's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlplib.specs import FineTuneSpec, ProbeSpec, RunSpec, TrainSpec
from mlplib.store import Record

from ..claims import Judgement, judge, not_tested, positive
from ..laws import scaling
from ..laws.powerlaw import POWER_LAW, SATURATING
from ..laws.scaling import FrontLaw
from ..profiles import Profile
from ..stats import Estimate
from . import base, scaling_laws, transfer
from .pretraining import (
    Task,
    by_judged_task,
    fine_tune,
    from_scratch,
    judged_data,
    pretraining_run,
    task_title,
)
from .scaling_laws import measured

TITLE = "The standard MLP in transfer"
ITEMS = ("Table 10", "Fig 10")
FAMILIES = ("s-mlp", "b-mlp")
"""The S-MLP comes first: the chapter is about it."""


B_MODELS = {"smoke": "B-2/Wi-32", "laptop": "B-6/Wi-256", "gpu": "B-6/Wi-1024", "paper": "B-6/Wi-1024"}
"""The B-MLP of Table 10, by profile."""


def transfer_runs(profile: Profile, model: str, seed: int) -> list[FineTuneSpec]:
    """One pre-training of ``model``, fine-tuned on each of the tasks that claims are judged by."""
    upstream = pretraining_run(profile, seed, model=model)
    return [fine_tune(profile, upstream, seed, where) for where in judged_data(profile, seed)]


def runs(profile: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """Both MLPs fine-tuned on the tasks that claims are judged by, the S-MLP from scratch, and both laws: the
    grid of the chapter on scaling laws, whose runs are shared, and S-MLPs of the same depths and widths.
    """
    budget = scaling_laws.BUDGETS[profile.key]
    s_models = [name.replace("B-", "S-") for name in budget.models]
    models = [*s_models, *budget.models]
    grid = models, budget.examples, budget.lengths, scaling_laws.tasks(profile)[:1]
    found = []
    for seed in seeds:
        tuned = transfer_runs(profile, profile.s_pretrain_model, seed)
        found += [*tuned, *(from_scratch(profile, spec) for spec in tuned)]
        found += transfer_runs(profile, B_MODELS[profile.key], seed)
        found += scaling_laws.grid_runs(profile, seed, *grid)
    return found


def _of_kind(records: Sequence[Record], kind: type[RunSpec], family: str) -> list[Record]:
    """The runs of one kind and family, including diverged ones."""
    found = [r for r in records if isinstance(r.spec, kind)]
    return [r for r in found if getattr(r.spec, "upstream", r.spec).model.family == family]


def probed(records: Sequence[Record], family: str) -> list[Record]:
    """The completed probes of a family's grid."""
    return base.completed(_of_kind(records, ProbeSpec, family))


WAYS = {
    ("S-MLP", "from scratch"): (TrainSpec, "s-mlp"),
    ("S-MLP", "fine-tuned"): (FineTuneSpec, "s-mlp"),
    ("B-MLP", "fine-tuned"): (FineTuneSpec, "b-mlp"),
}
"""The three ways to a classifier, by network and treatment: the kind and the family of their runs."""


def _by_way(records: Sequence[Record]) -> dict[tuple[str, str], dict[Task, list[Record]]]:
    """The completed runs of each way, by task."""
    return {way: by_judged_task(base.completed(_of_kind(records, *own))) for way, own in WAYS.items()}


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 10, the laws of Fig 10, and under an item of its own every error of the grids."""
    cells = []
    for way, groups in _by_way(records).items():
        named = {(" ".join(way), task_title(where)): group for where, group in groups.items()}
        cells += base.mean_cells("Table 10", named, base.trained)
    laws = scaling_laws.law_cells("Fig 10", records, by_family=True)
    return cells + laws + scaling_laws.grid_cells(records)


@base.dataframe
def transfer_frame(records: Sequence[Record]) -> Iterator[dict]:
    """Test accuracy downstream: the S-MLP trained from scratch, the same network pre-trained and fine-tuned
    for as long, and the B-MLP pre-trained and fine-tuned. One line per seed.
    """
    for way, groups in _by_way(records).items():
        for where, group in groups.items():
            for record in group:
                yield base.accuracy_row(record, network="\n".join(way), data=task_title(where))


def errors_frame(records: Sequence[Record]):
    """Linear-probe error against pre-training compute of S-MLPs and B-MLPs on the same numbers of examples
    and epochs. Size shows the number of examples, each line is one training at growing lengths, rings mark
    the front of each family, and dashed lines are the laws fitted to them.
    """
    return scaling_laws.errors_frame(records)


def coefficients_frame(records: Sequence[Record]):
    """The exponent of each family's law with its bootstrap interval; crosses are the paper's values, where
    they are known. Pale dots are coefficients that the front does not determine.
    """
    return scaling_laws.coefficients_frame(records, True, "Fig 10")


FIGURES = {
    "transfer": base.Figure(
        data=transfer_frame,
        draw=base.plot("transfer.before_and_after", x="network", hue="data"),
        alt="Slope chart of test accuracy from the S-MLP from scratch to both MLPs fine-tuned.",
    ),
    "error-against-compute": base.Figure(
        data=errors_frame,
        draw=base.plot("scaling.error_against_compute", hue="family"),
        alt="Scatter chart of linear-probe error against compute for S-MLPs and B-MLPs, with a law for each.",
    ),
    "exponents": base.Figure(
        data=coefficients_frame,
        draw=scaling_laws.draw_exponents,
        alt="Dot plot of fitted exponents with intervals for S-MLPs and B-MLPs.",
    ),
}


def compare_grids(records: Sequence[Record]) -> str:
    """Why the two grids cannot be compared: holes, or different runs; empty if they can."""
    cells = {}
    for family in FAMILIES:
        grid = _of_kind(records, ProbeSpec, family)
        lacking = scaling_laws.holes(grid)
        if lacking:
            return f"{base.MLP_TITLES[family]}s: {lacking}"
        cells[family] = {
            (r.spec.upstream.model.name.partition("-")[2], r.spec.upstream.data.examples, r.spec.epoch)
            for r in grid
        }
    alike = cells["s-mlp"] == cells["b-mlp"]
    return "" if alike else "S-MLPs and B-MLPs were not run with the same sizes, examples and lengths"


def slope_gap(records: Sequence[Record]) -> tuple[Estimate | None, str]:
    """B-MLP's exponent minus S-MLP's on the main data set, both of one form of law; or None and why."""
    problem = compare_grids(records)
    if problem:
        return None, problem
    grids = {family: measured(probed(records, family)) for family in FAMILIES}
    both = [scaling.fit_front(grid, SATURATING).fit for grid in grids.values()]
    form = SATURATING if all(fit.determined for fit in both) else POWER_LAW
    laws = {}
    for family, grid in grids.items():
        fit = scaling.fit_front(grid, form).fit
        problem = scaling_laws.span_problem(fit)
        if problem:
            return None, f"{base.MLP_TITLES[family]}s: {problem}"
        laws[family] = FrontLaw(form, fit.law)
    gap = scaling.alpha_gap(grids["b-mlp"], grids["s-mlp"], laws["b-mlp"], laws["s-mlp"])
    return (gap, "") if gap.low is not None else (None, "too few resampled grids allow a fit")


LEAST_SLOPE = 0.005
"""The smallest difference between two exponents that "slightly worse" means."""


@base.claim(
    "C19",
    "Table 10, Fig 10",
    "S-MLPs transfer too, B-MLPs better; S-MLP scaling is a power law with a slightly worse slope.",
    "pre-training on millions of images",
    f"{transfer.AFTERTHOUGHT} {scaling_laws.AFTERTHOUGHT}",
)
def c19(records: Sequence[Record]) -> Judgement:
    """Four parts. Transfer: test accuracy of the fine-tuned S-MLP minus that of the same network trained from
    scratch for as long by the same optimizer, paired by seed, is above 0 on every downstream task. Better: so
    is the fine-tuned B-MLP minus the S-MLP. Power law: as in C10, for the S-MLPs. Slope: the B-MLPs' exponent
    minus the S-MLPs', both with a floor if both fronts determine it and both without otherwise, with an
    interval over resampled trainings and seeds, is above 0.
    """
    controls, s_mlps, b_mlps = _by_way(records).values()
    transfers, better = base.effects(s_mlps, controls), base.effects(b_mlps, s_mlps)
    if not transfers or not better:
        return not_tested("needs both MLPs fine-tuned, and the S-MLP from scratch")
    parts = [
        positive(gain, unit, f"{name}, {task_title(where)}")
        for name, unit, gains in (
            ("S-MLPs transfer", "points over from scratch", transfers),
            ("B-MLPs better", "points over S-MLP", better),
        )
        for where, gain in gains.items()
    ]
    law, note = scaling_laws.law_part(_of_kind(records, ProbeSpec, "s-mlp"), "S-MLPs' power law")
    gap, why_no_gap = slope_gap(records)
    slope = positive(
        gap, "in exponent", "S-MLPs' slope worse", least=LEAST_SLOPE, form="+.3f", why_not=why_no_gap
    )
    return judge([*parts, law, slope], note)


CLAIMS = (c19,)
