"""The standard MLP in transfer (Table 10) and its scaling law (Fig 10), compared with the B-MLP's."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlplib import scaling
from mlplib.powerlaw import POWER_LAW, SATURATING
from mlplib.scaling import FrontLaw
from mlplib.specs import FineTuneSpec, ProbeSpec, RunSpec, TrainSpec
from mlplib.stats import Estimate
from mlplib.store import Record

from ..claims import Judgement, judge, not_tested, positive
from ..profiles import Profile
from . import base, scaling_laws
from .pretraining import (
    Task,
    by_judged_task,
    fine_tune,
    from_scratch,
    judged_data,
    pretraining_run,
    task_title,
)
from .scaling_laws import by_task, measured

TITLE = "The standard MLP in transfer"
ITEMS = ("Table 10", "Fig 10")
FAMILIES = ("s-mlp", "b-mlp")
"""The S-MLP comes first: the chapter is about it."""


@dataclass(frozen=True)
class Budget:
    """``b_model``: the B-MLP of Table 10. ``models``: S-MLPs of the scaling law, compared with the B-MLPs
    ``b_models``; both on ``examples`` (None for all) and measured at ``lengths``, which are among those of
    the chapter on scaling laws, so that its runs are shared.
    """

    b_model: str
    models: tuple[str, ...]
    b_models: tuple[str, ...]
    examples: tuple[int | None, ...]
    lengths: tuple[int, ...]


def _whole_grid(profile: str, b_model: str) -> Budget:
    """S-MLPs of the widths of the B-MLPs of the scaling laws, and everything else as there."""
    grid = scaling_laws.BUDGETS[profile]
    models = tuple(f"S-{name.removeprefix('B-')}" for name in grid.models)
    return Budget(b_model, models, grid.models, grid.examples, grid.lengths)


BUDGETS = {
    "smoke": _whole_grid("smoke", "B-2/Wi-32"),
    "laptop": Budget(
        "B-6/Wi-256",
        ("S-6/Wi-64", "S-6/Wi-128", "S-6/Wi-256"),
        ("B-6/Wi-64", "B-6/Wi-128", "B-6/Wi-256"),
        (3000, None),
        (2, 8),
    ),
    "gpu": _whole_grid("gpu", "B-6/Wi-1024"),
    "paper": _whole_grid("paper", "B-6/Wi-1024"),
}


def transfer_runs(profile: Profile, model: str, seed: int) -> list[FineTuneSpec]:
    """One pre-training of ``model``, fine-tuned on each of the tasks that claims are judged by."""
    upstream = pretraining_run(profile, seed, model=model)
    return [fine_tune(profile, upstream, seed, where) for where in judged_data(profile, seed)]


def law_runs(profile: Profile, models: Sequence[str], seed: int) -> list[ProbeSpec]:
    """A grid of trainings of ``models`` as in the chapter on scaling laws, probed on the main data set."""
    grid, budget = scaling_laws.BUDGETS[profile.name], BUDGETS[profile.name]
    main, found = scaling_laws.tasks(profile)[:1], []
    for model in models:
        for examples in budget.examples:
            training = scaling_laws.training_run(profile, grid, model, examples, grid.lengths, seed)
            found += scaling_laws.probes(profile, training, budget.lengths, main)
    return found


def runs(profile: Profile, seeds: Sequence[int]) -> list[RunSpec]:
    """Both MLPs fine-tuned on the tasks that claims are judged by, the S-MLP from scratch, and both laws."""
    budget, found = BUDGETS[profile.name], []
    for seed in seeds:
        tuned = transfer_runs(profile, profile.s_pretrain_model, seed)
        found += [*tuned, *(from_scratch(profile, spec) for spec in tuned)]
        found += transfer_runs(profile, budget.b_model, seed)
        found += law_runs(profile, budget.models, seed) + law_runs(profile, budget.b_models, seed)
    return found


def _family(spec: RunSpec) -> str:
    return (spec if isinstance(spec, TrainSpec) else spec.upstream).model.family


def _of_kind(records: Sequence[Record], kind: type[RunSpec], family: str) -> list[Record]:
    """The runs of one kind and family, including diverged ones."""
    return [r for r in records if isinstance(r.spec, kind) and _family(r.spec) == family]


def tuned(records: Sequence[Record], family: str) -> dict[Task, list[Record]]:
    """The completed fine-tunings of a family by task."""
    return by_judged_task(base.completed(_of_kind(records, FineTuneSpec, family)))


def controls(records: Sequence[Record]) -> dict[Task, list[Record]]:
    """The S-MLPs trained from scratch to the end, by task."""
    return by_judged_task(base.completed(_of_kind(records, TrainSpec, "s-mlp")))


def probed(records: Sequence[Record], family: str) -> list[Record]:
    """The completed probes of a family's grid."""
    return base.completed(_of_kind(records, ProbeSpec, family))


def _ways(records: Sequence[Record]) -> dict[tuple[str, str], dict[Task, list[Record]]]:
    """The three ways to a classifier by network and treatment, each by task."""
    ways = {("S-MLP", "from scratch"): controls(records)}
    return ways | {(base.MLP_TITLES[family], "fine-tuned"): tuned(records, family) for family in FAMILIES}


