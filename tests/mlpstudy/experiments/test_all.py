"""The experiments: what they run at each profile, and that their tables and figures follow from records."""

import csv
import dataclasses
import math
import subprocess
import sys

import pytest
from small_runs import ROOT, diverged, environment, record

from mlplib.data import catalog
from mlplib.errors import MlplibError
from mlplib.filters import UNITS_SHOWN
from mlplib.models import meta_model
from mlplib.specs import FULL_DA, NO_DA, FilterSpec, RunSpec, TrainSpec
from mlplib.store import run_id
from mlpstudy import paper
from mlpstudy.claims import NOT_TESTED, decide
from mlpstudy.evidence.records import seed_of
from mlpstudy.experiments import EXPERIMENTS, architectures, base, experiment, filters, from_scratch
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import PROFILES, profile

pytestmark = pytest.mark.usefixtures("few_draws")
SEEDS = (0, 1)
GRID = [(name, budget) for name in EXPERIMENTS for budget in PROFILES]


def specs_of(name, budget, seeds=SEEDS):
    return experiment(name).runs(profile(budget), seeds)


def records_of(name, budget, seeds=SEEDS):
    return [
        record(spec, test_top1=0.4 + 0.01 * (i % 7)) for i, spec in enumerate(specs_of(name, budget, seeds))
    ]


# --------------------------------------------------------------------------- runs


