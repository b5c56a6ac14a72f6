"""Betons: the same bytes as by FFCV's own writer; whole or not there, whatever happens to the writer."""

import importlib
import multiprocessing
import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import tiny_data
import torch
from small_runs import dataset

from mlplib.data import Split, beton
from mlplib.data.batches import open_data
from mlplib.specs import DataSpec

pytest.importorskip("ffcv", reason="FFCV is not installed (make test compiles it where its headers are)")


def drawn(count, height=8, width=6, seed=0) -> Split:
    """uint8 (count, height, width, 3) and labels int64 (count,)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return Split(images, rng.integers(0, 10, count))


@pytest.mark.parametrize("count, side", [(1, 4), (300, 8), (5, 1200), (3, 1700)])
def test_same_bytes_as_by_ffcvs_own_writer(count, side, tmp_path):
    """Few in a page, one in a page, images larger than the usual page."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.writer import DatasetWriter

    split = drawn(count, side, side + 1)
    ours = beton.write_beton(split, tmp_path / "ours.beton")
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    page = max(beton.PAGE_BYTES, 1 << (split.images[0].nbytes - 1).bit_length())
    writer = DatasetWriter(str(tmp_path / "theirs.beton"), fields, page_size=page, num_workers=1)
    writer.from_indexed_dataset(list(zip(split.images, split.labels, strict=True)))
    assert ours.read_bytes() == (tmp_path / "theirs.beton").read_bytes()


@contextmanager
def forked(function, *arguments):
    """A process that calls ``function``; it is killed in the end if it still runs."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    yield process
    process.kill()
    process.join()


def write_in_little_memory(folder) -> None:
    """180 MB of images, where the writer may take 100 MB."""
    shape = (15_000, 64, 64, 3)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    images[-1] = 7
    before = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()  # private data
    resource.setrlimit(resource.RLIMIT_DATA, (before + 100 * 2**20,) * 2)
    beton.write_beton(Split(images, np.zeros(len(images), np.int64)), folder / "whole.beton")


def test_only_a_few_pages_are_in_memory(tmp_path):
    with forked(write_in_little_memory, tmp_path) as process:
        process.join()
    assert process.exitcode == 0
    assert (tmp_path / "whole.beton").stat().st_size > 15_000 * 64 * 64 * 3


# --------------------------------------------------------------------------- killed, full, shared


class Slow:
    """A progress factory that waits at the first page until it may go on; it keeps the labels."""

    def __init__(self):
        context = multiprocessing.get_context("fork")
        self.reached, self.go_on, self.labels = context.Event(), context.Event(), []

    @contextmanager
    def __call__(self, total, label):
        self.labels.append(label)
        yield self

    def advance(self, n=1):
        self.reached.set()
        self.go_on.wait(60)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_killed_writer_leaves_the_file_that_was_there_and_nothing_that_looks_finished(tmp_path):
    path = beton.write_beton(drawn(10), tmp_path / "x.beton")
    before, slow = path.read_bytes(), Slow()
    with forked(beton.write_beton, drawn(30, 400, 400), path, slow):
        assert slow.reached.wait(60)
    assert path.read_bytes() == before
    unfinished, kept = names(tmp_path)
    assert unfinished.startswith(".x.beton.") and kept == "x.beton"
    beton.write_beton(drawn(30, 400, 400), path)
    assert names(tmp_path) == ["x.beton"], "what was left does not stay"
    assert path.read_bytes() == beton.write_beton(drawn(30, 400, 400), tmp_path / "y.beton").read_bytes()


def test_writers_of_one_file_wait_for_each_other_and_write_it_once(tmp_path):
    split, path, first, second = drawn(10), tmp_path / "x.beton", Slow(), Slow()
    with ThreadPoolExecutor() as pool:
        one = pool.submit(beton.write_beton, split, path, first)
        assert first.reached.wait(60)
        other = pool.submit(beton.write_beton, split, path, second)
        while not second.labels and not other.done():
            time.sleep(0.01)
        first.go_on.set()
        assert one.result() == other.result() == path
    assert first.labels == ["writing x.beton"]
    assert second.labels == ["waiting for another process that writes x.beton"]
    assert names(tmp_path) == ["x.beton"]


def test_a_data_set_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path))
    source = dataset(drawn(40).images)
    at = beton.write(source)
    assert names(at) == ["test.beton", "train.beton"]
    before = [path.stat().st_mtime_ns for path in sorted(at.glob("*.beton"))]
    assert beton.write(source) == at
    assert [path.stat().st_mtime_ns for path in sorted(at.glob("*.beton"))] == before


def test_other_contents_of_the_same_name_are_deleted_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path))
    first, longer = dataset(drawn(40).images), dataset(drawn(40).images, name="hand-written")
    kept = [beton.write(longer), beton.write(first)]
    (tmp_path / "betons" / "hand-notes").mkdir()
    changed = beton.write(dataset(drawn(40, seed=1).images))
    assert names(tmp_path / "betons") == sorted([changed.name, kept[0].name, "hand-notes"])


refusal = partial(tiny_data.refusal, beton.write_beton)


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path):
    large = np.broadcast_to(np.uint8(0), (10**10, 64, 64, 3))
    said = refusal(Split(large, np.broadcast_to(0, 10**10)), tmp_path / "x.beton")
    assert "needs room for 1" in said and "MLPLIB_CACHE" in said
    assert names(tmp_path) == []


def test_a_disk_that_gets_full_is_one_line_and_leaves_nothing(tmp_path):
    with tiny_data.files_of_at_most(12 * 2**20):
        said = refusal(drawn(30, 400, 400), tmp_path / "x.beton")
    assert said.startswith("cannot write ") and "File too large; check that" in said
    assert "the disk not full" in said
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    said = refusal(drawn(3), tmp_path / "file" / "x.beton")
    assert "File exists; check that the folder is writable" in said and "(MLPLIB_CACHE)" in said


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
    source = dataset(drawn(40).images)
    at = beton.write(source)
    for parent in (*tmp_path.parents, tmp_path):
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    for path in tmp_path.rglob("*"):
        path.chmod(0o555)
    importlib.import_module("ffcv.fields.decoders")  # which nobody may not read, perhaps
    nobody()
    seen = open_data(source, DataSpec("hand"), torch.device("cpu"), "ffcv")
    assert len(list(seen.test_batches())) == 1
    assert beton.write(source) == at
    assert "cannot write" in refusal(drawn(3), at / "x.beton")
