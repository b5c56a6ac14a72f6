"""Parquet in the forms that are really published: trees, columns, label names, pointers."""

import logging
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_data
from tiny_data import CLASSES, TEST, TRAIN

from mlplib import data
from mlplib.data import catalog
from mlplib.data.catalog import Edition, ImageFiles
from mlplib.data.get import cache, parquet
from mlplib.errors import MlplibError


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A data set that is known by its pixels."""
    tiny_data.with_entry(monkeypatch)


def write(
    path, split: data.Split, form="struct", labels=None, names=None, image="image", label="label"
) -> None:
    """A split as a file; ``names`` are stated as those of the classes, in the order of ``labels``."""
    files = [tiny_data.encode(one) for one in split.images]
    labels = split.labels.tolist() if labels is None else labels
    column = {
        "struct": [{"bytes": one, "path": f"{i}.png"} for i, one in enumerate(files)],
        "bytes": files,
        "paths": [{"bytes": None, "path": f"{i}.png"} for i in range(len(files))],
        "strings": [f"{i}.png" for i in range(len(files))],
        "pixels": [one.ravel().tolist() for one in split.images],
    }[form]
    if form == "paths":
        column = pa.array(column, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    tiny_data.write_table(path, {image: column, label: labels}, label, names)


def refusal(name="tiny") -> str:
    return tiny_data.refusal(data.load, name)


# --------------------------------------------------------------------------- trees


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("tiny/train-00000-of-00001.parquet", "tiny/test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("refs/convert/parquet/tiny/train/0000.parquet", "refs/convert/parquet/tiny/test/0000.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("train.parquet", "test.parquet"),
        ("train_0.parquet", "test_0.parquet"),
    ],
)
def test_published_trees_are_found(local, train, test):
    write(local / "tiny" / train, TRAIN)
    write(local / "tiny" / test, TEST)
    write(local / "tiny" / ".cache" / train, TEST)
    loaded = data.load("tiny")
    assert loaded.content_hash == tiny_data.ENTRY.content_hash
    np.testing.assert_array_equal(loaded.train.images, TRAIN.images)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_every_name_of_the_test_split_is_tried(local, monkeypatch, name):
    tiny_data.with_files(monkeypatch, editions=(Edition("it", 3, 9, 6),), balanced=(), test_number=None)
    write(local / "tinyfiles" / "train-0.parquet", TRAIN, names=CLASSES)
    write(local / "tinyfiles" / f"{name}-0.parquet", TEST, names=CLASSES)
    other = "validation" if name == "test" else "test"
    write(local / "tinyfiles" / f"{other}-0.parquet", TEST, labels=[-1] * 6)
    assert data.load("tinyfiles").test.labels.tolist() == TEST.labels.tolist()


# --------------------------------------------------------------------------- columns


@pytest.mark.parametrize("form", ["struct", "bytes"])
@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label"), ("image", "labels")])
def test_columns(local, form, image, label):
    for split, name in ((TRAIN, "train"), (TEST, "test")):
        write(local / "tiny" / f"{name}-0.parquet", split, form, image=image, label=label)
    assert data.load("tiny").content_hash == tiny_data.ENTRY.content_hash


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("paths", "0.png (its bytes are missing: export it with the images embedded)"),
        (
            "strings",
            "column image of train-0.parquet has the type string, not the bytes of image files: export",
        ),
        ("pixels", "column image of train-0.parquet has the type list<element: int64>, not the bytes"),
    ],
)
def test_columns_without_image_files_are_refused(local, form, reason):
    for split, name in ((TRAIN, "train"), (TEST, "test")):
        write(local / "tiny" / f"{name}-0.parquet", split, form)
    assert reason in refusal()


def test_other_columns_are_named(local):
    for split, name in ((TRAIN, "train"), (TEST, "test")):
        write(local / "tiny" / f"{name}-0.parquet", split, label="target")
    assert "train-0.parquet has no column label or fine_label or labels, only image, target" in refusal()


def test_lfs_pointers_say_what_to_do(local):
    for name in ("train", "test"):
        path = local / "tiny" / f"{name}-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "train-0.parquet is an LFS pointer, not the file itself: run git lfs pull" in refusal()


def test_what_is_no_parquet_file_is_refused(local):
    write(local / "tiny" / "test-0.parquet", TEST)
    (local / "tiny" / "train-0.parquet").write_text("hello" * 100)
    assert "train-0.parquet cannot be read as parquet (" in refusal()


# --------------------------------------------------------------------------- label names


def renumbered(split: data.Split, order: list[str]) -> list[int]:
    return [order.index(CLASSES[label]) for label in split.labels]


@pytest.mark.parametrize("where", ["train", "test", "second shard", "all"])
def test_shards_that_number_their_classes_otherwise_are_renumbered(local, caplog, where):
    order = ["cow", "ant", "bee"]
    halves = data.Split(TRAIN.images[:5], TRAIN.labels[:5]), data.Split(TRAIN.images[5:], TRAIN.labels[5:])
    shards = {
        "train-0": (halves[0], "train"),
        "train-1": (halves[1], "second shard"),
        "test-0": (TEST, "test"),
    }
    for name, (split, kind) in shards.items():
        other = where in (kind, "all") or (where == "train" and kind == "second shard")
        names = order if other else CLASSES
        write(local / "tiny" / f"{name}.parquet", split, labels=renumbered(split, names), names=names)
    assert data.load("tiny").content_hash == tiny_data.ENTRY.content_hash
    assert "in another order: its labels are renumbered" in caplog.text


@pytest.fixture
def unknown_content(monkeypatch):
    """A data set with class names of its own that is known by its numbers alone, as STL-10."""
    about = {"editions": (Edition("it", 3, 9, 6),), "balanced": (), "test_number": None}
    return tiny_data.with_files(monkeypatch, classes=CLASSES, **about)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            ("car", "dog", "sky"),
            "names its classes car, dog, sky and so on, which are not those of Tiny files",
        ),
        (("bee", "ant", "sky"), "in another order, with names that are not clear: sky"),
        (("bee", "bee", "ant"), "in another order, with names that are not clear: some names occur twice"),
    ],
)
def test_names_that_are_not_clear_are_refused(local, unknown_content, names, reason):
    write(local / "tinyfiles" / "train-0.parquet", TRAIN, names=CLASSES)
    write(local / "tinyfiles" / "test-0.parquet", TEST, names=names)
    assert reason in refusal("tinyfiles")


@pytest.mark.parametrize("names", [("Ant", "bee ", "COW"), ("0", "1", "2"), ("ant", "bee", "kow"), None])
def test_small_differences_and_numbers_are_accepted(local, unknown_content, names):
    write(local / "tinyfiles" / "train-0.parquet", TRAIN, names=names)
    write(local / "tinyfiles" / "test-0.parquet", TEST, names=names)
    assert data.load("tinyfiles").train.labels.tolist() == TRAIN.labels.tolist()


@pytest.mark.parametrize("known", [True, False])
def test_text_labels(local, monkeypatch, known):
    about = {"editions": (Edition("it", 3, 9, 6),), "balanced": (), "test_number": None}
    tiny_data.with_files(monkeypatch, classes=CLASSES if known else (), **about)
    for split, name in ((TRAIN, "train"), (TEST, "test")):
        words = [CLASSES[label] for label in split.labels]
        write(local / "tinyfiles" / f"{name}-0.parquet", split, labels=words)
    loaded = data.load("tinyfiles")
    assert loaded.classes == CLASSES and loaded.test.labels.tolist() == TEST.labels.tolist()


def test_an_unknown_text_label_is_refused(local, unknown_content):
    write(local / "tinyfiles" / "train-0.parquet", TRAIN, labels=["ant"] * 8 + ["yak"])
    write(local / "tinyfiles" / "test-0.parquet", TEST)
    assert "train-0.parquet has the label 'yak', which is no class of tinyfiles" in refusal("tinyfiles")


def test_where_the_catalog_has_no_names_shards_are_compared_with_each_other(local, monkeypatch, caplog):
    about = {"editions": (Edition("it", 3, 9, 6),), "balanced": (), "test_number": None}
    tiny_data.with_files(monkeypatch, classes=(), **about)
    order = ["cow", "ant", "bee"]
    write(local / "tinyfiles" / "train-0.parquet", TRAIN, names=CLASSES)
    write(local / "tinyfiles" / "test-0.parquet", TEST, labels=renumbered(TEST, order), names=order)
    assert data.load("tinyfiles").test.labels.tolist() == TEST.labels.tolist()


# --------------------------------------------------------------------------- ImageNet's order


@pytest.fixture
def imagenet(monkeypatch) -> ImageFiles:
    """ImageNet with 1,000 training and test images of one pixel."""
    known = catalog.CATALOG["imagenet"]
    fields = {name: getattr(known, name) for name in known.__dataclass_fields__}
    numbers = {
        "train": 1000,
        "test": 1000,
        "image_size": 1,
        "editions": (Edition("small", 1000, 1000, 1000),),
    }
    entry = ImageFiles(**{**fields, **numbers})
    monkeypatch.setitem(catalog.CATALOG, "imagenet", entry)
    return entry


def write_imagenet(local, names, wnid_of=None) -> None:
    image = tiny_data.encode(np.zeros((1, 1, 3), np.uint8))
    for split in ("train", "validation"):
        paths = [f"{i}_{wnid_of(i)}.JPEG" if wnid_of else f"{i}.JPEG" for i in range(1000)]
        rows = {"image": [{"bytes": image, "path": path} for path in paths], "label": list(range(1000))}
        tiny_data.write_table(local / "imagenet" / "data" / f"{split}-0.parquet", rows, names=names)


@pytest.mark.parametrize("kind", [0, 1])
def test_imagenets_own_order_is_accepted_by_ids_and_by_words(local, imagenet, kind):
    write_imagenet(local, imagenet.known_names[kind], lambda i: imagenet.known_names[0][i])
    assert data.load("imagenet").classes == imagenet.known_names[0]


@pytest.mark.parametrize("kind", [0, 1])
def test_another_order_of_imagenets_classes_is_renumbered(local, imagenet, kind, caplog):
    caplog.set_level(logging.WARNING)
    names = list(imagenet.known_names[kind])
    write_imagenet(local, [names[1], names[0], *names[2:]])
    assert data.load("imagenet").train.labels[:3].tolist() == [1, 0, 2]


def test_labels_that_contradict_the_files_names_are_refused(local, imagenet):
    ids = imagenet.known_names[0]
    write_imagenet(local, None, lambda i: ids[999 - i])
    assert "0_n15075141.JPEG has the label 0, which means n01440764: the classes are in" in refusal(
        "imagenet"
    )


def test_real_labels_need_an_order_that_is_known(local, imagenet):
    write_imagenet(local, None)
    loaded = data.load("imagenet")
    object.__setattr__(loaded, "test_index", np.arange(1000))
    with pytest.raises(MlplibError, match="ReaL labels need ImageNet's order of classes"):
        data.real_labels(loaded)


def test_imagenet_list_is_that_of_timm():
    from timm.data import ImageNetInfo

    assert list(catalog.CATALOG["imagenet"].known_names[0]) == ImageNetInfo("imagenet-1k").label_names()


def test_shards_are_in_order_and_of_the_split(tmp_path):
    for name in ("train-1", "train-0", "training-0", "test-0", "partial-train-0"):
        (tmp_path / f"{name}.parquet").touch()
    assert [path.stem for path in parquet.shards(tmp_path, "train")] == ["train-0", "train-1"]


# --------------------------------------------------------------------------- shards that do not fit together


def put(folder, files, split=TRAIN, **options) -> None:
    for name in files:
        write(folder / f"{name}.parquet", split, **options)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["train-00000-of-00002"], "of the 2 shards like train-00000-of-00002.parquet, number 1 is missing"),
        (
            ["train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"],
            "are shards of 2 data sets",
        ),
        (["train-00000-of-00001 (1)", "train-00000-of-00001"], "2 files (train-00000-of-00001 (1).parquet, "),
        (["train-a-00000-of-00001", "train-b-00000-of-00001"], "where their names say 1: keep one"),
        (
            ["train-00000-of-00001-0123456789abcdef", "train"],
            "where their names say 1: keep one copy",
        ),
        (
            ["train-0 (1)", "train-0"],
            "train-0 (1).parquet and train-0.parquet have the same content: remove one",
        ),
        (["train/0000 (1)", "train/0000"], "0000 (1).parquet and 0000.parquet have the same content"),
        (["train-0", "train/0000"], "train-0.parquet and train/0000.parquet may both be of the split train"),
        (["train/0", "train/more/1"], "train/0.parquet and train/more/1.parquet may both be of the split"),
        (["train/0", "train.parquet/1"], "train/0.parquet and train.parquet/1.parquet may both be"),
    ],
)
def test_a_copy_without_all_its_shards_or_with_those_of_another_is_refused(local, names, why):
    put(local / "tiny", names)
    put(local / "tiny", ["test-00000-of-00001"], TEST)
    assert why in refusal()


@pytest.mark.parametrize("second", ["train_old", "train-backup", "train.bak"])
def test_files_that_are_not_numbered_are_not_parts_of_one_split(local, second):
    put(local / "tiny", ["train"])
    put(local / "tiny", [second, "test"], TEST)
    assert " are not numbered as parts of one split: keep one" in refusal()


def own_set(folder, train, test) -> None:
    put(folder / "own-x-8", ["train"], names=train)
    put(folder / "own-x-8", ["test"], TEST, names=test)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (
            ["en/train", "en/test", "de/train", "de/test"],
            "own-x-8/de and {at}/own-x-8/en are data sets: keep one",
        ),
        (
            ["train", "data/train", "test", "data/test"],
            "own-x-8 and {at}/own-x-8/data are data sets: keep one",
        ),
        (
            ["train"],
            "no files val-*.parquet or validation-*.parquet or valid-*.parquet or test-*.parquet beside",
        ),
        (["test"], "own-x-8 has no known layout (it has test.parquet); "),
        ([".train", ".test"], "own-x-8 has no known layout (it has .test.parquet, .train.parquet); "),
        (["train/ant/1"], "(class folders: mlplib data prepare FOLDER)"),
    ],
)
def test_an_own_set_that_is_not_clear_says_why(local, files, why):
    for name in files:
        put(local / "own-x-8", [name], TEST if "test" in name else TRAIN)
    assert why.format(at=local) in refusal("own-x-8")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["a", "a", "b"], "two classes are called a"),
        (
            ["caf\u00e9", "cafe\u0301", "b"],
            "two classes are called caf\u00e9 (maybe in two Unicode forms)",
        ),
        (["a"], "it has one class only (a): a data set needs two"),
    ],
)
def test_names_of_an_own_set_are_different(local, names, why):
    own_set(local, names, names)
    assert why in refusal("own-x-8")


@pytest.mark.parametrize("column", ["image", "label"])
def test_two_columns_of_one_name_are_refused(local, column):
    own_set(local, CLASSES, CLASSES)
    table = pq.read_table(local / "own-x-8" / "test.parquet")
    pq.write_table(table.append_column(column, table[column]), local / "own-x-8" / "test.parquet")
    assert f"test.parquet has two columns {column}: keep one" in refusal("own-x-8")


def test_an_own_set_is_found_under_its_own_name_only(local):
    own_set(local, CLASSES, CLASSES)
    assert data.load("own-x-8").classes == tuple(CLASSES)
    put(local, ["train"], names=CLASSES)
    put(local, ["test"], TEST, names=CLASSES)
    assert "own-y-8 is not in the cache" in refusal("own-y-8")


def test_shards_of_an_own_set_have_the_same_classes(local):
    own_set(local, CLASSES, [*CLASSES[:-1], "another"])
    assert "another shard has" in refusal("own-x-8")


@pytest.mark.parametrize("names", [CLASSES, [str(i) for i in range(len(CLASSES))]])
def test_shards_of_an_own_set_that_number_their_classes_in_another_order_are_renumbered(local, names):
    own_set(local, names, names[::-1])
    expected = len(names) - 1 - TEST.labels
    assert data.load("own-x-8").test.labels.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "names",
    [("A", "a"), ("+", "-"), ("1", "-1"), ("bear, brown", "bear, polar"), ("c", "c++", "c#")],
    ids=str,
)
def test_names_of_an_own_set_may_differ_in_case_and_punctuation_only(local, names):
    some = [i for i in range(len(TRAIN)) if TRAIN.labels[i] < len(names)]
    train = data.Split(TRAIN.images[some], TRAIN.labels[some])
    put(local / "own-x-8", ["train"], train, names=names)
    put(local / "own-x-8", ["test"], train, names=names[::-1])
    found = data.load("own-x-8")
    assert found.test.labels.tolist() == (len(names) - 1 - train.labels).tolist()


def test_an_own_set_whose_files_are_replaced_is_prepared_again(local, tmp_path, monkeypatch):
    own_set(local, CLASSES, CLASSES)
    first = data.load("own-x-8")
    put(local / "own-x-8", ["train"], tiny_data.reordered(TRAIN), names=CLASSES)
    second = data.load("own-x-8")
    assert second.content_hash != first.content_hash
    manifest = cache.folder("own-x-8") / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert data.load("own-x-8").content_hash == second.content_hash
    shutil.copytree(local / "own-x-8", tmp_path / "another user" / "own-x-8")
    with monkeypatch.context() as other:
        other.setenv("MLPLIB_DATA", str(tmp_path / "another user"))
        assert data.load("own-x-8").content_hash == second.content_hash
    shutil.rmtree(local / "own-x-8")
    assert data.load("own-x-8").content_hash == second.content_hash, "the cache is enough without the files"
    assert manifest.stat().st_mtime_ns == before


def test_a_missing_label_is_named(local):
    own_set(local, CLASSES, CLASSES)
    write(local / "own-x-8" / "test.parquet", TEST, names=CLASSES, labels=[None, *TEST.labels.tolist()[1:]])
    assert " has no label;" in refusal("own-x-8")


def test_a_second_test_split_is_named(local, caplog):
    own_set(local, CLASSES, CLASSES)
    put(local / "own-x-8", ["validation-00000-of-00001"], TEST, names=CLASSES)
    assert len(data.load("own-x-8").test) == len(TEST)
    assert "testing on the files validation-*" in caplog.text and "; test-* are not used" in caplog.text


def test_numbers_without_names_are_the_classes_of_an_own_set(local):
    own_set(local, None, None)
    found = data.load("own-x-8")
    assert found.classes == tuple(str(i) for i in range(len(CLASSES)))
    assert found.train.labels.tolist() == TRAIN.labels.tolist()


def test_a_column_of_categories_is_one_of_texts_or_numbers(local):
    texts = pa.array([CLASSES[label] for label in TRAIN.labels]).dictionary_encode()
    numbers = pa.array(TEST.labels).dictionary_encode()
    write(local / "own-x-8" / "train.parquet", TRAIN, labels=texts)
    write(local / "own-x-8" / "test.parquet", TEST, labels=numbers, names=CLASSES)
    found = data.load("own-x-8")
    assert set(found.classes) == set(CLASSES)
    for split, expected in ((found.train, TRAIN), (found.test, TEST)):
        assert [found.classes[i] for i in split.labels] == [CLASSES[i] for i in expected.labels]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda labels: [label + 1 for label in labels], "class 0 has no training image"),
        (lambda labels: [-1 if label == 2 else label for label in labels], "0, 1, 2 and so on: one is -1"),
        (lambda labels: [10**12 * label for label in labels], "and so on: one is 1000000000000"),
        (lambda labels: [CLASSES[label] for label in labels], "numbers as labels and others text"),
    ],
)
def test_numbers_that_are_no_class_numbers_are_refused(local, change, why):
    write(local / "own-x-8" / "train.parquet", TRAIN)
    write(local / "own-x-8" / "test.parquet", TEST)
    write(local / "own-x-8" / "train.parquet", TRAIN, labels=change(TRAIN.labels.tolist()))
    assert why in refusal("own-x-8")


def test_folders_as_spark_writes_them(local):
    for split, rows in (("train", TRAIN), ("test", TEST)):
        folder = local / "tiny" / f"{split}.parquet"
        write(folder / "part-00000-1b2c-c000.snappy.parquet", rows)
        (folder / "_SUCCESS").touch()
        (folder / ".part-00000-1b2c-c000.snappy.parquet.crc").touch()
    assert data.load("tiny").content_hash == tiny_data.ENTRY.content_hash
