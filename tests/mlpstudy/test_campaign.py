"""Campaigns: what is done next, how many at once, what goes home, and that nothing that was won is lost."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from multiprocessing import forkserver

import numpy as np
import pytest
from campaigns import SMOKE, campaign, experiment, results, several_seconds, use
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import ROOT, environment, record, small
from small_runs import workers as forking
from typer.testing import CliRunner

from mlplib import data
from mlplib.errors import MlplibError
from mlplib.specs import DataSpec, FilterSpec, ModelSpec, ProbeSpec, TimingSpec
from mlplib.store import RunStore, run_id
from mlpstudy import cli
from mlpstudy.campaign import crowd, driver, order, parcel, workers
from mlpstudy.campaign.crowd import Crowd, Window
from mlpstudy.campaign.parcel import Item, Parcel, ParcelFull
from mlpstudy.evidence.records import seed_of, to_line
from mlpstudy.experiments import EXPERIMENTS
from mlpstudy.profiles import PROFILES

# --------------------------------------------------------------------------- order


def nothing(spec) -> bool:
    return False


def by_epochs(spec) -> float:
    """An estimate: a second an epoch, and a tenth for looks."""
    return float(getattr(spec, "epochs", 0.1))


def unit(name: str, *runs, value: float = 1.0, seed: int = 0) -> order.Unit:
    return order.Unit(name, seed, "shapes-16", runs, value)


def test_what_adds_most_for_its_cost_comes_first():
    slow, quick = unit("slow", small(epochs=9)), unit("quick", small(epochs=2))
    rich = unit("rich", small(epochs=9, seed=1), value=9.0)
    found = order.in_order([slow, quick, rich], nothing, nothing, by_epochs)
    assert [u.experiment for u, _ in found] == ["rich", "quick", "slow"]
    found = order.in_order([slow, quick, rich], nothing, nothing, by_epochs, as_given=True)
    assert [u.experiment for u, _ in found] == ["slow", "quick", "rich"]


def test_what_is_shared_is_paid_for_once():
    """Alone, those that share a long training cost the most; once it is chosen, the other costs next to
    nothing.
    """
    long, short = small(epochs=50), small(epochs=40, seed=7)
    first = unit("first", FilterSpec(long), value=2.0)
    second = unit("second", FilterSpec(long), ProbeSpec(DataSpec("shapes-16"), long, epochs=1))
    found = list(order.in_order([unit("other", short), second, first], nothing, nothing, by_epochs))
    assert [u.experiment for u, _ in found] == ["first", "second", "other"]
    runs = [spec for _, specs in found for spec in specs]
    assert len(runs) == len(set(runs)) == 4
    assert all(runs.index(needed) < runs.index(spec) for spec in runs for needed in spec.needs())


def test_what_is_published_is_not_done_again_unless_somebody_reads_its_weights():
    trained = small()
    look, probe = FilterSpec(trained), ProbeSpec(DataSpec("shapes-16"), trained)
    ((_, runs),) = order.in_order(
        [unit("a", trained, look, probe)], {trained, look}.__contains__, nothing, by_epochs
    )
    assert runs == (trained, probe)  # whose weights are not published
    ((_, runs),) = order.in_order(
        [unit("a", trained, look, probe)], {trained, look}.__contains__, {trained}.__contains__, by_epochs
    )
    assert runs == (probe,)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_units_hold_every_run_of_an_experiment_once(name):
    found = order.units([name], SMOKE, (0, 1))
    runs = [spec for each in found for spec in each.runs]
    from mlpstudy.experiments import experiment as module

    assert sorted(map(repr, runs)) == sorted(map(repr, module(name).runs(SMOKE, (0, 1))))
    assert {each.seed for each in found} == {0, 1}
    for each in found:
        assert {seed_of(spec) for spec in each.runs} == {each.seed}
        assert {spec.data_name() for spec in each.runs} == {each.data} and each.value > 0
    first, second = (sum(u.value for u in found if u.seed == seed) for seed in (0, 1))
    assert second == pytest.approx(first / 2), "a second seed adds half as much"


def test_short_runs_get_five_seeds_and_others_the_profiles():
    gpu = PROFILES["gpu"]
    assert order.seeds_for(gpu) == (0, 1, 2, 3, 4) and order.seeds_for(PROFILES["laptop"]) == (0,)
    look = unit("a", FilterSpec(small(epochs=61, seed=3)), seed=3)
    assert not order.short_enough(look, gpu, by_epochs), "what it reads from is long"
    assert order.short_enough(unit("a", small(epochs=59, seed=3), seed=3), gpu, by_epochs)
    assert order.short_enough(unit("a", small(epochs=99)), gpu, by_epochs)


# --------------------------------------------------------------------------- how many at once


@given(limit=st.integers(1, 6), best=st.integers(1, 8), gain=st.floats(1.15, 3))
def test_runs_are_added_for_as_long_as_that_pays(limit, best, gain):
    """The device gains with each run up to ``best`` of them, then no more."""
    found, rates = Crowd(limit), [gain ** min(count, best) for count in range(20)]
    for _ in range(20):
        count = found.wanted("kind")
        assert 1 <= count <= limit
        if found.measuring("kind", count):
            found.measured("kind", count, rates[count])
    assert found.wanted("kind") == found.decided["kind"] == min(best, limit)


def test_kinds_are_learned_apart():
    found = Crowd(4)
    found.measured("a", 1, 100.0)
    found.measured("a", 2, 101.0)
    assert found.wanted("a") == 1 and found.wanted("b") == 1
    assert not found.measuring("a", 1) and found.measuring("b", 1) and not found.measuring("b", 2)


def test_a_rate_is_that_of_the_same_runs_past_their_first_steps():
    now, enough = [0.0], crowd.SETTLE_STEPS
    window = Window(lambda: now[0])

    def rate(seconds: float, **steps: int):
        now[0] += seconds
        return window.rate(steps)

    assert rate(0, a=enough - 1) is None
    assert rate(100, a=enough) is None, "the window begins only now"
    assert rate(1, a=enough + 10) is None
    assert rate(3, a=enough + 40) == pytest.approx(10)
    assert rate(1, a=enough + 40) is None
    assert rate(9, a=enough + 90, b=0) is None, "another set of runs"
    assert rate(9, a=enough + 190, b=enough) is None
    assert rate(5, a=enough + 240, b=enough + 25) == pytest.approx(15)


# --------------------------------------------------------------------------- parcels


def item(epochs: int = 3, size: int = 0, seed: int = 0) -> Item:
    made = record(small(epochs=epochs, seed=seed))
    noise = np.random.default_rng(epochs).bytes(size)  # which does not get smaller by packing
    return Item(made, {"filters.npy": noise} if size else {})


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=8), again=st.integers(0, 8))
def test_a_parcel_is_read_back_in_files_of_the_size_allowed(tmp_path_factory, sizes, again):
    folder = tmp_path_factory.mktemp("parcel")
    items = [item(epochs=1 + i, size=size) for i, size in enumerate(sizes)]
    for i, each in enumerate(items):
        if i == again:  # another campaign goes on with it
            box = Parcel(folder, "gpu", max_bytes=6000)
        elif i == 0:
            box = Parcel(folder, "gpu", max_bytes=6000)
        box.add(each)
        box.add(each)
    name, found = parcel.read(folder)
    assert name == "gpu" and [f.record for f in found] == [i.record for i in items]
    assert [dict(f.artifacts) for f in found] == [dict(i.artifacts) for i in items]
    paths = sorted(folder.iterdir())
    assert all(path.stat().st_size <= 6000 for path in paths), "and nothing else lies there"
    assert {path.suffix for path in paths} == {".zip"}


def test_a_full_parcel_says_so_and_keeps_what_it_has(tmp_path):
    box = Parcel(tmp_path, "gpu", max_bytes=6000, max_files=2)
    with pytest.raises(ParcelFull, match=r"is full \(2 files\): merge it"):
        for i in range(9):
            box.add(item(epochs=1 + i, size=2000))
    assert len(parcel.read(tmp_path)[1]) == len(box.ids) >= 2
    with pytest.raises(ParcelFull, match="takes more than"):
        Parcel(tmp_path / "other", "gpu", max_bytes=6000).add(item(size=9000))


def test_a_damaged_parcel_and_one_of_another_profile_are_refused(tmp_path):
    Parcel(tmp_path, "gpu").add(item(size=100))
    with pytest.raises(MlplibError, match="holds records of profile gpu, not laptop: choose another folder"):
        Parcel(tmp_path, "laptop")
    path = tmp_path / "records-0.zip"
    whole = path.read_bytes()
    for damaged in (whole[:-30], whole[:40] + bytes(40) + whole[80:], b""):
        path.write_bytes(damaged)
        with pytest.raises(MlplibError, match=r"records-0\.zip is damaged \(.*\): copy it again"):
            parcel.read(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("parcel.json", '{"format": 2, "profile": "gpu"}')
    with pytest.raises(MlplibError, match="format 2, and this version reads 1"):
        parcel.read(tmp_path)
    with pytest.raises(MlplibError, match=r"no records-<number>\.zip"):
        parcel.read(tmp_path / "nowhere")


# --------------------------------------------------------------------------- whole campaigns


@pytest.fixture
def quick(monkeypatch):
    """Workers start from a process that has everything imported."""
    # Started here and not with a campaign's first worker: the server would inherit the signals blocked there.
    forking()
    forkserver.ensure_running()
    monkeypatch.setattr(workers, "CONTEXT", "forkserver")


def looks(seed: int) -> list:
    trained = small(seed=seed)
    return [trained, FilterSpec(trained), ProbeSpec(DataSpec("shapes-16"), trained, epochs=2)]


def test_a_campaign_does_what_is_missing_and_the_next_one_nothing(quick, tmp_path, monkeypatch):
    use(monkeypatch, looks=experiment(looks))
    said = []
    first = campaign(tmp_path, ["looks"], log=said.append).run()
    assert len(first.done) == 3 and not (first.left or first.failed or first.trouble or first.stopped)
    assert sum("done in" in line for line in said) == 3
    kept = results(tmp_path)
    assert set(kept) == {run_id(spec) for spec in looks(0)} and all(
        r["status"] == "completed" for r in kept.values()
    )
    assert [name for values in kept.values() for name in values if name.endswith(".npy")] == ["filters.npy"]
    assert campaign(tmp_path, ["looks"]).run().done == [] and results(tmp_path) == kept


def test_what_was_finished_but_not_handed_in_is_handed_in(quick, tmp_path, monkeypatch):
    use(monkeypatch, looks=experiment(looks))
    campaign(tmp_path, ["looks"]).run()
    kept = results(tmp_path)
    shutil.rmtree(tmp_path / "out")
    assert campaign(tmp_path, ["looks"]).run().done == [] and results(tmp_path) == kept


def test_published_runs_are_not_done_and_what_is_read_again_is_compared(quick, tmp_path, monkeypatch):
    """On a machine whose store is empty the training behind a probe is done again, for its weights. Its
    record goes along only if it is another than the published one, so that merging can refuse it.
    """
    use(monkeypatch, looks=experiment(looks))
    campaign(tmp_path, ["looks"]).run()
    store = RunStore(tmp_path / "runs")
    trained, look, probe = map(store.find, looks(0))
    for published, exported in (([trained, look], {run_id(probe)}), ([record(trained.spec)], set())):
        folder = tmp_path / f"with {len(published)}"
        (folder / "results").mkdir(parents=True)
        (folder / "results" / "runs.jsonl").write_bytes(b"\n".join(map(to_line, published)))
        assert campaign(folder, ["looks"]).run().left == []
        assert set(results(folder)) == (exported or {run_id(trained), run_id(look), run_id(probe)})


def test_time_is_kept_and_what_is_left_is_told(quick, tmp_path, monkeypatch):
    use(monkeypatch, several=experiment(several_seconds))
    begin = time.monotonic()
    report = campaign(tmp_path, ["several"], minutes=4 / 60).run()
    assert time.monotonic() - begin < 4.5 and not report.stopped and report.trouble is None
    (left,) = report.left
    assert left.experiment == "several" and 1 <= left.runs <= 6 and left.seconds > 0
    assert len(report.done) + left.runs == 6


def test_what_does_not_fit_waits_for_what_does_and_is_begun_at_last(quick, tmp_path, monkeypatch):
    use(
        monkeypatch, both=experiment(lambda seed: [small(epochs=6000, batch_size=16), small(), small(seed=9)])
    )
    monkeypatch.setattr(driver.Campaign, "_seconds", lambda self, spec: 600.0 if spec.epochs > 9 else 0.5)
    report = campaign(tmp_path, ["both"], minutes=12 / 60, as_given=True).run()
    assert (
        sorted(report.done) == sorted([run_id(small()), run_id(small(seed=9))]) and report.left[0].runs == 1
    )
    assert (tmp_path / "runs" / run_id(small(epochs=6000, batch_size=16)) / "checkpoint.pt").exists()


def test_a_killed_worker_is_named_and_its_run_goes_on(quick, tmp_path, monkeypatch):
    use(monkeypatch, several=experiment(lambda seed: several_seconds(seed)[:1]))
    said: list[str] = []
    work = campaign(tmp_path, ["several"], log=said.append)
    kill_when_busy(work)
    report = work.run()
    assert len(report.done) == 1 and not report.failed
    assert any("its process was killed by SIGKILL; going on from its last checkpoint" in s for s in said)
    alone = campaign(tmp_path / "alone", ["several"])
    alone.run()
    assert results(tmp_path) == results(tmp_path / "alone")


def kill_when_busy(work, times: int = 1) -> None:
    """Kill the campaign's worker a moment after it has begun a run, ``times`` times."""

    def kill():
        killed = set()
        while len(killed) < times:
            for worker in list(getattr(work, "crew", [])):
                if worker.spec is not None and worker.steps > 0 and worker.process.pid not in killed:
                    killed.add(worker.process.pid)
                    os.kill(worker.process.pid, signal.SIGKILL)
            time.sleep(0.02)

    threading.Thread(target=kill, daemon=True).start()