@pytest.mark.parametrize("name, budget", GRID)
def test_runs_are_valid_different_and_repeatable(name, budget):
    specs = specs_of(name, budget)
    assert specs and len({run_id(spec) for spec in specs}) == len(specs)
    assert specs == specs_of(name, budget)
    for spec in specs[: len(specs) // len(SEEDS)]:  # the others differ in their seeds
        assert RunSpec.from_json(spec.to_json()) == spec
    assert {seed_of(spec) for spec in specs} == set(SEEDS)
    assert len(specs_of(name, budget, seeds=(5,))) * len(SEEDS) == len(specs)
    assert specs_of(name, budget, seeds=()) == []


@pytest.mark.parametrize("name, budget", GRID)
def test_every_run_can_be_trained(name, budget):
    """Its model can be built for its data, and its batch is no larger than its data."""
    for spec in with_upstream(specs_of(name, budget)).values():
        if isinstance(spec, TrainSpec):
            entry = catalog.find(spec.data.name)
            meta_model(spec.model, (entry.image_size, entry.image_size, 3), entry.class_count)
            images = spec.data.examples or entry.train
            assert spec.batch_size <= images <= entry.train


@pytest.mark.parametrize("budget", PROFILES)
def test_the_filters_look_at_the_runs_of_table_1(budget):
    table = {run_id(spec) for spec in specs_of("from-scratch", budget)}
    upstream = {
        run_id(spec.upstream) for spec in specs_of("filters", budget) if spec.upstream.data.examples is None
    }
    assert upstream and upstream <= table
    total = with_upstream([*specs_of("from-scratch", budget), *specs_of("filters", budget)])
    trained = [spec for spec in total.values() if isinstance(spec, TrainSpec)]
    assert len(trained) == len(table) + len(SEEDS) * len(profile(budget).examples)


def test_at_laptop_the_filters_of_few_images_have_as_many_updates_as_those_of_all():
    runs = [spec.upstream for spec in specs_of("filters", "laptop", (0,)) if spec.at == "final"]
    updates = [(s.data.examples or catalog.find(s.data.name).train) // s.batch_size * s.epochs for s in runs]
    assert max(updates) <= 1.02 * min(updates)


@pytest.mark.parametrize("budget", PROFILES)
def test_an_initialization_needs_no_training(budget):
    looks = [s for s in specs_of("filters", budget) if s.at == "initial"]
    assert len(looks) == len(SEEDS) and not any(spec.needs() for spec in looks)
    assert all(spec.needs() == (spec.upstream,) for spec in specs_of("filters", budget) if spec.at == "final")


@pytest.mark.parametrize("budget", PROFILES)
def test_table_1_is_trained_as_the_paper_says(budget):
    chosen = profile(budget)
    specs = specs_of("from-scratch", budget)
    for spec in (spec for spec in specs if spec.model.family in from_scratch.FAMILIES):
        assert spec.label_smoothing == 0.3 and spec.optimizer.name == "lion"
        assert spec.optimizer.weight_decay == 0.0 and spec.optimizer.schedule == "constant"
        assert spec.augment in (FULL_DA, NO_DA)
        assert spec.epochs == (max(chosen.epochs_da) if spec.augment.any else chosen.epochs_no_da)
        assert set(chosen.epochs_da) <= set(spec.evaluate_at) or not spec.augment.any
        if budget != "smoke":
            assert spec.optimizer.lr == 5e-5
    assert FULL_DA.flip and FULL_DA.crop_scale == (0.08, 1.0) and FULL_DA.mixup == 0.8
    assert FULL_DA.crop_ratio == (3 / 4, 4 / 3) and FULL_DA.mixup_kind == "standard"


def test_the_large_profiles_have_the_papers_lengths():
    for budget in ("gpu", "paper"):
        assert (profile(budget).epochs_no_da, profile(budget).epochs_da) == (100, (1000, 5000))
    assert profile("smoke").datasets == ("shapes-16",) and profile("laptop").datasets == ("cifar10",)


@pytest.mark.parametrize("budget", PROFILES)
def test_the_permutation_is_one_and_without_augmentation(budget):
    specs = specs_of("architectures", budget)
    assert {s.data.pixel_permutation for s in specs} == {None, architectures.PERMUTATION_SEED}
    assert not any(s.augment.any for s in specs)
    for spec in specs:
        twin = dataclasses.replace(spec, data=dataclasses.replace(spec.data, pixel_permutation=None))
        assert twin in specs, "the two sides of a comparison differ in the permutation only"


def test_subsets_grow_and_their_batches_fit():
    for budget in PROFILES:
        examples = profile(budget).examples
        assert list(examples) == sorted(set(examples))
        for spec in specs_of("filters", budget):
            assert spec.upstream.batch_size <= (spec.upstream.data.examples or math.inf)


@pytest.mark.parametrize("name", ["", "table-1", "from_scratch", None, 3])
def test_an_unknown_experiment_is_one_line(name):
    with pytest.raises(MlplibError, match=f"choose one of {', '.join(EXPERIMENTS)}$"):
        experiment(name)


@pytest.mark.parametrize("name", ["", "GPU", "large", None])
def test_an_unknown_profile_is_one_line(name):
    with pytest.raises(MlplibError, match="choose one of smoke, laptop, colab, gpu, paper"):
        profile(name)


def test_planning_imports_neither_pandas_nor_matplotlib():
    program = (
        "import sys\n"
        "from mlplib.store import run_id\n"
        "from mlpstudy.experiments import EXPERIMENTS, experiment\n"
        "from mlpstudy.profiles import PROFILES\n"
        "for name in EXPERIMENTS:\n"
        "    for profile in PROFILES.values():\n"
        "        [run_id(spec) for spec in experiment(name).runs(profile, (0, 1))]\n"
        "heavy = {'pandas', 'matplotlib', 'seaborn', 'scipy', 'torch', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------- the paper's values


def test_every_cell_of_the_paper_has_a_known_source_and_a_number():
    with open(ROOT / "mlpstudy" / "paper.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(paper.values()), "a cell is there twice"
    for cell in paper.values().values():
        assert cell.source in paper.SOURCES and math.isfinite(cell.value)
        assert cell.unit or "exponent" in (cell.column, *cell.row.split()), "only exponents are pure numbers"
        assert cell.item.split()[0] in ("Table", "Fig", "Section")
    assert paper.value("Table 1", "B-MLP", "CIFAR-10") is None


def test_table_1_is_transcribed_whole():
    rows = {row for item, row, _ in paper.values() if item == "Table 1"}
    columns = {column for item, _, column in paper.values() if item == "Table 1"}
    assert len(rows) == 7 and columns == {"CIFAR-10", "CIFAR-100", "TinyImageNet", "ImageNet"}
    assert all(paper.value("Table 1", row, column) for row in rows for column in columns)
    checked = {(c.row, c.column): c.value for c in paper.values().values() if c.source == "checked"}
    assert checked == {
        ("S-MLP @100", "CIFAR-10"): 54.2,
        ("S-MLP @100", "CIFAR-100"): 28.8,
        ("S-MLP @100", "TinyImageNet"): 8.5,
        ("B-MLP + DA @5000", "CIFAR-10"): 75.4,
        ("ResNet18 + DA", "CIFAR-10"): 93.2,
    }


# --------------------------------------------------------------------------- tables


def cells_of(name, budget, records=None):
    records = records_of(name, budget) if records is None else records
    return experiment(name).summary(records, profile(budget))


@pytest.mark.parametrize("name, budget", GRID)
def test_summaries_hold_each_cell_once_with_its_runs(name, budget):
    records = records_of(name, budget)
    cells = cells_of(name, budget, records)
    places = [(cell.item, cell.row, cell.column) for cell in cells]
    assert cells and len(set(places)) == len(places)
    ids = {r.id for r in records}
    for cell in cells:
        assert math.isfinite(cell.estimate.mean)
        assert set(cell.run_ids) <= ids and len(cell.run_ids) >= cell.estimate.n
    shown = {run for cell in cells for run in cell.run_ids}
    assert shown == ids, "every run is shown somewhere"


@pytest.mark.parametrize("budget", PROFILES)
def test_rows_of_table_1_are_the_papers(budget):
    cells = cells_of("from-scratch", budget)
    paper_rows = {row for item, row, _ in paper.values() if item == "Table 1"}
    if budget == "colab":  # it ends at 1000 epochs
        paper_rows = {row for row in paper_rows if "@5000" not in row}
    assert {cell.row for cell in cells} == paper_rows
    if budget != "smoke":
        assert all(paper.value(cell.item, cell.row, cell.column) for cell in cells)


@pytest.mark.parametrize("budget", PROFILES)
def test_parameters_are_counted_beside_the_papers(budget):
    cells = [c for c in cells_of("architectures", budget) if c.item == "Table 5"]
    assert {(c.item, c.row, c.column) for c in cells} == {
        key for key in paper.values() if key[0] == "Table 5"
    }
    for cell in cells:
        assert int(cell.estimate.mean) == paper.value(cell.item, cell.row, cell.column).value
        assert cell.estimate.n == 0 and cell.run_ids == ()


def test_accuracies_are_taken_at_the_length_of_their_row():
    chosen = profile("laptop")
    records = [
        record(spec, test_top1=0.7, curve={20: 0.6, 40: 0.7}) for spec in from_scratch.runs(chosen, SEEDS)
    ]
    cells = {(c.row): c for c in from_scratch.summary(records, chosen)}
    assert cells["B-MLP + DA @1000"].estimate.mean == pytest.approx(60)
    assert cells["B-MLP + DA @5000"].estimate.mean == pytest.approx(70)
    assert cells["B-MLP + DA @1000"].setting == "B-6/Wi-256, 20 epochs"
    assert cells["S-MLP @100"].setting == "S-6/Wi-256, 40 epochs" and cells["S-MLP @100"].unit == "%"


@pytest.mark.parametrize("name, budget", GRID)
def test_diverged_and_missing_runs_leave_their_cells_out(name, budget):
    records = records_of(name, budget)
    counted = len(architectures.parameter_cells()) if name == "architectures" else 0
    gone = diverged(records)
    assert len(cells_of(name, budget, gone)) == len(cells_of(name, budget, [])) == counted
    for cell in cells_of(name, budget, diverged(records, lambda r: seed_of(r.spec) == 1)):
        assert cell.estimate.n in (0, 1) and len(cell.run_ids) >= cell.estimate.n


# --------------------------------------------------------------------------- figures


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_figures_are_described(name):
    for figure in experiment(name).FIGURES.values():
        assert figure.caption.endswith(".") and figure.alt.endswith(".") and len(figure.alt) > 30
    if name == "filters":
        assert f"first {UNITS_SHOWN} units" in filters.FIGURES["first-layer-weights"].caption


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_figure_data_name_their_runs(name):
    records = records_of(name, "smoke")
    ids = {r.id for r in records}
    for title, figure in experiment(name).FIGURES.items():
        frame = figure.data(records)
        # A fit's runs are in the table of numbers.
        assert len(frame) and set(frame.get("run", ())) <= ids, title
        assert not frame.isna().any().any(), title
        assert len(figure.data(diverged(records))) <= len(frame), title


def test_curves_hold_every_epoch():
    records = records_of("from-scratch", "smoke")
    frame = from_scratch.curves(records)
    for made in records:
        rows = frame[frame["run"] == made.id]
        assert rows[rows["split"] == "train"]["epoch"].tolist() == list(range(1, made.spec.epochs + 1))
        tests = rows[rows["split"] == "test"]["epoch"].tolist()
        assert tests == sorted(tests) and tests[-1] == made.spec.epochs
        assert set(made.spec.evaluate_at) <= set(tests)


# --------------------------------------------------------------------------- claims


@pytest.mark.parametrize("name, budget", GRID)
def test_nothing_is_judged_without_records_or_from_diverged_ones_or_at_smoke(name, budget):
    records = records_of(name, budget)
    for claim in experiment(name).CLAIMS:
        for lost in ([], diverged(records)):
            found = claim.judge(lost)
            assert found.verdict == NOT_TESTED and (found.note or found.reason())
        assert budget != "smoke" or decide(claim, records, budget).verdict == NOT_TESTED


COMPARING = ("architectures", "transfer", "linear-probes", "batch-size", "ablations", "label-smoothing")


@pytest.mark.parametrize("name", ["from-scratch", *COMPARING])
def test_one_seed_is_judged_by_test_images_and_says_so(name):
    for claim in experiment(name).CLAIMS:
        found = claim.judge(records_of(name, "paper", seeds=(0,)))
        assert {(part.effect.n, part.effect.source) for part in found.parts} == {(1, "test images")}, claim.id
        assert "1 seed, interval from test images only" in found.effect_text()


# --------------------------------------------------------------------------- what they share


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 8, 40, 100, 5000])
def test_checkpoints_are_even_and_end_at_the_end(epochs):
    found = base.checkpoints(epochs, also=(2, 20, 1000))
    assert list(found) == sorted(set(found)) and found[-1] == epochs and 1 <= found[0]
    assert len(found) <= 8 + 3
    assert {epoch for epoch in (2, 20, 1000) if epoch <= epochs} <= set(found)


def test_records_are_picked_by_seed():
    specs = specs_of("from-scratch", "smoke")[:2]
    records = [record(spec, test_top1=0.1 * (i + 1)) for i, spec in enumerate(specs)]
    assert base.by_seed(records, lambda r: r.metrics["test_top1"]) == pytest.approx({0: 0.1, 1: 0.2})
    assert base.by_seed(records, lambda r: None) == {}
    assert base.top1_at(records[0], 10**6) is None
    assert base.top1_at(records[0], specs[0].epochs) == pytest.approx(0.1)


def test_unpaired_effects_count_a_group_once():
    groups = base.group_by(
        (
            record(s, test_top1=0.4 + 0.01 * i * s.seed)
            for i, s in enumerate(specs_of("from-scratch", "laptop"))
        ),
        lambda r: (r.spec.model.family, r.spec.augment.any),
    )
    b, s = groups["b-mlp", True], groups["s-mlp", True]
    assert base.unpaired_effects({"": b}, {"": s}) == base.unpaired_effects({"": b}, {"": s}, b, s)
    assert base.unpaired_effects({"": b}, {"": []}) == base.unpaired_effects({"": b}, {}) == {}


def test_conditions_are_in_the_order_of_the_figure():
    records = list(reversed(records_of("filters", "laptop")))
    rows = [cell.row for cell in filters.summary(records, profile("laptop")) if cell.column == "locality"]
    assert rows == [
        "at initialization",
        "1,000 images, with DA",
        "all images, with DA",
        "all images, without DA",
    ]
    assert all(isinstance(r.spec, FilterSpec) for r in records)
