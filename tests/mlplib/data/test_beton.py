"""Betons: the same bytes as by FFCV's own writer; whole or not there, whatever happens to the writer."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_runs import dataset

from mlplib.data import beton
from mlplib.data.batches import open_data
from mlplib.errors import MlplibError
from mlplib.progress import quiet
from mlplib.specs import DataSpec

pytest.importorskip("ffcv", reason="FFCV is not installed (make test compiles it where its headers are)")


def drawn(count, height=8, width=6, seed=0):
    """uint8 (count, height, width, 3) and labels int64 (count,)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, count)


def read(path):
    """All images and labels, in order, by FFCV alone."""
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor

    pipelines = {"image": [SimpleRGBImageDecoder(), ToTensor()], "label": [IntDecoder(), ToTensor()]}
    order = OrderOption.SEQUENTIAL
    loader = Loader(str(path), 64, num_workers=1, order=order, drop_last=False, pipelines=pipelines)
    found = [(images.clone(), labels.clone()) for images, labels in loader]
    return (torch.cat(parts).numpy() for parts in zip(*found, strict=True))


@pytest.mark.parametrize("count, side", [(1, 4), (300, 8), (5, 1200), (3, 1700)])
def test_same_bytes_as_by_ffcvs_own_writer(count, side, tmp_path):
    """Few in a page, one in a page, images larger than the usual page."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    images, labels = drawn(count, side, side + 1)
    ours = beton.write_beton(images, labels, tmp_path / "ours.beton", workers=2)
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    page = max(beton.PAGE_BYTES, 1 << (images[0].nbytes - 1).bit_length())
    writer = DatasetWriter(str(tmp_path / "theirs.beton"), fields, page_size=page, num_workers=1)
    writer.from_indexed_dataset(list(zip(images, labels, strict=True)))
    assert ours.read_bytes() == (tmp_path / "theirs.beton").read_bytes()
    found, found_labels = read(ours)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(found_labels[:, 0], labels)


def test_only_a_few_pages_are_in_memory(tmp_path):
    """180 MB of images, where the writer may take 100 MB."""
    script = """if True:
        import resource, sys
        import numpy as np
        from mlplib.data import beton
        beton.require()
        images = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype=np.uint8, shape=(60_000, 32, 32, 3))
        images[-1] = 7
        labels = np.zeros(len(images), np.int64)
        before = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()  # private data
        resource.setrlimit(resource.RLIMIT_DATA, (before + 100 * 2**20,) * 2)
        beton.write_beton(images, labels, sys.argv[2], workers=2)
    """
    sizes = [str(tmp_path / name) for name in ("images.npy", "whole.beton")]
    subprocess.run([sys.executable, "-c", script, *sizes], check=True)
    assert os.path.getsize(sizes[1]) > 60_000 * 32 * 32 * 3


# --------------------------------------------------------------------------- killed, full, shared

WRITE = """if True:
    import sys
    from contextlib import contextmanager
    import numpy as np
    from mlplib.data import beton

    class Bar:
        def advance(self, n=1):
            print("page", flush=True)
            sys.stdin.readline()

    @contextmanager
    def progress(total, label):
        print(label, flush=True)
        yield Bar()

    images = np.random.default_rng(0).integers(0, 256, (30, 400, 400, 3), dtype=np.uint8)
    beton.write_beton(images, np.arange(30), sys.argv[1], workers=1, progress=progress)
    print("done", flush=True)
"""


def writer(path) -> subprocess.Popen:
    """A process that writes two pages; it tells its progress, and waits for a line at each page."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", WRITE, str(path)], text=True, **pipes)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_killed_writer_leaves_nothing_that_looks_finished(tmp_path):
    path = tmp_path / "x.beton"
    with writer(path) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["writing x.beton\n", "page\n"]
        process.kill()
    assert names(tmp_path) == [".x.beton.unfinished"]
    images, labels = drawn(10)
    beton.write_beton(images, labels, path)
    assert names(tmp_path) == ["x.beton"], "what was left does not stay"
    found, _ = read(path)
    np.testing.assert_array_equal(found, images)


def test_a_killed_writer_leaves_the_file_that_was_there(tmp_path):
    path = beton.write_beton(*drawn(10), tmp_path / "x.beton")
    before = path.read_bytes()
    with writer(path) as process:
        while "page" not in process.stdout.readline():
            pass
        process.kill()
    assert path.read_bytes() == before


