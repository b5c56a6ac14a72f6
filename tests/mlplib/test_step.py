"""A step: bf16 copies against autocast, too little memory, compiled code, and what fails softly."""

import contextlib
import gc
import subprocess
import sys
import textwrap
import weakref

import pytest
import torch
from small_runs import small

from mlplib import data, step, training
from mlplib.data.batches import open_data
from mlplib.errors import MlplibError
from mlplib.execution import Execution
from mlplib.models import build_model
from mlplib.optim import Lion, lion_step
from mlplib.specs import FULL_DA, FineTuneSpec, ModelSpec, OptimizerSpec
from mlplib.step import Engine, WorkingCopies

CPU = torch.device("cpu")
SHAPES = data.load("shapes-16")
SPEC = small(augment=FULL_DA, label_smoothing=0.1, precision="bf16")
NETWORKS = ["B-2/Wi-300", "S-2/Wi-16", "small-cnn"]


def loop_of(spec, **settings) -> training.Loop:
    resident = open_data(SHAPES, spec.data, CPU)
    return training.Loop(spec, resident, Execution(device=CPU, **settings))


def steps(loop, state, count=3) -> torch.Tensor:
    """Some steps; the losses."""
    batches = loop.batches(state)
    return torch.stack([state.engine.step(next(batches), [1e-3])[0] for _ in range(count)])


# --------------------------------------------------------------------------- bf16 copies


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("optimizer", ["lion", "adamw", "sgd"])
@pytest.mark.parametrize("name", NETWORKS)
def test_copies_compute_what_autocast_computes_to_the_last_bit(name, optimizer, clip):
    spec = small(
        model=ModelSpec.parse(name),
        augment=FULL_DA,
        precision="bf16",
        batch_size=32,
        optimizer=OptimizerSpec(optimizer, lr=1e-3, weight_decay=1e-3, clip=clip),
    )
    loop = loop_of(spec)
    ours, autocast = loop.fresh_state(), loop.fresh_state()
    assert ours.engine.copies.by_parameter
    autocast.engine.copies.network = autocast.model
    autocast.engine.copies.by_parameter.clear()
    assert torch.equal(steps(loop, ours), steps(loop, autocast))
    for (key, value), other in zip(
        ours.model.state_dict().items(), autocast.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), key
    for parameter, copy in ours.engine.copies.by_parameter.items():
        assert torch.equal(copy, parameter.bfloat16())


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_a_step_whose_gradients_overflow_in_fp16_is_left_out_and_the_scale_halved(optimizer, clip):
    spec = small(precision="fp16", optimizer=OptimizerSpec(optimizer, lr=1e-3, clip=clip))
    loop = loop_of(spec)
    state = loop.fresh_state()
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    state.engine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    assert torch.isfinite(steps(loop, state, 1)).all() and state.engine.scaler.get_scale() == 2.0**39
    for key, value in state.model.state_dict().items():
        assert torch.equal(value, before[key]), key
    state.engine.scaler.update(2.0**10)
    steps(loop, state, 1)
    assert not torch.equal(state.model.state_dict()["linear_in.weight"], before["linear_in.weight"])
    for parameter, copy in state.engine.copies.by_parameter.items():
        assert copy.dtype == torch.float16 and torch.equal(copy, parameter.half())


def test_small_gradients_survive_in_fp16_by_the_scaled_loss():
    """A mean loss made a million times smaller, as if by a very large batch."""

    def gradient(precision: str, scale: float) -> torch.Tensor:
        loop = loop_of(small(precision=precision))
        state = loop.fresh_state()
        engine = state.engine
        engine.scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=precision == "fp16")

        def tiny(*batch):
            loss, correct = engine.loss(*batch)
            return loss * 1e-6, correct

        engine._loss = tiny
        engine.gradients(next(loop.batches(state)))
        engine.copies.collect()
        return state.model.linear_in.weight.grad / scale

    exact = gradient("fp32", 1.0)
    errors = [(gradient("fp16", scale) - exact).norm() / exact.norm() for scale in (2.0**16, 1.0)]
    assert errors[0] < 0.01 and errors[1] > 0.5


def test_there_are_no_copies_in_float32_and_none_of_norms():
    model = build_model(ModelSpec.parse("B-1/Wi-16"), (16, 16, 3), 10, seed=0)
    for precision in ("fp32", "tf32"):
        assert WorkingCopies(model, precision).by_parameter == {}
    copies = WorkingCopies(model, "bf16")
    for (name, parameter), working in zip(model.named_parameters(), copies.network.parameters(), strict=True):
        assert working is copies.by_parameter.get(parameter, parameter)
        assert (working is parameter) == ("norm" in name)


