"""What one training step does with a batch: loss, gradients, update.

* Matrix products read bf16 copies of the weights (:class:`WorkingCopies`), made anew by the optimizer in the
  pass that moves the weights, instead of casting every weight at every step.
* A batch goes through in parts that memory can hold, and in smaller ones once it could not.
* On a GPU forward and backward pass are compiled where a run is long enough, and the whole step is recorded
  once as a CUDA graph if replaying it is faster (:mod:`mlplib.acceleration`). What fails there is told in a
  line, and training goes on without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from . import acceleration, memory
from .data.batches import Batch
from .errors import MlplibError
from .optim import Lion, build_optimizer, lion_step
from .specs import OptimizerSpec

CASTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose weight and bias autocast casts to bf16 in every forward pass."""


class WorkingCopies:
    """bf16 copies of a network's weights, for its matrix products to read; no copies for float32.

    Autocast computes with such copies, too, but makes them anew in every step, and casts the gradients back.
    The numbers are the same.

    ``by_name``: bf16 leaf tensors that take gradients, by the parameters' names.
    """

    def __init__(self, model: nn.Module, precision: str):
        self.by_name: dict[str, Tensor] = {}
        self.by_parameter: dict[Tensor, Tensor] = {}
        if precision != "bf16":
            return
        for path, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if type(module) in CASTED:
                    copy = parameter.detach().to(torch.bfloat16).requires_grad_()
                    self.by_name[f"{path}.{name}"] = self.by_parameter[parameter] = copy

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the copies those of the weights as they are now."""
        if self.by_parameter:
            torch._foreach_copy_(list(self.by_parameter.values()), list(self.by_parameter))

    @torch.no_grad()
    def collect(self) -> None:
        """Add the copies' gradients to those of the weights, in float32, and clear them."""
        for parameter, copy in self.by_parameter.items():
            if copy.grad is None:
                continue
            if parameter.grad is None:
                parameter.grad = copy.grad.to(parameter.dtype)
            else:
                parameter.grad += copy.grad
            copy.grad = None


