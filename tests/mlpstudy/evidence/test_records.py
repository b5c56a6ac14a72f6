"""Published records: always the same file, read back whole, refused where something is missing."""

import dataclasses
import json
import shutil

import pytest
from small_runs import ROOT, leave, record

from mlplib.data.catalog import content_hash
from mlplib.errors import MlplibError
from mlplib.executor import MOSAIC
from mlplib.store import Record, RunStore, by_id, run_id
from mlpstudy.claims import VERDICTS, decide
from mlpstudy.evidence.merge import publish, publish_finished
from mlpstudy.evidence.records import (
    BEST_FIRST,
    HASHES,
    complete,
    every_published,
    fingerprint,
    read_folder,
    results_folder,
    seed_of,
    shown,
)
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.planning import upstream_first, with_upstream
from mlpstudy.profiles import profile

SEEDS = (0, 1)


def fill(store, name, budget="laptop", seeds=SEEDS):
    """A store in which every run of an experiment is finished, with what it was made from; gives the records
    of the experiment's own runs in their order.
    """
    specs = by_id(experiment(name).runs(profile(budget), seeds)).values()
    made = [record(spec, test_top1=0.1 + 0.001 * i) for i, spec in enumerate(upstream_first(specs))]
    leave(store, (one for one in made if store.find(one.spec) is None))
    return [store.find(spec) for spec in specs]


