"""Streamed data: the same bits as resident data, whatever a run wants, and nothing left behind."""

import contextlib
import functools
import json
import os
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import dataset, noise, small
from typer.testing import CliRunner

from mlplib import data, probing, training
from mlplib.data import batches, beton, streaming
from mlplib.data.batches import open_data
from mlplib.data.streaming import BetonReader
from mlplib.errors import Interrupted, MlplibError
from mlplib.execution import Execution
from mlplib.executor import Executor
from mlplib.specs import FULL_DA, NO_DA, AugmentSpec, DataSpec, EvaluateSpec, ProbeSpec, TrainSpec
from mlplib.stopping import StopRequest
from mlplib.store import RunStore

pytest.importorskip("ffcv", reason="FFCV is not installed (make test compiles it where its headers are)")
numba = pytest.importorskip("numba", reason="FFCV, which brings it, is not installed")

CPU = torch.device("cpu")
SHAPES = data.load("shapes-16")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A cache with the betons of the drawn shapes, and one thread, so that sums are taken in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        beton.write(SHAPES)
        beton.write(noise())
        yield
    torch.set_num_threads(threads)


def same(one, other) -> bool:
    names = ("images", "labels", "partner_labels")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return one.lam == other.lam and all(torch.equal(a, b) and a.stride() == b.stride() for a, b in pairs)


# --------------------------------------------------------------------------- the same bits

specs = st.builds(
    lambda permutation_or_side, **settings: DataSpec("hand", **permutation_or_side, **settings),
    st.just({})
    | st.builds(dict, pixel_permutation=st.integers(0, 9))
    | st.builds(dict, resolution=st.sampled_from([1, 3, 7, 12])),
    held_out=st.none() | st.integers(1, 20),
    examples=st.none() | st.integers(1, 40),
)
augmentations = st.sampled_from(
    [
        NO_DA,
        FULL_DA,
        AugmentSpec(mixup=0.8),
        AugmentSpec(mixup=0.8, mixup_kind="ffcv"),
        AugmentSpec(flip=True, crop_scale=(0.3, 1.0), mixup=0.8, mixup_kind="ffcv"),
    ]
)


@settings(max_examples=40)
@given(specs, augmentations, st.integers(1, 40), st.integers(0, 3), st.sampled_from(["float32", "bfloat16"]))
def test_batches_are_those_of_resident_data(spec, augmentation, size, seed, dtype):
    resident, streamed = (open_data(noise(), spec, CPU, loader) for loader in ("resident", "ffcv"))
    assert (resident.loader, streamed.loader) == ("resident", "ffcv")
    assert resident.image_shape == streamed.image_shape
    assert (len(resident.train), len(resident.test)) == (len(streamed.train), len(streamed.test))
    for epoch, start in ((0, 0), (seed, 1)):
        how = (size, augmentation, seed, epoch, getattr(torch, dtype), start)
        pairs = zip(resident.training_batches(*how), streamed.training_batches(*how), strict=True)
        assert all(same(one, other) for one, other in pairs)
    for name, how in (("test_batches", ()), ("train_sample", (7,)), ("train_sample", (10**6,))):
        pairs = zip(getattr(resident, name)(*how), getattr(streamed, name)(*how), strict=True)
        assert all(same(one, other) for one, other in pairs)


@pytest.mark.parametrize("side", [1, 5])
def test_odd_shapes_are_copied_out_of_the_loaders_memory(side):
    """Images whose rows are in order already when FFCV hands them over must not stay in its memory."""
    images = np.random.default_rng(0).integers(0, 256, (200, 6, side, 3), dtype=np.uint8)
    odd = dataset(images, name=f"odd-{side}")
    beton.write(odd)
    found = list(open_data(odd, DataSpec("hand"), CPU, "ffcv").train.read(np.arange(200), 10))
    np.testing.assert_array_equal(torch.cat([x for x, _ in found]).permute(0, 2, 3, 1), images)


RUNS = {
    "all augmentation": small(augment=FULL_DA, evaluate_at=(1, 2), label_smoothing=0.3),
    "FFCV's MixUp, permuted, bf16": small(
        data=DataSpec("shapes-16", pixel_permutation=1),
        augment=AugmentSpec(mixup=0.8, mixup_kind="ffcv"),
        precision="bf16",
        epochs=1,
    ),
    "held out, resized": small(
        data=DataSpec("shapes-16", held_out=100, examples=300, resolution=12), epochs=2
    ),
}


def outcome(trained) -> tuple:
    """What must be the same, to the last bit."""
    return trained.status, trained.data, trained.metrics, trained.history, trained.compute["images"]


@functools.cache
def resident_run(spec: TrainSpec) -> tuple:
    return outcome(training.train(spec, SHAPES, how=Execution(device=CPU, loader="resident")))


@pytest.mark.parametrize("spec", RUNS.values(), ids=RUNS)
def test_a_streamed_run_leaves_the_same_record(spec):
    found = training.train(spec, SHAPES, how=Execution(device=CPU, loader="ffcv"))
    assert "weights_sha256" in found.metrics
    assert outcome(found) == resident_run(spec)
    assert found.compute["loader"] == "ffcv"


