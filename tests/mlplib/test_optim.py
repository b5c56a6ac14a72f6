"""Optimizers and schedules against their formulas, computed apart in float64 NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlplib import native, optim
from mlplib.optim import Lion, build_optimizer, learning_rate
from mlplib.specs import SCHEDULES, OptimizerSpec

SHAPES = ((3, 4), (5,), (), (2, 1, 3))


def parameters(dtype=torch.float32):
    rng = np.random.default_rng(0)
    return [torch.nn.Parameter(torch.tensor(rng.standard_normal(shape), dtype=dtype)) for shape in SHAPES]


def gradients(step, seed=7):
    rng = np.random.default_rng([seed, step])
    return [rng.standard_normal(shape) for shape in SHAPES]


def set_gradients(params, grads):
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g, dtype=p.dtype)


def take_steps(optimizer, params, steps):
    """Steps with the gradients of :func:`gradients`."""
    for step in range(steps):
        set_gradients(params, gradients(step))
        optimizer.step()


def lion_reference(weights, grads_of_steps, lr, betas, decay):
    """Algorithm 2 of Chen et al. 2023, tensor by tensor in float64."""
    beta1, beta2 = betas
    weights = [np.array(w, dtype=np.float64) for w in weights]
    momenta = [np.zeros_like(w) for w in weights]
    for grads in grads_of_steps:
        for i, g in enumerate(grads):
            update = np.sign(beta1 * momenta[i] + (1 - beta1) * g)
            weights[i] = weights[i] - lr * (update + decay * weights[i])
            momenta[i] = beta2 * momenta[i] + (1 - beta2) * g
    return weights, momenta


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.95, 0.98), (0.0, 0.0), (0.5, 0.9)])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_lion_follows_its_formula(betas, decay):
    params, lr, steps = parameters(dtype=torch.float64), 0.01, 12
    start = [p.detach().numpy().copy() for p in params]
    optimizer = Lion(params, lr=lr, betas=betas, weight_decay=decay)
    take_steps(optimizer, params, steps)
    weights, momenta = lion_reference(start, [gradients(s) for s in range(steps)], lr, betas, decay)
    for p, weight, momentum in zip(params, weights, momenta, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), weight, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(optimizer.state[p]["momentum"].numpy(), momentum, rtol=1e-12, atol=1e-12)


def test_float32_lion_stays_near_the_formula():
    params, lr, steps = parameters(), 1e-3, 50
    start = [p.detach().numpy().copy() for p in params]
    optimizer = Lion(params, lr=lr, weight_decay=0.1)
    take_steps(optimizer, params, steps)
    weights, _ = lion_reference(start, [gradients(s) for s in range(steps)], lr, (0.9, 0.99), 0.1)
    for p, weight in zip(params, weights, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), weight, rtol=1e-5, atol=1e-6)


def test_every_weight_moves_by_exactly_the_learning_rate():
    params = [torch.nn.Parameter(torch.zeros(100))]
    optimizer = Lion(params, lr=0.25)
    params[0].grad = torch.linspace(-1, 1, 100)
    optimizer.step()
    assert torch.equal(params[0].detach(), -0.25 * torch.sign(torch.linspace(-1, 1, 100)))


def test_groups_keep_their_own_settings():
    params = parameters(dtype=torch.float64)
    start = [p.detach().numpy().copy() for p in params]
    groups = [dict(params=params[:2], lr=0.1, weight_decay=0.5), dict(params=params[2:], betas=(0.5, 0.5))]
    optimizer = Lion(groups, lr=0.01)
    take_steps(optimizer, params, 4)
    of = [gradients(s) for s in range(4)]
    first, _ = lion_reference(start[:2], [g[:2] for g in of], 0.1, (0.9, 0.99), 0.5)
    second, _ = lion_reference(start[2:], [g[2:] for g in of], 0.01, (0.5, 0.5), 0.0)
    for p, weight in zip(params, first + second, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), weight, rtol=1e-12)


def test_parameters_without_a_gradient_stay():
    params = parameters()
    before = [p.detach().clone() for p in params]
    optimizer = Lion(params, lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    params[1].grad = torch.ones_like(params[1])
    optimizer.step()
    moved = [not torch.equal(p, b) for p, b in zip(params, before, strict=True)]
    assert moved == [False, True, False, False]


def test_step_leaves_gradients_alone():
    params = parameters()
    grads = gradients(0)
    set_gradients(params, grads)

    Lion(params, lr=0.1).step()
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), g.astype(np.float32))


@pytest.mark.parametrize("name", ["lion", "adamw", "sgd"])
def test_optimizer_state_survives_saving(name):
    spec = OptimizerSpec(name, lr=0.01, weight_decay=0.1)

    def run(stop_at):
        params = parameters()
        optimizer = build_optimizer(params, spec)
        for step in range(8):
            if step == stop_at:
                kept = [p.detach().clone() for p in params], optimizer.state_dict()
                params = [torch.nn.Parameter(p) for p in kept[0]]
                optimizer = build_optimizer(params, spec)
                optimizer.load_state_dict(kept[1])
            set_gradients(params, gradients(step))
            optimizer.step()
        return params

    for whole, resumed in zip(run(stop_at=-1), run(stop_at=5), strict=True):
        assert torch.equal(whole, resumed)


def adamw_reference(weight, grads, spec):
    (beta1, beta2), m, v = spec.betas, 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        weight = weight * (1 - spec.lr * spec.weight_decay)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        weight = weight - spec.lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + 1e-8)
    return weight


def sgd_reference(weight, grads, spec):
    velocity = 0.0
    for g in grads:
        velocity = spec.momentum * velocity + g + spec.weight_decay * weight
        weight = weight - spec.lr * velocity
    return weight


@pytest.mark.parametrize(
    "spec, reference",
    [
        (OptimizerSpec("adamw", lr=0.02, betas=(0.8, 0.95), weight_decay=0.2), adamw_reference),
        (OptimizerSpec("sgd", lr=0.02, momentum=0.7, weight_decay=0.2), sgd_reference),
        (OptimizerSpec("sgd", lr=0.02, momentum=0.0), sgd_reference),
    ],
    ids=["adamw", "sgd", "plain sgd"],
)
def test_the_other_optimizers_get_every_setting(spec, reference):
    params = parameters(dtype=torch.float64)
    start = [p.detach().numpy().copy() for p in params]
    optimizer = build_optimizer(iter(params), spec)
    take_steps(optimizer, params, 6)
    for i, p in enumerate(params):
        expected = reference(start[i], [gradients(s)[i] for s in range(6)], spec)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-10)


def test_build_hands_lion_its_settings():
    optimizer = build_optimizer(parameters(), OptimizerSpec(lr=0.3, betas=(0.4, 0.5), weight_decay=0.6))
    assert isinstance(optimizer, Lion)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.3, (0.4, 0.5), 0.6)
    assert len(group["params"]) == len(SHAPES)


# --------------------------------------------------------------------------- schedules


def test_constant_is_constant():
    spec = OptimizerSpec(lr=0.3)
    assert {learning_rate(spec, epoch / 7, 10) for epoch in range(71)} == {0.3}


def test_schedules_at_known_points():
    for schedule, middle, quarter in (("cosine", 0.5, 0.5 + 0.5 * math.sqrt(0.5)), ("linear", 0.5, 0.75)):
        spec = OptimizerSpec(lr=2.0, schedule=schedule)
        assert learning_rate(spec, 0, 8) == pytest.approx(2.0)
        assert learning_rate(spec, 2, 8) == pytest.approx(2.0 * quarter)
        assert learning_rate(spec, 4, 8) == pytest.approx(2.0 * middle)
        assert learning_rate(spec, 8, 8) == pytest.approx(0.0, abs=1e-12)


def test_warm_up_is_a_line_from_zero_that_meets_the_schedule():
    for schedule in SCHEDULES:
        spec = OptimizerSpec(lr=2.0, schedule=schedule, warmup=4.0)
        assert learning_rate(spec, 0, 12) == pytest.approx(0.0, abs=1e-9)
        assert learning_rate(spec, 1, 12) == pytest.approx(0.5)
        assert learning_rate(spec, 3, 12) == pytest.approx(1.5)
        assert learning_rate(spec, 4, 12) == pytest.approx(2.0)
        half = {"constant": 2.0, "cosine": 1.0, "linear": 1.0}[schedule]
        assert learning_rate(spec, 8, 12) == pytest.approx(half)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SCHEDULES),
    st.floats(1e-6, 10),
    st.floats(0, 30),
    st.integers(1, 20),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
)
def test_schedules_stay_in_range_and_never_rise_after_the_warm_up(schedule, lr, warmup, epochs, shares):
    spec = OptimizerSpec(lr=lr, schedule=schedule, warmup=warmup)
    early, late = sorted(share * epochs for share in shares)
    first, second = (learning_rate(spec, epoch, epochs) for epoch in (early, late))
    assert 0 <= first <= lr * (1 + 1e-9) and 0 <= second <= lr * (1 + 1e-9)
    if late <= warmup:
        assert first <= second * (1 + 1e-9) + 1e-12
    elif early >= warmup:
        assert second <= first * (1 + 1e-9)


# --------------------------------------------------------------------------- one pass, copies


NUMBERS = st.floats(width=32, allow_nan=False) | st.floats(-(2**-10), 2**-10, width=32)
BETAS = st.floats(0, 1, exclude_max=True)


def moved(way, start, grad, momentum, low, rates):
    """The tensors after one step: weights, gradient, momentum, copy."""
    tensors = start.clone(), grad.clone(), momentum.clone(), start.bfloat16() if low else None
    way(*tensors, *rates)
    return tensors


def whole(*given):
    return optim.lion_step(*([t] for t in given[:4]), *given[4:])


def assert_same_bits(*case):
    for ours, reference in zip(moved(native.lion_step, *case), moved(whole, *case), strict=True):
        if ours is not None:
            assert torch.equal(torch.isnan(ours), torch.isnan(reference))
            assert torch.equal(torch.nan_to_num(ours), torch.nan_to_num(reference))


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=40),
    dtype=st.sampled_from(list(native.GRADIENTS)),
    low=st.booleans(),
    lr=st.floats(0, 1),
    decay=st.floats(0, 1),
    betas=st.tuples(BETAS, BETAS),
)
def test_lion_in_c_moves_to_the_same_bits(numbers, dtype, low, lr, decay, betas):
    start, grad, momentum = torch.tensor(numbers).T.contiguous()
    assert_same_bits(start, grad.to(dtype), momentum, low, (lr, 1 - lr * decay, *betas))


@pytest.mark.parametrize("size", [1, 15, 17, 1000, 2**20 + 3])
@pytest.mark.parametrize("dtype", list(native.GRADIENTS))
def test_lion_in_c_moves_large_tensors_to_the_same_bits(size, dtype):
    start, grad, momentum = torch.randn(3, size, generator=torch.Generator().manual_seed(size))
    assert_same_bits(start, grad.to(dtype), momentum * 1e-3, True, (5e-5, 1 - 5e-6, 0.9, 0.99))


def test_this_machine_does_lion_in_c():
    assert optim.lion_in_c()


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"], ids=["none", "fails"])
def test_without_a_compiler_lion_is_the_same_in_pytorch(compiler, monkeypatch):
    def run():
        params = parameters()
        optimizer = Lion(params, lr=0.01, weight_decay=0.1)
        take_steps(optimizer, params, 3)
        return params

    in_c = run()
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    monkeypatch.setattr(optim, "lion_in_c", optim.lion_in_c.__wrapped__)
    assert not optim.lion_in_c()
    assert all(torch.equal(a, b) for a, b in zip(in_c, run(), strict=True))


def test_lion_in_c_is_not_used_where_pytorch_rounds_otherwise(monkeypatch):
    usual = optim.lion_step

    def other(params, grads, momenta, copies, lr, *rates):
        usual(params, grads, momenta, copies, lr * (1 + 1e-6), *rates)

    monkeypatch.setattr(optim, "lion_step", other)
    assert not optim.lion_in_c.__wrapped__()


@pytest.mark.parametrize("change", [Tensor.double, lambda t: t.expand(2, 3), lambda t: t.to("meta")])
def test_lion_in_c_takes_only_what_it_reads_right(change):
    tensors = [
        torch.zeros(3),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3),
        torch.zeros(3).bfloat16(),
    ]
    assert native.takes(*tensors)
    for index in (0, 2):
        assert not native.takes(*tensors[:index], change(tensors[index]), *tensors[index + 1 :])


@pytest.mark.parametrize("shape", [(3, 5), (300, 500)])
def test_lion_takes_the_gradient_of_a_copy_and_writes_the_copy(shape):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for _ in range(2)]
    weights[1].data.copy_(weights[0].data)
    copy = weights[0].detach().bfloat16().requires_grad_()
    ours = Lion([weights[0]], lr=0.01, weight_decay=0.1, copies={weights[0]: copy})
    plain = Lion([weights[1]], lr=torch.tensor(0.01, dtype=torch.float64), weight_decay=0.1)
    for _ in range(3):
        copy.grad = torch.randn(shape).bfloat16()
        weights[1].grad = copy.grad.float()
        ours.step()
        plain.step()
        assert torch.equal(weights[0], weights[1]) and torch.equal(copy, weights[0].bfloat16())
    assert weights[0].grad is None


def test_prepared_momenta_change_nothing():
    found = []
    for prepare in (False, True):
        params = parameters()
        optimizer = Lion(params, lr=0.01)
        if prepare:
            optimizer.prepare()
            assert len(optimizer.state) == len(SHAPES)
        set_gradients(params, gradients(0))
        optimizer.step()
        found.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
