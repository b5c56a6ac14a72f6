"""Every fault of published records that a person or a disk could make is named in one line."""

import io
import json
import re
import shutil
import subprocess
import tarfile

import pytest
from published_folders import ALL, packed
from small_runs import ROOT
from typer.testing import CliRunner

from mlplib.errors import MlplibError
from mlplib.machine import blob_id, source_digest
from mlplib.store import Record
from mlpstudy import cli
from mlpstudy.evidence.check import check, traced
from mlpstudy.evidence.records import HASHES, sha256


def test_the_published_records_of_this_repository_have_no_faults():
    done = CliRunner().invoke(cli.app, ["results", "check", "--results", str(ROOT / "results")])
    assert done.exit_code == 0, done.exception
    assert re.match(r"[1-9]\d{3,} records and \d+ artifacts checked: no faults", done.output)


def test_a_record_is_traced_to_the_source_of_its_commit():
    def made(**environment):
        return Record("x", None, "completed", {}, {}, environment=environment)

    head = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    listed = ["git", "-C", ROOT, "archive", head, "mlplib"]
    archive = subprocess.run(listed, capture_output=True, check=True).stdout
    source = source_digest(
        {
            member.name.removeprefix("mlplib/"): blob_id(tar.extractfile(member).read())
            for tar in [tarfile.open(fileobj=io.BytesIO(archive))]
            for member in tar
            if member.name.endswith(".py")
        }
    )
    assert traced(made(commit=head, source=source, dirty=False))
    assert not traced(made(commit=head, source="0" * 64, dirty=True)), "changed, and says so"
    assert not traced(made(commit="0" * 40, source=source, dirty=False)), "a commit that is not here"
    assert not traced(made(commit=head, dirty=False)), "an old record without a hash"
    with pytest.raises(MlplibError, match="not made by the source of commit"):
        traced(made(commit=head, source="0" * 64, dirty=False))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("whole") / "results", ALL)


@pytest.fixture
def results(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "results")


def rewrite(results, change, hashes: bool):
    """Change the lines of a published file, and if ``hashes`` their hashes, as somebody might on purpose."""
    root = results / "gpu"
    lines = (root / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    change(lines)
    (root / "runs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if hashes:
        found = {line[66:]: line[:64] for line in (root / HASHES).read_text().splitlines()}
        found |= {json.loads(line)["id"]: sha256(line.encode()) for line in lines}
        (root / HASHES).write_text("".join(f"{hash}  {key}\n" for key, hash in found.items()))


def edit(part, value=None, **values):
    """A change of one part of the second record: another value, or some other values in it."""

    def change(lines):
        record = json.loads(lines[1])
        record[part] = record[part] | values if value is None else value
        lines[1] = json.dumps(record, sort_keys=True)

    return change


def respaced(lines):
    lines[1] = json.dumps(json.loads(lines[1]), sort_keys=True, separators=(",", ":"))


def twice(lines):
    lines.insert(1, lines[1])


def swapped(lines):
    lines[:2] = lines[1::-1]


def other_id(lines):
    lines[0] = lines[0].replace(json.loads(lines[0])["id"], json.loads(lines[0])["id"][:-4] + "beef")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit("metrics", test_top1=12.5), r"line 2, is not a record \(test_top1 is 12.5, outside of its"),
        (edit("metrics", test_top1="0.5"), r"line 2, is not a record \(test_top1 is '0.5', not a finite"),
        (
            edit("metrics", test_top1=float("nan")),
            r"line 2, is not a record \(test_top1 is nan, not a finite",
        ),
        (edit("metrics", {}), r"line 2, is not a record \(it lacks the metric test_top1"),
        (edit("status", "finished"), r"line 2, is not a record \(unknown status 'finished'"),
        (edit("environment", device="/home" + "/somebody"), r"names a folder of a machine \(/home\.\.\.\)"),
        (respaced, "line 2, is not as mlplib writes it"),
        (twice, "line 3, is not as mlplib writes it"),
        (swapped, "line 1, is not as mlplib writes it"),
        (other_id, "is not that of its settings and data"),
    ],
)
def test_every_wrong_line_is_named(results, change, words):
    rewrite(results, change, hashes=True)
    with pytest.raises(MlplibError, match=words):
        check(results)


def test_a_record_that_was_changed_is_named(results):
    """Even if the new value is possible."""
    rewrite(results, edit("metrics", test_top1=0.51), hashes=False)
    id = json.loads((results / "gpu" / "runs.jsonl").read_text().splitlines()[1])["id"]
    with pytest.raises(MlplibError, match=f"gpu/runs.jsonl, line 2: the record of {id} is not the published"):
        check(results)


def test_a_record_that_is_gone_or_has_no_hash_is_named(results):
    rewrite(results, lambda lines: lines.pop(), hashes=False)
    with pytest.raises(MlplibError, match=f"gpu lacks [a-z0-9-]*, which {HASHES} lists"):
        check(results)
    (results / "gpu" / HASHES).unlink()
    with pytest.raises(MlplibError, match=f"gpu/{HASHES} does not list [a-z0-9-]*, so nobody can tell if"):
        check(results)


def pictures(results):
    return sorted(results.glob("gpu/artifacts/*/*"))


def test_an_artifact_that_was_cut_off_or_is_missing_is_named(results):
    path = pictures(results)[2]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(MlplibError, match=f"{path} is not the published file"):
        check(results)
    path.unlink()
    with pytest.raises(MlplibError, match=f"gpu lacks {path.parent.name}/{path.name}, which {HASHES} lists"):
        check(results)


def test_an_artifact_without_its_record_is_named(results):
    path = pictures(results)[0].parent
    path.rename(path.with_name("nobody-0123456789ab"))
    shutil.copytree(path.with_name("nobody-0123456789ab"), path)
    with pytest.raises(
        MlplibError, match=r"artifacts/nobody-0123456789ab/.* belongs to no published run: delete"
    ):
        check(results)
    path.with_name("nobody-0123456789ab").rename(path.with_name("nobody"))
    with pytest.raises(MlplibError, match=r"artifacts/nobody/.* is no artifact of a run"):
        check(results)


def test_a_profile_that_there_is_not_is_named(results):
    (results / "gpu").rename(results / "gpus")
    with pytest.raises(MlplibError, match="unknown profile 'gpus'"):
        check(results)


def test_a_record_in_another_profiles_folder_is_named(results):
    (results / "gpu").rename(results / "laptop")
    with pytest.raises(
        MlplibError, match=r"laptop/runs.jsonl has [a-z0-9-]+, which is no run of profile lap"
    ):
        check(results)


def test_a_file_or_a_folder_without_records_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "nowhere", ""):
        with pytest.raises(MlplibError, match=r"must be the path of a folder|no published rec"):
            check(tmp_path / place)
