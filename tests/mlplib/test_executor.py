"""From a spec to its record: done once, whoever asks, kept whole, and nothing half done after a failure."""

import dataclasses
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from small_runs import ROOT, Watched, environment, logged, small, start, workers

from mlplib import data, filters, gelu, training, weights
from mlplib.data import augment
from mlplib.errors import MlplibError
from mlplib.execution import Execution
from mlplib.executor import KINDS, Executor
from mlplib.models import build_model
from mlplib.optim import lion_in_c
from mlplib.specs import (
    FULL_DA,
    DataSpec,
    EvaluateSpec,
    FilterSpec,
    FineTuneSpec,
    ModelSpec,
    OptimizerSpec,
    ProbeSpec,
)
from mlplib.specs import KINDS as SPEC_KINDS
from mlplib.store import MOSAIC, RunStore, run_id

CPU = torch.device("cpu")


def train(spec):
    """The same run without a store."""
    return training.train(spec, data.load("shapes-16"), how=Execution(device=CPU))


SHAPES = DataSpec("shapes-16")
DIVERGING = small(optimizer=OptimizerSpec("sgd", lr=1e12))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def executor(store, **settings) -> Executor:
    store.root.mkdir(parents=True, exist_ok=True)
    return Executor(store, device=CPU, progress=Watched(str(store.root)), **settings)


def trained(store) -> list[str]:
    """The runs that were trained, by slug, in order."""
    return [line.removeprefix("training ") for line in logged(store.root) if line.startswith("training ")]


def contents(store) -> dict:
    """Every file of the store with the moment of its last change."""
    return {p: p.stat().st_mtime_ns for p in store.root.rglob("*") if p.is_file() and p.name != "log.txt"}


def test_every_kind_of_run_can_be_done():
    assert set(KINDS) == set(SPEC_KINDS)


def test_a_run_is_done_once_and_then_found(store):
    spec = small()
    record = executor(store).record(spec)
    assert (record.id, record.spec, record.status) == (run_id(spec), spec, "completed")
    before = contents(store)
    assert executor(store).record(spec) == record == store.find(spec)
    assert trained(store) == [spec.slug()] and contents(store) == before, "finding it writes nothing"
    assert sorted(p.name for p in store.folder(spec).iterdir()) == [".lock", "record.json", training.WEIGHTS]


def test_each_different_run_is_done_in_order(store):
    a, b = small(seed=1), small(seed=2)
    records = executor(store).records([b, a, b, a])
    assert [r.spec for r in records] == [b, a] and trained(store) == [b.slug(), a.slug()]


def test_the_record_tells_all_parts(store):
    record = executor(store).record(small(evaluate_at=(1,)))
    assert set(record.metrics) == {
        *(f"{split}_{name}" for split in ("test", "train") for name in ("top1", "top5", "loss")),
        "weights_sha256",
    }
    assert set(record.history) == {"epoch", "train_loss", "train_accuracy", "test"}
    assert record.data["content_hash"] == data.content_hash("shapes-16")
    assert {"parameters", "forward_macs", "training_flops", "images_per_second", "matmul_fraction", "seconds",
            "peak_memory_bytes"} <= set(record.compute)  # fmt: skip
    assert {
        "device",
        "cpu",
        "torch",
        "python",
        "commit",
        "dirty",
        "precision",
        "source",
        "began",
        "ended",
    } <= set(record.environment)
    for name in ("test_top1", "test_top5", "train_top1", "train_top5"):
        assert 0 <= record.metrics[name] <= 1


def test_no_record_tells_of_the_machines_folders_host_or_people(store):
    run = executor(store)
    for record in run.records([small(), DIVERGING, FilterSpec(small())]):
        text = (store.folder(record.id) / "record.json").read_text(encoding="utf-8")
        private = {os.getcwd(), str(ROOT), str(store.root), os.path.expanduser("~"), sys.prefix}
        private |= {
            socket.gethostname(),
            platform.node(),
            os.environ.get("USER", ""),
            os.environ.get("LOGNAME", ""),
        }
        found = [word for word in private if len(word) > 4 and word in text]
        assert not found