def contents(folder):
    """Every published file below a folder: its bytes and its time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def published(name, results):
    """The records of an experiment at the best profile that has any, or None."""
    return next(every_published(name, results), None)


def drop(results, budget, gone):
    """Delete the lines of records from a published file, as a person might."""
    path = results / budget / "runs.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if not gone(Record.from_text(line))))


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_published_is_read_back(store, tmp_path, name):
    made = fill(store, name)
    done = publish(name, "laptop", SEEDS, store, tmp_path / "results")
    assert done.path == tmp_path / "results" / "laptop" / "runs.jsonl"
    found = published(name, tmp_path / "results")
    assert found.records == made and found.profile.name == "laptop" and found.devices == "a test"
    ids = [json.loads(line)["id"] for line in done.path.read_text(encoding="utf-8").splitlines()]
    assert ids == sorted({r.id for r in (*made, *found.upstream)}), "each run once, by id"
    assert (done.new, done.known) == (len(ids), 0)


def test_publishing_again_changes_no_file(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "a")
    before = contents(tmp_path / "a")
    assert {name for name in before if "/artifacts/" not in name} == {
        "laptop/runs.jsonl",
        "laptop/hashes.txt",
    }
    publish("filters", "laptop", SEEDS, store, tmp_path / "a")
    assert contents(tmp_path / "a") == before
    # Two experiments in either order: the same bytes.
    fill(store, "from-scratch")
    for folder, names in (("b", ("from-scratch", "filters")), ("c", ("filters", "from-scratch"))):
        for name in names:
            publish(name, "laptop", SEEDS, store, tmp_path / folder)
    b, c = ({name: found[0] for name, found in contents(tmp_path / folder).items()} for folder in "bc")
    assert b == c


# --------------------------------------------------------------------------- what runs were made from


def test_runs_that_others_read_from_are_published_with_them(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    found = published("filters", tmp_path / "results")
    specs = experiment("filters").runs(profile("laptop"), SEEDS)
    own = {run_id(spec) for spec in specs}
    assert [r.id for r in found.upstream] == [id for id in with_upstream(specs) if id not in own] != []
    assert not {r.id for r in found.records} & {r.id for r in found.upstream}


def test_an_upstream_run_that_is_gone_is_taken_from_what_is_published_or_named(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    before = contents(tmp_path / "results")
    gone = published("filters", tmp_path / "results").upstream[0]
    shutil.rmtree(store.folder(gone.id))
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    assert contents(tmp_path / "results") == before
    drop(tmp_path / "results", "laptop", lambda r: r.id == gone.id)
    with pytest.raises(MlplibError, match=f"^{gone.id}, which published runs were made from"):
        publish("filters", "laptop", SEEDS, store, tmp_path / "results")


def test_runs_that_were_published_before_need_not_be_in_the_store(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    before = contents(tmp_path / "results")
    publish("filters", "laptop", SEEDS, RunStore(tmp_path / "empty"), tmp_path / "results")
    assert contents(tmp_path / "results") == before
    with pytest.raises(MlplibError, match="are not finished"):
        publish("filters", "laptop", (*SEEDS, 7), RunStore(tmp_path / "empty"), tmp_path / "results")


def test_publishing_some_seeds_keeps_the_others(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    before = contents(tmp_path / "results")
    done = publish("filters", "laptop", (1,), store, tmp_path / "results")
    assert contents(tmp_path / "results") == before and done.new == 0 and done.known > 0


def test_the_stores_record_replaces_a_published_one(store, tmp_path):
    fill(store, "from-scratch")
    publish("from-scratch", "laptop", SEEDS, store, tmp_path / "results")
    again = RunStore(tmp_path / "again")
    leave(again, (dataclasses.replace(one, environment={"device": "another"}) for one in store.records()))
    publish("from-scratch", "laptop", SEEDS, again, tmp_path / "results")
    assert published("from-scratch", tmp_path / "results").devices == "another"


def test_finished_runs_of_an_unfinished_experiment_can_travel(store, tmp_path):
    made = fill(store, "filters", seeds=(0, 5))
    trained = next(r for r in made if r.spec.needs()).spec.needs()[0]
    for one in made:
        if trained in one.spec.needs():
            shutil.rmtree(store.folder(one.id))
    done = publish_finished(["filters"], "laptop", None, store, tmp_path / "out")
    assert set(read_folder(done.path.parent).records) == {r.id for r in store.records()}
    assert run_id(trained) in read_folder(done.path.parent).records, "no look at it is finished"
    some = publish_finished(["filters"], "laptop", (0,), store, tmp_path / "seed 0")
    assert some.new < done.new
    with pytest.raises(MlplibError, match=r"no run of profile gpu is finished in .*: name another folder"):
        publish_finished(EXPERIMENTS, "gpu", None, store, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_every_profile_is_read_the_best_first(tmp_path):
    results, made = tmp_path / "results", {}
    results.mkdir()
    assert published("filters", results) is None
    for budget in ("smoke", "laptop", "colab", "gpu", "paper"):
        one = RunStore(tmp_path / budget)
        made[budget] = fill(one, "filters", budget)
        publish("filters", budget, SEEDS, one, results)
        found = list(every_published("filters", results))
        # Drawn shapes are no evidence.
        assert [each.profile.name for each in found] == [name for name in BEST_FIRST if name in made]
        assert all(each.records == made[each.profile.name] and each.upstream for each in found)
    assert BEST_FIRST == ("paper", "gpu", "colab", "laptop")
    assert published("architectures", results) is None


# --------------------------------------------------------------------------- which of them are shown


def keep(results, budget, name, wanted):
    """Leave only those published records of an experiment's own runs that ``wanted`` says of."""
    specs = set(experiment(name).runs(profile(budget), (0, 1, 2)))
    drop(results, budget, lambda r: r.spec in specs and not wanted(r.spec))


def publish_both(tmp_path, name, seeds=SEEDS):
    """A results folder with everything of an experiment at the profiles gpu and laptop."""
    for budget in ("gpu", "laptop"):
        one = RunStore(tmp_path / budget)
        fill(one, name, budget, seeds)
        publish(name, budget, seeds, one, tmp_path / "results")
    return tmp_path / "results"


def names(results, name):
    return [each.profile.name for each in shown(name, results)]


