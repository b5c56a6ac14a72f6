"""GELU from tables: the bits of PyTorch, and only where they can be."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mlplib import gelu, native

EVERY = gelu.every_number()
NUMBERS = EVERY[EVERY.isfinite()]


ALIKE = native.library() is not None and gelu._same_bits()
"""Whether PyTorch rounds here as where the tables were made: without AVX-512 its GELU in bf16 does not."""


@pytest.fixture
def always(monkeypatch):
    """Tables whether or not they are faster here, where they may be used at all."""
    monkeypatch.setattr(gelu, "by_table", lambda threads: ALIKE)


def pass_through(module, z, grad):
    """What the module makes of z, and the gradient in z."""
    z = z.detach().clone().requires_grad_()
    out = module(z)
    out.backward(grad)
    return out.detach(), z.grad


def assert_same_bits(z, grad):
    ways = (pass_through(module, z, grad) for module in (gelu.GELU(), torch.nn.GELU()))
    for ours, theirs in zip(*ways, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        same = (ours.view(torch.int16) == theirs.view(torch.int16)) | (ours.isnan() & theirs.isnan())
        assert same.all()


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("size", [1e-39, 1e-30, 1e-4, 1.0, 1e30])
def test_every_number_gets_the_same_bits(size):
    grad = torch.randn(2**16, generator=torch.Generator().manual_seed(0)) * size
    assert_same_bits(EVERY, grad.bfloat16())


@pytest.mark.usefixtures("always")
@settings(max_examples=100, deadline=None)
@given(
    shape=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    wide=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_tensors_of_any_size_get_the_same_bits(shape, wide, seed):
    shape = [*shape, 384] if wide else shape
    places = torch.randint(len(NUMBERS), (2, *shape), generator=torch.Generator().manual_seed(seed))
    assert_same_bits(*NUMBERS[places])


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads, monkeypatch):
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        places = torch.randint(len(NUMBERS), (2, 999, 384), generator=torch.Generator().manual_seed(threads))
        assert_same_bits(*NUMBERS[places])
    finally:
        torch.set_num_threads(usual)


@pytest.mark.usefixtures("always")
def test_gradients_need_not_lie_in_one_piece():
    z, grad = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert_same_bits(z, grad.T.contiguous().T)
    assert_same_bits(z, torch.ones(1, 1, dtype=torch.bfloat16).expand(32, 64))


def test_tables_are_read_where_they_are_faster_and_have_the_same_bits(monkeypatch):
    flags = {line.split(":")[0].strip(): line for line in open("/proc/cpuinfo", encoding="utf-8")}["flags"]
    assert ALIKE or "avx512f" not in flags, "with AVX-512, PyTorch rounds as the tables do"
    seconds = {"table": [1.0], "torch": [2.0]}
    monkeypatch.setattr(gelu.timing, "take_turns", lambda timers, rounds: seconds)
    assert gelu.by_table.__wrapped__(1) == ALIKE
    seconds["table"] = [3.0]
    assert not gelu.by_table.__wrapped__(1)  # no slower way is chosen


@pytest.mark.parametrize(
    "change", [lambda t: t._replace(slope=t.slope * (1 + 1e-6)), lambda t: t._replace(least=0.1)]
)
def test_tables_are_not_used_where_pytorch_rounds_otherwise(change, monkeypatch):
    wrong = change(gelu.tables())
    monkeypatch.setattr(gelu, "tables", lambda: wrong)
    assert not gelu.by_table.__wrapped__(1)


def test_without_a_compiler_pytorch_computes_it(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(native, "library", native.library.__wrapped__)
    assert not gelu.by_table.__wrapped__(1)


OTHERS = [torch.Tensor.float, torch.Tensor.half, torch.Tensor.t, lambda z: z[1:, 1:2], lambda z: z.to("meta")]


@pytest.mark.parametrize("change", OTHERS)
def test_what_tables_do_not_hold_is_computed(change, monkeypatch):
    monkeypatch.setattr(gelu, "by_table", lambda threads: pytest.fail("asked for"))
    z = change(torch.randn(64, 96).bfloat16())
    out = gelu.GELU()(z)
    assert out.device.type == "meta" or torch.equal(out, F.gelu(z))


@pytest.mark.usefixtures("always")
def test_the_tables_are_for_the_exact_formula_only():
    z = NUMBERS[torch.randint(len(NUMBERS), (4096,), generator=torch.Generator().manual_seed(0))]
    assert torch.equal(gelu.GELU(approximate="tanh")(z), torch.nn.GELU(approximate="tanh")(z))
