"""The standard MLP: which runs it shares, Table 10 and Fig 10 from records, C19 in each of its outcomes."""

import pytest
from scaling_records import power_law, probes
from small_runs import record

from mlplib.specs import FineTuneSpec, ProbeSpec, TrainSpec
from mlplib.store import run_id
from mlpstudy import paper
from mlpstudy.claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED
from mlpstudy.experiments import base, scaling_laws, standard_mlp
from mlpstudy.planning import with_upstream
from mlpstudy.profiles import PROFILES, profile

pytestmark = pytest.mark.usefixtures("few_draws")
LAPTOP = profile("laptop")
WIGGLE = {0: 0.0, 1: 0.002, 2: -0.002}
(CLAIM,) = standard_mlp.CLAIMS
TASKS = ("4 other CIFAR-10 classes, 200 images", "4 other CIFAR-10 classes, 1,000 images")
TRANSFER, BETTER, SLOPE = (0, 1), (2, 3), (5,)
"""Where the parts of the claim are: those on accuracy have one for each task."""


def family(spec):
    return (spec if isinstance(spec, TrainSpec) else spec.upstream).model.family


def slopes(s_mlp, b_mlp):
    """Errors of S-MLPs and B-MLPs as power laws with these exponents."""

    def error(at):
        return power_law(s_mlp if at.run[0].startswith("S-") else b_mlp, 0.5, 1e10)(at)

    return error


def records(error=None, scratch=0.5, s_tuned=0.6, b_tuned=0.7, seeds=(0, 1, 2), noise=0.003):
    specs = standard_mlp.runs(LAPTOP, seeds)
    made = probes(specs, error or slopes(0.15, 0.2), noise)
    for spec in specs:
        if not isinstance(spec, ProbeSpec):
            tuned = {"s-mlp": s_tuned, "b-mlp": b_tuned}[family(spec)]
            # Opposite, so that what pre-training adds has a spread.
            top1 = (
                tuned + WIGGLE[spec.seed] if isinstance(spec, FineTuneSpec) else scratch - WIGGLE[spec.seed]
            )
            made.append(record(spec, test_top1=top1))
    return made


# --------------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", PROFILES)
def test_the_b_side_is_trained_for_other_chapters(name):
    """Every B-MLP of the law is a run of the scaling laws."""
    ours = [s for s in standard_mlp.runs(profile(name), (0,)) if isinstance(s, ProbeSpec)]
    theirs = {run_id(spec) for spec in scaling_laws.runs(profile(name), (0,))}
    of_b, of_s = ([s for s in ours if family(s) == f] for f in ("b-mlp", "s-mlp"))
    assert of_b and {run_id(spec) for spec in of_b} <= theirs and not {run_id(s) for s in of_s} & theirs
    assert len(of_s) == len(of_b), "both families on the same grid"
    for s, b in zip(of_s, of_b, strict=True):
        assert (s.epoch, s.upstream.data, s.upstream.epochs) == (b.epoch, b.upstream.data, b.upstream.epochs)
        assert s.upstream.model.width == b.upstream.model.width


@pytest.mark.parametrize("name", PROFILES)
def test_both_are_fine_tuned_alike_and_only_the_s_mlp_has_a_control(name):
    specs = standard_mlp.runs(profile(name), (0,))
    tuned = [s for s in specs if isinstance(s, FineTuneSpec)]
    of_s, of_b = ([s for s in tuned if family(s) == f] for f in ("s-mlp", "b-mlp"))
    assert [s.data for s in of_s] == [s.data for s in of_b]
    settings = ("epochs", "batch_size", "augment", "optimizer", "body_lr", "label_smoothing")
    for s, b in zip(of_s, of_b, strict=True):
        assert all(getattr(s, key) == getattr(b, key) for key in settings)
        assert s.upstream.epochs == b.upstream.epochs and s.upstream.data == b.upstream.data
    controls = [s for s in specs if isinstance(s, TrainSpec)]
    assert [(c.data, c.epochs, c.model) for c in controls] == [
        (s.data, s.epochs, s.upstream.model) for s in of_s
    ]


def test_the_large_profiles_compare_the_papers_networks():
    for name in ("gpu", "paper"):
        tuned = [s for s in standard_mlp.runs(profile(name), (0,)) if isinstance(s, FineTuneSpec)]
        assert {s.upstream.model.name for s in tuned} == {"S-6/Wi-2048", "B-6/Wi-1024"}


def test_the_laptop_adds_little_to_the_scaling_laws():
    ours = with_upstream(standard_mlp.runs(LAPTOP, (0,)))
    theirs = with_upstream(scaling_laws.runs(LAPTOP, (0,)))
    added = [spec for id, spec in ours.items() if id not in theirs and isinstance(spec, TrainSpec)]
    assert len(added) == 16 + 2 + 2, "the S-MLPs of the law; two pre-trainings; a control per task"


# --------------------------------------------------------------------------- tables and figures


