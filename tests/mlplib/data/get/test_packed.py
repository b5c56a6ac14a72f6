"""Packed data sets: in parts of any size and order, through kills and damage, to a bare machine."""

import json
import os
import resource
import shutil
import signal
import tempfile
import textwrap
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import tiny_data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_data import CLASSES, TEST, TRAIN
from typer.testing import CliRunner

from mlplib import data
from mlplib.data import catalog
from mlplib.data.catalog import CATALOG, Pins, content_hash, find
from mlplib.data.dataset import class_means, ordered_hash, unordered_hash
from mlplib.data.get import cache, own, packed, status
from mlplib.errors import MlplibError

PHOTOGRAPHS = tiny_data.photographs()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The machine that packs: an empty cache, a folder with both tiny data sets, nothing to download."""
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLPLIB_DATA", str(tmp_path / "local"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    tiny_data.with_entry(monkeypatch)
    tiny_data.with_files(monkeypatch)
    tiny_data.write_parquet(tmp_path / "local" / "tiny", TRAIN, TEST)
    return tmp_path


@pytest.fixture
def photographs(home):
    tiny_data.write_files(home / "local" / "tinyfiles", PHOTOGRAPHS)


@pytest.fixture
def away(home, monkeypatch):
    """A call that goes to another machine, with an empty cache and what was packed."""

    def go(cache_name: str = "elsewhere") -> Path:
        monkeypatch.setenv("MLPLIB_CACHE", str(home / cache_name))
        monkeypatch.setenv("MLPLIB_DATA", str(home / "packed"))
        return home / "packed"

    return go


def pack(home: Path, name: str = "tiny", part_bytes: int | None = None) -> packed.Packed:
    return packed.pack(name, home / "packed", part_bytes)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_behind() -> list[str]:
    """What is in the cache's data folder, except lock files."""
    return sorted(p.name for p in cache.folder("x").parent.iterdir() if p.suffix != ".lock")


def refusal(name: str = "tiny") -> str:
    """The error of a data set that cannot be had: it must be one line and leave nothing behind."""
    with pytest.raises(MlplibError) as caught:
        data.load(name)
    assert "\n" not in str(caught.value) and left_behind() == []
    return str(caught.value)


def assert_same(found: data.ImageDataset, expected: data.ImageDataset) -> None:
    for split in ("train", "test"):
        for array in ("images", "labels"):
            one, other = (getattr(getattr(d, split), array) for d in (found, expected))
            np.testing.assert_array_equal(one, other)
    assert (found.classes, found.mean, found.std) == (expected.classes, expected.mean, expected.std)
    assert found.content_hash == expected.content_hash == content_hash(found.name)
    assert (found.test_index is None) == (expected.test_index is None)
    if found.test_index is not None:
        np.testing.assert_array_equal(found.test_index, expected.test_index)


# --------------------------------------------------------------------------- there and back


ARRAYS = ["test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"]


def test_whole_arrays_can_be_opened_by_anybody(home):
    done = pack(home)
    assert names(done.folder) == ["pack.json", *ARRAYS] and (done.parts, done.kept) == (4, 0)
    np.testing.assert_array_equal(np.load(done.folder / "train_images.npy"), TRAIN.images)
    said = json.loads((done.folder / "pack.json").read_text())
    assert said["manifest"] == cache.manifest("tiny")
    assert said["parts"] == [{"name": n, **file} for n, file in said["manifest"]["files"].items()]
    assert names(home / "packed") == [".tiny.lock", "tiny"] or names(home / "packed") == ["tiny"]


@pytest.mark.parametrize("part_bytes", [None, 20_000])
@pytest.mark.parametrize("name", ["tiny", "tinyfiles"])
def test_what_was_packed_is_loaded_elsewhere(home, photographs, away, name, part_bytes):
    here = data.load(name)
    assert (here.test_index is not None) == (name == "tinyfiles")
    before = dict(cache.manifest(name))
    pack(home, name, part_bytes)
    folder = away()
    if name == "tinyfiles":
        assert content_hash(name) != here.content_hash  # the placeholder
    assert_same(data.load(name), here)
    after = dict(cache.manifest(name))
    assert after.pop("source") == f"{before.pop('source')}, as packed in {folder / name}"
    assert after == before
    assert left_behind() == [name]
    shutil.rmtree(folder)
    assert_same(data.load(name), here)
    assert status.verify(name)["ok"]


