"""The run queue: what is done first, and that nothing is lost or done twice however the work is stopped."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from unittest.mock import MagicMock

import pytest
import torch
from event_files import curves, recorded
from queues import (
    JOBS,
    RUNS,
    SMOKE,
    Killer,
    experiment,
    finished,
    looks,
    results,
    run_queue,
    several,
    start_command,
    start_quickly,
    storm,
)
from small_runs import ROOT, environment, leave, leave_checkpoint, record, small
from typer.testing import CliRunner

from mlplib import data, machine, progress
from mlplib.errors import MlplibError
from mlplib.specs import DataSpec, FilterSpec, ModelSpec, ProbeSpec, TimingSpec
from mlplib.store import RunStore, run_id
from mlpstudy import cli, queue, workers
from mlpstudy.evidence.records import seed_of
from mlpstudy.experiments import EXPERIMENTS
from mlpstudy.experiments import experiment as experiment_named
from mlpstudy.planning import Estimator, Planner
from mlpstudy.queue import Unit, in_order, units

STORMS = int(os.environ.get("MLPLIB_STORMS", 3))
"""How many storms of SIGKILLs the workers have to survive: ``MLPLIB_STORMS=20`` for all of them, a minute;
``MLPLIB_STORM=500,4,60`` makes each one of 500 runs, 4 workers and 60 kills."""

# --------------------------------------------------------------------------- order


def by_epochs(spec) -> float:
    """An estimate: a second per epoch, and a tenth where nothing is trained."""
    return float(getattr(spec, "epochs", 0.1))


def unit(name: str, *runs, value: float = 1.0) -> Unit:
    return Unit(name, runs, value)


@pytest.fixture
def planner(tmp_path):
    return Planner(RunStore(tmp_path / "runs"), "cpu")


def test_what_adds_most_for_its_cost_comes_first(planner):
    slow, quick = unit("slow", small(epochs=9)), unit("quick", small(epochs=2))
    rich = unit("rich", small(epochs=9, seed=1), value=9.0)
    found = in_order([slow, quick, rich], planner.missing, by_epochs)
    assert [u.experiment for u, _ in found] == ["rich", "quick", "slow"]
    found = in_order([slow, quick, rich], planner.missing, by_epochs, as_named=True)
    assert [u.experiment for u, _ in found] == ["slow", "quick", "rich"]


def test_shared_runs_are_paid_for_once(planner):
    """Alone, the units that share a long training cost the most; once one is chosen, the other costs next to
    nothing.
    """
    long, short = small(epochs=50), small(epochs=40, seed=7)
    first = unit("first", FilterSpec(long), value=2.0)
    second = unit("second", FilterSpec(long), ProbeSpec(DataSpec("shapes-16"), long, epochs=1))
    found = list(in_order([unit("other", short), second, first], planner.missing, by_epochs))
    assert [u.experiment for u, _ in found] == ["first", "second", "other"]
    runs = [spec for _, specs in found for spec in specs.values()]
    assert len(runs) == len(set(runs)) == 4
    assert all(runs.index(needed) < runs.index(spec) for spec in runs for needed in spec.needs())


def test_the_longest_chain_of_runs_comes_first(planner):
    alone, short, parent = small(epochs=8), small(epochs=1, seed=1), small(epochs=2, seed=2)
    quick, long = FilterSpec(parent), ProbeSpec(DataSpec("shapes-16"), parent, epochs=7)
    runs = {planner.id(spec): spec for spec in (alone, short, parent, quick, long)}
    found = queue.longest_first(runs, planner.id, by_epochs)
    assert list(found.values()) == [parent, alone, long, short, quick]


def test_the_longest_runs_come_first_where_there_is_time_for_all(use, tmp_path, monkeypatch):
    use(three=experiment(lambda seed: [small(epochs=epochs) for epochs in (1, 9, 4)]))
    monkeypatch.setattr(Estimator, "seconds", lambda self, spec: by_epochs(spec))
    begun = []

    def order(**how) -> list[int]:
        work = run_queue(tmp_path, ["three"], **how)
        monkeypatch.setattr(
            work, "_work", lambda: begun.append([s.epochs for s in work._unfinished.values()])
        )
        work.run()
        return begun.pop()

    assert order() == order(minutes=1) == [9, 4, 1]
    assert order(minutes=0.2) == order(as_named=True) == [1, 9, 4]


def test_finished_runs_are_not_done_again(planner):
    trained = small()
    look, probe = FilterSpec(trained), ProbeSpec(DataSpec("shapes-16"), trained)
    leave(planner.store, [record(look)])
    ((_, runs),) = in_order([unit("a", look, probe)], planner.missing, by_epochs)
    assert list(runs.values()) == [trained, probe]
    leave(planner.store, [record(trained), record(probe)])
    assert list(in_order([unit("a", look, probe)], planner.missing, by_epochs)) == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_units_hold_every_run_of_an_experiment_once(name):
    found = units([name], SMOKE, (0, 1))
    runs = [spec for each in found for spec in each.runs]
    assert sorted(map(repr, runs)) == sorted(map(repr, experiment_named(name).runs(SMOKE, (0, 1))))
    value = {0: 0.0, 1: 0.0}
    for each in found:
        (seed,) = {seed_of(spec) for spec in each.runs}
        assert len({spec.data_name() for spec in each.runs}) == 1 and each.value > 0
        value[seed] += each.value
    assert value[1] == pytest.approx(value[0] / 2), "a second seed adds half as much"


# --------------------------------------------------------------------------- doing the runs


@pytest.fixture
def use(monkeypatch):
    """Let queues know experiments made by hand, start workers quickly, and estimate without measuring."""
    start_quickly()
    monkeypatch.setattr(Estimator, "seconds", lambda self, spec: 0.5)
    return lambda **experiments: monkeypatch.setattr(queue, "experiment", experiments.__getitem__)


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """The records that one worker leaves of the runs of :func:`queues.several`."""
    folder = tmp_path_factory.mktemp("alone")
    assert finished(folder, start_command(folder))["left"] == {}
    assert len(results(folder)) == RUNS
    return results(folder)


def test_missing_runs_are_done_and_the_next_time_none(use, tmp_path):
    use(looks=experiment(looks))
    lines = []
    first = run_queue(tmp_path, ["looks"], log=lines.append).run()
    assert len(first.done) == 3 and not (first.left or first.failed or first.trouble or first.stopped)
    assert sum("done in" in line for line in lines) == 3
    kept = results(tmp_path)
    assert set(kept) == {run_id(spec) for spec in looks(0)}
    assert all(values["status"] == "completed" for values in kept.values())
    again = run_queue(tmp_path, ["looks"])
    assert again.run().done == [] and results(tmp_path) == kept and not again.crew


def test_published_runs_are_left_out_unless_another_run_reads_their_weights(use, tmp_path):
    use(looks=experiment(looks))
    trained, look, probe = (run_id(spec) for spec in looks(0))
    report = run_queue(tmp_path, ["looks"], published={trained, look}).run()
    assert report.done == [trained, probe] and report.left == {}
    report = run_queue(tmp_path / "all", ["looks"], published={trained, look, probe}).run()
    assert report.done == [] and report.left == {} and not (tmp_path / "all").exists()


@pytest.mark.timeout(600 + 10 * RUNS)
@pytest.mark.parametrize("seed", range(STORMS))
def test_four_workers_killed_at_random_leave_the_records_of_one(use, tmp_path, alone, seed):
    use(several=experiment(several))
    kills, done = storm(tmp_path, seed)
    assert kills >= 3, "it was over too soon"
    assert len(done) == len(set(done)), "a run was done twice"
    assert results(tmp_path) == alone


@pytest.mark.alone
def test_the_time_beside_training_is_linear_in_the_number_of_runs(tmp_path, monkeypatch):
    """``-s`` shows it: of a worker's seconds per training, those that its steps do not take."""
    start_quickly()
    beside = []
    for number in (JOBS, RUNS // 4, RUNS // 2, RUNS):  # the first only starts what starts workers
        tiny = experiment(lambda seed, number=number: [small(epochs=1, seed=i) for i in range(number)])
        monkeypatch.setattr(queue, "experiment", {"tiny": tiny}.__getitem__)
        work = run_queue(tmp_path / f"{len(beside)}", ["tiny"], jobs=JOBS)
        work.planner.estimator.seconds(small())  # which measures the machine once
        begin = time.monotonic()
        assert len(work.run().done) == number
        each = JOBS * (time.monotonic() - begin) / number
        beside.append(each - sum(record.compute["seconds"] for record in work.store.records()) / number)
        print(f"\n{number} runs by {JOBS}: {1e3 * each:.0f} ms a run, {1e3 * beside[-1]:.0f} without steps")
    assert beside[-1] < 1.5 * beside[1]


def test_two_commands_on_one_folder_share_the_work(tmp_path, alone):
    """As on two machines: neither waits for a run of the other while there is something else to do."""
    commands = [start_command(tmp_path, jobs=2) for _ in range(2)]
    reports = [finished(tmp_path, command) for command in commands]
    assert all(report["left"] == {} for report in reports)
    assert sorted(id for report in reports for id in report["done"]) == sorted(alone), "each run done once"
    assert results(tmp_path) == alone


@pytest.mark.parametrize(
    ("device", "threads", "cores", "memory", "expected"),
    [
        ("cpu", 8, 8, 64, 8),
        ("cpu", 8, 2, 64, 2),
        ("cpu", 8, 8, 7, 2),
        ("cpu", 2, 2, 1, 1),
        ("cuda", 8, 8, 64, 1),
    ],
)
def test_a_cpu_does_a_run_per_core_as_memory_allows(monkeypatch, device, threads, cores, memory, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(queue, "cores", lambda: cores)
    monkeypatch.setattr(machine, "free_memory", lambda device: memory * 2**30)
    assert queue.runs_at_once(torch.device(device)) == expected


@pytest.mark.parametrize(
    ("jobs", "measured", "expected"), [(1, False, 60), (1000, False, 60), (1000, True, 10), (2, True, 15)]
)
def test_more_jobs_than_runs_save_no_time(tmp_path, monkeypatch, jobs, measured, expected):
    """Three runs of 20 s by the estimate; one that was done took half as long as estimated."""
    work = run_queue(tmp_path, [], jobs=jobs)
    monkeypatch.setattr(work.planner.estimator, "seconds", lambda spec: 20.0)
    if measured:
        work._estimated, work._spent = 20.0, 10.0
    work._unfinished = {str(seed): small(seed=seed) for seed in range(3)}
    assert work._time_left() == expected


class Idle:
    """A worker that takes a run and never reports."""

    def __init__(self, settings):
        self.spec = None

    def start(self, spec):
        self.spec = spec


def test_a_resumed_run_says_how_long_the_others_take_by_what_was_left_of_it(tmp_path, monkeypatch):
    """The last of ten epochs took a tenth of the estimate for all, so the next run will take as estimated."""
    resumed, other = small(epochs=10), small(seed=1)
    work = run_queue(tmp_path, [])
    monkeypatch.setattr(queue, "Worker", Idle)
    leave_checkpoint(work.store, resumed, 9)
    monkeypatch.setattr(work.planner.estimator, "seconds", lambda spec: 20.0)
    work._unfinished = {run_id(spec): spec for spec in (resumed, other)}
    assert work._time_left() == pytest.approx(0.1 * 20.0 + 20.0), "before the first run has finished, too"
    work._start_runs()
    assert [worker.spec for worker in work.crew] == [resumed]
    work._ended(resumed, "done", 2.0)
    assert work._time_left() == pytest.approx(20.0)


def test_epochs_in_a_checkpoint_are_not_counted_as_left(use, tmp_path, monkeypatch):
    begun = small(epochs=10)
    use(both=experiment(lambda seed: [begun, small(seed=9)]))
    monkeypatch.setattr(Estimator, "seconds", lambda self, spec: 20.0)
    work = run_queue(tmp_path, ["both"], minutes=1, begin=time.monotonic() - 60)
    leave_checkpoint(work.store, begun, 9)
    assert work.run().left["both"] == (2, pytest.approx(22.0))


@pytest.mark.parametrize(("outcome", "last"), [("done", "done"), ("stopped", "50 %"), ("died", "50 %")])
def test_only_the_progress_of_a_finished_run_ends_with_done(tmp_path, monkeypatch, capfd, outcome, last):
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0)
    monkeypatch.setattr(Estimator, "seconds", lambda self, spec: 1.0)
    work = run_queue(tmp_path, [], progress=progress.plain)
    worker = MagicMock(asked_to_stop=False)
    worker.spec, worker.messages.return_value = small(), [("began", 2), ("advanced", 1), (outcome, 1.0)]
    work.crew, work._to_do = [worker], {run_id(small()): 1.0}
    work._receive(worker)
    assert capfd.readouterr().err.splitlines()[-1] == f"{small().slug()}: {last}, 0 s"


@contextmanager
def gone(total, label):
    """The progress of a terminal that has been closed."""
    with ExitStack() as stack:
        stack.callback(MagicMock(side_effect=BrokenPipeError))
        yield MagicMock()


def test_no_worker_is_left_when_its_progress_cannot_be_shown(use, tmp_path):
    use(long=experiment(lambda seed: [small(seed=each, epochs=6000, batch_size=16) for each in (1, 2)]))
    work = run_queue(tmp_path, ["long"], jobs=2, progress=gone)
    threading.Thread(target=stop_when_busy, args=(work,), daemon=True).start()
    with pytest.raises(BrokenPipeError):
        work.run()
    assert not work.crew and not multiprocessing.active_children()


def stop_when_busy(work):
    """Ask the work to stop once both runs have a bar."""
    while len(work._bars) < 2:
        time.sleep(0.01)
    work.stop.signaled = True


class Pipe:
    """The worker's end of a connection: runs to do, then None; keeps what was reported."""

    def __init__(self, *specs):
        self.specs, self.sent = iter((*specs, None)), []

    def recv(self):
        return next(self.specs)

    def send(self, message):
        self.sent.append(message)


def test_a_worker_keeps_to_its_share_of_the_cores_and_times_with_all(tmp_path):
    timed = TimingSpec(ModelSpec.parse("B-1/Wi-16"), (1,), 0.1, image_size=16, classes=10)
    before, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(2)
    try:
        workers.work(Pipe(small(), timed, small(seed=1)), workers.Settings(tmp_path, "cpu", threads=1))
    finally:
        torch.set_num_threads(before)
        signal.signal(signal.SIGTERM, handler)
    threads = {r.spec: r.environment["cpu_threads"] for r in RunStore(tmp_path).records()}
    assert threads == {small(): 1, small(seed=1): 1, timed: 2}


def test_a_process_whose_device_may_be_broken_does_no_further_runs(tmp_path, monkeypatch):
    errors = iter(
        [MlplibError("too large"), RuntimeError("CUDA error: an illegal memory access was encountered")]
    )

    def record(self, spec):
        raise next(errors)

    monkeypatch.setattr(workers.Executor, "record", record)
    pipe, before = Pipe(small(), small(seed=1), small(seed=2)), signal.getsignal(signal.SIGTERM)
    try:
        workers.work(pipe, workers.Settings(tmp_path, "cpu", threads=torch.get_num_threads()))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [message.kind for message in pipe.sent] == ["failed", "broke"]
    assert pipe.recv() == small(seed=2)


def test_a_run_that_another_process_holds_is_looked_at_again(use, tmp_path):
    use(looks=experiment(lambda seed: [small(), FilterSpec(small()), small(seed=1)]))
    work, held = run_queue(tmp_path, ["looks"]), threading.Event()

    def hold():
        with RunStore(tmp_path / "runs").claim(small()):
            held.set()
            while run_id(small(seed=1)) not in work.report.done:
                time.sleep(0.05)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    report = work.run()
    thread.join()
    assert report.done == [run_id(small(seed=1)), run_id(small()), run_id(FilterSpec(small()))]


@pytest.mark.alone
def test_the_deadline_is_kept_and_what_is_left_is_reported(use, tmp_path):
    long = small(epochs=6000, batch_size=16)
    use(long=experiment(lambda seed: [small(), FilterSpec(long)]))
    begin = time.monotonic()
    report = run_queue(tmp_path, ["long"], minutes=9 / 60, jobs=2).run()
    assert time.monotonic() - begin < 9 and not report.stopped and report.trouble is None
    ((number, seconds),) = report.left.values()
    assert report.done == [run_id(small())] and number == 2 and seconds > 0
    assert (tmp_path / "runs" / run_id(long) / "checkpoint.pt").exists()


def test_the_minutes_count_from_when_the_command_was_typed(use, tmp_path):
    use(looks=experiment(looks))
    report = run_queue(tmp_path, ["looks"], minutes=1, begin=time.monotonic() - 60).run()
    assert report.done == [] and report.left["looks"][0] == 3


def test_what_does_not_fit_waits_for_what_does_and_is_begun_at_last(use, tmp_path, monkeypatch):
    long = small(epochs=60_000, batch_size=16)
    use(both=experiment(lambda seed: [long, small(), small(seed=9)]))
    monkeypatch.setattr(Estimator, "seconds", lambda self, spec: 600.0 if spec.epochs > 9 else 0.1)
    for seconds in (15, 60):
        report = run_queue(tmp_path, ["both"], minutes=seconds / 60, as_named=True).run()
        if report.done:  # else the machine is so busy that no worker has started in this time
            break
    assert (
        sorted(report.done) == sorted([run_id(small()), run_id(small(seed=9))])
        and report.left["both"][0] == 1
    )
    assert (tmp_path / "runs" / run_id(long) / "checkpoint.pt").exists()


def test_what_is_left_of_a_resumed_run_fits_where_the_whole_run_does_not(tmp_path, monkeypatch):
    resumed, other = small(epochs=10), small(seed=1)
    work = run_queue(tmp_path, [], minutes=1)
    monkeypatch.setattr(work.planner.estimator, "seconds", lambda spec: 200.0)
    work._unfinished = {run_id(spec): spec for spec in (other, resumed)}
    assert work._next() == other, "none fits, so the first that can be resumed another time"
    leave_checkpoint(work.store, resumed, 9)
    assert work._next() == resumed


def test_a_killed_worker_is_named_and_another_takes_the_run_over(use, tmp_path, alone):
    use(several=experiment(several))
    lines: list[str] = []
    work = run_queue(tmp_path, ["several"], log=lines.append, options={"checkpoint_every": 0.05})
    Killer(work, 1)
    report = work.run()
    assert len(report.done) >= 9 and not report.failed
    ways = [f"its process was killed by SIGKILL; {then}" for then in (RESUMED, AGAIN)]
    assert any(line.endswith(way) for line in lines for way in ways)
    assert results(tmp_path) == alone


RESUMED, AGAIN = "continuing from its last checkpoint", "starting it again"


@pytest.mark.parametrize(("epochs", "then"), [(None, AGAIN), (0, RESUMED), (3, RESUMED)])
def test_a_killed_run_is_said_to_continue_only_from_a_checkpoint(tmp_path, epochs, then):
    """Probes, evaluations and a training's first minute have none."""
    lines: list[str] = []
    work = run_queue(tmp_path, [], log=lines.append)
    if epochs is not None:
        leave_checkpoint(work.store, small(), epochs)
    work._ended(small(), "died", "was killed by SIGKILL")
    assert lines == [f"{run_id(small())}: its process was killed by SIGKILL; {then}"]


def test_curves_of_killed_workers_have_every_epoch_once(use, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed (pip install tensorboard)")
    use(several=experiment(several))
    options = {"checkpoint_every": 0.05, "tensorboard": tmp_path / "curves"}
    work = run_queue(tmp_path, ["several"], jobs=2, options=options)
    killer = Killer(work, 1)
    assert not work.run().failed and killer.killed
    records = {record.id: record for record in work.store.records() if record.spec.kind == "train"}
    found = {folder.name: curves(folder) for folder in (tmp_path / "curves").iterdir()}
    assert found == {id: recorded(record) for id, record in records.items()}


def test_a_run_that_kills_its_workers_is_left_out_and_the_others_are_done(use, tmp_path):
    deadly = small(epochs=6000, batch_size=16)
    use(both=experiment(lambda seed: [deadly, FilterSpec(deadly), small()]))
    work = run_queue(tmp_path, ["both"], as_named=True)
    Killer(work, 2)
    report = work.run()
    assert report.done == [run_id(small())] and report.left["both"][0] == 2
    assert report.failed[run_id(deadly)] == "its process was killed by SIGKILL, again"
    assert report.failed[run_id(FilterSpec(deadly))] == f"needs {run_id(deadly)}, which failed"


def test_a_run_that_cannot_be_done_is_named_and_three_end_the_work(use, tmp_path):
    bad = [small(batch_size=300 + i) for i in range(4)]
    use(bad=experiment(lambda seed: [bad[0], small()]), worse=experiment(lambda seed: bad))
    report = run_queue(tmp_path, ["bad"]).run()
    assert (
        report.done == [run_id(small())] and "a batch of 300 is larger than" in report.failed[run_id(bad[0])]
    )
    report = run_queue(tmp_path, ["worse"]).run()
    assert len(report.failed) == 3
    assert "3 runs failed one after the other, the last one because: a batch" in report.trouble


def test_data_that_are_not_available_leave_their_runs_out(use, tmp_path, monkeypatch):
    use(looks=experiment(lambda seed: [*looks(seed), small(data=DataSpec("cifar10"))]))
    load = data.load

    def refuse(name, progress=None):
        if name == "cifar10":
            raise MlplibError("cannot get cifar10")
        return load(name, progress)

    monkeypatch.setattr(data, "load", refuse)
    report = run_queue(tmp_path, ["looks"]).run()
    assert len(report.done) == 3 and not report.failed
    assert report.left_out == {"cifar10": ("cannot get cifar10", 1)}


def test_a_full_disk_is_named_and_finished_runs_are_kept(use, tmp_path, alone):
    """No file may be longer than 20,000 bytes: records fit, weights do not."""
    program = [sys.executable, str(ROOT / "tests/helpers/queues.py"), str(tmp_path), "20000"]
    subprocess.run(program, env=environment(), capture_output=True)
    (report,) = (json.loads(path.read_text()) for path in tmp_path.glob("*.json"))
    assert report["left"]["several"][0] == 10 and len(report["failed"]) >= 3
    assert "3 runs failed one after the other" in report["trouble"]
    assert "check that the folder is writable and the disk not full" in report["trouble"]
    use(several=experiment(several))
    assert run_queue(tmp_path, ["several"]).run().left == {} and results(tmp_path) == alone


def test_what_is_timed_has_the_device_to_itself(use, tmp_path, monkeypatch):
    timing = TimingSpec(ModelSpec.parse("B-1/Wi-16"), (1, 2), 0.2, image_size=16, classes=10)
    runs = [small(epochs=40, seed=seed) for seed in range(3)]
    use(several=experiment(lambda seed: [runs[0], timing, *runs[1:]]))
    together = []
    work = run_queue(tmp_path, ["several"], jobs=2)
    start = workers.Worker.start

    def watched(worker, spec):
        together.append([spec, *(w.spec for w in work.crew if w.spec is not None)])
        start(worker, spec)

    monkeypatch.setattr(workers.Worker, "start", watched)
    report = work.run()
    assert len(report.done) == 4 and not report.failed
    assert max(map(len, together)) == 2
    assert all(len(group) == 1 for group in together if timing in group)


def written(folder) -> float:
    """When a checkpoint was last written, or 0."""
    with suppress(FileNotFoundError):
        return max((path.stat().st_mtime for path in folder.glob("runs/*/checkpoint.pt")), default=0.0)
    return 0.0


def test_stopped_again_and_again_the_work_ends_as_if_left_alone(use, tmp_path, alone):
    """By Ctrl-C, politely, or killed: the records are the same to the last bit."""
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = written(tmp_path)
        process = start_command(tmp_path, jobs=2)
        while written(tmp_path) <= before:  # so that it is in the middle of its runs
            time.sleep(0.02)
        os.kill(process.pid, how)
        if how == signal.SIGKILL:
            process.join()
        else:
            report = finished(tmp_path, process)
            assert report["stopped"] and report["left"] and not report["failed"]
    use(several=experiment(several))
    assert run_queue(tmp_path, ["several"]).run().left == {}
    assert results(tmp_path) == alone


@pytest.mark.alone
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_workers_with_checkpoints(use, tmp_path, how):
    runs = [small(epochs=6000, batch_size=16, seed=seed) for seed in range(2)]
    use(long=experiment(lambda seed: runs))
    work = run_queue(tmp_path, ["long"], jobs=2)  # which write a checkpoint once a minute, or when they stop

    def send():
        while len(work._bars) < 2:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), how)

    threading.Thread(target=send).start()
    report = work.run()
    assert report.stopped and not report.failed and report.left["long"][0] == 2 and not work.crew
    assert all((tmp_path / "runs" / run_id(spec) / "checkpoint.pt").exists() for spec in runs)


# --------------------------------------------------------------------------- the command


def run(*arguments: str):
    return CliRunner().invoke(cli.app, ["run", *arguments], env={"COLUMNS": "120"})


def test_a_folder_that_cannot_be_written_to_is_one_line(use):
    use(**{"label-smoothing": experiment(looks)})
    done = run("label-smoothing", "-P", "smoke", "--jobs", "2", "--runs", "/proc/mlplib-runs")
    assert isinstance(done.exception, MlplibError) and "cannot write" in str(done.exception)


def test_the_command_says_what_it_did_and_what_is_left(use, tmp_path):
    use(**{"label-smoothing": experiment_named("label-smoothing")})
    arguments = ["label-smoothing", "-P", "smoke", "--seeds", "0", "--jobs", "2"]
    arguments += ["--runs", str(tmp_path / "runs")]
    done = run(*arguments, "--minutes", "0.0001")
    assert done.exit_code == 0 and "0 runs done, 6 left" in done.output and "label-smoothing" in done.output
    done = run(*arguments, "--minutes", "5")
    assert done.exit_code == 0, done.output
    assert "6 runs done, none left" in done.output and "mlplib results publish" in done.output
    assert "label-smoothing, profile smoke" in done.output, "the table"
