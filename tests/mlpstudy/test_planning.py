"""Plans: what is still to be done, each run once, and a time that follows from what was measured."""

import dataclasses

import pytest
import torch
from small_runs import leave, leave_checkpoint, record, small

from mlplib import machine, timing
from mlplib.data import catalog
from mlplib.errors import MlplibError
from mlplib.models import count_macs, meta_model
from mlplib.specs import (
    CheckpointSpec,
    DataSpec,
    EvaluateSpec,
    FilterSpec,
    FineTuneSpec,
    ModelSpec,
    ProbeSpec,
)
from mlplib.store import RunStore
from mlpstudy.experiments import experiment
from mlpstudy.planning import ASSUMED_FRACTION, OVERHEAD_SECONDS, Planner, training_flops, with_upstream
from mlpstudy.profiles import profile

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def write(store, spec, device="a test", fraction=0.5):
    made = record(spec)
    made = dataclasses.replace(
        made, environment={"device": device}, compute={"matmul_fraction": fraction} if fraction else {}
    )
    leave(store, [made])


def test_what_a_run_needs_comes_first_and_once():
    a, b = small(seed=1), small(seed=2)
    looks = [FilterSpec(a), FilterSpec(b), FilterSpec(a, at="initial"), FilterSpec(a)]
    assert list(with_upstream([*looks, b]).values()) == [a, looks[0], b, looks[1], looks[2]]
    assert list(with_upstream([FilterSpec(a, at="initial")]).values()) == [FilterSpec(a, at="initial")]
    assert with_upstream([]) == {}


def test_flops_are_six_per_weight_and_image_of_whole_batches():
    spec = small(epochs=3, batch_size=100, data=DataSpec("shapes-16", examples=256))
    macs = count_macs(meta_model(spec.model, (16, 16, 3), 10), (16, 16, 3))
    assert training_flops(spec) == 6 * macs * 200 * 3
    assert training_flops(dataclasses.replace(spec, data=DataSpec("shapes-16"))) == 6 * macs * 2000 * 3
    assert training_flops(
        dataclasses.replace(spec, data=DataSpec("cifar10"), batch_size=1024)
    ) == pytest.approx(6 * count_macs(meta_model(spec.model, (32, 32, 3), 10), (32, 32, 3)) * 48 * 1024 * 3)
    assert training_flops(FilterSpec(spec)) == 0.0


