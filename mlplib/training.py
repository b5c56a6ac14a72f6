"""The training loop.

Everything random is a function of the run's seed and position (epoch, batch), never of a generator's state.
So a checkpoint holds the weights, the optimizer's state and two counters, and a run that is killed at any
moment and resumed ends with the same bits as an uninterrupted one (on a CPU with the same number of threads).
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import curves, machine, memory, timing, weights
from .data import ImageDataset
from .data.batches import Batch, RunData, open_data
from .errors import Interrupted, MlplibError, Refused
from .execution import Execution
from .files import replacing
from .models import build_model, count_macs, count_parameters, executed_flops, meta_model
from .optim import learning_rate
from .specs import FineTuneSpec, ModelSpec, TrainSpec
from .step import Engine, worth_compiling

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
HEAD = "linear_out."
"""Prefix of the head's parameter names."""


def kept_weights(epoch: int) -> str:
    """File name of the weights kept after an epoch before the last."""
    return f"weights-{epoch}.safetensors"


@dataclass(frozen=True)
class Start:
    """The network that training starts from.

    ``state``: weights by name. Its head (``linear_out``) is ignored and drawn from the run's seed, as are
    all weights if ``state`` is None.
    """

    model: ModelSpec
    state: Mapping[str, Tensor] | None = None

    def build(self, image_shape: tuple[int, int, int], classes: int, seed: int) -> nn.Module:
        """The network on the CPU, in float32.

        Raises:
            MlplibError: the weights are for another network or image size.
        """
        model = build_model(self.model, image_shape, classes, seed=seed)
        if self.state is not None:
            body = {name: value for name, value in self.state.items() if not name.startswith(HEAD)}
            wanted = model.state_dict()
            for name in body.keys() | {n for n in wanted if not n.startswith(HEAD)}:
                if name not in body or name not in wanted or body[name].shape != wanted[name].shape:
                    raise Refused(
                        f"the weights do not fit {self.model} on {image_shape[0]} x {image_shape[1]} images "
                        f"({name}): give the data the resolution that the network was trained on"
                    )
            model.load_state_dict(body, strict=False)
        return model


@dataclass
class TrainState:
    """The progress of a run: ``epoch`` epochs and ``batch`` batches of the next one are done.

    ``sums``: float64 (3,) on the device: loss, correct predictions and images of the current epoch.
    """

    engine: Engine
    sums: Tensor
    epoch: int = 0
    batch: int = 0
    images: int = 0
    seconds: float = 0.0
    threads: int = field(default_factory=torch.get_num_threads)
    diverged: bool = False
    history: dict = field(
        default_factory=lambda: {"epoch": [], "train_loss": [], "train_accuracy": [], "test": []}
    )

    @property
    def model(self) -> nn.Module:
        return self.engine.model


@dataclass(frozen=True)
class Trained:
    """The result of :func:`train`; see the fields of the same names in :class:`mlplib.store.Record`."""

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
    folder: str | Path | None = None,
    *,
    start: Start | None = None,
    how: Execution | None = None,
) -> Trained:
    """Train one model as ``spec`` says, resuming from the checkpoint in ``folder`` if there is one.

    Args:
        dataset: the data set that ``spec.data`` names.
        folder: where checkpoints and weights are written; None writes nothing.
        start: the network to start from, for a fine-tuning that of its upstream run; None draws the weights
            of ``spec.model``.
        how: settings of execution, such as the device; the defaults if None.

    Raises:
        MlplibError: other data or another network than ``spec`` names, a batch larger than the data, a
            checkpoint that is damaged or of another run, or storage that cannot be written to.
        Interrupted: stopped on request, after a checkpoint.
    """
    if dataset.name != spec.data.name:
        raise Refused(f"these settings are for {spec.data.name}, not for {dataset.name}: give its images")
    origin = spec.upstream if isinstance(spec, FineTuneSpec) else spec
    if start is None and origin is not spec:
        raise Refused("a fine-tuning needs the network of its upstream run: give it as start")
    if start is not None and getattr(origin, "model", start.model) != start.model:
        raise Refused(f"these settings are for another network than that of start: give their {origin.model}")
    how = how or Execution()
    folder = None if folder is None else Path(folder)
    machine.keep_freed_memory()
    processes = how.processes
    loop = processes.together(
        lambda: Loop(spec, open_data(dataset, spec.data, how.device, how.loader), how, start)
    )
    state = loop.fresh_state()
    if folder is not None:
        processes.together(lambda: load_checkpoint(folder / CHECKPOINT, state, loop))
        places = processes.gather((state.epoch, state.batch, state.seconds))
        processes.together(lambda: _require_one_place(places, folder))
    if not processes.first:
        state.sums.zero_()  # the sums of the checkpoint count once
        folder = None  # only the first process writes
    machine.reset_peak_memory(how.device)
    shown = how.tensorboard / folder.name if how.tensorboard and folder else None
    with closing(state.engine), _threads(state, how), curves.following(shown) as show:
        show(state.history)
        with (
            how.stop.listening(),
            machine.matmul_precision(loop.precision),
            how.progress(spec.epochs * loop.steps, spec.slug()) as bar,
        ):
            bar.advance(state.epoch * loop.steps + state.batch)
            _run(loop, state, folder, bar, show)
        done = _finish(loop, state, folder)
        show(done.history)
    return done


