"""The standard MLP in transfer (Table 10) and its scaling law (Fig 10), beside the B-MLP's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlplib import scaling
from mlplib.powerlaw import POWER_LAW, SATURATING
from mlplib.scaling import FrontLaw
from mlplib.specs import FineTuneSpec, ProbeSpec, RunSpec, TrainSpec
from mlplib.stats import Estimate
from mlplib.store import Record

from ..claims import PARTLY, REPRODUCED, Claim, Judgement, judge_sign, not_tested, worst
from ..profiles import Profile
from . import scaling_laws
from .base import DATASET_TITLES, Cell, Figure, accuracy, completed, effect, run_ids, seeds_cell
from .pretraining import downstream, fine_tune, from_scratch, pretraining_run
from .scaling_laws import by_task, measured

TITLE = "The standard MLP in transfer"
ITEMS = ("Table 10", "Fig 10")
FAMILIES = {"s-mlp": "S-MLP", "b-mlp": "B-MLP"}


@dataclass(frozen=True)
class Budget:
    """``b_model``: the B-MLP of Table 10. ``models``: S-MLPs of the scaling law, each beside B-MLPs of
    ``b_models``; both on ``examples`` (None for all) and measured at ``lengths``, which are among those of
    the chapter on scaling laws, so that its runs serve here, too.
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


# --------------------------------------------------------------------------- runs


def transfer_runs(profile: Profile, model: str, seed: int, names: Sequence[str]) -> list[RunSpec]:
    """One pre-training of ``model``, fine-tuned on each of the data sets."""
    upstream = pretraining_run(profile, seed, model=model)
    return [fine_tune(profile, upstream, seed, name) for name in names]


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
    """Both MLPs fine-tuned on every downstream data set, the S-MLP's control from scratch, and both laws."""
    budget, found = BUDGETS[profile.name], []
    for seed in seeds:
        tuned = transfer_runs(profile, profile.s_pretrain_model, seed, downstream(profile))
        found += [*tuned, *(from_scratch(profile, spec) for spec in tuned)]
        found += transfer_runs(profile, budget.b_model, seed, downstream(profile))
        found += law_runs(profile, budget.models, seed) + law_runs(profile, budget.b_models, seed)
    return found


# --------------------------------------------------------------------------- picking records


def _family(spec: RunSpec) -> str:
    return (spec if isinstance(spec, TrainSpec) else spec.upstream).model.family


def tuned(records: Sequence[Record], family: str) -> dict[str, list[Record]]:
    """The fine-tunings of a family by data set."""
    found: dict[str, list[Record]] = {}
    for r in completed(records):
        if isinstance(r.spec, FineTuneSpec) and _family(r.spec) == family:
            found.setdefault(r.spec.data.name, []).append(r)
    return found


