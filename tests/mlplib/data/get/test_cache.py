"""The cache: written once, shared, checked, never half there."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tiny_data
from tiny_data import TEST, TRAIN, flip_a_bit, verified

from mlplib import data, files
from mlplib.data.get import cache
from mlplib.data.get.verify import verify
from mlplib.errors import MlplibError


@pytest.fixture(autouse=True)
def tiny_at_hand(local, monkeypatch):
    """The tiny data set in a local folder; its parent."""
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(local / "tiny", TRAIN, TEST)
    return local.parent


def no_source(folder: Path) -> None:
    shutil.rmtree(folder / "local")


# --------------------------------------------------------------------------- where, what


def test_place_follows_the_environment(monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", "/a/b")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache.folder("tiny") == Path("/a/b/data/tiny")
    monkeypatch.delenv("MLPLIB_CACHE")
    assert files.cache_root() == Path("/x/mlplib")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert files.cache_root() == Path.home() / ".cache" / "mlplib"


def test_second_load_needs_no_source_and_maps_the_files(tiny_at_hand):
    first = data.load("tiny")
    no_source(tiny_at_hand)
    second = data.load("tiny")
    assert first.content_hash == second.content_hash == tiny_data.ENTRY.content_hash
    np.testing.assert_array_equal(second.train.images, TRAIN.images)
    assert isinstance(second.train.images, np.memmap) and not second.train.images.flags.writeable
    assert second.train.images.flags.c_contiguous and second.train.labels.dtype == np.int64
    assert second.classes == tiny_data.CLASSES
    np.testing.assert_allclose(second.mean, TRAIN.images.reshape(-1, 3).mean(axis=0) / 255)
    np.testing.assert_allclose(second.std, TRAIN.images.reshape(-1, 3).std(axis=0) / 255)


def test_cached_copy_needs_no_decoder_and_no_torch(tiny_at_hand):
    data.load("tiny")
    no_source(tiny_at_hand)
    script = (
        "import sys; "
        "absent = 'PIL', 'pyarrow', 'torchvision', 'torch'; "
        "sys.modules.update(dict.fromkeys(absent)); "
        "from mlplib import data; from mlplib.data.catalog import CATALOG, PinnedPixels; "
        "about = dict(name='tiny', title='', classes=('ant', 'bee', 'cow'), image_size=32, train=9, test=6); "
        "pins = dict(content_hash='', unordered_hash=sys.argv[1]); "
        "CATALOG['tiny'] = PinnedPixels(**about, **pins); "
        "print(data.load('tiny').train.images.sum())"
    )
    process = tiny_data.start_python(script, tiny_data.ENTRY.unordered_hash)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert int(out) == TRAIN.images.sum(dtype=np.int64)


# --------------------------------------------------------------------------- damage


@pytest.mark.parametrize("file", ["train_images.npy", "test_labels.npy", "manifest.json"])
def test_truncated_file_is_noticed_and_the_copy_built_anew(tiny_at_hand, caplog, file):
    data.load("tiny")
    path = cache.folder("tiny") / file
    path.write_bytes(path.read_bytes()[:-40])
    loaded = data.load("tiny")
    np.testing.assert_array_equal(loaded.train.images, TRAIN.images)
    assert "getting tiny again" in caplog.text and file in caplog.text
    assert cache.damage("tiny", "all") is None
    assert sorted(p.name for p in cache.folder("tiny").parent.iterdir()) == [".tiny.lock", "tiny"]


def test_missing_file_is_noticed(tiny_at_hand):
    data.load("tiny")
    (cache.folder("tiny") / "train_labels.npy").unlink()
    assert "train_labels.npy: No such file" in cache.damage("tiny")
    assert cache.manifest("tiny") is None
    np.testing.assert_array_equal(data.load("tiny").train.labels, TRAIN.labels)


def test_changed_bit_is_found_by_verification(tiny_at_hand):
    data.load("tiny")
    assert verified("tiny")
    flip_a_bit(cache.folder("tiny") / "test_images.npy")
    assert cache.damage("tiny") is None  # the size is right
    with pytest.raises(MlplibError, match=r"test_images\.npy has changed.*: run mlplib data prepare "):
        verify("tiny")
    np.testing.assert_array_equal(data.load("tiny", verify=True).test.images, TEST.images)
    assert verified("tiny")


def test_damaged_copy_stays_until_there_is_a_better_one(tiny_at_hand, caplog):
    data.load("tiny")
    flip_a_bit(cache.folder("tiny") / "test_images.npy")
    no_source(tiny_at_hand)
    with pytest.raises(MlplibError, match="cannot get tiny"):
        data.load("tiny", verify=True)
    assert "test_images.npy has changed" in caplog.text
    assert (cache.folder("tiny") / "test_images.npy").exists()


def test_copy_with_other_content_is_not_used(tiny_at_hand, monkeypatch):
    data.load("tiny")
    no_source(tiny_at_hand)
    other = tiny_data.with_entry(monkeypatch, content_hash="c" * 64, unordered_hash="d" * 64)
    assert data.content_hash("tiny") == other.content_hash
    with pytest.raises(MlplibError, match="cannot get tiny"):
        data.load("tiny")


def test_older_format_is_built_anew(tiny_at_hand, caplog):
    data.load("tiny")
    path = cache.folder("tiny") / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    data.load("tiny")
    assert "format 0 instead of 1" in caplog.text
    assert json.loads(path.read_text())["format"] == cache.FORMAT


# --------------------------------------------------------------------------- several processes

LOAD_SLOWLY = """
import contextlib, os, pathlib, sys, time
import tiny_data
from mlplib import data, files
from mlplib.data.catalog import CATALOG
CATALOG["tiny"] = tiny_data.ENTRY
folder = pathlib.Path(sys.argv[1])

