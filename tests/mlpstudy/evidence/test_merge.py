"""Records from elsewhere join the published ones: each run once, contradictions and foreign files refused."""

import dataclasses
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_folders import ALL, GPU, NAMES, OWN, TRAINED, by_hand, made, packed, stored
from small_runs import environment
from typer.testing import CliRunner

from mlplib.errors import MlplibError
from mlplib.executor import MOSAIC
from mlplib.store import MOSAIC_SHA256, run_id
from mlpstudy import cli
from mlpstudy.evidence.check import check
from mlpstudy.evidence.merge import merge, publish, publish_finished
from mlpstudy.evidence.records import HASHES, ProfileFolder, every_published, read_folder, sha256
from mlpstudy.experiments import experiment


def contents(root) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def counts(merged):
    return [(each.path.parent.name, each.new, each.known, each.other) for each in merged]


def test_what_was_done_elsewhere_is_published_as_if_it_had_been_done_here(tmp_path):
    """All records of two experiments, merged, are the very files that publishing makes of them."""
    assert counts(merge(packed(tmp_path / "out", ALL), tmp_path / "merged")) == [("gpu", len(ALL), 0, ())]
    store = stored(tmp_path / "runs", ALL)
    for name in NAMES:
        publish(name, "gpu", (0, 1), store, tmp_path / "published")
    assert contents(tmp_path / "merged") == contents(tmp_path / "published") == contents(tmp_path / "out")
    looks = sum(one.spec.kind == "filters" for one in ALL)
    assert check(tmp_path / "merged")[:2] == (len(ALL), looks)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("whole"), ALL) / "gpu"


def part_of(whole, folder, ids):
    """A folder with some of the records of another one."""
    root = folder / "gpu"
    root.mkdir(parents=True)
    for name, id_of in (
        ("runs.jsonl", lambda line: json.loads(line)["id"]),
        (HASHES, lambda line: line[66:]),
    ):
        lines = whole.joinpath(name).read_text().splitlines(keepends=True)
        root.joinpath(name).write_text("".join(x for x in lines if id_of(x).strip().split("/")[0] in ids))
    for picture in whole.glob("artifacts/*"):
        if picture.name in ids:
            shutil.copytree(picture, root / "artifacts" / picture.name)
    return folder


@settings(max_examples=4)
@given(data=st.data())
def test_the_order_of_folders_does_not_matter_and_nothing_is_lost(whole, tmp_path_factory, data):
    """Any parts of the records, some runs in several of them."""
    folder, parts = tmp_path_factory.mktemp("order"), []
    for i in range(3):
        chosen = data.draw(st.sets(st.sampled_from([one.id for one in ALL]), min_size=1))
        parts.append(part_of(whole, folder / f"out{i}", chosen))
    for name, order in (("a", parts), ("b", [*parts[::-1], parts[1]])):
        for part in order:
            merge(part, folder / name)
    assert contents(folder / "a") == contents(folder / "b")
    sent = {id for part in parts for id in read_folder(part / "gpu").records}
    assert set(read_folder(folder / "a" / "gpu").records) == sent
    check(folder / "a")


def test_the_same_run_twice_is_kept_once_whoever_did_it_when(tmp_path):
    trained = TRAINED[:4]
    merge(packed(tmp_path / "first", trained), tmp_path / "results")
    before = contents(tmp_path / "results")
    slower = dataclasses.replace(trained[0], compute={"seconds": 99.0}, environment={"device": "another"})
    again = packed(tmp_path / "again", [slower, *trained[1:3]])
    assert counts(merge(again, tmp_path / "results")) == [("gpu", 0, 3, ())]
    assert contents(tmp_path / "results") == before
    merge(again, tmp_path / "results", prefer="new")
    assert slower in read_folder(tmp_path / "results" / "gpu").records.values()
    check(tmp_path / "results")


