"""Published records: always the same file, read back whole, refused where something is missing."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from small_runs import ROOT, record

from mlplib.data.catalog import content_hash
from mlplib.errors import MlplibError
from mlplib.executor import MOSAIC
from mlplib.planning import with_upstream
from mlplib.specs import RunSpec
from mlplib.store import RunStore, by_id, run_id
from mlpstudy.claims import VERDICTS, decide
from mlpstudy.evidence.published import (
    BEST_FIRST,
    complete,
    every_published,
    expected,
    published,
    read_records,
    results_folder,
    shown,
)
from mlpstudy.evidence.publishing import publish
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.profiles import profile

SEEDS = (0, 1)


def fill(store, name, budget="laptop", seeds=SEEDS):
    """A store in which every run of an experiment is finished, with what it was made from; gives the records
    of the experiment's own runs in their order.
    """
    specs = by_id(experiment(name).runs(profile(budget), seeds))
    for i, (id, spec) in enumerate((with_upstream(specs.values()) | specs).items()):
        with store.claim(spec) as folder:
            if store.find(spec) is None:
                store.write(record(spec, test_top1=0.1 + 0.001 * i))
            if spec.kind == "filters" and id in specs:
                np.save(folder / MOSAIC, np.full((2, 3, 3), list(specs).index(id), dtype=np.uint8))
    return [store.find(spec) for spec in specs.values()]


def contents(folder):
    """Every file below a folder: its bytes and its time."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_published_is_read_back(store, tmp_path, name):
    made = fill(store, name)
    path = publish(name, "laptop", SEEDS, store, tmp_path / "results")
    assert path == tmp_path / "results" / "laptop" / f"{name}.jsonl"
    found = published(name, tmp_path / "results")
    assert found.records == made and found.profile.name == "laptop" and found.devices == "a test"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [r.id for r in made], "one line a record, in order"


def test_publishing_again_changes_no_file(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "a")
    before = contents(tmp_path / "a")
    assert {name for name in before if "/artifacts/" not in name} == {
        "laptop/filters.jsonl",
        "laptop/filters.upstream.jsonl",
    }
    publish("filters", "laptop", SEEDS, store, tmp_path / "a")
    assert contents(tmp_path / "a") == before
    # Another folder, and another experiment beside it: the same bytes.
    other = RunStore(tmp_path / "other")
    shutil.copytree(store.root, other.root)
    fill(other, "from-scratch")
    for name in ("from-scratch", "filters"):
        publish(name, "laptop", SEEDS, other, tmp_path / "b")
    after = contents(tmp_path / "b")
    assert {name: after[name][0] for name in before} == {name: found[0] for name, found in before.items()}


# --------------------------------------------------------------------------- what runs were made from


def test_runs_that_others_read_from_are_published_beside_them(store, tmp_path):
    fill(store, "filters")
    path = publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    found = published("filters", tmp_path / "results")
    specs = experiment("filters").runs(profile("laptop"), SEEDS)
    own = {run_id(spec) for spec in specs}
    assert [r.id for r in found.upstream] == [id for id in with_upstream(specs) if id not in own] != []
    assert not {r.id for r in found.records} & {r.id for r in found.upstream}
    assert read_records(path.with_name("filters.upstream.jsonl")) == found.upstream


def test_an_experiment_that_reads_from_no_other_run_has_no_such_file(store, tmp_path):
    fill(store, "architectures")
    stale = tmp_path / "results" / "laptop" / "architectures.upstream.jsonl"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    publish("architectures", "laptop", SEEDS, store, tmp_path / "results")
    assert not stale.exists() and published("architectures", tmp_path / "results").upstream == []


def test_an_upstream_run_that_is_gone_is_taken_from_what_is_published_or_named(store, tmp_path):
    fill(store, "filters")
    first = publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    before = contents(tmp_path / "results")
    upstream = published("filters", tmp_path / "results").upstream
    gone = next(r for r in upstream if r.spec.data.examples is None)  # from-scratch has it, too
    shutil.rmtree(store.folder(gone.id))
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    assert contents(tmp_path / "results") == before
    first.with_name("filters.upstream.jsonl").unlink()
    with pytest.raises(MlplibError, match=f"^{gone.id}, which published runs were made from") as caught:
        publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    assert "\n" not in str(caught.value)
    other = RunStore(tmp_path / "other")
    fill(other, "from-scratch")
    publish("from-scratch", "laptop", SEEDS, other, tmp_path / "results")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    found = published("filters", tmp_path / "results").upstream
    assert [r.id for r in found] == [r.id for r in upstream] and other.find(gone.spec) in found