def test_a_copy_of_a_copy_does_not_pile_up_its_sources(home, away):
    pack(home, part_bytes=20_000)
    folder = away()
    data.load("tiny")
    packed.pack("tiny", home / "packed again")
    away("third")
    shutil.move(home / "packed again", shutil.rmtree(folder) or folder)
    data.load("tiny")
    assert cache.manifest("tiny")["source"].count("as packed in") == 1


@settings(max_examples=12)
@given(st.data())
def test_parts_of_any_size_arrive_in_any_order(choose):
    """Until the last file is there, the line says what is missing; then the order does not matter."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        home, there = Path(folder), Path(folder) / "there"
        patch.setenv("MLPLIB_CACHE", str(home / "cache"))
        patch.setenv("MLPLIB_DATA", str(home / "local"))
        tiny_data.with_entry(patch)
        tiny_data.write_folder(home / "local" / "tiny", TRAIN, TEST)
        here = data.load("tiny")
        size = choose.draw(st.integers(1500, 60_000), "bytes of a part")
        done = pack(home, part_bytes=size)
        paths = sorted(done.folder.iterdir())
        parts = [path.stat().st_size for path in paths if path.suffix == ".bin"]
        assert len(parts) == done.parts and max(parts) <= size
        assert sum(parts) == sum(p.stat().st_size for p in cache.folder("tiny").glob("*.npy")) == done.bytes
        order = choose.draw(st.permutations(paths), "order")
        early = choose.draw(st.integers(1, len(order) - 1), "files at the first try")
        patch.setenv("MLPLIB_CACHE", str(home / "elsewhere"))
        patch.setenv("MLPLIB_DATA", str(there))
        (there / "tiny").mkdir(parents=True)
        for number, path in enumerate(order):
            if number == early:
                missing = sorted(set(paths) - set(order[:early]))
                message = refusal()
                if done.folder / "pack.json" in missing:
                    assert "pack.json is missing: copy it, too" in message
                else:
                    expected = f"{len(missing)} of {len(parts)} parts missing, first {missing[0].name}"
                    assert expected in message and "copy the rest, too" in message
            shutil.copy(path, there / "tiny")
        assert_same(data.load("tiny"), here)


def test_images_in_another_order_keep_the_id_that_they_have(home, away):
    shutil.rmtree(home / "local" / "tiny")
    tiny_data.write_folder(home / "local" / "tiny", TRAIN, TEST)
    here = data.load("tiny")
    assert here.content_hash != tiny_data.ENTRY.content_hash
    pack(home)
    away()
    assert_same(data.load("tiny"), here)


def test_a_subset_travels_as_its_parent_and_shapes_do_not(monkeypatch):
    subset = catalog._subset(tiny_data.ENTRY, "tiny-insects", "Tiny insects", "ant", "bee")
    monkeypatch.setitem(CATALOG, "tiny-insects", subset)
    assert packed.travels("tiny-insects") == packed.travels("tiny") == "tiny"
    assert packed.travels("shapes-16") is packed.travels("shapes-16-upstream") is None
    with pytest.raises(MlplibError, match=r"imagenet-real is one file, real\.json: copy it; there, put"):
        packed.travels("imagenet-real")
    with pytest.raises(MlplibError, match="unknown data set 'tinny'"):
        packed.travels("tinny")


def test_own_folders_travel_too(home, away):
    for split, name in ((s, n) for s in ("train", "val") for n in ("rose", "tulip")):
        at = home / "flowers" / split / name
        at.mkdir(parents=True)
        Image.new("RGB", (24, 16), (10, 20, len(name))).save(at / "0.png")
    here = own.load_folder(home / "flowers", 8)
    assert packed.travels("own-flowers-8") == "own-flowers-8"
    pack(home, "own-flowers-8", 300)
    folder = away() / "own-flowers-8"
    with pytest.raises(MlplibError, match="unknown data set"):
        find("own-flowers-8")
    assert_same(data.load("own-flowers-8"), here)
    assert find("own-flowers-8").classes == ("rose", "tulip")
    away("third")
    (folder / "part-0002.bin").unlink()
    assert "parts missing, first part-0002.bin" in refusal("own-flowers-8")
    (folder / "pack.json").unlink()
    with pytest.raises(
        MlplibError, match=r"cannot get own-flowers-8: packed copy in .*pack\.json is missing"
    ):
        data.load("own-flowers-8")


def test_known_images_are_held_against_what_is_known(home, photographs, away, monkeypatch):
    """Pixels of another decoder, or another encoding, are accepted as where they were packed, others not."""
    here = data.load("tinyfiles")
    pack(home, "tinyfiles")
    splits = {"train": here.train, "test": here.test}
    means = {name: class_means(split, 3) + 1.0 for name, split in splits.items()}
    pins = Pins({}, means, "0" * 64, "0" * 64)
    entry = tiny_data.with_files(monkeypatch, classes=CLASSES, pins_file="named")
    monkeypatch.setitem(entry.__dict__, "pins", pins)
    away()
    assert_same(data.load("tinyfiles"), here)
    away("third")
    means["test"] += 5
    assert "not the images and labels of Tiny files: the mean color of a class is off by 6.0" in (
        refusal("tinyfiles")
    )


# --------------------------------------------------------------------------- packing again


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("part_bytes", [None, 10_000])
def test_parts_that_are_right_are_not_written_again(home, part_bytes):
    first = pack(home, part_bytes=part_bytes)
    before = stamps(first.folder)
    again = pack(home, part_bytes=part_bytes)
    assert again.kept == again.parts == first.parts and stamps(first.folder) == before
    parts = [name for name in sorted(before) if name != "pack.json"]
    content = bytearray((first.folder / parts[0]).read_bytes())
    content[-1] ^= 1
    (first.folder / parts[0]).write_bytes(content)
    (first.folder / parts[1]).write_bytes(b"short")
    (first.folder / parts[-1]).unlink()
    assert pack(home, part_bytes=part_bytes).kept == first.parts - 3
    after = stamps(first.folder)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {parts[0], parts[1], parts[-1]}


def test_parts_of_another_packing_are_removed(home, away):
    pack(home, part_bytes=10_000)
    pack(home, part_bytes=30_000)
    assert names(home / "packed" / "tiny") == ["pack.json", "part-0001.bin", "part-0002.bin"]
    (home / "packed" / "tiny" / "notes.txt").write_text("mine")
    pack(home)
    assert names(home / "packed" / "tiny") == ["notes.txt", "pack.json", *ARRAYS]
    away()
    np.testing.assert_array_equal(data.load("tiny").train.images, TRAIN.images)


PACK_IN_PART = """
import sys, time
import tiny_data
from pathlib import Path
from mlplib.data import packed
from mlplib.data.catalog import CATALOG
CATALOG["tiny"] = tiny_data.ENTRY
original = packed._source
def stuck_in_the_third(manifest, start, count):
    if start < 20_000:
        yield from original(manifest, start, count)
    else:
        yield next(original(manifest, start, 50))
        time.sleep(600)
