"""The reference loop is real training: it learns, and takes the very steps that our loop takes."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from small_runs import small

from mlplib import data
from mlplib.data import beton
from mlplib.data.batches import open_data
from mlplib.errors import MlplibError
from mlplib.execution import Execution
from mlplib.optim import Lion
from mlplib.specs import FULL_DA, AugmentSpec, OptimizerSpec
from mlplib.training import Loop
from mlpstudy.bench import reference

CPU = torch.device("cpu")


def both(**changes):
    """Our loop with a fresh state, and the reference loop, of one spec."""
    spec = small(label_smoothing=0.3, **changes)
    resident = open_data(data.load(spec.data.name), spec.data, CPU, "resident")
    loop = Loop(spec, resident, Execution(device=CPU))
    theirs = reference.ReferenceLoop(spec, resident.image_shape, len(resident.classes), CPU)
    return loop, loop.fresh_state(), theirs


@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_a_step_in_float32_is_our_step(mixup):
    loop, state, theirs = both(augment=AugmentSpec(mixup=mixup))
    metrics = []
    for batch in loop.batches(state):
        copy = dataclasses.replace(batch)
        loop.step(state, batch)
        metrics.append(theirs.step(copy))
        assert (batch.lam == 1) == (mixup == 0)
        weights = list(zip(state.model.parameters(), theirs.model.parameters(), strict=True))
        if len(metrics) == 1 and mixup == 0:
            for ours, other in weights:
                torch.testing.assert_close(ours, other, rtol=0, atol=1e-7)
    loss, correct, count = state.sums.tolist()
    assert np.mean([each["loss"] for each in metrics]) == pytest.approx(loss / count, rel=1e-5)
    for ours, other in weights:
        # Where a gradient is all but zero, rounding may turn its sign: a step of Lion has one size for all.
        assert ((ours - other).abs() > 1e-6).float().mean() < 0.01
    if mixup == 0:
        assert np.mean([each["top1"] for each in metrics]) == pytest.approx(correct / count, abs=1e-6)


def test_its_lion_is_ours():
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(4)]
    spec = OptimizerSpec(lr=1e-2, betas=(0.8, 0.95), weight_decay=0.1)
    sides = [[w.clone().requires_grad_() for w in start] for _ in range(2)]
    ours = Lion(sides[0], lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay)
    textbook = reference.TextbookLion(sides[1], spec)
    for _ in range(5):
        for a, b in zip(*sides, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        ours.step()
        textbook.step()
    for a, b in zip(*sides, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert (a - start[[x.shape for x in start].index(a.shape)]).abs().min() > 0


def test_it_learns_and_fetches_its_metrics_every_step():
    loop, state, theirs = both(optimizer=OptimizerSpec(lr=2e-3))
    metrics = [theirs.step(batch) for _ in range(12) for batch in loop.batches(state)]
    first, last = metrics[0], metrics[-1]
    assert len(metrics) == 12 * 4
    assert last["loss"] < 0.9 * first["loss"] and last["top1"] > max(0.6, first["top1"])
    assert all(isinstance(value, float) for value in last.values())
    assert all(each["top1"] <= each["top5"] <= 1 for each in metrics)


def test_accuracy_under_mixup_is_the_larger_of_the_two():
    loop, state, theirs = both()
    batch = next(loop.batches(state))
    with torch.no_grad():
        best = theirs.model(batch.images).argmax(1)
    mixed = dataclasses.replace(batch, labels=(best + 1) % 8, partner_labels=best, lam=0.7)
    assert theirs.step(mixed)["top1"] == 1.0


def test_without_ffcv_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ffcv", None)
    with pytest.raises(MlplibError, match=r"^FFCV (is not installed|cannot be imported).*install"):
        reference.FfcvLoader(tmp_path, (8, 8), np.ones(3), np.ones(3), FULL_DA, 4, 1, CPU)


# --------------------------------------------------------------------------- with FFCV itself


@pytest.fixture(scope="module")
def shapes():
    return data.load("shapes-16")


@pytest.fixture(scope="module")
def written(shapes, tmp_path_factory):
    pytest.importorskip("ffcv", reason="FFCV is not installed (make test compiles it where its headers are)")
    return beton.write_beton(shapes.train, tmp_path_factory.mktemp("beton") / "shapes.beton")


def loader(path, shapes, augment, batches=3):
    mean, std = (255 * np.array(v) for v in (shapes.mean, shapes.std))
    return reference.FfcvLoader(path, (16, 16), mean, std, augment, 128, batches, CPU)


def test_ffcv_reads_what_was_written_normalized(written, shapes):
    images, labels = [], []
    for batch in loader(written, shapes, AugmentSpec()):
        assert batch.images.dtype == torch.float32 and batch.images.shape == (128, 3, 16, 16)
        assert batch.lam == 1 and torch.equal(batch.labels, batch.partner_labels)
        images.append(batch.images.clone())
        labels.append(batch.labels.clone())
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in (shapes.mean, shapes.std))
    pixels = (torch.cat(images) * std + mean).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    given = {(shapes.train.images[i].tobytes(), int(shapes.train.labels[i])) for i in range(3 * 128)}
    read = {(image.tobytes(), int(label)) for image, label in zip(pixels, torch.cat(labels), strict=True)}
    assert read == given


def test_the_reference_loop_trains_on_ffcvs_crops_flips_and_mixup(written, shapes):
    spec = small(label_smoothing=0.3, augment=FULL_DA, optimizer=OptimizerSpec(lr=2e-3))
    loop = reference.ReferenceLoop(spec, (16, 16, 3), len(shapes.classes), CPU)
    batches = loader(written, shapes, FULL_DA, batches=6)
    losses = [loop.step(batch)["loss"] for _ in range(10) for batch in batches]
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < np.mean(losses[:5]) - 0.05
    lams = {round(batch.lam, 6) for batch in batches}
    assert len(lams) > 1 and all(0 <= lam <= 1 for lam in lams)