def test_runs_that_were_published_before_need_not_be_in_the_store(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    before = contents(tmp_path / "results")
    publish("filters", "laptop", SEEDS, RunStore(tmp_path / "empty"), tmp_path / "results")
    assert contents(tmp_path / "results") == before
    with pytest.raises(MlplibError, match="are not finished"):
        publish("filters", "laptop", (*SEEDS, 7), RunStore(tmp_path / "empty"), tmp_path / "results")


def test_pictures_of_runs_that_are_no_longer_published_go(store, tmp_path):
    fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    artifacts = tmp_path / "results" / "laptop" / "artifacts"
    (artifacts / "somebody-elses").mkdir()
    publish("filters", "laptop", (1,), store, tmp_path / "results")
    kept = {r.id for r in published("filters", tmp_path / "results").records}
    assert {p.name for p in artifacts.iterdir()} == kept | {"somebody-elses"}


def test_every_profile_is_read_the_best_first(tmp_path):
    results = tmp_path / "results"
    for budget in ("laptop", "gpu", "smoke"):
        one = RunStore(tmp_path / budget)
        fill(one, "filters", budget)
        publish("filters", budget, SEEDS, one, results)
    found = list(every_published("filters", results))
    assert [each.profile.name for each in found] == ["gpu", "laptop"]
    assert all(each.records and each.upstream for each in found)
    assert list(every_published("from-scratch", results)) == []


# --------------------------------------------------------------------------- which of them are shown


def keep(results, budget, name, wanted):
    """Leave only those published records of an experiment's own runs that ``wanted`` says of."""
    path = results / budget / f"{name}.jsonl"
    lines = path.read_text().splitlines()
    left = [line for line, each in zip(lines, read_records(path), strict=True) if wanted(each.spec)]
    path.write_text("".join(f"{line}\n" for line in left))


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
def test_a_complete_profile_is_shown_alone_and_an_incomplete_one_with_the_next(name, tmp_path):
    results = publish_both(tmp_path, name)
    assert names(results, name) == ["gpu"]
    first = experiment(name).runs(profile("gpu"), (0,))[0]
    keep(results, "gpu", name, lambda spec: spec != first)
    assert names(results, name) == ["gpu"], "seed 1 is whole"
    keep(results, "gpu", name, lambda spec: seeds_of(spec) == {0})
    assert names(results, name) == ["gpu", "laptop"]
    keep(results, "laptop", name, lambda spec: spec.slug().startswith("nothing"))
    assert names(results, name) == ["gpu", "laptop"], "where none is complete, all are shown"
    (results / "gpu" / f"{name}.jsonl").unlink()
    assert names(results, name) == ["laptop"]
    assert shown("batch-size", results) == []


def test_what_runs_were_made_from_need_not_be_there_to_be_complete(tmp_path):
    results = publish_both(tmp_path, "filters")
    (results / "gpu" / "filters.upstream.jsonl").unlink()
    (found,) = shown("filters", results)
    assert found.profile.name == "gpu" and not found.upstream and found.seeds == list(SEEDS)


def test_a_data_set_that_only_some_have_prepared_makes_nothing_incomplete(tmp_path, monkeypatch):
    from mlplib.data.get import cache

    results = publish_both(tmp_path, "transfer", (0,))
    before = expected("transfer", profile("gpu"), (0,))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "manifest", lambda name: {"anything": 1})
        assert len(experiment("transfer").runs(profile("gpu"), (0,))) > len(before)
        assert expected("transfer", profile("gpu"), (0,)) == before
        assert names(results, "transfer") == ["gpu"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_studys_records_at_profile_laptop_are_complete(name):
    (found,) = (each for each in every_published(name, ROOT / "results") if each.profile.name == "laptop")
    assert complete(name, found)
    assert shown(name, ROOT / "results")[-1].profile.name in ("gpu", "laptop")


# --------------------------------------------------------------------------- what is written, and when


def test_pictures_go_with_the_records(store, tmp_path):
    made = fill(store, "filters")
    publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    artifacts = published("filters", tmp_path / "results").artifacts
    for i, one in enumerate(made):
        assert np.load(artifacts / one.id / MOSAIC).tolist() == np.full((2, 3, 3), i).tolist()
    assert sorted(p.name for p in artifacts.iterdir()) == sorted(r.id for r in made)


def test_records_appear_only_with_their_pictures(store, tmp_path):
    fill(store, "filters")
    artifacts = tmp_path / "results" / "laptop" / "artifacts"
    artifacts.parent.mkdir(parents=True)
    artifacts.write_text("in the way")
    with pytest.raises(MlplibError, match="cannot be written to"):
        publish("filters", "laptop", SEEDS, store, tmp_path / "results")
    assert published("filters", tmp_path / "results") is None


def test_only_finished_experiments_are_published(store, tmp_path):
    fill(store, "from-scratch", seeds=(0,))
    each = len(experiment("from-scratch").runs(profile("laptop"), (0,)))
    line = rf"{each} of {2 * each} runs of from-scratch are not finished, .*-s1-"
    with pytest.raises(MlplibError, match=line) as caught:
        publish("from-scratch", "laptop", SEEDS, store, tmp_path / "results")
    assert "mlplib run from-scratch --profile laptop" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists(), "nothing half published"


def test_a_diverged_run_is_published_as_what_it_is(store, tmp_path):
    specs = experiment("from-scratch").runs(profile("laptop"), (0,))
    for i, spec in enumerate(specs):
        with store.claim(spec):
            store.write(record(spec, "diverged" if i == 1 else "completed"))
    publish("from-scratch", "laptop", (0,), store, tmp_path / "results")
    statuses = [r.status for r in published("from-scratch", tmp_path / "results").records]
    assert statuses == ["completed", "diverged", *["completed"] * (len(specs) - 2)]


def test_the_strongest_profile_is_read_first(tmp_path):
    results = tmp_path / "results"
    assert published("from-scratch", results) is None
    for budget in ("smoke", "laptop", "gpu", "paper"):
        one = RunStore(tmp_path / budget)
        fill(one, "from-scratch", budget)
        publish("from-scratch", budget, SEEDS, one, results)
        found = published("from-scratch", results)
        if budget == "smoke":
            assert found is None, "drawn shapes are no evidence"
        else:
            assert found.profile.name == budget
            assert {r.spec.epochs for r in found.records} >= {profile(budget).epochs_no_da}
    assert published("filters", results) is None
    assert BEST_FIRST == ("paper", "gpu", "laptop")


def test_devices_are_named_once(store, tmp_path):
    for i, spec in enumerate(experiment("from-scratch").runs(profile("laptop"), (0,))):
        with store.claim(spec):
            store.write(dataclasses.replace(record(spec), environment={"device": "B" if i % 2 else "A"}))
    publish("from-scratch", "laptop", (0,), store, tmp_path / "results")
    assert published("from-scratch", tmp_path / "results").devices == "A, B"


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "null", "3", '{"format": 1}', '{"format": 99}', "<<<<<<< HEAD"]
)
def test_a_line_that_is_no_record_is_named(store, tmp_path, line):
    fill(store, "from-scratch")
    path = publish("from-scratch", "laptop", SEEDS, store, tmp_path / "results")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    for read in (lambda: read_records(path), lambda: published("from-scratch", tmp_path / "results")):
        with pytest.raises(MlplibError, match=r"from-scratch\.jsonl, line 2, is not a record") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_results_folder_that_cannot_be_written_is_one_line(store, tmp_path):
    fill(store, "from-scratch")
    (tmp_path / "file").write_text("")
    with pytest.raises(MlplibError, match=r"file.* cannot be written to .*MLPLIB_RESULTS") as caught:
        publish("from-scratch", "laptop", SEEDS, store, tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_the_folder_is_the_argument_then_the_environment_then_the_source_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_RESULTS", str(tmp_path / "set"))
    assert results_folder() == tmp_path / "set" and results_folder(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("MLPLIB_RESULTS")
    assert results_folder().name == "results" and (results_folder().parent / "mlplib").is_dir()


def test_unknown_names_are_one_line(store, tmp_path):
    for name, budget in (("nope", "laptop"), ("filters", "nope")):
        with pytest.raises(MlplibError, match=r"unknown .*choose one of"):
            publish(name, budget, SEEDS, store, tmp_path / "results")


# --------------------------------------------------------------------------- the study's own records

PIECE_BY_PIECE = ("gpu",)
"""Profiles whose records come as machines can be had: what is there is in order, but not all."""

OWN = sorted(p for p in (ROOT / "results").glob("*/*.jsonl") if not p.stem.endswith(".upstream"))


def seeds_of(spec):
    """The seeds that a run was asked for with: those of what it reads from, where that has any."""
    inner = [getattr(spec, field.name) for field in dataclasses.fields(spec)]
    found = set().union(*(seeds_of(each) for each in inner if isinstance(each, RunSpec)))
    return found or ({spec.seed} if hasattr(spec, "seed") else set())


def test_there_are_records_of_every_experiment():
    assert {path.stem for path in OWN} == set(EXPERIMENTS)


@pytest.mark.parametrize("path", OWN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_studys_records_are_those_of_its_runs(path):
    """A changed setting, data set or numerics version leaves records
    of runs that nobody asks for any more.
    """
    records = read_records(path)
    seeds = sorted(set.union(*(seeds_of(r.spec) for r in records)))
    specs = experiment(path.stem).runs(profile(path.parent.name), seeds)
    found = {r.spec for r in records} if path.parent.name in PIECE_BY_PIECE else set(specs)
    assert [r.spec for r in records] == [spec for spec in dict.fromkeys(specs) if spec in found]
    for one in records:
        name = one.spec.data_name()
        if name is None or one.data["content_hash"] == content_hash(name):
            assert one.id == run_id(one.spec)
        assert one.status in ("completed", "diverged") and one.environment["commit"]
        assert not re.search(r"(/home/|/root/|/work/|/Users/|/tmp/)", json.dumps(one.to_json()))
    for artifact in (path.parent / "artifacts").glob("*/*"):
        assert artifact.stat().st_size < 200_000


@pytest.mark.parametrize("path", OWN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_studys_records_come_with_what_they_were_made_from(path):
    own = [r.spec for r in read_records(path)]
    upstream = path.with_name(f"{path.stem}.upstream.jsonl")
    found = [r.spec for r in read_records(upstream)] if upstream.is_file() else []
    needed = [spec for spec in with_upstream(own).values() if spec not in own]
    if path.parent.name in PIECE_BY_PIECE:  # some may wait for the first run to be made from them
        others = {r.spec for p in path.parent.glob("*.jsonl") if p != upstream for r in read_records(p)}
        chosen = profile(path.parent.name)
        seeds = sorted(set.union(*map(seeds_of, [*own, *found])))
        every = with_upstream(experiment(path.stem).runs(chosen, seeds)).values()
        waiting = {spec for spec in found if spec not in needed}
        assert waiting <= set(every) - others
        needed = [spec for spec in every if spec in needed or spec in waiting]
    assert found == needed


def test_the_study_publishes_no_record_twice_and_no_picture_without_its_record():
    for folder in {path.parent for path in OWN}:
        published_ids = set()
        for path in sorted(folder.glob("*.jsonl")):
            ids = [r.id for r in read_records(path)]
            assert len(ids) == len(set(ids)), path
            published_ids |= set(ids)
        assert {p.name for p in folder.glob("artifacts/*")} <= published_ids


@pytest.mark.parametrize("path", OWN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_studys_records_decide_its_claims_and_fill_its_tables(path):
    records, chosen = read_records(path), profile(path.parent.name)
    assert experiment(path.stem).summary(records, chosen)
    for claim in experiment(path.stem).CLAIMS:
        assert decide(claim, records, chosen.name).verdict in VERDICTS
