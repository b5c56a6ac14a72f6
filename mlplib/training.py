"""The one training loop of the study.

Everything random is a function of the run's seed and of where the run is (epoch, batch), never of a
generator's past. So a checkpoint is the weights, the optimizer's state and two counters, and a run killed at
any moment and resumed ends with the same bits as one left alone (on a CPU).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from . import baselines, machine, weights
from .data import ImageDataset
from .data.resident import Batch, ResidentData, put_on_device
from .errors import Interrupted, MlplibError
from .files import replacing
from .models import build_model, count_macs, count_parameters, outline
from .optim import build_optimizer, learning_rate
from .progress import quiet
from .specs import BASELINES, FineTuneSpec, ModelSpec, TrainSpec
from .stopping import StopRequest

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
HEAD = "linear_out."
"""How the names of the head's parameters begin."""


def kept_weights(epoch: int) -> str:
    """The file name of the weights that a run keeps after an epoch before its last."""
    return f"weights-{epoch}.safetensors"


@dataclass(frozen=True)
class Start:
    """The network that training starts from.

    ``state``: weights by name, of which the head (``linear_out``) is left out and drawn anew; None draws
    all weights. What is drawn follows from the run's seed.
    """

    model: ModelSpec
    state: Mapping[str, Tensor] | None = None

    def build(self, image_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
        """The network on the CPU, in float32.

        Raises:
            MlplibError: the weights are those of another network or image size.
        """
        model = build_model(self.model, image_shape, classes, seed=seed)
        if self.state is not None:
            body = {name: value for name, value in self.state.items() if not name.startswith(HEAD)}
            wanted = model.state_dict()
            for name in body.keys() | {n for n in wanted if not n.startswith(HEAD)}:
                if name not in body or name not in wanted or body[name].shape != wanted[name].shape:
                    raise MlplibError(
                        f"the weights do not fit {self.model} on {image_shape[0]} x {image_shape[1]} images "
                        f"({name}): give the data the resolution that the network was trained on"
                    )
            model.load_state_dict(body, strict=False)
        return model


@dataclass
class TrainState:
    """Where a run stands: ``epoch`` epochs and ``batch`` batches of the next one are done.

    ``sums``: float64 (3,) on the device: loss, correct predictions and images of the epoch under way.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    sums: Tensor
    epoch: int = 0
    batch: int = 0
    images: int = 0
    seconds: float = 0.0
    diverged: bool = False
    history: dict = field(
        default_factory=lambda: {"epoch": [], "train_loss": [], "train_accuracy": [], "test": []}
    )


@dataclass(frozen=True)
class Trained:
    """The outcome of :func:`train`; the fields of the same name in :class:`mlplib.runs.Record`."""

    model: nn.Module
    status: str
    data: dict
    metrics: dict
    history: dict
    compute: dict
    environment: dict


def train(
    spec: TrainSpec | FineTuneSpec,
    dataset: ImageDataset,
    folder: Path | None = None,
    *,
    start: Start | None = None,
    device: torch.device | None = None,
    micro_batch: int | None = None,
    checkpoint_every: float = 60.0,
    progress=quiet,
    stop: StopRequest | None = None,
) -> Trained:
    """Train one model as ``spec`` says, resuming from the checkpoint in ``folder`` if there is one.

    Args:
        dataset: the data set that ``spec.data`` names.
        folder: where checkpoints and weights go; None keeps nothing.
        start: the network to start from; None draws the weights of ``spec.model``.
        micro_batch: images per forward and backward pass; gradients add up to the batch's. None lets
            memory decide.
        checkpoint_every: seconds between checkpoints.
        progress: see :mod:`mlplib.progress`.
        stop: asked between batches; when it says so, a checkpoint is written and :class:`Interrupted` raised.
    Raises:
        MlplibError: a batch larger than the data, or storage that cannot be written to.
        Interrupted: stopped on request.
    """
    device = device or machine.pick_device()
    machine.keep_freed_memory()
    precision = machine.pick_precision(spec.precision, device)
    data = put_on_device(dataset, spec.data, device)
    loop = Loop(spec, data, device, precision, micro_batch, start)
    state = loop.fresh_state()
    if folder is not None:
        # Sums of other parts round differently: a resumed run keeps its micro-batches so as to end with
        # the same bits.
        loop.micro_batch = load_checkpoint(folder / CHECKPOINT, state, spec) or loop.micro_batch
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    stop = stop or StopRequest()
    steps = len(data.train) // spec.batch_size
    with stop.listening(), progress(spec.epochs * steps, spec.slug()) as bar:
        bar.advance(state.epoch * steps + state.batch)
        _run(loop, state, folder, checkpoint_every, bar, stop)
    return _finish(loop, state, dataset, folder)


def _run(
    loop: Loop, state: TrainState, folder: Path | None, checkpoint_every: float, bar, stop: StopRequest
) -> None:
    """Train until the last epoch is done or the loss is no longer finite."""
    saved = mark = time.monotonic()

    def lap() -> None:
        nonlocal mark
        machine.synchronize(loop.device)
        now = time.monotonic()
        state.seconds += now - mark
        mark = now

    while state.epoch < loop.spec.epochs and not state.diverged:
        for batch in loop.batches(state):
            loop.step(state, batch)
            bar.advance(1)
            if not stop and time.monotonic() - saved < checkpoint_every:
                continue
            lap()
            if folder is not None:
                save_checkpoint(folder / CHECKPOINT, state, loop.spec, loop.micro_batch)
            saved = mark = time.monotonic()
            if stop:
                raise Interrupted(
                    f"stopped in epoch {state.epoch + 1} of {loop.spec.epochs} of {loop.spec.slug()}: "
                    "start it again and it goes on from there"
                )
        lap()
        loop.end_epoch(state)
        if folder is not None and state.epoch in loop.keep_at and not state.diverged:
            weights.save(folder / kept_weights(state.epoch), state.model.state_dict())
        mark = time.monotonic()  # evaluation is not training time


class Loop:
    """What stays the same from the first step of a run to the last."""

    def __init__(
        self,
        spec: TrainSpec | FineTuneSpec,
        data: ResidentData,
        device: torch.device,
        precision: str,
        micro_batch: int | None,
        start: Start | None = None,
    ):
        if spec.batch_size > len(data.train):
            raise MlplibError(
                f"a batch of {spec.batch_size} is larger than the {len(data.train)} training images of "
                f"{spec.data.name}: choose a smaller batch_size"
            )
        self.spec, self.data, self.device, self.precision = spec, data, device, precision
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.start = start or Start(spec.model)
        self.keep_at = getattr(spec, "keep_at", ())
        self.micro_batch = _pick_micro_batch(
            self.start.model, spec.batch_size, data.image_shape, device, micro_batch
        )
        self.schedules = [spec.optimizer]  # of each parameter group: the head's first, then the body's
        if isinstance(spec, FineTuneSpec):
            self.schedules.append(replace(spec.optimizer, lr=spec.body_lr))

    def fresh_state(self) -> TrainState:
        model = self.start.build(self.data.image_shape, len(self.data.classes), self.spec.seed).to(
            self.device
        )
        groups = list(model.parameters())
        if len(self.schedules) > 1:
            groups = [{"params": part} for part in _head_and_body(model)]
        optimizer = build_optimizer(groups, self.spec.optimizer)
        return TrainState(model, optimizer, torch.zeros(3, dtype=torch.float64, device=self.device))

    def batches(self, state: TrainState):
        spec = self.spec
        return self.data.training_batches(
            spec.batch_size, spec.augment, spec.seed, state.epoch, self.dtype, start=state.batch
        )

    def step(self, state: TrainState, batch: Batch) -> None:
        """One optimizer step on one batch."""
        spec, model = self.spec, state.model
        steps = len(self.data.train) // spec.batch_size
        model.train()
        if self.start.model.dropout > 0:
            torch.manual_seed(_step_seed(spec.seed, state.epoch, state.batch))
        loss, correct = self._gradients(model, batch)
        if spec.optimizer.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), spec.optimizer.clip)
        for group, schedule in zip(state.optimizer.param_groups, self.schedules, strict=True):
            group["lr"] = learning_rate(schedule, state.epoch + state.batch / steps, spec.epochs)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        count = len(batch.labels)
        state.sums += torch.stack((loss * count, correct, torch.full_like(loss, count))).to(torch.float64)
        state.batch += 1
        state.images += count

    def _gradients(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Leave the gradient of the batch's mean loss in the parameters;
        give that loss and the correct predictions.
        """
        count = len(batch.labels)
        losses, corrects = [], []
        for first in range(0, count, self.micro_batch):
            part = slice(first, first + self.micro_batch)
            labels, partner_labels = batch.labels[part], batch.partner_labels[part]
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                logits = model(batch.images[part])
            loss = mixed_cross_entropy(
                logits.float(), labels, partner_labels, batch.lam, self.spec.label_smoothing
            )
            loss = loss * (len(labels) / count)
            loss.backward()
            dominant = labels if batch.lam >= 0.5 else partner_labels
            losses.append(loss.detach())
            corrects.append((logits.detach().argmax(1) == dominant).sum())
        return torch.stack(losses).sum(), torch.stack(corrects).sum()

    def end_epoch(self, state: TrainState) -> None:
        """Move the epoch's sums to the history, evaluate if this epoch is one to evaluate at."""
        loss, correct, count = state.sums.tolist()
        state.sums.zero_()
        state.epoch, state.batch = state.epoch + 1, 0
        if not math.isfinite(loss):
            state.diverged = True
            return
        state.history["epoch"].append(state.epoch)
        state.history["train_loss"].append(loss / count)
        state.history["train_accuracy"].append(correct / count)
        if state.epoch in self.spec.evaluate_at and state.epoch < self.spec.epochs:
            found = evaluate(state.model, self.data.test_batches())
            state.diverged = not _all_finite(found)
            if not state.diverged:
                state.history["test"].append({"epoch": state.epoch, **found})


def _head_and_body(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    named = list(model.named_parameters())
    return tuple([p for name, p in named if name.startswith(HEAD) == head] for head in (True, False))


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, partner_labels: Tensor, lam: float, smoothing: float
) -> Tensor:
    """Cross-entropy against both labels of a MixUp pair,
    weighted ``lam`` and ``1 - lam``, with label smoothing.

    Args:
        logits: float32 (B, classes). labels, partner_labels: int64 (B,).
    Returns:
        the mean over the batch, a scalar.
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if lam == 1:
        return loss
    return lam * loss + (1 - lam) * F.cross_entropy(logits, partner_labels, label_smoothing=smoothing)


@torch.no_grad()
def evaluate(model: nn.Module, batches) -> dict[str, float]:
    """Top-1 and top-5 accuracy (fractions) and mean cross-entropy without smoothing (nats), in float32.

    With fewer than five classes, top-5 counts all of them.
    """
    model.eval()
    top1 = top5 = loss = count = 0
    for batch in batches:
        logits = model(batch.images).float()
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.labels[:, None]
        top1 += ranked[:, 0].sum()
        top5 += ranked.any(dim=1).sum()
        loss += F.cross_entropy(logits, batch.labels, reduction="sum").double()
        count += len(batch.labels)
    return {"top1": float(top1) / count, "top5": float(top5) / count, "loss": float(loss) / count}


def _all_finite(*measures: dict[str, float]) -> bool:
    return all(math.isfinite(value) for found in measures for value in found.values())


# --------------------------------------------------------------------------- checkpoints


def save_checkpoint(path: Path, state: TrainState, spec: TrainSpec | FineTuneSpec, micro_batch: int) -> None:
    """Write all that is needed to go on, atomically.

    Raises:
        MlplibError: the folder cannot be written to.
    """
    content = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "sums": state.sums,
        "spec": spec.to_json(),
        "micro_batch": micro_batch,
        **{
            name: getattr(state, name)
            for name in ("epoch", "batch", "images", "seconds", "diverged", "history")
        },
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, state: TrainState, spec: TrainSpec | FineTuneSpec) -> int | None:
    """Bring ``state`` to where the checkpoint was and give its micro-batch; None if there is no checkpoint.

    Raises:
        MlplibError: the file cannot be read or belongs to other settings.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=state.sums.device, weights_only=True)
        if content.pop("spec") != spec.to_json():
            raise ValueError("it is of a run with other settings")
        state.model.load_state_dict(content.pop("model"))
        state.optimizer.load_state_dict(content.pop("optimizer"))
        micro_batch = content.pop("micro_batch")
        for name, value in content.items():
            setattr(state, name, value)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MlplibError(f"{path} is damaged ({reason}): delete it and the run starts over") from None
    return micro_batch


