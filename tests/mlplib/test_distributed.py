"""One run on several processes: the same batches, the same weights, and no mess when one of them goes."""

import os
import signal
import time

import numpy as np
import pytest
import torch
from shared_runs import finish, share, start, written
from small_runs import small

from mlplib import data, run, timing, weights
from mlplib.data.batches import Batch, open_data
from mlplib.distributed import Processes
from mlplib.errors import MlplibError
from mlplib.execution import Execution
from mlplib.models import build_model
from mlplib.specs import FULL_DA, AugmentSpec, DataSpec, ModelSpec, OptimizerSpec, ProbeSpec
from mlplib.step import Engine
from mlplib.store import RunStore
from mlplib.training import CHECKPOINT, WEIGHTS, Loop

CPU, SHAPES = torch.device("cpu"), data.load("shapes-16")

LIKE = dict(model=ModelSpec.parse("B-2/Wi-16"), batch_size=64, evaluate_at=(1, 2), label_smoothing=0.1)
SPECS = {
    "Lion": small(**LIKE, augment=FULL_DA),
    "AdamW, clipping": small(**LIKE, optimizer=OptimizerSpec("adamw", lr=2e-3, clip=0.5), augment=FULL_DA),
    "SGD, FFCV's MixUp": small(
        **LIKE,
        optimizer=OptimizerSpec("sgd", lr=0.05),
        augment=AugmentSpec(flip=True, crop_scale=(0.4, 1.0), mixup=0.8, mixup_kind="ffcv"),
    ),
}


def said(folder) -> list[str]:
    """What the processes reported, by rank."""
    return [path.read_text() for path in sorted(folder.glob("[0-9].txt"))]


