"""C code for operations that take PyTorch many passes over memory, or repeated work, on a CPU: Lion's step,
augmentation, and GELU from lookup tables. Threads share the work, the same ones as in PyTorch (OpenMP).

On processors with matrix units, matrix products take little time. There Lion took a fifth to a quarter of a
training step (B-6/Wi-256 with batch 1,024, B-6/Wi-128 with batch 128, one thread); in C it takes a fifth of
that. Before first use, the callers check that the results equal PyTorch's bit for bit:
:func:`mlplib.optim.lion_in_c`, :func:`mlplib.data.augment.in_c`, :func:`mlplib.gelu.by_table`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SOURCE = r"""
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__ /* compilers prefer vectors of half that width */
#define WIDE __attribute__((target("prefer-vector-width=512")))
#else
#define WIDE
#endif

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

static float rounded(float number) {  /* to bf16; no NaN */
    uint32_t bits;
    memcpy(&bits, &number, 4);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
    memcpy(&number, &bits, 4);
    return number;
}

static float cut(float number, float least) {  /* zero with its sign if smaller than `least` */
    return fabsf(number) < least ? copysignf(0, number) : number;
}

/* torch.lerp, which rounds once: hence fmaf. */
static float lerp(float start, float end, float weight) {
    return weight < 0.5f ? fmaf(weight, end - start, start) : fmaf(weight - 1, end - start, end);
}

/* Numbers are processed in blocks, which threads share if there are at least GRAIN numbers, as in PyTorch. */
enum { BLOCK = 512, GRAIN = 32768 };
#define BLOCKS                                                          \
    _Pragma("omp parallel for num_threads(threads) if(count >= GRAIN)") \
    for (int64_t start = 0; start < count; start += BLOCK)
#define HERE (count - start < BLOCK ? count - start : BLOCK)
#define NUMBERS for (int64_t i = start, end = start + HERE; i < end; i++)

