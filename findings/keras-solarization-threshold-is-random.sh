#!/usr/bin/env bash
# Keras 3.15.1: Solarization inverts half of the pixels below its threshold, since one end of the range is not scaled.
# Expected: `threshold_factor=(0.5, 0.5)` inverts what is brighter than half of 255. The manual says that a value "is
# sampled from the provided range", and that "only pixel values above this threshold will be solarized".
# Seen: thresholds are drawn between 0.5 and 127.5, so that of the pixels below 127.5, half are inverted; with (0.8, 1),
# two fifths of those below 204. Pillow inverts none of them. And `addition_factor=(0.4, 0.4)` adds anything from 0.4 to
# 102, not 102. The upper end of a range is multiplied by 255, the lower end is not.
# There is no warning. A single number means a range from 0, where the error does not show, and the layer's example has
# none at all. No issue was found. In RandAugment and AugMix, a pair as `factor` reaches this layer, too.
# It matters to augmentations as in BYOL or DINO, where solarization at one half leaves dark pixels alone.
# Needs about 1 GB for JAX while it is installed and runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install keras==3.15.1 jax==0.10.2 numpy==2.4.6 pillow==13.0.0
cat > solarize.py << 'PYTHON'
import sys

import keras
import numpy as np
from PIL import Image, ImageOps

FACTORS = ((0.5, 0.5), (0.8, 0.8), (0.8, 1.0))
gray = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
images = np.repeat(gray[None, ..., None], 500, axis=0).astype("float32")
print(f"Keras {keras.__version__}; pixels that are inverted though darker than the lowest threshold")
wrong = {}
for low, high in FACTORS:
    below = gray[0] < 255 * low
    solarized = np.asarray(keras.layers.Solarization(threshold_factor=(low, high), seed=0)(images, training=True))
    wrong[low, high] = float((solarized != images)[:, 0, below].mean())
    by_pillow = np.asarray(ImageOps.solarize(Image.fromarray(gray), round(255 * low)))
    pillow = (by_pillow != gray)[:, below].mean()
    print(f"threshold_factor=({low}, {high}): {wrong[low, high]:.0%}; by Pillow: {pillow:.0%}")
dark = np.full((500, 1, 1, 1), 10, "float32")
added = keras.layers.Solarization(addition_factor=(0.4, 0.4), seed=0)(dark, training=True)
added = 255 - np.asarray(added) - 10
print(f"addition_factor=(0.4, 0.4): {added.min():.0f} to {added.max():.0f} added, {255 * 0.4:.0f} expected")
if not (all(share > 0.35 for share in wrong.values()) and added.min() < 10 and added.max() > 90):
    sys.exit("CHANGED")
PYTHON
KERAS_BACKEND=jax JAX_PLATFORMS=cpu env/bin/python solarize.py 2> errors || { cat errors; exit 1; }
