"""The catalog: identities that need no data, and agree with the data."""

import hashlib

import numpy as np
import pytest
import tiny_data

from mlplib import data
from mlplib.data.catalog import CATALOG, ClassSubset, ImageFiles, content_hash
from mlplib.errors import MlplibError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLPLIB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlplib.files.__file__", str(tmp_path / "mlplib/files.py"))  # no clone with data
    return tmp_path


def test_unknown_data_set_is_refused_with_the_names():
    with pytest.raises(MlplibError, match=r"unknown data set 'cifar'.*shapes-16.*cifar10-animals"):
        data.load("cifar")


def test_identity_needs_neither_torch_nor_data(own_cache):
    script = (
        "import sys; from mlplib.data.catalog import CATALOG, content_hash; "
        "print(*(content_hash(n) for n in CATALOG)); "
        "heavy = {'torch', 'torchvision', 'pyarrow', 'PIL'} & set(sys.modules); assert not heavy, heavy"
    )
    process = tiny_data.start_python(script)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    hashes = out.split()
    assert len(set(hashes)) == len(CATALOG) and all(len(h) == 64 for h in hashes)
    assert not (own_cache / "cache").exists()


@pytest.mark.parametrize("name", [name for name in CATALOG if name.startswith("shapes")])
def test_drawn_data_carries_its_identity(name):
    assert data.load(name).content_hash == content_hash(name)


@pytest.mark.parametrize("name", CATALOG)
def test_entries_are_consistent(name):
    entry = CATALOG[name]
    assert entry.name == name and len(set(entry.classes)) == len(entry.classes)
    assert entry.class_count == len(entry.classes) or (entry.classes == () and entry.class_count >= 1000)
    if isinstance(entry, ImageFiles):
        first = entry.accepted_editions[0]
        assert (first.train, first.test, first.classes) == (entry.train, entry.test, entry.class_count)
    if isinstance(entry, ClassSubset):
        parent = CATALOG[entry.parent]
        assert set(entry.classes) < set(parent.classes)
        # Labels are renumbered in class order.
        assert list(entry.classes) == sorted(entry.classes, key=parent.classes.index)
        assert (
            entry.train / parent.train == entry.test / parent.test == len(entry.classes) / len(parent.classes)
        )


def test_both_parts_of_cifar10_have_animals_and_vehicles_and_share_no_class():
    upstream, downstream = CATALOG["cifar10-upstream"], CATALOG["cifar10-downstream"]
    assert upstream.classes == ("airplane", "cat", "deer", "dog", "frog", "truck")
    assert {*upstream.classes, *downstream.classes} == {*CATALOG["cifar10"].classes}
    assert (upstream.train, downstream.train, downstream.test) == (30_000, 20_000, 4_000)


def test_animals_and_vehicles_are_the_studys():
    assert CATALOG["cifar10-animals"].classes == ("bird", "cat", "deer", "dog", "frog", "horse")
    assert CATALOG["cifar10-vehicles"].classes == ("airplane", "automobile", "ship", "truck")
    assert (CATALOG["cifar10-animals"].train, CATALOG["cifar10-vehicles"].test) == (30_000, 4_000)


def test_another_stored_order_is_another_identity_for_subsets_too(own_cache, monkeypatch):
    entry = tiny_data.with_entry(monkeypatch)
    part = ClassSubset.of(entry, "tiny-part", "Part of tiny", ("ant", "cow"))
    monkeypatch.setitem(CATALOG, part.name, part)
    before = content_hash("tiny"), content_hash("tiny-part")
    assert before[0] == entry.content_hash

    train = tiny_data.reordered(tiny_data.TRAIN)
    tiny_data.write_parquet(own_cache / "data" / "tiny", train, tiny_data.TEST)
    loaded, loaded_part = data.load("tiny"), data.load("tiny-part")
    np.testing.assert_array_equal(loaded.train.images, train.images)
    assert (loaded.content_hash, loaded_part.content_hash) == (
        content_hash("tiny"),
        content_hash("tiny-part"),
    )
    assert content_hash("tiny") != before[0] and content_hash("tiny-part") != before[1]
    assert len(loaded_part.train) == part.train and len(loaded_part.test) == part.test


@pytest.mark.network
def test_real_cifar10(monkeypatch, tmp_path_factory):
    """The real images, from the user's cache or from the sources: every pin and every known fact."""
    monkeypatch.delenv("MLPLIB_CACHE")
    monkeypatch.delenv("MLPLIB_DATA")
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    cifar = data.load("cifar10")
    assert tiny_data.verified("cifar10")
    assert cifar.content_hash == content_hash("cifar10") == CATALOG["cifar10"].content_hash
    assert cifar.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert cifar.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    np.testing.assert_allclose(cifar.mean, (0.49139968, 0.48215841, 0.44653091), atol=5e-9)
    # The official "binary version" of the first batch: label byte, then red, green and blue plane.
    planes = cifar.train.images[:10_000].transpose(0, 3, 1, 2).reshape(10_000, -1)
    batch = np.concatenate([cifar.train.labels[:10_000].astype(np.uint8)[:, None], planes], axis=1)
    assert hashlib.md5(batch.tobytes()).hexdigest() == "5dd7e06a14cb22eb9f671a540d1b7c25"
    animals = data.load("cifar10-animals")
    assert np.bincount(animals.train.labels).tolist() == [5000] * 6
    assert animals.train.labels[0] == animals.classes.index("frog")
