"""Image files of any size: decoded once, in any layout, through kills and damage, and checked."""

import dataclasses
import hashlib
import json
import re
import shutil
import signal
import time
import zipfile
from collections import Counter, namedtuple
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_data
from tiny_data import CLASSES, left_behind, verified
from typer.testing import CliRunner

from mlplib import data
from mlplib.data import catalog
from mlplib.data.catalog import CATALOG, Edition, Pins, content_hash, find
from mlplib.data.get import acceptance, cache, copies, decode, folders, prepare, unfinished
from mlplib.data.get.verify import verify
from mlplib.errors import MlplibError
from mlplib.progress import quiet

PHOTOGRAPHS = tiny_data.photographs()


refusal = partial(tiny_data.refusal, data.load, "tinyfiles")


@pytest.fixture
def files(local, monkeypatch):
    """The tiny image files as class folders, and their folder."""
    tiny_data.with_files(monkeypatch)
    tiny_data.write_files(local / "tinyfiles", PHOTOGRAPHS)
    return local / "tinyfiles"


def expected(split: str, without: tuple[str, ...] = ()) -> list[tuple[bytes, int]]:
    """(pixels, label) of each photograph of a split, in the order of class folders."""
    folder = "train" if split == "train" else "val"
    return [
        (decode.fit(PHOTOGRAPHS[name], 16).tobytes(), CLASSES.index(name.split("/")[1]))
        for name in sorted(PHOTOGRAPHS)
        if name.startswith(folder) and name not in without
    ]


def examples(split: data.Split) -> list[tuple[bytes, int]]:
    return [(image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)]


def about() -> dict:
    """What the manifest states of the preparation."""
    return cache.manifest("tinyfiles")["preparation"]


# --------------------------------------------------------------------------- class folders