@pytest.mark.parametrize("name", ["from-scratch", "filters", "linear-probes"])
def test_a_profile_with_two_complete_seeds_is_shown_alone_and_another_with_the_next(name, tmp_path):
    results = publish_both(tmp_path, name, (0, 1, 2))
    assert names(results, name) == ["gpu"]
    first = experiment(name).runs(profile("gpu"), (0,))[0]
    keep(results, "gpu", name, lambda spec: spec != first)
    assert names(results, name) == ["gpu"], "seeds 1 and 2 are whole"
    keep(results, "gpu", name, lambda spec: spec != first and seed_of(spec) != 1)
    assert names(results, name) == ["gpu", "laptop"], "seed 2 alone does not show how far seeds differ"
    keep(results, "gpu", name, lambda spec: seed_of(spec) == 0)
    assert names(results, name) == ["gpu", "laptop"]
    last = experiment(name).runs(profile("laptop"), (0,))[-1]
    keep(results, "laptop", name, lambda spec: spec == last)
    assert names(results, name) == ["gpu", "laptop"], "where none is complete, all are shown"
    (results / "gpu" / "runs.jsonl").unlink()
    assert names(results, name) == ["laptop"]
    keep(results, "laptop", name, lambda spec: False)
    assert names(results, name) == []
    assert shown("efficiency", results) == []


def test_what_runs_were_made_from_need_not_be_there_to_be_complete(tmp_path):
    results = publish_both(tmp_path, "filters")
    drop(results, "gpu", lambda r: r.spec.kind == "train")
    (found,) = shown("filters", results)
    assert found.profile.name == "gpu" and not found.upstream and found.seeds == list(SEEDS)


def test_trained_networks_count_for_a_chapter_before_its_own_runs_are_there(tmp_path):
    """Or the scoreboard would count other runs as published than the page on compute does."""
    results = publish_both(tmp_path, "filters")
    trained = sum(record.spec.kind == "train" for record in read_folder(results / "gpu").records.values())
    one = published("filters", results).records[0].id
    drop(results, "gpu", lambda record: record.spec.kind == "filters" and record.id != one)
    found = shown("filters", results)[0]
    assert (found.profile.name, [r.id for r in found.records]) == ("gpu", [one])
    assert len(found.upstream) == trained > 0 and not complete(found)


@pytest.mark.parametrize("name", ["linear-probes", "standard-mlp"])
def test_more_seeds_of_another_chapter_do_not_mix_with_a_chapters_own(name, tmp_path):
    """Transfer and scaling laws share trainings with both; their further seeds shift some means only."""
    store, results = RunStore(tmp_path / "runs"), tmp_path / "results"
    fill(store, name, "laptop", (0, 1))
    publish(name, "laptop", (0, 1), store, results)
    before = published(name, results)
    for other in ("transfer", "scaling-laws"):
        fill(store, other, "laptop", (0, 1, 2))
        publish(other, "laptop", (0, 1, 2), store, results)
    assert published("transfer", results).seeds == [0, 1, 2]
    assert published(name, results).records == before.records
    keep(results, "laptop", name, lambda spec: seed_of(spec) == 2)
    assert published(name, results).seeds == [2], "while none is complete, all are shown"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_studys_records_at_profile_laptop_are_complete(name):
    (found,) = (each for each in every_published(name, ROOT / "results") if each.profile.name == "laptop")
    assert complete(found)
    assert shown(name, ROOT / "results")[-1].profile.name in ("gpu", "laptop")


def test_a_chapters_fingerprint_changes_with_what_it_shows_only(tmp_path):
    results = publish_both(tmp_path, "label-smoothing", (0,))
    before = fingerprint("label-smoothing", results)
    one = RunStore(tmp_path / "more")
    fill(one, "architectures", "gpu")
    publish("architectures", "gpu", SEEDS, one, results)
    assert fingerprint("label-smoothing", results) == before
    assert fingerprint("architectures", results) != fingerprint("architectures", tmp_path / "more")
    lost = published("label-smoothing", results).records[0].id
    drop(results, "gpu", lambda r: r.id == lost)
    assert fingerprint("label-smoothing", results) != before