def test_table_10_and_fig_10():
    cells = standard_mlp.summary(records(), LAPTOP)
    table = {cell.row: cell for cell in cells if cell.item == "Table 10"}
    means = {row: cell.estimate.mean for row, cell in table.items()}
    assert means == pytest.approx(
        {"S-MLP from scratch": 50, "S-MLP fine-tuned": 60, "B-MLP fine-tuned": 70}, abs=1e-6
    )
    assert all(len(cell.run_ids) == cell.estimate.n == 3 for cell in table.values())
    assert table["S-MLP fine-tuned"].setting == "S-6/Wi-256, 40 epochs"
    laws = {cell.row: cell.estimate.mean for cell in cells if cell.item == "Fig 10"}
    assert laws == pytest.approx(
        {"S-MLP: exponent without a floor": 0.15, "B-MLP: exponent without a floor": 0.2}, abs=0.01
    )
    for title in ("S-MLP", "B-MLP"):
        assert paper.value("Fig 10", f"{title}: exponent with a floor", "CIFAR-100") is not None


def test_figures_keep_the_families_apart():
    made = records()
    frame = scaling_laws.errors_frame(made)
    assert frame.groupby("family").size().to_dict() == {"b-mlp": 144, "s-mlp": 144}
    names = set(standard_mlp.coefficients_frame(made)["data"])
    assert names == {"S-MLP: 4 other CIFAR-10 classes", "B-MLP: 4 other CIFAR-10 classes"}
    transfer = standard_mlp.transfer_frame(made)
    assert transfer.groupby("network", sort=False)["accuracy"].mean().tolist() == pytest.approx([50, 60, 70])


def test_the_papers_exponents_are_drawn_and_in_the_file(monkeypatch):
    monkeypatch.setitem(base.DATASET_TITLES, "cifar10-downstream", "CIFAR-100")
    frame = standard_mlp.coefficients_frame(records())
    papers = frame.pivot_table("paper", ["law", "data"], "coefficient", aggfunc="first")
    with_floor = papers.loc["power law with a floor"]
    assert with_floor["alpha"].to_dict() == {"B-MLP: CIFAR-100": 0.25, "S-MLP: CIFAR-100": 0.22}
    assert set(papers.loc["power law"].to_numpy().ravel()) == set(with_floor["a"]) == {"unknown"}
    assert with_floor["E_inf"].to_dict() == {"B-MLP: CIFAR-100": 0.16, "S-MLP: CIFAR-100": 0.18}
    lines = scaling_laws.draw_exponents(frame).axes[0].lines
    assert {line.get_xdata()[0] for line in lines if line.get_marker() == "x"} == {0.22, 0.25}


# --------------------------------------------------------------------------- C19


def test_c19_reproduced_and_how_it_says_so():
    found = CLAIM.judge(records())
    means = {part.name: part.effect.mean for part in found.parts}
    assert found.verdict == REPRODUCED and means == pytest.approx(
        {
            **{f"S-MLPs transfer, {task}": 10 for task in TASKS},
            **{f"B-MLPs better, {task}": 10 for task in TASKS},
            "S-MLPs' power law": 0.15,
            "S-MLPs' slope worse": 0.05,
        },
        abs=0.01,
    )


@pytest.mark.parametrize(
    "changes, places, verdict",
    [
        (dict(s_tuned=0.45), TRANSFER, CONTRADICTED),
        (dict(s_tuned=0.502), TRANSFER, INCONCLUSIVE),
        (dict(b_tuned=0.55), BETTER, CONTRADICTED),
        (dict(error=slopes(0.195, 0.2), noise=0.06), SLOPE, INCONCLUSIVE),
        (dict(error=slopes(0.2, 0.15)), SLOPE, CONTRADICTED),
    ],
    ids=["no transfer", "perhaps transfer", "S-MLP better", "like slopes", "S-MLP steeper"],
)
def test_c19_with_one_part_missing_is_partly(changes, places, verdict):
    found = CLAIM.judge(records(**changes))
    assert found.verdict == PARTLY and {found.parts[place].verdict for place in places} == {verdict}


@pytest.mark.parametrize("scratch, expected", [(0.5, CONTRADICTED), (0.4, INCONCLUSIVE)])
def test_c19_with_no_part_is_not_reproduced(scratch, expected):
    def rising(at):
        return 0.3 if "/Wi-32" in at.run[0] and at.epochs == 2 and at.examples == 1000 else 0.5

    found = CLAIM.judge(records(error=rising, noise=0.0, scratch=scratch, s_tuned=0.4, b_tuned=0.3))
    *transfer, better, another, law, slope = found.parts
    assert {part.verdict for part in transfer} == {expected}
    assert better.verdict == another.verdict == CONTRADICTED
    assert law.verdict == slope.verdict == NOT_TESTED and found.verdict == INCONCLUSIVE


def test_c19_of_one_seed_names_all_that_its_intervals_are_from():
    """Those of the accuracies are from test images, those of the exponents from the grid."""
    found = CLAIM.judge(records(seeds=(0,)))
    assert found.effect_text().endswith("(1 seed, interval from test images or grid only)")


def test_c19_without_a_law_cannot_be_reproduced_whole():
    found = CLAIM.judge([r for r in records() if not isinstance(r.spec, ProbeSpec)])
    law, slope = found.parts[-2:]
    assert found.verdict == PARTLY and law.verdict == slope.verdict == NOT_TESTED


@pytest.mark.parametrize("without", [("s-mlp", FineTuneSpec), ("b-mlp", FineTuneSpec), ("s-mlp", TrainSpec)])
def test_c19_needs_both_sides(without):
    lost = [r for r in records() if (family(r.spec), type(r.spec)) != without]
    assert CLAIM.judge(lost).verdict == CLAIM.judge([]).verdict == NOT_TESTED