def _require_one_place(places: Sequence[tuple], folder: Path) -> None:
    for rank, place in enumerate(places):
        if place != places[0]:
            raise MlplibError(
                f"process {rank} does not resume from the checkpoint of process 0: {folder} must be the same "
                "folder on all machines"
            )


@contextmanager
def _threads(state: TrainState, how: Execution) -> Iterator[None]:
    """Use the number of CPU threads that the run began with: sums over a batch are split among threads, so
    another number of threads rounds differently (LayerNorm's gradients, for example).
    """
    now = torch.get_num_threads()
    if how.device.type != "cpu" or state.threads == now:
        yield
        return
    how.log(f"this run began with {state.threads} CPU threads and continues with as many, not {now}")
    with machine.cpu_threads(state.threads):
        yield


def _run(loop: Loop, state: TrainState, folder: Path | None, bar, show: Callable[[dict], None]) -> None:
    """Train until the last epoch or until the loss is not finite; ``show`` gets the history of each epoch."""
    saved = mark = time.monotonic()
    stop, processes = loop.how.stop, loop.how.processes

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
            due = bool(stop) or time.monotonic() - saved >= loop.how.checkpoint_every
            if not processes.any(due):
                continue
            lap()
            state.sums = processes.to_first(state.sums)
            if folder is not None:
                save_checkpoint(folder / CHECKPOINT, state, loop)
            saved = mark = time.monotonic()
            if processes.any(bool(stop)):
                raise Interrupted(
                    f"stopped in epoch {state.epoch + 1} of {loop.spec.epochs} of {loop.spec.slug()}: "
                    "start it again to resume from there"
                )
        lap()
        loop.end_epoch(state)
        show(state.history)
        if folder is not None and state.epoch in loop.keep_at and not state.diverged:
            name = kept_weights(state.epoch)
            weights.save(folder / name, state.model.state_dict(), label=f"{folder.name}/{name}")
        mark = time.monotonic()  # evaluation does not count as training time