# --------------------------------------------------------------------------- the end of a run


def _finish(loop: Loop, state: TrainState, dataset: ImageDataset, folder: Path | None) -> Trained:
    spec, data = loop.spec, loop.data
    metrics: dict = {}
    if not state.diverged:
        found = evaluate(state.model, data.test_batches())
        seen = evaluate(state.model, data.train_sample(len(data.test)))
        # The last step can leave weights whose loss nobody has seen yet.
        state.diverged = not _all_finite(found, seen)
    if not state.diverged:
        state.history["test"].append({"epoch": spec.epochs, **found})
        metrics = {f"test_{name}": value for name, value in found.items()}
        metrics |= {f"train_{name}": value for name, value in seen.items()}
        metrics["weights_sha256"] = weights_digest(state.model)
        if folder is not None:
            weights.save(folder / WEIGHTS, state.model.state_dict())
    return Trained(
        model=state.model,
        status="diverged" if state.diverged else "completed",
        data={
            "name": spec.data.name,
            "content_hash": dataset.content_hash,
            "train_images": len(data.train),
            "test_images": len(data.test),
        },
        metrics=metrics,
        history=state.history,
        compute=_compute(loop, state),
        environment=machine.environment(loop.device, loop.precision),
    )


def _compute(loop: Loop, state: TrainState) -> dict:
    """Costs of the run; the paper's compute is ``3 x forward MACs x images seen`` (Section 4.2)."""
    shape, classes = loop.data.image_shape, len(loop.data.classes)
    network = outline(loop.start.model, shape, classes)
    macs = count_macs(network, shape)
    rate = state.images / state.seconds if state.seconds else 0.0
    peak = machine.matmul_rate(loop.device, loop.precision)
    return {
        "parameters": count_parameters(network),
        "forward_macs": macs,
        "training_macs": 3 * macs * state.images,
        "training_flops": 6 * macs * state.images,
        "images": state.images,
        "seconds": state.seconds,
        "images_per_second": rate,
        "matmul_flops_per_second": peak,
        "matmul_fraction": rate * executed_flops(network, shape) / peak,
        "peak_memory_bytes": machine.peak_memory(loop.device),
        "micro_batch": loop.micro_batch,
    }