# --------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("kind", ["autocast", "default device"])
def test_what_the_caller_sets_in_torch_changes_no_run(store, kind, tmp_path):
    """Under a caller's autocast float32 was bf16 in evaluations and probes; with another default device, code
    in C wrote into memory that was not there.
    """
    callers = torch.autocast("cpu", dtype=torch.bfloat16) if kind == "autocast" else torch.device("meta")
    runs = []
    for precision in ("fp32", "bf16"):
        trained = small(precision=precision, augment=FULL_DA)
        probe = ProbeSpec(SHAPES, trained, epochs=1)
        runs += [trained, probe, dataclasses.replace(probe, method="ridge", epochs=50)]
        runs += [EvaluateSpec(trained, crops=2)]
    for found in (lion_in_c, augment.in_c, gelu.tables, gelu.by_table):
        found.cache_clear()
    with callers:
        records = executor(store).records(runs)
    for record, other in zip(records, executor(RunStore(tmp_path / "others")).records(runs), strict=True):
        assert record.difference(other) is None, record.id


def test_a_diverged_run_is_a_record_and_the_work_goes_on(store):
    said = []
    records = executor(store, log=said.append).records([DIVERGING, small()])
    assert [r.status for r in records] == ["diverged", "completed"]
    assert said == [f"{run_id(DIVERGING)} diverged: its loss is no longer finite"]
    text = (store.folder(DIVERGING) / "record.json").read_text()
    assert "NaN" not in text and "Infinity" not in text and store.find(DIVERGING).metrics == {}
    assert executor(store, log=said.append).record(DIVERGING) == records[0]
    assert trained(store) == [DIVERGING.slug(), small().slug()], "it is not tried again"


