"""The run store: records written once and whole, damage named, locks that other processes see."""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import ROOT, environment, record, small

import mlplib.files
from mlplib.errors import MlplibError, Refused
from mlplib.files import cache_root, replacing, storage_errors
from mlplib.specs import FilterSpec, ProbeSpec
from mlplib.store import RECORD_FORMAT, Record, RunClaimed, RunStore, by_id, run_id
from mlpstudy.book.session import open_session

SPEC = small()


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def put(store, text: str, spec=SPEC):
    """Leave ``text`` where a record would be."""
    store.folder(spec).mkdir(parents=True, exist_ok=True)
    path = store.folder(spec) / "record.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write(store, made: Record) -> None:
    with store.claim(made.spec):
        store.write(made)


# --------------------------------------------------------------------------- where


def test_the_folder_is_the_argument_then_the_environment_then_runs_of_the_clone(tmp_path, monkeypatch):
    """Wherever the command or the notebook was started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPLIB_RUNS", raising=False)
    assert RunStore().root.resolve() == open_session({}).store.root.resolve() == ROOT / "runs"
    with monkeypatch.context() as installed:
        installed.setattr(mlplib.files, "__file__", str(tmp_path / "site-packages/mlplib/files.py"))
        assert RunStore().root.resolve() == tmp_path / "runs"
    monkeypatch.setenv("MLPLIB_RUNS", str(tmp_path / "other"))
    assert RunStore().root == tmp_path / "other"
    assert RunStore(tmp_path / "given").root == tmp_path / "given"
    assert not (tmp_path / "runs").exists() and not (tmp_path / "other").exists()


def test_an_empty_store_has_nothing_and_makes_no_folder(store):
    assert store.find(SPEC) is None and list(store.records()) == []
    assert not store.root.exists()


# --------------------------------------------------------------------------- records

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
texts = st.text(max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    metrics=st.dictionaries(texts, numbers, max_size=4),
    history=st.dictionaries(texts, st.lists(numbers, max_size=3), max_size=3),
    compute=st.dictionaries(texts, numbers | st.none(), max_size=3),
)
def test_records_survive_json_to_the_last_bit(metrics, history, compute):
    made = record(SPEC)
    made = dataclasses.replace(made, metrics=made.metrics | metrics, history=history, compute=compute)
    text = json.dumps(made.to_json(), allow_nan=False)
    assert Record.from_text(text.encode()) == Record.from_json(json.loads(text)) == made
    assert json.loads(text)["format"] == RECORD_FORMAT


@pytest.mark.parametrize(
    "spec", [SPEC, FilterSpec(SPEC), FilterSpec(SPEC, at="initial")], ids=lambda s: s.slug()
)
@pytest.mark.parametrize("status", ["completed", "diverged"])
def test_what_was_written_is_found(store, spec, status):
    made = record(spec, status)
    write(store, made)
    assert RunStore(store.root).find(spec) == made
    assert list(store.records()) == [made]
    assert store.find(small(seed=9)) is None


def test_a_record_without_what_the_study_reads_of_it_is_none():
    good = record(ProbeSpec(SPEC.data, None)).to_json()
    assert Record.from_json(good)
    with pytest.raises(MlplibError, match="it lacks the metric features"):
        Record.from_json({**good, "compute": {}})


def test_all_records_are_listed_by_id(store):
    made = [record(small(seed=s)) for s in range(5)]
    for one in made:
        write(store, one)
    assert [r.id for r in store.records()] == sorted(r.id for r in made)


def test_a_record_that_is_deleted_while_all_are_listed_is_passed_over(store):
    for seed in range(2):
        write(store, record(small(seed=seed)))
    found = store.records()
    gone = 1 - next(found).spec.seed
    shutil.rmtree(store.folder(small(seed=gone)))
    assert list(found) == []


def test_a_record_is_never_written_again(store):
    write(store, record(SPEC, test_top1=0.25))
    before = (store.folder(SPEC) / "record.json").read_bytes()
    with pytest.raises(MlplibError, match="records are never overwritten: delete its folder to run again"):
        write(store, record(SPEC, test_top1=0.75))
    assert (store.folder(SPEC) / "record.json").read_bytes() == before


def test_a_record_that_json_cannot_hold_leaves_nothing(store):
    with pytest.raises(ValueError):
        write(store, record(SPEC, test_loss=float("nan")))
    assert store.find(SPEC) is None
    assert [p.name for p in store.folder(SPEC).iterdir() if not p.name.startswith(".")] == []


GOOD = record(SPEC).to_json()


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


def with_(part, **values):
    return json.dumps({**GOOD, part: {**GOOD[part], **values}})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\x00\xff\xfe",
        b"[]",
        b"[1]",
        b"null",
        b"3",
        b'"text"',
        json.dumps(GOOD)[:-1],
        json.dumps(GOOD)[: len(json.dumps(GOOD)) // 2],
        json.dumps(without("format")),
        json.dumps(without("id")),
        json.dumps(without("spec")),
        json.dumps(without("status")),
        json.dumps(without("metrics")),
        json.dumps({**GOOD, "format": RECORD_FORMAT + 1}),
        json.dumps({**GOOD, "extra": 1}),
        json.dumps({**GOOD, "status": "finished"}),
        json.dumps({**GOOD, "status": None}),
        json.dumps({**GOOD, "id": ""}),
        json.dumps({**GOOD, "id": "../" + GOOD["id"]}),
        json.dumps({**GOOD, "metrics": []}),
        json.dumps({**GOOD, "metrics": {}}),
        json.dumps({**GOOD, "history": None}),
        json.dumps({**GOOD, "environment": {}}),
        with_("environment", commit=["a"]),
        with_("environment", source="a\0"),
        with_("metrics", test_top1=1.0000001),
        with_("metrics", test_top1=-0.1),
        with_("metrics", test_top1="0.5"),
        with_("metrics", test_top1=None),
        with_("metrics", test_top1=True),
        with_("metrics", test_top1=[0.5]),
        with_("metrics", test_loss=-0.1),
        with_("metrics", anything=float("nan")),
        with_("metrics", anything=float("inf")),
        with_("metrics", anything=10**400),
        with_("metrics", weights_sha256="beef"),
        with_("metrics", weights_sha256=1),
        with_("history", train_loss=[1.0, float("-inf")]),
        with_("history", test=[{"epoch": 1, "top1": 2.0}]),
        with_("history", deep={"a": [{"b": {"loss": "high"}}]}),
        with_("compute", seconds="long"),
        with_("compute", seconds=-1),
        with_("data", content_hash="beef"),
        with_("data", name=["shapes-16"]),
        "[" * 100_000,
        '{"format": 1, "spec": ' * 900 + "1" + "}" * 900,
        json.dumps({**GOOD, "spec": None}),
        json.dumps({**GOOD, "spec": []}),
        json.dumps({**GOOD, "spec": "train"}),
        json.dumps({**GOOD, "spec": {**GOOD["spec"], "epochs": -1}}),
        json.dumps({**GOOD, "spec": {**GOOD["spec"], "epoch": 1}}),
        json.dumps({**GOOD, "spec": {**GOOD["spec"], "kind": "nope"}}),
    ],
    ids=lambda content: str(content)[:12] + "..." + str(content)[-12:],
)
def test_a_damaged_record_is_named_and_never_taken_for_missing(store, content):
    path = put(store, content)
    assert list(store.records()) == [], "an unrelated damaged record stands in nobody's way"
    with pytest.raises(MlplibError) as caught:
        store.find(SPEC)
    message = str(caught.value)
    assert str(path) in message and "delete its folder and run again" in message
    assert "\n" not in message


def test_a_record_of_another_run_is_not_taken_for_this_one(store):
    put(store, json.dumps(record(small(seed=5)).to_json()), SPEC)
    with pytest.raises(MlplibError, match=r"record\.json is damaged .*another run"):
        store.find(SPEC)


def test_a_folder_in_the_records_place_is_one_line(store):
    (store.folder(SPEC) / "record.json").mkdir(parents=True)
    with pytest.raises(MlplibError) as caught:
        store.find(SPEC)
    assert "record.json" in str(caught.value)


def test_by_id_keeps_the_order_and_drops_repetitions():
    a, b = small(seed=1), small(seed=2)
    assert list(by_id([b, a, b, small(seed=1)]).values()) == [b, a]


# --------------------------------------------------------------------------- writing in one step


def test_replacing_shows_readers_the_old_or_the_new_content_only(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyError, torch.OutOfMemoryError, torch.AcceleratorError])
def test_a_failed_replacement_keeps_the_old_content_and_cleans_up(error, tmp_path):
    """Errors of a device are not taken for those of the disk."""
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_readers_never_see_half_a_record(store):
    """One thread writes records of all lengths over and over, another reads all the while."""
    path = put(store, json.dumps(GOOD))
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            seen.add(len(store.find(SPEC).metrics))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(120):
        made = record(SPEC, **{f"metric {k}": 0.5 for k in range(i % 7 * 400)})
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(made.to_json()))
    stop.set()
    reader.join()
    assert len(seen) > 1 and seen <= {2 + k * 400 for k in range(7)}


def test_what_killed_processes_left_behind_is_cleared_by_the_next(store):
    folder = store.folder(SPEC)
    folder.mkdir(parents=True)
    left = [folder / f".{name}.123.456" for name in ("checkpoint.pt", "record.json", "filters.npy")]
    for path in (*left, folder / "checkpoint.pt", folder / "weights.safetensors"):
        path.write_bytes(b"x" * 100)
    with store.claim(SPEC):
        assert not any(path.exists() for path in left)
        assert (folder / "checkpoint.pt").exists() and (folder / "weights.safetensors").exists()


# --------------------------------------------------------------------------- storage that fails


def test_every_flipped_bit_of_a_record_is_noticed(store):
    """Also in what has no schema, such as a name of an environment; files of before had no hash."""
    made = record(SPEC)
    write(store, made)
    whole = (store.folder(SPEC) / "record.json").read_bytes()
    for place in range(len(whole)):
        put(store, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with contextlib.suppress(MlplibError):
            assert store.find(SPEC) == made, "it is the same number"
    put(store, json.dumps(made.to_json()))
    assert store.find(SPEC) == made


def assert_one_line(caught, *words):
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize("below", [False, True], ids=["in its place", "above it"])
def test_a_file_where_the_store_should_be_is_one_line(tmp_path, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(MlplibError) as caught:
        RunStore(tmp_path / "file" / "runs" if below else tmp_path / "file")
    assert_one_line(caught, str(tmp_path / "file"), "must be the path of a folder", "MLPLIB_RUNS")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("place", ["/proc/mlplib-runs", "/sys/mlplib-runs"])
def test_a_place_that_nobody_can_write_to_is_one_line(place):
    if not os.path.isdir(os.path.dirname(place)):
        pytest.skip(f"no {os.path.dirname(place)} on this system")
    with pytest.raises(MlplibError) as caught, RunStore(place).claim(SPEC):
        pass
    assert_one_line(caught, place, "cannot write", "MLPLIB_RUNS")


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(MlplibError) as caught, storage_errors(tmp_path), open("/dev/full", "w") as file:
        file.write("x")
        file.flush()
    assert_one_line(caught, str(tmp_path), "No space left on device", "disk not full")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_store_that_cannot_lock_is_one_line(store, monkeypatch, number):
    def refuse(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(MlplibError) as caught, store.claim(SPEC):
        pytest.fail("nothing protects this run")
    assert_one_line(caught, str(store.root), "cannot lock files", "NFSv4")


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(ZeroDivisionError), storage_errors(tmp_path):
        _ = 1 / 0


WRITE_LIMITED = """
    import resource, signal, sys
    from mlplib.errors import MlplibError
    from mlplib.store import RunStore
    from small_runs import record, small

    store = RunStore(sys.argv[1])
    made = record(small(), **{f"metric {i}": 0.5 for i in range(2000)})
    with store.claim(made.spec):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sys.dont_write_bytecode = True  # a part of it might be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            store.write(made)
        except MlplibError as error:
            print(error)