# --------------------------------------------------------------------------- what is written, and when


def test_pictures_go_with_the_records(store, tmp_path):
    made = fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    artifacts = published("filters", tmp_path / "results").artifacts
    for one in made:
        assert (artifacts / one.id / MOSAIC).read_bytes() == (store.folder(one.id) / MOSAIC).read_bytes()
    assert sorted(p.name for p in artifacts.iterdir()) == sorted(r.id for r in made)


def test_records_appear_only_with_their_pictures(store, tmp_path):
    fill(store, "filters")
    artifacts = tmp_path / "results" / "laptop" / "artifacts"
    artifacts.parent.mkdir(parents=True)
    artifacts.write_text("in the way")
    with pytest.raises(MlplibError, match="cannot write"):
        publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    assert published("filters", tmp_path / "results") is None


def test_only_finished_experiments_are_published(store, tmp_path):
    fill(store, "from-scratch", seeds=(0,))
    each = len(experiment("from-scratch").runs(profile("laptop"), (0,)))
    line = rf"{each} of {2 * each} runs of from-scratch are not finished, .*-s1-"
    with pytest.raises(MlplibError, match=line) as caught:
        publish("from-scratch", "laptop", SEEDS, store, tmp_path / "results")
    assert "mlplib run from-scratch --profile laptop" in str(caught.value)
    assert not (tmp_path / "results").exists(), "nothing half published"


def test_a_diverged_run_is_published_as_what_it_is(store, tmp_path):
    specs = experiment("from-scratch").runs(profile("laptop"), (0,))
    leave(store, (record(spec, "diverged" if i == 1 else "completed") for i, spec in enumerate(specs)))
    publish("from-scratch", "laptop", (0,), store, tmp_path / "results")
    statuses = [r.status for r in published("from-scratch", tmp_path / "results").records]
    assert statuses == ["completed", "diverged", *["completed"] * (len(specs) - 2)]


def test_devices_are_named_once(store, tmp_path):
    made = [record(spec) for spec in experiment("from-scratch").runs(profile("laptop"), (0,))]
    on = [dataclasses.replace(one, environment={"device": "AB"[i % 2]}) for i, one in enumerate(made)]
    leave(store, on)
    publish("from-scratch", "laptop", (0,), store, tmp_path / "results")
    assert published("from-scratch", tmp_path / "results").devices == "A, B"


DEEP = b"[" * 100_000 + b"]" * 100_000
LINES = [b"", b"{", b"[]", b"null", b"3", b'{"format": 1}', b'{"format": 9}', b"<<<<<<< HEAD", b"\xff", DEEP]


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line[:12]))
def test_a_line_that_is_no_record_is_named(store, tmp_path, line):
    fill(store, "from-scratch")
    path = publish("from-scratch", "laptop", SEEDS, store, tmp_path / "results").path
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, *lines[1:]]) + b"\n")
    with pytest.raises(MlplibError, match=r"^laptop/runs\.jsonl, line 2, is not a record"):
        published("from-scratch", tmp_path / "results")


def test_a_record_that_was_changed_is_not_used(store, tmp_path):
    changed = fill(store, "from-scratch")[1]
    path = publish("from-scratch", "laptop", SEEDS, store, tmp_path / "results").path
    before = f'"test_top1": {changed.metrics["test_top1"]}'
    path.write_text(path.read_text().replace(before, '"test_top1": 0.7'))
    for read in (published, fingerprint, shown):
        with pytest.raises(
            MlplibError, match=f"the record of {changed.id} is not the published one: restore"
        ):
            read("from-scratch", tmp_path / "results")


