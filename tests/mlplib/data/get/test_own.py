"""A reader's own class folders: prepared once, known by name from then on, anew when files change."""

import re
import shlex
import shutil
from functools import partial

import numpy as np
import pytest
import tiny_data
from PIL import Image
from tiny_data import verified
from typer.testing import CliRunner

from mlplib import data, executor
from mlplib.data.catalog import CATALOG, content_hash, find
from mlplib.data.get import cache, own
from mlplib.data.get.verify import verify
from mlplib.errors import MlplibError
from mlplib.executor import Executor
from mlplib.progress import quiet
from mlplib.specs import DataSpec, FilterSpec, ProbeSpec
from mlplib.store import RunStore, run_id
from mlpstudy import cli
from mlpstudy.cli import options
from mlpstudy.cli.data import by_name_or_folder

refusal = partial(tiny_data.refusal, by_name_or_folder, progress=quiet)


@pytest.fixture
def folder(tmp_path):
    """Two classes, four training and two test images each, 24 x 16 pixels of one color."""
    at = tmp_path / "My Flowers"
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("rose", "tulip")):
            (at / split / name).mkdir(parents=True)
            for number in range(count):
                color = (100 * label, 10 * number, 20 * number + (split == "val"))
                Image.new("RGB", (24, 16), color).save(at / split / name / f"{number}.png")
    return at


def test_a_folder_becomes_a_data_set_with_a_name(folder):
    found = own.load_folder(folder, 8)
    assert (found.name, found.classes) == ("own-my-flowers-8", ("rose", "tulip"))
    assert found.train.images.shape == (8, 8, 8, 3) and found.test.images.shape == (4, 8, 8, 3)
    assert found.train.labels.tolist() == [0] * 4 + [1] * 4
    assert found.train.images[:, 0, 0].tolist() == [[c, 10 * n, 20 * n] for c in (0, 100) for n in range(4)]
    again = data.load("own-my-flowers-8")
    assert again.content_hash == found.content_hash == content_hash("own-my-flowers-8")
    np.testing.assert_array_equal(again.train.images, found.train.images)
    entry = find("own-my-flowers-8")
    assert (entry.train, entry.test, entry.image_size, entry.class_count) == (8, 4, 8, 2)
    assert verified("own-my-flowers-8") and "own-my-flowers-8" not in CATALOG


def test_runs_may_name_it(folder, tmp_path):
    from small_runs import small

    own.load_folder(folder, 8)
    spec = small(data=DataSpec("own-my-flowers-8"), batch_size=4)
    record = Executor(RunStore(tmp_path / "runs")).record(spec)
    assert record.status == "completed" and record.data["train_images"] == 8


def test_runs_see_what_was_prepared_last(folder, tmp_path):
    """In a notebook that stays open, images prepared again were not read again: the record of the new ones
    was made with the old ones.
    """
    from small_runs import small

    own.load_folder(folder, 8)
    spec = small(data=DataSpec("own-my-flowers-8"), batch_size=4)
    doing, before = Executor(RunStore(tmp_path / "runs")), content_hash("own-my-flowers-8")
    probes = [ProbeSpec(spec.data, None, epochs=1, batch_size=4), ProbeSpec(spec.data, spec, method="ridge")]
    old = doing.records([spec, *probes])
    shutil.copy(folder / "train/rose/3.png", folder / "train/tulip/9.png")
    own.load_folder(folder, 8)
    new = doing.records([spec, *probes])
    for records, count, content in ((old, 8, before), (new, 9, content_hash("own-my-flowers-8"))):
        assert [r.data["train_images"] for r in records] == [count] * 3
        assert [r.data["content_hash"] for r in records] == [content] * 3
    assert len({r.id for r in old + new}) == 6


def test_images_that_change_while_they_are_opened_have_their_own_hash(folder, monkeypatch):
    own.load_folder(folder, 8)
    usual = cache.open_splits

    def meanwhile(at):
        monkeypatch.setattr(cache, "open_splits", usual)
        shutil.copy(folder / "train/rose/3.png", folder / "train/tulip/9.png")
        own.load_folder(folder, 8)
        return usual(at)

    monkeypatch.setattr(cache, "open_splits", meanwhile)
    found = data.load("own-my-flowers-8")
    assert len(found.train) == 9 and found.content_hash == content_hash("own-my-flowers-8")


@pytest.mark.parametrize("kind", ["train", "filters"])
def test_images_that_change_during_a_run_do_not_name_it(folder, tmp_path, kind, monkeypatch):
    """A run has the id of the images that it began with."""
    from small_runs import small

    own.load_folder(folder, 8)
    spec = small(data=DataSpec("own-my-flowers-8"), batch_size=4)
    spec = spec if kind == "train" else FilterSpec(spec, at="initial")
    store, began = RunStore(tmp_path / "runs"), run_id(spec)
    run = executor.KINDS[kind]

    def meanwhile(*of):
        done = run(*of) if kind == "train" else None
        shutil.copy(folder / "train/rose/3.png", folder / "train/tulip/9.png")
        own.load_folder(folder, 8)
        return done or run(*of)

    monkeypatch.setitem(executor.KINDS, kind, meanwhile)
    if kind == "train":  # done when they change
        assert Executor(store).record(spec).id == began
    else:  # loaded anew on the way
        with pytest.raises(MlplibError, match=f"images of {began} were replaced during this run"):
            Executor(store).record(spec)
    assert run_id(spec) != began and store.find(spec) is None