"""


def test_a_record_that_does_not_fit_leaves_nothing_half_written(store):
    """A limit on file sizes stops the writing in the middle, as a disk does that runs full."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITE_LIMITED), str(store.root)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert str(store.root) in line and "full" in line
    assert store.find(SPEC) is None
    assert [p.name for p in store.folder(SPEC).iterdir() if not p.name.startswith(".")] == []


# --------------------------------------------------------------------------- locks

HOLD = """
    import sys, time
    from mlplib.store import RunStore
    from small_runs import small

    with RunStore(sys.argv[1]).claim(small()) as folder:
        print("held", flush=True)
        sys.stdin.readline()
        (folder / "left.txt").write_text("by the first")
"""


@pytest.fixture
def holder(store):
    """Another process that holds the run until a line is sent to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(store.root)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_waits_for_the_first_and_says_so(store, holder):
    said = []

    def on_wait():
        said.append(time.monotonic())
        holder.stdin.write("\n")
        holder.stdin.flush()

    with store.claim(SPEC, on_wait=on_wait) as folder:
        assert (folder / "left.txt").read_text() == "by the first"
    assert len(said) == 1


@pytest.mark.parametrize("attempt", range(20))  # each is a race, of which about one in 50 was lost
def test_who_waits_for_a_run_that_is_refused_does_not_stumble_over_the_folder_that_is_gone(store, attempt):
    def refuse():
        with contextlib.suppress(Refused), store.claim(SPEC):
            held.set()
            assert waits.wait(20)
            raise Refused("too large")

    held, waits, first = threading.Event(), threading.Event(), threading.Thread(target=refuse)
    first.start()
    assert held.wait(20)
    with store.claim(SPEC, on_wait=waits.set) as folder:
        assert folder.is_dir() and (folder / ".lock").exists()
    first.join()


def test_a_store_that_does_not_wait_says_that_the_run_is_claimed(store, holder):
    impatient = RunStore(store.root, wait=False)
    with pytest.raises(RunClaimed, match=f"another process is doing {run_id(SPEC)}"), impatient.claim(SPEC):
        pytest.fail("claimed")
    with impatient.claim(small(seed=1)):
        impatient.write(record(small(seed=1)))
    assert impatient.written == {run_id(small(seed=1))}


def test_other_runs_need_not_wait(store, holder):
    with store.claim(small(seed=1), on_wait=lambda: pytest.fail("waited")):
        pass


def test_a_killed_process_holds_nothing(store, holder):
    holder.kill()
    holder.wait()
    with store.claim(SPEC, on_wait=lambda: pytest.fail("waited")):
        pass


def test_a_failure_inside_gives_the_lock_back(store):
    with pytest.raises(KeyError), store.claim(SPEC):
        raise KeyError
    with store.claim(SPEC, on_wait=lambda: pytest.fail("waited")) as folder:
        assert folder == store.folder(SPEC)


# --------------------------------------------------------------------------- damage of any kind

junk = st.sampled_from([None, True, -1, 2, 1e308, 10**400, "", "x", "NaN", [], [1], {}, {"a": 1}, [[[]]]])


def places(value, at=()):
    """The path of every value in JSON values."""
    yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


@settings(max_examples=200)
@given(data=st.data())
def test_any_other_value_anywhere_is_read_or_refused_in_one_line(data):
    values = json.loads(json.dumps(GOOD))
    *way, last = data.draw(st.sampled_from([at for at in places(values) if at]))
    inner = values
    for key in way:
        inner = inner[key]
    inner[last] = data.draw(junk)
    try:
        found = Record.from_text(json.dumps(values).encode())
    except MlplibError as error:
        assert "\n" not in str(error)
    else:
        assert found.to_json().keys() == GOOD.keys()


def test_a_tilde_is_the_home_folder_wherever_a_store_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLPLIB_RUNS", "~/study")
    assert RunStore().root == RunStore("~/study").root == tmp_path / "study"
    with pytest.raises(MlplibError, match="must not be '~nobody-here/x': there is no such home folder"):
        RunStore("~nobody-here/x")
    monkeypatch.setenv("MLPLIB_CACHE", "~nobody-here/c")
    with pytest.raises(MlplibError, match="MLPLIB_CACHE must not be '~nobody-here/c': there is no such"):
        cache_root()