#define STEP(NAME, GRAD, WIDEN, NARROW)                                                        \
    void NAME(int threads, int64_t count, float *restrict p, const GRAD *restrict grad,        \
              float *restrict m, uint16_t *restrict copy, float lr, float shrink, float beta1, \
              float forget) {                                                                  \
        BLOCKS NUMBERS {                                                                       \
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

/* The bits of a bf16 number are its index in a table. `volatile` keeps compilers from vectorizing lookups:
   processors take longer to gather numbers than to load one at a time. */
void look_up(int threads, int64_t count, const uint16_t *restrict at, const volatile uint16_t *table,
             uint16_t *restrict out) {
    BLOCKS {
        _Pragma("GCC unroll 8")
        NUMBERS out[i] = table[at[i]];
    }
}

WIDE static void products(int64_t count, const uint16_t *restrict at, const volatile float *table,
                          const uint16_t *restrict by, float least, uint16_t *restrict out) {
    float found[BLOCK]; /* the products can be vectorized, the lookups cannot */
    _Pragma("GCC unroll 8")
    for (int64_t i = 0; i < count; i++) found[i] = table[at[i]];
    for (int64_t i = 0; i < count; i++) out[i] = narrowed(cut(found[i] * widened(by[i]), least));
}

void look_up_product(int threads, int64_t count, const uint16_t *at, const volatile float *table,
                     const uint16_t *by, float least, uint16_t *out) {
    BLOCKS products(HERE, at + start, table, by + start, least, out + start);
}

#define IMAGES                                                                  \
    _Pragma("omp parallel for num_threads(threads) if(images * size >= GRAIN)") \
    for (int64_t image = 0; image < images; image++)

/* Every output pixel is a weighted sum of two neighbors: first a row of all channels from two rows, then each
   pixel from two of its row. A product of two bf16 numbers is exact in float, so only the sums round. */
void crop(int threads, int64_t images, int64_t height, int64_t channels, int64_t width,
          const uint8_t *pixels, const int64_t *row_box, const int32_t *row_at, const float *row_near,
          const float *row_far, const int64_t *column_box, const int32_t *column_at,
          const float *column_near, const float *column_far, uint16_t *out) {
    const int64_t row = channels * width, size = height * row;
    IMAGES {
        float line[row + 1];
        line[row] = 0; /* the far neighbor of the last pixel, whose weight is zero */
        const int64_t r = row_box[image] * height, c = column_box[image] * width;
        const int32_t *restrict at = column_at + c;
        const float *restrict near = column_near + c, *restrict far = column_far + c;
        for (int64_t y = 0; y < height; y++) {
            const int64_t here = row_at[r + y], next = here + 1 < height ? here + 1 : here;
            const uint8_t *restrict a = pixels + image * size + here * row;
            const uint8_t *restrict b = pixels + image * size + next * row;
            const float u = row_near[r + y], v = row_far[r + y];
            for (int64_t k = 0; k < row; k++) line[k] = rounded(u * a[k] + v * b[k]);
            for (int64_t channel = 0; channel < channels; channel++) {
                const float *restrict from = line + channel * width;
                uint16_t *restrict to = out + image * size + y * row + channel * width;
                for (int64_t x = 0; x < width; x++)
                    to[x] = narrowed(near[x] * from[at[x]] + far[x] * from[at[x] + 1]);
            }
        }
    }
}

/* MixUp with the partner of each image, if there are partners, then (x - mean) * scale; rounded to bf16 after
   each of the three. Images come as (B, H, C, W) and leave as (B, C, H, W). */
void mix(int threads, int64_t images, int64_t height, int64_t channels, int64_t width,
         const uint16_t *batch, const int64_t *partner, float lam, const float *mean, const float *scale,
         uint16_t *out) {
    const int64_t size = height * channels * width;
    IMAGES
        for (int64_t channel = 0; channel < channels; channel++)
            for (int64_t y = 0; y < height; y++) {
                const int64_t place = (y * channels + channel) * width;
                const uint16_t *restrict own = batch + image * size + place;
                const uint16_t *restrict other = partner ? batch + partner[image] * size + place : own;
                uint16_t *restrict to = out + image * size + (channel * height + y) * width;
                const float center = mean[channel], factor = scale[channel];
                for (int64_t x = 0; x < width; x++) {
                    float mixed = widened(own[x]);
                    if (partner) mixed = rounded(lerp(widened(other[x]), mixed, lam));
                    to[x] = narrowed(rounded(mixed - center) * factor);
                }
            }
}
"""

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")
THREADS = (["-fopenmp"], [])
"""Flags to compile with, and without: compilers can lack OpenMP, and then everything runs in one thread."""

GRADIENTS = {torch.float32: "float", torch.bfloat16: "bf16"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """:data:`SOURCE`, compiled for this machine in a third of a second; None without a C compiler."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    for threads in THREADS if compiler else ():
        with suppress(OSError, subprocess.SubprocessError), tempfile.TemporaryDirectory() as folder:
            source, compiled = Path(folder) / "native.c", Path(folder) / "native.so"
            source.write_text(SOURCE)
            command = [compiler, *FLAGS, *threads, str(source), "-o", str(compiled), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            return ctypes.CDLL(str(compiled))
    return None


def _call(name: str, *arguments) -> None:
    """Call a function of :func:`library` with PyTorch's number of threads."""
    getattr(library(), name)(ctypes.c_int(torch.get_num_threads()), *arguments)


def _address(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def plain(*tensors: Tensor) -> bool:
    """Whether the tensors are contiguous and in host memory."""
    return all(tensor.device.type == "cpu" and tensor.is_contiguous() for tensor in tensors)


def takes(param: Tensor, grad: Tensor, momentum: Tensor, copy: Tensor | None) -> bool:
    """Whether :func:`lion_step` can update this tensor."""
    return (
        param.dtype == momentum.dtype == torch.float32
        and grad.dtype in GRADIENTS
        and (copy is None or copy.dtype == torch.bfloat16)
        and plain(param, grad, momentum, *([] if copy is None else [copy]))
    )


def lion_step(param, grad, momentum, copy, lr, shrink, beta1: float, beta2: float) -> None:
    """Lion for one tensor; arguments and results (bit for bit) as in :func:`mlplib.optim.lion_step`."""
    name = f"lion_{GRADIENTS[grad.dtype]}{'' if copy is None else '_copy'}"
    rates = map(ctypes.c_float, (lr, shrink, beta1, 1 - beta2))
    _call(name, ctypes.c_int64(param.numel()), *map(_address, (param, grad, momentum, copy)), *rates)


def look_up(at: Tensor, table: Tensor) -> Tensor:
    """Look up each bf16 number in ``table``, bf16 (65536,), indexed by its bits."""
    out = torch.empty_like(at)
    _call("look_up", ctypes.c_int64(at.numel()), *map(_address, (at, table, out)))
    return out


def look_up_product(at: Tensor, table: Tensor, by: Tensor, least: float) -> Tensor:
    """Look up each bf16 number in ``table``, float32 (65536,), and multiply it by ``by``, bf16 of the same
    shape; returns bf16. Products below ``least`` become zero.
    """
    out = torch.empty_like(at)
    addresses = *map(_address, (at, table, by)), ctypes.c_float(least), _address(out)
    _call("look_up_product", ctypes.c_int64(at.numel()), *addresses)
    return out


@dataclass(frozen=True)
class Neighbors:
    """For every crop of a line of ``size`` pixels: which two pixels are interpolated to each output pixel.

    ``at``: int32 (K, size), the first of the two; ``near``, ``far``: float32 (K, size), their weights.
    """

    at: Tensor
    near: Tensor
    far: Tensor

    @classmethod
    def of(cls, matrices: Tensor) -> Neighbors:
        """From matrices (K, size, size) with one nonzero or two adjacent nonzeros in each row."""
        at = (matrices != 0).int().argmax(2, keepdim=True)
        padded = torch.nn.functional.pad(matrices.float(), (0, 1))
        near, far = padded.gather(2, at), padded.gather(2, at + 1)
        return cls(at.int().squeeze(2), near.squeeze(2), far.squeeze(2))


def crop(
    rows: Tensor, row_boxes: Tensor, by_row: Neighbors, column_boxes: Tensor, by_column: Neighbors
) -> Tensor:
    """Crops resized to the size of the image: uint8 (B, H, C, W) to bf16 (B, H, C, W).

    ``row_boxes``, ``column_boxes``: int64 (B,), indices of each image's box in ``by_row`` and ``by_column``.
    """
    out = torch.empty(rows.shape, dtype=torch.bfloat16, device=rows.device)
    boxes = [[box, by.at, by.near, by.far] for box, by in ((row_boxes, by_row), (column_boxes, by_column))]
    _call("crop", *map(ctypes.c_int64, rows.shape), *map(_address, [rows, *boxes[0], *boxes[1], out]))
    return out


def mix(rows: Tensor, partner: Tensor | None, lam: float, mean: Tensor, scale: Tensor) -> Tensor:
    """MixUp and normalization: bf16 (B, H, C, W) to bf16 (B, C, H, W).

    ``partner``: int64 (B,), None for no MixUp; ``mean``, ``scale``: bf16 (C,).
    """
    b, h, c, w = rows.shape
    out = torch.empty((b, c, h, w), dtype=torch.bfloat16, device=rows.device)
    mean, scale = mean.float(), scale.float()
    addresses = _address(rows), _address(partner), ctypes.c_float(lam), *map(_address, (mean, scale, out))
    _call("mix", *map(ctypes.c_int64, rows.shape), *addresses)
    return out
