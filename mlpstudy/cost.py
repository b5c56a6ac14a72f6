"""What a training costs: the size of its network, the images it sees and its multiply-adds.

Compute is the paper's ``C = FLOP(f) x 3 x N x T`` (Section 4.4, equation 4), whose code counts a multiply-add
as one operation.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from mlplib.data import catalog
from mlplib.specs import FAMILIES, DataSpec, FineTuneSpec, ModelSpec, TrainSpec

PASSES = 3
"""A training step costs as much as three forward passes: the backward pass counts as two."""


@dataclass(frozen=True)
class ModelSize:
    """A network's number of parameters, and the multiply-adds of one image's forward pass, head included."""

    parameters: int
    forward_macs: int


def model_size(spec: TrainSpec) -> ModelSize:
    """The size of a training's network."""
    return network_size(spec.model, spec.data)


def network_size(model: ModelSpec, data: DataSpec) -> ModelSize:
    """The size of a network for the images and classes of a data set."""
    entry = catalog.find(data.name)
    return _size(model, data.resolution or entry.image_size, entry.class_count)


@functools.lru_cache
def _size(model: ModelSpec, side: int, classes: int) -> ModelSize:
    if model.family in FAMILIES.values():
        return _mlp_size(model, 3 * side**2, classes)
    from mlplib.models import count_macs, count_parameters, meta_model

    shape = (side, side, 3)
    network = meta_model(model, shape, classes)
    return ModelSize(count_parameters(network), count_macs(network, shape))


def _mlp_size(model: ModelSpec, inputs: int, classes: int) -> ModelSize:
    """The size of one of the two MLPs (paper Section 3). Pages that only read records need no other network,
    so they avoid importing PyTorch, which takes seconds.
    """
    width, hidden = model.width, model.expansion * model.width
    block = [(width, hidden), (hidden, width)] if model.family == "b-mlp" else [(width, width)]
    layers = [(inputs, width), *block * model.depth, (width, classes)]
    weights, biases = sum(math.prod(layer) for layer in layers), sum(outputs for _, outputs in layers)
    norms = 0 if model.norm == "none" else 2 * width * model.depth
    return ModelSize(weights + biases + norms, weights)


def training_macs(spec: TrainSpec, epoch: int | None = None) -> float:
    """Multiply-adds of training until ``epoch`` (the end by default): ``3 x forward MACs x images seen``."""
    images = (spec.epochs if epoch is None else epoch) * images_per_epoch(spec)
    return float(PASSES * model_size(spec).forward_macs * images)


def images_per_epoch(spec: TrainSpec | FineTuneSpec) -> int:
    """Images that an epoch trains on. An incomplete last batch is left out."""
    return training_images(spec) // spec.batch_size * spec.batch_size


def training_images(spec: TrainSpec | FineTuneSpec) -> int:
    """N: the number of different images of a training."""
    return spec.data.examples or catalog.find(spec.data.name).train - (spec.data.held_out or 0)
