#!/usr/bin/env bash
# Keras 3.15.1: RandomSaturation turns images of 0 to 255 into colors as low as -65000.
# Expected: factor 1 gives the fullest colors, as the manual says ("makes the image fully saturated"), within 0 to 255,
# which is the default `value_range`. Seen: all factors above 0.5, the "no-op", give negative colors: down to -127 at
# 0.6, -2040 at 0.9 and -64770 at 1. The same images scaled to 0 to 1, with `value_range=(0, 1)`, stay in range.
# A saturation is a share, from 0 to 1 whatever the images' range, but is limited to that range: to 255 instead of 1.
# Converted to bytes afterwards, such values wrap around; otherwise they go into the network as they are. There is no
# warning. RandomColorJitter with `saturation_factor` alone does the same. The example in the manual, with factor 0.2,
# only takes color away, and the layer's own test of factor 1 expects a saturation of 255. No issue was found.
# It matters to whoever varies colors in Keras: with factors from 0.3 to 0.7, half of the images have negative colors.
# Needs about 1 GB for JAX while it is installed and runs.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > saturation.py << 'PYTHON'
import sys

import keras
import numpy as np

images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype("float32")
layers = keras.layers
print(f"Keras {keras.__version__}; lowest and highest color")
lowest = {}
for factor in (0.5, 0.6, 0.9, 1.0):
    of_bytes = np.asarray(layers.RandomSaturation((factor, factor))(images, training=True))
    scaled = np.asarray(layers.RandomSaturation((factor, factor), value_range=(0, 1))(images / 255, training=True))
    lowest[factor] = of_bytes.min(), scaled.min() * 255
    ranges = [f"{array.min():.0f} to {array.max():.0f}" for array in (of_bytes, scaled * 255)]
    print(f"factor {factor}: {ranges[0]}; of images scaled to 0 to 1, times 255: {ranges[1]}")
between = np.asarray(layers.RandomSaturation((0.3, 0.7), seed=0)(images, training=True))
jitter = np.asarray(layers.RandomColorJitter(saturation_factor=(0.3, 0.7), seed=0)(images, training=True))
for name, array in (("RandomSaturation", between), ("RandomColorJitter", jitter)):
    out = (array.min((1, 2, 3)) < -1).mean()
    print(f"{name}, factors from 0.3 to 0.7: down to {array.min():.0f}, and {out:.0%} of images have negative colors")
fall = [lowest[factor][0] for factor in (0.5, 0.6, 0.9, 1.0)]
if not (fall[0] > -1 and fall[1] < -100 and fall[2] < -1000 and fall[3] < -50000):
    sys.exit("CHANGED")
if not (all(scaled > -1 for _, scaled in lowest.values()) and between.min() < -100 and jitter.min() < -100):
    sys.exit("CHANGED")
PYTHON
KERAS_BACKEND=jax JAX_PLATFORMS=cpu env/bin/python saturation.py 2> errors || { cat errors; exit 1; }
