"""The MLPs as formulas, and state dicts as the official code saves them."""

from __future__ import annotations

import math

import torch

SHAPE, CLASSES = (4, 4, 3), 5


def pixels(n=6, shape=SHAPE, seed=0):
    height, width, channels = shape
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def reference(state, spec, images):
    """The logits by the paper's formulas, from a state dict with the official names (evaluation mode)."""

    def linear(name, z):
        return z @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def sigma(z):
        if spec.activation == "relu":
            return z.clamp(min=0)
        return z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))

    def norm(i, z):
        if spec.norm == "none":
            return z
        name = f"layernorms.{i}."
        if spec.norm == "layer":
            mean, variance = z.mean(1, keepdim=True), z.var(1, keepdim=True, unbiased=False)
        else:
            mean, variance = state[name + "running_mean"], state[name + "running_var"]
        return (z - mean) / torch.sqrt(variance + 1e-5) * state[name + "weight"] + state[name + "bias"]

    def branch(i, z):
        if spec.family == "b-mlp":
            return linear(f"blocks.{i}.block.2", sigma(linear(f"blocks.{i}.block.0", z)))
        if spec.official_order:
            return linear(f"layers.{i}", sigma(z))
        return sigma(linear(f"layers.{i}", z))

    z = linear("linear_in", images.reshape(len(images), -1))
    for i in range(spec.depth):
        passed = spec.skip * z
        if spec.norm_position == "pre":
            z = passed + branch(i, norm(i, z))
        else:
            z = norm(i, passed + branch(i, z))
    return linear("linear_out", z)


def official_state(family, depth, width=8, expansion=4, norm="layer", classes=CLASSES, side=4, seed=0):
    """A state dict as the official code saves it, written down from its names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"linear_in": (width, 3 * side * side), "linear_out": (classes, width)}
    for i in range(depth):
        if family == "b-mlp":
            sizes[f"blocks.{i}.block.0"] = (expansion * width, width)
            sizes[f"blocks.{i}.block.2"] = (width, expansion * width)
        else:
            sizes[f"layers.{i}"] = (width, width)
    state = {}
    for name, (rows, columns) in sizes.items():
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) / columns**0.5
        state[f"{name}.bias"] = torch.randn(rows, generator=generator)
    for i in range(depth if norm != "none" else 0):
        statistics = ("running_mean", "running_var") if norm == "batch" else ()
        for name in ("weight", "bias", *statistics):
            state[f"layernorms.{i}.{name}"] = torch.rand(width, generator=generator) + 0.5
        if norm == "batch":
            state[f"layernorms.{i}.num_batches_tracked"] = torch.tensor(7)
    return state