@pytest.mark.parametrize(
    "spec, message",
    [
        (small(batch_size=257), "a batch of 257 is larger than the 256 training images"),
        (
            small(data=DataSpec("shapes-16", examples=2001)),
            "has 2000 training images: examples=2001 is too many",
        ),
        (small(data=DataSpec("mnist")), "unknown data set 'mnist'"),
        (small(data=DataSpec("shapes-16", held_out=2000)), "held_out=2000 is too many"),
        (ProbeSpec(DataSpec("shapes-16", held_out=2000), None, method="ridge"), "held_out=2000 is too many"),
        (ProbeSpec(SHAPES, small(batch_size=257)), "a batch of 257 is larger"),
        (
            small(data=DataSpec("shapes-16", resolution=16)),
            "has 16 pixels a side already: leave resolution out",
        ),
        (small(model=ModelSpec("vit-b/4"), data=DataSpec("shapes-16", resolution=13)), "is no multiple"),
        (
            small(model=ModelSpec.parse("B-1/Wi-8", norm="batch"), batch_size=1),
            "BatchNorm cannot train an MLP on one image: choose a larger batch_size",
        ),
        (
            FineTuneSpec(small(), DataSpec("shapes-16", resolution=8), epochs=1, batch_size=8),
            "give the data the resolution that the network was trained on",
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_run_that_cannot_be_is_one_line_and_leaves_nothing(store, spec, message):
    with pytest.raises(MlplibError, match=message):
        executor(store).record(spec)
    done = [store.folder(each) for each in spec.needs() if store.find(each)]
    assert list(store.root.glob("*-*")) == done


def test_a_damaged_record_stops_the_work_and_is_not_overwritten(store):
    spec = small()
    executor(store).record(spec)
    path = store.folder(spec) / "record.json"
    path.write_text("{")
    with pytest.raises(MlplibError, match="delete its folder and run again") as caught:
        executor(store).record(spec)
    assert str(path) in str(caught.value) and path.read_text() == "{"


def test_a_store_that_cannot_be_written_is_one_line(tmp_path):
    store = RunStore(tmp_path / "file")
    (tmp_path / "file").write_text("")
    with pytest.raises(MlplibError, match=r"cannot write .*MLPLIB_RUNS"):
        Executor(store, device=CPU).record(small())


LIMITED = """
    import resource, signal, sys
    import torch
    from mlplib.errors import MlplibError
    from mlplib.executor import Executor
    from mlplib.store import RunStore
    from mlplib.specs import ModelSpec
    from small_runs import small

    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.dont_write_bytecode = True  # a part of it might be written
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    store, every = RunStore(sys.argv[1]), float(sys.argv[3])
    executor = Executor(store, device=torch.device("cpu"), checkpoint_every=every)
    for attempt in range(2):
        try:
            executor.record(small(seed=9))
            print("done")
        except MlplibError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("every, file", [(0.0, training.CHECKPOINT), (60.0, training.WEIGHTS)])
def test_a_disk_that_runs_full_is_one_line_and_nothing_half_written(store, every, file):
    """A limit on file sizes cuts writing off in the middle; then there is room again."""
    command = [sys.executable, "-c", textwrap.dedent(LIMITED), str(store.root), "30000", str(every)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line, later = done.stdout.splitlines()
    assert file in line and "disk" in line and later == "done"
    found = store.find(small(seed=9))
    assert found.metrics == train(small(seed=9)).metrics
    assert sorted(p.name for p in store.folder(small(seed=9)).iterdir()) == [
        ".lock",
        "record.json",
        training.WEIGHTS,
    ]


# --------------------------------------------------------------------------- several processes

LONG = small(data=DataSpec("shapes-16"), batch_size=20, epochs=8, augment=FULL_DA)


def test_two_processes_that_ask_for_one_run_train_it_once(store):
    under_way = workers().Event()
    first = start(LONG, store.root, under_way=under_way)
    assert under_way.wait(300)
    second = start(LONG, store.root)
    for process in (first, second):
        process.join()
        assert process.exitcode == 0
    lines = logged(store.root)
    assert lines.count(f"another process does {run_id(LONG)}: waiting for its record") == 1
    assert trained(store) == [LONG.slug()]
    ends = [line for line in lines if line.startswith("done ")]
    assert ends == [f"done {store.find(LONG).metrics['weights_sha256']}"] * 2


def test_processes_that_start_together_train_it_once(store):
    spec = small(seed=4)
    processes = [start(spec, store.root) for _ in range(4)]
    for process in processes:
        process.join()
    assert trained(store) == [spec.slug()]
    assert [line for line in logged(store.root) if line.startswith("done ")] == [
        f"done {store.find(spec).metrics['weights_sha256']}"
    ] * 4


def test_whoever_waits_takes_over_from_a_process_that_was_killed(store):
    under_way = workers().Event()
    first = start(LONG, store.root, under_way=under_way, batches=20, checkpoint_every=0.0)
    assert under_way.wait(300)
    second = start(LONG, store.root)
    while not any("waiting for its record" in line for line in logged(store.root)):
        assert second.is_alive()
    first.kill()
    first.join()
    second.join()
    assert (first.exitcode, second.exitcode) == (-signal.SIGKILL, 0)
    assert trained(store) == [LONG.slug()] * 2
    found = store.find(LONG)
    assert found.metrics == train(LONG).metrics
    assert found.compute["images"] == 2000 * 8


# --------------------------------------------------------------------------- looks at first layers


def test_a_look_trains_what_it_needs_once(store):
    spec = small(augment=FULL_DA)
    run = executor(store)
    look, upstream = run.record(FilterSpec(spec)), store.find(spec)
    assert look.status == "completed" and upstream is not None
    assert run.records([spec, FilterSpec(spec)]) == [upstream, look]
    assert trained(store) == [spec.slug()]
    weight = weights.load(store.folder(spec) / training.WEIGHTS)["linear_in.weight"].numpy()
    found = filters.as_filters(weight, (16, 16, 3))
    assert look.metrics == filters.describe(found)
    np.testing.assert_array_equal(
        filters.load_mosaic(store.folder(FilterSpec(spec)) / MOSAIC), filters.mosaic(found)
    )
    assert look.data["content_hash"] == data.content_hash("shapes-16")


def test_a_look_at_the_initialization_trains_nothing(store):
    spec = small(seed=6)
    look = executor(store).record(FilterSpec(spec, at="initial"))
    weight = build_model(spec.model, (16, 16, 3), 10, seed=6).linear_in.weight.detach().numpy()
    assert look.metrics == filters.describe(filters.as_filters(weight, (16, 16, 3)))
    assert trained(store) == [] and store.find(spec) is None
    # An untrained layer is noise, by both measures.
    assert abs(look.metrics["locality"]) < 0.05 and abs(look.metrics["smoothness"]) < 0.05


def test_the_initialization_is_where_training_starts(store):
    still = small(seed=6, optimizer=OptimizerSpec(lr=0.0))
    start_, end = executor(store).records([FilterSpec(still, at="initial"), FilterSpec(still)])
    assert start_.metrics == end.metrics


def test_a_look_at_a_diverged_run_is_diverged(store):
    look = executor(store, log=lambda line: None).record(FilterSpec(DIVERGING))
    assert look.status == "diverged" and look.metrics == {}
    assert not (store.folder(FilterSpec(DIVERGING)) / MOSAIC).exists()
    json.dumps(look.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda path: path.unlink(),
            "no weights .*: do the run first; if it was done so, delete .*run again",
        ),
        (lambda path: path.write_bytes(b"x" * 20), "weights .*run again"),
    ],
)
def test_weights_that_are_gone_or_damaged_are_one_line(store, damage, message):
    spec = small()
    run = executor(store)
    run.record(spec)
    damage(store.folder(spec) / training.WEIGHTS)
    with pytest.raises(MlplibError, match=message) as caught:
        run.record(FilterSpec(spec))
    assert str(store.folder(spec)) in str(caught.value)
    assert store.find(FilterSpec(spec)) is None


def test_a_run_at_another_micro_batch_is_the_same_run(store):
    spec = small()
    record = executor(store, micro_batch=16).record(spec)
    assert record.compute["micro_batch"] == 16 and store.find(spec) == record
    assert run_id(dataclasses.replace(spec, batch_size=16)) != run_id(spec)


# --------------------------------------------------------------------------- weights that are not the run's


def flip_last_bit(path, other):
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


def put_other_weights(path, other):
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [flip_last_bit, put_other_weights])
@pytest.mark.parametrize("kind", ["filters", "probe", "finetune"])
def test_weights_that_are_not_those_of_the_record_are_refused(kind, damage, store):
    upstream, other = small(), small(seed=1)
    reading = {
        "filters": FilterSpec(upstream),
        "probe": ProbeSpec(upstream.data, upstream, method="ridge"),
        "finetune": FineTuneSpec(upstream, upstream.data, epochs=1, batch_size=64),
    }[kind]
    executor(store).records([upstream, other])
    path = store.folder(upstream) / training.WEIGHTS
    damage(path, store.folder(other) / training.WEIGHTS)
    with pytest.raises(MlplibError, match="damaged or belongs to another run") as caught:
        executor(store).record(reading)
    assert str(path) in str(caught.value)
    assert store.find(reading) is None


@pytest.mark.parametrize("damage", ["flip", "another epoch", "another run"])
def test_kept_weights_that_are_not_those_of_their_epoch_are_refused(damage, store):
    upstream, other = small(keep_at=(1, 2)), small(keep_at=(1, 2), seed=1)
    executor(store).records([upstream, other])
    path = store.folder(upstream) / training.kept_weights(1)
    if damage == "flip":
        flip_last_bit(path, None)
    else:
        kept = {"another epoch": (upstream, 2), "another run": (other, 1)}[damage]
        put_other_weights(path, store.folder(kept[0]) / training.kept_weights(kept[1]))
    for epoch, works in ((2, True), (1, False)):
        probe = ProbeSpec(upstream.data, upstream, epoch=epoch, method="ridge")
        if works:
            executor(store).record(probe)
            continue
        with pytest.raises(MlplibError, match="damaged or belongs to another run") as caught:
            executor(store).record(probe)
        assert str(path) in str(caught.value) and store.find(probe) is None