def test_the_network_with_copies_shares_the_statistics_of_batchnorm():
    model = build_model(ModelSpec.parse("B-1/Wi-16", norm="batch"), (16, 16, 3), 10, seed=0)
    network = WorkingCopies(model, "bf16").network
    assert network is not model and network.layernorms[0].running_mean is model.layernorms[0].running_mean


# --------------------------------------------------------------------------- too little memory


class Cramped:
    """A network that has memory for so many images at once and says so as torch does."""

    def __init__(self, engine: Engine, most: int, words: str):
        self.most, self.words, self.seen = most, words, []
        engine.copies.network.register_forward_pre_hook(self)

    def __call__(self, module, inputs):
        self.seen.append(len(inputs[0]))
        if len(inputs[0]) > self.most:
            raise RuntimeError(self.words)


CPU_WORDS = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
)
GPU_WORDS = "CUDA out of memory. Tried to allocate 20.00 GiB."


@pytest.mark.parametrize("words", [CPU_WORDS, GPU_WORDS])
@pytest.mark.parametrize("most", [1, 7, 20, 63])
def test_a_batch_that_memory_refuses_goes_on_in_halves(words, most):
    said, loop = [], loop_of(SPEC, log=lambda line: said.append(line))
    state, plain = loop.fresh_state(), loop.fresh_state()
    cramped = Cramped(state.engine, most, words)
    found, expected = steps(loop, state), steps(loop, plain)
    assert max(cramped.seen[-5:]) <= most and state.engine.micro_batch <= most < 2 * state.engine.micro_batch
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    assert len(said) == len([size for size in cramped.seen if size > most])
    assert said[0] == "out of memory with 64 images per pass: continuing with 32"


def test_parts_that_had_to_be_are_those_of_a_run_that_asked_for_them():
    loop = loop_of(SPEC, log=lambda line: None)
    state = loop.fresh_state()
    Cramped(state.engine, 16, GPU_WORDS)
    asked = loop_of(SPEC, micro_batch=16)
    wanted = asked.fresh_state()
    assert torch.equal(steps(loop, state), steps(asked, wanted))


def test_no_memory_for_one_image_is_one_line():
    loop = loop_of(SPEC, log=lambda line: None)
    state = loop.fresh_state()
    Cramped(state.engine, 0, GPU_WORDS)
    with pytest.raises(MlplibError, match="out of memory on cpu, and a batch is down to one image"):
        steps(loop, state)


def test_whole_batches_are_never_split():
    loop = loop_of(small(model=ModelSpec.parse("B-1/Wi-16", norm="batch")))
    state = loop.fresh_state()
    Cramped(state.engine, 20, GPU_WORDS)
    with pytest.raises(MlplibError, match=r"cannot be split .* choose a smaller batch_size"):
        steps(loop, state)


