"""``mlplib bench --against``: two checkouts are timed in turns, and what cannot be compared is one line."""

import json
import os
import shutil
import subprocess
from unittest.mock import MagicMock

import pytest
import torch
from small_runs import ROOT

from mlplib.errors import MlplibError
from mlplib.progress import quiet
from mlpstudy.bench import against, show
from mlpstudy.bench.cases import Case

CPU = torch.device("cpu")
TINY = Case("B-1/Wi-16", "shapes-16", 128)
SLOWER = """

_fast = Loop.step


def _slow(*given):
    import time

    time.sleep(0.2)
    return _fast(*given)


Loop.step = _slow
"""


def git(folder, *words):
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", folder, *names, *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A repository of both packages: ``none`` without a worker, ``slow`` sleeps in every step, ``broken``
    cannot be imported; the checkout is as it should be.
    """
    folder = tmp_path_factory.mktemp("clone")
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "none")
    git(folder, "tag", "none")
    for package in ("mlplib", "mlpstudy"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    training = folder / "mlplib" / "training.py"
    text = training.read_text()
    for name, content in (("slow", text + SLOWER), ("broken", "import no_such_module\n"), ("good", text)):
        training.write_text(content)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", name)
        git(folder, "tag", name)
    return folder


def compare(revision, root, case=TINY):
    options = dict(rounds=3, turn_seconds=0.05, progress=quiet, command="a test")
    return against.measure(revision, case, CPU, root=root, **options)


@pytest.mark.alone
def test_a_slower_revision_is_slower_and_its_checkout_is_removed(clone, tmp_path, monkeypatch):
    monkeypatch.setattr(against.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two wait for each other under load
    found = compare("slow", clone)
    assert os.listdir(tmp_path) == []
    rows = {row["id"]: row for row in found["rows"]}
    assert rows["step"]["q25"] > 2 and min(rows["step"]["old_seconds"]) > 0.2
    assert min(rows["batches"]["old_seconds"]) < 0.1  # loading takes no step; its ratio follows the load
    assert all(len(row[side]) == 3 for row in rows.values() for side in ("old_seconds", "new_seconds"))
    assert found["old"].startswith("slow (") and "changes" not in found["new"]
    assert found["machine"]["torch"] == torch.__version__ and str(clone) not in json.dumps(found)
    title, cells = show.comparison(found)
    assert "slow" in title and f"torch {torch.__version__}" in title
    assert cells["speedup"].str.contains(r"\[.*\] times$").all()
    file = tmp_path / "a.json"
    for count in (1, 2):
        against.append(file, found)
        content = json.loads(file.read_text())
        assert content["comparisons"] == [found] * count and len(list(show.tables(content))) == count


def test_a_revision_that_is_a_hash_is_named_once(clone, monkeypatch):
    monkeypatch.setattr(against, "Side", MagicMock())
    monkeypatch.setattr(against, "_compare", lambda *given: [])
    hash = against._commit(clone, "slow")
    assert {compare(given, clone)["old"] for given in (hash, hash[:7], hash[:12])} == {hash[:10]}
    assert compare("slow", clone)["old"] == f"slow ({hash[:10]})"


@pytest.mark.parametrize(
    ("revision", "case", "why"),
    [
        ("nothing", TINY, "git knows no revision 'nothing'"),
        ("--all", TINY, "git knows no revision"),
        ("none", TINY, "none has no mlpstudy/bench/worker.py"),
        ("broken", TINY, "broken: its process ended: .*no_such_module"),
        ("good", Case("B-1/Wi-16", "shapes-16", 5000), "good: a batch of 5000 is larger"),
        ("good", Case("B-999999/Wi-999", "shapes-16", 64), "GB of memory"),
    ],
)
def test_what_cannot_be_compared_is_one_line(clone, revision, case, why):
    with pytest.raises(MlplibError, match=why):
        compare(revision, clone, case)


def test_without_git_or_a_repository_one_line_says_so(clone, tmp_path, monkeypatch):
    with pytest.raises(MlplibError, match="--against needs mlplib's own git repository"):
        compare("HEAD", tmp_path)
    (clone / "inside").mkdir()
    with pytest.raises(MlplibError, match="--against needs mlplib's own git repository"):
        compare("HEAD", clone / "inside")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MlplibError, match="--against needs git"):
        compare("HEAD", clone)


def test_another_file_is_not_overwritten(tmp_path):
    file = tmp_path / "other.json"
    for content in ("{", "[]", '{"format": 1, "what": "speed"}'):
        file.write_text(content)
        with pytest.raises(
            MlplibError, match=r"other\.json is no results file of this benchmark \(against\)"
        ):
            against.append(file, {})
        assert file.read_text() == content