def test_contradictions_are_refused_and_a_person_decides(tmp_path):
    results = tmp_path / "results"
    merge(packed(tmp_path / "first", ALL), results)
    before = contents(results)
    first = TRAINED[-1]
    other = dataclasses.replace(first, metrics={**first.metrics, "test_top1": 0.75})
    out = packed(tmp_path / "other", [other])
    with pytest.raises(MlplibError) as refused:
        merge(out, results)
    words = f"{first.id} is published with other metrics (test_top1: 0.5 there, 0.75 here)"
    assert words in str(refused.value)
    assert "--prefer published or --prefer new; nothing was merged" in str(refused.value)
    assert contents(results) == before
    assert merge(out, results, prefer="published")[0].known == 1 and contents(results) == before
    assert merge(out, results, prefer="published")[0].replaced == 0
    assert merge(out, results, prefer="new")[0].replaced == 1
    assert read_folder(results / "gpu").records[first.id].metrics["test_top1"] == 0.75
    check(results)
    with pytest.raises(MlplibError, match="unknown preference 'newest'"):
        merge(out, results, prefer="newest")


def test_what_was_made_from_another_training_than_the_published_one_is_left_out(tmp_path):
    look = next(one for one in ALL if one.spec.needs())
    (trained,) = (one for one in ALL if one.spec in look.spec.needs())
    results, out = tmp_path / "results", tmp_path / "out"
    merge(packed(tmp_path / "first", [trained]), results)
    before = contents(results)
    other = dataclasses.replace(trained, metrics={**trained.metrics, "test_top1": 0.75})
    (merged,) = merge(packed(out, [other, look]), results, prefer="published")
    assert (merged.new, merged.known, merged.orphans) == (0, 1, (look.id,)) and contents(results) == before
    said = (
        CliRunner()
        .invoke(cli.app, ["results", "merge", str(out), "--prefer=published", f"--results={results}"])
        .output
    )
    assert "1 left out, made from runs with other results than the published ones" in said
    assert merge(packed(tmp_path / "same", [trained, look]), results)[0].new == 1
    assert merge(out, results, prefer="published")[0].orphans == (), "a published one is there already"


def test_published_runs_that_were_made_from_a_replaced_training_are_named(tmp_path):
    look = next(one for one in ALL if one.spec.needs())
    (trained,) = (one for one in ALL if one.spec in look.spec.needs())
    results = tmp_path / "results"
    merge(packed(tmp_path / "first", [trained, look]), results)
    other = dataclasses.replace(trained, metrics={**trained.metrics, "test_top1": 0.75})
    out = packed(tmp_path / "out", [other])
    arguments = ["results", "merge", str(out), f"--results={results}"]
    assert "made from" not in CliRunner().invoke(cli.app, [*arguments, "--prefer=published"]).output
    said = CliRunner().invoke(cli.app, [*arguments, "--prefer=new"]).output
    assert f"1 were made from those and are as before, such as {look.id}: do and publish" in said
    assert read_folder(results / "gpu").records[look.id] == look
    merge(packed(tmp_path / "back", [trained]), results, prefer="new")
    both = packed(tmp_path / "both", [other, look])
    assert merge(both, results, prefer="new")[0].stale == (), "it came along"


def test_another_picture_is_a_contradiction_too(tmp_path):
    look = next(one for one in ALL if one.spec.kind == "filters" and not one.spec.needs())
    merge(packed(tmp_path / "first", [look]), tmp_path / "results")
    store = stored(tmp_path / "runs", [look])
    path = store.folder(look.id) / MOSAIC
    np.save(path, 255 - np.load(path))
    another = path.read_bytes()
    publish_finished(NAMES, "gpu", None, store, tmp_path / "out")
    with pytest.raises(
        MlplibError, match=rf"{look.id} is published with another {MOSAIC}: say which to keep"
    ):
        merge(tmp_path / "out", tmp_path / "results")
    merge(tmp_path / "out", tmp_path / "results", prefer="new")
    assert list(read_folder(tmp_path / "results" / "gpu").artifacts.values()) == [another]
    check(tmp_path / "results")


