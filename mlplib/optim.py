"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from . import machine, native
from .specs import OptimizerSpec


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).

    For gradient g, momentum m and parameter w: ``u = sign(beta1 m + (1 - beta1) g)``;
    ``w <- w - lr (u + weight_decay w)``; ``m <- beta2 m + (1 - beta2) g``.

    Args:
        params: parameters or parameter groups, float tensors of any shape.
        lr: learning rate; every weight moves by exactly this much a step (before decay). It may be a scalar
            tensor on the parameters' device: then no number of a step comes from Python, and the step can be
            recorded as a CUDA graph.
        betas: (beta1, beta2), both in [0, 1).
        weight_decay: decoupled weight decay.
        copies: for some parameters, a lower-precision copy that the network computes with. Its gradient is
            used if the parameter itself has none, and it is updated in the same pass.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        copies: Mapping[Tensor, Tensor] | None = None,
    ):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))
        self.copies = copies or {}
        self.in_c = True
        """Whether tensors on a CPU are updated in C where that gives the same bits (:func:`lion_in_c`)."""
        self.fused: Callable[..., None] = lion_step
        """The update of many tensors at once: :func:`lion_step`, or its compiled version."""
        self.fall_back: Callable[[Exception], None] | None = None
        """Called if :attr:`fused` fails because it cannot be compiled; replaces it by :func:`lion_step`."""

    # Torch disables its compiler for these methods and imports it to do so: 2 s in every process that trains.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        for group in self.param_groups:
            rates = group["lr"], 1 - group["lr"] * group["weight_decay"], *group["betas"]
            together: list[tuple] = []
            for p in group["params"]:
                copy = self.copies.get(p)
                grad = copy.grad if p.grad is None and copy is not None else p.grad
                if grad is None:
                    continue
                tensors = (p, grad, self._momentum(p), copy)
                if self.in_c and native.takes(*tensors) and lion_in_c():
                    native.lion_step(*tensors, *rates)
                else:
                    together.append(tensors)
            if together:
                lists = tuple(map(list, zip(*together, strict=True)))
                try:
                    self.fused(*lists, *rates)
                except Exception as error:
                    if self.fused is lion_step or self.fall_back is None:
                        raise
                    self.fall_back(error)  # compiling failed before any weight of this group changed
                    self.fused(*lists, *rates)

    def prepare(self) -> None:
        """Create the momenta that do not exist yet, with zeros as before the first step."""
        for group in self.param_groups:
            for p in group["params"]:
                self._momentum(p)

    def _momentum(self, p: Tensor) -> Tensor:
        if not self.state[p]:
            self.state[p]["momentum"] = torch.zeros_like(p)
        return self.state[p]["momentum"]


def lion_step(params, grads, momenta, copies, lr, shrink, beta1: float, beta2: float) -> None:
    """Lion for lists of tensors, with a few calls for all of them. ``shrink`` is 1 - lr x weight decay."""
    grads = [grad.to(m.dtype) for grad, m in zip(grads, momenta, strict=True)]
    update = torch._foreach_lerp(grads, momenta, beta1)
    torch._foreach_sign_(update)
    torch._foreach_mul_(params, shrink)
    torch._foreach_mul_(update, -lr)  # exact, since the update is -1, 0 or 1
    torch._foreach_add_(params, update)
    torch._foreach_lerp_(momenta, grads, 1 - beta2)
    pairs = [(copy, p) for copy, p in zip(copies, params, strict=True) if copy is not None]
    if pairs:
        torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))


@functools.cache
@machine.on_cpu()
def lion_in_c() -> bool:
    """Whether to do a step on a CPU in C: there is a C compiler, and random tensors get the same bits.
    On some processors PyTorch rounds at other points.
    """
    if native.library() is None:
        return False
    draw = torch.Generator().manual_seed(0)
    for dtype in native.GRADIENTS:
        param, grad, momentum = torch.randn(3, 4099, generator=draw)
        ours = [param, grad.to(dtype), momentum, param.bfloat16()]
        theirs = [tensor.clone() for tensor in ours]
        rates = 3e-3, 1 - 3e-4, 0.9, 0.99
        native.lion_step(*ours, *rates)
        lion_step(*([tensor] for tensor in theirs), *rates)
        if not all(map(torch.equal, ours, theirs)):
            return False
    return True


def build_optimizer(
    parameters: Iterable[Tensor] | list[dict],
    spec: OptimizerSpec,
    copies: Mapping[Tensor, Tensor] | None = None,
) -> torch.optim.Optimizer:
    """The optimizer that ``spec`` names, over parameters or torch's parameter groups.

    ``copies``: see :class:`Lion`; the other optimizers ignore them.
    """
    if spec.name == "lion":
        return Lion(parameters, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, copies=copies)
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
