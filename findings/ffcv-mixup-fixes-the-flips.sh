#!/usr/bin/env bash
# FFCV 1.0.2: with MixUp in a pipeline, the flips of a batch depend on its last image, and not on chance.
# Expected: MixUp draws its ratio, and RandomHorizontalFlip its flips, for every batch of every epoch again. Seen:
# `ImageMixup` sets the seed of the compiled code's random numbers to the number of the batch's last image, to agree
# with `LabelMixup`, and leaves it there. In sequential order every epoch has the same ratios and flips; in random
# order there are at most as many ratios as images, and the flips repeat with them, behind MixUp and ahead of it. The
# manual does not say so.
# It matters to a data set that is read in order, or in few batches: it is augmented once, not once an epoch.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 numpy==2.4.6 numba==0.68.1 pillow==13.0.0
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > flips.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ImageMixup, LabelMixup, RandomHorizontalFlip, ToTensor
from ffcv.writer import DatasetWriter

IMAGES, BATCH, EPOCHS = 16, 8, 30
images = np.random.default_rng(0).integers(256, size=(IMAGES, 8, 8, 3), dtype=np.uint8)
fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
DatasetWriter("data.beton", fields, num_workers=1).from_indexed_dataset([(image, 0) for image in images])


def epochs(*transforms, order=OrderOption.SEQUENTIAL):
    mixed = [LabelMixup(0.8, True)] if any(isinstance(each, ImageMixup) for each in transforms) else []
    pipelines = {
        "image": [SimpleRGBImageDecoder(), *transforms, ToTensor()],
        "label": [IntDecoder(), *mixed, ToTensor()],
    }
    loader = Loader("data.beton", BATCH, num_workers=1, order=order, seed=0, pipelines=pipelines)
    return [[(image.numpy().tobytes(), float(label[0, -1])) for image, label in loader] for _ in range(EPOCHS)]


print(f"FFCV {version('ffcv')}: first batches that differ, of {EPOCHS} epochs in sequential order")
mixup, flip = ImageMixup(0.8, True), RandomHorizontalFlip()
seen = {}
for name, transforms in {"flip": [flip], "MixUp, flip": [mixup, flip], "flip, MixUp": [flip, mixup]}.items():
    seen[name] = len({batches[0][0] for batches in epochs(*transforms)})
    print(f"{name}: {seen[name]}")
ratios = [ratio for batches in epochs(mixup, order=OrderOption.RANDOM) for _, ratio in batches]
print(f"random order: {len(set(ratios))} ratios in {len(ratios)} batches of {IMAGES} images")
sys.exit(int(seen["MixUp, flip"] != 1 or seen["flip, MixUp"] > 2 or seen["flip"] < 20 or len(set(ratios)) > IMAGES))
PYTHON
env/bin/python flips.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