packed._source = stuck_in_the_third
packed.pack("tiny", Path(sys.argv[1]), 10_000)
"""


def test_after_sigkill_it_goes_on_where_it_was(home, away):
    folder = home / "packed" / "tiny"
    process = tiny_data.start_python(PACK_IN_PART, str(home / "packed"))
    deadline = time.monotonic() + 60
    while not list(folder.glob(".part-0003.bin.*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL, errors
    assert len(names(folder)) == 3 and names(folder)[1:] == ["part-0001.bin", "part-0002.bin"]
    done = pack(home, part_bytes=10_000)
    assert done.kept == 2
    assert names(folder) == ["pack.json", *(f"part-{i + 1:04d}.bin" for i in range(done.parts))]
    away()
    np.testing.assert_array_equal(data.load("tiny").test.images, TEST.images)


def test_a_damaged_cache_is_not_packed(home, caplog):
    data.load("tiny")
    images = cache.folder("tiny") / "train_images.npy"
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    done = pack(home)
    assert "train_images.npy has changed" in caplog.text
    np.testing.assert_array_equal(np.load(done.folder / "train_images.npy"), TRAIN.images)


def test_full_disk_is_named_and_whole_parts_stay(home):
    """A limit on the size of files makes the kernel refuse writes in the middle, as a full disk does."""
    data.load("tiny")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(MlplibError, match=r"cannot write .*images.npy: .*and the disk not full$"):
            pack(home)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(home / "packed" / "tiny") == []
    assert pack(home).kept == 0


def test_what_does_not_fit_is_not_begun(home, away, monkeypatch):
    pack(home)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 1000))
    assert pack(home).kept == 4
    with pytest.raises(MlplibError, match=r"needs room for 0 MB, where 0 MB are free: free some space there"):
        packed.pack("tiny", home / "other")
    away()
    assert "needs 0 MB in the cache, where 0 MB are free (MLPLIB_CACHE can name" in refusal()


def test_a_folder_that_cannot_be_made_is_named(home):
    (home / "file").write_text("")
    with pytest.raises(MlplibError, match=r"cannot write .*file/deep/tiny: Not a directory; check that"):
        packed.pack("tiny", home / "file" / "deep")


# --------------------------------------------------------------------------- damage on the way


@pytest.fixture
def parts(home, away) -> Path:
    """The folder of a packed copy in five parts or more, on the other machine."""
    pack(home, part_bytes=10_000)
    return away() / "tiny"


def change(path: Path, start: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[start] ^= 1
    path.write_bytes(content)


def test_a_changed_part_is_named(parts, caplog):
    change(parts / "part-0003.bin")
    message = refusal()
    expected = f"packed copy in {parts}: part-0003.bin is damaged (its sha-256 differs): copy it again"
    assert message.startswith(f"cannot get tiny: {expected}; or move it away") and expected in caplog.text
    change(parts / "part-0003.bin")
    np.testing.assert_array_equal(data.load("tiny").train.images, TRAIN.images)


def test_a_cut_part_is_named_before_anything_is_copied(parts):
    path = parts / "part-0004.bin"
    path.write_bytes(path.read_bytes()[:-10])
    assert "part-0004.bin is damaged (9990 bytes instead of 10000): copy it again" in refusal()


def test_missing_parts_are_counted_and_the_first_is_named(parts):
    for number in (2, 4):
        (parts / f"part-000{number}.bin").unlink()
    assert "2 of 5 parts missing, first part-0002.bin: copy the rest, too" in refusal()


def test_what_describes_the_copy_is_checked_as_well(parts):
    text = (parts / "pack.json").read_text()
    (parts / "pack.json").write_text(text.replace('"bee"', '"bat"'))
    assert "pack.json is damaged: copy it again" in refusal()
    (parts / "pack.json").write_text(text[:-50])
    assert "pack.json is damaged: copy it again" in refusal()
    (parts / "pack.json").unlink()
    assert "pack.json is missing: copy it, too" in refusal()


def rewrite(at: Path, **changes) -> None:
    """Change what ``pack.json`` says, as a program that means it would."""
    said = json.loads((at / "pack.json").read_text()) | changes
    (at / "pack.json").write_text(json.dumps({**said, "sha256": packed._seal(said)}))


def test_another_format_and_another_data_set_are_told(parts, monkeypatch):
    rewrite(parts, format=99)
    assert "packed by another version of this program: pack it again with this one" in refusal()
    rewrite(parts, format=packed.FORMAT)
    parts.rename(parts.with_name("tinyfiles"))
    assert "it is tiny: put it into a folder of that name" in refusal("tinyfiles")


def test_no_other_files_are_read_or_written(parts):
    said = json.loads((parts / "pack.json").read_text())
    first, *rest = said["parts"]
    rewrite(parts, parts=[first | {"name": "../elsewhere.bin"}, *rest])
    assert "pack.json names other files than parts: pack it again" in refusal()
    files = {f"../{name}": file for name, file in said["manifest"]["files"].items()}
    rewrite(parts, parts=said["parts"], manifest=said["manifest"] | {"files": files})
    assert "pack.json does not list the arrays of a data set: pack it again" in refusal()
    rewrite(parts, parts=rest, manifest=said["manifest"])
    assert "pack.json does not list the arrays of a data set: pack it again" in refusal()


def test_other_images_are_refused(home, away, monkeypatch):
    off = tiny_data.one_pixel_off(TRAIN)
    with monkeypatch.context() as patch:
        hashes = {"content_hash": ordered_hash(off, TEST), "unordered_hash": unordered_hash(off, TEST)}
        tiny_data.with_entry(patch, **hashes)
        tiny_data.write_parquet(home / "local" / "tiny", off, TEST)
        pack(home)
    away()
    assert "not the images and labels of Tiny" in refusal()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content_hash": "0" * 64}, "not those that were packed (the content hash differs)"),
        ({"unordered_hash": "0" * 64}, "not those that were packed (the unordered hash differs)"),
        ({"train": 149}, "train images of shape (150, 16, 16, 3) instead of (149, 16, 16, 3)"),
        ({"preparation": {"recipe": "by hand"}}, "prepared in another way: prepare and pack it again"),
    ],
)
def test_arrays_that_are_not_what_is_said_are_refused(home, photographs, away, changes, reason):
    pack(home, "tinyfiles")
    at = away() / "tinyfiles"
    rewrite(at, manifest=json.loads((at / "pack.json").read_text())["manifest"] | changes)
    assert reason in refusal("tinyfiles")


def test_other_classes_are_refused(home, photographs, away, monkeypatch):
    pack(home, "tinyfiles")
    away()
    tiny_data.with_files(monkeypatch, classes=("ant", "bee", "dog"))
    assert "its 3 classes are not those of Tiny files" in refusal("tinyfiles")


def test_another_local_copy_serves_but_nothing_is_downloaded(parts, home, monkeypatch, caplog):
    import torchvision.datasets

    archive, official = tiny_data.archive()
    monkeypatch.setattr(torchvision.datasets, "Tiny", official, raising=False)
    (parts / "part-0001.bin").unlink()
    with tiny_data.serve({"/tiny.tar.gz": archive}) as (url, asked):
        official.url = f"{url}/tiny.tar.gz"
        tiny_data.with_entry(monkeypatch, torchvision="Tiny", archive_size=len(archive))
        assert "1 of 5 parts missing" in refusal() and asked == []
    shutil.copytree(home / "local", home / "work" / "data")
    assert data.load("tiny").content_hash == tiny_data.ENTRY.content_hash
    assert "passing over packed copy in" in caplog.text
    assert cache.manifest("tiny")["source"].startswith("parquet in")


def test_a_packed_copy_comes_before_others(parts, home):
    shutil.copytree(home / "local", home / "work" / "data")
    tiny_data.write_parquet(parts, TRAIN, TEST)
    data.load("tiny")
    assert cache.manifest("tiny")["source"].endswith(f", as packed in {parts}")


def test_a_full_cache_is_named(parts):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        assert refusal().startswith("cannot write the data cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_space_of_one_copy_is_enough(parts, monkeypatch):
    """The arrays that were copied are those that the cache keeps."""
    copied, original = [], packed.unpack

    def watching(*args):
        found = original(*args)
        copied.append({path.name: path.stat().st_ino for path in found.folder.iterdir()})
        return found

    monkeypatch.setattr(packed, "unpack", watching)
    data.load("tiny")
    (inodes,) = copied
    assert inodes == {n: (cache.folder("tiny") / n).stat().st_ino for n in inodes} and len(inodes) == 4


# --------------------------------------------------------------------------- a bare machine


BARE = """
    import bare, sys

    import torch
    from mlplib import data
    from mlplib.data.catalog import CATALOG, Edition, ImageFiles, Published

    size = dict(image_size=32, train=9, test=6, classes=("ant", "bee", "cow"))
    hashes = dict(content_hash=sys.argv[1], unordered_hash=sys.argv[2], mean=(0, 0, 0))
    CATALOG["tiny"] = Published(name="tiny", title="Tiny", torchvision="CIFAR10", **size, **hashes)
    size = dict(image_size=16, train=150, test=30, classes=())
    editions = (Edition("the official one", 3, 150, 30),)
    CATALOG["tinyfiles"] = ImageFiles(name="tinyfiles", title="x", editions=editions, forms="", **size)
    print(data.load("tiny").content_hash, data.load("tinyfiles").content_hash)