def test_writers_of_one_file_wait_for_each_other(tmp_path):
    path = tmp_path / "x.beton"
    with writer(path) as first, writer(path) as second:
        at_work, waiting = first, second
        said = {process: process.stdout.readline() for process in (first, second)}
        if said[first].startswith("waiting"):
            at_work, waiting = second, first
        assert said[at_work] == "writing x.beton\n"
        assert said[waiting] == "waiting for another process that writes x.beton\n"
        for process in (at_work, waiting):
            out, problems = process.communicate("\n\n")
            assert out.endswith("done\n") and process.returncode == 0, problems
    assert names(tmp_path) == ["x.beton"]


def test_whoever_waited_does_not_write_a_data_set_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path))
    source = dataset(drawn(40)[0])
    at = beton.write(source)
    assert names(at) == ["test.beton", "train.beton"]
    before = [path.stat().st_mtime_ns for path in sorted(at.glob("*.beton"))]
    layout = beton._Layout(len(source.train), source.train.images.shape[1:])
    beton._put(source.train, at / "train.beton", 1, quiet, keep=True)  # as if it had waited for the lock
    assert beton._is_whole(at / "train.beton", layout)
    assert beton.write(source) == at
    assert [path.stat().st_mtime_ns for path in sorted(at.glob("*.beton"))] == before


def test_other_contents_of_the_same_name_are_deleted_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path))
    first, longer = dataset(drawn(40)[0]), dataset(drawn(40)[0], name="hand-written")
    kept = [beton.write(longer), beton.write(first)]
    (tmp_path / "betons" / "hand-notes").mkdir()
    changed = beton.write(dataset(drawn(40, seed=1)[0]))
    assert names(tmp_path / "betons") == sorted([changed.name, kept[0].name, "hand-notes"])


def refusal(*arguments, **options) -> str:
    with pytest.raises(MlplibError) as caught:
        beton.write_beton(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path):
    large = np.broadcast_to(np.uint8(0), (10**10, 64, 64, 3))
    said = refusal(large, np.broadcast_to(0, 10**10), tmp_path / "x.beton")
    assert "needs room for 1" in said and "MLPLIB_CACHE" in said
    assert names(tmp_path) == []


def test_a_disk_that_gets_full_is_one_line_and_leaves_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12 * 2**20, before[1]))
    try:
        said = refusal(np.zeros((30, 400, 400, 3), np.uint8), np.arange(30), tmp_path / "x.beton")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.startswith("cannot write ") and "File too large; free some space" in said
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    assert "File exists; free some space there or set MLPLIB_CACHE" in refusal(
        *drawn(3), tmp_path / "file" / "x.beton"
    )


@pytest.fixture
def nobody(tmp_path):
    """As a user who may read the folder, but not write to it."""
    user = os.geteuid()
    yield lambda: os.seteuid(65534) if user == 0 else None
    if user == 0:
        os.seteuid(user)
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)


def test_a_read_only_cache_serves(tmp_path, monkeypatch, nobody):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "cache"))
    source = dataset(drawn(40)[0])
    at = beton.write(source)
    for parent in (*tmp_path.parents, tmp_path):
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    for path in tmp_path.rglob("*"):
        path.chmod(0o555)
    nobody()
    seen = open_data(source, DataSpec("hand"), torch.device("cpu"), "ffcv")
    assert len(list(seen.test_batches())) == 1
    assert beton.write(source) == at
    assert "cannot write" in refusal(*drawn(3), at / "x.beton")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(images=np.zeros((3, 4, 4, 3))), "takes uint8 images (N, H, W, 3), not float64 (3, 4, 4, 3)"),
        (dict(images=np.zeros((3, 4, 4), np.uint8)), "not uint8 (3, 4, 4)"),
        (dict(images=np.zeros((3, 4, 4, 1), np.uint8)), "not uint8 (3, 4, 4, 1)"),
        (dict(labels=np.arange(4)), "not int64 (4,) for 3 images"),
        (dict(labels=np.zeros(3)), "not float64 (3,)"),
        (dict(images=np.zeros((0, 4, 4, 3), np.uint8), labels=np.arange(0)), "one at least"),
        (dict(workers=0), "workers must be at least 1, not 0"),
    ],
)
def test_what_is_no_data_set_is_refused(changes, expected, tmp_path):
    given = dict(images=drawn(3)[0], labels=np.arange(3), path=tmp_path / "x.beton") | changes
    assert expected in refusal(**given)
    assert names(tmp_path) == []
