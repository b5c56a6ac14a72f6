"""ReaL labels: found, checked, in the order of the test images."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import tiny_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlplib import data
from mlplib.data import real_labels
from mlplib.data.dataset import statistics
from mlplib.data.get import real
from mlplib.data.get.verify import verify
from mlplib.errors import MlplibError

LISTS = [[3, 1], [], [0], [2], [9, 4, 7], [], [5], [6, 8]]


def pin(lists: list[list[int]]) -> str:
    canonical = json.dumps([sorted(one) for one in lists], separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Eight images and ten classes instead of ImageNet's."""
    monkeypatch.setattr(real, "IMAGES", len(LISTS))
    monkeypatch.setattr(real, "CLASSES", 10)
    monkeypatch.setattr(real, "CONTENT_HASH", pin(LISTS))


def dataset(index) -> data.ImageDataset:
    """A data set whose test images have these official numbers."""
    test = data.Split(tiny_data.TEST.images[: len(index)], tiny_data.TEST.labels[: len(index)])
    numbers = np.asarray(index, dtype=np.int64)
    stats = statistics(tiny_data.TRAIN.images)
    return data.ImageDataset("imagenet", tiny_data.TRAIN, test, tiny_data.CLASSES, *stats, "0" * 64, numbers)


def supply(folder, content=LISTS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "real.json").write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("place", ["imagenet", "imagenet-real", "."])
def test_rows_follow_the_test_images(local, place):
    supply(local / place)
    accepted = real_labels(dataset([4, 1, 0, 7, 3]))
    assert accepted.dtype == bool and accepted.shape == (5, 10)
    assert [np.flatnonzero(row).tolist() for row in accepted] == [[4, 7, 9], [], [1, 3], [6, 8], [2]]


@given(st.lists(st.lists(st.integers(0, 9), max_size=4, unique=True), min_size=1, max_size=30), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_the_images(local, lists, drawn):
    order = drawn.draw(st.permutations(range(len(lists))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLPLIB_CACHE", str(local / "read-only-file"))
        patch.setattr(real, "IMAGES", len(lists))
        patch.setattr(real, "CONTENT_HASH", pin(lists))
        supply(local, lists)
        (local / "read-only-file").touch()
        accepted = real_labels(dataclasses.replace(dataset([0]), test_index=np.array(order)))
    assert [set(np.flatnonzero(row)) for row in accepted] == [set(lists[i]) for i in order]


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LISTS[:-1], "its labels are not the published ones"),
        ({"0": [1]}, "its labels are not the published ones"),
        ("[[1, 2], [", "it cannot be read as lists of classes (Expecting value"),
        ("", "it cannot be read as lists of classes"),
        ("[" * 100_000, "it cannot be read as lists of classes (maximum recursion"),
        ([*LISTS[:2], 0, *LISTS[3:]], "it cannot be read as lists of classes ('int' object is not iterable)"),
        ([["3"], *LISTS[1:]], "its labels are not the published ones"),
        ([[4], *LISTS[1:]], "its labels are not the published ones"),
    ],
)
def test_another_file_is_refused(local, content, reason):
    supply(local / "imagenet", content)
    message = tiny_data.refusal(real_labels, dataset([0, 1]))
    assert f"{local / 'imagenet' / 'real.json'} does not have the ReaL labels: " in message
    assert reason in message and "MLPLIB_DATA=<folder>" in message
    assert not real.cached().exists()


def test_the_order_within_a_list_does_not_matter(local):
    supply(local, [one[::-1] for one in LISTS])
    assert real_labels(dataset([0])).any()


@pytest.mark.parametrize("index", [[0, -1], [0, 8], [2, 2]])
def test_unknown_numbers_are_refused(local, index):
    supply(local)
    with pytest.raises(MlplibError, match=r"whose numbers imagenet does not know: .*ILSVRC2012_val_<number>"):
        real_labels(dataset(index))


def test_other_data_sets_are_refused(local):
    supply(local)
    with pytest.raises(MlplibError, match="whose numbers shapes-16 does not know"):
        real_labels(data.load("shapes-16"))


def test_nowhere_is_said_with_the_way_to_supply_it():
    with pytest.raises(
        MlplibError, match=r"no ReaL labels: put real\.json of https://github\.com/google-research"
    ):
        real_labels(dataset([0]))


# --------------------------------------------------------------------------- the kept copy, the command line


def test_the_file_is_kept_in_the_cache(local):
    assert real.find() is None
    with pytest.raises(MlplibError, match="run `mlplib data prepare imagenet-real` first"):
        verify(real.NAME)
    supply(local)
    assert real.keep() == LISTS
    (local / "real.json").unlink()
    assert real_labels(dataset([0])).any()
    assert tiny_data.verified(real.NAME)
    real.cached().write_text("[]")
    with pytest.raises(MlplibError, match="its labels are not the published ones"):
        verify(real.NAME)