def test_flops_of_what_reads_a_network_are_those_of_its_passes():
    upstream = small(data=DataSpec("shapes-16-upstream"))
    on = DataSpec("shapes-16-downstream")
    macs = count_macs(meta_model(upstream.model, (16, 16, 3), 4), (16, 16, 3))
    train, test = catalog.find(on.name).train, catalog.find(on.name).test
    tuned = FineTuneSpec(upstream, on, epochs=3, batch_size=100)
    assert training_flops(tuned) == 6 * macs * (train // 100 * 100) * 3
    assert training_flops(EvaluateSpec(tuned, crops=7)) == 2 * macs * test * 8
    assert training_flops(ProbeSpec(on, upstream)) == 2 * macs * (train + test)
    assert training_flops(ProbeSpec(on, None)) == 0.0
    held = dataclasses.replace(tuned, data=dataclasses.replace(on, held_out=train // 2))
    assert training_flops(held) == 6 * macs * (train // 2 // 100 * 100) * 3
    bigger = ProbeSpec(dataclasses.replace(on, resolution=32), upstream)
    assert training_flops(bigger) > training_flops(ProbeSpec(on, upstream))
    official = CheckpointSpec("official", "0" * 64)
    assert training_flops(dataclasses.replace(tuned, upstream=official)) == 0.0, "its size is in the file"


def test_what_is_there_is_not_planned_again(store):
    specs = experiment("filters").runs(profile("smoke"), (0,))
    fresh = planned(store, specs)
    assert fresh.cached == 0 and fresh.missing == fresh.runs and len(fresh.runs) == len(with_upstream(specs))
    assert fresh.flops == sum(training_flops(spec) for spec in fresh.runs)
    for spec in fresh.runs[:3]:
        write(store, spec)
    later = planned(store, specs)
    assert later.cached == 3 and later.missing == fresh.runs[3:]
    assert (
        later.flops == sum(training_flops(spec) for spec in fresh.runs[3:]) and later.seconds < fresh.seconds
    )
    for spec in fresh.runs[3:]:
        write(store, spec)
    done = planned(store, specs)
    assert (done.missing, done.flops, done.seconds, done.cached) == ((), 0.0, 0.0, len(done.runs))


def test_planning_trains_and_writes_nothing(store):
    planned(store, experiment("from-scratch").runs(profile("laptop"), (0,)))
    assert not store.root.exists()


def test_a_diverged_run_is_done(store):
    spec = small()
    leave(store, [record(spec, "diverged")])
    assert planned(store, [spec]).missing == ()


def planned(store, specs):
    return Planner(store, CPU).plan(specs)


def expected_seconds(spec, fraction):
    return OVERHEAD_SECONDS + training_flops(spec) / (fraction * timing.matmul_rate(CPU, spec.precision))


def test_times_follow_from_earlier_runs_on_this_device(store):
    here = machine.device_name(CPU)
    spec, other = small(), small(model=ModelSpec.parse("B-2/Wi-64"))
    assert planned(store, [spec]).seconds == pytest.approx(expected_seconds(spec, ASSUMED_FRACTION))
    # Runs on another device, and runs that say nothing of their rate, tell nothing of this one.
    write(store, small(seed=1), device="another", fraction=0.9)
    write(store, small(seed=2), device=here, fraction=None)
    assert planned(store, [spec]).seconds == pytest.approx(expected_seconds(spec, ASSUMED_FRACTION))
    for seed, fraction in ((3, 0.10), (4, 0.20), (5, 0.60)):
        write(store, small(seed=seed), device=here, fraction=fraction)
    assert planned(store, [spec]).seconds == pytest.approx(expected_seconds(spec, 0.20)), "of its own kind"
    assert planned(store, [other]).seconds == pytest.approx(expected_seconds(other, ASSUMED_FRACTION))
    # Of a queue that does one run per core.
    one_thread = here.partition(" (")[0] + " (1 thread)"
    write(store, dataclasses.replace(other, seed=9), device=one_thread, fraction=0.01)
    assert planned(store, [other]).seconds == pytest.approx(expected_seconds(other, 0.01))


def test_the_epochs_of_a_checkpoint_are_not_planned_again(store):
    stopped, other = small(epochs=4), small(epochs=4, seed=1)
    fresh = planned(store, [stopped, other])
    leave_checkpoint(store, stopped, 3)
    resumed = planned(store, [stopped, other])
    assert resumed.missing == (stopped, other)
    assert resumed.seconds == pytest.approx(fresh.seconds * 5 / 8)
    assert resumed.flops == pytest.approx(fresh.flops * 5 / 8)


def test_looks_at_filters_take_moments(store):
    spec = small()
    write(store, spec)
    found = planned(store, [FilterSpec(spec), FilterSpec(spec, at="initial")])
    assert found.flops == 0.0 and found.seconds <= 2 * OVERHEAD_SECONDS and found.cached == 1


def test_runs_that_cannot_be_are_refused_while_planning(store):
    with pytest.raises(MlplibError, match="unknown data set 'mnist'"):
        planned(store, [small(data=DataSpec("mnist"))])


def test_what_a_finished_run_once_needed_is_not_planned(store):
    upstream, *_ = experiment("from-scratch").runs(profile("smoke"), (0,))
    write(store, FilterSpec(upstream))
    found = planned(store, [FilterSpec(upstream)])
    assert (found.missing, found.seconds) == ((), 0.0)
