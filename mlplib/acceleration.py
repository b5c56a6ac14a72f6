"""Compiled functions and CUDA graphs, for :mod:`mlplib.engine`. All of it may fail; nothing depends on it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .data.batches import Batch

if TYPE_CHECKING:
    from .engine import Engine

COMPILE_STEPS = 2000
"""Steps from which on a run on a GPU is compiled: compiling takes about as long as some hundred of them."""

WARM_UPS, TIMED = 3, 5
"""Steps before a graph is recorded, as PyTorch asks for, and steps that each way is timed for."""

TOLERANCE = 0.02
"""How far the loss of a replayed step may be from that of a plain one, as a share of it: bf16 sums taken in
another order differ by less, a wrong graph by more."""


def worth_compiling(device: torch.device, steps: int) -> bool:
    """Whether compiling pays for ``steps`` steps. On a CPU it never did: the time goes to matrix products,
    which stay what they are (2 virtual cores, B-6/Wi-256 and B-6/Wi-512: within 2 % of plain PyTorch).
    """
    return device.type == "cuda" and steps >= COMPILE_STEPS


def compiled(function: Callable) -> Callable:
    """``function``, compiled by ``torch.compile`` when it is first called, for each new shape."""
    torch.compiler.reset()  # every network counts against a limit of versions otherwise
    return torch.compile(function, dynamic=False)


def record(engine: Engine, batch: Batch, rates: Sequence[float]) -> StepGraph | None:
    """A graph of the engine's step for batches like this one, None if it does not work or is not faster.

    Trying takes some steps on ``batch``, which are undone.
    """
    if len(batch.labels) > engine.micro_batch:
        return None
    engine.optimizer.prepare()
    before = [tensor.detach().clone() for tensor in _moved(engine)]

    def undo() -> None:
        engine.clear_gradients()
        with torch.no_grad():
            torch._foreach_copy_(_moved(engine), before)
        engine.copies.refresh()

    try:
        graph = StepGraph(engine, batch)
        undo()
        plain_loss, plain = _timed(engine, lambda: _plain(engine, batch, rates), undo)
        graph_loss, replayed = _timed(engine, lambda: graph.replay(batch, rates), undo)
    except Exception as error:
        undo()
        reason = (str(error).strip().splitlines() or [""])[0]
        engine.log(f"no CUDA graph ({type(error).__name__}: {reason:.200}): going on without, more slowly")
        return None
    finally:
        torch.cuda.empty_cache()  # the plain steps' memory is of no use to the graph
    if not abs(graph_loss - plain_loss) <= TOLERANCE * abs(plain_loss):
        engine.log(f"no CUDA graph: its loss is {graph_loss:g} instead of {plain_loss:g}; going on without")
        return None
    return graph if replayed < plain else None


def _moved(engine: Engine) -> list[Tensor]:
    """Everything that a step changes, but for the copies."""
    momenta = [state["momentum"] for state in engine.optimizer.state.values()]
    return [*(p.detach() for p in engine.model.parameters()), *momenta]


def _plain(engine: Engine, batch: Batch, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
    found = engine.gradients(batch)
    engine.update(rates)
    return found


def _timed(engine: Engine, step: Callable, undo: Callable) -> tuple[float, float]:
    """The loss after some steps of a kind, all from the same weights, and the median of their seconds."""
    seconds = []
    for _ in range(TIMED):
        torch.cuda.synchronize(engine.device)
        start = time.perf_counter()
        loss, _ = step()
        torch.cuda.synchronize(engine.device)
        seconds.append(time.perf_counter() - start)
    last = float(loss)
    undo()
    return last, statistics.median(seconds)


class StepGraph:
    """A step of the engine, recorded once for one shape of batch: forward and backward pass, optimizer.

    Replaying it costs one launch instead of hundreds, which is what a small network's step consists of on a
    fast GPU. What changes from step to step (images, labels, MixUp's share, learning rates) is copied to
    where the recorded kernels read it.
    """

    def __init__(self, engine: Engine, batch: Batch):
        self.images, self.labels = batch.images.clone(), batch.labels.clone()
        self.partner_labels = batch.partner_labels.clone()
        self.lam = torch.tensor(batch.lam, device=engine.device)
        # Zero while recording: what these steps do to the weights is undone, but why do anything.
        self.rates = [torch.zeros((), device=engine.device) for _ in engine.optimizer.param_groups]
        side = torch.cuda.Stream(engine.device)
        side.wait_stream(torch.cuda.current_stream(engine.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._step(engine)
        torch.cuda.current_stream(engine.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss, self.correct = self._step(engine)

    def _step(self, engine: Engine) -> tuple[Tensor, Tensor]:
        loss, correct = engine._loss(self.images, self.labels, self.partner_labels, self.lam)
        loss.backward()
        engine.update(self.rates)
        return loss.detach(), correct

    def fits(self, batch: Batch) -> bool:
        """Whether the batch has the recorded shape."""
        return batch.images.shape == self.images.shape and batch.images.dtype == self.images.dtype

    def replay(self, batch: Batch, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Do the recorded step with another batch; what it gives is overwritten by the next one."""
        self.images.copy_(batch.images)
        self.labels.copy_(batch.labels)
        self.partner_labels.copy_(batch.partner_labels)
        self.lam.fill_(batch.lam)
        for rate, value in zip(self.rates, rates, strict=True):
            rate.fill_(value)
        self.graph.replay()
        return self.loss, self.correct
