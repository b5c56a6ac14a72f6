#!/usr/bin/env bash
# FFCV 1.0.2: a custom operation that replaces missing values, written as FFCV's guide says, replaces none.
# Expected of an operation with "if np.isnan(value)": what the same code does in Python. Seen: FFCV compiles
# operations with fastmath=True, which lets the compiler assume that there are no NaNs, so the check is compiled
# away. All missing values pass: with np.isnan, with value != value, and with np.nan_to_num.
# With Compiler.set_enabled(False), as for debugging, and with numba's plain njit, the same function works.
# Numba's manual says so of fastmath (numba's issue 2919); FFCV's guide to custom transforms does not mention it, and
# no issue of FFCV was found.
# It matters where measurements or features are stored next to images: a missing one makes the loss NaN, although the
# pipeline has a step that should prevent it, and did when it was tried without the compiler.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > missing.py << 'PYTHON'
import sys
from dataclasses import replace
from importlib.metadata import version

import numba
import numpy as np
from ffcv.fields import NDArrayField
from ffcv.fields.decoders import NDArrayDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

SAMPLES, FEATURES = 1000, 8
features = np.random.default_rng(0).normal(size=(SAMPLES, FEATURES)).astype(np.float32)
features[np.arange(SAMPLES), np.arange(SAMPLES) % FEATURES] = np.nan
field = {"features": NDArrayField(np.dtype("float32"), (FEATURES,))}
DatasetWriter("data.beton", field, num_workers=1).from_indexed_dataset([(row,) for row in features])


def by_isnan(values, dst):
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if np.isnan(values[i, j]):
                values[i, j] = 0
    return values


def by_comparison(values, dst):
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if values[i, j] != values[i, j]:
                values[i, j] = 0
    return values


def by_nan_to_num(values, dst):
    return np.nan_to_num(values)


class Replace(Operation):
    """Replace missing values by 0."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def generate_code(self):
        return self.function

    def declare_state_and_memory(self, state):
        return replace(state, jit_mode=True), None


def left(function, compiled):
    """Missing values after an epoch through a pipeline with `function`."""
    Compiler.set_enabled(compiled)
    pipelines = {"features": [NDArrayDecoder(), Replace(function), ToTensor()]}
    loader = Loader("data.beton", 100, num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines)
    return sum(int(np.isnan(batch.numpy()).sum()) for (batch,) in loader)


print("FFCV", version("ffcv"), "numba", version("numba"), "NumPy", np.__version__)
changed = False
for function in (by_isnan, by_comparison, by_nan_to_num):
    in_ffcv, in_python = left(function, True), left(function, False)
    in_numba = int(np.isnan(numba.njit(function)(features.copy(), None)).sum())
    print(f"{function.__name__}: of {SAMPLES} missing values, {in_ffcv} are left by FFCV,", end=" ")
    print(f"{in_python} without compiling, {in_numba} by numba's njit")
    changed |= (in_ffcv, in_python, in_numba) != (SAMPLES, 0, 0)
sys.exit("CHANGED" if changed else 0)
PYTHON
env/bin/python missing.py 2> errors || { cat errors; exit 1; }