def test_another_picture_than_the_run_has_made_is_refused_wherever_it_is(tmp_path):
    """Even a whole one, with a hash in hashes.txt. Records of before do not name theirs."""
    look = next(one for one in ALL if one.spec.kind == "filters" and not one.spec.needs())
    store = stored(tmp_path / "runs", [look])
    picture = (store.folder(look.id) / MOSAIC).read_bytes()
    named = dataclasses.replace(look, compute={MOSAIC_SHA256: sha256(picture)})
    shutil.rmtree(tmp_path / "runs")
    store = stored(tmp_path / "runs", [named])
    publish_finished(NAMES, "gpu", None, store, tmp_path / "out")
    check(tmp_path / "out")
    np.save(store.folder(look.id) / MOSAIC, np.zeros((1, 1, 5), np.uint8))
    with pytest.raises(MlplibError, match="is not the picture that its run has made"):
        publish_finished(NAMES, "gpu", None, store, tmp_path / "another")
    assert not (tmp_path / "another").exists()
    swapped = ProfileFolder({look.id: named}, {f"{look.id}/{MOSAIC}": picture})
    swapped.artifacts[f"{look.id}/{MOSAIC}"] = picture[:-1] + b"x"
    for name, content in swapped.files().items():
        (tmp_path / "out" / "gpu" / name).write_bytes(content)
    with pytest.raises(MlplibError, match="is not the picture that its run has made: restore it"):
        check(tmp_path / "out")


def test_a_training_may_come_before_what_is_made_from_it(tmp_path):
    looks = [s for s in experiment("filters").runs(GPU, (4,)) if s.upstream.data.examples and s.needs()]
    upstream = looks[-1].needs()[0]  # nobody else trains these
    merge(packed(tmp_path / "a", [made(upstream)]), tmp_path / "results")
    assert list(every_published("filters", tmp_path / "results")) == []
    merge(packed(tmp_path / "b", [made(upstream), made(looks[-1])]), tmp_path / "results")
    (found,) = every_published("filters", tmp_path / "results")
    assert [r.spec for r in found.records] == [looks[-1]] and [r.spec for r in found.upstream] == [upstream]
    assert (found.artifacts / run_id(looks[-1]) / MOSAIC).read_bytes().startswith(b"\x93NUMPY")


def test_runs_of_no_experiment_are_left_out_and_named(tmp_path):
    out = packed(tmp_path / "out", [OWN])
    assert counts(merge(out, tmp_path / "results")) == [("gpu", 0, 0, (OWN.id,))]
    done = CliRunner().invoke(cli.app, ["results", "merge", str(out), "--results", str(tmp_path / "results")])
    assert done.exit_code == 1 and f"no experiment has {OWN.id}" in str(done.exception)
    assert not (tmp_path / "results").exists()


