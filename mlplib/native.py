"""Lion's step on a CPU as one pass over memory, in C.

PyTorch needs seven passes. On processors with matrix units, whose products take little time, they took a
fifth to a quarter of a step (B-6/Wi-256 with batch 1,024, B-6/Wi-128 with batch 128, one thread), now a fifth
of that.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

SOURCE = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>

static float widened(uint16_t low) {
    uint32_t bits = (uint32_t)low << 16;
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

static uint16_t narrowed(float number) {  /* to bf16, ties to even */
    uint32_t bits;
    memcpy(&bits, &number, 4);
    return isnan(number) ? 0x7fc0 : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* torch.lerp, which rounds once: hence fmaf. */
static float lerp(float start, float end, float weight) {
    return weight < 0.5f ? fmaf(weight, end - start, start) : fmaf(weight - 1, end - start, end);
}

#define STEP(NAME, GRAD, WIDEN, NARROW)                                                        \
    void NAME(int64_t count, float *restrict p, const GRAD *restrict grad, float *restrict m,  \
              uint16_t *restrict copy, float lr, float shrink, float beta1, float forget) {    \
        for (int64_t i = 0; i < count; i++) {                                                  \
            float g = WIDEN(grad[i]), u = lerp(g, m[i], beta1);                                \
            float moved = p[i] * shrink;                                                       \
            p[i] = moved - lr * (float)((u > 0) - (u < 0));                                    \
            m[i] = lerp(m[i], g, forget);                                                      \
            NARROW;                                                                            \
        }                                                                                      \
    }

STEP(lion_float, float, , )
STEP(lion_float_copy, float, , copy[i] = narrowed(p[i]))
STEP(lion_bf16, uint16_t, widened, )
STEP(lion_bf16_copy, uint16_t, widened, copy[i] = narrowed(p[i]))
"""

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")

GRADIENTS = {torch.float32: "float", torch.bfloat16: "bf16"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """:data:`SOURCE`, compiled for this machine in a third of a second; None without a C compiler."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, compiled = Path(folder) / "lion.c", Path(folder) / "lion.so"
            source.write_text(SOURCE)
            command = [compiler, *FLAGS, str(source), "-o", str(compiled), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            return ctypes.CDLL(str(compiled))
    except (OSError, subprocess.SubprocessError):
        return None


def takes(param: Tensor, grad: Tensor, momentum: Tensor, copy: Tensor | None) -> bool:
    """Whether :func:`lion_step` can move this tensor: on a CPU, float32, its numbers one after the other."""
    tensors = [param, grad, momentum, *([] if copy is None else [copy])]
    return (
        param.dtype == momentum.dtype == torch.float32
        and grad.dtype in GRADIENTS
        and (copy is None or copy.dtype == torch.bfloat16)
        and all(t.device.type == "cpu" and t.is_contiguous() for t in tensors)
    )


def lion_step(param, grad, momentum, copy, lr, shrink, beta1: float, beta2: float) -> None:
    """Lion for one tensor; the arguments are those of :func:`mlplib.optim.lion_step`, the bits, too."""
    name = f"lion_{GRADIENTS[grad.dtype]}{'' if copy is None else '_copy'}"
    addresses = [None if t is None else ctypes.c_void_p(t.data_ptr()) for t in (param, grad, momentum, copy)]
    rates = [ctypes.c_float(rate) for rate in (lr, shrink, beta1, 1 - beta2)]
    getattr(library(), name)(ctypes.c_int64(param.numel()), *addresses, *rates)


def same_bits(reference: Callable[..., None]) -> bool:
    """Whether :func:`lion_step` is there and moves random tensors to the same bits as ``reference``
    (:func:`mlplib.optim.lion_step`): on some processors PyTorch rounds in other places.
    """
    if library() is None:
        return False
    draw = torch.Generator().manual_seed(0)
    for dtype in GRADIENTS:
        param, grad, momentum = torch.randn(3, 4099, generator=draw)
        grad = grad.to(dtype)
        tensors = [[param, grad, momentum, param.bfloat16()]]
        tensors.append([t.clone() for t in tensors[0]])
        rates = 3e-3, 1 - 3e-4, 0.9, 0.99
        lion_step(*tensors[0], *rates)
        reference(*([t] for t in tensors[1]), *rates)
        if not all(torch.equal(a, b) for a, b in zip(*tensors, strict=True)):
            return False
    return True