def assert_same_run(found, spec, whole) -> None:
    """``found`` and ``whole``: stores in which ``spec`` was done by several processes and by one."""
    ours, theirs = (RunStore(folder).find(spec) for folder in (found, whole))
    for name in ("train_loss", "train_accuracy"):
        assert np.allclose(ours.history[name], theirs.history[name], rtol=0, atol=1e-5), name
    assert ours.metrics["test_loss"] == pytest.approx(theirs.metrics["test_loss"], abs=1e-5)
    assert ours.compute["images"] == theirs.compute["images"]
    states = [weights.load(RunStore(folder).folder(spec) / WEIGHTS) for folder in (found, whole)]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with the runs of :data:`SPECS`, each done by one process."""
    folder = tmp_path_factory.mktemp("whole")
    for spec in SPECS.values():
        assert run.main(written(folder, spec)) == 0
    return folder


# --------------------------------------------------------------------------- batches


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("spec", [s.augment for s in SPECS.values()] + [AugmentSpec(flip=True)], ids=str)
def test_the_parts_of_a_batch_make_up_the_batch(spec, count):
    seen = open_data(SHAPES, DataSpec("shapes-16", examples=256), CPU)
    arguments = 64, spec, 3, 1, torch.float32
    shares = [slice(64 // count * rank, 64 // count * (rank + 1)) for rank in range(count)]
    parts = [list(seen.training_batches(*arguments, part=part)) for part in shares]
    for batch, *split in zip(seen.training_batches(*arguments), *parts, strict=True):
        for name in ("labels", "partner_labels"):
            assert torch.equal(getattr(batch, name), torch.cat([getattr(part, name) for part in split]))
        torch.testing.assert_close(
            batch.images, torch.cat([part.images for part in split]), rtol=0, atol=1e-5
        )
        assert {part.lam for part in split} == {batch.lam}


# --------------------------------------------------------------------------- runs


@pytest.mark.parametrize("spec, count", list(zip(SPECS.values(), (4, 2, 2), strict=True)), ids=SPECS)
def test_several_processes_end_with_the_loss_curve_and_weights_of_one(spec, count, whole, tmp_path):
    assert share(tmp_path, spec, count, "--micro-batch", "10") == [0] * count, said(tmp_path)
    assert RunStore(tmp_path).find(spec).compute["processes"] == count
    assert_same_run(tmp_path, spec, whole)


def test_bf16_copies_get_averaged_gradients(tmp_path):
    spec = small(precision="bf16", augment=FULL_DA, optimizer=OptimizerSpec("adamw", lr=1e-3))
    assert run.main(written(tmp_path / "1", spec)) == 0
    assert share(tmp_path / "2", spec, 2) == [0, 0], said(tmp_path / "2")
    one, two = (RunStore(tmp_path / name).find(spec).history["train_loss"] for name in "12")
    assert np.allclose(one, two, rtol=0, atol=5e-3)


@pytest.mark.alone
@pytest.mark.slow
def test_sharing_a_step_costs_little(tmp_path):
    """``-s`` shows the time of a step by 1 and 2 processes of one thread each, in interleaved rounds."""
    spec = small(model=ModelSpec.parse("B-6/Wi-256"), data=DataSpec("shapes-16"), epochs=4, batch_size=256)

    def seconds_by(count: int) -> float:
        folder = tmp_path / f"{count}-{time.monotonic_ns()}"
        assert share(folder, spec, count) == [0] * count, said(folder)
        compute = RunStore(folder).find(spec).compute
        return compute["seconds"] * spec.batch_size / compute["images"]

    found = timing.take_turns({count: lambda n=count: seconds_by(n) for count in (1, 2)}, rounds=3)
    for count, seconds in found.items():
        middle, low, high = (1e3 * each for each in timing.summary(seconds).values())
        print(f"\n{count} processes: {middle:.0f} ms a step [{low:.0f}, {high:.0f}]")
    one, two = (timing.summary(seconds)["value"] for seconds in found.values())
    assert two < 2 * one


def test_a_killed_process_ends_the_run_and_other_numbers_of_processes_resume_it(whole, tmp_path):
    """Two processes, one killed; four, asked to stop; then one. Each resumes where the last one was."""
    spec = SPECS["Lion"]
    checkpoint = RunStore(tmp_path).folder(spec) / CHECKPOINT
    slow = ("--checkpoint-every", "0")
    for count, number in ((2, signal.SIGKILL), (4, signal.SIGTERM)):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        processes = start(tmp_path, spec, count, *slow)
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            time.sleep(0.001)
        os.kill(processes[1].pid, number)
        codes = finish(processes)
        assert codes == ([2, -signal.SIGKILL] if number == signal.SIGKILL else [130] * 4), said(tmp_path)
        first, *others = said(tmp_path)
        words = (
            "another process of this run has ended"
            if number == signal.SIGKILL
            else "start it again to resume"
        )
        *progress, last = first.splitlines()  # a slow machine has shown how far it is
        assert words in last and not any("mlplib" in line for line in progress) and not any(others)
        assert RunStore(tmp_path).find(spec) is None
    assert run.main(written(tmp_path, spec)) == 0
    assert_same_run(tmp_path, spec, whole)


# --------------------------------------------------------------------------- bad input

DIFFERENCES = {
    "batch": (small(batch_size=50), {}, 3, "3 processes cannot share a batch of 50 evenly"),
    "code": (small(), {"code": 1}, 2, "process 1 has other code than process 0"),
    "data": (small(), {"data": 1}, 2, "process 1 has other data than process 0"),
}


@pytest.mark.parametrize("spec, change, count, words", DIFFERENCES.values(), ids=DIFFERENCES)
def test_what_does_not_fit_together_is_one_line_of_the_first_process(spec, change, count, words, tmp_path):
    # Without leaving, the first one to exit makes others abort, with lines of C++ after this one.
    assert share(tmp_path, spec, count, leaves=True, **change) == [2] * count
    first, *others = said(tmp_path)
    assert words in first and first.startswith("mlplib: ") and first.count("\n") == 1, first
    assert not any(others) and not list(tmp_path.glob("*/record.json"))


@pytest.mark.parametrize(
    "words",
    [
        "WORLD_SIZE=2",
        "WORLD_SIZE=two RANK=0 LOCAL_RANK=0",
        "WORLD_SIZE=0 RANK=0 LOCAL_RANK=0",
        "WORLD_SIZE=2 RANK=2 LOCAL_RANK=0",
        "WORLD_SIZE=2 RANK=0 LOCAL_RANK=-1",
        "WORLD_SIZE=2 RANK=0 LOCAL_RANK=0",
        "WORLD_SIZE=2 RANK=0 LOCAL_RANK=0 MASTER_ADDR=localhost MASTER_PORT=x",
    ],
)
def test_what_torchrun_does_not_set_is_one_line(words, tmp_path, monkeypatch, capsys):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for word in words.split():
        monkeypatch.setenv(*word.split("="))
    assert run.main(written(tmp_path, small())) == 2
    said = capsys.readouterr().err
    assert "is not as torchrun sets it: start the processes" in said and said.count("\n") == 1
    assert os.listdir(tmp_path) == ["spec.json"]


def test_a_run_that_another_process_does_is_not_waited_for(tmp_path):
    with RunStore(tmp_path).claim(small()):
        assert share(tmp_path, small(), 2) == [2, 2]
    assert "another process is doing" in said(tmp_path)[0] and not said(tmp_path)[1]


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "does not hold the settings of a run (Expecting property name"),
        ("[1]", "does not hold the settings of a run (a run is written as a JSON object"),
        ('{"kind": "walk"}', "unknown kind of run 'walk'"),
        ("[" * 100_000, "does not hold the settings of a run"),
        ("\udcff", "does not hold the settings of a run"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_holds_no_settings_is_one_line(text, words, tmp_path, capsys):
    path = tmp_path / "spec.json"
    if text is not None:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert run.main([str(path), "--runs", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert str(path) in line and words in line and line.count("\n") == 1


def test_runs_that_cannot_be_shared_are_refused():
    seen, two = open_data(SHAPES, DataSpec("shapes-16"), CPU), Execution(CPU, processes=Processes(0, 2))
    for model in (ModelSpec.parse("B-1/Wi-16", norm="batch"), ModelSpec.parse("B-1/Wi-16", dropout=0.1)):
        with pytest.raises(MlplibError, match="need whole batches: train it in one process"):
            Loop(small(model=model), seen, two)
    with pytest.raises(
        MlplibError, match="only a training can use several processes, not a run of kind probe"
    ):
        run.require_training(ProbeSpec(DataSpec("shapes-16"), small()))


def test_running_out_of_memory_ends_a_shared_run_since_the_others_would_wait(monkeypatch):
    how = Execution(CPU, micro_batch=8, compiled=False, log=pytest.fail)
    model = build_model(small().model, (16, 16, 3), 10)
    engine = Engine(model, list(model.parameters()), OptimizerSpec(), how, precision="fp32")
    engine.processes = Processes(0, 2)
    monkeypatch.setattr(engine, "_pass", lambda *batch: torch.empty(2**60))
    labels = torch.zeros(8, dtype=torch.int64)
    with pytest.raises(MlplibError, match="out of memory on cpu with 8 images per pass: use more processes"):
        engine.step(Batch(torch.zeros(8, 3, 16, 16), labels, labels, 1.0), [0.1])


@pytest.mark.parametrize("text", ["nan", "inf", "-1"])
def test_checkpoints_are_so_many_seconds_apart(text, tmp_path, capsys):
    assert run.main([*written(tmp_path, small()), f"--checkpoint-every={text}"]) == 2
    said = capsys.readouterr().err
    assert "checkpoint_every must be" in said and said.count("\n") == 1
    assert os.listdir(tmp_path) == ["spec.json"]


@pytest.mark.parametrize("words", [[""], ["spec.json", "--runs="], ["spec.json", "--tensorboard", ""]])
def test_a_path_is_not_empty(words, capsys):
    with pytest.raises(SystemExit):
        run.main(words)
    assert "invalid path value: ''" in capsys.readouterr().err


def test_processes_that_resume_from_different_places_are_refused(tmp_path):
    spec = small(model=ModelSpec.parse("B-2/Wi-16"))
    checkpoint = RunStore(tmp_path).folder(spec) / CHECKPOINT
    processes = start(tmp_path, spec, 2, "--checkpoint-every", "0")
    while not checkpoint.exists():
        time.sleep(0.001)
    os.kill(processes[1].pid, signal.SIGTERM)
    assert finish(processes) == [130, 130]
    codes = share(tmp_path, spec, 2, checkpoint=1)
    assert codes == [2, 2]
    assert "process 1 does not resume from the checkpoint of process 0" in said(tmp_path)[0]
    assert share(tmp_path, spec, 2) == [0, 0]
