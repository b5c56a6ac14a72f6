"""One training step: loss, gradients, update.

* Matrix products read bf16 copies of the weights (:class:`WorkingCopies`). The optimizer updates them in the
  same pass as the weights, so that the weights are not cast again in every step.
* In fp16 the loss is scaled, so that small gradients do not underflow to zero (torch's ``GradScaler``).
* A batch is split into micro-batches that fit into memory, smaller ones after an out-of-memory error.
* On a GPU, the forward and backward pass are compiled where a run is long enough, and the whole step is
  recorded as a CUDA graph if replaying it is faster. Both are optional: if one fails, this is logged and
  training continues without it.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import machine, memory, timing
from .data.batches import Batch
from .errors import MlplibError
from .execution import Execution
from .optim import Lion, build_optimizer, lion_in_c, lion_step
from .specs import OptimizerSpec

CASTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose weight and bias autocast would cast to bf16 in every forward pass."""

COMPILE_STEPS = 2000
"""GPU runs of at least this many steps are compiled: compiling takes as long as a few hundred steps."""

WARM_UPS, TIMED, ROUNDS = 3, 5, 3
"""Steps before a graph is recorded, which PyTorch requires; steps per timing; and timings of each variant."""

TOLERANCE = 0.02
"""Largest relative difference between the losses of a replayed and a plain step: another order of bf16 sums
makes a smaller difference, a wrong graph a larger one."""


class WorkingCopies:
    """bf16 or fp16 copies of a network's weights for its matrix products; empty in other precisions.

    Autocast also computes with such copies, but it creates them in every step and casts the gradients back.
    The numbers are the same.

    ``by_parameter``: leaf tensors with gradients, by the parameter that they are a copy of; ``network``: the
    model with the copies in place of these parameters, and with the model's own other tensors.
    """

    def __init__(self, model: nn.Module, precision: str):
        self.by_parameter: dict[Tensor, Tensor] = {}
        dtype = machine.DTYPES[precision]
        for module in model.modules():
            if dtype != torch.float32 and type(module) in CASTED:
                for parameter in module.parameters(recurse=False):
                    self.by_parameter[parameter] = nn.Parameter(parameter.detach().to(dtype))
        own = [*model.parameters(), *model.buffers()]
        shared = {id(tensor): self.by_parameter.get(tensor, tensor) for tensor in own}
        self.network = copy.deepcopy(model, shared) if self.by_parameter else model

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the current weights."""
        if self.by_parameter:
            torch._foreach_copy_(list(self.by_parameter.values()), list(self.by_parameter))

    @torch.no_grad()
    def collect(self) -> None:
        """Add the copies' gradients to those of the weights in float32, and clear them."""
        for parameter, working in self.by_parameter.items():
            if working.grad is None:
                continue
            if parameter.grad is None:
                parameter.grad = working.grad.to(parameter.dtype)
            else:
                parameter.grad += working.grad
            working.grad = None


