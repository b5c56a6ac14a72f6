"""Records are published piece by piece: any part of an experiment's makes its table, figures and verdicts.

The parts are drawn from the study's own records: without some seeds, without all runs that have a setting in
common (a data set, a network, a length), and at random; or with some that diverged.
"""

import dataclasses
import functools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_runs import ROOT, diverged

from mlplib.errors import MlplibError
from mlplib.specs import ProbeSpec, TrainSpec
from mlpstudy.claims import NOT_TESTED, VERDICTS, Judgement
from mlpstudy.evidence.records import every_published, seed_of
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.experiments.ablations import BASE, change_of
from mlpstudy.experiments.choices import best_rate, is_tuning, rate
from mlpstudy.experiments.filters import condition

BOUNDED = dict(database=None, suppress_health_check=list(HealthCheck))
DRAWINGS = settings(max_examples=4, **BOUNDED)
"""Drawing is slow, and the frames that are drawn are made for every part."""


def some_parts(name):
    """How many parts to try: fewer where every part has laws to fit."""
    return settings(max_examples=10 if name in ("scaling-laws", "standard-mlp") else 25, **BOUNDED)


@functools.cache
def whole(name):
    """The published records of an experiment at profile laptop."""
    (found,) = (each for each in every_published(name, ROOT / "results") if each.profile.name == "laptop")
    return found


@functools.cache
def traits(name):
    """For every record its settings, in lines such as ``upstream.model.width 256``."""
    return [frozenset(_lines(record.spec.to_json())) for record in whole(name).records]