def test_a_run_may_change_its_loader_in_mid_epoch(tmp_path):
    """Stopped after every batch, and gone on with the other loader."""
    spec, found = RUNS["all augmentation"], None
    for stops in range(100):
        with contextlib.suppress(Interrupted):
            stop = StopRequest(deadline=time.monotonic() - 1)
            loader = ("ffcv", "resident")[stops % 2]
            how = Execution(device=CPU, loader=loader, stop=stop)
            found = training.train(spec, SHAPES, tmp_path, how=how)
            break
    assert stops == spec.epochs * (256 // spec.batch_size)
    assert outcome(found) == resident_run(spec)


def test_every_other_kind_of_run_is_the_same(tmp_path):
    upstream = small(data=DataSpec("shapes-16"), epochs=1)
    kinds = [
        upstream,
        EvaluateSpec(upstream, crops=3),
        ProbeSpec(DataSpec("shapes-16", examples=200), upstream, method="ridge"),
        ProbeSpec(DataSpec("shapes-16", examples=200), None, method="ridge"),
    ]
    left = {}
    for loader in ("resident", "ffcv"):
        there = Executor(RunStore(tmp_path / loader), device=CPU, loader=loader)
        left[loader] = [(r.id, r.metrics, r.history, r.data) for r in there.records(kinds)]
    assert left["resident"] == left["ffcv"]


def test_features_that_do_not_fit_are_refused():
    seen = open_data(SHAPES, DataSpec("shapes-16"), CPU, "ffcv")
    wide = torch.nn.Module()
    wide.features = lambda images: images.new_zeros(1, 1).expand(len(images), 10**9)
    with pytest.raises(MlplibError, match=r"1000000000 features of 2000 images take .* probe fewer examples"):
        probing.features(wide, seen)


# --------------------------------------------------------------------------- nothing is left behind


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_iterators_that_are_stopped_leave_no_thread_and_no_file():
    seen = open_data(SHAPES, DataSpec("shapes-16"), CPU, "ffcv")
    for found in (seen.training_batches(16, FULL_DA, 0, 0, torch.float32), seen.test_batches()):
        next(found)  # FFCV maps each file once
        found.close()
    before = threading.active_count(), descriptors()
    for epoch in range(30):
        found = seen.training_batches(16, FULL_DA, 0, epoch, torch.float32)
        for _ in range(epoch % 4):
            next(found)
        found.close()
        assert (threading.active_count(), descriptors()) == before
    for _ in seen.test_batches():
        break
    assert (threading.active_count(), descriptors()) == before


def test_stopping_is_fast_wherever_ffcv_is():
    seen = open_data(SHAPES, DataSpec("shapes-16"), CPU, "ffcv")
    seconds = []
    for taken in range(20):
        found = seen.train.read(np.arange(2000), 100)
        for _ in range(1 + taken):
            next(found)
        start = time.monotonic()
        found.close()
        seconds.append(time.monotonic() - start)
    assert max(seconds) < 0.4, "FFCV's own thread looks every half second only whether it is to end"


def test_memory_stays_flat_over_epochs():
    seen = open_data(SHAPES, DataSpec("shapes-16"), CPU, "ffcv")

    def epochs(count: int) -> int:
        for epoch in range(count):
            for _ in seen.training_batches(500, NO_DA, 0, epoch, torch.float32):
                pass
        pages = int(open("/proc/self/statm").read().split()[1])
        return pages * resource.getpagesize()

    before = epochs(30)
    assert epochs(150) - before < 8e6, "an epoch's images are 1.5 MB"


def test_torchs_threads_and_numpys_generator_stay_as_they_are():
    for threads in (1, 3):
        torch.set_num_threads(threads)
        state = np.random.get_state()[1].copy()
        seen = open_data(SHAPES, DataSpec("shapes-16"), CPU, "ffcv")
        for _ in seen.training_batches(64, FULL_DA, 0, 0, torch.float32):
            assert torch.get_num_threads() == threads
        assert (np.random.get_state()[1] == state).all()
    torch.set_num_threads(1)


def test_ffcv_takes_the_cores_that_training_leaves_free(monkeypatch):
    monkeypatch.setattr(streaming, "cores", lambda: 64)
    most = numba.config.NUMBA_NUM_THREADS
    for threads, device, expected in ((1, "cpu", 63), (62, "cpu", 2), (64, "cpu", 1), (64, "cuda", 64)):
        torch.set_num_threads(threads)
        assert streaming.workers_beside(torch.device(device)) == min(expected, most)
    torch.set_num_threads(1)


def test_an_error_in_ffcvs_thread_ends_the_run():
    reader = BetonReader(beton.find(SHAPES, "train"))
    ended = []
    before, threading.excepthook = threading.excepthook, lambda error: ended.append(error.exc_type)
    try:
        with pytest.raises(MlplibError, match="FFCV failed to read"):
            reader.loader.code = ([(lambda **_: 1 / 0, [])], [])
            list(reader.read(np.arange(10), 2))
    finally:
        threading.excepthook = before
    assert ended == [ZeroDivisionError]


@pytest.mark.parametrize("wrong", [-1, 2000])
def test_an_index_outside_is_an_error_and_no_crash(wrong):
    with pytest.raises(IndexError, match=r"outside the 2000 images of .*train\.beton"):
        next(BetonReader(beton.find(SHAPES, "train")).read(np.array([0, wrong]), 2))


# --------------------------------------------------------------------------- which loader


def test_auto_takes_what_fits(monkeypatch):
    spec = DataSpec("shapes-16", examples=100)
    assert open_data(SHAPES, spec, CPU).loader == "resident"
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0.0)
    assert open_data(SHAPES, spec, CPU).loader == "ffcv"
    missing = dataset(noise().train.images, name="cifar10")
    with pytest.raises(MlplibError, match=r"may be used for them: write them .* mlplib data beton cifar10"):
        open_data(missing, DataSpec("cifar10"), CPU)