class Loop:
    """The parts of a run that do not change between steps.

    Args:
        how: its ``micro_batch`` and ``compiled`` are decided here if they are None.
        start: the network to start from; None draws the weights of ``spec.model``.

    Raises:
        MlplibError: a batch larger than the data, a network larger than the memory, or a precision that the
            device lacks.
    """

    def __init__(
        self, spec: TrainSpec | FineTuneSpec, data: RunData, how: Execution, start: Start | None = None
    ):
        if spec.batch_size > len(data.train):
            raise Refused(
                f"a batch of {spec.batch_size} is larger than the {len(data.train)} training images of "
                f"{spec.data.name}: choose a smaller batch_size"
            )
        processes = how.processes
        if spec.batch_size % processes.count:
            raise Refused(
                f"{processes.count} processes cannot share a batch of {spec.batch_size} evenly: use a number "
                f"of processes that divides {spec.batch_size}"
            )
        self.spec, self.data, self.device = spec, data, how.device
        self.precision = machine.pick_precision(spec.precision, how.device)
        self.dtype = machine.DTYPES[self.precision]
        self.start = start or Start(spec.model)
        if not processes.alone and memory.whole_batches_only(self.start.model):
            raise Refused(
                f"{self.start.model} has BatchNorm or dropout, which need whole batches: train it in one "
                "process"
            )
        if spec.batch_size == 1 and self.start.model.norm == "batch":
            raise Refused("BatchNorm cannot train an MLP on one image: choose a larger batch_size")
        memory.require_room(spec.slug(), self.start.model, data.image_shape, how.device)
        self.keep_at = getattr(spec, "keep_at", ())
        self.steps = len(data.train) // spec.batch_size
        compiled = how.compiled
        if compiled is None:
            compiled = worth_compiling(how.device, self.steps * spec.epochs)
        share = spec.batch_size // processes.count
        micro_batch = memory.pick_micro_batch(
            self.start.model, share, data.image_shape, how.device, how.micro_batch
        )
        self.how = replace(how, compiled=compiled, micro_batch=micro_batch)
        self.micro_batch_asked_for = how.micro_batch is not None
        self.schedules = [spec.optimizer]  # per parameter group: the head's first, then the body's
        if isinstance(spec, FineTuneSpec):
            self.schedules.append(replace(spec.optimizer, lr=spec.body_lr))

    def fresh_state(self) -> TrainState:
        """The state before the first step."""
        spec = self.spec
        # All processes make the same number of passes, even if some have more free memory.
        how = replace(self.how, micro_batch=self.how.processes.smallest(self.how.micro_batch))
        model = self.start.build(self.data.image_shape, len(self.data.classes), spec.seed).to(self.device)
        groups = list(model.parameters())
        if len(self.schedules) > 1:
            groups = [{"params": part} for part in _head_and_body(model)]
        engine = Engine(
            model,
            groups,
            spec.optimizer,
            how,
            precision=self.precision,
            label_smoothing=spec.label_smoothing,
            whole=memory.whole_batches_only(self.start.model),
        )
        return TrainState(engine, torch.zeros(3, dtype=torch.float64, device=self.device))

    def batches(self, state: TrainState) -> Iterator[Batch]:
        """The remaining batches of the epoch."""
        spec = self.spec
        return self.data.training_batches(
            spec.batch_size,
            spec.augment,
            spec.seed,
            state.epoch,
            self.dtype,
            start=state.batch,
            part=self.how.processes.part(spec.batch_size),
        )

    def step(self, state: TrainState, batch: Batch) -> None:
        """One optimizer step on one batch."""
        spec = self.spec
        if not state.engine.copies.network.training:  # setting it visits every layer
            state.engine.copies.network.train()
        epoch = state.epoch + state.batch / self.steps
        rates = [learning_rate(schedule, epoch, spec.epochs) for schedule in self.schedules]
        draws = self.start.model.dropout > 0
        with machine.DRAWING if draws else nullcontext():
            if draws:
                torch.manual_seed(_step_seed(spec.seed, state.epoch, state.batch))
            loss, correct = state.engine.step(batch, rates)
        count = len(batch.labels)
        state.sums += torch.stack((loss * count, correct, torch.full_like(loss, count))).to(torch.float64)
        state.batch += 1
        state.images += spec.batch_size

    def end_epoch(self, state: TrainState) -> None:
        """Add the epoch's means to the history, and evaluate if ``evaluate_at`` names this epoch."""
        loss, correct, count = self.how.processes.sum(state.sums).tolist()
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


@torch.no_grad()
def evaluate(model: nn.Module, batches) -> dict[str, float]:
    """Top-1 and top-5 accuracy (fractions) and mean cross-entropy without smoothing (nats), in float32.

    With fewer than five classes, top-5 counts all of them. The model stays in evaluation mode.
    """
    model.eval()
    top1 = top5 = loss = count = 0
    with machine.matmul_precision("fp32"):
        for batch in batches:
            logits = memory.in_parts(model, batch.images).float()
            ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.labels[:, None]
            top1 += ranked[:, 0].sum()
            top5 += ranked.any(dim=1).sum()
            loss += F.cross_entropy(logits, batch.labels, reduction="sum").double()
            count += len(batch.labels)
    return {"top1": float(top1) / count, "top5": float(top5) / count, "loss": float(loss) / count}


def _all_finite(*measures: dict[str, float]) -> bool:
    return all(math.isfinite(value) for found in measures for value in found.values())


# --------------------------------------------------------------------------- checkpoints

COUNTERS = ("epoch", "batch", "images", "seconds", "threads", "diverged", "history")
"""The plain values of a :class:`TrainState` that a checkpoint holds."""


