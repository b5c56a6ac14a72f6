#!/usr/bin/env bash
# FFCV 1.0.2: its random resized crop does not interpolate bilinearly where it enlarges: it repeats pixels.
# Expected: about the images of torchvision's RandomResizedCrop, whose arguments and defaults it has. Seen: it resizes
# by OpenCV's INTER_AREA, which averages where images shrink, but has a rule of its own where they grow. A quarter of an
# image, enlarged to the whole one's size, is made of squares of two by two pixels of one color, all of them; with
# torchvision none is. With the usual sizes of crops, 7 % of all pixels have the color of their left neighbor, with
# torchvision 0.3 %. The decoder's description does not say how it resizes.
# It matters to whoever trains on small images, such as CIFAR's, or ones stored at 64 pixels: nearly every crop is
# enlarged there, and the network sees blocks that no test image has, and other images than the same recipe makes
# elsewhere.
# Needs a C++ compiler, pkg-config and the headers of OpenCV and turbojpeg (on Debian: pkg-config
# libopencv-dev libturbojpeg0-dev), and about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install setuptools==84.2.1 wheel==0.48.0 torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 numba==0.68.1
install --no-build-isolation opencv-python==5.0.0.93 ffcv==1.0.2
cat > crops.py << 'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter
from torchvision.transforms.v2 import RandomResizedCrop

SIDE = 32
print(f"FFCV {version('ffcv')}, torchvision {version('torchvision')}")
images = np.random.default_rng(0).integers(256, size=(512, SIDE, SIDE, 3), dtype=np.uint8)
fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
DatasetWriter("data.beton", fields, num_workers=1).from_indexed_dataset([(image, 0) for image in images])


def by_ffcv(**crop):
    decoder = RandomResizedCropRGBImageDecoder((SIDE, SIDE), **crop)
    pipelines = {"image": [decoder, ToTensor()], "label": [IntDecoder(), ToTensor()]}
    options = dict(num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines, seed=0)
    ((found, _),) = Loader("data.beton", len(images), **options)
    return found.numpy().copy()


def by_torchvision(**crop):
    torch.manual_seed(0)
    each = RandomResizedCrop(SIDE, **crop)
    found = [each(torch.from_numpy(image).permute(2, 0, 1)) for image in images]
    return np.stack([image.permute(1, 2, 0).numpy() for image in found])


def equal_neighbors(found):
    """The share of pixels that have the color of the one to their left."""
    return (found[:, :, 1:] == found[:, :, :-1]).all(-1).mean()


changed = False
quarter = dict(scale=(0.25, 0.25), ratio=(1.0, 1.0))  # 16 x 16 pixels, enlarged to 32 x 32
for name, crops in (("FFCV", by_ffcv), ("torchvision", by_torchvision)):
    blocks = crops(**quarter).reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3)
    squares = (blocks == blocks[:, :, :1, :, :1]).all((2, 4, 5)).mean()
    usual = equal_neighbors(crops())
    print(f"{name}: {squares:.0%} of the squares of an enlarged quarter have one color")
    print(f"  usual crops: {usual:.1%} of the pixels have the color of their left neighbor")
    changed |= (squares != 1 or not 0.05 < usual < 0.1) if name == "FFCV" else max(squares, usual) > 0.01
print(f"the images themselves: {equal_neighbors(images):.1%}")
sys.exit(int(changed))
PYTHON
env/bin/python crops.py 2> errors || { cat errors; echo "CHANGED"; exit 1; }
