#!/usr/bin/env bash
# FFCV 1.0.2: the Loader's seed fixes the order of the images, and not their augmentation.
# Expected: two loaders with one seed, one worker and NumPy's seed set give the same batches. Seen: the same labels in
# the same order, other crops: the random numbers are those of compiled code, which nothing outside can seed.
# Also seen: `ffcv.__version__` of release 1.0.2 is 0.0.3rc1. Needs a C++ compiler, pkg-config and the headers of OpenCV
# and turbojpeg (on Debian: pkg-config libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0 opencv-python==5.0.0.93
install --no-build-isolation ffcv==1.0.2
cat > load.py << 'PYTHON'
import importlib.metadata
import sys

import ffcv
import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

rng = np.random.default_rng(0)
images = [(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), i) for i in range(64)]
writer = DatasetWriter("data.beton", {"image": RGBImageField("raw"), "label": IntField()}, num_workers=1)
writer.from_indexed_dataset(images)


def batches():
    np.random.seed(0)
    pipelines = {
        "image": [RandomResizedCropRGBImageDecoder((32, 32)), ToTensor()],
        "label": [IntDecoder(), ToTensor()],
    }
    loader = Loader(
        "data.beton", batch_size=64, num_workers=1, order=OrderOption.RANDOM, seed=0, pipelines=pipelines
    )
    return [tensor.numpy().copy() for tensor in next(iter(loader))]


(crops, labels), (crops_again, labels_again) = batches(), batches()
release = importlib.metadata.version("ffcv")
order, augmentation = np.array_equal(labels, labels_again), np.array_equal(crops, crops_again)
print(f"FFCV {release}, whose __version__ is {ffcv.__version__}: same order {order}, same crops {augmentation}")
sys.exit(not order or augmentation or ffcv.__version__ == release)
PYTHON
env/bin/python load.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