def save_checkpoint(path: Path, state: TrainState, loop: Loop) -> None:
    """Write everything needed to resume, atomically.

    Raises:
        MlplibError: the folder cannot be written to.
    """
    content = {
        "model": state.model.state_dict(),
        "optimizer": state.engine.optimizer.state_dict(),
        "scaler": state.engine.scaler.state_dict(),
        "sums": state.sums,
        "spec": loop.spec.to_json(),
        "data": loop.data.content_hash,
        "micro_batch": state.engine.micro_batch,
        **{name: getattr(state, name) for name in COUNTERS},
    }
    # Given a path, torch does not report why it could not write.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def load_checkpoint(path: Path, state: TrainState, loop: Loop) -> None:
    """Set ``state`` to that of the checkpoint, if there is one.

    The micro-batch and the number of threads are restored, too: sums over other parts of a batch round
    differently, and a resumed run must end with the same bits, unless smaller micro-batches are asked for.

    Raises:
        MlplibError: the file is damaged or belongs to other settings or other images.
    """
    if not path.exists():
        return
    try:
        # torch.load ignores the checksums that torch.save writes: a flipped bit would go unnoticed.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("its checksum differs")
        content = torch.load(path, map_location=state.sums.device, weights_only=True)
        if content.pop("spec") != loop.spec.to_json():
            raise ValueError("it belongs to a run with other settings")
        if content.pop("data", loop.data.content_hash) != loop.data.content_hash:  # older ones lack it
            raise ValueError("it belongs to a run on other images")
        state.model.load_state_dict(content.pop("model"))
        state.engine.copies.refresh()
        state.engine.optimizer.load_state_dict(content.pop("optimizer"))
        if scaler := content.pop("scaler", {}):  # empty unless in fp16
            state.engine.scaler.load_state_dict(scaler)
        micro_batch = content.pop("micro_batch")
        if loop.micro_batch_asked_for:
            micro_batch = min(micro_batch, state.engine.micro_batch)
        state.engine.micro_batch = micro_batch
        state.sums = content.pop("sums")
        for name, value in content.items():
            if name not in COUNTERS:
                raise ValueError(f"it has an unknown entry {name!r}")
            setattr(state, name, value)
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise  # the file may be intact
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MlplibError(f"{path} is damaged ({reason}): delete it and the run starts over") from None


def epochs_done(path: Path) -> int | None:
    """The number of finished epochs in a checkpoint, None if it cannot be read. Weights are not read."""
    try:
        return torch.load(path, weights_only=True, mmap=True, map_location="meta")["epoch"]
    except Exception:  # torch raises several types if the file is missing, damaged or no checkpoint
        return None


# --------------------------------------------------------------------------- the end of a run


def _finish(loop: Loop, state: TrainState, folder: Path | None) -> Trained:
    spec, data = loop.spec, loop.data
    metrics: dict = {}
    if not state.diverged:
        found = evaluate(state.model, data.test_batches())
        seen = evaluate(state.model, data.train_sample(len(data.test)))
        # The weights after the last step have not been used in a forward pass yet.
        state.diverged = not _all_finite(found, seen)
    if not state.diverged:
        state.history["test"].append({"epoch": spec.epochs, **found})
        metrics = {f"test_{name}": value for name, value in found.items()}
        metrics |= {f"train_{name}": value for name, value in seen.items()}
        metrics["weights_sha256"] = weights.digest(state.model.state_dict())
        if folder is not None:
            weights.save(folder / WEIGHTS, state.model.state_dict())
    return Trained(
        model=state.model,
        status="diverged" if state.diverged else "completed",
        data={
            "name": spec.data.name,
            "content_hash": data.content_hash,
            "train_images": len(data.train),
            "test_images": len(data.test),
        },
        metrics=metrics,
        history=state.history,
        compute=_compute(loop, state),
        environment=machine.environment(loop.device, loop.precision),
    )


def _compute(loop: Loop, state: TrainState) -> dict:
    """The cost of the run; the paper's compute is ``3 x forward MACs x images seen`` (Section 4.4)."""
    memory_bytes = machine.peak_memory(loop.device)  # before the rate is measured, with large matrices
    parameters, macs, flops = _size(loop.start.model, loop.data.image_shape, len(loop.data.classes))
    rate = state.images / state.seconds if state.seconds else 0.0
    processes = loop.how.processes.count
    peak = processes * timing.matmul_rate(loop.device, loop.precision)
    return {
        "parameters": parameters,
        "forward_macs": macs,
        "training_macs": 3 * macs * state.images,
        "training_flops": 6 * macs * state.images,
        "images": state.images,
        "seconds": state.seconds,
        "images_per_second": rate,
        "matmul_flops_per_second": peak,
        "matmul_fraction": rate * flops / peak,
        "peak_memory_bytes": memory_bytes,
        "micro_batch": state.engine.micro_batch,
        "ways": state.engine.ways,
        "loader": loop.data.loader,
        "processes": processes,
    }


@functools.lru_cache  # counting a convolutional network takes longer than a tiny run trains
def _size(model: ModelSpec, image_shape: tuple[int, int, int], classes: int) -> tuple[int, int, float]:
    """A network's parameters, its multiply-adds per image forward, and :func:`executed_flops`."""
    network = meta_model(model, image_shape, classes)
    return count_parameters(network), count_macs(network, image_shape), executed_flops(network, image_shape)


def _step_seed(seed: int, epoch: int, batch: int) -> int:
    digest = hashlib.sha256(f"{seed}/{epoch}/{batch}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
