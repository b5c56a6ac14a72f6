"""A run that is stopped or killed, however often, ends with the same bits as one that was left alone."""

import dataclasses
import json
import os
import random
import resource
import signal
import time

import numpy as np
import pytest
import torch
from small_runs import counted_bars, logged, small, start, workers

from mlplib import data, training
from mlplib.errors import Interrupted, MlplibError
from mlplib.execution import Execution
from mlplib.executor import Executor
from mlplib.specs import FULL_DA, AugmentSpec, DataSpec, ModelSpec, OptimizerSpec
from mlplib.stopping import StopRequest
from mlplib.store import RunStore

CPU = torch.device("cpu")
SHAPES = data.load("shapes-16")


pytestmark = pytest.mark.usefixtures("one_thread")


def train(spec, folder=None, **how):
    return training.train(spec, SHAPES, folder, how=Execution(device=CPU, **how))


def after_one_batch() -> StopRequest:
    """A request whose deadline is over before the first batch is done."""
    return StopRequest(deadline=time.monotonic() - 1)


def outcome(trained) -> tuple:
    """What must be the same, to the last bit."""
    return trained.status, trained.data, trained.metrics, trained.history, trained.compute["images"]


# --------------------------------------------------------------------------- stopped at every batch

SPECS = {
    "Lion, all augmentation": small(augment=FULL_DA, evaluate_at=(1, 2), label_smoothing=0.3),
    "AdamW, dropout, cosine, clipping": small(
        model=ModelSpec.parse("S-2/Wi-16", dropout=0.3),
        optimizer=OptimizerSpec("adamw", lr=2e-3, weight_decay=0.1, schedule="cosine", warmup=1, clip=0.5),
    ),
    "SGD, BatchNorm, FFCV's MixUp": small(
        model=ModelSpec.parse("B-1/Wi-16", norm="batch"),
        optimizer=OptimizerSpec("sgd", lr=0.01),
        augment=AugmentSpec(flip=True, crop_scale=(0.4, 1.0), mixup=0.8, mixup_kind="ffcv"),
        evaluate_at=(2,),
    ),
    "bf16, permuted pixels": small(
        precision="bf16",
        data=DataSpec("shapes-16", examples=256, pixel_permutation=1),
        augment=AugmentSpec(mixup=0.8),
    ),
    "fp16, scaled loss": small(precision="fp16", augment=FULL_DA),
    "diverging": small(optimizer=OptimizerSpec("sgd", lr=1e12)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_stopping_after_every_single_batch_changes_nothing(spec, tmp_path):
    whole, batches, stops = train(spec), spec.epochs * 4, 0
    while True:
        try:
            found = train(spec, tmp_path, stop=after_one_batch())
            break
        except Interrupted as stopped:
            stops += 1
            assert stops <= batches
            epoch = (stops - 1) // 4 + 1
            assert f"stopped in epoch {epoch} of {spec.epochs}" in str(stopped) and "\n" not in str(stopped)
    if whole.status == "completed":
        assert stops == batches
    assert outcome(found) == outcome(whole)


def test_time_adds_up_over_interruptions(tmp_path):
    spec = small()
    for _ in range(5):
        with pytest.raises(Interrupted):
            train(spec, tmp_path, stop=after_one_batch())
    before = torch.load(tmp_path / training.CHECKPOINT)["seconds"]
    found = train(spec, tmp_path).compute
    assert found["seconds"] > before > 0 and found["images"] == 3 * 256


def test_micro_batches_are_kept_when_a_run_resumes(tmp_path):
    spec = small(augment=FULL_DA)
    whole = train(spec, micro_batch=10)
    with pytest.raises(Interrupted):
        train(spec, tmp_path, micro_batch=10, stop=after_one_batch())
    found = train(spec, tmp_path)
    assert outcome(found) == outcome(whole) and found.compute["micro_batch"] == 10


def test_smaller_micro_batches_can_be_asked_for_when_a_run_resumes(tmp_path):
    """Several processes that run out of memory are told to: after a checkpoint, too, it must help."""
    with pytest.raises(Interrupted):
        train(small(), tmp_path, micro_batch=10, stop=after_one_batch())
    with pytest.raises(Interrupted):  # more than the run has found to fit
        train(small(), tmp_path, micro_batch=20, stop=after_one_batch())
    assert torch.load(tmp_path / training.CHECKPOINT)["micro_batch"] == 10
    found = train(small(), tmp_path, micro_batch=5)
    assert found.compute["micro_batch"] == 5


def test_progress_goes_on_from_the_checkpoint(tmp_path):
    spec, (seen, progress) = small(), counted_bars()
    for _ in range(3):
        with pytest.raises(Interrupted):
            train(spec, tmp_path, stop=after_one_batch(), progress=progress)
    train(spec, tmp_path, progress=progress)
    assert [bar.done for bar in seen] == [1, 2, 3, 12]


# --------------------------------------------------------------------------- checkpoints that do not serve


def stopped_once(folder):
    with pytest.raises(Interrupted):
        train(small(), folder, stop=after_one_batch())
    return folder / training.CHECKPOINT


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte less": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "text": lambda path: path.write_text("not a checkpoint"),
    "a list": lambda path: torch.save([1, 2], path),
    "nothing in it": lambda path: torch.save({}, path),
    "no weights": lambda path: torch.save({k: v for k, v in torch.load(path).items() if k != "model"}, path),
    "no optimizer": lambda path: torch.save(
        {k: v for k, v in torch.load(path).items() if k != "optimizer"}, path
    ),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a flipped bit": lambda path: flip(path, first_weight(path), 3),
}


def first_weight(path) -> int:
    """Where the values of the first layer are in a checkpoint."""
    return path.read_bytes().find(torch.load(path)["model"]["linear_in.weight"].numpy().tobytes())


def flip(path, byte: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_can_be_deleted(damage, tmp_path):
    spec, path = small(), stopped_once(tmp_path)
    damage(path)
    with pytest.raises(MlplibError) as caught:
        train(spec, tmp_path)
    assert str(path) in str(caught.value) and "delete it and the run starts over" in str(caught.value)
    path.rmdir() if path.is_dir() else path.unlink()
    assert outcome(train(spec, tmp_path)) == outcome(train(spec))


def test_a_checkpoint_that_memory_has_no_room_for_is_not_called_damaged(tmp_path, monkeypatch):
    path = stopped_once(tmp_path)

    def no_memory(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(torch.OutOfMemoryError):  # Executor.record makes one line of it
        train(small(), tmp_path)
    monkeypatch.undo()
    assert path.exists() and outcome(train(small(), tmp_path)) == outcome(train(small()))


def test_no_flipped_bit_changes_what_a_resumed_run_ends_with(tmp_path):
    """Either the checkpoint is refused, or the bit did not matter (padding, for example)."""
    spec, path, random_bits = small(), stopped_once(tmp_path), random.Random(0)
    whole, good, refused = outcome(train(spec)), path.read_bytes(), 0
    for _ in range(30):
        path.write_bytes(good)
        flip(path, random_bits.randrange(len(good)), random_bits.randrange(8))
        try:
            assert outcome(train(spec, tmp_path)) == whole
        except MlplibError as error:
            refused += "is damaged" in str(error)
    assert refused > 10


def test_a_run_resumes_with_the_number_of_threads_that_it_began_with(tmp_path):
    stopped_once(tmp_path)
    said: list[str] = []
    torch.set_num_threads(2)
    try:
        found = train(small(), tmp_path, log=said.append)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert said == ["this run began with 1 CPU threads and continues with as many, not 2"]
    assert found.environment["cpu_threads"] == 1
    assert outcome(found) == outcome(train(small()))


@pytest.mark.parametrize(
    "change",
    [
        dict(model=ModelSpec.parse("B-1/Wi-32")),
        dict(optimizer=OptimizerSpec(lr=1e-3)),
        dict(optimizer=OptimizerSpec("sgd", lr=2e-3)),
        dict(seed=1),
        dict(augment=FULL_DA),
        dict(batch_size=32),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_not_resumed(change, tmp_path):
    path = stopped_once(tmp_path)
    with pytest.raises(MlplibError, match="other settings") as caught:
        train(small(**change), tmp_path)
    assert str(path) in str(caught.value)


def other_images(name: str = SHAPES.name) -> data.ImageDataset:
    return dataclasses.replace(SHAPES, name=name, content_hash="another")


def test_a_checkpoint_on_other_images_is_not_resumed(tmp_path):
    stopped_once(tmp_path)
    with pytest.raises(MlplibError, match=r"on other images.*delete it and the run starts over"):
        training.train(small(), other_images(), tmp_path, how=Execution(device=CPU))


def test_settings_are_for_the_images_that_they_name():
    with pytest.raises(MlplibError, match="settings are for shapes-16, not for own"):
        training.train(small(), other_images("own"), how=Execution(device=CPU))


def test_a_checkpoint_that_does_not_name_its_images_is_resumed(tmp_path):
    """Those of earlier versions of this library."""
    path = stopped_once(tmp_path)
    content = torch.load(path)
    del content["data"]
    torch.save(content, path)
    assert outcome(train(small(), str(tmp_path))) == outcome(train(small()))


def test_a_checkpoint_that_cannot_be_written_says_why(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(MlplibError, match=r"cannot write .*checkpoint.pt: File too large; check"):
            stopped_once(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = stopped_once(tmp_path)
    torch.save({**torch.load(path), "history": Evil()}, path)
    with pytest.raises(MlplibError, match="delete it"):
        train(small(), tmp_path)
    assert not (tmp_path / "made").exists()


# --------------------------------------------------------------------------- killed processes

LONG = small(
    model=ModelSpec.parse("B-1/Wi-32", dropout=0.1),
    data=DataSpec("shapes-16"),
    augment=FULL_DA,
    batch_size=50,
    epochs=10,
    evaluate_at=(1, 3),
)


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    store, moments, saved = RunStore(tmp_path), random.Random(0), -1
    checkpoint = store.folder(LONG) / training.CHECKPOINT
    for _ in range(4):
        process = start(LONG, tmp_path, checkpoint_every=0.0)
        # Each gets a little further than the one before, and dies wherever it is: in a step, in a checkpoint.
        wait_for(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns != saved)  # noqa: B023
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "killed before it was done"
        saved = checkpoint.stat().st_mtime_ns
        assert torch.load(checkpoint)["epoch"] < LONG.epochs
    process = start(LONG, tmp_path)
    process.join()
    assert process.exitcode == 0

    record, whole = store.find(LONG), train(LONG)
    assert (record.status, record.data, record.metrics, record.history) == outcome(whole)[:4]
    assert record.compute["images"] == 2000 * LONG.epochs
    assert record.history["epoch"] == list(range(1, 11))
    assert [entry["epoch"] for entry in record.history["test"]] == [1, 3, 10]
    assert sorted(p.name for p in store.folder(LONG).iterdir()) == [".lock", "record.json", training.WEIGHTS]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_run_that_is_asked_to_stop_says_how_to_go_on(number, tmp_path):
    store, under_way = RunStore(tmp_path), workers().Event()
    process = start(LONG, tmp_path, under_way=under_way, batches=30)
    assert under_way.wait(300)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 0, "it came to its end by itself"
    assert store.find(LONG) is None
    kept = torch.load(store.folder(LONG) / training.CHECKPOINT)
    done = kept["epoch"] * 40 + kept["batch"]
    assert 30 <= done < 400
    line = logged(tmp_path)[-1]
    assert line == (
        f"Interrupted: stopped in epoch {kept['epoch'] + 1} of 10 of {LONG.slug()}: "
        "start it again to resume from there"
    )
    executor = Executor(store, device=CPU)
    found, whole = executor.record(LONG), train(LONG)
    assert (found.metrics, found.history) == (whole.metrics, whole.history)
    assert not (store.folder(LONG) / training.CHECKPOINT).exists()


def test_work_that_was_finished_before_a_stop_is_kept(tmp_path):
    specs = [small(seed=s) for s in range(3)]
    store = RunStore(tmp_path)
    first = Executor(store, device=CPU).record(specs[0])
    executor = Executor(store, device=CPU, stop=after_one_batch())
    with pytest.raises(Interrupted):
        executor.records(specs)
    assert store.find(specs[0]) == first and store.find(specs[1]) is None
    records = Executor(store, device=CPU).records(specs)
    assert [r.spec for r in records] == specs
    for record in records:
        assert record.metrics == train(record.spec).metrics


def test_a_checkpoint_holds_plain_values_only(tmp_path):
    """So it can be read with ``weights_only``, and holds no trace of the machine."""
    content = torch.load(stopped_once(tmp_path), weights_only=True)
    assert np.isfinite(content["seconds"]) and content["batch"] == 1
    rest = {k: v for k, v in content.items() if k not in ("model", "optimizer", "sums")}
    assert json.loads(json.dumps(rest)) == rest
    assert dataclasses.replace(small(), seed=0).to_json() == content["spec"]


def test_a_deadline_that_passes_during_the_run_stops_it(tmp_path):
    """A request that nobody has made yet is false, and must be asked all the same."""
    spec = small(epochs=100_000, batch_size=16)
    with pytest.raises(Interrupted):
        train(spec, tmp_path, stop=StopRequest(deadline=time.monotonic() + 0.5))
    assert (tmp_path / training.CHECKPOINT).exists()
