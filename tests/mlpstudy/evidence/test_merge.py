"""A campaign's records join the published ones: each run once, in stable order, contradictions refused."""

import dataclasses
import itertools
import json
import re
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import ROOT, record
from typer.testing import CliRunner

from mlplib.data.catalog import content_hash
from mlplib.errors import MlplibError
from mlplib.executor import MOSAIC
from mlplib.planning import with_upstream
from mlplib.specs import DataSpec, ModelSpec, TrainSpec
from mlplib.store import RunStore, run_id
from mlpstudy import cli
from mlpstudy.campaign import parcel
from mlpstudy.campaign.parcel import Item, Parcel
from mlpstudy.evidence.merge import check, merge
from mlpstudy.evidence.published import files_of, published, read_records
from mlpstudy.evidence.publishing import publish
from mlpstudy.experiments import experiment
from mlpstudy.profiles import profile

GPU = profile("gpu")
NAMES = ("filters", "label-smoothing")


def made(spec, **metrics):
    """A record by hand, under the id that its data give it."""
    found = record(spec, **metrics)
    data = {**found.data, "content_hash": content_hash(spec.data_name())}
    return dataclasses.replace(found, data=data, id=run_id(spec))


def everything(seeds=(0, 1)) -> list[Item]:
    """Every run of some experiments, and what they read from, as if a campaign had done them."""
    specs = [spec for name in NAMES for spec in experiment(name).runs(GPU, seeds)]
    return [
        Item(made(spec), {MOSAIC: b"picture"} if spec.kind == "filters" else {})
        for spec in with_upstream(specs).values()
    ]


ALL = everything()


def packed(folder, items, name: str = "gpu"):
    box = Parcel(folder, name)
    for item in items:
        box.add(item)
    return folder


def contents(root) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_was_done_elsewhere_is_published_as_if_it_had_been_done_here(tmp_path):
    """All records of two experiments, merged, are the very files that publishing makes of them."""
    found = merge(packed(tmp_path / "out", ALL), tmp_path / "merged")
    assert (found.profile, found.new, found.known, found.other) == ("gpu", len(ALL), 0, ())
    store = RunStore(tmp_path / "runs")
    for item in ALL:
        store.folder(item.record.id).mkdir(parents=True)
        store.write(item.record)
        for name, content in item.artifacts.items():
            (store.folder(item.record.id) / name).write_bytes(content)
    for name in NAMES:
        publish(name, "gpu", (0, 1), store, tmp_path / "published")
    merged, other = (contents(tmp_path / side) for side in ("merged", "published"))
    assert {path: merged[path] for path in other} == other
    assert check(tmp_path / "merged") > len(ALL)


@settings(max_examples=4)
@given(cuts=st.lists(st.integers(0, len(ALL)), max_size=2), order=st.randoms(use_true_random=False))
def test_the_order_of_parcels_does_not_matter_and_nothing_is_lost(tmp_path_factory, cuts, order):
    folder, items = tmp_path_factory.mktemp("order"), list(ALL)
    order.shuffle(items)
    bounds = [0, *sorted(cuts), len(items)]
    for i, (first, last) in enumerate(itertools.pairwise(bounds)):
        overlap = items[max(0, first - 2) : last]  # some runs come twice
        if overlap:
            merge(packed(folder / f"out{i}", overlap), folder / "results")
    merge(packed(folder / "whole", ALL), folder / "at once")
    assert contents(folder / "results") == contents(folder / "at once")


def test_the_same_run_twice_is_kept_once_whoever_did_it_when(tmp_path):
    merge(packed(tmp_path / "first", ALL[:5]), tmp_path / "results")
    before = contents(tmp_path / "results")
    slower = dataclasses.replace(ALL[0].record, compute={"seconds": 99.0}, environment={"device": "another"})
    found = merge(packed(tmp_path / "again", [Item(slower, {}), *ALL[1:3]]), tmp_path / "results")
    assert (found.new, found.known) == (0, 3) and contents(tmp_path / "results") == before


def test_contradictions_are_refused_and_a_person_decides(tmp_path):
    results = tmp_path / "results"
    merge(packed(tmp_path / "first", ALL), results)
    before = contents(results)
    first = ALL[-1].record
    other = dataclasses.replace(first, metrics={**first.metrics, "test_top1": 0.75})
    out = packed(tmp_path / "other", [Item(other, {})])
    with pytest.raises(MlplibError) as refused:
        merge(out, results)
    assert f"{first.id} is published with other metrics (test_top1: 0.5 there, 0.75 here)" in str(
        refused.value
    )
    assert "--prefer published or --prefer new; nothing was merged" in str(refused.value)
    assert contents(results) == before
    assert merge(out, results, prefer="published").known == 1 and contents(results) == before
    merge(out, results, prefer="new")
    found = [r for path in results.rglob("*.jsonl") for r in read_records(path) if r.id == first.id]
    assert found and all(r.metrics["test_top1"] == 0.75 for r in found)
    with pytest.raises(MlplibError, match="unknown preference 'newest'"):
        merge(out, results, prefer="newest")


