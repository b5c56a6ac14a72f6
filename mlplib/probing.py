"""Measurements of a trained network: features, linear and ridge probes, test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import machine, memory
from .data.augment import augment, draw
from .data.batches import AUGMENT, EVALUATION_BATCH, HOLD_OUT, SHUFFLE, RunData
from .errors import Interrupted, MlplibError, Refused
from .optim import build_optimizer, learning_rate
from .specs import EvaluateSpec, ProbeSpec

RIDGE_PENALTIES = tuple(10.0**power for power in range(-6, 3))
"""Candidates for the ridge penalty, as multiples of the features' mean variance."""

RIDGE_HELD_OUT = 0.1
"""Share of the training images on which the penalty is chosen."""


# --------------------------------------------------------------------------- features


@dataclass(frozen=True)
class Features:
    """The data of a probe: features float32 (N, d) and labels int64 (N,) of training and test images."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int


@torch.no_grad()
def features(model: nn.Module | None, data: RunData) -> Features:
    """The input of ``model``'s head, in float32 and without augmentation; without a model, the pixels.

    Raises:
        MlplibError: the features of streamed images do not fit into memory.
    """
    read = torch.nn.Flatten() if model is None else model.eval().features
    parts = []
    for split, batches in (
        (data.train, data.train_sample(len(data.train))),
        (data.test, data.test_batches()),
    ):
        found = []
        for batch in batches:
            with machine.matmul_precision("fp32"):
                found.append(memory.in_parts(read, batch.images).float())
            if len(found) == 1 and data.loader != "resident":
                _check_room(found[0], len(split))
        parts.append(torch.cat(found))
    return Features(parts[0], data.train.labels, parts[1], data.test.labels, len(data.classes))


def _check_room(found: Tensor, count: int) -> None:
    """Refuse features of ``count`` images that do not fit into memory; ``found``: the first of them."""
    needed = 2 * count * found.shape[1] * found.element_size()  # in parts, then concatenated
    free = machine.free_memory(found.device)
    if needed > free:
        raise MlplibError(
            f"the {found.shape[1]} features of {count} images take {needed / 1e9:.1f} GB, where "
            f"{free / 1e9:.1f} GB are free: probe fewer examples"
        )


# --------------------------------------------------------------------------- probes


@machine.matmul_precision("fp32")
def linear_probe(spec: ProbeSpec, found: Features) -> tuple[dict, dict]:
    """Train a linear head on frozen features with cross-entropy: the paper's probe.

    Returns:
        metrics (empty if a loss is not finite) and the history of the training loss in nats.

    Raises:
        MlplibError: a batch larger than the data.
    """
    count, device = len(found.train), found.train.device
    if spec.batch_size > count:
        raise Refused(
            f"a batch of {spec.batch_size} is larger than the {count} training images of {spec.data.name}: "
            "choose a smaller batch_size"
        )
    with machine.seeded(spec.seed):
        head = nn.Linear(found.train.shape[1], found.classes)
    head.to(device)
    optimizer = build_optimizer(head.parameters(), spec.optimizer)
    steps = count // spec.batch_size
    history: dict = {"epoch": [], "train_loss": []}
    for epoch in range(spec.epochs):
        order = np.random.default_rng([spec.seed, SHUFFLE, epoch]).permutation(count)
        order = torch.from_numpy(order).to(device)
        total = torch.zeros((), dtype=torch.float64, device=device)
        for step in range(steps):
            batch = order[step * spec.batch_size : (step + 1) * spec.batch_size]
            logits = head(found.train.index_select(0, batch))
            labels = found.train_labels.index_select(0, batch)
            loss = F.cross_entropy(logits, labels, label_smoothing=spec.label_smoothing)
            loss.backward()
            if spec.optimizer.clip is not None:
                nn.utils.clip_grad_norm_(head.parameters(), spec.optimizer.clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(spec.optimizer, epoch + step / steps, spec.epochs)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        history["epoch"].append(epoch + 1)
        history["train_loss"].append(float(total) / steps)
        if not np.isfinite(history["train_loss"][-1]):
            return {}, {"epoch": [], "train_loss": []}
    with torch.no_grad():
        test, train = head(found.test), head(found.train)
    metrics = accuracies(test, found.test_labels, "test_")
    metrics["test_loss"] = float(F.cross_entropy(test, found.test_labels))
    if not np.isfinite(metrics["test_loss"]):  # the loss after the last step has not been checked yet
        return {}, {"epoch": [], "train_loss": []}
    return metrics | {"train_top1": accuracies(train, found.train_labels)["top1"]}, history


def ridge_probe(spec: ProbeSpec, found: Features) -> tuple[dict, dict]:
    """Least squares on one-hot labels with an L2 penalty, in closed form: a probe without training settings.

    Features and targets are centered, so the offset is not penalized. The penalty is the candidate of
    :data:`RIDGE_PENALTIES` with the fewest errors on a tenth of the training images (drawn by the seed); then
    all training images are used. Computed in float64.

    Returns:
        metrics, and as the history statistics of the training images' features (:meth:`_Moments.describe`);
        both empty if scores are not finite.
    """
    labels, count = found.train_labels, len(found.train)
    if count < 2:
        raise Refused(f"a ridge probe needs two training images, not {count}: take more examples")
    order = np.random.default_rng([spec.seed, HOLD_OUT]).permutation(count)
    held = max(1, round(RIDGE_HELD_OUT * count))
    tuning, rest = (torch.from_numpy(part).to(labels.device) for part in (order[:held], order[held:]))
    moments = [_Moments.of(found, part) for part in (tuning, rest)]
    features = found.train[tuning]

    def quality(penalty: float) -> tuple[float, float]:
        # Among equally good penalties the largest wins: the smoothest solution.
        return accuracies(moments[1].solve(penalty)(features), labels[tuning])["top1"], penalty

    best = max(RIDGE_PENALTIES, key=quality)
    everything = moments[0] + moments[1]
    solution = everything.solve(best)
    test = solution(found.test)
    if not test.isfinite().all():  # a ranking of NaN would look like an accuracy
        return {}, {}
    metrics = accuracies(test, found.test_labels, "test_")
    train = accuracies(solution(found.train), labels)["top1"]
    return metrics | {"train_top1": train, "penalty": best}, everything.describe()


@dataclass(frozen=True)
class _Moments:
    """Sufficient statistics of ridge regression for N features x (d) and one-hot labels y, in float64.

    ``mean, offset``: means of x and y; ``gram, cross``: sums of products of centered values, (d, d) and
    (d, classes). Moments of two disjoint parts can be added.
    """

    count: int
    mean: Tensor
    offset: Tensor
    gram: Tensor
    cross: Tensor

    @classmethod
    def of(cls, found: Features, rows: Tensor) -> _Moments:
        """The moments of some rows of the training images, block by block to save memory."""
        total = None
        for part in rows.split(EVALUATION_BATCH):
            x = found.train[part].double()
            y = F.one_hot(found.train_labels[part], found.classes).double()
            mean, offset = x.mean(0), y.mean(0)
            x, y = x - mean, y - offset
            moments = cls(len(part), mean, offset, x.T @ x, x.T @ y)
            total = moments if total is None else total + moments
        return total

    def __add__(self, other: _Moments) -> _Moments:
        # Chan, Golub and LeVeque's update: sums of raw squares would lose digits to cancellation.
        count = self.count + other.count
        share = other.count / count
        x, y = other.mean - self.mean, other.offset - self.offset
        weight = self.count * share
        return _Moments(
            count,
            self.mean + share * x,
            self.offset + share * y,
            self.gram + other.gram + weight * torch.outer(x, x),
            self.cross + other.cross + weight * torch.outer(x, y),
        )

    def describe(self) -> dict[str, list[float]]:
        """Statistics of the features, one number each.

        ``directions``: effective number of directions with equal variance: the participation ratio
        ``(sum of l)^2 / sum of l^2`` of the covariance's eigenvalues l (Gao et al. 2017,
        https://doi.org/10.1101/214262), from 1 to d; 0 if nothing varies. No eigenvalue is computed, since
        the sums are the trace and the squared Frobenius norm. ``constant``: share of features that are the
        same for every image.
        """
        variances = self.gram.diagonal()
        squares = self.gram.square().sum()
        directions = float(variances.sum().square() / squares) if squares > 0 else 0.0
        return {"directions": [directions], "constant": [float((variances == 0).double().mean())]}

    def solve(self, penalty: float) -> Callable[[Tensor], Tensor]:
        """The linear map from features (N, d) to scores (N, classes)."""
        gram, cross = self.gram / self.count, self.cross / self.count
        scale = gram.diagonal().mean()
        scale = torch.where(scale > 0, scale, 1.0)  # of constant features
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        weight = torch.linalg.solve(gram + penalty * scale * eye, cross)

        def scores(features: Tensor) -> Tensor:
            parts = features.split(EVALUATION_BATCH)
            return torch.cat([(part.double() - self.mean) @ weight + self.offset for part in parts])

        return scores


def accuracies(scores: Tensor, labels: Tensor, prefix: str = "") -> dict[str, float]:
    """Top-1 and top-5 accuracy (fractions) of scores (N, classes); of fewer than five classes, all count."""
    ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices == labels[:, None]
    top1, top5 = ranked[:, 0].double().mean(), ranked.any(dim=1).double().mean()
    return {f"{prefix}top1": float(top1), f"{prefix}top5": float(top5)}


def real_accuracy(scores: Tensor, accepted: Tensor) -> float:
    """Share of images whose top prediction is among the labels that ReaL's annotators accepted.

    Args:
        scores: (N, classes). accepted: bool (N, classes); images without any accepted label are left out, as
            Beyer et al. do (https://arxiv.org/abs/2006.07159).
    """
    counted = accepted.any(dim=1)
    hit = accepted.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    return float(hit[counted].double().mean())


# --------------------------------------------------------------------------- test-time augmentation


@torch.no_grad()
def test_scores(model: nn.Module, data: RunData, precision: str) -> Tensor:
    """Logits float32 (N, classes) of the test images as they are."""
    model.eval()
    device = data.test.labels.device
    with machine.autocast(device, precision):
        batches = data.test_batches()
        return torch.cat([memory.in_parts(model, batch.images).float() for batch in batches])


@torch.no_grad()
@machine.without_autocast()
def augmented_scores(
    model: nn.Module, data: RunData, spec: EvaluateSpec, precision: str, bar, stop=False
) -> tuple[Tensor, Tensor, dict[str, list]]:
    """Logits and probabilities, each averaged over ``spec.crops`` random views of every test image.

    The paper's text averages logits, its code probabilities. After every view, ``bar.advance`` is called and
    ``stop`` is checked.

    Returns:
        two float32 (N, classes), and the accuracy of both after the first 1, 2, 4, ... and all views, as
        lists ``views``, ``tta_logits_top1`` and ``tta_softmax_top1``.

    Raises:
        Interrupted: ``stop`` became true.
    """
    model.eval()
    count, device = len(data.test), data.test.labels.device
    dtype = machine.DTYPES[precision]
    logits = torch.zeros(count, len(data.classes), device=device)
    probabilities = torch.zeros_like(logits)
    history: dict[str, list] = {"views": [], "tta_logits_top1": [], "tta_softmax_top1": []}
    for view in range(spec.crops):
        for number, (images, labels) in enumerate(data.test.read(np.arange(count), EVALUATION_BATCH)):
            part = slice(number * EVALUATION_BATCH, number * EVALUATION_BATCH + len(labels))
            indices = np.arange(part.start, part.stop)
            rng = np.random.default_rng([spec.seed, AUGMENT, view, number])
            draws = draw(spec.augment, indices, data.image_shape[:2], rng)
            images = augment(images, spec.augment, draws, dtype, (data.mean, data.std))
            with machine.autocast(device, precision):
                scores = memory.in_parts(model, images).float()
            logits[part] += scores
            probabilities[part] += scores.softmax(1)
        if view + 1 == spec.crops or (view + 1).bit_count() == 1:  # a power of two
            history["views"].append(view + 1)
            for name, sums in (("tta_logits", logits), ("tta_softmax", probabilities)):
                history[f"{name}_top1"].append(accuracies(sums, data.test.labels)["top1"])
        bar.advance(1)
        if stop:
            raise Interrupted(
                f"stopped after view {view + 1} of {spec.crops} of {spec.slug()}: start it again"
            )
    return logits / spec.crops, probabilities / spec.crops, history