def test_records_of_other_data_or_another_version_are_refused(tmp_path):
    first = ALL[0]
    elsewhere = dataclasses.replace(first, data={**first.data, "content_hash": "1" * 64})
    renamed = dataclasses.replace(first, id=first.id[:-1] + ("0" if first.id[-1] != "0" else "1"))
    for i, bad in enumerate((elsewhere, renamed)):
        with pytest.raises(MlplibError, match="is not that of its settings and data"):
            merge(by_hand(tmp_path / f"out{i}", bad), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_records_without_their_hashes_are_refused(tmp_path):
    out = packed(tmp_path / "out", ALL)
    hashes = out / "gpu" / "hashes.txt"
    lines = hashes.read_text().splitlines(keepends=True)
    for some in ("", "".join(lines[: len(lines) // 2])):  # half copied
        hashes.write_text(some)
        with pytest.raises(MlplibError, match=r"hashes.txt does not list .* copy the folder again"):
            merge(out, tmp_path / "results")
    hashes.unlink()
    edited = json.loads((lines := (out / "gpu" / "runs.jsonl").read_text().splitlines())[0])
    edited["metrics"]["test_accuracy"] = 0.99
    (out / "gpu" / "runs.jsonl").write_text("\n".join([json.dumps(edited), *lines[1:]]))
    with pytest.raises(MlplibError, match=r"hashes.txt does not list .* copy the folder again"):
        merge(out, tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "link", "other array"])
def test_a_picture_that_is_none_is_not_published(tmp_path, damage):
    store = stored(tmp_path / "runs", ALL)
    path = store.folder(next(one.id for one in ALL if one.spec.kind == "filters")) / MOSAIC
    whole = path.read_bytes()
    path.unlink()
    if damage in ("cut", "text"):
        path.write_bytes(whole[:-3] if damage == "cut" else b"no picture")
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "other array":
        np.save(path, np.zeros(3))
    with pytest.raises(MlplibError, match=f"{path} is missing or damaged: delete its folder"):
        publish("filters", "gpu", (0, 1), store, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_look_at_filters_that_diverged_has_no_picture_and_is_published(tmp_path):
    look = next(one for one in ALL if one.spec.kind == "filters" and not one.spec.needs())
    store = stored(tmp_path / "runs", [dataclasses.replace(look, status="diverged", metrics={})])
    assert not (store.folder(look.id) / MOSAIC).exists()
    publish_finished(NAMES, "gpu", None, store, tmp_path / "out")
    assert read_folder(tmp_path / "out" / "gpu").records[look.id].status == "diverged"


def test_what_an_experiment_no_longer_has_is_not_lost_by_merging(tmp_path):
    packed(tmp_path / "results", [OWN])
    merge(packed(tmp_path / "a", ALL[:1]), tmp_path / "results")
    assert set(read_folder(tmp_path / "results" / "gpu").records) == {OWN.id, ALL[0].id}


def test_files_that_a_mac_adds_are_no_records(tmp_path):
    folder = packed(tmp_path / "a", ALL[:2])
    (folder / "gpu" / "._runs.jsonl").write_bytes(b"\0\5\x16\7")
    merge(folder, tmp_path / "results")
    assert check(folder)[0] == check(tmp_path / "results")[0] == 2


def test_two_lines_of_one_run_that_contradict_each_other_are_named(tmp_path):
    """As a merge by hand may leave them."""
    root = packed(tmp_path / "results", ALL[:1]) / "gpu"
    other = dataclasses.replace(ALL[0], metrics={**ALL[0].metrics, "test_top1": 0.75})
    with open(root / "runs.jsonl", "a") as file:
        file.write(json.dumps(other.to_json(), sort_keys=True))
    (root / HASHES).unlink()
    with pytest.raises(MlplibError, match=f"gpu/runs.jsonl, line 2: another line differs on {ALL[0].id}"):
        merge(tmp_path / "results", tmp_path / "results")


# --------------------------------------------------------------------------- folders from elsewhere

TRAVERSALS = [
    "",
    ".",
    "..",
    "x/..",
    "../../x-0123456789ab",
    "/etc/x-0123456789ab",
    "x-0123456789ab\n",
    3,
    None,
]


@pytest.mark.parametrize("id", TRAVERSALS)
def test_an_id_that_could_leave_the_folder_is_refused(tmp_path, id):
    root = packed(tmp_path / "out", [OWN]) / "gpu"
    (root / "runs.jsonl").write_text(json.dumps({**OWN.to_json(), "id": id}) + "\n")
    with pytest.raises(MlplibError, match=r"gpu/runs.jsonl, line 1, is not a record .* is not a run id"):
        merge(tmp_path / "out", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def a_look(tmp_path):
    """A folder from elsewhere with one picture, and where the picture is."""
    look = next(one for one in ALL if one.spec.kind == "filters" and not one.spec.needs())
    out = packed(tmp_path / "out", [look])
    return out, out / "gpu" / "artifacts" / look.id / MOSAIC


@pytest.mark.parametrize("name", ["weights.safetensors", "record.json", "a folder/x", "FILTERS.NPY"])
def test_an_artifact_of_another_name_is_refused(tmp_path, name):
    out, picture = a_look(tmp_path)
    (picture.parent / name).parent.mkdir(exist_ok=True)
    (picture.parent / name).write_bytes(b"")
    with pytest.raises(MlplibError, match=rf"is no artifact of a run \({MOSAIC}\): delete it"):
        merge(out, tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "huge"])
def test_an_artifact_that_is_no_ordinary_file_is_refused(tmp_path, kind):
    out, picture = a_look(tmp_path)
    picture.unlink()
    if kind == "link":
        (tmp_path / "secret").write_text("a secret")
        picture.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(picture)
    elif kind == "folder":
        picture.mkdir()
    else:
        with picture.open("wb") as file:
            file.truncate(2**40)
    with pytest.raises(MlplibError, match=f"{MOSAIC} is no regular file of at most 16 MiB"):
        merge(out, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_copy_that_is_not_whole_is_refused(tmp_path):
    out, picture = a_look(tmp_path)
    whole = picture.read_bytes()
    picture.write_bytes(whole[:-1])
    with pytest.raises(MlplibError, match=f"{picture.parent.name}/{MOSAIC} is not the published file"):
        merge(out, tmp_path / "results")
    picture.unlink()
    with pytest.raises(MlplibError, match=f"lacks {picture.parent.name}/{MOSAIC}, which {HASHES} lists"):
        merge(out, tmp_path / "results")
    picture.write_bytes(whole)
    (out / "gpu" / "runs.jsonl").write_bytes(b"")
    with pytest.raises(MlplibError, match=f"lacks {picture.parent.name}, which {HASHES} lists"):
        merge(out, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_folder_without_records_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(MlplibError, match=f"no <profile>/runs.jsonl in {folder}"):
            merge(folder, tmp_path / "results")


def test_results_that_cannot_be_written_to_are_named(tmp_path):
    out = packed(tmp_path / "a", ALL[:2])
    (tmp_path / "results").write_text("a file")
    with pytest.raises(MlplibError, match="MLPLIB_RESULTS must be the path of a folder"):
        merge(out, tmp_path / "results")


# --------------------------------------------------------------------------- interruptions

MERGE = """
import sys
from pathlib import Path
from mlpstudy.evidence.merge import merge
print("ready", flush=True)
sys.stdin.readline()
merge(Path(sys.argv[1]), Path(sys.argv[2]), "new")
"""


def start_merge(out, results):
    command = [sys.executable, "-c", MERGE, str(out), str(results)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """The same records, made on another device."""
    others = [dataclasses.replace(one, environment={"device": "another"}) for one in ALL]
    return packed(tmp_path_factory.mktemp("changed"), others)


def test_what_a_killed_merge_left_behind_is_cleared_by_the_next(changed, tmp_path):
    results = part_of(changed / "gpu", tmp_path / "results", {one.id for one in ALL})
    picture = next((results / "gpu").rglob("*.npy"))
    left = [picture.with_name(f".{picture.name}.123.456"), results / "gpu" / ".runs.jsonl.123.456"]
    for path in left:
        path.write_bytes(b"half")
    merge(changed, results, "new")
    assert not any(path.exists() for path in left) and contents(results) == contents(changed)


@pytest.mark.slow
@settings(max_examples=3)
@given(delay=st.floats(0.2, 1.2))
def test_a_killed_merge_leaves_valid_files_and_the_same_command_completes_it(
    whole, changed, tmp_path_factory, delay
):
    folder = tmp_path_factory.mktemp("killed")
    results, out = part_of(whole, folder / "results", {one.id for one in ALL[::2]}), changed
    process = start_merge(out, results)
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(delay)
    process.kill()
    process.communicate()
    read_folder(results / "gpu")  # whatever is there is valid
    merge(out, results, "new")
    assert contents(results) == contents(out)


def test_publishing_killed_at_random_moments_loses_nothing_and_the_last_one_completes_it(
    whole, changed, tmp_path
):
    """Over records of another device; every kill leaves valid files, with all that was published before."""
    store, results = stored(tmp_path / "runs", ALL), tmp_path / "results"
    part_of(changed / "gpu", results, {one.id for one in ALL[::2]})
    draw, killed, seconds = random.Random(0), 0, 1.0

    def publish_both():
        for name in NAMES:
            publish(name, "gpu", (0, 1), store, results)

    for _ in range(8):
        before, start = read_folder(results / "gpu"), time.monotonic()
        process = multiprocessing.get_context("fork").Process(target=publish_both)
        process.start()
        process.join(draw.uniform(0, seconds))
        process.kill()
        process.join()
        seconds = min(seconds, time.monotonic() - start) if process.exitcode == 0 else seconds
        killed += process.exitcode == -signal.SIGKILL
        after = read_folder(results / "gpu")
        assert (
            before.records.keys() <= after.records.keys()
            and before.artifacts.keys() <= after.artifacts.keys()
        )
    assert killed
    publish_both()
    assert contents(results) == contents(whole.parent)


@pytest.mark.slow
def test_two_merges_at_once_lose_nothing(tmp_path):
    parts = [packed(tmp_path / f"out{i}", TRAINED[i::2]) for i in range(2)]
    both = [start_merge(part, tmp_path / "results") for part in parts]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.wait() for process in both] == [0, 0]
    sent = {id for part in parts for id in read_folder(part / "gpu").records}
    assert set(read_folder(tmp_path / "results" / "gpu").records) == sent
