#!/usr/bin/env bash
# FFCV 1.0.2: batches that are kept while the loader goes on are overwritten by later batches.
# Expected of a "drop-in replacement" for PyTorch's DataLoader: `list(loader)` holds the whole data set. Seen:
# the loader fills `batches_ahead + 2` buffers, by default five, in turn, and yields views of them, without a
# warning: of 12 batches only the last five are left. Up to five batches are all right, so a test on few
# images sees nothing. The manual does not say so; https://github.com/libffcv/ffcv/issues/231 is about the
# same and open.
# It matters to an evaluation that collects predictions (new tensors) and labels (the loader's own) and
# compares them at the end: most labels are those of other images. A tensor that is kept needs `clone()`.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > keep.py << 'PYTHON'
import sys
from importlib.metadata import version

import torch
from ffcv.fields import IntField
from ffcv.fields.decoders import IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import Squeeze, ToTensor
from ffcv.writer import DatasetWriter

SIZE = 5  # of a batch


def kept(number, clone):
    """The labels of so many batches, put together after the last."""
    file, pipelines = f"{number}.beton", {"label": [IntDecoder(), ToTensor(), Squeeze(1)]}
    writer = DatasetWriter(file, {"label": IntField()}, num_workers=1)
    writer.from_indexed_dataset([(label,) for label in range(number * SIZE)])
    loader = Loader(file, SIZE, num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines)
    return torch.cat([label.clone() if clone else label for (label,) in loader]).tolist()


written = list(range(12 * SIZE))
left, cloned, few = kept(12, clone=False), kept(12, clone=True), kept(5, clone=False)
print(f"FFCV {version('ffcv')}, first labels of 12 kept batches: {left[::SIZE]}")
print(f"of {len(written)} labels {len(set(left))} are left; cloned batches: all {len(set(cloned))}")
print(f"of {5 * SIZE} labels, in 5 batches: {len(set(few))}")
sys.exit(sorted(set(left)) != written[-5 * SIZE :] or cloned != written or few != written[: 5 * SIZE])
PYTHON
env/bin/python keep.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