def executed_flops(network: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """FLOPs that one image costs in a training step of ``network`` (an outline), forward and backward.

    A little below the usual ``3 x forward``, since the first layer needs no gradient for its input.
    Normalization and activations are not counted.
    """
    h, w, c = image_shape
    batch = 2  # BatchNorm refuses to train on one image
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(batch, c, h, w, device="meta")).sum().backward()
    return counter.get_total_flops() / batch


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over all of a model's tensors, by name: equal exactly when every bit is."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _step_seed(seed: int, epoch: int, batch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{epoch}/{batch}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


# --------------------------------------------------------------------------- memory


def _pick_micro_batch(
    model: ModelSpec,
    batch: int,
    image_shape: tuple[int, int, int],
    device: torch.device,
    wanted: int | None,
) -> int:
    """Images per pass: ``wanted``, or the batch halved until its activations fit
    in a quarter of the free memory.
    """
    if model.norm == "batch" or model.family in baselines.WITH_BATCH_NORM or model.dropout > 0:
        # BatchNorm's statistics and dropout's masks are those of a whole batch: in parts it would be
        # another run.
        if wanted is not None and wanted < batch:
            raise MlplibError("BatchNorm and dropout need whole batches: leave micro_batch out")
        return batch
    if wanted is not None:
        if wanted < 1:
            raise MlplibError(f"micro_batch must be at least 1, not {wanted}")
        return min(wanted, batch)
    budget = machine.free_memory(device) / 4
    size = batch
    while size > 1 and size * _activation_bytes(model, image_shape) > budget:
        size = -(-size // 2)
    return size


def _activation_bytes(model: ModelSpec, image_shape: tuple[int, int, int]) -> int:
    """A rough upper bound for the bytes of activations that one image keeps for the backward pass."""
    h, w, c = image_shape
    if model.family in BASELINES:
        return baselines.activation_bytes(model.family, image_shape)
    per_layer = model.width * (4 + 3 * model.expansion if model.family == "b-mlp" else 4)
    return 4 * (h * w * c + model.depth * per_layer)
