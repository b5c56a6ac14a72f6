#!/usr/bin/env bash
# torchvision 0.29.2 (PyTorch 2.15.0): white of a 16-bit image becomes black in two of the transforms of version 2.
# Expected: ToDtype(torch.float32, scale=True) and back gives the same 16-bit image, and Resize(interpolation=BICUBIC)
# cuts off what overshoots, as it does for 8-bit images.
# Seen: back from float32, 65535 is 0 and all other values are right or larger by one. 1.0 is multiplied by
# 65536 - 0.001, which float32 rounds to 65536, and that wraps around to 0; for 32-bit integers the same conversion is
# refused as unsafe. Bicubic resizing leaves the overshoot next to an edge in place, where it wraps around as well:
# beside a black area stand pixels of up to 65205, and beside a white one pixels of 2314. Bilinear resizing is right.
# decode_image returns uint16 for 16-bit PNG files since torchvision 0.20. Its manual recommends ToDtype for them, from
# uint16 to another type. Issue 6799 is about float16 and bfloat16, where white becomes black for 8-bit images, too; no
# issue about float32 or about resizing was found.
# It matters to data sets of 16-bit images, such as X-rays, depth maps and satellite images, that are augmented or
# resized before they are converted: the brightest pixels, often saturated, become the darkest.
# Needs about 6 GB for torch while it runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install torchvision==0.29.2 torch==2.15.0 numpy==2.4.6 pillow==13.0.0
cat > white.py << 'PYTHON'
import sys

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.io import decode_image
from torchvision.transforms import v2

print("torchvision", torchvision.__version__.partition("+")[0], "- PyTorch", torch.__version__.partition("+")[0])
# All 65536 values, and an edge between black and white.
Image.fromarray(np.arange(2**16, dtype=np.uint16).reshape(256, 256)).save("all.png")
Image.fromarray(np.repeat(np.array([0, 65535], dtype=np.uint16), 4)[None].repeat(8, 0)).save("edge.png")

values = decode_image("all.png").flatten()
there = v2.ToDtype(torch.float32, scale=True)
back = v2.ToDtype(torch.uint16, scale=True)
off = back(there(values)).int() - values.int()
print("16-bit values after ToDtype(float32) and back: white is", values[-1].item() + off[-1].item(), end="; ")
print("the others are off by", off[:-1].min().item(), "to", off[:-1].max().item())

edge = decode_image("edge.png")
resized = {}
for mode in (v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC):
    resize = v2.Resize((6, 6), interpolation=mode)
    resized[mode.value, 16] = resize(edge)[0, 0].tolist()
    resized[mode.value, 8] = resize(v2.ToDtype(torch.uint8, scale=True)(edge))[0, 0].tolist()
for (mode, bits), row in resized.items():
    print(f"a row with an edge, {mode}, {bits} bits:", row)

white_is_black = off[-1] == -65535 and 0 <= off[:-1].min() and off[:-1].max() <= 1
rising = {key: row == sorted(row) for key, row in resized.items()}
if not (white_is_black and rising == {(m, b): (m, b) != ("bicubic", 16) for m, b in resized}):
    sys.exit("CHANGED")
PYTHON
env/bin/python white.py 2> errors || { cat errors; exit 1; }
