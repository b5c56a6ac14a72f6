#!/usr/bin/env bash
# OpenCV 5.0.0: a PGM or PPM image whose brightest value is not 255 or 65535 is read too dark, down to black.
# Expected of imread, which gives 8 bits per channel: white where the file has its maximum, which such a file states in
# its header ("maxval"). Seen: the stated maximum only tells OpenCV whether a value has one byte or two. A white pixel
# is read as 15 from a file with the maximum 15, as 100 from one with 100, and as 3 from one with 1023, since of
# two bytes the upper one is taken. Pillow reads each of these color images as white. There is no message, and no issue
# was found; Pillow had the same fault until version 9.1 (python-pillow/Pillow issue 5008).
# It matters where images of few gray levels, or of cameras with 10 or 12 bits, are trained on: constant scaling to
# [0, 1] makes them nearly black, and a data set in which only some files have another maximum gets a
# brightness by file. Reading with IMREAD_UNCHANGED gives the stored values, but the maximum is lost.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv env
env/bin/pip -q --disable-pip-version-check install opencv-python==5.0.0.93 pillow==13.0.0 numpy==2.4.6
cat > dark.py << 'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

EXPECTED = {15: 15, 100: 100, 255: 255, 1023: 3, 4095: 15, 65535: 255}
"""How OpenCV reads white, by the maximum of the file."""

print("OpenCV", version("opencv-python"), "Pillow", version("pillow"), "NumPy", np.__version__)
seen = {}
for maximum in EXPECTED:
    for kind, suffix, shape in (("P5", "pgm", (4, 4)), ("P6", "ppm", (4, 4, 3))):
        white = np.full(shape, maximum, ">u2" if maximum > 255 else np.uint8)
        path = Path(f"white-{maximum}.{suffix}")
        path.write_bytes(f"{kind}\n4 4\n{maximum}\n".encode() + white.tobytes())
        by_opencv = np.unique(cv2.imread(str(path), cv2.IMREAD_COLOR)).tolist()
        by_pillow = np.unique(np.asarray(Image.open(path).convert("RGB"))).tolist()
        print(f"white in {path}: {by_opencv} by OpenCV, {by_pillow} by Pillow")
        seen[maximum, suffix] = by_opencv, by_pillow
if seen != {(maximum, suffix): ([EXPECTED[maximum]], [255]) for maximum, suffix in seen}:
    sys.exit("CHANGED")
PYTHON
env/bin/python dark.py 2> errors || { cat errors; exit 1; }