def test_class_folders(files, monkeypatch):
    monkeypatch.setattr(copies, "PART", 7)
    placeholder = content_hash("tinyfiles")
    loaded = data.load("tinyfiles")
    assert examples(loaded.train) == expected("train") and examples(loaded.test) == expected("test")
    assert loaded.classes == CLASSES and loaded.train.labels.dtype == np.int64
    numbers = [int(name[-13:-5]) - 1 for name in sorted(PHOTOGRAPHS) if name.startswith("val")]
    assert loaded.test_index.tolist() == numbers and loaded.test_index.dtype == np.int64
    assert loaded.content_hash == content_hash("tinyfiles") != placeholder
    assert left_behind() == ["tinyfiles"]
    assert sorted(p.name for p in cache.folder("tinyfiles").iterdir()) == [
        "manifest.json",
        "test_images.npy",
        "test_index.npy",
        "test_labels.npy",
        "train_images.npy",
        "train_labels.npy",
        "verified.json",
    ]
    pixels = loaded.train.images.reshape(-1, 3) / 255
    np.testing.assert_allclose(loaded.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(loaded.std, pixels.std(axis=0))
    shutil.rmtree(files)
    again = data.load("tinyfiles")
    assert isinstance(again.train.images, np.memmap) and not again.train.images.flags.writeable
    assert again.content_hash == loaded.content_hash and verified("tinyfiles")


def test_nested_folders_count_and_other_files_do_not(local, monkeypatch):
    tiny_data.with_files(monkeypatch)
    nested = {
        name.replace("train/ant/", "train/ant/images/"): content for name, content in PHOTOGRAPHS.items()
    }
    extra = {
        "train/ant/boxes.txt": b"1 2",
        "train/ant/images/._0001.JPEG": b"?",
        "train/.hidden/x.JPEG": b"?",
    }
    tiny_data.write_files(local / "tinyfiles", nested | extra)
    assert examples(data.load("tinyfiles").train) == expected("train")


def test_the_prepared_numbers_replace_the_papers(files, monkeypatch):
    paper = Edition("the paper's", 4, 500, 60)
    tiny_data.with_files(
        monkeypatch, train=500, test=60, editions=(paper, *tiny_data.FILES.editions), balanced=()
    )
    before = find("tinyfiles")
    assert (before.class_count, before.classes, before.train, before.test) == (4, (), 500, 60)
    data.load("tinyfiles")
    after = find("tinyfiles")
    assert (after.class_count, after.classes, after.train, after.test) == (3, CLASSES, 150, 30)
    assert about()["content"] == "the official one"


def test_a_copy_prepared_in_another_way_is_prepared_anew(files, monkeypatch, caplog):
    assert data.load("tinyfiles").train.images.shape[1:] == (16, 16, 3)
    first = content_hash("tinyfiles")
    tiny_data.with_files(monkeypatch, image_size=8)
    assert content_hash("tinyfiles") != first
    assert find("tinyfiles").cached is None
    with pytest.raises(MlplibError, match="prepared in another way: run mlplib data prepare tinyfiles"):
        verify("tinyfiles")
    assert data.load("tinyfiles").train.images.shape[1:] == (8, 8, 3)
    assert "getting tinyfiles again" in caplog.text


@pytest.mark.parametrize(
    ("removed", "added", "reason"),
    [
        ("train/ant/*1.JPEG", None, "145 training and 30 test images instead of 150 training and 30 test"),
        ("val/ant/*", None, "150 training and 20 test images instead of"),
        (None, "train/dog/1.JPEG", "4 classes instead of 3"),
        (None, "val/dog/1.JPEG", "val/dog is not a class of 3 in the training split"),
        (
            "train/ant/*1.JPEG",
            "train/bee/{}.JPEG",
            "2 classes do not have 50 train images each, such as class 0",
        ),
    ],
)
def test_a_wrong_or_truncated_copy_is_refused(files, removed, added, reason):
    gone = sorted(files.glob(removed)) if removed else []
    for path in gone:
        path.unlink()
    if added:
        content = PHOTOGRAPHS["train/ant/0001.JPEG"]
        tiny_data.write_files(files, {added.format(i): content for i in range(max(1, len(gone)))})
    message = refusal()
    assert reason in message and f"class folders in {files}: " in message
    assert left_behind() == []


def test_other_classes_are_refused(files, monkeypatch):
    editions = (dataclasses.replace(tiny_data.FILES.editions[0], classes_hash="0" * 64),)
    tiny_data.with_files(monkeypatch, classes=("ant", "bee", "dog"), editions=editions)
    assert "3 classes which are not those of Tiny files: cow is in one of the two only" in refusal()
    for old, new in (("ant", "n01"), ("bee", "n02"), ("cow", "n03")):
        for split in ("train", "val"):
            (files / split / old).rename(files / split / new)
    tiny_data.with_files(monkeypatch, editions=editions)
    assert "the 3 class folders are not the classes of the official one" in refusal()


def test_validation_images_without_classes_are_told_apart_from_none(files):
    for path in sorted((files / "val").rglob("*.JPEG")):
        path.rename(files / "val" / path.name)
    for name in CLASSES:
        (files / "val" / name).rmdir()
    assert "val has no class folders: its images must be sorted into them first" in refusal()
    for path in (files / "val").iterdir():
        path.unlink()
    (files / "val").rmdir()
    assert "no folder val or validation or valid or test beside train" in refusal()


# --------------------------------------------------------------------------- held out


def test_without_a_test_split_the_first_images_of_each_class_are_held_out(files, monkeypatch):
    (files / "val").rename(files.parent / "elsewhere")
    edition = Edition("whole", 3, 120, 30, slack=0.01)
    tiny_data.with_files(monkeypatch, held_out=10, editions=(edition,), test_number=None)
    loaded = data.load("tinyfiles")
    everything = expected("train")
    test = [everything[50 * c + i] for c in range(3) for i in range(10)]
    assert examples(loaded.test) == test
    assert examples(loaded.train) == [example for example in everything if example not in test]
    assert about()["test_from"] == "the first 10 images of each class"
    assert (find("tinyfiles").train, find("tinyfiles").test) == (120, 30)


def test_the_training_part_alone_serves_too_and_slack_is_small(files, monkeypatch):
    (files / "val").rename(files.parent / "elsewhere")
    for train, fits in ((150, True), (151, True), (154, False)):
        edition = Edition("divided", 3, train, 30, slack=0.01)
        entry = tiny_data.with_files(monkeypatch, held_out=10, editions=(edition,))
        copy = folders.class_folders(entry, files, quiet)
        if fits:
            assert acceptance.edition_of(entry, copy) == edition
        else:
            with pytest.raises(Exception, match="120 training and 30 test images instead of 154 training"):
                acceptance.edition_of(entry, copy)


# --------------------------------------------------------------------------- unreadable images


@pytest.fixture
def damaged(files):
    """Two of the 180 files are damaged; their names."""
    name = sorted(p.relative_to(files).as_posix() for p in (files / "val" / "cow").iterdir())[0]
    bad = {"train/ant/0002.JPEG": PHOTOGRAPHS["train/ant/0002.JPEG"][:200], name: b"not an image"}
    tiny_data.write_files(files, bad)
    return tuple(bad)


def test_unreadable_images_are_named_counted_and_refused(files, damaged, monkeypatch):
    monkeypatch.setattr(prepare, "MOST_SKIPPED", 0.02)
    message = refusal()
    assert (
        "2 unreadable images: train/ant/0002.JPEG (" in message
        and f"{damaged[1]} (cannot identify" in message
    )
    assert "mlplib data prepare tinyfiles --skip-unreadable" in message
    assert not any("0x" in word for word in message.split())
    assert content_hash("tinyfiles") == CATALOG["tinyfiles"].identity


def test_after_repair_only_the_parts_with_damage_are_read_again(files, damaged, monkeypatch):
    monkeypatch.setattr(copies, "PART", 5)
    refusal()
    tiny_data.write_files(files, {name: PHOTOGRAPHS[name] for name in damaged})
    decoded = count_decoded(monkeypatch)
    loaded = data.load("tinyfiles")
    assert sorted(decoded) == [("test", 20), ("train", 0)]
    assert examples(loaded.train) == expected("train") and examples(loaded.test) == expected("test")
    assert left_behind() == ["tinyfiles"]


def test_unreadable_images_are_skipped_on_request_and_counted(files, damaged, monkeypatch):
    monkeypatch.setattr(prepare, "MOST_SKIPPED", 0.02)
    refusal()
    loaded = data.load("tinyfiles", skip_unreadable=True)
    assert Counter(examples(loaded.train)) == Counter(expected("train", damaged))
    assert Counter(examples(loaded.test)) == Counter(expected("test", damaged))
    by_number = {int(name[-13:-5]) - 1: name for name in PHOTOGRAPHS if name.startswith("val")}
    for image, number in zip(loaded.test.images, loaded.test_index.tolist(), strict=True):
        np.testing.assert_array_equal(image, decode.fit(PHOTOGRAPHS[by_number[number]], 16))
    assert about()["skipped"] == 2 and about()["skipped_first"] == list(damaged)
    assert verified("tinyfiles")
    assert (find("tinyfiles").train, find("tinyfiles").test) == (149, 29)


def test_a_stop_while_holes_are_filled_costs_little(files, damaged, monkeypatch):
    monkeypatch.setattr(prepare, "MOST_SKIPPED", 0.02)
    monkeypatch.setattr(copies, "PART", 5)
    tiny_data.write_files(files, {"train/cow/0049.JPEG": b"the last one, too"})
    bad = (*damaged, "train/cow/0049.JPEG")
    with monkeypatch.context() as patch:
        calls, original = [], unfinished.Rows.copy_row

        def stop_early(rows, *args):
            calls.append(args)
            if len(calls) == 2:
                raise KeyboardInterrupt
            original(rows, *args)

        patch.setattr(unfinished.Rows, "copy_row", stop_early)
        with pytest.raises(KeyboardInterrupt):
            data.load("tinyfiles", skip_unreadable=True)
    decoded = count_decoded(monkeypatch)
    loaded = data.load("tinyfiles", skip_unreadable=True)
    assert len(decoded) == 3, "the parts with unreadable images"
    assert Counter(examples(loaded.train)) == Counter(expected("train", bad))
    assert Counter(examples(loaded.test)) == Counter(expected("test", bad))


def stop_before_the_end(monkeypatch, **options) -> None:
    """The work is finished, but not in its place."""
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write_manifest", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            data.load("tinyfiles", **options)


def test_skipping_once_does_not_skip_the_next_time(files, damaged, monkeypatch):
    monkeypatch.setattr(prepare, "MOST_SKIPPED", 0.02)
    stop_before_the_end(monkeypatch, skip_unreadable=True)
    assert "2 unreadable images" in refusal()
    assert len(data.load("tinyfiles", skip_unreadable=True).train) == 149


def test_too_many_unreadable_images_are_not_skipped(files, damaged):
    message = refusal(skip_unreadable=True)
    assert "2 unreadable images" in message and "too many to leave out" in message


def test_a_lost_disk_ends_the_work_early(files, monkeypatch):
    monkeypatch.setattr(copies, "PART", 5)
    monkeypatch.setattr(prepare, "MANY", 10)
    monkeypatch.setattr(prepare, "cores", lambda: 2)
    monkeypatch.setattr(folders, "_load_below", lambda root, name: 1 / 0)
    decoded = count_decoded(monkeypatch)
    # Parts are decoded side by side, so which ones were looked at before the end differs.
    assert re.search(r"\d unreadable images: train/\w+/\d+\.JPEG \(division by zero\), ", refusal())
    assert len(decoded) < 30


def test_skipping_is_refused_where_the_content_is_known(local):
    for name in ("tinyimagenet", "cifar10", "shapes-16"):
        with pytest.raises(MlplibError, match="known exactly: prepare it without --skip-unreadable"):
            data.load(name, skip_unreadable=True)


def test_the_command_line_skips_on_request(files, damaged, monkeypatch):
    from mlpstudy import cli

    monkeypatch.setattr(prepare, "MOST_SKIPPED", 0.02)
    done = CliRunner().invoke(cli.app, ["data", "prepare", "tinyfiles", "--skip-unreadable"])
    assert done.exit_code == 0 and "tinyfiles is ready, without 2 unreadable images" in done.stdout
    listed = CliRunner().invoke(cli.app, ["data", "list"], env={"COLUMNS": "120"}).stdout
    assert "without 2" in listed and "imagenet21k" in listed and "11,801,680" in listed
    assert "imagenet-real" in listed and "mlplib data prepare <name>" in listed


# --------------------------------------------------------------------------- kills


def count_decoded(monkeypatch) -> list[tuple[str, int]]:
    """From now on, which parts are decoded: (split, first row)."""
    decoded = []
    original = prepare._decode

    def counting(part, *args):
        decoded.append((part.split, part.start))
        return original(part, *args)

    monkeypatch.setattr(prepare, "_decode", counting)
    return decoded


PREPARE_IN_PART = """
import itertools, time
import tiny_data
from mlplib import data
from mlplib.data.get import copies, prepare, unfinished
from mlplib.data.catalog import CATALOG
CATALOG["tinyfiles"] = tiny_data.FILES
copies.PART, unfinished.FLUSH_S = 5, 0.0
original, counter = prepare._decode, itertools.count()
def stuck_in_the_middle(*args):
    if next(counter) >= 10:
        time.sleep(600)
    return original(*args)
prepare._decode = stuck_in_the_middle
data.load("tinyfiles")
"""


def test_after_sigkill_it_goes_on_where_it_was(files, monkeypatch):
    process = tiny_data.start_python(PREPARE_IN_PART)
    at = cache.folder("x").parent

    def noted() -> int:
        return sum(
            path.read_bytes().count(b"\n") for path in at.glob(".tinyfiles.unfinished-*/journal.jsonl")
        )

    deadline = time.monotonic() + 60
    while noted() < 10 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL, errors
    assert noted() == 10
    (journal,) = at.glob(".tinyfiles.unfinished-*/journal.jsonl")
    with open(journal, "a") as file:
        file.write('{"part": 3')  # as a kill in the middle of a line leaves it
    monkeypatch.setattr(copies, "PART", 5)
    decoded = count_decoded(monkeypatch)
    loaded = data.load("tinyfiles")
    assert len(decoded) == 36 - 10
    assert examples(loaded.train) == expected("train") and examples(loaded.test) == expected("test")
    assert left_behind() == ["tinyfiles"]


def test_parts_whose_files_have_changed_are_decoded_again(files, monkeypatch):
    monkeypatch.setattr(copies, "PART", 5)
    stop_before_the_end(monkeypatch)
    (files / "train/ant/0000.JPEG").rename(files / "train/ant/zzzz.JPEG")
    decoded = count_decoded(monkeypatch)
    assert Counter(examples(data.load("tinyfiles").train)) == Counter(expected("train"))
    assert len(decoded) == 10, "the training images of one class"
    assert left_behind() == ["tinyfiles"]


@pytest.mark.parametrize("damage", [lambda file: file.truncate(1000), lambda file: file.write(b"\0")])
def test_damaged_unfinished_work_is_begun_anew(files, monkeypatch, damage):
    stop_before_the_end(monkeypatch)
    (folder,) = cache.folder("x").parent.glob(".tinyfiles.unfinished-*")
    with open(folder / "train_images.npy", "r+b") as file:
        damage(file)
    assert examples(data.load("tinyfiles").train) == expected("train")


def test_full_disk_is_named_and_the_work_stays(files, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # a part of it might be written
    with tiny_data.files_of_at_most(50_000):
        assert "cannot write the data cache" in refusal()
    assert examples(data.load("tinyfiles").train) == expected("train")


def test_what_does_not_fit_is_not_begun(files, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 1000))
    assert "needs room for 0 MB, where 0 MB are free: free some space there or choose" in refusal()


# --------------------------------------------------------------------------- parquet


def write_parquet(folder: Path, rows: dict[str, list[tuple[str | None, bytes, int]]]) -> None:
    """Hugging Face style files with several row groups and the class names in the metadata."""
    for split, found in rows.items():
        images = [{"bytes": content, "path": path} for path, content, _ in found]
        columns = {"image": images, "label": [label for *_, label in found]}
        path = folder / f"{split}-00000-of-00001.parquet"
        tiny_data.write_table(path, columns, names=CLASSES, row_group_size=20)


def shuffled(split: str) -> list[tuple[str, bytes, int]]:
    folder = "train" if split == "train" else "val"
    rows = [
        (name.rsplit("/", 1)[1], content, CLASSES.index(name.split("/")[1]))
        for name, content in sorted(PHOTOGRAPHS.items())
        if name.startswith(folder)
    ]
    return [rows[i] for i in np.random.default_rng(3).permutation(len(rows))]


def test_parquet_in_its_own_order(local, monkeypatch):
    tiny_data.with_files(monkeypatch)
    rows = {"train": shuffled("train"), "validation": shuffled("test"), "test": [("x", b"", -1)] * 4}
    write_parquet(local / "tinyfiles" / "data", rows)
    loaded = data.load("tinyfiles")
    for split, name in ((loaded.train, "train"), (loaded.test, "validation")):
        assert examples(split) == [(decode.fit(c, 16).tobytes(), label) for _, c, label in rows[name]]
    assert loaded.test_index.tolist() == [int(name[9:17]) - 1 for name, _, _ in rows["validation"]]
    assert loaded.classes == CLASSES
    assert about()["test_from"] == "the files validation-*"


def test_parquet_without_labels_is_refused(local, monkeypatch):
    tiny_data.with_files(monkeypatch)
    unlabeled = [(name, content, -1) for name, content, _ in shuffled("test")]
    write_parquet(local / "tinyfiles", {"train": shuffled("train"), "test": unlabeled})
    assert "has the label -1, which none of 3 classes has" in refusal()


def test_parquet_names_an_unreadable_image(local, monkeypatch):
    tiny_data.with_files(monkeypatch)
    rows = {"train": shuffled("train"), "test": shuffled("test")}
    rows["train"][30] = (None, b"?", rows["train"][30][2])
    write_parquet(local / "tinyfiles", rows)
    message = refusal()
    assert "1 unreadable image: train-00000-of-00001.parquet, group 1, row 10 (cannot identify" in message
    assert len(data.load("tinyfiles", skip_unreadable=True).train) == 149


def test_truncated_parquet_is_passed_over_for_class_folders(files, local, monkeypatch, caplog):
    write_parquet(files, {"train": shuffled("train"), "test": shuffled("test")})
    shard = files / "train-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    (files / "train").rename(local / "train")
    (files / "val").rename(local / "val")
    assert examples(data.load("tinyfiles").train) == expected("train")
    assert "class folders in" in cache.manifest("tinyfiles")["source"]


# --------------------------------------------------------------------------- known files (Tiny ImageNet)

SMALL = tiny_data.photographs(smallest=16, largest=16)


def annotated(files_: dict[str, bytes]) -> dict[str, bytes]:
    """The files in the layout of the official Tiny ImageNet."""
    out, lines = {}, []
    for name, content in files_.items():
        split, wnid, file = name.split("/")
        if split == "train":
            out[f"train/{wnid}/images/{file}"] = content
        else:
            out[f"val/images/{file}"] = content
            lines.append(f"{file}\t{wnid}\t0\t0\t1\t1\n")
    out["val/val_annotations.txt"] = "".join(sorted(lines)).encode()
    return out


@pytest.fixture
def pinned(local, monkeypatch, tmp_path):
    """An entry whose files and pixels are known, and nothing that has them."""
    ordered = {s: sorted(n for n in SMALL if n.startswith(s)) for s in ("train", "val")}
    splits, sums, means = {}, {}, {}
    for split, names in (("train", ordered["train"]), ("test", ordered["val"])):
        images = np.stack([np.asarray(decode.fit(SMALL[name], 16)) for name in names])
        labels = np.array([CLASSES.index(name.split("/")[1]) for name in names])
        splits[split] = data.Split(images, labels)
        digests = [int.from_bytes(hashlib.sha256(SMALL[name]).digest()[:8], "little") for name in names]
        sums[split] = [
            f"{sum(d for d, one in zip(digests, labels, strict=True) if one == c) % 2**64:016x}"
            for c in range(3)
        ]
        means[split] = [images[labels == c].reshape(-1, 3).mean(axis=0).tolist() for c in range(3)]
    from mlplib.data.dataset import ordered_hash, unordered_hash

    pins = Pins(sums, means, ordered_hash(*splits.values()), unordered_hash(*splits.values()))
    (tmp_path / "pins.json").write_text(json.dumps(dataclasses.asdict(pins)))
    return tiny_data.with_files(
        monkeypatch,
        classes=CLASSES,
        pins_file=str(tmp_path / "pins.json"),
        folders=("tiny-files-3",),
        test_number=None,
    )


def assert_official(entry) -> None:
    loaded = data.load("tinyfiles")
    assert loaded.content_hash == entry.pins.content_hash == content_hash("tinyfiles")
    assert about()["content"] == "the official images"
    assert verified("tinyfiles")


@pytest.mark.parametrize("place", ["tiny-files-3", "tinyfiles", "tinyfiles/tiny-files-3", "."])
def test_official_folder(pinned, local, place):
    tiny_data.write_files(local / place, annotated(SMALL))
    assert_official(pinned)


def test_class_folders_of_the_same_files_have_the_same_order(pinned, local):
    tiny_data.write_files(local / "tinyfiles", SMALL)
    assert_official(pinned)


def zipped(files_: dict[str, bytes], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files_.items():
            out.writestr(f"tiny-files-3/{name}", content)


def test_official_zip(pinned, local, monkeypatch):
    zipped(annotated(SMALL), local / "tiny-files-3.zip")
    assert_official(with_changes(monkeypatch, pinned, archive_url="http://127.0.0.1:9/tiny-files-3.zip"))


def with_changes(monkeypatch, entry, **changes):
    """Put ``entry`` with other fields into the catalog."""
    fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    return tiny_data.with_files(monkeypatch, **(fields | changes))


@pytest.mark.parametrize("cut", [None, 1000])
def test_official_zip_is_downloaded_whole(pinned, monkeypatch, tmp_path, cut):
    zipped(annotated(SMALL), tmp_path / "x.zip")
    packed = (tmp_path / "x.zip").read_bytes()
    with tiny_data.serve({"/tiny-files-3.zip": packed}, cut) as (url, asked):
        about = {"archive_url": f"{url}/tiny-files-3.zip", "archive_size": len(packed)}
        entry = with_changes(monkeypatch, pinned, **about)
        if cut:
            assert f"download of {url}/tiny-files-3.zip: " in refusal()
        else:
            assert_official(entry)
        assert "/tiny-files-3.zip" in asked
    assert left_behind() == ([] if cut else ["tinyfiles"])


def test_damaged_zip_names_the_image(pinned, local, monkeypatch):
    zipped(annotated(SMALL), local / "tiny-files-3.zip")
    content = bytearray((local / "tiny-files-3.zip").read_bytes())
    content[content.index(b"train/bee/images/0000.JPEG") + 40] ^= 255
    (local / "tiny-files-3.zip").write_bytes(content)
    with_changes(monkeypatch, pinned, archive_url="http://127.0.0.1:9/tiny-files-3.zip")
    message = refusal()
    assert "1 unreadable image: train/bee/images/0000.JPEG (" in message
    assert "put good copies in their place" in message and "--skip-unreadable" not in message


def test_another_decoder_is_accepted_with_a_hash_of_its_own(pinned, local, monkeypatch):
    tiny_data.write_files(local / "tinyfiles", SMALL)
    original = decode.fit

    def slightly_other(content, size, **options):
        image = original(content, size, **options).copy()
        image[::3, ::5, 1] ^= 1
        return image

    monkeypatch.setattr(prepare, "fit", slightly_other)
    loaded = data.load("tinyfiles")
    assert loaded.content_hash != pinned.pins.content_hash
    assert loaded.content_hash == content_hash("tinyfiles")
    assert "the official files, which another decoder" in about()["content"]
    assert verified("tinyfiles")


def encoded_anew(content: bytes) -> bytes:
    return tiny_data.encode(decode.fit(content, 16), "JPEG")


def test_another_encoding_is_accepted_and_called_so(pinned, local):
    anew = {name: encoded_anew(content) for name, content in SMALL.items()}
    tiny_data.write_files(local / "tinyfiles", anew)
    loaded = data.load("tinyfiles")
    assert loaded.content_hash != pinned.pins.content_hash
    assert "another encoding of the official images (mean colors" in about()["content"]
    assert verified("tinyfiles")


def test_a_single_other_file_is_refused_by_its_class(pinned, local):
    other = SMALL | {"train/bee/0007.JPEG": encoded_anew(SMALL["train/bee/0008.JPEG"])}
    tiny_data.write_files(local / "tinyfiles", other)
    assert "train images of class bee are not the official files, and so in 1 of 6 cases" in refusal()
    assert left_behind() == []


def test_labels_in_another_order_are_refused(pinned, local):
    mixed = {}
    for name, content in SMALL.items():
        split, wnid, file = name.split("/")
        mixed[f"{split}/{CLASSES[(CLASSES.index(wnid) + 1) % 3]}/{file}"] = content
    tiny_data.write_files(local / "tinyfiles", mixed)
    assert "not the images and labels of Tiny files: the mean color of a class is off by" in refusal()
    assert left_behind() == []


def test_the_real_pins_are_whole():
    entry = catalog.CATALOG["tinyimagenet"]
    assert len(entry.classes) == 200 and list(entry.classes) == sorted(entry.classes)
    for split in ("train", "test"):
        assert len(set(entry.pins.files[split])) == len(entry.pins.means[split]) == 200
        assert all(len(bytes.fromhex(one)) == 8 for one in entry.pins.files[split])
    mean = np.mean(entry.pins.means["train"], axis=0) / 255
    np.testing.assert_allclose(mean, [0.4802, 0.4481, 0.3975], atol=1e-4)  # as it is quoted everywhere
    assert entry.identity == entry.pins.content_hash


# --------------------------------------------------------------------------- STL-10's official archive


def write_stl10(folder: Path, monkeypatch) -> dict[str, data.Split]:
    """A tiny archive in STL-10's format, unpacked, and torchvision's class with its md5 sums."""
    import torchvision.datasets

    at = folder / "stl10_binary"
    at.mkdir(parents=True)
    splits, sums = {}, {}
    for split, count in (("train", 6), ("test", 4)):
        images = np.random.default_rng(count).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        splits[split] = data.Split(images, np.arange(count) % 2)
        planes = np.ascontiguousarray(images.transpose(0, 3, 2, 1))  # columns come first there
        (at / f"{split}_X.bin").write_bytes(planes.tobytes())
        (at / f"{split}_y.bin").write_bytes((splits[split].labels + 1).astype(np.uint8).tobytes())
    (at / "unlabeled_X.bin").write_bytes(b"")
    for path in at.iterdir():
        sums[path.name] = hashlib.md5(path.read_bytes()).hexdigest()

    class Small(torchvision.datasets.STL10):
        train_list = tuple((n, sums[n]) for n in ("train_X.bin", "train_y.bin", "unlabeled_X.bin"))
        test_list = tuple((n, sums[n]) for n in ("test_X.bin", "test_y.bin"))
        url = "http://127.0.0.1:9/nothing-there.tar.gz"

    monkeypatch.setattr(torchvision.datasets, "Small", Small, raising=False)
    tiny_data.with_files(
        monkeypatch,
        classes=("ant", "bee"),
        editions=(Edition("the official one", 2, 6, 4),),
        torchvision="Small",
        image_size=64,
        test_number=None,
    )
    return splits


@pytest.mark.parametrize("packed", [False, True])
def test_stl10_is_downscaled_once(local, monkeypatch, packed, tmp_path):
    import torchvision.datasets

    splits = write_stl10(local, monkeypatch)
    if packed:
        archive = shutil.make_archive(str(local / "stl10_binary"), "gztar", local, "stl10_binary")
        shutil.rmtree(local / "stl10_binary")
        md5 = hashlib.md5(Path(archive).read_bytes()).hexdigest()
        monkeypatch.setattr(torchvision.datasets.Small, "tgz_md5", md5)
    loaded = data.load("tinyfiles")
    for name, split in splits.items():
        found = getattr(loaded, name)
        np.testing.assert_array_equal(found.images, [decode.fit(image, 64) for image in split.images])
        np.testing.assert_array_equal(found.labels, split.labels)
    assert loaded.train.images.shape == (6, 64, 64, 3) and loaded.test_index is None
    assert left_behind() == ["tinyfiles"]


def test_damaged_stl10_is_refused(local, monkeypatch):
    write_stl10(local, monkeypatch)
    path = local / "stl10_binary" / "test_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    said = refusal()
    assert "stl10_binary is incomplete or damaged" in said and "extract the archive again" in said


# --------------------------------------------------------------------------- planning without the data


def test_planning_needs_no_data():
    from mlplib.models import count_macs, meta_model
    from mlplib.specs import ModelSpec

    macs = {}
    for name, classes in (("imagenet", 1000), ("imagenet21k", 11_230), ("stl10", 10), ("tinyimagenet", 200)):
        entry = find(name)
        assert entry.class_count == classes and entry.image_size == 64
        shape = (64, 64, 3)
        macs[name] = count_macs(meta_model(ModelSpec.parse("B-6/Wi-512"), shape, entry.class_count), shape)
    assert macs["imagenet21k"] - macs["imagenet"] == 512 * (11_230 - 1000)
    assert (find("imagenet21k").train, find("imagenet").test) == (11_801_680, 50_000)


@pytest.mark.parametrize(
    "name", ["val/n01751748/ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000001_n01751748.JPEG"]
)
def test_official_numbers_of_imagenet(name):
    assert re.search(CATALOG["imagenet"].test_number, name)[1] == "00000001"
    assert re.search(CATALOG["imagenet"].test_number, "train/n01440764/n01440764_10026.JPEG") is None


def test_published_class_lists():
    """The lists that timm has of the same releases."""
    from timm.data import ImageNetInfo

    for name, number, known in (("imagenet", 0, "imagenet-1k"), ("imagenet21k", 1, "imagenet-21k-miil")):
        names = sorted(ImageNetInfo(known).label_names())
        edition = CATALOG[name].editions[number]
        assert len(names) == edition.classes
        assert hashlib.sha256("\n".join(names).encode()).hexdigest() == edition.classes_hash


def test_data_that_is_nowhere_is_refused_with_the_way_to_supply_it():
    with pytest.raises(
        MlplibError, match=r"cannot get imagenet21k: .*imagenet21k_train/<synset>.*MLPLIB_DATA"
    ):
        data.load("imagenet21k")
    with pytest.raises(MlplibError, match=r"cannot get imagenet: .*val/<synset>.*data/imagenet, or"):
        data.load("imagenet")