def controls(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The S-MLPs trained from scratch, by data set."""
    found: dict[str, list[Record]] = {}
    for r in completed(records):
        if isinstance(r.spec, TrainSpec):
            found.setdefault(r.spec.data.name, []).append(r)
    return found


def probed(records: Sequence[Record], family: str) -> list[Record]:
    """The probes of a family's grid."""
    return [r for r in completed(records) if isinstance(r.spec, ProbeSpec) and _family(r.spec) == family]


# --------------------------------------------------------------------------- table


def _accuracy_cells(row: str, groups: dict[str, list[Record]]) -> list[Cell]:
    found = []
    for name, group in groups.items():
        trained = group[0].spec if isinstance(group[0].spec, TrainSpec) else group[0].spec.upstream
        setting = f"{trained.model.name}, {group[0].spec.epochs} epochs"
        column = DATASET_TITLES[name]
        found += seeds_cell("Table 10", row, column, group, accuracy, "%", setting)
    return found


def summary(records: Sequence[Record], profile: Profile) -> list[Cell]:
    """Table 10, the laws of Fig 10, and under an item of its own every error of the grids."""
    cells = _accuracy_cells("S-MLP from scratch", controls(records))
    for family, title in FAMILIES.items():
        cells += _accuracy_cells(f"{title} fine-tuned", tuned(records, family))
    errors = []
    for family, title in FAMILIES.items():
        for name, group in by_task(probed(records, family)).items():
            cells += scaling_laws.law_cells("Fig 10", f"{title}: ", DATASET_TITLES[name], group)
            errors += scaling_laws.grid_cells("Errors of the grid", DATASET_TITLES[name], group)
    return cells + errors


# --------------------------------------------------------------------------- figures


def transfer_frame(records: Sequence[Record]):
    """Accuracy in percent of the three ways to a classifier, one row a run."""
    import pandas as pd

    ways = {"S-MLP\nfrom scratch": controls(records)}
    ways |= {f"{title}\nfine-tuned": tuned(records, family) for family, title in FAMILIES.items()}
    rows = [
        {
            "way": way,
            "data": DATASET_TITLES[name],
            "seed": r.spec.seed,
            "accuracy": accuracy(r),
            "run": r.id,
        }
        for way, groups in ways.items()
        for name, group in groups.items()
        for r in group
    ]
    return pd.DataFrame(rows)


def draw_transfer(frame, records, folder):
    """A line a seed from way to way, a color a data set."""
    from ..plots import look as draw

    return draw.before_and_after(frame, "way", "accuracy", "data", "test accuracy (%)")


def errors_frame(records: Sequence[Record]):
    """Every error of both grids; ``on_front`` is about the front of the run's own family."""
    import pandas as pd

    return pd.concat([scaling_laws.errors_frame(probed(records, family)) for family in FAMILIES])


def draw_errors(frame, records, folder):
    """Fig 10: both families with their fronts and laws."""
    from ..plots import scaling as draw

    laws: dict = {}
    for family in FAMILIES:
        for name, group in by_task(probed(records, family)).items():
            fit = scaling.fit_front(measured(group)).fit
            laws.setdefault(DATASET_TITLES[name], {})[family] = fit
    return draw.error_against_compute(frame, laws, hue="family")


def coefficients_frame(records: Sequence[Record]):
    """As in the chapter on scaling laws, for each family."""
    import pandas as pd

    rows = []
    for family, title in FAMILIES.items():
        for name, group in by_task(probed(records, family)).items():
            rows += scaling_laws.coefficient_rows(f"{title}: {DATASET_TITLES[name]}", group)
    return pd.DataFrame(rows)


def draw_exponents(frame, records, folder):
    """The exponents of both families and both laws."""
    from ..plots import scaling as draw

    return draw.exponents(scaling_laws.exponent_rows(frame, "Fig 10"), "exponent alpha of compute")


FIGURES = {
    "transfer": Figure(
        data=transfer_frame,
        draw=draw_transfer,
        caption=(
            "Test accuracy downstream: the S-MLP trained from scratch, the same network pre-trained and "
            "fine-tuned for as long, and the B-MLP pre-trained and fine-tuned. A line is a seed."
        ),
        alt="Slope chart of test accuracy from the S-MLP from scratch to both MLPs fine-tuned.",
    ),
    "error-against-compute": Figure(
        data=errors_frame,
        draw=draw_errors,
        caption=(
            "Linear-probe error against pre-training compute of S-MLPs and B-MLPs on the same numbers of "
            "examples and epochs. Size tells the number of examples, a line is one training at growing "
            "lengths, rings mark the front of each family, and the broken lines are the laws fitted to them."
        ),
        alt="Scatter chart of linear-probe error against compute for S-MLPs and B-MLPs, with a law for each.",
    ),
    "exponents": Figure(
        data=coefficients_frame,
        draw=draw_exponents,
        caption=(
            "The exponent of each family's law with its bootstrap interval; a cross is the paper's value, "
            "where it is known. A pale dot is a coefficient that the front does not determine."
        ),
        alt="Dot plot of fitted exponents with intervals for S-MLPs and B-MLPs.",
    ),
}


# --------------------------------------------------------------------------- claim


def gains(first: dict[str, list[Record]], second: dict[str, list[Record]]) -> dict[str, Estimate]:
    """Accuracy of the first minus the second in points, by data set, paired by seed."""
    found = {}
    for name in first.keys() & second.keys():
        gap = effect(first[name], second[name])
        if gap is not None:
            found[name] = gap
    return found


def _grid(records: Sequence[Record], family: str) -> list[Record]:
    """The probes of a family's grid, those that diverged among them."""
    return [r for r in records if isinstance(r.spec, ProbeSpec) and _family(r.spec) == family]


def lacking_in_grids(records: Sequence[Record]) -> str:
    """Why the two grids cannot be compared: one has holes, or they are not of one kind; empty if they can."""
    cells = {}
    for family, title in FAMILIES.items():
        grid = _grid(records, family)
        lacking = scaling_laws.holes(grid)
        if lacking:
            return f"{title}s: {lacking}"
        cells[family] = {
            (r.spec.upstream.model.name.partition("-")[2], r.spec.upstream.data.examples, r.spec.epoch)
            for r in grid
        }
    alike = cells["s-mlp"] == cells["b-mlp"]
    return "" if alike else "S-MLPs and B-MLPs were not run with the same sizes, examples and lengths"


def slope_gap(records: Sequence[Record]) -> tuple[Estimate | None, str]:
    """B-MLP's exponent minus S-MLP's on the main data set, both of one form of law; or None and why."""
    lacking = lacking_in_grids(records)
    if lacking:
        return None, lacking
    grids = {family: measured(probed(records, family)) for family in FAMILIES}
    both = [scaling.fit_front(grid, SATURATING).fit for grid in grids.values()]
    form = SATURATING if all(fit.determined for fit in both) else POWER_LAW
    for family, grid in grids.items():
        problem = scaling_laws.span_problem(scaling.fit_front(grid, form).fit)
        if problem:
            return None, f"{FAMILIES[family]}s: {problem}"
    laws = {family: FrontLaw(form, scaling.fit_front(grid, form).fit.law) for family, grid in grids.items()}
    gap = scaling.difference(
        grids["b-mlp"], grids["s-mlp"], laws["b-mlp"], laws["s-mlp"], number=scaling.ALPHA
    )
    return (gap, "") if gap.low is not None else (None, "too few resampled grids allow a fit")


def judge_c19(records: Sequence[Record]) -> Judgement:
    """S-MLPs gain from pre-training, B-MLPs are better, S-MLPs' errors follow a law that is less steep."""
    transfers = gains(tuned(records, "s-mlp"), controls(records))
    better = gains(tuned(records, "b-mlp"), tuned(records, "s-mlp"))
    if not transfers or not better:
        return not_tested("needs both MLPs fine-tuned, and the S-MLP from scratch")
    parts = {
        "S-MLPs transfer": worst([judge_sign(gain) for gain in transfers.values()]),
        "B-MLPs better": worst([judge_sign(gain) for gain in better.values()]),
    }
    lacking = scaling_laws.holes(_grid(records, "s-mlp"))
    law, _, why = (
        ("", None, lacking) if lacking else scaling_laws.judge_front(measured(probed(records, "s-mlp")))
    )
    gap, why_no_gap = slope_gap(records)
    if law:
        parts["S-MLPs' errors follow a power law"] = law
    if gap is not None:
        parts["S-MLPs' slope less steep"] = judge_sign(gap)
    notes = [f"{part}: {verdict}" for part, verdict in parts.items()]
    notes += [f"law not tested ({why})"] if not law else []
    notes += [f"slope not tested ({why_no_gap})"] if gap is None else [f"slopes differ by {_interval(gap)}"]
    verdict = worst(list(parts.values()))
    if verdict == REPRODUCED and (gap is None or not law):
        verdict = PARTLY  # what was not tested was not reproduced
    effect = min(better.values(), key=lambda e: e.mean)
    return Judgement(verdict, effect, "points, B-MLP over S-MLP", "; ".join(notes), run_ids(records))


def _interval(estimate: Estimate) -> str:
    return f"{estimate.mean:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


CLAIMS = (
    Claim(
        "C19",
        "S-MLPs transfer too, B-MLPs better; S-MLP scaling is a power law with a slightly worse slope.",
        "Table 10, Fig 10",
        "Four parts. Transfer: test accuracy of the fine-tuned S-MLP minus that of the same network trained "
        "from scratch for as long, paired by seed, has its whole 95 % interval above 0 on every downstream "
        "data set. Better: so has the fine-tuned B-MLP minus the S-MLP. Power law: as in C10, for the "
        "S-MLPs. Slope: the B-MLPs' exponent minus the S-MLPs', both with a floor if both fronts determine "
        "it and both without otherwise, has its whole 95 % interval over resampled trainings and seeds above "
        "0. Reproduced if all four are, not reproduced if none is, otherwise partly; a part that a short "
        "front leaves untested cannot count as reproduced. The effect shown is the B-MLP's smallest gain.",
        judge_c19,
    ),
)
