"""Folders as people have them: junk, links in circles, other formats, replaced files, mixed layouts."""

import os
import shutil
import subprocess
from functools import partial
from operator import add

import numpy as np
import pytest
import tiny_data
from PIL import Image

from mlplib import data
from mlplib.data.get import folders, own, unfinished
from mlplib.errors import MlplibError

RED, BLUE, GREEN = (200, 40, 40), (40, 40, 200), (40, 200, 40)


refusal = partial(tiny_data.refusal, own.load_folder, side=8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of one color each: six training and three test images."""
    at = tmp_path / "pets"
    for split, count in (("train", 6), ("val", 3)):
        for name, color in (("cats", RED), ("dogs", BLUE)):
            (at / split / name).mkdir(parents=True)
            for number in range(count):
                other = (split == "val",) * 3  # test images are no training images
                Image.new("RGB", (24, 24), tuple(map(add, color, other))).save(
                    at / split / name / f"{number:03d}.png"
                )
    return at


def counts(folder) -> tuple:
    found = own.load_folder(folder, 8)
    return found.classes, *(np.bincount(s.labels).tolist() for s in (found.train, found.test))


AS_IT_IS = (("cats", "dogs"), [6, 6], [3, 3])


# --------------------------------------------------------------------------- what is no data


@pytest.mark.parametrize("depth", ["train", "train/cats", "train/cats/sub", "val/dogs"])
@pytest.mark.parametrize("junk", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".hidden", "#recycle"])
def test_junk_folders_do_not_count_at_any_depth(folder, depth, junk):
    at = folder / depth / junk / "deeper"
    at.mkdir(parents=True)
    shutil.copy(folder / "train" / "cats" / "000.png", at / "copy.png")
    shutil.copy(folder / "train" / "cats" / "000.png", at.parent / "copy.png")
    shutil.copy(folder / "train" / "cats" / "000.png", folder / depth / "._000.png")
    assert counts(folder) == AS_IT_IS


def test_empty_folders_are_no_classes(folder):
    (folder / "train" / "birds" / "empty").mkdir(parents=True)
    (folder / "val" / "fish").mkdir()
    assert counts(folder) == AS_IT_IS


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/dogs/self", "."),
        ("train/cats/up", ".."),
        ("train/cats/top", "../.."),
        ("train/cats/further", "../dogs"),
        ("train/cats/other", "../../val"),
        ("train/again", "."),
        ("train/kittens", "cats"),
        ("train/dogs/nowhere", "missing"),
        ("train/cats/a/b", "../../cats"),
    ],
)
def test_every_real_folder_counts_once(folder, link, target):
    (folder / link).parent.mkdir(exist_ok=True)
    os.symlink(target, folder / link)
    assert counts(folder) == AS_IT_IS


def test_classes_may_be_links_to_folders_elsewhere(folder, tmp_path):
    (folder / "train" / "cats").rename(tmp_path / "my cats")
    os.symlink(tmp_path / "my cats", folder / "train" / "cats")
    assert counts(folder) == AS_IT_IS


# --------------------------------------------------------------------------- other formats


def test_everything_that_pillow_reads_counts(folder):
    for suffix in ("tif", "tiff", "gif", "ppm", "jfif", "jp2", "tga"):
        kind = {"jfif": "JPEG"}.get(suffix)
        Image.new("RGB", (24, 24), RED).save(folder / "train" / "cats" / f"x.{suffix}", kind)
    for path in (folder / "train" / "dogs").iterdir():
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()
    assert counts(folder) == (("cats", "dogs"), [13, 6], [3, 3])


def test_other_files_are_counted_and_named(folder, caplog):
    for name in ("train/cats/a.heic", "train/dogs/b.heic", "train/dogs/notes.txt", "train/dogs/LICENSE"):
        (folder / name).write_text("?")
    assert counts(folder) == AS_IT_IS
    assert "left out 4 files in" in caplog.text and "(2 .heic, 1 .txt, 1 no suffix)" in caplog.text.replace(
        "1 no suffix, 1 .txt", "1 .txt, 1 no suffix"
    )
    assert "first train/cats/a.heic" in caplog.text


def test_a_class_without_training_images_is_refused(folder):
    for path in (folder / "train" / "dogs").iterdir():
        path.rename(path.with_suffix(".heic"))
    assert "train/dogs has no image, only 6 other files (.heic)" in refusal(folder)
    shutil.rmtree(folder / "train" / "dogs")
    assert "val/dogs is not a class of 1 in the training split: train/dogs has no image" in refusal(folder)


def test_devices_are_not_opened(folder):
    os.mkfifo(folder / "train" / "cats" / "pipe.png")
    assert counts(folder) == AS_IT_IS


# --------------------------------------------------------------------------- replaced files


def color_of(found: data.ImageDataset, label: int) -> tuple:
    return tuple(found.train.images[found.train.labels == label][0, 0, 0].tolist())


def swap(folder) -> None:
    for split in ("train", "val"):
        (folder / split / "cats").rename(folder / split / "t")
        (folder / split / "dogs").rename(folder / split / "cats")
        (folder / split / "t").rename(folder / split / "dogs")


@pytest.mark.parametrize("same_time", [True, False])
@pytest.mark.parametrize("change", ["swap", "write"])
def test_replaced_images_are_noticed(folder, change, same_time):
    """Even if names, sizes and times are the same."""
    files = sorted(folder.rglob("*.png"))
    for path in files if same_time else ():
        os.utime(path, (10**9, 10**9))
    assert color_of(own.load_folder(folder, 8), 0) == RED
    if change == "swap":
        swap(folder)
    else:
        for path in (folder / "train" / "cats").iterdir():
            Image.new("RGB", (24, 24), BLUE).save(path)
            os.utime(path, (10**9, 10**9) if same_time else None)
    assert color_of(own.load_folder(folder, 8), 0) == BLUE


def test_replaced_images_are_noticed_in_unfinished_work(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(unfinished.Work, "fill_holes", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            own.load_folder(folder, 8)
    swap(folder)
    assert color_of(own.load_folder(folder, 8), 0) == BLUE


def test_unchanged_folders_are_not_prepared_again(folder, caplog):
    own.load_folder(folder, 8)
    own.load_folder(folder, 8)
    assert "again" not in caplog.text


# --------------------------------------------------------------------------- which layout


def sorted_tiny_imagenet(at) -> None:
    """Class folders of the tiny image files, and the annotations that a usual script leaves behind."""
    files = tiny_data.photographs()
    tiny_data.write_files(at, files)
    lines = [f"{n.split('/')[2]}\t{n.split('/')[1]}\t0\t0\t1\t1\n" for n in files if n.startswith("val/")]
    (at / "val" / "val_annotations.txt").write_text("".join(lines))


@pytest.mark.parametrize("leftover", [False, True])
def test_annotations_do_not_choose_the_layout(tmp_path, monkeypatch, leftover):
    tiny_data.with_files(monkeypatch, classes=tiny_data.CLASSES)
    sorted_tiny_imagenet(tmp_path / "local" / "tinyfiles")
    if leftover:
        (tmp_path / "local" / "tinyfiles" / "val" / "images").mkdir()
    assert len(data.load("tinyfiles").test) == 30


def test_a_folder_without_anything_usable_is_named(tmp_path, monkeypatch, caplog):
    tiny_data.with_files(monkeypatch)
    tiny_data.write_files(tmp_path / "local" / "tinyfiles", {"images/1.png": b"", "labels.csv": b""})
    with pytest.raises(MlplibError, match=r"tinyfiles has no known layout \(it has images, labels\.csv\)"):
        data.load("tinyfiles")
    assert "passing over" in caplog.text and "to supply it by hand" in caplog.text


def test_lfs_pointers_in_folders_are_named(folder):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / "train" / "cats" / "000.png").write_bytes(pointer)
    assert "train/cats/000.png (an LFS pointer, not the file itself: run git lfs pull)" in refusal(folder)


# --------------------------------------------------------------------------- what is left out


def test_images_outside_of_class_folders_are_named(folder, caplog):
    for name in ("x.png", "y.png"):
        shutil.copy(folder / "train" / "cats" / "000.png", folder / "train" / name)
    assert counts(folder) == AS_IT_IS
    assert f"left out 2 images in {folder / 'train'} that no class folder holds, first x.png" in caplog.text


def test_of_two_test_splits_the_one_that_is_used_is_named(folder, caplog):
    shutil.copytree(folder / "val", folder / "test")
    assert counts(folder) == AS_IT_IS
    (line,) = [record.message for record in caplog.records]
    assert (
        line.startswith("testing on ") and line.endswith(" is not used") and "val" in line and "test" in line
    )


@pytest.mark.parametrize(
    ("split", "name", "why"),
    [
        ("train", "dogs", "class dogs has no training image that can be read"),
        ("val", "*", "it has no test image that can be read"),
    ],
)
def test_leaving_out_unreadable_images_empties_no_class_and_no_split(folder, split, name, why):
    for number in range(600):  # few enough are unreadable
        shutil.copy(folder / "train" / "cats" / "000.png", folder / "train" / "cats" / f"more-{number}.png")
    for path in folder.glob(f"{split}/{name}/*.png"):
        path.write_bytes(b"garbage") if path.name == "000.png" else path.unlink()
    assert why in refusal(folder, skip_unreadable=True)


def test_folders_may_be_nested_deeper_than_calls(folder):
    at = os.open(folder / "train" / "cats", os.O_RDONLY)
    for _ in range(1500):  # one at a time: the whole path is too long for the system
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    try:
        assert len(folders.Walk(folder).images(folder / "train" / "cats")) == 6
    finally:  # Python's own way to delete folders is recursive
        subprocess.run(["rm", "-rf", folder / "train"], check=True)


ONE, TWO = "caf\u00e9", "cafe\u0301"  # the same word in two Unicode forms


def test_names_that_look_alike_say_what_is_different(folder):
    (folder / "train" / "cats").rename(folder / "train" / ONE)
    (folder / "val" / "cats").rename(folder / "val" / TWO)
    assert f"train/{ONE} and val/{TWO} have names that differ in case or in the Unicode form" in refusal(
        folder
    )
    (folder / "val" / TWO).rename(folder / "val" / ONE.upper())
    assert "have names that differ in case" in refusal(folder)
    (folder / "val" / ONE.upper()).rename(folder / "val" / ONE)
    assert counts(folder)[0] == (ONE, "dogs")


def test_one_class_in_two_unicode_forms_is_refused(folder):
    (folder / "train" / "cats").rename(folder / "train" / ONE)
    (folder / "val" / "cats").rename(folder / "val" / ONE)
    shutil.copytree(folder / "train" / ONE, folder / "train" / TWO)
    assert "two classes are called" in refusal(folder)