def test_it_is_prepared_once_and_again_when_files_come_or_go(folder):
    first = own.load_folder(folder, 8)
    manifest = cache.folder("own-my-flowers-8") / "manifest.json"
    before = manifest.stat().st_mtime_ns
    own.load_folder(folder, 8)
    assert manifest.stat().st_mtime_ns == before
    (folder / "train" / "rose" / "0.png").unlink()
    changed = own.load_folder(folder, 8)
    assert len(changed.train) == 7 and changed.content_hash != first.content_hash
    assert len(own.load_folder(folder, 4).train) == 7 and len(data.load("own-my-flowers-8").train) == 7


def test_unreadable_images_are_named_with_what_to_do(folder):
    # So that one of them is not more than may be left out.
    for number in range(100):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "train" / "rose" / f"more-{number}.png")
    (folder / "train" / "rose" / "0.png").write_bytes(b"no image")
    said = refusal(str(folder), 8)
    assert "1 unreadable image: train/rose/0.png" in said
    assert f"mlplib data prepare '{folder}' --resolution 8 --skip-unreadable" in said
    assert len(own.load_folder(folder, 8, skip_unreadable=True).train) == 107


def test_what_is_no_such_folder_is_refused(folder, tmp_path):
    assert "say how many pixels a side" in refusal(str(folder), None)
    assert "side of at least 1 pixel, not 0" in refusal(str(folder), 0)
    assert f"there is no folder {tmp_path}/nothing: name one that exists" in refusal(f"{tmp_path}/nothing", 8)
    assert "--resolution is for folders, and shapes-16 is none" in refusal("shapes-16", 8)
    for mistyped in ("flowerz", "./flowerz"):
        assert f"there is no folder {mistyped}" in refusal(mistyped, 8)
    missing = (
        r"own-nothing-8 is not in the cache .*: run mlplib data prepare FOLDER --resolution 8, or put its "
    )
    assert re.search(missing, refusal("own-nothing-8", None))
    said = refusal(str(folder / "train"), 8)
    assert "no folder train; it must hold class folders" in said
    assert "parquet files go into data/own-train-8: mlplib data prepare own-train-8" in said
    for path in (folder / "val").rglob("*.png"):
        path.unlink()
    assert "val has no class folders with images" in refusal(str(folder), 8)


def test_a_damaged_copy_says_how_to_mend_it(folder):
    own.load_folder(folder, 8)
    tiny_data.flip_a_bit(cache.folder("own-my-flowers-8") / "train_images.npy")
    with pytest.raises(
        MlplibError,
        match=r"own-my-flowers-8 in the cache is damaged \(.* has changed.*\): run mlplib data prepare",
    ):
        data.load("own-my-flowers-8", verify=True)


def test_the_list_has_those_in_the_cache(folder, monkeypatch):
    monkeypatch.setattr(options.out, "width", 300)

    def listed() -> str:
        return " ".join(CliRunner().invoke(cli.app, ["data", "list"]).stdout.replace("│", " ").split())

    assert "own-" not in listed()
    folder = folder.rename(folder.with_name("[red] Flowers"))
    own.load_folder(folder, 8)
    assert f"own-red-flowers-8 the folder {folder} 8 4 8 px yes" in listed()
    (cache.folder("own-red-flowers-8") / "manifest.json").unlink()
    assert "own-red-flowers-8 own-red-flowers-8 0 0 8 px damaged" in listed()


@pytest.mark.parametrize("file", ["manifest.json", "train_images.npy", "test_labels.npy"])
def test_a_truncated_copy_is_called_damaged_and_not_unknown(folder, file):
    own.load_folder(folder, 8)
    path = cache.folder("own-my-flowers-8") / file
    path.write_bytes(path.read_bytes()[:-40])
    for use in (data.load, find, content_hash):
        with pytest.raises(
            MlplibError, match=r"own-my-flowers-8 in the cache is damaged .*: run mlplib data"
        ):
            use("own-my-flowers-8")
    assert len(own.load_folder(folder, 8).train) == 8


@pytest.mark.parametrize("same_stamp", [True, False])
@pytest.mark.parametrize("gone", [True, False])
def test_the_command_in_the_line_prepares_it_again(folder, monkeypatch, gone, same_stamp):
    """Without FFCV, and even if the file system says that the damaged file has not changed."""
    first = own.load_folder(folder, 8)
    path = cache.folder("own-my-flowers-8") / "train_images.npy"
    if same_stamp:
        monkeypatch.setattr(cache, "stamp", lambda path: "the same")
        assert verified("own-my-flowers-8")
    if gone:
        shutil.rmtree(path.parent)
    else:
        tiny_data.flip_a_bit(path)
    said = tiny_data.refusal(verify, "own-my-flowers-8")
    words = shlex.split(said.partition("run mlplib ")[2].partition(", or")[0])
    done = CliRunner().invoke(cli.app, [str(folder) if word == "FOLDER" else word for word in words])
    assert done.stdout == "own-my-flowers-8 is ready\n" and verified("own-my-flowers-8")
    assert data.load("own-my-flowers-8").content_hash == first.content_hash