def test_a_run_that_kills_its_workers_is_given_up_and_the_others_are_done(quick, tmp_path, monkeypatch):
    deadly = small(epochs=6000, batch_size=16)
    use(monkeypatch, both=experiment(lambda seed: [deadly, FilterSpec(deadly), small()]))
    work = campaign(tmp_path, ["both"], as_given=True)
    kill_when_busy(work, times=2)
    report = work.run()
    assert report.done == [run_id(small())] and report.left[0].runs == 2
    assert report.failed[run_id(deadly)] == "its process was killed by SIGKILL, again"
    assert report.failed[run_id(FilterSpec(deadly))] == f"needs {run_id(deadly)}, which failed"


def test_a_run_that_cannot_be_done_is_named_and_three_end_the_campaign(quick, tmp_path, monkeypatch):
    bad = [small(batch_size=300 + i) for i in range(4)]
    use(monkeypatch, bad=experiment(lambda seed: [bad[0], small()]), worse=experiment(lambda seed: bad))
    report = campaign(tmp_path, ["bad"]).run()
    assert (
        report.done == [run_id(small())] and "a batch of 300 is larger than" in report.failed[run_id(bad[0])]
    )
    report = campaign(tmp_path, ["worse"]).run()
    assert (
        len(report.failed) == 3
        and "3 runs failed one after the other, the last one because" in report.trouble
    )


