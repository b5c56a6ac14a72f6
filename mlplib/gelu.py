"""GELU in bf16 on a CPU, from lookup tables.

There are 65,536 bf16 numbers, so one table holds GELU of each and another its slope, equal to PyTorch's
results to the last bit. Lookups take 60 % of the time of computing GELU, which was an eighth of a training
step on a processor with matrix units (B-6/Wi-256, batch 1,024, one thread).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import machine, native, timing

COUNT, TRIED = 2**16, 2**20
"""The number of bf16 numbers, and how many numbers the two variants are timed on."""

LEAST_NORMAL = torch.finfo(torch.float32).tiny
PIECE = 64
"""PyTorch computes this many numbers at once, and a remainder by a formula that rounds differently."""


class GELU(nn.GELU):
    """:class:`torch.nn.GELU`, read from tables where that is possible and faster."""

    def forward(self, z: Tensor) -> Tensor:
        known = z.dtype == torch.bfloat16 and self.approximate == "none"
        possible = known and native.plain(z) and not torch.compiler.is_compiling()
        if possible and in_pieces(z, torch.get_num_threads()) and by_table(torch.get_num_threads()):
            return _ByTable.apply(z)
        return super().forward(z)


def in_pieces(z: Tensor, threads: int) -> bool:
    """Whether PyTorch's division of the work among some or all threads leaves no remainder."""
    return z.numel() % (PIECE * math.lcm(*range(1, threads + 1))) == 0


class _ByTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return tables().gelu(z)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return tables().gradient(grad.contiguous(), z)


class Tables(NamedTuple):
    """GELU of each bf16 number, bf16 (65536,), and its slope, float32 (65536,), indexed by its bits.

    ``least``: smaller gradients become zero.
    """

    value: Tensor
    slope: Tensor
    least: float

    def gelu(self, z: Tensor) -> Tensor:
        """GELU of bf16 numbers."""
        return native.look_up(z, self.value)

    def gradient(self, grad: Tensor, z: Tensor) -> Tensor:
        """The gradient in ``z``, where ``grad`` is the one in GELU of z; all bf16 of one shape."""
        return native.look_up_product(z, self.slope, grad, self.least)


def every_number() -> Tensor:
    """All bf16 numbers, (65536,), in the order of their bits."""
    return torch.arange(COUNT, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)


@functools.cache
@machine.on_cpu()
def tables() -> Tables:
    """The tables, computed by PyTorch. Where PyTorch uses the processor's rounding to bf16, subnormal numbers
    become zero.
    """
    z = every_number()
    small = _gradient(torch.full((PIECE,), LEAST_NORMAL / 2).bfloat16(), torch.ones(PIECE).bfloat16())
    least = 0.0 if small.any() else LEAST_NORMAL
    return Tables(F.gelu(z), _gradient(torch.ones(COUNT), z.float()), least)


def _gradient(grad: Tensor, z: Tensor) -> Tensor:
    return torch.ops.aten.gelu_backward(grad, z)


@functools.cache
@machine.on_cpu()
def by_table(threads: int) -> bool:
    """Whether to use the tables with this many threads: there is a C compiler, the bits are the same, and the
    tables are faster. A second thread may help PyTorch more than it helps lookups, or less.
    """
    if native.library() is None or not _same_bits():
        return False
    z, grad = torch.randn(2, TRIED, generator=torch.Generator().manual_seed(0)).bfloat16()
    ways = {
        "table": lambda: tables().gradient(tables().gelu(z), grad),
        "torch": lambda: _gradient(F.gelu(z), grad),
    }
    timers = {
        name: functools.partial(timing.seconds_per_call, timing.repeat(way), 1, z.device)
        for name, way in ways.items()
    }
    seconds = timing.take_turns(timers, rounds=7)
    return min(seconds["table"]) < min(seconds["torch"])  # other programs can only make it slower


def _same_bits() -> bool:
    """Whether PyTorch computes what the tables say, for every finite number and gradients of all sizes."""
    draw = torch.Generator().manual_seed(0)
    z = every_number()
    z = z[z.isfinite()].repeat(4)
    sizes = 10 ** torch.empty(len(z)).uniform_(-40, 2, generator=draw)
    grad = (torch.randn(len(z), generator=draw) * sizes).bfloat16()
    pairs = (tables().gelu(z), F.gelu(z)), (tables().gradient(grad, z), _gradient(grad, z))
    return all(torch.equal(ours.view(torch.int16), theirs.view(torch.int16)) for ours, theirs in pairs)