@contextlib.contextmanager
def progress(total, label):
    with open(folder / "steps", "a") as steps:
        steps.write(label + chr(10))
    while label == "preparing tiny" and "waiting" not in (folder / "steps").read_text():
        time.sleep(0.01)
    class Bar:
        def advance(self, n=1): pass
    yield Bar()

(folder / f"ready-{os.getpid()}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.01)
print(data.load("tiny", progress).content_hash)
"""


def test_two_processes_build_it_once(tiny_at_hand):
    both = [tiny_data.start_python(LOAD_SLOWLY, str(tiny_at_hand)) for _ in range(2)]
    for process in both:
        out, errors = process.communicate(timeout=60)
        assert out.strip() == tiny_data.ENTRY.content_hash, errors
    steps = (tiny_at_hand / "steps").read_text().splitlines()
    assert sorted(steps) == [
        "checking tiny",
        "hashing tiny",
        "preparing tiny",
        "waiting for another process that prepares tiny",
    ]


def test_a_copy_that_another_process_is_replacing_is_read_afterwards(tiny_at_hand, monkeypatch):
    """It is checked, and gone for a moment when it is opened, until the other one has put its own there."""
    before, open_splits, tries = data.load("tiny"), cache.open_splits, []

    def gone_once(at):
        tries.append(at)
        return open_splits(at / "old" if len(tries) == 1 else at)

    monkeypatch.setattr(cache, "open_splits", gone_once)
    assert data.load("tiny").content_hash == before.content_hash and len(tries) == 2


def test_what_a_killed_process_left_is_cleared_away(tiny_at_hand):
    left_over = cache.folder("tiny").parent / ".tiny.staging-killed"
    left_over.mkdir(parents=True)
    (left_over / "part").write_text("half an archive")
    data.load("tiny")
    assert not left_over.exists()


def test_a_name_that_begins_as_another_ends_leaves_the_others_work_alone():
    """The folder flowers-64 at 32 pixels, while another process prepares flowers at 64."""
    cache.folder("any").parent.mkdir(parents=True, exist_ok=True)
    unfinished = cache.unfinished("own-flowers-64-32", "abc")
    unfinished.mkdir()
    with cache._staging("own-flowers-64-32") as there:
        with cache._staging("own-flowers-64"):
            pass
        assert there.exists() and unfinished.exists()


# --------------------------------------------------------------------------- nowhere to write


def test_full_disk_is_named_and_nothing_half_written_stays(tiny_at_hand, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # a part of it might be written
    with (
        tiny_data.files_of_at_most(10_000),
        pytest.raises(MlplibError, match=r"cannot write the data cache .*MLPLIB_CACHE"),
    ):
        data.load("tiny")
    left = sorted(p.name.split("-")[0] for p in cache.folder("tiny").parent.iterdir())
    assert left == [".tiny.lock", ".tiny.unfinished"]
    assert len(data.load("tiny").train) == len(TRAIN)


@pytest.fixture
def read_only(monkeypatch):
    """A folder that this process may read and not write, with a cached copy in it."""
    folder = Path(tempfile.mkdtemp())
    monkeypatch.setenv("MLPLIB_CACHE", str(folder))
    data.load("tiny")
    for path in (folder, folder / "data", folder / "data" / "tiny"):
        path.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write anywhere
    yield folder
    if user == 0:
        os.seteuid(0)
    for path in (folder, folder / "data", folder / "data" / "tiny"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_read_only_cache_serves(read_only):
    assert len(data.load("tiny", verify=True).train) == len(TRAIN)


def test_read_only_folder_is_named(read_only, monkeypatch, tmp_path):
    nested = read_only / "data" / "tiny" / "deeper"
    monkeypatch.setenv("MLPLIB_CACHE", str(nested))
    with pytest.raises(
        MlplibError, match=f"cannot write the data cache {nested}: Permission denied; .*MLPLIB_CACHE"
    ):
        data.load("tiny")


def test_cache_below_a_file_is_named(tiny_at_hand, monkeypatch):
    (tiny_at_hand / "file").write_text("")
    monkeypatch.setenv("MLPLIB_CACHE", str(tiny_at_hand / "file"))
    with pytest.raises(MlplibError, match=r"cannot write the data cache .*file: Not a directory"):
        data.load("tiny")


# --------------------------------------------------------------------------- verification


def test_shapes_are_always_ready():
    assert verified("shapes-16-upstream")


def test_verify_wants_a_cached_copy():
    with pytest.raises(MlplibError, match="mlplib data prepare tiny"):
        verify("tiny")


def test_verify_lists_its_checks():
    data.load("tiny")
    checks = verify("tiny")
    assert [c.what for c in checks] == ["content hash", "the published images, in any order"]
    assert [c.found for c in checks] == [tiny_data.ENTRY.content_hash, tiny_data.ENTRY.unordered_hash]
    assert all(c.found == c.expected for c in checks)


# --------------------------------------------------------------------------- damage is never used


def damage_manifest(change) -> None:
    path = cache.folder("tiny") / "manifest.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", [float("nan")] * 3),
        ("std", [0.1, 0.2]),
        ("classes", ["bee", "ant", "cow"]),
        ("files", {}),
    ],
)
def test_a_changed_manifest_is_noticed(tiny_at_hand, caplog, key, value):
    data.load("tiny")
    damage_manifest(lambda said: said.update({key: value}))
    assert data.load("tiny").classes == tiny_data.CLASSES
    assert "has changed since it was written" in caplog.text
    assert verified("tiny")


def test_a_copy_from_before_manifests_had_seals_serves():
    before = data.load("tiny")
    damage_manifest(lambda said: said.pop("seal"))
    assert data.load("tiny").content_hash == before.content_hash and cache.damage("tiny") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b"{}", b"null"])
def test_what_is_no_manifest_is_noticed(tiny_at_hand, content):
    data.load("tiny")
    (cache.folder("tiny") / "manifest.json").write_bytes(content)
    assert "manifest" in cache.damage("tiny")
    assert len(data.load("tiny").train) == len(TRAIN)


@pytest.mark.parametrize("same_time", [True, False])
@pytest.mark.parametrize("file", ["train_images.npy", "train_labels.npy", "test_labels.npy"])
def test_changed_content_is_noticed_on_the_next_use(tiny_at_hand, caplog, file, same_time):
    data.load("tiny")
    path = cache.folder("tiny") / file
    before = path.stat()
    flip_a_bit(path)
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    np.testing.assert_array_equal(data.load("tiny").train.labels, TRAIN.labels)
    assert f"{file} has changed since it was written" in caplog.text


def test_files_are_hashed_once_after_a_change(tiny_at_hand, monkeypatch):
    data.load("tiny")
    hashed = []
    original = cache.sha256
    monkeypatch.setattr(cache, "sha256", lambda path: hashed.append(path.name) or original(path))
    data.load("tiny")
    assert hashed == []
    (cache.folder("tiny") / "train_images.npy").touch()
    data.load("tiny")
    data.load("tiny")
    assert hashed == ["train_images.npy"]


@pytest.mark.parametrize("variable", ["HOME", "MLPLIB_CACHE"])
def test_without_a_home_folder_the_way_out_is_named(monkeypatch, variable):
    monkeypatch.delenv("MLPLIB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(
        "os.path.expanduser", lambda path: path
    )  # what it does without HOME and without a user
    with pytest.raises(MlplibError, match=variable):
        data.load("tiny")
