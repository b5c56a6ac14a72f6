#!/usr/bin/env bash
# FFCV 1.0.2: its Cutout is not the paper's that it names: the middle of an image is nearly always hidden, edges hardly.
# Expected of "Cutout data augmentation (https://arxiv.org/abs/1708.04552)": the paper's square, whose center is drawn
# from all pixels, and which is cut off at the edges: the paper says that this is important for good results. Seen:
# FFCV draws squares that lie inside the image. With the 16 pixels that the paper takes for CIFAR-10, the four pixels in
# the middle are hidden in about nine images of ten, and a corner in one of 289; with the paper's squares, these are a
# quarter and a sixteenth. FFCV's squares hide a quarter of each image, the paper's 19% on average. Small squares, such
# as the 4 pixels of FFCV's example, hide no pixel more often than one image in forty. No issue was found.
# It matters most to an MLP, which has weights of its own for each place: those of the middle see a tenth of the images,
# and when it is tested, the middle is always there.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > hidden.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import Cutout, ToTensor
from ffcv.writer import DatasetWriter

IMAGES, SIDE, CENTER = 20_000, 32, 15
fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
white = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
DatasetWriter("data.beton", fields, num_workers=1).from_indexed_dataset([(white, 0)] * IMAGES)


def by_ffcv(size):
    """How often each pixel is hidden."""
    pipelines = {"image": [SimpleRGBImageDecoder(), Cutout(size), ToTensor()], "label": [IntDecoder(), ToTensor()]}
    options = dict(num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines)
    found = [(image.numpy()[..., 0] == 0).mean(0) for image, _ in Loader("data.beton", 1000, **options)]
    return np.mean(found, axis=0)


def by_paper(size):
    """The same for squares around a center that is drawn from all pixels, counted over all of them."""
    pixels = np.arange(SIDE)
    start = pixels[:, None] - size // 2
    inside = ((pixels >= start) & (pixels < start + size)).mean(0)
    return np.outer(inside, inside)


print(f"FFCV {version('ffcv')}: how often pixels are hidden, of {SIDE} x {SIDE}")
found = {}
for size in (16, 4):
    for name, hidden in (("FFCV", by_ffcv(size)), ("paper", by_paper(size))):
        found[name, size] = hidden[CENTER, CENTER], hidden[0, 0], hidden.mean()
        text = "middle {:.1%}, corner {:.1%}, mean of all pixels {:.1%}".format(*found[name, size])
        print(f"squares of {size} pixels, {name}: {text}")
middle, corner, mean = found["FFCV", 16]
wrong = abs(middle - (16 / 17) ** 2) < 0.02 and corner < 0.01 and abs(mean - 0.25) < 1e-6
small = found["FFCV", 4][0] < 0.025
sys.exit(int(not (wrong and small and abs(found["paper", 16][0] - 0.25) < 0.01)))
PYTHON
env/bin/python hidden.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