def test_a_part_of_an_experiment_is_published_as_what_it_is(tmp_path):
    """A training whose looks are still to come waits for them; further seeds are welcome."""
    looks = experiment("filters").runs(GPU, (4,))
    looks = [
        look for look in looks if look.upstream.data.examples and look.needs()
    ]  # nobody else trains these
    upstream = looks[-1].needs()[0]
    merge(packed(tmp_path / "a", [Item(made(upstream), {})]), tmp_path / "results")
    own, behind = files_of(tmp_path / "results" / "gpu", "filters")
    assert not own.exists() and [r.spec for r in read_records(behind)] == [upstream]
    merge(packed(tmp_path / "b", [Item(made(looks[-1]), {MOSAIC: b"it"})]), tmp_path / "results")
    found = published("filters", tmp_path / "results")
    assert [r.spec for r in found.records] == [looks[-1]] and [r.spec for r in found.upstream] == [upstream]
    assert (found.artifacts / run_id(looks[-1]) / MOSAIC).read_bytes() == b"it"


def test_runs_of_no_experiment_stay_in_the_parcel_and_are_named(tmp_path):
    own = TrainSpec(ModelSpec.parse("B-1/Wi-8"), DataSpec("cifar10"), epochs=1, batch_size=8)
    out = packed(tmp_path / "out", [Item(made(own), {}), *ALL[:2]])
    assert merge(out, tmp_path / "results").other == (run_id(own),)
    done = CliRunner().invoke(cli.app, ["results", "merge", str(out), "--results", str(tmp_path / "results")])
    assert done.exit_code == 1 and f"1 run left out, {run_id(own)} for one" in str(done.exception)


def test_records_of_other_data_or_another_version_are_refused(tmp_path):
    first = ALL[0].record
    elsewhere = dataclasses.replace(first, data={**first.data, "content_hash": "1" * 64})
    renamed = dataclasses.replace(first, id=first.id[:-1] + ("0" if first.id[-1] != "0" else "1"))
    for i, bad in enumerate((elsewhere, renamed)):
        out = packed(tmp_path / f"out{i}", [Item(bad, {})])
        with pytest.raises(MlplibError, match="is not that of its settings and data"):
            merge(out, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_what_an_experiment_no_longer_has_is_not_lost_by_merging(tmp_path):
    merge(packed(tmp_path / "a", ALL), tmp_path / "results")
    path, _ = files_of(tmp_path / "results" / "gpu", "label-smoothing")
    old = made(TrainSpec(ModelSpec.parse("B-1/Wi-8"), DataSpec("cifar10"), epochs=1, batch_size=8))
    line = json.dumps(old.to_json(), sort_keys=True)
    path.write_text(line + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    merge(packed(tmp_path / "b", ALL[:1]), tmp_path / "results")
    assert read_records(path)[-1].id == old.id and len(read_records(path)) > 1


# --------------------------------------------------------------------------- what is published


def test_the_published_records_of_this_repository_are_as_they_should_be():
    done = CliRunner().invoke(cli.app, ["results", "check", "--results", str(ROOT / "results")])
    assert done.exit_code == 0, done.exception
    assert re.match(r"[7-9]\d\d|[\d,]{5,} records checked, all as they should be", done.output)


def spoil_keys(lines):
    lines[0] = json.dumps(json.loads(lines[0]), sort_keys=False, indent=None, separators=(",", ":"))


def spoil_twice(lines):
    lines.append(lines[0])


def spoil_path(lines):
    values = json.loads(lines[0])
    values["environment"]["device"] = "/home" + "/somebody/gpu"
    lines[0] = json.dumps(values, sort_keys=True)


def spoil_order(lines):
    lines[:2] = lines[1::-1]


def spoil_id(lines):
    values = json.loads(lines[0])
    values["id"] = values["id"][:-4] + "beef"
    lines[0] = json.dumps(values, sort_keys=True)


def spoil_number(lines):
    lines[0] = lines[0].replace('"seed": 0', '"seed": NaN', 1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_keys, "line 1, is not as mlplib writes it"),
        (spoil_twice, "is there twice"),
        (spoil_path, r"names a folder of a machine \(/home\.\.\.\)"),
        (spoil_order, "is not in the order of the experiment"),
        (spoil_id, "is not that of its settings and data"),
        (spoil_number, "line 1, is not a record"),
    ],
)
def test_every_wrong_line_is_named(tmp_path, spoil, words):
    merge(packed(tmp_path / "a", ALL), tmp_path / "results")
    path, _ = files_of(tmp_path / "results" / "gpu", "filters")
    lines = path.read_text(encoding="utf-8").splitlines()
    spoil(lines)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(MlplibError, match=words):
        check(tmp_path / "results")


def test_a_picture_without_its_record_is_named(tmp_path):
    merge(packed(tmp_path / "a", ALL), tmp_path / "results")
    shutil.copytree(
        next((tmp_path / "results" / "gpu" / "artifacts").iterdir()),
        tmp_path / "results" / "gpu" / "artifacts" / "nobody",
    )
    with pytest.raises(MlplibError, match="artifacts/nobody belongs to no published run"):
        check(tmp_path / "results")


def test_results_that_cannot_be_written_to_are_named(tmp_path):
    out = packed(tmp_path / "a", ALL[:2])
    (tmp_path / "results").write_text("a file")
    with pytest.raises(MlplibError, match="cannot be written to"):
        merge(out, tmp_path / "results")
    assert len(parcel.read(out)[1]) == 2
