"""What only a GPU can show. Without one this file is not collected (tests/conftest.py)."""

import dataclasses

import pytest
import torch
from small_runs import small

from mlplib import data, step, timing, training
from mlplib.data.batches import open_data
from mlplib.execution import Execution
from mlplib.specs import FULL_DA, ModelSpec, OptimizerSpec

GPU = torch.device("cuda")
SHAPES = data.load("shapes-16")
SPEC = small(model=ModelSpec.parse("B-3/Wi-128"), augment=FULL_DA, precision="bf16", epochs=3)


def train(spec=SPEC, **how):
    return training.train(spec, SHAPES, how=Execution(device=GPU, **how))


def losses(done) -> list[float]:
    return done.history["train_loss"]


def loop_of(spec=SPEC, **settings) -> training.Loop:
    return training.Loop(spec, open_data(SHAPES, spec.data, GPU), Execution(device=GPU, **settings))


@pytest.fixture
def plain(monkeypatch):
    """A run without a graph."""
    with monkeypatch.context() as patched:
        patched.setattr(step, "record_graph", lambda *given: None)
        return train()


def test_a_graph_is_recorded_and_computes_what_plain_steps_do():
    said = []
    loops = loop_of(log=said.append), loop_of(graphs=False)
    states = [loop.fresh_state() for loop in loops]
    found = []
    for loop, state in zip(loops, states, strict=True):
        batches = loop.batches(state)
        found.append(torch.stack([state.engine.step(next(batches), [1e-4])[0].clone() for _ in range(4)]))
    assert said == []
    torch.testing.assert_close(*found, rtol=0.01, atol=0.01)
    weights = [torch.cat([p.flatten() for p in state.model.parameters()]) for state in states]
    assert (weights[0] - weights[1]).abs().max() <= 4 * 2 * 1e-4  # a sign that flips is two steps apart
    assert (weights[0] != weights[1]).float().mean() < 0.2


def test_small_steps_are_replayed():
    assert train().compute["ways"] == ["CUDA graph"]


def test_a_compiled_run_learns_what_a_plain_one_does(plain):
    said = []
    done = train(compiled=True, log=said.append)
    assert said == [] and "compiled" in done.compute["ways"]
    assert losses(done) == pytest.approx(losses(plain), rel=0.03)


def test_the_gpu_learns_what_the_cpu_learns(plain):
    spec = dataclasses.replace(SPEC, precision="fp32")
    on_cpu = training.train(spec, SHAPES, how=Execution(device=torch.device("cpu")))
    assert losses(train(spec)) == pytest.approx(losses(on_cpu), rel=0.02)
    assert losses(plain) == pytest.approx(losses(on_cpu), rel=0.05)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_other_optimizers_train_without_a_graph(optimizer):
    done = train(small(optimizer=OptimizerSpec(optimizer, lr=1e-3), augment=FULL_DA))
    assert done.status == "completed" and done.compute["ways"] == []


def test_dropout_is_never_recorded():
    spec = dataclasses.replace(SPEC, model=ModelSpec.parse("B-3/Wi-128", dropout=0.1))
    first, again = train(spec), train(spec)
    assert first.compute["ways"] == [] and losses(first) == pytest.approx(losses(again), rel=0.01)


def test_too_little_memory_halves_the_parts():
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    said = []
    images = dataclasses.replace(SPEC.data, examples=1024)
    wide = ModelSpec.parse("B-6/Wi-1024")
    spec = small(model=wide, data=images, augment=FULL_DA, batch_size=512, precision="bf16")
    loop = loop_of(spec, log=said.append, graphs=False)
    state = loop.fresh_state()
    batch = next(loop.batches(state))
    state.engine.step(batch, [1e-4])
    needed = torch.cuda.max_memory_allocated(GPU) - torch.cuda.memory_allocated(GPU)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated(GPU) + 0.7 * needed) / total)
    try:
        loss, _ = state.engine.step(batch, [1e-4])
        assert torch.isfinite(loss) and said[0].startswith("out of memory with 512 images per pass")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_tf32_products_are_faster_than_float32_ones():
    assert timing.matmul_rate(GPU, "tf32") > 1.5 * timing.matmul_rate(GPU, "fp32")
    assert train(dataclasses.replace(SPEC, precision="tf32")).environment["precision"] == "tf32"
    assert torch.get_float32_matmul_precision() == "highest"
