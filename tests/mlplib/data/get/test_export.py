"""Exported data sets: lossless shards of a limited size, read back to the same content hash."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_data
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_data import TEST, TRAIN
from typer.testing import CliRunner

from mlplib import data
from mlplib.data.catalog import content_hash
from mlplib.data.get import cache, copies, decode, export, own, real
from mlplib.errors import MlplibError
from mlpstudy.cli.data import parse_size


@pytest.fixture(autouse=True)
def home(local, monkeypatch):
    """The tiny data set and the tiny image files in a local folder; its parent."""
    tiny_data.with_entry(monkeypatch)
    tiny_data.write_parquet(local / "tiny", TRAIN, TEST)
    tiny_data.with_files(monkeypatch)
    tiny_data.write_files(local / "tinyfiles", tiny_data.photographs())
    return local.parent


@pytest.fixture
def elsewhere(home, monkeypatch):
    """Go to a machine that has nothing but what was exported to ``home/"out"``."""

    def move() -> None:
        monkeypatch.setenv("MLPLIB_CACHE", str(home / "other cache"))
        monkeypatch.setenv("MLPLIB_DATA", str(home / "out"))

    return move


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.parquet"))


def rows(folder: Path, split: str) -> list[dict]:
    return [row for path in sorted(folder.glob(f"{split}-*")) for row in pq.read_table(path).to_pylist()]


def assert_same(found: data.ImageDataset, expected: data.ImageDataset) -> None:
    assert found.content_hash == expected.content_hash == content_hash(found.name)
    np.testing.assert_array_equal(found.train.images, expected.train.images)
    np.testing.assert_array_equal(found.test.labels, expected.test.labels)
    assert (found.classes, found.mean, found.std) == (expected.classes, expected.mean, expected.std)


@pytest.mark.parametrize("originals", [True, False])
@pytest.mark.parametrize("size", [20_000, 10**9])
def test_known_pixels_come_back_with_their_hash(home, elsewhere, originals, size):
    before = data.load("tiny")
    if not originals:
        (home / "local").rename(home / "gone")
    done = export.export("tiny", home / "out", size)
    assert done.original == originals
    assert all(path.stat().st_size <= size for path in done.folder.iterdir())
    assert (done.shards > 2) == (size == 20_000)
    elsewhere()
    assert_same(data.load("tiny"), before)


def test_the_layout_is_that_of_hugging_face(home):
    done = export.export("tiny", home / "out", 10**9)
    assert shards(done.folder) == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    schema = pq.read_schema(done.folder / "train-00000-of-00001.parquet")
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"
    assert str(schema.field("label").type) == "int64"
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {
        "image": {"_type": "Image"},
        "label": {"names": list(tiny_data.CLASSES), "_type": "ClassLabel"},
    }


def test_image_files_come_back_as_pixels_with_their_official_numbers(home, elsewhere):
    before = data.load("tinyfiles")
    done = export.export("tinyfiles", home / "out", 50_000)
    assert not done.original and done.shards > 2
    assert rows(done.folder, "test")[0]["image"]["path"].startswith("TINY_val_")
    elsewhere()
    after = data.load("tinyfiles")
    assert_same(after, before)
    np.testing.assert_array_equal(after.test_index, before.test_index)


@pytest.fixture
def flowers(home) -> Path:
    """A folder of two classes of photographs, one of them turned by its EXIF data, one transparent."""
    at = home / "flowers"
    for split, count in (("train", 5), ("val", 3)):
        for label, name in enumerate(("rose", "tulip")):
            (at / split / name).mkdir(parents=True)
            for number in range(count):
                seed = 10 * label + number + 100 * (split == "val")
                image = Image.fromarray(tiny_data.photograph(seed, label, 20, 40))
                exif = Image.Exif()
                exif[0x0112] = 6 if number == 1 else 1
                image.save(at / split / name / f"{number}.jpg", exif=exif)
    image.putalpha(100)
    image.save(at / "train" / "rose" / "clear.png")
    return at


def test_own_folders_come_back_with_their_files(home, flowers, elsewhere):
    before = own.load_folder(flowers, 16)
    done = export.export("own-flowers-16", f"{home}/out", 10**9)
    assert done.original
    exported = sorted(row["image"]["bytes"] for row in rows(done.folder, "train"))
    assert exported == sorted(path.read_bytes() for path in (flowers / "train").rglob("*.*"))
    elsewhere()
    assert_same(data.load("own-flowers-16"), before)
    assert data.load("own-flowers-16").classes == ("rose", "tulip")


def test_files_that_have_changed_are_not_exported(home, flowers, elsewhere):
    before = own.load_folder(flowers, 16)
    (flowers / "train" / "rose" / "0.jpg").write_bytes((flowers / "train" / "tulip" / "0.jpg").read_bytes())
    assert not export.export("own-flowers-16", home / "out", 10**9).original
    elsewhere()
    assert_same(data.load("own-flowers-16"), before)


# --------------------------------------------------------------------------- again, after a kill


def test_another_export_replaces_the_shards_and_others_files_stay(home):
    few = export.export("tiny", home / "out", 10**9)
    many = export.export("tiny", home / "out", 20_000)
    assert len(shards(many.folder)) == many.shards > few.shards
    (many.folder / "train.parquet").write_bytes(b"mine")
    with pytest.raises(MlplibError, match=r"has another file, train\.parquet: choose another folder"):
        export.export("tiny", home / "out", 10**9)
    assert len(shards(many.folder)) == many.shards + 1


def test_a_killed_export_leaves_nothing_that_looks_whole(home, elsewhere, monkeypatch):
    before, written = data.load("tiny"), []

    def killed_in_the_second(split_folder, name, *rest, original=export._write_split):
        written.append(name)
        if name == "test":
            os.kill(os.getpid(), signal.SIGKILL)
        return original(split_folder, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(export, "_write_split", killed_in_the_second)
        process = multiprocessing.get_context("fork").Process(
            target=export.export, args=("tiny", home / "out", 20_000)
        )
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in (home / "out").iterdir() if path.suffix != ".lock"] == [".tiny.unfinished"]
    export.export("tiny", home / "out", 20_000)
    assert not (home / "out" / ".tiny.unfinished").exists()
    elsewhere()
    assert_same(data.load("tiny"), before)


# --------------------------------------------------------------------------- sizes, refusals


@pytest.mark.parametrize("smooth", [True, False])
def test_encoding_is_lossless(smooth):
    image = np.zeros_like(TRAIN.images[0]) if smooth else TRAIN.images[0]
    np.testing.assert_array_equal(decode.fit(export.encode(image), tiny_data.SIDE, resized=False), image)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=50), st.integers(0, 2000))
def test_shards_take_all_rows_in_order_within_the_limit(sizes, more):
    most = export._ROW_BYTES + 101 + more
    rows = [(bytes(size), "x", label) for label, size in enumerate(sizes)]
    found = list(export._by_shard(rows, most))
    assert [row for _, row in found] == rows
    assert [number for number, _ in found] == sorted(number for number, _ in found)
    totals = np.bincount([number for number, _ in found], weights=sizes)
    assert all(0 < total <= most for total in totals)


@pytest.mark.parametrize(("text", "size"), [("500K", 512_000), ("50m", 50 * 2**20), ("1G", 2**30), ("7", 7)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0K", "-1M", "1.5G", "M", "50X", "5 0", "1e9", "٣", "9" * 99])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(MlplibError, match="a size is a number of bytes such as 500K, 50M or 1G, not "):
        parse_size(text)


def call(*words: str):
    from mlpstudy import cli

    return CliRunner().invoke(cli.app, ["data", *words])


def test_the_command_line(home, monkeypatch):
    from mlplib.data import catalog

    part = catalog.ClassSubset.of(tiny_data.ENTRY, "tiny-insects", "Insects", ("ant", "bee"))
    monkeypatch.setitem(catalog.CATALOG, part.name, part)
    done = call("export", "tiny-insects", "shapes-16", "--out", str(home / "out"), "--shard-size", "20K")
    assert done.exit_code == 0, done.output
    assert "tiny-insects consists of classes of tiny, which is exported" in done.stdout
    assert "shapes-16 is drawn wherever it is needed: nothing to export" in done.stdout
    assert f"shards with original files in {home / 'out' / 'tiny'}" in done.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("tiny", "--shard-size", "64X"), "a size is a number of bytes"),
        (("tiny", "--shard-size", "1K"), "needs a shard of .* more bytes: choose a larger --shard-size"),
        (("nothing",), "unknown data set 'nothing'"),
        ((real.NAME,), "is one file, real.json: copy it"),
    ],
)
def test_bad_input_writes_nothing(home, words, reason):
    done = call("export", *words, "--out", str(home / "out"))
    assert done.exit_code != 0
    with pytest.raises(MlplibError, match=reason):
        raise done.exception
    assert not shards(home / "out" / "tiny")


def test_an_export_that_cannot_be_written_is_one_line(home, monkeypatch):
    (home / "file").write_text("")
    with pytest.raises(MlplibError, match=r"cannot write .*file/tiny: "):
        export.export("tiny", home / "file", 10**9)
    monkeypatch.setattr("mlplib.files.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(MlplibError, match=r"needs room for .* choose another folder \(--out\)"):
        export.export("tiny", home / "out", 10**9)


def test_a_damaged_cache_is_not_exported(home):
    data.load("tiny")
    (home / "local").rename(home / "gone")
    tiny_data.flip_a_bit(cache.folder("tiny") / "train_images.npy")
    with pytest.raises(MlplibError, match="cannot get tiny"):
        export.export("tiny", home / "out", 10**9)
    assert not (home / "out").exists()


def test_parts_smaller_than_shards_and_larger(home, flowers, elsewhere, monkeypatch):
    monkeypatch.setattr(copies, "PART", 2)
    monkeypatch.setattr(export, "_GROUP_ROWS", 3)
    before = own.load_folder(flowers, 16)
    export.export("own-flowers-16", home / "out", 10_000)
    elsewhere()
    assert_same(data.load("own-flowers-16"), before)


def test_shards_of_two_exports_are_not_mixed(home, flowers, elsewhere):
    own.load_folder(flowers, 16)
    first = export.export("own-flowers-16", home / "out", 10**9).folder
    kept = next(first.glob("test-*")).read_bytes()
    (flowers / "train" / "rose" / "0.jpg").unlink()
    own.load_folder(flowers, 16)
    second = export.export("own-flowers-16", home / "out", 10**9).folder
    next(second.glob("test-*")).write_bytes(kept)
    elsewhere()
    said = tiny_data.refusal(data.load, "own-flowers-16")
    assert "were not exported from the same images: export them again" in said


def test_other_pixels_than_the_exported_ones_are_named(home, flowers, elsewhere, caplog):
    before = own.load_folder(flowers, 16)
    done = export.export("own-flowers-16", home / "out", 10**9)
    path = next(done.folder.glob("train-*"))
    table = pq.read_table(path)
    labels = table["label"].to_pylist()
    pq.write_table(table.set_column(1, table.schema.field(1), [labels[::-1]]), path)
    elsewhere()
    found = data.load("own-flowers-16")
    assert found.content_hash != before.content_hash
    said = "not the pixels and labels that were exported"
    assert said in caplog.text and before.content_hash[:12] in caplog.text