def test_auto_counts_what_a_run_uses(monkeypatch):
    """600 images of 16 x 16 are 0.46 MB; the share makes just that much room, less a byte."""

    def chosen(room: int, **settings) -> str:
        monkeypatch.setattr(batches.machine, "free_memory", lambda device: room)
        monkeypatch.setattr(batches, "RESIDENT_SHARE", 1.0)
        return open_data(SHAPES, DataSpec("shapes-16", **settings), CPU).loader

    for changes, images, side in (
        (dict(examples=100), 100 + 500, 16),
        (dict(held_out=400, examples=100), 400 + 100, 16),
        (dict(examples=100, resolution=8), 600, 8),
    ):
        needed = images * side * side * 3
        assert chosen(needed, **changes) == "resident" and chosen(needed - 1, **changes) == "ffcv"


def test_ffcv_without_its_files_says_what_to_do():
    missing = dataset(noise().train.images, name="cifar10")
    with pytest.raises(MlplibError, match="once with mlplib data beton cifar10"):
        open_data(missing, DataSpec("cifar10"), CPU, "ffcv")
    with pytest.raises(MlplibError, match="unknown loader 'fast': choose one of auto, resident, ffcv"):
        open_data(missing, DataSpec("cifar10"), CPU, "fast")


def test_a_file_that_is_cut_off_counts_as_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path))
    path = beton.write(SHAPES) / "train.beton"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(MlplibError, match="mlplib data beton shapes-16"):
        open_data(SHAPES, DataSpec("shapes-16"), CPU, "ffcv")
    beton.write(SHAPES)
    assert open_data(SHAPES, DataSpec("shapes-16"), CPU, "ffcv").loader == "ffcv"


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "x.beton").write_bytes(b"something else" * 1000)
    with pytest.raises(MlplibError, match=r"x\.beton cannot be read as an FFCV file .* mlplib data beton"):
        BetonReader(tmp_path / "x.beton")


# --------------------------------------------------------------------------- the command line, and no FFCV

SMALLEST = ["run", "filters", "--profile", "smoke", "--seeds", "0", "--runs"]


def mlplib(*words: str):
    from mlpstudy import cli

    return CliRunner().invoke(cli.app, words)


def test_the_command_line_writes_and_streams(tmp_path):
    written = mlplib("data", "beton", "shapes-16")
    assert written.exit_code == 0 and "shapes-16 is ready to be streamed" in written.stdout
    # In a process of its own: the workers of this one may have started with another cache folder.
    command = [sys.executable, "-m", "mlplib", *SMALLEST, str(tmp_path), "--loader", "ffcv"]
    streamed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert streamed.returncode == 0, streamed.stderr
    records = [json.loads(path.read_text())["compute"] for path in tmp_path.glob("*/record.json")]
    assert {compute["loader"] for compute in records if "images" in compute} == {"ffcv"}


@pytest.fixture
def without_ffcv(monkeypatch):
    """As if FFCV were not installed."""
    monkeypatch.setitem(sys.modules, "ffcv", None)


def test_without_ffcv_a_line_says_how_to_install_it(without_ffcv, tmp_path):
    for words in (["data", "beton", "shapes-16"], [*SMALLEST, str(tmp_path / "a"), "--loader", "ffcv"]):
        with pytest.raises(MlplibError, match=r'^FFCV is not installed: .*-e "\.\[ffcv\]"$'):
            raise mlplib(*words).exception


def test_without_ffcv_data_that_fit_are_resident_and_others_say_what_to_do(without_ffcv, monkeypatch):
    spec = DataSpec("shapes-16")
    assert open_data(SHAPES, spec, CPU).loader == "resident"
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0.0)
    with pytest.raises(MlplibError, match=r"install the headers .* then write them for streaming"):
        open_data(SHAPES, spec, CPU)


def test_batches_are_copied_on_one_stream_per_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: object())
    streaming._copy_stream.cache_clear()
    try:
        assert streaming._copy_stream(torch.device("cuda:0")) is streaming._copy_stream(
            torch.device("cuda:0")
        )
    finally:
        streaming._copy_stream.cache_clear()