def test_data_that_cannot_be_had_leave_their_runs_out(quick, tmp_path, monkeypatch):
    use(monkeypatch, looks=experiment(lambda seed: [*looks(seed), small(data=DataSpec("cifar10"))]))
    load = data.load

    def refuse(name, progress=None):
        if name == "cifar10":
            raise MlplibError("part-0003.bin of packed/cifar10 is damaged: copy it again")
        return load(name, progress)

    monkeypatch.setattr(driver.data, "load", refuse)
    report = campaign(tmp_path, ["looks"]).run()
    assert len(report.done) == 3 and not report.failed
    assert report.left_out == {"cifar10": ("part-0003.bin of packed/cifar10 is damaged: copy it again", 1)}


def test_a_parcel_that_cannot_be_written_ends_the_campaign_and_loses_nothing(quick, tmp_path, monkeypatch):
    """The disk of the parcel fills up after the first run; a smaller limit stands for it below."""
    use(monkeypatch, looks=experiment(lambda seed: [small(), small(seed=1), small(seed=2)]))
    box = Parcel(tmp_path / "out", "smoke")
    add = box.add

    def fill_up(each):
        if box.ids:
            raise MlplibError(f"cannot write {box.folder}/records-0.zip: No space left on device")
        add(each)

    box.add = fill_up
    report = campaign(tmp_path, ["looks"], parcel=box).run()
    assert "No space left on device. Finished runs are kept in" in report.trouble
    assert len(report.done) == 2 and len(results(tmp_path)) == 1
    assert len(campaign(tmp_path, ["looks"]).run().done) == 1 and len(results(tmp_path)) == 3


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_trained(tmp_path):
    (tmp_path / "out").write_text("a file")
    done = run("campaign", "-P", "smoke", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs"))
    assert done.exit_code == 1 and isinstance(done.exception, MlplibError)
    assert "cannot write" in str(done.exception) and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_full_disk_of_the_runs_is_named_and_what_was_won_stays(tmp_path):
    """No file may be longer than 20,000 bytes: records and looks at filters fit, weights do not."""
    program = [sys.executable, str(ROOT / "tests/helpers/campaigns.py"), str(tmp_path)]
    done = subprocess.run([*program, "20000"], env=environment(), capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["left"] == 6 and len(told["failed"]) >= 3, done.stderr
    assert "3 runs failed one after the other" in told["trouble"]
    assert any(
        "check that the folder is writable and the disk not full" in why for why in told["failed"].values()
    )
    done = subprocess.run(program, env=environment(), capture_output=True, text=True)
    assert '"left": 0' in done.stdout and len(results(tmp_path)) == 6, done.stderr


def test_several_runs_share_the_device_and_a_timing_has_it_alone(quick, tmp_path, monkeypatch):
    timing = TimingSpec(ModelSpec.parse("B-1/Wi-16"), (1, 2), 0.2, image_size=16, classes=10)
    runs = [small(epochs=60, batch_size=16, seed=seed) for seed in range(3)]
    use(monkeypatch, several=experiment(lambda seed: [runs[0], timing, *runs[1:]]))
    together = []
    work = campaign(tmp_path, ["several"], count=2)
    start = workers.Worker.start

    def watched(worker, spec):
        together.append([spec, *(w.spec for w in work.crew if w.spec is not None)])
        start(worker, spec)

    monkeypatch.setattr(workers.Worker, "start", watched)
    report = work.run()
    assert len(report.done) == 4 and not report.failed
    assert max(map(len, together)) == 2
    assert all(len(group) == 1 for group in together if timing in group)


def test_how_many_share_the_device_is_measured(quick, tmp_path, monkeypatch):
    """As on a GPU: a second run is tried while the first goes on; where it does not pay it is stopped, and
    goes on later.
    """
    runs = [small(epochs=250, batch_size=16, seed=seed) for seed in range(2)]
    use(monkeypatch, several=experiment(lambda seed: runs))
    monkeypatch.setattr(crowd, "WINDOW_SECONDS", 0.3)
    monkeypatch.setattr(crowd, "GAIN", 100.0)  # nothing pays that much
    work = campaign(tmp_path, ["several"])
    monkeypatch.setattr(driver, "Crowd", lambda limit: Crowd(2))
    report = work.run()
    (known,) = work.crowd.rates.values()
    assert set(known) == {1, 2} and list(work.crowd.decided.values()) == [1]
    assert len(report.done) == 2 and not report.stopped and report.left == []


@pytest.mark.slow
def test_stopped_at_twenty_random_moments_a_campaign_ends_as_if_left_alone(tmp_path):
    """By Ctrl-C, politely, or killed, it or its worker: the records are the same to the last bit."""
    program = [sys.executable, str(ROOT / "tests/helpers/campaigns.py")]
    alone = subprocess.run(
        [*program, str(tmp_path / "alone")], env=environment(), capture_output=True, text=True
    )
    assert '"left": 0' in alone.stdout, alone.stderr
    draw, folder, stops = random.Random(20231210), tmp_path / "often", 0
    for how in itertools.chain(*[(signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None)] * 5):
        process = subprocess.Popen(
            [*program, str(folder)], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        time.sleep(draw.uniform(2.0, 5.0))
        if how is None:
            found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
            for child in found.split():
                os.kill(int(child), signal.SIGKILL)
            time.sleep(0.3)
            how = signal.SIGTERM
        stops += process.poll() is None
        process.send_signal(how)
        process.communicate(timeout=60)
    assert stops >= 10, "it was over too soon to be stopped"
    last = subprocess.run([*program, str(folder)], env=environment(), capture_output=True, text=True)
    assert '"left": 0' in last.stdout, last.stderr
    assert results(folder) == results(tmp_path / "alone") != {}


# --------------------------------------------------------------------------- the command


def run(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "120"})


def test_the_command_refuses_what_makes_no_sense(tmp_path):
    for arguments, words in (
        (("--minutes", "0"), "--minutes must be a number above 0, not 0"),
        (("--minutes", "nan"), "--minutes must be a number above 0, not nan"),
        (("--workers", "many"), "--workers must be auto or a number from 1 on, not 'many'"),
        (("--workers", "0"), "--workers must be auto or a number from 1 on, not '0'"),
        (("no-such-thing",), "no-such-thing"),
        (("--loader", "tape"), "tape"),
        (("--seeds", "x"), "x"),
    ):
        done = run("campaign", *arguments, "-P", "smoke", "--out", str(tmp_path / "out"))
        assert done.exit_code == 1 and words in str(done.exception), done.output


def test_the_command_tells_what_it_did_and_what_is_left(quick, tmp_path, monkeypatch):
    use(monkeypatch, **{"label-smoothing": experiment(looks)})
    arguments = ["campaign", "label-smoothing", "-P", "smoke", "--seeds", "0", "--out", str(tmp_path / "out")]
    arguments += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    done = run(*arguments, "--minutes", "0.001")
    assert done.exit_code == 0 and "0 runs done, 3 left" in done.output and "label-smoothing" in done.output
    done = run(*arguments, "--minutes", "2")
    assert done.exit_code == 0, done.output
    assert "3 runs done, none left" in done.output and "mlplib results merge" in done.output