def _lines(value, place=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(inner, f"{place}.{key}")
    else:
        yield f"{place} {json.dumps(value)}"


@st.composite
def parts(draw, name):
    """Some of an experiment's records, in their order (none and all among them), or all, some diverged."""
    records = whole(name).records
    how = draw(st.sampled_from(("seeds", "settings", "random", "diverged")))
    if how == "seeds":
        left_out = draw(st.sets(st.sampled_from(sorted({seed_of(r.spec) for r in records}))))
        return [r for r in records if seed_of(r.spec) not in left_out]
    if how == "settings":
        differing = set.union(*map(set, traits(name))) - set.intersection(*map(set, traits(name)))
        lost = draw(st.sets(st.sampled_from(sorted(differing)), min_size=1, max_size=3))
        # For some seeds only, so that rows have unequal ones.
        seeds = draw(st.sets(st.sampled_from(sorted({seed_of(r.spec) for r in records}))))
        return [
            r
            for r, has in zip(records, traits(name), strict=True)
            if not (has & lost) or seed_of(r.spec) in seeds
        ]
    kept = draw(st.lists(st.booleans(), min_size=len(records), max_size=len(records)))
    share = draw(st.sampled_from((1, 2, 5)))
    some = [r for i, (r, keep) in enumerate(zip(records, kept, strict=True)) if keep and i % share == 0]
    return diverged(records, lambda r: r in some) if how == "diverged" else some


pytestmark = pytest.mark.usefixtures("few_draws")

# --------------------------------------------------------------------------- whatever is missing


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_any_part_of_the_records_makes_a_table_and_the_data_of_every_figure(name):
    module, chosen = experiment(name), whole(name).profile

    @some_parts(name)
    @given(parts(name))
    def check(records):
        ids = {record.id for record in records}
        cells = module.summary(records, chosen)
        places = [(cell.item, cell.row, cell.column) for cell in cells]
        assert len(set(places)) == len(places)
        assert {run for cell in cells for run in cell.run_ids} <= ids
        for figure in module.FIGURES.values():
            frame = figure.data(records)
            assert set(frame.get("run", ())) <= ids

    check()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_any_part_of_the_records_gets_a_verdict_or_a_reason(name):
    claims = experiment(name).CLAIMS

    @some_parts(name)
    @given(parts(name))
    def check(records):
        for claim in claims:
            found = claim.judge(records)
            assert isinstance(found, Judgement) and found.verdict in VERDICTS
            if found.verdict == NOT_TESTED:
                assert (found.note or found.reason()) and found.effect_text() == "–", claim.id
            else:
                assert found.measured, claim.id

    check()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_any_part_of_the_records_is_drawn(name):
    published = whole(name)

    @DRAWINGS
    @given(parts(name))
    def check(records):
        for figure in experiment(name).FIGURES.values():
            try:
                drawn = figure.draw(figure.data(records), published.artifacts)
            except MlplibError as error:  # a picture that is not there: the chapter shows this line instead
                assert "\n" not in str(error)
                continue
            drawn.draw_without_rendering()

    check()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_diverged_seed_counts_as_little_as_a_missing_one(name):
    records = whole(name).records
    seed = seed_of(records[0].spec)
    gone = diverged(records, lambda r: seed_of(r.spec) == seed)
    missing = [r for r in records if seed_of(r.spec) != seed]
    assert 0 < len(missing) < len(records)
    for claim in experiment(name).CLAIMS:
        assert claim.judge(gone) == claim.judge(missing), claim.id


# --------------------------------------------------------------------------- what must not be judged


def without(name, lost):
    """The published records but those whose settings ``lost`` says of."""
    return [record for record in whole(name).records if not lost(record.spec)]


def judge(claim_id, records):
    """The judgement on a claim."""
    claims = {claim.id: claim for name in EXPERIMENTS for claim in experiment(name).CLAIMS}
    return claims[claim_id].judge(records)


def trained(spec):
    """The training at the start of a run."""
    while not isinstance(spec, TrainSpec):
        spec = spec.upstream
    return spec


def hole(spec):
    """Whether a run is of the largest network of a grid on all examples."""
    return trained(spec).model.name == "B-6/Wi-256" and not trained(spec).data.examples


def another_rate(spec):
    """Whether a run is there to choose among Lion's learning rates, and at another one than the base's."""
    optimizer = trained(spec).optimizer
    return spec.data.held_out is not None and optimizer.name == "lion" and optimizer.lr != 5e-5


def reads(method):
    """Whether a run is a probe of that kind."""
    return lambda spec: getattr(spec, "method", "") == method


@pytest.mark.parametrize(
    "claim, name, side",
    [
        ("C01", "from-scratch", lambda r: r.spec.augment.any),
        ("C20", "filters", lambda r: condition(r) == "all images, with DA"),
        ("C21", "filters", lambda r: condition(r) == "all images, with DA"),
        ("C22", "architectures", lambda r: r.spec.data.pixel_permutation is None),
    ],
)
def test_sides_without_a_common_seed_are_not_compared(claim, name, side):
    """Claims C02, C03 and C04 do not pair."""
    records = whole(name).records
    one = seed_of(records[0].spec)
    apart = [r for r in records if side(r) == (seed_of(r.spec) == one)]
    assert judge(claim, records).verdict != NOT_TESTED == judge(claim, apart).verdict


@pytest.mark.parametrize(
    "claim, name, lost, why",
    [
        # The best of the MLPs that are there need not be the best, and a weaker one flatters the gap.
        ("C04", "from-scratch", lambda s: s.model.family == "b-mlp" and s.augment.any, "both MLPs with"),
        ("C09", "batch-size", lambda s: s.upstream.batch_size == 2048, "512 and 2,048, for 4 epochs"),
        ("C09", "batch-size", lambda s: s.upstream.batch_size == 512, "512 and 2,048, for 4 epochs"),
        ("C09", "batch-size", lambda s: s.epoch is None, "for 4 epochs"),
        ("C10", "scaling-laws", hole, "3 of 48 combinations of model, examples and length are missing"),
        ("C12", "parameters-or-examples", hole, "3 of 48 combinations"),
        ("C13", "normalization", lambda s: trained(s).model.family == "s-mlp", "the B-MLP and the S-MLP"),
        ("C16", "ablations", another_rate, "Lion and AdamW at several learning rates"),
        ("C17", "linear-probes", reads("ridge"), "needs both probes"),
        ("C17", "linear-probes", reads("linear"), "needs both probes"),
        ("C18", "efficiency", lambda s: s.model.name == "vit-b/8", "missing: ViT-B/8"),
        ("C18", "efficiency", lambda s: s.model.name == "B-12/Wi-1024", "missing: B-12/Wi-1024"),
    ],
)
def test_what_is_left_of_a_comparison_is_not_taken_for_the_whole(claim, name, lost, why):
    records = without(name, lost)
    assert 0 < len(records) < len(whole(name).records)
    found = judge(claim, records)
    assert found.verdict == NOT_TESTED and why in found.note + found.reason()


def test_the_laws_of_both_mlps_need_whole_and_equal_grids():
    def ends(family):
        return lambda s: isinstance(s, ProbeSpec) and trained(s).model.family == family and s.epoch is None

    def one_end(family):
        return lambda s: (
            ends(family)(s) and trained(s).model.name.endswith("-64") and trained(s).data.examples == 3000
        )

    def reasons(lost):
        *_, law, slope = judge("C19", without("standard-mlp", lost)).parts
        assert slope.verdict == NOT_TESTED
        return law.reason(), slope.reason()

    hole = "1 of 48 combinations of model, examples and length are missing"
    assert reasons(one_end("s-mlp")) == (hole, f"S-MLPs: {hole}")
    law, slope = reasons(one_end("b-mlp"))
    assert hole not in law and slope == f"B-MLPs: {hole}"
    assert reasons(ends("b-mlp"))[1].startswith("S-MLPs and B-MLPs were not run with the same sizes")


def test_learning_rates_are_compared_on_the_seeds_that_all_of_them_have():
    """Else the rate with the most seeds would win, whatever it is worth."""
    tuned = [r for r in whole("ablations").records if is_tuning(r) and change_of(r) == BASE]
    rates = sorted({rate(r) for r in tuned})
    low, middle, best = rates[0], *rates[-2:]
    first, second, *_ = sorted({r.spec.seed for r in tuned})
    made = [dataclasses.replace(r, metrics={"test_top1": 0.3 + 0.1 * rates.index(rate(r))}) for r in tuned]
    assert best_rate(made) == best
    assert best_rate([r for r in made if rate(r) == low or r.spec.seed == first]) == best
    assert best_rate([r for r in made if (rate(r) == low) == (r.spec.seed == first)]) is None
    gone = diverged(made, lambda r: (rate(r), r.spec.seed) == (best, second))
    assert best_rate(gone) == middle, "that a run diverged counts, that it is not there does not"
