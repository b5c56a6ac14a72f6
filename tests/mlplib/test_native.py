"""The C code shares its work among PyTorch's own threads, whose number changes no bit."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mlplib import gelu, native
from mlplib.data import augment
from mlplib.specs import AugmentSpec


def lion(draw, size):
    param, grad, momentum = torch.randn(3, size, generator=draw)
    copy = param.bfloat16()
    native.lion_step(param, grad.bfloat16(), momentum, copy, 1e-3, 1 - 1e-4, 0.9, 0.99)
    return param, momentum, copy


def lookups(draw, size):
    z, grad = torch.randn(2, size, generator=draw).bfloat16()
    return gelu.tables().gelu(z), gelu.tables().gradient(grad, z)


def images(draw, size):
    count = -(-size // (16 * 3 * 16))
    pixels = torch.randint(256, (count, 16, 3, 16), generator=draw, dtype=torch.uint8).permute(0, 2, 1, 3)
    spec = AugmentSpec(flip=True, crop_scale=(0.05, 1.0), mixup=0.8)
    draws = augment.draw(spec, np.arange(count), (16, 16), np.random.default_rng(size))
    mean, std = torch.tensor([[125.3, 123.0, 113.9], [63.0, 62.1, 66.7]])
    return [augment._augment_in_c(pixels, spec, draws, mean, std)]


@pytest.fixture
def with_threads():
    """A function that calls another one with a number of threads."""
    usual = torch.get_num_threads()

    def call(threads, work, *given):
        torch.set_num_threads(threads)
        return work(*given)

    yield call
    torch.set_num_threads(usual)


# Few numbers, the most that one thread computes, the fewest that threads share, and blocks with a rest.
@pytest.mark.parametrize("size", [7, 2**15 - 1, 2**15, 2**15 + 1, 2**17 + 511])
@pytest.mark.parametrize("work", [lion, lookups, images])
def test_any_number_of_threads_computes_the_same_bits(work, size, with_threads):
    alone, *shared = (
        with_threads(threads, work, torch.Generator().manual_seed(size), size) for threads in (1, 2, 3, 5)
    )
    for found in shared:
        assert all(map(torch.equal, found, alone))


OWN_THREADS = """
import os, torch
from mlplib import native
threads = lambda: len(os.listdir("/proc/self/task"))
native.library()
torch.set_num_threads(4)
numbers = torch.empty(2**20)
before = threads()
native.lion_step(numbers, numbers, numbers, None, 0.1, 1.0, 0.9, 0.99)
shared = threads()
numbers.exp()
print(shared - before, threads() - before)
"""


def test_the_threads_are_those_of_pytorch():
    found = subprocess.run([sys.executable, "-c", OWN_THREADS], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["3", "3"]


def test_a_compiler_without_openmp_makes_one_thread_of_it(tmp_path, monkeypatch, with_threads):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *openmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    with_openmp = with_threads(2, lion, torch.Generator().manual_seed(0), 2**17)
    monkeypatch.setenv("CC", str(compiler))
    without = native.library.__wrapped__()
    assert without is not None
    monkeypatch.setattr(native, "library", lambda: without)
    assert all(map(torch.equal, lion(torch.Generator().manual_seed(0), 2**17), with_openmp))