def test_an_artifact_that_was_changed_is_not_used(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    path = sorted(tmp_path.glob("results/laptop/artifacts/*/*"))[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MlplibError, match=f"{path.parent.name}/{path.name} is not the published file"):
        published("filters", tmp_path / "results")


@pytest.mark.parametrize("name", ["runs.jsonl", HASHES])
def test_a_folder_in_a_files_place_is_one_line(tmp_path, name):
    (tmp_path / "gpu" / name).mkdir(parents=True)
    with pytest.raises(MlplibError, match=f"{name} is no regular file of at most"):
        published("filters", tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "gpu").mkdir()
    with (tmp_path / "gpu" / "runs.jsonl").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(MlplibError, match="no regular file of at most 256 MiB"):
        published("filters", tmp_path)


@pytest.mark.parametrize("line", ["nonsense", "0" * 64 + "  x\n0  a", "0" * 63 + "  a", "0" * 64 + "  A"])
def test_hashes_of_another_form_are_named(tmp_path, line):
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / HASHES).write_text(line)
    with pytest.raises(MlplibError, match=r"hashes.txt, line \d, is not a hash and a name"):
        published("filters", tmp_path)


def test_a_results_folder_that_cannot_be_written_is_one_line(store, tmp_path):
    fill(store, "from-scratch")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(MlplibError, match=r"MLPLIB_RESULTS must be the path of a folder, not "):
            publish("from-scratch", "laptop", SEEDS, store, place)


def test_the_folder_is_the_argument_then_the_environment_then_the_source_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_RESULTS", str(tmp_path / "set"))
    with pytest.raises(MlplibError, match=r"MLPLIB_RESULTS must be the path .*: there is none"):
        results_folder()
    assert results_folder(new=True) == tmp_path / "set" and results_folder(tmp_path) == tmp_path
    monkeypatch.delenv("MLPLIB_RESULTS")
    assert results_folder().name == "results" and (results_folder().parent / "mlplib").is_dir()


def test_unknown_names_are_one_line(store, tmp_path):
    for name, budget in (("nope", "laptop"), ("filters", "nope")):
        with pytest.raises(MlplibError, match=r"unknown .*choose one of"):
            publish(name, budget, SEEDS, store, tmp_path / "results")


# --------------------------------------------------------------------------- the study's own records

PIECE_BY_PIECE = ("gpu",)
"""Profiles whose records come as machines can be had: what is there is in order, but not all."""

OWN = [
    pytest.param(name, found, id=f"{found.profile.name}/{name}")
    for name in EXPERIMENTS
    for found in every_published(name, ROOT / "results")
]
FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/runs.jsonl"))


def test_there_are_records_of_every_experiment():
    assert {param.values[0] for param in OWN} == set(EXPERIMENTS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_studys_records_are_those_of_its_runs(folder):
    """A changed setting, data set or numerics version leaves records of runs that no experiment has."""
    records, chosen = read_folder(folder).records, profile(folder.name)
    seeds = sorted({seed_of(r.spec) for r in records.values()} - {None})
    runs = [spec for name in EXPERIMENTS for spec in experiment(name).runs(chosen, seeds)]
    assert {r.spec for r in records.values()} <= set(with_upstream(runs).values())
    for one in records.values():
        name = one.spec.data_name()
        if name is None or one.data["content_hash"] == content_hash(name):
            assert one.id == run_id(one.spec)
        assert one.environment["commit"]
    made_from = {spec for r in records.values() for spec in r.spec.needs()}
    assert made_from <= {r.spec for r in records.values()}
    for artifact in folder.glob("artifacts/*/*"):
        assert artifact.stat().st_size < 200_000


@pytest.mark.parametrize("name, found", OWN)
def test_the_studys_records_decide_its_claims_and_fill_its_tables(name, found):
    specs, runs = {r.spec for r in found.records}, experiment(name).runs
    assert specs <= set(runs(found.profile, found.seeds))
    if found.profile.name not in PIECE_BY_PIECE:  # further seeds may be there for what experiments share
        whole = [seed for seed in found.seeds if set(runs(found.profile, (seed,))) <= specs]
        assert len(whole) >= 3
    assert experiment(name).summary(found.records, found.profile)
    for claim in experiment(name).CLAIMS:
        assert decide(claim, found.records, found.profile.name).verdict in VERDICTS
