#!/usr/bin/env bash
# FFCV 1.0.2: integer one-hot targets, stored in a field of floating-point numbers, are read as (almost) zero, and the
# loss of any network is 0 from the first step on.
# Expected of NDArrayField(dtype("float64"), (10,)): integers are converted, as by an assignment in NumPy, or refused.
# Seen: their bytes are copied and read as floating-point numbers: 1 is read as 5e-324, which is 0 in float32.
# The other way round, probabilities in a field of integers are read as numbers like 4606281698874543309.
# TorchTensorField does the same: int32 in a field of float32 is read as multiples of 1.4e-45. There is no message.
# IntField and FloatField convert what they are given. No issue was found.
# It matters to whoever stores soft labels, the outputs of a teacher or labels of several classes next to the images:
# np.eye(10, dtype=int)[label] is such a target.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > targets.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import torch
from ffcv.fields import FloatField, IntField, NDArrayField, TorchTensorField
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter

CLASSES, SAMPLES = 10, 100
labels = np.arange(SAMPLES) % CLASSES
one_hot = np.eye(CLASSES, dtype=np.int64)[labels]
smooth = np.where(one_hot, 0.9, 0.1 / (CLASSES - 1))
fields = {
    "integers as floats": NDArrayField(np.dtype("float64"), (CLASSES,)),
    "floats as integers": NDArrayField(np.dtype("int64"), (CLASSES,)),
    "tensors": TorchTensorField(torch.float32, (CLASSES,)),
    "number": FloatField(),
    "label": IntField(),
}
columns = one_hot, smooth, torch.tensor(one_hot, dtype=torch.int32), labels, labels
DatasetWriter("data.beton", fields, num_workers=1).from_indexed_dataset(list(zip(*columns)))
[(floats, integers, tensors, numbers, _)] = Loader("data.beton", SAMPLES, order=OrderOption.SEQUENTIAL, num_workers=1)

logits = torch.randn(SAMPLES, CLASSES, generator=torch.Generator().manual_seed(0))
loss = {}
for name, targets in (("as stored", torch.tensor(one_hot)), ("as read", floats), ("as read, tensors", tensors)):
    loss[name] = torch.nn.functional.cross_entropy(logits, targets.float()).item()
print("FFCV", version("ffcv"), "numba", version("numba"), "NumPy", np.__version__, "torch", torch.__version__)
print("one-hot integers, stored in float64:", *one_hot[3], "are read as", *floats[3].tolist())
print("0.9 in a field of int64 is read as", integers[3, 3].item())
print("label 3 in FloatField is read as", numbers[3].item())
print("cross-entropy:", loss)
if not (
    loss["as stored"] > 1
    and max(abs(loss["as read"]), abs(loss["as read, tensors"])) < 1e-30
    and torch.equal(floats, torch.tensor(one_hot.view(np.float64)))
    and torch.equal(integers, torch.tensor(smooth.view(np.int64)))
    and torch.equal(numbers[:, 0], torch.tensor(labels, dtype=torch.float64))
):
    sys.exit("CHANGED")
PYTHON
env/bin/python targets.py 2> errors || { cat errors; exit 1; }