def test_a_folder_does_not_replace_another_of_the_same_name_that_is_still_there(folder):
    other = shutil.copytree(folder, folder.with_name("my_flowers"))
    first = own.load_folder(folder, 8)
    assert f"{other} would be called own-my-flowers-8, as {folder} is" in refusal(str(other), 8)
    (link := folder.with_name("My-Flowers")).symlink_to(folder)
    assert own.load_folder(link, 8).content_hash == first.content_hash
    shutil.rmtree(folder)
    assert own.load_folder(str(other), 8).content_hash == first.content_hash
    for name in ("花", "草"):
        other = other.rename(other.with_name(name))
        assert own.load_folder(other, 8).name == "own-folder-8"


def test_test_images_that_are_training_images_are_counted(folder, caplog):
    """Whatever their files and labels."""
    own.load_folder(folder, 8)
    assert "also training images" not in caplog.text
    for name in ("rose", "tulip"):
        for number in range(2):
            image = Image.open(folder / "train" / name / f"{number}.png")
            image.save(folder / "val" / "tulip" / f"{name}-{number}.bmp")
    own.load_folder(folder, 8)
    assert f"class folders in {folder}: 4 of 8 test images are also training images" in caplog.text


def test_images_are_upright_and_on_white(folder):
    for path in (folder / "train").rglob("*.png"):
        Image.new("RGBA", (24, 16), (0, 0, 0, 0)).save(path)
    assert (own.load_folder(folder, 8).train.images == 255).all()


EXIF = {
    "garbage": b"Exif\0\0garbage",
    "a cut off header": b"Exif\0\0II*\0",
    "text for a number": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0x\0\0\0\0\0\0\0",
    "resolution as text": b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0"
    b"\x1a\x01\x02\0\x02\0\0\0x\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("exif", EXIF.values(), ids=EXIF)
def test_an_image_with_damaged_exif_data_is_read(folder, exif):
    for number in range(100):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "train" / "rose" / f"more-{number}.png")
    Image.new("RGB", (8, 8), (9, 9, 200)).save(folder / "train" / "rose" / "photo.jpg", exif=exif)
    assert len(own.load_folder(folder, 8).train) == 109


def test_numpys_numbers_are_numbers(folder):
    assert own.load_folder(folder, np.int64(8)).content_hash == own.load_folder(folder, 8).content_hash
    for side in (8.0, True, "8", None):
        with pytest.raises(MlplibError, match="side of at least 1 pixel, not"):
            own.load_folder(folder, side)


def test_a_class_that_a_link_takes_away_is_named(folder, caplog):
    (folder / "train" / "violet").symlink_to("rose")
    assert len(own.load_folder(folder, 8).train) == 8
    assert "left out train/violet: a link makes it a folder that counts elsewhere" in caplog.text


def test_a_class_without_test_images_is_named(folder, caplog):
    (folder / "train" / "violet").mkdir()
    Image.new("RGB", (8, 8), (99, 0, 99)).save(folder / "train" / "violet" / "0.png")
    assert len(own.load_folder(folder, 8).train) == 9
    assert "val has images of violet" in caplog.text


def test_a_folder_is_named_by_where_it_is(folder):
    assert own.name_of(folder / "train" / "..", 8) == own.name_of(folder, 8) == "own-my-flowers-8"


def test_names_that_no_file_system_takes_are_one_line(folder):
    assert "there is no folder a/xx" in refusal("a/" + "x" * 5000, 8)
    assert "choose one of shapes-16" in refusal("own-" + "x" * 5000 + "-8", None)
    long = folder.rename(folder.with_name("y" * 250))
    assert data.load(own.load_folder(long, 8).name).name == f"own-{'y' * 100}-8"
    for split in ("train", "val"):
        (long / split / "rose").rename(long / split / "ros\udcff")
    assert "'ros\\udcff' is not valid UTF-8: rename it" in refusal(str(long), 8)


def test_a_folder_with_the_name_of_a_data_set_is_not_meant_silently(tmp_path, monkeypatch, caplog):
    (tmp_path / "shapes-16" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert by_name_or_folder("shapes-16", None, quiet).name == "shapes-16"
    assert "shapes-16 is the data set of that name; the folder here is ./shapes-16" in caplog.text


def test_one_class_is_no_data_set(folder, tmp_path):
    """As where the class folders lie one level too deep."""
    for split in ("train", "val"):
        (folder / split).rename(tmp_path / split)
        (folder / split).mkdir()
        (tmp_path / split).rename(folder / split / "images")
    assert "it has one class only (images): class folders belong directly into" in refusal(str(folder), 8)