class Engine:
    """A network and its optimizer, and how a step moves them.

    Args:
        model: on its device, float32.
        groups: its parameters, or torch's parameter groups of them.
        precision: ``bf16`` (autocast), ``tf32`` or ``fp32``.
        micro_batch: images a pass; smaller from the first time on that memory does not suffice.
        whole: a batch must not be split (:func:`mlplib.memory.whole_batches_only`).
        compiled: compile forward and backward pass.
        graphs: record the step as a CUDA graph where that is possible and faster.
        log: called with one line when something is worth one.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: list,
        optimizer: OptimizerSpec,
        *,
        precision: str,
        label_smoothing: float,
        micro_batch: int,
        whole: bool = False,
        compiled: bool = False,
        graphs: bool = False,
        log: Callable[[str], None] = print,
    ):
        self.model, self.precision, self.label_smoothing = model, precision, label_smoothing
        self.micro_batch, self.whole, self.log = micro_batch, whole, log
        self.clip = optimizer.clip
        self.copies = WorkingCopies(model, precision)
        self.optimizer = build_optimizer(groups, optimizer, self.copies.by_parameter)
        self.device = next(model.parameters()).device
        self._loss: Callable[..., tuple[Tensor, Tensor]] = self.loss
        self._tensor_rates = False
        if compiled:
            self._compile()
        self._graph: acceleration.StepGraph | None = None
        self._try_graph = graphs and self.graphs_possible

    # ------------------------------------------------------------------ one step

    def step(self, batch: Batch, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Move the weights by one step at these learning rates, one for each parameter group.

        Returns:
            the batch's mean loss and its correct predictions, scalars on the device.

        Raises:
            MlplibError: memory suffices for not even one image, or not for a batch that must be whole.
        """
        if self._try_graph:
            self._try_graph = False
            self._graph = acceleration.record(self, batch, rates)
        if self._graph is not None and self._graph.fits(batch):
            return self._graph.replay(batch, rates)
        found = self.gradients(batch)
        self.update(rates)
        return found

    def gradients(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the batch's mean loss in the parameters or their copies; give that loss and
        the correct predictions.
        """
        while True:
            try:
                return self._in_parts(batch)
            except Exception as error:
                self.clear_gradients()
                if memory.is_out_of_memory(error):
                    self._split()
                elif self._loss != self.loss:
                    self._do_without_compiling(error)
                else:
                    raise

    def _in_parts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        count = len(batch.labels)
        losses, corrects = [], []
        for first in range(0, count, self.micro_batch):
            part = slice(first, first + self.micro_batch)
            labels, partner_labels = batch.labels[part], batch.partner_labels[part]
            loss, correct = self._loss(batch.images[part], labels, partner_labels, self._share(batch.lam))
            loss = loss * (len(labels) / count)
            loss.backward()
            if count > self.micro_batch:  # in bf16 the parts' sum would be rounded
                self.copies.collect()
            losses.append(loss.detach())
            corrects.append(correct)
        return torch.stack(losses).sum(), torch.stack(corrects).sum()

    def _share(self, lam: float) -> float | Tensor:
        return lam if self._loss == self.loss else self._as_tensor(lam)

    def _as_tensor(self, number: float | Tensor) -> Tensor:
        """A number that differs between steps: for each, a compiled function would be compiled anew."""
        return number if isinstance(number, Tensor) else torch.full((), number, device=self.device)

    def loss(
        self, images: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean loss and correct predictions of some images; see :class:`~mlplib.data.batches.Batch`."""
        # No cache: every weight is read once a pass, and a CUDA graph must not find casts of an earlier one.
        low = dict(dtype=torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)
        with torch.autocast(self.device.type, **low):
            logits = self._network(images)
        loss = mixed_cross_entropy(logits.float(), labels, partner_labels, lam, self.label_smoothing)
        if isinstance(lam, Tensor):
            dominant = torch.where(lam >= 0.5, labels, partner_labels)
        else:
            dominant = labels if lam >= 0.5 else partner_labels
        return loss, (logits.detach().argmax(1) == dominant).sum()

    def _network(self, images: Tensor) -> Tensor:
        if not self.copies.by_name:
            return self.model(images)
        return functional_call(self.model, self.copies.by_name, (images,))

    def update(self, rates: Sequence[float | Tensor]) -> None:
        """Let the optimizer move the weights by the gradients that are there, and clear those."""
        lion = isinstance(self.optimizer, Lion)
        if self.clip is not None or not lion:
            self.copies.collect()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = self._as_tensor(rate) if self._tensor_rates else rate
        try:
            self.optimizer.step()
        except Exception as error:
            if not self._tensor_rates:
                raise
            self._do_without_compiling(error)  # it failed before it had moved anything
            self.optimizer.step()
        if not lion:
            self.copies.refresh()
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Give the memory of all gradients back."""
        for tensor in (*self.model.parameters(), *self.copies.by_name.values()):
            tensor.grad = None

    # ------------------------------------------------------------------ when something does not work

    def _split(self) -> None:
        """Go on with half the micro-batch."""
        if self.whole or self.micro_batch <= 1:
            why = "must be whole (BatchNorm or dropout)" if self.whole else "holds one image only already"
            raise MlplibError(
                f"out of memory on {self.device}, and a pass {why}: choose a smaller batch_size or network, "
                "or free memory"
            ) from None
        before, self.micro_batch = self.micro_batch, memory.half(self.micro_batch)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.log(f"out of memory with {before} images a pass: going on with {self.micro_batch}")

    def _compile(self) -> None:
        self._loss = acceleration.compiled(self.loss)
        if isinstance(self.optimizer, Lion) and self.device.type == "cuda":
            self.optimizer.fused = acceleration.compiled(self.optimizer.fused)
            self._tensor_rates = True

    def _do_without_compiling(self, error: Exception) -> None:
        self._loss, self._tensor_rates = self.loss, False
        if isinstance(self.optimizer, Lion):
            self.optimizer.fused = lion_step
        reason = (str(error).strip().splitlines() or [""])[0]
        self.log(f"compiling failed ({type(error).__name__}: {reason:.200}): going on without, more slowly")

    # ------------------------------------------------------------------ how it goes

    @property
    def graphs_possible(self) -> bool:
        """Whether a step can be a CUDA graph: all of it on a GPU, in one pass, and nothing drawn."""
        lion_only = isinstance(self.optimizer, Lion) and self.clip is None
        return self.device.type == "cuda" and lion_only and not self.whole

    @property
    def ways(self) -> list[str]:
        """How steps are done, for the record: ``compiled``, ``CUDA graph``; nothing for plain PyTorch."""
        found = {"compiled": self._loss != self.loss, "CUDA graph": self._graph is not None}
        return [way for way, used in found.items() if used]


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float | Tensor, smoothing: float
) -> Tensor:
    """Cross-entropy against both labels of a MixUp pair,
    weighted ``lam`` and ``1 - lam``, with label smoothing.

    Args:
        logits: float32 (B, classes). labels, partner_labels: int64 (B,).
    Returns:
        the mean over the batch, a scalar.
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if not isinstance(lam, Tensor) and lam == 1:
        return loss
    return lam * loss + (1 - lam) * F.cross_entropy(logits, partner_labels, label_smoothing=smoothing)
