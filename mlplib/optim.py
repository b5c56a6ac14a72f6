"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .specs import OptimizerSpec


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2), all tensors of a group in a few fused calls.

    For gradient g, momentum m and parameter w: ``u = sign(beta1 m + (1 - beta1) g)``;
    ``w <- w - lr (u + weight_decay w)``; ``m <- beta2 m + (1 - beta2) g``.

    Args:
        params: parameters or parameter groups, float tensors of any shape.
        lr: learning rate; every weight moves by exactly this much a step (before decay).
        betas: (beta1, beta2), both in [0, 1).
        weight_decay: decoupled weight decay.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        """Take one step; returns the loss of ``closure`` if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        grads = [p.grad for p in params]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in params]
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]

        update = torch._foreach_lerp(grads, momenta, beta1)
        torch._foreach_sign_(update)
        if decay:
            torch._foreach_mul_(params, 1 - lr * decay)
        torch._foreach_add_(params, update, alpha=-lr)
        torch._foreach_lerp_(momenta, grads, 1 - beta2)


def build_optimizer(parameters: Iterable[Tensor] | list[dict], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimizer that ``spec`` names, over parameters or torch's parameter groups."""
    if spec.name == "lion":
        return Lion(parameters, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay)
    if spec.name == "adamw":
        return torch.optim.AdamW(parameters, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay)
    return torch.optim.SGD(parameters, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay)


def learning_rate(spec: OptimizerSpec, epoch: float, epochs: int) -> float:
    """The learning rate after ``epoch`` (fractional, from 0) of ``epochs`` epochs.

    Linear warm-up over ``spec.warmup`` epochs, then constant, a half cosine to 0, or a line to 0.
    """
    if epoch < spec.warmup:
        return spec.lr * (epoch / spec.warmup)
    if spec.schedule == "constant":
        return spec.lr
    progress = min(1.0, (epoch - spec.warmup) / max(epochs - spec.warmup, 1e-12))
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return spec.lr * (1 - progress)