"""


def test_a_machine_with_torch_numpy_and_filelock_is_enough(home, photographs, away):
    hashes = [data.load(name).content_hash for name in ("tiny", "tinyfiles")]
    for name in ("tiny", "tinyfiles"):
        pack(home, name, 20_000)
    away()
    known = (tiny_data.ENTRY.content_hash, tiny_data.ENTRY.unordered_hash)
    process = tiny_data.start_python(textwrap.dedent(BARE), *known)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert out.split() == hashes


# --------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("500K", 500 * 1024),
        ("16M", 16 * 2**20),
        ("64MiB", 64 * 2**20),
        ("64 mb", 64 * 10**6),
        ("1G", 2**30),
        ("2T", 2**41),
    ],
)
def test_sizes(text, size):
    assert packed.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0M", "-5", "1.5G", "64X", "M", "64Mi", "٣"])
def test_what_is_no_size_is_one_clear_line(text):
    with pytest.raises(
        MlplibError, match=r"^a size is a number of bytes such as 500K, 16M, 64MiB or 1G, not"
    ):
        packed.parse_size(text)


@given(st.integers(1, 10**15))
def test_plain_numbers_are_bytes(size):
    assert packed.parse_size(str(size)) == size


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.data())
def test_pieces_of_a_stream_lie_where_they_should(sizes, choose):
    files = {f"file {i}": bytes(np.random.default_rng(i).bytes(size)) for i, size in enumerate(sizes)}
    stream = b"".join(files.values())
    start = choose.draw(st.integers(0, len(stream)))
    count = choose.draw(st.integers(0, len(stream) - start))
    spans = packed._spans({name: len(content) for name, content in files.items()}, start, count)
    found = b"".join(files[name][offset : offset + here] for name, offset, here in spans)
    assert found == stream[start : start + count]


def call(*words: str):
    from mlpstudy import cli

    return CliRunner().invoke(cli.app, ["data", *words], env={"COLUMNS": "160"})


def test_the_command_packs_several_at_once(home, photographs, away, monkeypatch):
    subset = catalog._subset(tiny_data.ENTRY, "tiny-insects", "Tiny insects", "ant", "bee")
    monkeypatch.setitem(CATALOG, "tiny-insects", subset)
    words = ["pack", "tiny-insects", "tiny", "shapes-16", "tinyfiles", "--out", str(home / "packed")]
    done = call(*words, "--part-size", "20K")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "tiny-insects consists of classes of tiny, which is packed",
        "shapes-16 is drawn wherever it is needed: nothing to pack",
        f"tiny: 3 files, 0 MB, in {home / 'packed' / 'tiny'}",
        f"tinyfiles: 7 files, 0 MB, in {home / 'packed' / 'tinyfiles'}",
    ]
    assert "tiny: 3 files, 0 MB, 3 of them from before, in" in call(*words, "--part-size", "20K").stdout
    folder = away()
    assert status.describe("tiny-insects")["packed"] == str(folder / "tiny")
    assert not status.describe("tiny")["ready"]
    row = next(line for line in call("list").stdout.splitlines() if "tinyfiles" in line)
    assert "packed" in row
    assert call("prepare", "tiny-insects", "tinyfiles").exit_code == 0
    about = status.describe("tinyfiles")
    assert about["ready"] and about["packed"] is None and about["content"] == "the official one"
    assert about["source"].endswith(f"as packed in {folder / 'tinyfiles'}")


def test_bad_words_are_refused_in_one_line(home):
    done = call("pack", "tiny", "--out", str(home / "packed"), "--part-size", "64X")
    assert isinstance(done.exception, MlplibError) and "not '64X'" in str(done.exception)
    done = call("pack", "tiny", "--out", str(home / "packed"), "--part-size", "1")
    assert str(done.exception).endswith("parts are too many: make them larger, of at least 5 bytes")
    done = call("pack", "nothing", "--out", str(home / "packed"))
    assert "unknown data set 'nothing'" in str(done.exception)
    assert not (home / "packed").exists()


def test_by_hand_names_packed_copies():
    assert "what `mlplib data pack` wrote elsewhere" in status.describe("cifar10")["by_hand"]
    assert os.environ["MLPLIB_DATA"]  # no test here looks at the reader's own folders