class Engine:
    """A network, its optimizer, and the step that updates the weights.

    ``micro_batch``, the images per pass, shrinks after an out-of-memory error.

    Args:
        model: on its device, float32.
        groups: its parameters, or torch's parameter groups of them.
        how: ``micro_batch`` and ``compiled`` must not be None.
        precision: ``bf16`` or ``fp16`` (autocast), ``tf32`` or ``fp32``.
        whole: a batch must not be split (:func:`mlplib.memory.whole_batches_only`).
    """

    def __init__(
        self,
        model: nn.Module,
        groups: list,
        optimizer: OptimizerSpec,
        how: Execution,
        *,
        precision: str,
        label_smoothing: float = 0.0,
        whole: bool = False,
    ):
        self.model, self.precision, self.label_smoothing = model, precision, label_smoothing
        self.micro_batch, self.whole, self.log = how.micro_batch, whole, how.log
        self.clip = optimizer.clip
        self.copies = WorkingCopies(model, precision)
        self.optimizer = build_optimizer(groups, optimizer, self.copies.by_parameter)
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self._loss: Callable[..., tuple[Tensor, Tensor]] = self.loss
        self._tensor_rates = False
        if isinstance(self.optimizer, Lion):
            self.optimizer.fall_back = self._fall_back_to_plain
        if how.compiled:
            self._compile()
        self._graph: StepGraph | None = None
        self.processes = how.processes
        self._try_graph = how.graphs and self.graphs_possible
        weights = list(model.parameters())
        self._with_gradients = [*weights, *self.copies.by_parameter.values()]
        leaves = [self.copies.by_parameter.get(weight, weight) for weight in weights]
        self._pass = self.processes.averaging(leaves, lambda *batch: self._loss(*batch))

    # ------------------------------------------------------------------ one step

    def step(self, batch: Batch, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Update the weights once, at these learning rates, one per parameter group.

        Returns:
            the batch's mean loss and its number of correct predictions, scalars on the device.

        Raises:
            MlplibError: not even one image fits into memory, or a batch that must not be split does not fit.
        """
        if self._try_graph:
            self._try_graph = False
            self._graph = record_graph(self, batch, rates)
        if self._graph is not None and self._graph.fits(batch):
            return self._graph.replay(batch, rates)
        found = self.gradients(batch)
        self.update(rates)
        return found

    def gradients(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the gradient of the batch's mean loss, stored in the parameters or their copies.

        Returns:
            that loss and the number of correct predictions.
        """
        while True:
            try:
                return self._in_parts(batch)
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    self.clear_gradients()
                    if self._loss == self.loss:
                        raise
                    self._fall_back_to_plain(error)
                    continue
            # Not in the except clause: there, the error's traceback keeps the pass's activations alive.
            self.clear_gradients()
            self._split()

    def _in_parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        count = len(batch.labels)
        lam = batch.lam if self._loss == self.loss else self._as_tensor(batch.lam)
        losses, corrects = [], []
        for first in range(0, count, self.micro_batch):
            part = slice(first, first + self.micro_batch)
            labels, partner_labels = batch.labels[part], batch.partner_labels[part]
            loss, correct = self._pass(batch.images[part], labels, partner_labels, lam)
            loss = loss * (len(labels) / count)  # so that the gradients of the parts sum to that of the mean
            self.scaler.scale(loss).backward()
            if count > self.micro_batch:  # add in float32: a sum in bf16 would be rounded
                self.copies.collect()
            losses.append(loss.detach())
            corrects.append(correct)
        return torch.stack(losses).sum(), torch.stack(corrects).sum()

    def _as_tensor(self, number: float | Tensor) -> Tensor:
        """A number that changes between steps, as a tensor: a new Python number would recompile."""
        return number if isinstance(number, Tensor) else torch.full((), number, device=self.device)

    def loss(
        self, images: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and correct predictions of some images; see :class:`~mlplib.data.batches.Batch`."""
        # No cache: each weight is read once per pass, and a CUDA graph must not see casts of an earlier pass.
        with machine.autocast(self.device, self.precision, cache=False):
            logits = self.copies.network(images)
        loss = mixed_cross_entropy(logits.float(), labels, partner_labels, lam, self.label_smoothing)
        if isinstance(lam, Tensor):
            dominant = torch.where(lam >= 0.5, labels, partner_labels)
        else:
            dominant = labels if lam >= 0.5 else partner_labels
        return loss, (logits.detach().argmax(1) == dominant).sum()

    def update(self, rates: Sequence[float | Tensor]) -> None:
        """Update the weights from their gradients, and clear the gradients."""
        lion = isinstance(self.optimizer, Lion)
        if self.clip is not None or self.scaler.is_enabled() or not lion:
            self.copies.collect()
        self.scaler.unscale_(self.optimizer)  # here and below, the scaler only acts in fp16
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = self._as_tensor(rate) if self._tensor_rates else rate
        self.scaler.step(self.optimizer)  # skips a step whose gradients overflowed
        self.scaler.update()
        if not lion:
            self.copies.refresh()
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Free the memory of all gradients."""
        for tensor in self._with_gradients:
            tensor.grad = None

    def close(self) -> None:
        """Drop the stored bound methods: they form a reference cycle with the engine, and Python's garbage
        collector would free it, with its device memory, only at some later time.
        """
        self._graph = self._loss = self._pass = None
        if isinstance(self.optimizer, Lion):
            self.optimizer.fall_back = None

    # ------------------------------------------------------------------ when something fails

    def _split(self) -> None:
        """Halve the micro-batch."""
        if not self.processes.alone:
            raise MlplibError(
                f"out of memory on {self.device} with {self.micro_batch} images per pass: use more processes "
                "or a smaller --micro-batch"
            ) from None
        if self.whole or self.micro_batch <= 1:
            why = "cannot be split (BatchNorm or dropout)" if self.whole else "is down to one image"
            raise MlplibError(
                f"out of memory on {self.device}, and a batch {why}: choose a smaller batch_size or network, "
                "or free memory"
            ) from None
        before, self.micro_batch = self.micro_batch, (self.micro_batch + 1) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.log(f"out of memory with {before} images per pass: continuing with {self.micro_batch}")

    def _compile(self) -> None:
        self._loss = compiled_function(self.loss)
        if isinstance(self.optimizer, Lion) and self.device.type == "cuda":
            self.optimizer.fused = compiled_function(self.optimizer.fused)
            self._tensor_rates = True

    def _fall_back_to_plain(self, error: Exception) -> None:
        self._loss, self._tensor_rates = self.loss, False
        if isinstance(self.optimizer, Lion):
            self.optimizer.fused = lion_step
        self.log_without("compiling failed", error)

    def log_without(self, what: str, error: Exception) -> None:
        """Log that an optional optimization failed."""
        reason = (str(error).strip().splitlines() or [""])[0]
        self.log(f"{what} ({type(error).__name__}: {reason:.200}): continuing without, more slowly")

    # ------------------------------------------------------------------ how steps are done

    @property
    def graphs_possible(self) -> bool:
        """Whether a step can be a CUDA graph: on one GPU, in one pass, without random numbers."""
        lion_only = isinstance(self.optimizer, Lion) and self.clip is None and not self.scaler.is_enabled()
        return self.device.type == "cuda" and lion_only and not self.whole and self.processes.alone

    @property
    def ways(self) -> list[str]:
        """The optimizations in use: ``compiled``, ``CUDA graph``, ``Lion in C``; empty for plain PyTorch."""
        lion = isinstance(self.optimizer, Lion) and self.device.type == "cpu"
        found = {
            "compiled": self._loss != self.loss,
            "CUDA graph": self._graph is not None,
            "Lion in C": lion and self.optimizer.in_c and lion_in_c(),
        }
        return [way for way, used in found.items() if used]


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor, smoothing: float
) -> Tensor:
    """Cross-entropy against both labels of a MixUp pair, weighted ``lam`` and ``1 - lam``, with smoothing.

    Args:
        logits: float32 (B, classes). labels, partner_labels: int64 (B,).
    Returns:
        the mean over the batch, a scalar.
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if not isinstance(lam, Tensor) and lam == 1:
        return loss
    return lam * loss + (1 - lam) * F.cross_entropy(logits, partner_labels, label_smoothing=smoothing)


# --------------------------------------------------------------------------- compiling and CUDA graphs


def worth_compiling(device: torch.device, steps: int) -> bool:
    """Whether compiling pays for ``steps`` steps. On two AMD cores it did not: matrix products dominate, and
    compiling does not change them (B-6/Wi-256 and B-6/Wi-512: within 2 % of plain PyTorch).
    """
    return device.type == "cuda" and steps >= COMPILE_STEPS


def compiled_function(function: Callable) -> Callable:
    """``function`` with ``torch.compile``, which compiles it at the first call with each new shape."""
    torch.compiler.reset()  # otherwise all networks of a process share one recompilation limit
    return torch.compile(function, dynamic=False)


def record_graph(engine: Engine, batch: Batch, rates: Sequence[float]) -> StepGraph | None:
    """A graph of the engine's step for batches of this shape, or None if it fails or is not faster.

    The steps on ``batch`` that this takes are undone.
    """
    if len(batch.labels) > engine.micro_batch:
        return None
    engine.optimizer.prepare()
    before: list[Tensor] = []

    def undo() -> None:
        engine.clear_gradients()
        if before:
            with torch.no_grad():
                torch._foreach_copy_(_moved(engine), before)
        engine.copies.refresh()

    try:
        before += [tensor.detach().clone() for tensor in _moved(engine)]
        graph = StepGraph(engine, batch)
        undo()
        variants = {
            "plain": lambda: _plain(engine, batch, rates),
            "graph": lambda: graph.replay(batch, rates),
        }
        seconds, losses = _compare(variants, undo, engine.device)
    except Exception as error:
        undo()
        engine.log_without("no CUDA graph", error)
        return None
    finally:
        torch.cuda.empty_cache()  # the graph cannot use memory cached from plain steps
    plain, replayed = losses["plain"], losses["graph"]
    if not abs(replayed - plain) <= TOLERANCE * abs(plain):
        engine.log(f"no CUDA graph: its loss is {replayed:g} instead of {plain:g}; continuing without")
        return None
    return graph if seconds["graph"] < seconds["plain"] else None


def _moved(engine: Engine) -> list[Tensor]:
    """Everything that a step changes, except the bf16 copies."""
    momenta = [state["momentum"] for state in engine.optimizer.state.values()]
    return [*(p.detach() for p in engine.model.parameters()), *momenta]


def _plain(engine: Engine, batch: Batch, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
    found = engine._in_parts(batch)  # the memory that the graph takes must not cause a split
    engine.update(rates)
    return found


def _compare(
    variants: dict[str, Callable], undo: Callable, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Time :data:`TIMED` steps of each variant in turns, from the same weights.

    Returns:
        each variant's median seconds per step, including undoing the steps, and its last loss.
    """
    losses: dict[str, float] = {}

    def timer(name: str) -> Callable[[], float]:
        def steps(count: int) -> None:
            for _ in range(count):
                loss, _ = variants[name]()
            losses[name] = float(loss)  # read now: the next replay overwrites it
            undo()

        return lambda: timing.seconds_per_call(steps, TIMED, device)

    seconds = timing.take_turns({name: timer(name) for name in variants}, ROUNDS)
    return {name: statistics.median(values) for name, values in seconds.items()}, losses


class StepGraph:
    """A recorded step for one batch shape: forward pass, backward pass and optimizer.

    Replaying it costs one kernel launch instead of hundreds, which dominate a small network's step on a fast
    GPU. What changes from step to step (images, labels, MixUp's lambda, learning rates) is copied to where
    the recorded kernels read it.
    """

    def __init__(self, engine: Engine, batch: Batch):
        self.images, self.labels = batch.images.clone(), batch.labels.clone()
        self.partner_labels = batch.partner_labels.clone()
        self.lam = torch.tensor(batch.lam, device=engine.device)
        # Zero while recording, so that these steps leave the weights as they are.
        self.rates = [torch.zeros((), device=engine.device) for _ in engine.optimizer.param_groups]
        side = torch.cuda.Stream(engine.device)
        side.wait_stream(torch.cuda.current_stream(engine.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._step(engine)
        torch.cuda.current_stream(engine.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        # Without a stream of its device, torch would record the current device, usually cuda:0. The outer
        # context restores the stream if recording fails, which torch 2.11 does not.
        with torch.cuda.stream(side), torch.cuda.graph(self.graph, stream=side):
            self.loss, self.correct = self._step(engine)

    def _step(self, engine: Engine) -> tuple[Tensor, Tensor]:
        loss, correct = engine._loss(self.images, self.labels, self.partner_labels, self.lam)
        loss.backward()
        engine.update(self.rates)
        return loss.detach(), correct

    def fits(self, batch: Batch) -> bool:
        """Whether the batch has the recorded shape and dtype."""
        return batch.images.shape == self.images.shape and batch.images.dtype == self.images.dtype

    def replay(self, batch: Batch, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Do the recorded step with another batch. The next replay overwrites the returned tensors."""
        self.images.copy_(batch.images)
        self.labels.copy_(batch.labels)
        self.partner_labels.copy_(batch.partner_labels)
        self.lam.fill_(batch.lam)
        for rate, value in zip(self.rates, rates, strict=True):
            rate.fill_(value)
        self.graph.replay()
        return self.loss, self.correct
