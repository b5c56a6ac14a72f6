#!/usr/bin/env bash
# torchvision 0.29.2 and OpenCV 5.0.0: whether a color PNG names its color space changes the gray that it is read as.
# Expected: two PNGs with the same pixels are the same picture, in gray as in color. Seen: their colors are equal, but
# `decode_png(data, "GRAY")` and `imread(path, IMREAD_GRAYSCALE)` leave the conversion to libpng, which adds up red,
# green and blue in linear light if the file has the chunk sRGB or gAMA, and as they are if not. Random colors become
# brighter by 15 levels of 255, single pixels by more than 60. There is no warning. Images with a palette are concerned,
# too. Pillow, and OpenCV's `cvtColor`, do not look at the chunks. Pillow, Matplotlib and OpenCV write files without
# them, many other programs with one.
# torchvision's manual says "converts to grayscale", OpenCV's that results may differ from those of `cvtColor`, by a
# level according to the report behind that (issue 12696 of opencv/opencv). No report of the chunks was found.
# It matters to classifiers of gray images whose classes, or whose training and test, come from different programs: the
# brightness tells them apart.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
install() { env/bin/pip -q --disable-pip-version-check install "$@"; }
install torch==2.15.0 torchvision==0.29.2 opencv-python-headless==5.0.0.93 numpy==2.4.6 pillow==13.0.0
cat > gray.py << 'PYTHON'
import io
import sys
import warnings

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image, PngImagePlugin

warnings.filterwarnings("ignore", message=".*TorchCodec", category=UserWarning)
CHUNKS = {"no chunk": {}, "sRGB": {b"sRGB": b"\0"}, "gAMA": {b"gAMA": (45455).to_bytes(4, "big")}}


def png(image, chunks):
    info, data = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, content in chunks.items():
        info.add(name, content)
    image.save(data, "PNG", pnginfo=info)
    return data.getvalue()


def torchvision_gray(data):
    return torchvision.io.decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), "GRAY")[0].numpy()


def opencv(data, how):
    return cv2.imdecode(np.frombuffer(data, np.uint8), how)


def pillow_gray(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


ways = {
    "torchvision": torchvision_gray,
    "OpenCV": lambda data: opencv(data, cv2.IMREAD_GRAYSCALE),
    "OpenCV, cvtColor": lambda data: cv2.cvtColor(opencv(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY),
    "Pillow": pillow_gray,
}
colors = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
files = {name: png(Image.fromarray(colors), chunks) for name, chunks in CHUNKS.items()}
same = all((opencv(data, cv2.IMREAD_COLOR)[..., ::-1] == colors).all() for data in files.values())
print(f"torchvision {torchvision.__version__.partition('+')[0]}, OpenCV {cv2.__version__}, Pillow {Image.__version__}")
print(f"the files have the same colors: {same}; as gray:")
brighter = {}
for way, gray in ways.items():
    plain = gray(files["no chunk"]).astype(int)
    for name, data in files.items():
        values = gray(data).astype(int)
        brighter[way, name] = (values - plain).max()
        print(f"{way}, {name}: mean {values.mean():.1f}, up to {brighter[way, name]} levels brighter")
moved = all(brighter[way, name] > 50 for way in ("torchvision", "OpenCV") for name in ("sRGB", "gAMA"))
still = all(brighter[way, name] == 0 for way in ("OpenCV, cvtColor", "Pillow") for name in CHUNKS)
sys.exit(int(not (same and moved and still)))
PYTHON
env/bin/python gray.py || { echo "CHANGED"; exit 1; }