def test_other_errors_come_through():
    loop = loop_of(SPEC)
    state = loop.fresh_state()
    Cramped(state.engine, 0, "mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        steps(loop, state)


@pytest.mark.alone
@pytest.mark.slow
def test_the_largest_batch_of_the_largest_network_trains_in_8_gb():
    """B-12/Wi-1024 on 64 x 64 images, 16,384 of them a batch, with a device that says it has 8 GB free."""
    code = textwrap.dedent(
        """
        import numpy as np, torch
        from mlplib import machine, training
        from mlplib.data import ImageDataset, Split
        from mlplib.data.batches import Batch, open_data
        from mlplib.execution import Execution
        from mlplib.specs import FULL_DA, DataSpec, ModelSpec, TrainSpec

        device = torch.device("cpu")
        base = machine.peak_memory(device)
        machine.free_memory = lambda device: 8 * 10**9
        images = np.random.default_rng(0).integers(0, 256, (16384, 64, 64, 3), dtype=np.uint8)
        split = Split(images, np.arange(16384) % 200)
        some = ImageDataset("hand", split, Split(images[:9], split.labels[:9]), tuple(map(str, range(200))),
                            (0.5,) * 3, (0.25,) * 3, "none")
        spec = TrainSpec(ModelSpec.parse("B-12/Wi-1024"), DataSpec("hand"), epochs=1, batch_size=16384,
                         augment=FULL_DA, precision=machine.pick_precision("auto", device))
        machine.keep_freed_memory()
        data = open_data(some, spec.data, device)
        loop = training.Loop(spec, data, Execution(device=device))
        state = loop.fresh_state()
        batch, two = next(loop.batches(state)), slice(2 * state.engine.micro_batch)  # more parts take no more
        batch = Batch(batch.images[two], batch.labels[two], batch.partner_labels[two], batch.lam)
        loss, _ = state.engine.step(batch, [1e-4])
        print(float(loss), state.engine.micro_batch, machine.peak_memory(device) - base)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loss, micro_batch, peak = map(float, done.stdout.split())
    assert 4 < loss < 8 and 256 <= micro_batch < 16384
    assert peak < 8 * 10**9


# --------------------------------------------------------------------------- compiled


@pytest.mark.slow
def test_a_compiled_run_learns_what_a_plain_one_does():
    plain = training.train(SPEC, SHAPES, how=Execution(device=CPU))
    said: list[str] = []
    compiled = training.train(SPEC, SHAPES, how=Execution(device=CPU, compiled=True, log=said.append))
    assert said == [] and plain.compute["ways"] == ["Lion in C"]
    assert compiled.compute["ways"] == ["compiled", "Lion in C"]
    assert compiled.history["train_loss"] == pytest.approx(plain.history["train_loss"], rel=0.02)


def test_what_cannot_be_compiled_goes_on_without(monkeypatch):
    def refuse(function, **settings):
        def broken(*given):
            raise RuntimeError("no C++ compiler found\nand many more lines")

        return broken

    monkeypatch.setattr(torch, "compile", refuse)
    said: list[str] = []
    done = training.train(SPEC, SHAPES, how=Execution(device=CPU, compiled=True, log=said.append))
    assert said == ["compiling failed (RuntimeError: no C++ compiler found): continuing without, more slowly"]
    plain = training.train(SPEC, SHAPES, how=Execution(device=CPU))
    assert done.metrics == plain.metrics and done.compute["ways"] == plain.compute["ways"]


def test_nothing_is_compiled_or_recorded_on_a_cpu_unless_asked_for():
    assert not step.worth_compiling(CPU, 10**9)
    assert step.worth_compiling(torch.device("cuda"), step.COMPILE_STEPS)
    assert not step.worth_compiling(torch.device("cuda"), step.COMPILE_STEPS - 1)
    state = loop_of(SPEC).fresh_state()
    assert isinstance(state.engine.optimizer, Lion) and not state.engine.graphs_possible


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_optimizer_that_cannot_be_compiled_goes_on_without(precision):
    said: list[str] = []
    loop = loop_of(small(augment=FULL_DA, precision=precision), log=said.append)
    state, plain = loop.fresh_state(), loop.fresh_state()

    def broken(*given):
        raise RuntimeError("no C++ compiler found")

    state.engine.optimizer.in_c = False  # as on a GPU
    state.engine.optimizer.fused, state.engine._tensor_rates = broken, True
    assert torch.equal(steps(loop, state), steps(loop, plain)) and len(said) == 1
    for ours, theirs in zip(state.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_is_taken_once_if_it_cannot_be_compiled_for_the_second_group():
    """The head of a fine-tuning has two tensors, its body has many, and each is compiled by itself."""
    spec = FineTuneSpec(small(), small().data, epochs=1, batch_size=64, optimizer=OptimizerSpec(lr=1e-3))
    said: list[str] = []
    start = training.Start(small().model)
    loop = training.Loop(spec, open_data(SHAPES, spec.data, CPU), Execution(CPU, log=said.append), start)
    state, plain = loop.fresh_state(), loop.fresh_state()
    lion = state.engine.optimizer

    def broken_for_many(params, *more):
        if len(params) > 2:
            raise RuntimeError("PTX was compiled with too many registers")
        lion_step(params, *more)

    lion.in_c, plain.engine.optimizer.in_c = False, False  # as on a GPU
    lion.fused, state.engine._tensor_rates = broken_for_many, True
    for each in (state, plain):
        each.engine.step(next(loop.batches(each)), [1e-3, 1e-4])
    assert len(said) == 1 and said[0].startswith("compiling failed (RuntimeError: PTX")
    for ours, theirs in zip(state.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# --------------------------------------------------------------------------- CUDA graphs


@pytest.mark.parametrize(
    ("plain", "replayed", "factor", "kept", "line"),
    [
        (2.0, 1.0, 1.0, True, ""),
        (1.0, 2.0, 1.0, False, ""),
        (2.0, 1.0, 1.1, False, "no CUDA graph: its loss is"),
        (2.0, 1.0, None, False, "no CUDA graph (RuntimeError: cannot replay)"),
    ],
)
def test_a_graph_is_kept_if_it_is_right_and_faster(plain, replayed, factor, kept, line, monkeypatch):
    class Graph:
        def __init__(self, engine, batch):
            self.engine = engine

        def replay(self, batch, rates):
            if factor is None:
                raise RuntimeError("cannot replay")
            loss, correct = self.engine.gradients(batch)
            self.engine.update(rates)
            return loss * factor, correct

    seconds = iter((plain, replayed, replayed, plain, plain, replayed))
    monkeypatch.setattr(step.timing, "seconds_per_call", lambda run, n, device: (run(n), next(seconds))[1])
    monkeypatch.setattr(step, "StepGraph", Graph)
    said: list[str] = []
    loop = loop_of(SPEC, log=said.append)
    state = loop.fresh_state()
    before = [p.detach().clone() for p in state.model.parameters()]
    graph = step.record_graph(state.engine, next(loop.batches(state)), [1e-3])
    assert (graph is not None) == kept and "".join(said).startswith(line) and bool(said) == bool(line)
    assert all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True)), "undone"


def test_a_graph_is_recorded_on_the_device_of_the_network(monkeypatch):
    entered = []

    class Stream:
        def __init__(self, device=None):
            self.device = device

        def wait_stream(self, other):
            pass

    class Entered(contextlib.nullcontext):
        def __init__(self, what, *given):
            super().__init__()
            entered.append((what, *given))

    fakes = {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: Entered("stream", stream),
        "CUDAGraph": object,
        "graph": lambda graph, stream=None: Entered("graph", stream),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    loop = loop_of(SPEC)
    state = loop.fresh_state()
    state.engine.optimizer.prepare()
    state.engine.optimizer.in_c = False  # as on a GPU
    step.StepGraph(state.engine, next(loop.batches(state)))
    *_, (outer, around), (what, stream) = entered
    assert (outer, what) == ("stream", "graph") and stream is around and stream.device == state.engine.device


def test_memory_of_a_refused_pass_is_free_before_the_next(monkeypatch):
    loop = loop_of(SPEC, log=lambda line: None)
    engine = loop.fresh_state().engine
    split, forward, alive, seen = engine._split, engine.loss, [], []

    def loss(images, *more):
        found = forward(images, *more)
        if len(images) > 16:
            activation = torch.zeros(8)
            alive.append(weakref.ref(activation))
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return found

    monkeypatch.setattr(engine, "_loss", loss)
    monkeypatch.setattr(engine, "loss", loss)
    monkeypatch.setattr(engine, "_split", lambda: (seen.append([each() for each in alive]), split()))
    engine.step(next(loop.batches(loop.fresh_state())), [1e-3])
    assert engine.micro_batch == 16 and seen == [[None], [None, None]]


class GraphWithoutRoom:
    """A graph, beside which there is no memory for a plain step."""

    def __init__(self, engine, batch):
        self.engine = engine
        engine.copies.network.register_forward_pre_hook(self.refuse)

    def refuse(self, module, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def replay(self, batch, rates):
        return torch.ones(()), torch.ones(())


def test_memory_that_only_trying_a_graph_lacks_splits_no_batch(monkeypatch):
    monkeypatch.setattr(step, "StepGraph", GraphWithoutRoom)
    said = []
    loop = loop_of(SPEC, log=said.append)
    state = loop.fresh_state()
    assert step.record_graph(state.engine, next(loop.batches(state)), [1e-3]) is None
    assert (
        state.engine.micro_batch == 64 and len(said) == 1 and said[0].startswith("no CUDA graph (OutOfMemory")
    )


def test_no_memory_for_copies_of_the_weights_means_no_graph(monkeypatch):
    said = []
    loop = loop_of(SPEC, log=said.append)
    state = loop.fresh_state()
    batch = next(loop.batches(state))

    def refuse(engine):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patched:
        patched.setattr(step, "_moved", refuse)
        assert step.record_graph(state.engine, batch, [1e-3]) is None
    assert said[0].startswith("no CUDA graph (OutOfMemoryError")
    state.engine.step(batch, [1e-3])


@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_a_finished_run_leaves_no_memory_for_the_garbage_collector(optimizer, monkeypatch):
    left, init = [], step.Engine.__init__

    def remembered(self, *given, **more):
        init(self, *given, **more)
        left.extend(map(weakref.ref, (self, self.optimizer, self.model)))

    monkeypatch.setattr(step.Engine, "__init__", remembered)
    gc.disable()
    try:
        training.train(small(optimizer=OptimizerSpec(optimizer, lr=1e-3)), SHAPES, how=Execution(device=CPU))
        assert [each() for each in left] == [None] * 3
    finally:
        gc.enable()
