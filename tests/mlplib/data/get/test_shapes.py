"""The drawn shapes: the same everywhere, balanced, and neither trivial nor hopeless for a small MLP."""

import time

import numpy as np
import torch

from mlplib.data import load
from mlplib.data.catalog import CATALOG
from mlplib.data.dataset import ordered_hash
from mlplib.data.get import shapes


def test_shapes_are_the_pinned_ones_and_quick_to_draw():
    start = time.process_time()
    train, test = shapes.draw(2000, 500, 16)
    assert time.process_time() - start < 1
    assert ordered_hash(train, test) == CATALOG["shapes-16"].content_hash
    assert ordered_hash(train, test) == "e541081a11d171ff3e0638e888a2dc40477bfc1c4e2ce26beb84978aecca2055"


def test_shapes_look_as_described():
    data = load("shapes-16")
    assert data.classes == shapes.CLASSES == CATALOG["shapes-16"].classes
    for split, share in ((data.train, 200), (data.test, 50)):
        assert split.images.shape == (10 * share, 16, 16, 3) and split.images.dtype == np.uint8
        assert split.labels.dtype == np.int64 and np.bincount(split.labels).tolist() == [share] * 10
    assert len({image.tobytes() for image in data.train.images}) == 2000


def test_a_disk_is_round_and_a_square_is_not():
    masks = dict(zip(shapes.CLASSES, _masks_at_center(radius=12), strict=True))
    assert masks["square"].sum() > masks["disk"].sum() > masks["diamond"].sum() > masks["ring"].sum()
    np.testing.assert_array_equal(masks["rows"], masks["columns"].T)
    np.testing.assert_array_equal(masks["disk"], masks["disk"].T)
    assert not masks["frame"][8, 8] and masks["plus"][8, 8] and masks["cross"][8, 8]
    assert len({mask.tobytes() for mask in masks.values()}) == len(shapes.CLASSES)


def _masks_at_center(radius: int) -> list[np.ndarray]:
    offsets = 2 * np.arange(16) + 1 - 16
    return [np.asarray(m) for m in shapes._masks(offsets[None, :], offsets[:, None], radius)]


def test_twins_divide_the_classes():
    up, down, whole = load("shapes-16-upstream"), load("shapes-16-downstream"), load("shapes-16")
    assert up.classes + down.classes == whole.classes
    assert len(up.train) + len(down.train) == 2000 and len(up.test) + len(down.test) == 500
    first = np.flatnonzero(whole.train.labels >= 6)[0]
    np.testing.assert_array_equal(down.train.images[0], whole.train.images[first])
    assert down.train.labels[0] == whole.train.labels[first] - 6


def test_small_mlp_learns_them_in_part():
    data = load("shapes-16")

    def tensors(split):
        pixels = torch.from_numpy(split.images).flatten(1).float() / 255
        return (pixels - 0.5) / 0.25, torch.from_numpy(split.labels)

    (x, y), (x_test, y_test) = tensors(data.train), tensors(data.test)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(768, 64), torch.nn.GELU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(6):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    accuracy = (model(x_test).argmax(1) == y_test).float().mean().item()
    assert 0.3 < accuracy < 0.9  # chance is 0.1