def _setting(group: Sequence[Record]) -> str:
    spec = group[0].spec
    trained = spec if isinstance(spec, TrainSpec) else spec.upstream
    return f"{trained.model.name}, {spec.epochs} epochs"


def summary(records: Sequence[Record], profile: Profile) -> list[base.Cell]:
    """Table 10, the laws of Fig 10, and under an item of its own every error of the grids."""
    cells, errors = [], []
    for way, groups in _ways(records).items():
        named = {(" ".join(way), task_title(where)): group for where, group in groups.items()}
        cells += base.mean_cells("Table 10", named, _setting)
    for family in FAMILIES:
        for name, group in by_task(probed(records, family)).items():
            prefix, column = f"{base.MLP_TITLES[family]}: ", base.DATASET_TITLES[name]
            cells += scaling_laws.law_cells("Fig 10", prefix, column, group)
            errors += scaling_laws.grid_cells(group)
    return cells + errors


@base.dataframe
def transfer_frame(records: Sequence[Record]) -> Iterator[dict]:
    """Accuracy in percent of the three ways to a classifier, one row per run."""
    for way, groups in _ways(records).items():
        for where, group in groups.items():
            for record in group:
                yield {
                    "way": "\n".join(way),
                    "data": task_title(where),
                    "seed": record.spec.seed,
                    "accuracy": base.accuracy(record),
                    "run": record.id,
                }


@base.dataframe
def errors_frame(records: Sequence[Record]) -> Iterator[dict]:
    """Every error of both grids; ``on_front`` is about the front of the run's own family."""
    for family in FAMILIES:
        yield from scaling_laws.error_rows(probed(records, family))


def draw_errors(frame, records: Sequence[Record], folder):
    """Fig 10: both families with their fronts and laws."""
    from ..plots import scaling as draw

    laws: dict = {}
    for family in FAMILIES:
        for name, group in by_task(probed(records, family)).items():
            fit = scaling.fit_front(measured(group)).fit
            laws.setdefault(base.DATASET_TITLES[name], {})[family] = fit
    return draw.error_against_compute(frame, laws, hue="family")


@base.dataframe
def coefficients_frame(records: Sequence[Record]) -> Iterator[dict]:
    """As in the chapter on scaling laws, for each family."""
    for family in FAMILIES:
        for name, group in by_task(probed(records, family)).items():
            title = f"{base.MLP_TITLES[family]}: {base.DATASET_TITLES[name]}"
            yield from scaling_laws.coefficient_rows(title, group)


FIGURES = {
    "transfer": base.Figure(
        data=transfer_frame,
        draw=base.plot("transfer.before_and_after", x="way", hue="data", label="test accuracy (%)"),
        caption=(
            "Test accuracy downstream: the S-MLP trained from scratch, the same network pre-trained and "
            "fine-tuned for as long, and the B-MLP pre-trained and fine-tuned. One line per seed."
        ),
        alt="Slope chart of test accuracy from the S-MLP from scratch to both MLPs fine-tuned.",
    ),
    "error-against-compute": base.Figure(
        data=errors_frame,
        draw=draw_errors,
        caption=(
            "Linear-probe error against pre-training compute of S-MLPs and B-MLPs on the same numbers of "
            "examples and epochs. Size shows the number of examples, each line is one training at growing "
            "lengths, rings mark the front of each family, and dashed lines are the laws fitted to them."
        ),
        alt="Scatter chart of linear-probe error against compute for S-MLPs and B-MLPs, with a law for each.",
    ),
    "exponents": base.Figure(
        data=coefficients_frame,
        draw=functools.partial(scaling_laws.draw_exponents, item="Fig 10"),
        caption=(
            "The exponent of each family's law with its bootstrap interval; crosses are the paper's values, "
            "where they are known. Pale dots are coefficients that the front does not determine."
        ),
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
    gap = scaling.difference(
        grids["b-mlp"], grids["s-mlp"], laws["b-mlp"], laws["s-mlp"], number=scaling.ALPHA
    )
    return (gap, "") if gap.low is not None else (None, "too few resampled grids allow a fit")


LEAST_SLOPE = 0.005
"""The smallest difference between two exponents that "slightly worse" means."""


@base.claim(
    "C19",
    "Table 10, Fig 10",
    "S-MLPs transfer too, B-MLPs better; S-MLP scaling is a power law with a slightly worse slope.",
    "pre-training on millions of images",
)
def c19(records: Sequence[Record]) -> Judgement:
    """Four parts. Transfer: test accuracy of the fine-tuned S-MLP minus that of the same network trained from
    scratch for as long by the same optimizer, paired by seed, is above 0 on every downstream task. Better: so
    is the fine-tuned B-MLP minus the S-MLP. Power law: as in C10, for the S-MLPs. Slope: the B-MLPs' exponent
    minus the S-MLPs', both with a floor if both fronts determine it and both without otherwise, with an
    interval over resampled trainings and seeds, is above 0.
    """
    transfers = base.effects(tuned(records, "s-mlp"), controls(records))
    better = base.effects(tuned(records, "b-mlp"), tuned(records, "s-mlp"))
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
    return judge([*parts, law, slope], base.run_ids(records), note)


CLAIMS = (c19,)
